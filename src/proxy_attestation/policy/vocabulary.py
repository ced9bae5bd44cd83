"""The words of a policy file: its keys with their kinds and lengths, as tables, and how each kind is read and compared.

An expectation file of a relying party uses the same keys, so nothing here knows of policies: `read_pins` reads
whichever keys a table has, `compare` holds one of them against one claim. Hex is lower case and in memory order, as in
the vendor's signed structure and as `appraise` prints it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, TypeAlias

from proxy_attestation.codes import Code
from proxy_attestation.errors import Mismatch
from proxy_attestation.formats.bounds import PIN_VALUES_MAX
from proxy_attestation.formats.tee import Tee
from proxy_attestation.policy.model import MaskedBytes
from proxy_attestation.policy.reader import TableReader, show

PinValue: TypeAlias = tuple[bytes, ...] | bytes | int | MaskedBytes


@dataclass(frozen=True, slots=True)
class PinValues:
    """The pins that a table has, by key name; a key that is absent gives nothing."""

    values: Mapping[str, PinValue]

    def any_of(self, name: str) -> tuple[bytes, ...]:
        """Return the accepted values of an `ANY_OF` key, sorted."""
        value = self.values.get(name)
        return value if isinstance(value, tuple) else ()

    def exact(self, name: str) -> bytes | None:
        """Return the value of an `EXACT` key."""
        value = self.values.get(name)
        return value if isinstance(value, bytes) else None

    def masked(self, name: str) -> MaskedBytes | None:
        """Return the value and mask of a `MASKED` key."""
        value = self.values.get(name)
        return value if isinstance(value, MaskedBytes) else None

    def number(self, name: str) -> int | None:
        """Return the integer of a `NUMBER` or `AT_LEAST` key."""
        value = self.values.get(name)
        return value if isinstance(value, int) else None


class PinKind(Enum):
    """How a key is written, and what it takes to match it."""

    ANY_OF = "list of hex"
    EXACT = "hex"
    MASKED = "hex, with a mask"
    NUMBER = "integer"
    AT_LEAST = "integer, a minimum"


@dataclass(frozen=True, slots=True)
class PinKey:
    """One key that pins one claim.

    Attributes:
        name: the key, as written.
        claim: the claim's name in the vendor's vocabulary.
        kind: how it is written and compared.
        size: bytes of the value; an integer goes up to what fits in them.
        code: of the mismatch.
        zero: whether an all-zero value says something. A measurement of zero is none.
    """

    name: str
    claim: str
    kind: PinKind
    size: int
    code: Code
    zero: bool = True

    @property
    def mask(self) -> str:
        """The name of the key that holds its mask."""
        return f"{self.name}_mask"


def _key(name: str, kind: PinKind, size: int, code: Code, *, zero: bool = True, claim: str = "") -> PinKey:
    return PinKey(name, claim or name, kind, size, code, zero)


SGX_PINS: Final = (
    _key("mr_enclave", PinKind.ANY_OF, 32, Code.POLICY_MEASUREMENT, zero=False),
    _key("mr_signer", PinKind.ANY_OF, 32, Code.POLICY_SIGNER, zero=False),
    _key("isv_prod_id", PinKind.NUMBER, 2, Code.POLICY_PRODUCT),
    _key("min_isv_svn", PinKind.AT_LEAST, 2, Code.POLICY_SVN, claim="isv_svn"),
    _key("attributes_flags", PinKind.MASKED, 8, Code.POLICY_ATTRIBUTES),
    _key("xfrm", PinKind.MASKED, 8, Code.POLICY_ATTRIBUTES),
    _key("misc_select", PinKind.MASKED, 4, Code.POLICY_ATTRIBUTES),
    _key("config_id", PinKind.EXACT, 64, Code.POLICY_CONFIG),
    _key("config_svn", PinKind.NUMBER, 2, Code.POLICY_CONFIG),
    _key("isv_ext_prod_id", PinKind.EXACT, 16, Code.POLICY_CONFIG),
    _key("isv_family_id", PinKind.EXACT, 16, Code.POLICY_CONFIG),
)
"""Intel SDM vol. 3D, table REPORT; lengths as in `appraisal.claims.SgxClaims`."""

TDX_PINS: Final = (
    _key("mr_td", PinKind.ANY_OF, 48, Code.POLICY_MEASUREMENT, zero=False),
    _key("rtmr0", PinKind.ANY_OF, 48, Code.POLICY_MEASUREMENT),
    _key("rtmr1", PinKind.ANY_OF, 48, Code.POLICY_MEASUREMENT),
    _key("rtmr2", PinKind.ANY_OF, 48, Code.POLICY_MEASUREMENT),
    _key("rtmr3", PinKind.ANY_OF, 48, Code.POLICY_MEASUREMENT),
    _key("mr_config_id", PinKind.ANY_OF, 48, Code.POLICY_CONFIG),
    _key("td_attributes", PinKind.MASKED, 8, Code.POLICY_ATTRIBUTES),
    _key("xfam", PinKind.MASKED, 8, Code.POLICY_ATTRIBUTES),
    _key("mr_owner", PinKind.EXACT, 48, Code.POLICY_CONFIG),
    _key("mr_owner_config", PinKind.EXACT, 48, Code.POLICY_CONFIG),
    _key("mr_service_td", PinKind.ANY_OF, 48, Code.TDX_SERVICE_TD),
)
"""Intel TDX module ABI, TD report body in a quote; lengths as in `appraisal.claims.TdxClaims`."""

PINS: Final[Mapping[Tee, Mapping[str, PinKey]]] = {
    Tee.SGX: {key.name: key for key in SGX_PINS},
    Tee.TDX: {key.name: key for key in TDX_PINS},
}

_TCB: Final = (
    "UpToDate",
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
)
TCB_STATUS: Final[Mapping[Tee, tuple[str, ...]]] = {
    Tee.SGX: _TCB,
    Tee.TDX: (*_TCB, "TDRelaunchAdvised", "TDRelaunchAdvisedConfigurationNeeded"),
}
"""The vendor's words that may be accepted. `Revoked` is none of them: appraisal refuses it whatever a policy says."""

LATER_TEES: Final = ("snp", "nitro", "tpm")

POLICY_KEYS: Final = ("version", "trust_domain", "min_lifetime", "max_lifetime", "workload", "danger")
WORKLOAD_KEYS: Final = (
    "name", "tee", "tcb", "advisories", "application", "key_origins", "dns", "ip", "owner", "max_lifetime",
)  # fmt: skip
"""The keys of an entry beside its pins."""
APPLICATION_KEYS: Final = ("index", "sha256", "paths")
DANGER_KEYS: Final = ("allow_debug", "software_keys", "short_lifetimes")

_HEX: Final = re.compile(r"[0-9a-f]*\Z")
_ADVISORY: Final = re.compile(r"[A-Z0-9][A-Z0-9-]{0,31}\Z")
_DURATION: Final = re.compile(r"([1-9][0-9]{0,5})([hms])\Z")
_SECONDS: Final = {"h": 3600, "m": 60, "s": 1}


def pin_key_names(tee: Tee) -> frozenset[str]:
    """Return every key that pins something of a TEE, masks too."""
    keys = PINS[tee].values()
    return frozenset(key.name for key in keys) | {key.mask for key in keys if key.kind is PinKind.MASKED}


def seconds_from(text: str) -> int | None:
    """Return the seconds of a duration such as `24h`, `15m` or `90s`; None for anything else."""
    match = _DURATION.match(text)
    return int(match[1]) * _SECONDS[match[2]] if match else None


def read_pins(tee: Tee, reader: TableReader) -> PinValues:
    """Read whichever pins of `tee` the table has; what is wrong with them is noted in the reader."""
    values: dict[str, PinValue] = {}
    for key in PINS[tee].values():
        value: PinValue | None
        if key.kind is PinKind.ANY_OF:
            value = _any_of(key, reader)
        elif key.kind is PinKind.EXACT:
            value = _hex(reader, key.name, key.size, zero=key.zero)
        elif key.kind is PinKind.MASKED:
            value = _masked(key, reader)
        else:
            value = reader.integer(key.name, 0, 256**key.size - 1)
        if value is not None:
            values[key.name] = value
    return PinValues(values)


def read_tcb(tee: Tee, reader: TableReader) -> tuple[str, ...]:
    """Read `tcb`: the vendor's status words to accept, sorted; `UpToDate` alone where the table has no such key."""
    if not reader.has("tcb"):
        return ("UpToDate",)
    words: list[str] = []
    for index, word in reader.texts("tcb", PIN_VALUES_MAX):
        if word in TCB_STATUS[tee]:
            words.append(word)
        else:
            known = ", ".join(TCB_STATUS[tee])
            fix = "remove it: nothing makes a revoked platform acceptable" if word == "Revoked" else f"known: {known}"
            reader.note("tcb", f"{show(word)} is no TCB status that a {tee} entry can accept", fix, index)
    return tuple(sorted(words))


def read_advisories(reader: TableReader) -> tuple[str, ...]:
    """Read `advisories`: the advisory ids that a platform may have against it, sorted; none where the key is absent."""
    ids: list[str] = []
    for index, text in reader.texts("advisories", PIN_VALUES_MAX):
        if _ADVISORY.match(text):
            ids.append(text)
        else:
            reader.note("advisories", f"{show(text)} is no advisory id", "write it as INTEL-SA-00615", index)
    return tuple(sorted(ids))


def read_hex(reader: TableReader, name: str, text: str, size: int, *, zero: bool, index: int | None) -> bytes | None:
    """Return the bytes that `text` spells in lower-case hex, or None after noting why it does not."""
    if _HEX.match(text.lower()) and len(text) == 2 * size:
        if text != text.lower():
            reader.note(name, f"{name} is in upper case", f"write {text.lower()}", index)
            return None
        data = bytes.fromhex(text)
        if zero or any(data):
            return data
        reader.note(name, f"{name} is all zero, which names nothing", "write the value that was measured", index)
        return None
    reader.note(
        name,
        f"{name} is {show(text)}, of {len(text)} characters",
        f"write {2 * size} characters of 0-9 and a-f, {size} bytes in memory order",
        index,
    )
    return None


def compare(key: PinKey, wanted: PinValue, actual: bytes | int | None) -> Mismatch | None:
    """Hold one pin against one claim; None where they agree. A claim that is absent agrees with nothing."""
    agrees = False
    match wanted:
        case tuple():
            agrees = isinstance(actual, bytes) and actual in wanted
        case bytes():
            agrees = isinstance(actual, bytes) and actual == wanted
        case MaskedBytes():
            agrees = isinstance(actual, bytes) and wanted.matches(actual)
        case int():
            if isinstance(actual, int):
                agrees = actual >= wanted if key.kind is PinKind.AT_LEAST else actual == wanted
    return None if agrees else Mismatch(key.code, key.name, readable(key, wanted), _claim_readable(actual))


def readable(key: PinKey, wanted: PinValue) -> str:
    """Return what a pin demands, for people."""
    match wanted:
        case tuple():
            return " or ".join(value.hex() for value in wanted) or "nothing"
        case bytes():
            return wanted.hex()
        case MaskedBytes():
            return f"{wanted.value.hex()} under mask {wanted.mask.hex()}"
        case int():
            return f"at least {wanted}" if key.kind is PinKind.AT_LEAST else str(wanted)


def _claim_readable(actual: bytes | int | None) -> str:
    if actual is None:
        return "nothing"
    return actual.hex() if isinstance(actual, bytes) else str(actual)


def _any_of(key: PinKey, reader: TableReader) -> tuple[bytes, ...] | None:
    if not reader.has(key.name):
        return None
    items = reader.texts(key.name, PIN_VALUES_MAX)
    values = [read_hex(reader, key.name, text, key.size, zero=key.zero, index=index) for index, text in items]
    return tuple(sorted(value for value in values if value is not None))


def _hex(reader: TableReader, name: str, size: int, *, zero: bool) -> bytes | None:
    text = reader.text(name)
    return None if text is None else read_hex(reader, name, text, size, zero=zero, index=None)


def _masked(key: PinKey, reader: TableReader) -> MaskedBytes | None:
    if not reader.has(key.name) and not reader.has(key.mask):
        return None
    if not reader.require([key.name, key.mask], "a masked value takes both keys: the value, and the bits that count"):
        return None
    value = _hex(reader, key.name, key.size, zero=True)
    mask = _hex(reader, key.mask, key.size, zero=False)
    if value is None or mask is None:
        return None
    kept = bytes(v & m for v, m in zip(value, mask, strict=True))
    if kept != value:
        reader.note(
            key.name, f"{key.name} has bits that its mask leaves out", f"write {kept.hex()}, or set them in {key.mask}"
        )
        return None
    return MaskedBytes(value, mask)
