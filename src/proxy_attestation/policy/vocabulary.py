"""The words of a policy file beside its pins (which are `formats.pins`), and how its values are read."""

import re
from typing import Final

from proxy_attestation.formats.bounds import PIN_VALUES_MAX
from proxy_attestation.formats.dcap_collateral import TcbStatus
from proxy_attestation.formats.pins import TCB_STATUS
from proxy_attestation.formats.tee import Tee
from proxy_attestation.policy.reader import Fault, TableReader, show

POLICY_KEYS: Final = ("version", "trust_domain", "min_lifetime", "max_lifetime", "workload", "danger", "deny")
WORKLOAD_KEYS: Final = (
    "name", "tee", "tcb", "advisories", "application", "key_origins", "dns", "ip", "owner", "max_lifetime", "event",
    "hardware", "reference_values",
)  # fmt: skip
"""The keys of an entry beside its pins."""
APPLICATION_KEYS: Final = ("index", "sha256", "paths")
REFERENCE_KEYS: Final = ("file", "signers", "threshold", "min_version")
EVENT_KEYS: Final = ("register", "type", "digest", "data", "text", "any", "optional")
DENY_KEYS: Final = ("products", "fmspcs", "chip_ids", "measurements", "advisories", "serials", "spkis")
OWNER_KEYS: Final = ("shared", "chip_ids", "tenant_key", "in", "enrolment", "first_use")
DANGER_KEYS: Final = ("allow_debug", "software_keys", "first_use", "short_lifetimes")

_HEX: Final = re.compile(r"[0-9a-f]*\Z")
_ADVISORY: Final = re.compile(r"[A-Z0-9][A-Z0-9-]{0,31}\Z")
_DURATION: Final = re.compile(r"([1-9][0-9]{0,5})([hms])\Z")
_SECONDS: Final = {"h": 3600, "m": 60, "s": 1}


def seconds_from(text: str) -> int | None:
    """Return the seconds of a duration such as `24h`, `15m` or `90s`; None for anything else."""
    match = _DURATION.match(text)
    return int(match[1]) * _SECONDS[match[2]] if match else None


def hex_from(text: str, size: int, *, zero: bool, lengths: tuple[int, ...] = ()) -> bytes | Fault:
    """Return the bytes that `text` spells in lower-case hex: `size` of them, or one of `lengths`."""
    if (len(text) != 2 * size and len(text) / 2 not in lengths) or not _HEX.match(text.lower()):
        fix = f"write {2 * size} characters of 0-9 and a-f, {size} bytes in memory order"
        return Fault(f"{show(text)}, of {len(text)} characters", fix)
    if text != text.lower():
        return Fault("upper case", f"write {text.lower()}")
    if not zero and not text.strip("0"):
        return Fault("all zero, which names nothing", "write the value that was measured")
    return bytes.fromhex(text)


def word_from(text: str, size: int) -> str | Fault:
    """Return a text of at most `size` printable characters, such as a processor line."""
    if 0 < len(text) <= size and text.isascii() and text.isprintable():
        return text
    return Fault(f"{show(text)}, of {len(text)} characters", f"write 1 to {size} printable ones, as `appraise` does")


def read_tcb(tee: Tee, reader: TableReader) -> tuple[str, ...]:
    """Read `tcb`: the vendor's status words to accept, sorted; `UpToDate` alone where the table has no such key.

    A TEE whose vendor has no such words takes none.
    """

    def read(word: str) -> str | Fault:
        if word in TCB_STATUS[tee]:
            return word
        fix = f"known: {', '.join(TCB_STATUS[tee])}" if TCB_STATUS[tee] else f"remove it: {tee} has no status words"
        if word == TcbStatus.REVOKED:
            fix = "remove it: nothing makes a revoked platform acceptable"
        return Fault(f"{show(word)} is no TCB status that a {tee} entry can accept", fix)

    return reader.values("tcb", PIN_VALUES_MAX, read) if reader.has("tcb") else TCB_STATUS[tee][:1]


def read_advisories(reader: TableReader) -> tuple[str, ...]:
    """Read `advisories`: the advisory ids that a platform may have against it, sorted; none where the key is absent."""
    return reader.values("advisories", PIN_VALUES_MAX, advisory_from)


def advisory_from(text: str) -> str | Fault:
    """Return an advisory id as it is."""
    return text if _ADVISORY.match(text) else Fault(f"{show(text)} is no advisory id", "write it as INTEL-SA-00615")
