"""An entry of the issuance ledger: deterministic CBOR of at most 4 KiB, digests only (`proto/ledger-entry.cddl`)."""

import hashlib
from collections.abc import Set
from dataclasses import dataclass
from enum import IntEnum
from functools import lru_cache
from typing import Annotated, Final

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError
from proxy_attestation.formats import cbor
from proxy_attestation.formats.bounds import LEDGER_ENTRY_MAX, TIME_MAX
from proxy_attestation.formats.request import Names
from proxy_attestation.formats.values import Item, Record, as_bytes, as_member, as_text, as_tuple, as_uint

ENTRY_VERSION: Final = 1


class EntryKind(IntEnum):
    """What an entry records."""

    LEAF = 1
    POLICY = 2
    CA_EVENT = 3
    OWNERSHIP = 4
    PROXY_TLS = 5
    REVOCATION = 6


class CrlReason(IntEnum):
    """Why a certificate was revoked: CRLReason of RFC 5280 section 5.3.1, which leaves 7 out."""

    UNSPECIFIED = 0
    KEY_COMPROMISE = 1
    CA_COMPROMISE = 2
    AFFILIATION_CHANGED = 3
    SUPERSEDED = 4
    CESSATION_OF_OPERATION = 5
    CERTIFICATE_HOLD = 6
    REMOVE_FROM_CRL = 8
    PRIVILEGE_WITHDRAWN = 9
    AA_COMPROMISE = 10


def _as_revoked(value: object, code: Code) -> bytes:
    """Return a serial number or a digest."""
    return as_bytes(value, code, 32 if isinstance(value, bytes) and len(value) == 32 else 20)


class OwnerAction(IntEnum):
    """What happened to the names of a policy entry."""

    CLAIM = 1
    RELEASE = 2


def _bytes(key: int, length: int = 32) -> Item:
    return Item(key, as_bytes, (length,), absent=None)


def _number(key: int, maximum: int = TIME_MAX) -> Item:
    return Item(key, as_uint, (maximum,), absent=None)


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
        tcb_evaluation_number: key 15; None for a TEE whose vendor has no such number.
        claims_sha256: 32 bytes, of the claims set in the leaf, key 16.
        request_sha256: 32 bytes, key 17.
        owner_action: key 19.
        owner_kind: the word of the policy, key 20.
        owner_holder: stands for who holds the names, 32 bytes, key 21.
        policy_version: of the policy in force from here on, key 22.
        policy_text_sha256: 32 bytes, of what its signers sign (`policy_note`), key 23.
        policy_time: when it came into force, seconds since the epoch, key 24.
        revoked: the serial number (20 bytes) of the certificate, or SHA-256 (32 bytes) of the SPKI whose certificates
            all are meant, key 25.
        reason: why, a CRLReason of RFC 5280 section 5.3.1, key 26.
        revoked_at: seconds since the epoch, key 27.
    """

    kind: Annotated[EntryKind, Item(18, as_member, (EntryKind,))]
    issuer_spki_sha256: Annotated[bytes | None, _bytes(2)] = None
    serial: Annotated[bytes | None, _bytes(3, 20)] = None
    tbs_sha256: Annotated[bytes | None, _bytes(5)] = None
    not_before: Annotated[int | None, _number(6)] = None
    not_after: Annotated[int | None, _number(7)] = None
    spki_sha256: Annotated[bytes | None, _bytes(8)] = None
    tee: Annotated[str | None, Item(9, as_text, (16,), absent=None)] = None
    evidence_sha256: Annotated[bytes | None, _bytes(10)] = None
    policy_digest: Annotated[bytes | None, _bytes(11)] = None
    status: Annotated[int | None, _number(12)] = None
    measurements: Annotated[tuple[bytes, ...], Item(13, as_tuple, (1, 32, as_bytes, 1, 64), absent=())] = ()
    names_sha256: Annotated[bytes | None, _bytes(14)] = None
    tcb_evaluation_number: Annotated[int | None, _number(15, 0xFFFFFFFF)] = None
    claims_sha256: Annotated[bytes | None, _bytes(16)] = None
    request_sha256: Annotated[bytes | None, _bytes(17)] = None
    owner_action: Annotated[OwnerAction | None, Item(19, as_member, (OwnerAction,), absent=None)] = None
    owner_kind: Annotated[str | None, Item(20, as_text, (16,), absent=None)] = None
    owner_holder: Annotated[bytes | None, _bytes(21)] = None
    policy_version: Annotated[int | None, _number(22, 0xFFFFFFFF)] = None
    policy_text_sha256: Annotated[bytes | None, _bytes(23)] = None
    policy_time: Annotated[int | None, _number(24)] = None
    revoked: Annotated[bytes | None, Item(25, _as_revoked, absent=None)] = None
    reason: Annotated[CrlReason | None, Item(26, as_member, (CrlReason,), absent=None)] = None
    revoked_at: Annotated[int | None, _number(27)] = None


_ENTRY: Final = Record(LedgerEntry)
_CERTIFICATE: Final = frozenset({1, 2, 3, 5, 6, 7, 8, 18})
_OPTIONAL: Final = {EntryKind.LEAF: 15, EntryKind.OWNERSHIP: 8}
"""The TCB evaluation number stands where the TEE's vendor has one; the key that claims names in a claim."""
_KEYS: Final[dict[EntryKind, frozenset[int]]] = {
    EntryKind.LEAF: _CERTIFICATE | {9, 10, 11, 12, 13, 14, 16, 17},
    EntryKind.POLICY: frozenset({1, 11, 18, 22, 23, 24}),
    EntryKind.CA_EVENT: _CERTIFICATE,
    EntryKind.OWNERSHIP: frozenset({1, 14, 18, 19, 20, 21}),
    EntryKind.PROXY_TLS: _CERTIFICATE | {11, 14},
    EntryKind.REVOCATION: frozenset({1, 18, 25, 26, 27}),
}


@lru_cache(maxsize=1024)
def names_digest(names: Names) -> bytes:
    """Return SHA-256 over deterministic CBOR of the sorted names (key 14)."""
    return hashlib.sha256(cbor.encode_ordered(names.encoded())).digest()


def encode_entry(entry: LedgerEntry) -> bytes:
    """Encode an entry.

    Raises:
        FormatError: `authority.profile`, when the entry lacks a field of its kind, or has one too many or too long.
    """
    content = {1: ENTRY_VERSION, **_ENTRY.write(entry)}
    if not _fits(entry, content.keys()):
        raise FormatError(Code.AUTHORITY_PROFILE, f"fields {list(content)} in an entry of kind {entry.kind.name}")
    data = cbor.encode_ordered(content)
    if len(data) > LEDGER_ENTRY_MAX:
        raise FormatError(Code.AUTHORITY_PROFILE, f"an entry of {len(data)} bytes")
    return data


def _fits(entry: LedgerEntry, keys: Set[int | str]) -> bool:
    claim = (entry.owner_action is OwnerAction.CLAIM) is (8 in keys)
    return keys - {_OPTIONAL.get(entry.kind)} == _KEYS[entry.kind] and (claim or entry.kind is not EntryKind.OWNERSHIP)


def decode_entry(data: bytes) -> LedgerEntry:
    """Decode an entry.

    Raises:
        FormatError: `authority.state`.
    """
    code = Code.AUTHORITY_STATE
    decoded = cbor.decode(data, code, LEDGER_ENTRY_MAX)
    if not isinstance(decoded, dict):
        raise FormatError(code, "not a ledger entry")
    as_uint(decoded.pop(1, None), code, ENTRY_VERSION, ENTRY_VERSION)
    entry = LedgerEntry(**_ENTRY.read(decoded, code))
    if not _fits(entry, {1, *decoded}):
        raise FormatError(code, f"fields {list(decoded)} in an entry of kind {entry.kind.name}")
    return entry
