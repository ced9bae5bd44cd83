"""The words of a policy file: its keys with their kinds and lengths, as tables, and how each kind is read and compared.

Hex is lower case and in memory order, as in the vendor's signed structure and as `appraise` prints it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Any, Final, TypeAlias

from proxy_attestation.codes import Code
from proxy_attestation.errors import Mismatch
from proxy_attestation.formats.bounds import PIN_VALUES_MAX
from proxy_attestation.formats.dcap_collateral import TcbStatus
from proxy_attestation.formats.tee import Tee
from proxy_attestation.policy.model import MaskedBytes
from proxy_attestation.policy.reader import Fault, TableReader, show

PinValue: TypeAlias = tuple[bytes, ...] | bytes | int | MaskedBytes


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
        kind: how it is written and compared.
        size: bytes of the value; an integer goes up to what fits in them.
        code: of the mismatch.
        zero: whether an all-zero value says something. A measurement of zero is none.
        absent: what an entry demands that does not have the key; None where that is nothing.
    """

    name: str
    kind: PinKind
    size: int
    code: Code
    zero: bool = True
    absent: PinValue | None = None

    @property
    def claim(self) -> str:
        """The claim's name in the vendor's vocabulary."""
        return self.name.removeprefix("min_")

    @property
    def mask(self) -> str:
        """The name of the key that holds its mask."""
        return f"{self.name}_mask"


SGX_PINS: Final = (
    PinKey("mr_enclave", PinKind.ANY_OF, 32, Code.POLICY_MEASUREMENT, zero=False),
    PinKey("mr_signer", PinKind.ANY_OF, 32, Code.POLICY_SIGNER, zero=False),
    PinKey("isv_prod_id", PinKind.NUMBER, 2, Code.POLICY_PRODUCT),
    PinKey("min_isv_svn", PinKind.AT_LEAST, 2, Code.POLICY_SVN),
    PinKey("attributes_flags", PinKind.MASKED, 8, Code.POLICY_ATTRIBUTES),
    PinKey("xfrm", PinKind.MASKED, 8, Code.POLICY_ATTRIBUTES),
    PinKey("misc_select", PinKind.MASKED, 4, Code.POLICY_ATTRIBUTES),
    PinKey("config_id", PinKind.EXACT, 64, Code.POLICY_CONFIG, absent=bytes(64)),
    PinKey("config_svn", PinKind.NUMBER, 2, Code.POLICY_CONFIG, absent=0),
    PinKey("isv_ext_prod_id", PinKind.EXACT, 16, Code.POLICY_CONFIG, absent=bytes(16)),
    PinKey("isv_family_id", PinKind.EXACT, 16, Code.POLICY_CONFIG, absent=bytes(16)),
)
"""Intel SDM vol. 3D, table REPORT; lengths as in `appraisal.claims.SgxClaims`. MRENCLAVE does not cover the KSS fields
(the last four), so one that an entry does not name must be zero."""

TDX_PINS: Final = (
    PinKey("mr_td", PinKind.ANY_OF, 48, Code.POLICY_MEASUREMENT, zero=False),
    PinKey("rtmr0", PinKind.ANY_OF, 48, Code.POLICY_MEASUREMENT),
    PinKey("rtmr1", PinKind.ANY_OF, 48, Code.POLICY_MEASUREMENT),
    PinKey("rtmr2", PinKind.ANY_OF, 48, Code.POLICY_MEASUREMENT),
    PinKey("rtmr3", PinKind.ANY_OF, 48, Code.POLICY_MEASUREMENT),
    PinKey("mr_config_id", PinKind.ANY_OF, 48, Code.POLICY_CONFIG),
    PinKey("td_attributes", PinKind.MASKED, 8, Code.POLICY_ATTRIBUTES),
    PinKey("xfam", PinKind.MASKED, 8, Code.POLICY_ATTRIBUTES),
    PinKey("mr_owner", PinKind.EXACT, 48, Code.POLICY_CONFIG),
    PinKey("mr_owner_config", PinKind.EXACT, 48, Code.POLICY_CONFIG),
    PinKey("mr_service_td", PinKind.ANY_OF, 48, Code.TDX_SERVICE_TD),
)
"""Intel TDX module ABI, TD report body in a quote; lengths as in `appraisal.claims.TdxClaims`."""

PINS: Final[Mapping[Tee, Mapping[str, PinKey]]] = {
    Tee.SGX: {key.name: key for key in SGX_PINS},
    Tee.TDX: {key.name: key for key in TDX_PINS},
}

_TDX_ONLY: Final = (TcbStatus.TD_RELAUNCH_ADVISED, TcbStatus.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED)
TCB_STATUS: Final[Mapping[Tee, tuple[str, ...]]] = {
    Tee.SGX: tuple(str(word) for word in TcbStatus if word not in (TcbStatus.REVOKED, *_TDX_ONLY)),
    Tee.TDX: tuple(str(word) for word in TcbStatus if word is not TcbStatus.REVOKED),
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


def hex_from(text: str, size: int, *, zero: bool) -> bytes | Fault:
    """Return the bytes that `text` spells in lower-case hex."""
    if len(text) != 2 * size or not _HEX.match(text.lower()):
        fix = f"write {2 * size} characters of 0-9 and a-f, {size} bytes in memory order"
        return Fault(f"{show(text)}, of {len(text)} characters", fix)
    if text != text.lower():
        return Fault("upper case", f"write {text.lower()}")
    if not zero and not text.strip("0"):
        return Fault("all zero, which names nothing", "write the value that was measured")
    return bytes.fromhex(text)


def read_pins(tee: Tee, reader: TableReader) -> dict[str, Any]:
    """Read the pins of `tee`; what is wrong with them is noted in the reader.

    Returns:
        For every key its value, or what it stands for where the table does not have it: `PinKey.absent`, or an empty
        tuple for an `ANY_OF` key.
    """
    return {key.name: read_pin(key, reader) for key in PINS[tee].values()}


def read_pin(key: PinKey, reader: TableReader) -> PinValue | None:
    """Read one pin: its value, or what stands for it where the table has none (`PinKey.absent`, or an empty tuple)."""
    read = partial(hex_from, size=key.size, zero=key.zero)
    if key.kind is PinKind.ANY_OF:
        return reader.values(key.name, PIN_VALUES_MAX, read)
    if key.kind is PinKind.MASKED:
        return _read_masked(key, reader)
    if key.kind is PinKind.EXACT:
        value: PinValue | None = reader.value(key.name, read)
    else:
        value = reader.integer(key.name, 0, 256**key.size - 1)
    return key.absent if value is None else value


def _read_masked(key: PinKey, reader: TableReader) -> MaskedBytes | None:
    if not reader.has(key.name) and not reader.has(key.mask):
        return None
    if not reader.require([key.name, key.mask], "a masked value takes both keys: the value, and the bits that count"):
        return None
    value = reader.value(key.name, partial(hex_from, size=key.size, zero=True))
    mask = reader.value(key.mask, partial(hex_from, size=key.size, zero=False))
    if value is None or mask is None:
        return None
    kept = bytes(v & m for v, m in zip(value, mask, strict=True))
    if kept != value:
        fix = f"write {kept.hex()}, or set them in {key.mask}"
        reader.note(key.name, f"{key.name} has bits that its mask leaves out", fix)
        return None
    return MaskedBytes(value, mask)


def read_tcb(tee: Tee, reader: TableReader) -> tuple[str, ...]:
    """Read `tcb`: the vendor's status words to accept, sorted; `UpToDate` alone where the table has no such key."""

    def read(word: str) -> str | Fault:
        if word in TCB_STATUS[tee]:
            return word
        fix = f"known: {', '.join(TCB_STATUS[tee])}"
        if word == TcbStatus.REVOKED:
            fix = "remove it: nothing makes a revoked platform acceptable"
        return Fault(f"{show(word)} is no TCB status that a {tee} entry can accept", fix)

    return reader.values("tcb", PIN_VALUES_MAX, read) if reader.has("tcb") else (str(TcbStatus.UP_TO_DATE),)


def read_advisories(reader: TableReader) -> tuple[str, ...]:
    """Read `advisories`: the advisory ids that a platform may have against it, sorted; none where the key is absent."""

    def read(text: str) -> str | Fault:
        return text if _ADVISORY.match(text) else Fault(f"{show(text)} is no advisory id", "write it as INTEL-SA-00615")

    return reader.values("advisories", PIN_VALUES_MAX, read)


def compare(key: PinKey, wanted: PinValue, actual: bytes | int | None) -> Mismatch | None:
    """Hold one pin against one claim; None where they agree. A claim that is absent agrees with nothing."""
    if isinstance(wanted, tuple):
        agrees = actual in wanted
    elif isinstance(wanted, MaskedBytes):
        agrees = isinstance(actual, bytes) and wanted.matches(actual)
    elif key.kind is PinKind.AT_LEAST and isinstance(wanted, int):
        agrees = isinstance(actual, int) and actual >= wanted
    else:
        agrees = actual == wanted
    return None if agrees else Mismatch(key.code, key.name, readable(key, wanted), _shown(actual))


def readable(key: PinKey, wanted: PinValue) -> str:
    """Return what a pin demands, for people."""
    if isinstance(wanted, tuple):
        return " or ".join(value.hex() for value in wanted) or "nothing"
    if isinstance(wanted, MaskedBytes):
        return f"{wanted.value.hex()} under mask {wanted.mask.hex()}"
    return f"at least {wanted!r}" if key.kind is PinKind.AT_LEAST else _shown(wanted)


def _shown(value: bytes | int | None) -> str:
    if value is None:
        return "nothing"
    return value.hex() if isinstance(value, bytes) else str(value)
