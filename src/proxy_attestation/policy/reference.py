"""Reads `reference_values = { file = ..., signers = [...], threshold = 2 }`: pins that their publishers signed.

The file is TOML, and stands beside or below the policy::

    product = "example"                 1 to 128 printable characters
    version = 3                         1 to 4294967295
    tee = "sgx"                         of the entry
    not_after = 2027-01-01T00:00:00Z    optional: no certificate outlives it
    comment = "..."                     optional
    [values]                            keys that pin something of the TEE, as an entry has them

Beside it stands FILE.note, a signed note (`formats.signed_note`) whose text is::

    proxy-attestation/reference-values/v1
    <product>
    <version>
    file <SHA-256 of the file, hex> <name of the file, without directories>

The values go into the entry as if they stood there, so that they are in the policy's digest.
"""

import hashlib
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import PurePosixPath
from typing import Final

from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError, FormatError, ProxyAttestationError
from proxy_attestation.formats.bounds import REFERENCE_SIGNERS_MAX, REFERENCE_VALUES_MAX
from proxy_attestation.formats.index import path_fault
from proxy_attestation.formats.pins import pin_key_names
from proxy_attestation.formats.signed_note import KeyType, Verifier, parse_note, parse_vkey, verify_note
from proxy_attestation.formats.tee import Tee
from proxy_attestation.policy.application import ReadFile
from proxy_attestation.policy.model import Policy
from proxy_attestation.policy.pins import read_pins
from proxy_attestation.policy.reader import Fault, Issue, TableReader, show
from proxy_attestation.policy.vocabulary import REFERENCE_KEYS

HEADER: Final = "proxy-attestation/reference-values/v1"
KEY: Final = "reference_values"
_VERSION_MAX: Final = 0xFFFFFFFF
_PRODUCT: Final = re.compile(r"[^\x00-\x1f\x7f-\xa0]{1,128}\Z")
_FILE_KEYS: Final = frozenset({"product", "version", "tee", "values"})
_OPTIONAL_KEYS: Final = frozenset({"not_after", "comment"})


class _Refused(Exception):  # noqa: N818 - noted as an issue where it is caught
    def __init__(self, code: Code, message: str, fix: str) -> None:
        super().__init__(message)
        self.code, self.message, self.fix = code, message, fix


def note_file(file: str) -> str:
    """Return the name of the file that holds the signatures of a file of values."""
    return f"{file}.note"


def signed_text(product: str, version: int, content: bytes, file: str) -> str:
    """Return what signers of a file of values sign.

    Args:
        product: as the file says.
        version: likewise.
        content: the whole file.
        file: its name; directories before it are left out.
    """
    name = PurePosixPath(file).name
    return f"{HEADER}\n{product}\n{version}\nfile {hashlib.sha256(content).hexdigest()} {name}\n"


@dataclass(frozen=True, slots=True)
class ValuesFile:
    """A file of values.

    Attributes:
        product: 1 to 128 printable characters.
        version: 1 to 4294967295.
        tee: whose values they are.
        not_after: their end in seconds since the epoch, or None.
        values: as TOML gives them: keys that pin something of the TEE, their values not read yet.
    """

    product: str
    version: int
    tee: Tee
    not_after: int | None
    values: Mapping[str, object]


def parse_values(content: bytes) -> ValuesFile:
    """Read a file of values, not yet the values themselves.

    Raises:
        FormatError: `reference.values`.
    """

    def fail(detail: str) -> FormatError:
        return FormatError(Code.REFERENCE_VALUES, detail)

    if len(content) > REFERENCE_VALUES_MAX:
        raise fail(f"{len(content)} bytes, at most {REFERENCE_VALUES_MAX} allowed")
    try:
        table = tomllib.loads(content.decode())
    except (ValueError, RecursionError) as error:
        raise fail("not TOML in UTF-8") from error
    if not _FILE_KEYS <= table.keys() <= _FILE_KEYS | _OPTIONAL_KEYS:
        raise fail(
            f"keys {', '.join(map(show, sorted(table)))}; known are {', '.join(sorted(_FILE_KEYS | _OPTIONAL_KEYS))}"
        )
    product, version, tee, values = (table[key] for key in ("product", "version", "tee", "values"))
    end = table.get("not_after")
    if not isinstance(product, str) or not _PRODUCT.match(product) or not isinstance(table.get("comment", ""), str):
        raise fail("product is 1 to 128 printable characters, comment is text")
    if type(version) is not int or not 1 <= version <= _VERSION_MAX:
        raise fail(f"version is an integer, 1 to {_VERSION_MAX}")
    if tee not in tuple(Tee) or not isinstance(values, dict) or not values:
        raise fail("tee is a word, values a table that is not empty")
    if end is not None and (not isinstance(end, datetime) or end.tzinfo is None):
        raise fail("not_after is a time with an offset, such as 2027-01-01T00:00:00Z")
    others = sorted(values.keys() - pin_key_names(Tee(tee)))
    if others:
        raise fail(f"{', '.join(map(show, others))}: no key that pins something of {tee}")
    return ValuesFile(product, version, Tee(tee), None if end is None else int(end.timestamp()), values)


def check_values(file: ValuesFile) -> None:
    """Check the values as an entry would read them; what they lack to a whole entry is the entry's to say.

    Raises:
        FormatError: `reference.values`, with every problem.
    """
    issues: list[Issue] = []
    read_pins(file.tee, TableReader(file.values, (), "[values]", issues))
    if issues:
        raise FormatError(Code.REFERENCE_VALUES, "; ".join(f"{issue.message}: {issue.fix}" for issue in issues))


def require_current(policy: Policy, now: int) -> None:
    """Refuse a policy with reference values that have ended, where somebody puts it in force or looks at it.

    An authority that runs refuses that entry alone, when it issues.

    Args:
        policy: as loaded.
        now: seconds since the epoch.

    Raises:
        ConfigurationError: `reference.expired`.
    """
    past = [entry.name for entry in policy.workloads.values() if entry.not_after is not None and entry.not_after <= now]
    if past:
        raise ConfigurationError(Code.REFERENCE_EXPIRED, f"not_after is past: {', '.join(past)}")


def with_values(reader: TableReader, tee: Tee, read_file: ReadFile) -> tuple[TableReader, int | None] | None:
    """Return the reader of an entry into which the values are put that it names, and their end.

    None, with the problem noted under a code of its own, where they cannot be had.
    """
    table = reader.child(KEY, f"{reader.title} {KEY}")
    if table is None:
        return reader, None
    noted = len(reader.issues)
    table.refuse_unknown(REFERENCE_KEYS)
    table.require(("file", "signers", "threshold"), "name the file, whose signatures count, and how many it takes")
    file = table.value("file", _file)
    signers = tuple(map(parse_vkey, table.values("signers", REFERENCE_SIGNERS_MAX, _signer)))
    if len({signer.public_key for signer in signers}) != len(signers):
        table.note("signers", "one key under two names", "name each key once: it signs once")
    threshold = table.integer("threshold", 1, max(1, len(signers)))
    lowest = table.integer("min_version", 1, _VERSION_MAX) or 1
    if len(reader.issues) > noted or file is None or threshold is None:
        return None
    try:
        content, note = (_read(name, read_file) for name in (file, note_file(file)))
        claimed = _verify(content, note, file, signers, threshold)
        return _merged(reader, tee, content, claimed, lowest)
    except _Refused as refused:
        table.note("file", refused.message, refused.fix, code=refused.code)
        return None


def _file(text: str) -> str | Fault:
    fault = path_fault(text)
    return text if fault is None else Fault(f"{show(text)}: {fault}", "name a file beside or below the policy file")


def _signer(text: str) -> str | Fault:
    fault = Fault(f"{show(text)} is no key", "write it as `reference sign` prints it: name+hash+key")
    try:
        verifier = parse_vkey(text)
    except FormatError:
        return fault
    return text if verifier.type in (KeyType.ED25519, KeyType.ECDSA) else fault


def _read(name: str, read_file: ReadFile) -> bytes:
    try:
        return read_file(name)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        fix = "put file and .note beside the policy, as `reference sign` left them"
        raise _Refused(Code.REFERENCE_FILE, f"{show(name)} cannot be read: {reason}", fix) from error


def _verify(content: bytes, data: bytes, file: str, signers: tuple[Verifier, ...], threshold: int) -> tuple[str, str]:
    """Verify the note over the file's bytes; return product and version as they were signed."""
    again = "get the file and its .note from whoever signed it, or sign it anew"
    try:
        note = parse_note(data)
        lines = note.text.split("\n")
        # Product and version are compared with the file's once the signatures are good.
        expected = signed_text("", 0, content, file).split("\n")
        if len(lines) != len(expected) or (lines[0], lines[3:]) != (expected[0], expected[3:]):
            raise _Refused(Code.REFERENCE_SIGNATURE, f"another content of {show(file)} was signed", again)
        known = {(signer.name, signer.key_id) for signer in signers}
        found = {(signature.name, signature.key_id) for signature in note.signatures} & known
        good = verify_note(note, signers) if found else ()
    except ProxyAttestationError as error:
        raise _Refused(Code.REFERENCE_SIGNATURE, f"{show(file)}: {error.detail}", again) from error
    if len(good) < threshold:
        who = ", ".join(signer.name for signer in good) or "none"
        fix = "collect more with `proxy-attestation reference sign`"
        raise _Refused(Code.REFERENCE_SIGNERS, f"{len(good)} of {threshold} signatures that count: {who}", fix)
    return lines[1], lines[2]


def _merged(
    reader: TableReader, tee: Tee, content: bytes, claimed: tuple[str, str], lowest: int
) -> tuple[TableReader, int | None]:
    try:
        file = parse_values(content)
    except FormatError as error:
        raise _Refused(error.code, error.detail, "see docs/reference-values.md for the file's form") from error
    if claimed != (file.product, str(file.version)):
        raise _Refused(Code.REFERENCE_SIGNATURE, "another product or version was signed", "sign the file anew")
    if file.version < lowest:
        detail = f"version {file.version}, at least {lowest} is demanded"
        raise _Refused(Code.REFERENCE_VERSION, detail, "use a newer file")
    if file.tee is not tee:
        raise _Refused(Code.REFERENCE_VALUES, f"values of {file.tee} in an entry of {tee}", f"name values of {tee}")
    twice = sorted(file.values.keys() & reader.table.keys())
    if twice:
        fix = "remove them from the entry: one place says what is accepted"
        raise _Refused(Code.REFERENCE_VALUES, f"{', '.join(twice)} in the entry and in its file", fix)
    merged = TableReader({**reader.table, **file.values}, reader.place, reader.title, reader.issues)
    return merged, file.not_after
