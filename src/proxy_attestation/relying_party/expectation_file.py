"""Reads an expectation file: TOML with the keys of a policy's `[[workload]]`, plus `trust_domain` and `root_pin`.

Strict, as policies are: an unknown key, an empty list, upper-case hex or a value of another type refuses the file. Keys
of a policy to which no leaf has an answer (`max_lifetime`) are unknown here: what cannot be checked must not look as if
it were.

```toml
trust_domain = "example.org"
root_pin = "<64 hex digits>"            # SHA-256 of the root's SubjectPublicKeyInfo
workload = "example-app"                # spiffe://example.org/example-app; a policy's `name` is read as the same
tee = "sgx"
mr_enclave = ["<64 hex digits>"]        # any of these
tcb = ["UpToDate"]                      # the default
application_sha256 = ["<64 hex digits>"]  # or application = { index = FILE, sha256 = HEX, paths = [...] }
dns = ["app.example.org"]               # each must be in the leaf
deny_list = "https://proxy.example.org:7444/denied"   # or a file, relative to this one
deny_list_max_age = "25h"               # an older list accepts nobody; absent: a warning
```
"""

import hashlib
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Final

from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError, FormatError
from proxy_attestation.formats.bounds import APPLICATION_PATHS_MAX, EXPECTATION_FILE_MAX, INDEX_MAX, PIN_VALUES_MAX
from proxy_attestation.formats.index import parse_index, path_fault
from proxy_attestation.formats.pins import UP_TO_DATE
from proxy_attestation.formats.request import KeyOrigin, Names, names_from
from proxy_attestation.formats.tee import Tee
from proxy_attestation.relying_party.expectation import (
    HARDWARE_ORIGINS,
    LEAST,
    MASKED,
    MEASUREMENTS,
    NUMBERS,
    SINGLE,
    WORDS,
    Expectation,
)

_HEX: Final = re.compile(r"([0-9a-f]{2})+\Z")
_DURATION: Final = re.compile(r"([1-9][0-9]{0,5})([smhd])\Z")
_UNITS: Final = {"s": 1, "m": 60, "h": 3600, "d": 24 * 3600}
_WORD: Final = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")

_PINS: Final = frozenset(name for names in MEASUREMENTS.values() for name in names)
_MASKED: Final = frozenset(name for names in MASKED.values() for name in names)
_WORDS: Final = frozenset(name for names in WORDS.values() for name in names)
_LEAST: Final = frozenset(name for names in LEAST.values() for name in names)
_KEYS: Final = _PINS | _MASKED | _WORDS | _LEAST | {f"{name}_mask" for name in _MASKED} | {
    "trust_domain", "root_pin", "workload", "name", "tee", "mr_signer", "isv_prod_id", "min_isv_svn", "tcb",
    "advisories", "application", "application_sha256", "key_origins", "owner", "dns", "ip", "uri", "policy_digest",
    "simulated", "danger", "deny_list", "deny_list_max_age",
}  # fmt: skip
OWNERS: Final = ("shared", "chip_ids", "tenant_key", "enrolment", "first_use")
"""What a leaf may say of who holds its names."""
_DANGER_KEYS: Final = frozenset({"any_workload", "allow_debug"})
_APPLICATION_KEYS: Final = frozenset({"index", "sha256", "paths"})
ReadFile = Callable[[str], bytes]
"""Reads a file named relative to the expectation file; raises OSError or ValueError where it cannot."""


def load_expectation(path: Path) -> Expectation:
    """Read an expectation file and the index that it may name.

    Raises:
        ConfigurationError: `configuration.malformed`.
    """
    try:
        text = _read_bounded(path, EXPECTATION_FILE_MAX).decode()
    except (OSError, ValueError) as error:
        raise ConfigurationError(Code.CONFIGURATION_MALFORMED, f"{path}: cannot be read: {error}") from error
    try:
        found = parse_expectation(text, lambda name: _read_bounded(path.parent / name, INDEX_MAX))
    except ConfigurationError as error:
        raise ConfigurationError(error.code, f"{path}: {error.detail}") from error
    if found.deny_list is None or found.deny_list.startswith("https://"):
        return found
    return replace(found, deny_list=str(path.parent / found.deny_list))


def parse_expectation(text: str, read_file: ReadFile) -> Expectation:
    """Read an expectation from its text.

    Args:
        text: the whole file.
        read_file: reads the index that `application` names.

    Raises:
        ConfigurationError: `configuration.malformed`.
    """
    if len(text) > EXPECTATION_FILE_MAX:
        raise _malformed(f"{len(text)} characters, at most {EXPECTATION_FILE_MAX} allowed")
    try:
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        raise _malformed(f"not TOML: {error}") from error
    return expectation_of(values, read_file)


def expectation_of(values: Mapping[str, object], read_file: ReadFile) -> Expectation:
    """Read an expectation from its table; the arguments and errors are those of `parse_expectation`."""
    table = _Table(values, "")
    table.refuse_unknown(_KEYS)
    danger = table.table("danger")
    danger.refuse_unknown(_DANGER_KEYS)
    if "workload" in table.values and "name" in table.values:
        raise _malformed("workload and name are the same key; write one")
    trust_domain = table.text("trust_domain")
    if trust_domain is None:
        raise _malformed("trust_domain: missing")
    return Expectation(
        trust_domain=trust_domain,
        root_pin=table.hex("root_pin"),
        workload=table.text("workload") or table.text("name"),
        tee=_tee(table),
        measurements=_measurements(table),
        masked=_masked(table),
        words=tuple((name, table.texts(name)) for name in sorted(_WORDS.intersection(table.values))),
        least=tuple((name, number) for name in sorted(_LEAST) if (number := table.integer(name)) is not None),
        mr_signer=table.hexes("mr_signer"),
        isv_prod_id=table.integer("isv_prod_id"),
        min_isv_svn=table.integer("min_isv_svn"),
        tcb=table.texts("tcb") or (UP_TO_DATE,),
        advisories=_words(table, "advisories"),
        application=_application(table, read_file),
        key_origins=_key_origins(table),
        owners=_owners(table),
        names=_names(table),
        policy_digests=table.hexes("policy_digest"),
        deny_list=table.text("deny_list"),
        deny_list_max_age=_seconds(table, "deny_list_max_age"),
        simulated=table.flag("simulated"),
        allow_debug=danger.flag("allow_debug"),
        any_workload=danger.flag("any_workload"),
    )


def _malformed(detail: str) -> ConfigurationError:
    return ConfigurationError(Code.CONFIGURATION_MALFORMED, detail)


def _read_bounded(path: Path, limit: int) -> bytes:
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ValueError(f"larger than {limit} bytes")
    return data


class _Table:
    """One TOML table; each method reads one key as one type, and gives nothing where the key is absent."""

    def __init__(self, values: Mapping[str, object], title: str) -> None:
        self.values = values
        self._title = title

    def _fault(self, key: str, problem: str) -> ConfigurationError:
        return _malformed(f"{self._title}{key}: {problem}")

    def refuse_unknown(self, known: frozenset[str]) -> None:
        unknown = sorted(set(self.values) - known)
        if unknown:
            raise self._fault(unknown[0], "unknown key")

    def table(self, key: str) -> "_Table":
        value = self.values.get(key, {})
        if not isinstance(value, dict):
            raise self._fault(key, "a table was expected")
        if key in self.values and not value:
            raise self._fault(key, "an empty table")
        return _Table(value, f"{key}.")

    def text(self, key: str) -> str | None:
        value = self.values.get(key)
        if value is not None and (not isinstance(value, str) or not value):
            raise self._fault(key, "a text was expected")
        return value

    def flag(self, key: str) -> bool:
        value = self.values.get(key, False)
        if not isinstance(value, bool):
            raise self._fault(key, "true or false was expected")
        return value

    def integer(self, key: str) -> int | None:
        value = self.values.get(key)
        if value is not None and type(value) is not int:
            raise self._fault(key, "an integer was expected")
        return value

    def texts(self, key: str, limit: int = PIN_VALUES_MAX) -> tuple[str, ...]:
        if key not in self.values:
            return ()
        value = self.values[key]
        if not isinstance(value, list) or not 0 < len(value) <= limit:
            raise self._fault(key, f"a list of 1 to {limit} texts was expected")
        texts = [item for item in value if isinstance(item, str) and item]
        if len(texts) != len(value) or len(set(texts)) != len(texts):
            raise self._fault(key, "texts, each once, were expected")
        return tuple(texts)

    def hex(self, key: str) -> bytes | None:
        text = self.text(key)
        return None if text is None else self._unhex(key, text)

    def hexes(self, key: str) -> tuple[bytes, ...]:
        return tuple(self._unhex(key, text) for text in self.texts(key))

    def _unhex(self, key: str, text: str) -> bytes:
        if _HEX.match(text) is None:
            raise self._fault(key, "lower-case hex was expected")
        return bytes.fromhex(text)


def _tee(table: _Table) -> Tee | None:
    text = table.text("tee")
    if text is None:
        return None
    try:
        return Tee(text)
    except ValueError as error:
        raise _malformed(f"tee: one of {', '.join(Tee)} was expected") from error


def _measurements(table: _Table) -> tuple[tuple[str, tuple[bytes, ...]], ...]:
    found: list[tuple[str, tuple[bytes, ...]]] = []
    for name in sorted(_PINS.intersection(table.values)):
        if name in NUMBERS:
            found.append((name, (_number(table, name),)))
            continue
        single = table.hex(name) if name in SINGLE else None
        found.append((name, table.hexes(name) if single is None else (single,)))
    return tuple(found)


def _number(table: _Table, name: str) -> bytes:
    number, size = table.integer(name), next(sizes[name] for sizes in MEASUREMENTS.values() if name in sizes)
    if number is None or not 0 <= number < 256**size:
        raise _malformed(f"{name}: 0 to {256**size - 1} was expected")
    return number.to_bytes(size)


def _masked(table: _Table) -> tuple[tuple[str, bytes, bytes], ...]:
    found: list[tuple[str, bytes, bytes]] = []
    for name in sorted(_MASKED):
        value, mask = table.hex(name), table.hex(f"{name}_mask")
        if (value is None) != (mask is None):
            raise _malformed(f"{name}: the value and {name}_mask go together")
        if value is not None and mask is not None:
            found.append((name, value, mask))
    return tuple(found)


def _seconds(table: _Table, key: str) -> int | None:
    text = table.text(key)
    if text is None:
        return None
    match = _DURATION.match(text)
    if match is None:
        raise _malformed(f"{key}: a number with s, m, h or d was expected, such as 25h")
    return int(match[1]) * _UNITS[match[2]]


def _words(table: _Table, key: str) -> tuple[str, ...]:
    words = table.texts(key)
    if any(_WORD.match(word) is None for word in words):
        raise _malformed(f"{key}: words of letters, digits and dashes were expected")
    return words


def _application(table: _Table, read_file: ReadFile) -> tuple[bytes, ...]:
    if "application" not in table.values:
        return table.hexes("application_sha256")
    if "application_sha256" in table.values:
        raise _malformed("application and application_sha256 say the same; write one")
    application = table.table("application")
    application.refuse_unknown(_APPLICATION_KEYS)
    file, digest = application.text("index"), application.hex("sha256")
    paths = application.texts("paths", APPLICATION_PATHS_MAX)
    if file is None or digest is None or not paths:
        raise _malformed("application: index, sha256 and paths were expected")
    if path_fault(file) is not None:
        raise _malformed("application.index: name a file beside or below this one")
    try:
        content = read_file(file)
        if hashlib.sha256(content).digest() != digest:
            raise _malformed(f"application.sha256: {file} has the digest {hashlib.sha256(content).hexdigest()}")
        lines = {line.path: line.sha256 for line in parse_index(content.decode(), Code.CONFIGURATION_MALFORMED)}
    except (OSError, ValueError, FormatError) as error:
        raise _malformed(f"application.index: {file}: {error}") from error
    missing = [path for path in paths if path not in lines]
    if missing:
        raise _malformed(f"application.paths: {missing[0]} is not in {file}")
    return tuple(lines[path] for path in paths)


def _key_origins(table: _Table) -> tuple[KeyOrigin, ...]:
    known = {origin.name.lower(): origin for origin in KeyOrigin}
    texts = table.texts("key_origins")
    if not texts:
        return HARDWARE_ORIGINS
    if not known.keys() >= set(texts):
        raise _malformed(f"key_origins: some of {', '.join(known)} were expected")
    return tuple(known[text] for text in texts)


def _owners(table: _Table) -> tuple[str, ...]:
    value = table.values.get("owner")
    if value is None:
        return ()
    # The kind is all that a leaf says of an owner; a policy's form is taken where it says no more.
    plain = [kind for kind in value if value[kind] is True] if isinstance(value, dict) and len(value) == 1 else []
    kinds = plain or ([value] if isinstance(value, str) else table.texts("owner"))
    if not kinds or not set(kinds) <= set(OWNERS):
        raise _malformed(f"owner: one or more of {', '.join(OWNERS)} were expected")
    return tuple(kinds)


def _names(table: _Table) -> Names:
    try:
        return names_from(table.texts("dns"), table.texts("ip"), table.texts("uri"))
    except FormatError as error:
        raise _malformed(error.detail) from error
