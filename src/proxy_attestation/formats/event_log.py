r"""Logs of measured boot: what was extended into a TPM's PCRs, or into a TD's RTMRs.

Source: TCG PC Client Platform Firmware Profile 1.06, section 10.2; for TDX, the Confidential Computing Event Log of
UEFI 2.10, section 38.4. Little-endian, except that digests are bytes.

    first record   u32 register | u32 type | SHA-1 20 | u32 size | data         TCG_PCR_EVENT
                   data of a crypto-agile log: "Spec ID Event03\0" | u32 class | u8 minor, major, errata, uintn |
                   u32 count | (u16 algorithm | u16 digest size) each | u8 size | vendor information
    next records   u32 register | u32 type | u32 count | (u16 algorithm | digest) each | u32 size | data
                                                                                TCG_PCR_EVENT2
    SHA-1 only     every record is a TCG_PCR_EVENT, and there is no Spec ID event

Firmware hands logs over in a larger area: the log ends with its bytes, or before a record of register and type
FFFFFFFF or 0, and what follows there must be padding of one byte value. Nothing in a log is believed because it stands
there: `appraisal.event_log` replays it into signed registers.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError
from proxy_attestation.formats.binary import Reader
from proxy_attestation.formats.bounds import EVENT_LOG_MAX, EVENTS_MAX
from proxy_attestation.formats.tpm_codes import HASH_NAMES, HASH_SIZES

EV_NO_ACTION: Final = 3
_SPEC_ID: Final = b"Spec ID Event03\0"
_SHA1: Final = "sha1"
_ALGORITHMS_MAX: Final = 8
_DIGEST_MAX: Final = 64
_ENDS: Final = (b"\xff" * 8, bytes(8))

_RUNS: Final = (
    (0x00000001, "POST_CODE"),
    (
        0x00000003,
        (
            "NO_ACTION SEPARATOR ACTION EVENT_TAG S_CRTM_CONTENTS S_CRTM_VERSION CPU_MICROCODE "
            "PLATFORM_CONFIG_FLAGS TABLE_OF_DEVICES COMPACT_HASH IPL IPL_PARTITION_DATA NONHOST_CODE "
            "NONHOST_CONFIG NONHOST_INFO OMIT_BOOT_DEVICE_EVENTS POST_CODE2"
        ),
    ),
    (
        0x80000001,
        (
            "EFI_VARIABLE_DRIVER_CONFIG EFI_VARIABLE_BOOT EFI_BOOT_SERVICES_APPLICATION "
            "EFI_BOOT_SERVICES_DRIVER EFI_RUNTIME_SERVICES_DRIVER EFI_GPT_EVENT EFI_ACTION "
            "EFI_PLATFORM_FIRMWARE_BLOB EFI_HANDOFF_TABLES EFI_PLATFORM_FIRMWARE_BLOB2 EFI_HANDOFF_TABLES2 "
            "EFI_VARIABLE_BOOT2 EFI_GPT_EVENT2"
        ),
    ),
    (0x80000010, "EFI_HCRTM_EVENT"),
    (
        0x800000E0,
        (
            "EFI_VARIABLE_AUTHORITY EFI_SPDM_FIRMWARE_BLOB EFI_SPDM_FIRMWARE_CONFIG "
            "EFI_SPDM_DEVICE_POLICY EFI_SPDM_DEVICE_AUTHORITY"
        ),
    ),
)
"""Runs of numbers, and the names of the events that have them, without their EV_."""
EVENT_TYPES: Final[Mapping[int, str]] = {
    number: f"EV_{name}" for first, names in _RUNS for number, name in enumerate(names.split(), first)
}
"""The event types of the profile, table 27."""


@dataclass(frozen=True, slots=True)
class Event:
    """One record.

    Attributes:
        register: a PCR (0 to 23), or for TDX a measurement register (1 to 4 for RTMR0 to RTMR3).
        type: u32; `EVENT_TYPES` names those that the profile knows.
        digests: by the hash's name; of hashes that we know.
        data: what is said to have been measured, or to describe it.
    """

    register: int
    type: int
    digests: Mapping[str, bytes]
    data: bytes


@dataclass(frozen=True, slots=True)
class EventLog:
    """A log.

    Attributes:
        algorithms: the names of the hashes whose digests every event has.
        events: in order, without the first record of a crypto-agile log.
    """

    algorithms: tuple[str, ...]
    events: tuple[Event, ...]


def looks_like_event_log(data: bytes) -> bool:
    """Tell whether bytes are meant as a crypto-agile log: its first record says so behind a header of 32 bytes."""
    return data[32 : 32 + len(_SPEC_ID)] == _SPEC_ID


def decode_event_log(data: bytes, code: Code = Code.TPM_EVENT_LOG_MALFORMED) -> EventLog:
    """Decode a log, crypto-agile or SHA-1 only.

    Raises:
        FormatError: `evidence.too_large`, or `code`.
    """
    if len(data) > EVENT_LOG_MAX:
        raise FormatError(Code.EVIDENCE_TOO_LARGE, f"a log of {len(data)} bytes, at most {EVENT_LOG_MAX} allowed")
    reader = Reader(data, code, "little")
    first = _legacy_event(reader)
    if not first.data.startswith(_SPEC_ID) or first.type != EV_NO_ACTION:
        reader.position, sizes = 0, None
    else:
        sizes = _algorithms(Reader(first.data[len(_SPEC_ID) :], code, "little"))
    events = []
    while reader.rest and not _at_end(data, reader):
        events.append(_legacy_event(reader) if sizes is None else _event(reader, sizes))
        if len(events) > EVENTS_MAX:
            raise reader.fail(f"more than {EVENTS_MAX} events")
    names = (_SHA1,) if sizes is None else tuple(HASH_NAMES[alg] for alg in sizes if alg in HASH_NAMES)
    return EventLog(names, tuple(events))


def _at_end(data: bytes, reader: Reader) -> bool:
    if data[reader.position : reader.position + 8] not in _ENDS:
        return False
    rest = data[reader.position :]
    if rest.strip(rest[:1]):
        raise reader.fail("other bytes behind the end of the log")
    return True


def _algorithms(header: Reader) -> dict[int, int]:
    """Return the digest size of each algorithm of a crypto-agile log."""
    header.take(8)
    count = header.uint(4)
    if not 0 < count <= _ALGORITHMS_MAX:
        raise header.fail(f"{count} algorithms")
    sizes = {header.uint(2): header.uint(2) for _ in range(count)}
    header.sized(255, 1)
    header.end()
    for alg, size in sizes.items():
        known = HASH_SIZES.get(HASH_NAMES.get(alg, ""), size)
        if size != known or not 0 < size <= _DIGEST_MAX:
            raise header.fail(f"digests of {size} bytes for algorithm {alg:04x}")
    if len(sizes) != count:
        raise header.fail("an algorithm twice")
    return sizes


def _legacy_event(reader: Reader) -> Event:
    register, kind, digest = reader.uint(4), reader.uint(4), reader.take(HASH_SIZES[_SHA1])
    return Event(register, kind, {_SHA1: digest}, reader.sized(EVENT_LOG_MAX, 4))


def _event(reader: Reader, sizes: dict[int, int]) -> Event:
    register, kind, count = reader.uint(4), reader.uint(4), reader.uint(4)
    if count != len(sizes):
        raise reader.fail(f"{count} digests where the log has {len(sizes)} algorithms")
    digests: dict[int, bytes] = {}
    for _ in range(count):
        alg = reader.uint(2)
        if alg not in sizes or alg in digests:
            raise reader.fail(f"a digest of algorithm {alg:04x}")
        digests[alg] = reader.take(sizes[alg])
    named = {HASH_NAMES[alg]: digest for alg, digest in digests.items() if alg in HASH_NAMES}
    return Event(register, kind, named, reader.sized(EVENT_LOG_MAX, 4))
