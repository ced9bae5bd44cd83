"""An entry of the issuance ledger: deterministic CBOR of at most 4 KiB, digests only (`proto/ledger-entry.cddl`)."""

import hashlib
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Any, Final

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError
from proxy_attestation.formats import cbor
from proxy_attestation.formats.bounds import LEDGER_ENTRY_MAX
from proxy_attestation.formats.request import Names

ENTRY_VERSION: Final = 1
_TIME_MAX: Final = 1 << 40


class EntryKind(IntEnum):
    """What an entry records."""

    LEAF = 1
    POLICY = 2
    CA_EVENT = 3
    OWNERSHIP = 4
    PROXY_TLS = 5


@dataclass(frozen=True, slots=True)
class LedgerEntry:
    """One entry. Fields that a kind does not have are None (or empty, for measurements).

    Attributes:
        kind: what it records.
        issuer_spki_sha256: 32 bytes, key 2.
        serial: 20 bytes, big-endian, key 3.
        tbs_sha256: 32 bytes, of the to-be-signed certificate, key 5.
        not_before: seconds since the epoch, key 6.
        not_after: seconds since the epoch, key 7.
        spki_sha256: 32 bytes, of the certified key, key 8.
        tee: key 9.
        evidence_sha256: 32 bytes, key 10.
        policy_digest: 32 bytes, key 11.
        status: the AR4SI tier, key 12.
        measurements: key 13, in the order of the claims.
        names_sha256: 32 bytes, over deterministic CBOR of the sorted names, key 14.
        tcb_evaluation_number: key 15.
        claims_sha256: 32 bytes, of the claims set in the leaf, key 16.
        request_sha256: 32 bytes, key 17.
    """

    kind: EntryKind
    issuer_spki_sha256: bytes | None = None
    serial: bytes | None = None
    tbs_sha256: bytes | None = None
    not_before: int | None = None
    not_after: int | None = None
    spki_sha256: bytes | None = None
    tee: str | None = None
    evidence_sha256: bytes | None = None
    policy_digest: bytes | None = None
    status: int | None = None
    measurements: tuple[bytes, ...] = ()
    names_sha256: bytes | None = None
    tcb_evaluation_number: int | None = None
    claims_sha256: bytes | None = None
    request_sha256: bytes | None = None


_CERTIFICATE: Final = frozenset({2, 3, 5, 6, 7, 8})
_KEYS: Final[dict[EntryKind, frozenset[int]]] = {
    EntryKind.LEAF: _CERTIFICATE | {9, 10, 11, 12, 13, 14, 15, 16, 17},
    EntryKind.POLICY: frozenset({11}),
    EntryKind.CA_EVENT: _CERTIFICATE,
    EntryKind.OWNERSHIP: frozenset({8, 14}),
    EntryKind.PROXY_TLS: _CERTIFICATE | {11, 14},
}
_BYTES: Final = {
    2: "issuer_spki_sha256", 3: "serial", 5: "tbs_sha256", 8: "spki_sha256", 10: "evidence_sha256",
    11: "policy_digest", 14: "names_sha256", 16: "claims_sha256", 17: "request_sha256",
}  # fmt: skip
_NUMBERS: Final = {6: "not_before", 7: "not_after", 12: "status", 15: "tcb_evaluation_number"}
# As they are written: by rising key.
_FIELDS: Final = tuple(sorted({**_BYTES, **_NUMBERS, 9: "tee", 13: "measurements"}.items()))
_ALL_KEYS: Final = {kind: keys | {1, 18} for kind, keys in _KEYS.items()}


@lru_cache(maxsize=1024)
def names_digest(names: Names) -> bytes:
    """Return SHA-256 over deterministic CBOR of the sorted names (key 14)."""
    return hashlib.sha256(cbor.encode(names.encoded())).digest()


def encode_entry(entry: LedgerEntry) -> bytes:
    """Encode an entry.

    Raises:
        FormatError: `authority.profile`, when the entry lacks a field of its kind, or has one too many or too long.
    """
    content: dict[int, object] = {1: ENTRY_VERSION}
    for key, name in _FIELDS:
        value = getattr(entry, name)
        if value is not None and value != ():
            content[key] = list(value) if isinstance(value, tuple) else value
    content[18] = int(entry.kind)
    if content.keys() != _ALL_KEYS[entry.kind]:
        raise FormatError(Code.AUTHORITY_PROFILE, f"fields {sorted(content)} in an entry of kind {entry.kind.name}")
    data = cbor.encode_ordered(content)
    if len(data) > LEDGER_ENTRY_MAX:
        raise FormatError(Code.AUTHORITY_PROFILE, f"an entry of {len(data)} bytes")
    return data


def decode_entry(data: bytes) -> LedgerEntry:
    """Decode an entry.

    Raises:
        FormatError: `authority.state`.
    """
    code = Code.AUTHORITY_STATE
    decoded = cbor.decode(data, code, LEDGER_ENTRY_MAX)
    if not isinstance(decoded, dict) or decoded.get(1) != ENTRY_VERSION:
        raise FormatError(code, "not a ledger entry of a known version")
    try:
        kind = EntryKind(cbor.as_uint(decoded.get(18), code, 255))
    except ValueError as error:
        raise FormatError(code, "unknown kind of ledger entry") from error
    m = cbor.as_map(decoded, code, _KEYS[kind] | {1, 18})
    values: dict[str, Any] = {}
    for key, name in _BYTES.items():
        if key in m:
            values[name] = cbor.as_bytes(m[key], code, 20 if name == "serial" else 32)
    for key, name in _NUMBERS.items():
        if key in m:
            values[name] = cbor.as_uint(m[key], code, _TIME_MAX)
    measurements = cbor.as_list(m[13], code, 32) if 13 in m else []
    return LedgerEntry(
        kind=kind,
        tee=cbor.as_text(m[9], code, 16) if 9 in m else None,
        measurements=tuple(cbor.as_bytes(item, code, 1, 64) for item in measurements),
        **values,
    )
