"""What workers and the authority say to each other, as arrays (`formats.arrays`); `wire.py` frames them.

The annotations are the whole wire: what is within their bounds arrives as it was sent, anything else is refused.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum
from typing import Annotated, Final, NamedTuple, TypeAlias, TypeVar

from proxy_attestation.appraisal.claims import Claims
from proxy_attestation.appraisal.endorsements import DcapEndorsements, Floor, SnpEndorsements
from proxy_attestation.appraisal.kinds import Endorsements
from proxy_attestation.authority.wire import MALFORMED
from proxy_attestation.formats.arrays import Array, Chosen, Size, exactly
from proxy_attestation.formats.bounds import (
    CERTIFICATE_MAX,
    CLAIMS_MAX,
    DENY_LIST_MAX,
    DEPLOYMENT_NOTE_MAX,
    EVENT_LOG_MAX,
    KEPT_EVIDENCE_MAX,
    LEDGER_NOTE_MAX,
    LEDGER_PROOF_MAX,
    PLATFORM_CERTIFICATES_MAX,
    QUOTE_MAX,
    REQUEST_MAX,
    ROOT_EVIDENCE_MAX,
    TIME_MAX,
    TPM_ROOTS_MAX,
)
from proxy_attestation.formats.tee import Tee

_T = TypeVar("_T")

PLATFORM_MAX: Final = 16
FLOORS_MAX: Final = 4096
"""Platforms (tee and FMSPC) whose collateral the authority remembers."""

Digest: TypeAlias = Annotated[bytes, exactly(32)]
Count: TypeAlias = Annotated[int, Size(0, (1 << 63) - 1)]
Seconds: TypeAlias = Annotated[int, Size(0, TIME_MAX)]
Spki: TypeAlias = Annotated[bytes, Size(0, 512)]
Certificates: TypeAlias = Annotated[tuple[Annotated[bytes, Size(1, CERTIFICATE_MAX)], ...], Size(0, 16)]


@dataclass(frozen=True, slots=True)
class TokenKey:
    """A key that session tokens are authenticated with.

    Attributes:
        key_id: 4 bytes.
        key: 32 bytes.
        not_after: seconds since the epoch; tokens that expire later are not made with it.
    """

    key_id: Annotated[bytes, exactly(4)]
    key: Digest
    not_after: Seconds


class PlatformFloor(NamedTuple):
    """The floor of one platform: an FMSPC, or a processor line of AMD's."""

    tee: Tee
    platform: Annotated[bytes, Size(1, PLATFORM_MAX)]
    floor: Floor


@dataclass(frozen=True, slots=True)
class AuthorityInfo:
    """What a worker needs to know, read when it connects and again when `generation` has moved.

    Attributes:
        generation: rises whenever anything below changes.
        trust_domain: the SPIFFE trust domain.
        simulated: whether the authority was made for simulated evidence.
        key_origin: `file`.
        anchors: SPKI SHA-256 of the accepted vendor roots, 32 bytes each.
        tpm_roots: likewise, of the CAs of TPMs that the policy names.
        token_keys: the newest first.
        ca_id: SHA-256 of the active issuing CA's SPKI, 32 bytes.
        bundle_sequence: the root bundle's number.
        roots: DER.
        cross: DER of roots certified by another root.
        issuing: DER of every live issuing CA, the active one first.
        deny_sequence: the number of the deny list.
        policy_digest: 32 bytes.
        dangers: the policy's dangerous switches, readable.
        floors: of every platform family that is known, sorted.
        ledger_key: the log's public key, a C2SP vkey.
        deployment_statement: the signed note that is installed; empty where there is none.
    """

    generation: Count
    trust_domain: Annotated[str, Size(1, 255)]
    simulated: bool
    key_origin: Annotated[str, Size(1, 16)]
    anchors: Annotated[tuple[Digest, ...], Size(0, 256)]
    tpm_roots: Annotated[tuple[Digest, ...], Size(0, TPM_ROOTS_MAX)]
    token_keys: Annotated[tuple[TokenKey, ...], Size(0, 16)]
    ca_id: Digest
    bundle_sequence: Count
    roots: Certificates
    cross: Certificates
    issuing: Certificates
    deny_sequence: Count
    policy_digest: Digest
    dangers: Annotated[tuple[Annotated[str, Size(1, 512)], ...], Size(0, 1024)]
    floors: Annotated[tuple[PlatformFloor, ...], Size(0, FLOORS_MAX)]
    ledger_key: Annotated[str, Size(0, 512)] = ""
    deployment_statement: Annotated[bytes, Size(0, DEPLOYMENT_NOTE_MAX)] = b""


@dataclass(frozen=True, slots=True)
class Proven:
    """What the proxy is, and its evidence of that.

    Attributes:
        info: what the evidence vouches for.
        evidence: a CMW record (`formats.root_evidence`); empty where the proxy has no attester.
    """

    info: AuthorityInfo
    evidence: Annotated[bytes, Size(0, ROOT_EVIDENCE_MAX)]


class ToQuote(NamedTuple):
    """What the supervisor is to have quoted; the last four are those of a `formats.binder.Binding`."""

    number: Count
    report_data: Annotated[bytes, exactly(64)]
    digest: Digest
    nonce: Digest
    spki: Spki


class Quote(NamedTuple):
    """A quote with what came with it."""

    tee: Tee
    evidence: Annotated[bytes, Size(1, QUOTE_MAX)]
    certificates: Annotated[tuple[Annotated[bytes, Size(1, CERTIFICATE_MAX)], ...], Size(0, PLATFORM_CERTIFICATES_MAX)]
    event_log: Annotated[bytes, Size(1, EVENT_LOG_MAX)] | None


class Quoted(NamedTuple):
    """What has become of a `ToQuote`; None where no quote could be made."""

    number: Count
    quote: Quote | None


@dataclass(frozen=True, slots=True)
class IssueOrder:
    """One certificate, as a worker asks for it after it has verified CSR, binder and evidence.

    Attributes:
        token: the session token, exactly as the peer returned it.
        request: the request's exact bytes.
        spki: DER of the CSR's SubjectPublicKeyInfo.
        claims: the appraised claims.
        collateral_floor: the numbers of the collateral that the claims rest on; None for a TEE without any.
        policy_digest: 32 bytes: the policy that the worker was told of.
        owner_kind: of the owner proof, or empty.
        owner_proof: its bytes, or empty.
        kept: the evidence and what came beside it, unread here (`formats.kept_evidence`); empty keeps nothing.
    """

    token: Annotated[bytes, Size(0, 192)]
    request: Annotated[bytes, Size(0, REQUEST_MAX)]
    spki: Spki
    claims: Claims
    collateral_floor: Floor | None
    policy_digest: Digest
    owner_kind: Annotated[str, Size(0, 64)] = ""
    owner_proof: Annotated[bytes, Size(0, 4096)] = b""
    kept: Annotated[bytes, Size(0, KEPT_EVIDENCE_MAX)] = b""


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate that stands in the ledger.

    Attributes:
        chain: DER: leaf, issuing CA, and what leads to the other root while there are two.
        index: of the leaf's ledger entry.
        not_before: seconds since the epoch.
        not_after: seconds since the epoch.
        claims_set: the claims set inside the leaf (`formats.ear`).
        generation: the authority's, so that a worker notices a change.
        proof: the tlog-proof; empty while too few witnesses have cosigned a checkpoint over the entry, and then the
            answer waits.
    """

    chain: Certificates
    index: Count
    not_before: Seconds
    not_after: Seconds
    claims_set: Annotated[bytes, Size(1, CLAIMS_MAX)]
    generation: Count
    proof: Annotated[bytes, Size(0, LEDGER_PROOF_MAX)] = b""


class _Vendor(IntEnum):
    INTEL = 1
    AMD = 2


class _Set(NamedTuple):
    vendor: _Vendor
    documents: Annotated[
        Endorsements, Chosen("vendor", {_Vendor.INTEL: DcapEndorsements, _Vendor.AMD: SnpEndorsements})
    ]


def _body(kind: type[_T]) -> tuple[Callable[[_T], object], Callable[[object], _T]]:
    array = Array[_T](kind, MALFORMED)
    return array.write, array.read


# One encoder and one strict decoder for each body, which raises FormatError, `proxy.protocol`.
encode_info, decode_info = _body(AuthorityInfo)
encode_order, decode_order = _body(IssueOrder)
encode_issued, decode_issued = _body(Issued)
_encode_set, _decode_set = _body(_Set)
encode_floor, decode_floor = _body(Floor)
encode_proven, decode_proven = _body(Proven)
encode_to_quote, decode_to_quote = _body(ToQuote)
encode_quote, decode_quote = _body(Quote)
encode_quoted, decode_quoted = _body(Quoted)
decode_generation: Callable[[object], int] = Array[int](Count, MALFORMED).read


def encode_endorsements(endorsements: Endorsements) -> object:
    """Return the body of a set."""
    amd = isinstance(endorsements, SnpEndorsements)
    return _encode_set(_Set(_Vendor.AMD if amd else _Vendor.INTEL, endorsements))


def decode_endorsements(value: object) -> Endorsements:
    """Return the set of a body.

    Raises:
        FormatError: `proxy.protocol`.
    """
    return _decode_set(value).documents


decode_nonce = Array[bytes](Digest, MALFORMED).read
decode_note = Array[bytes](Annotated[bytes, Size(1, DENY_LIST_MAX)], MALFORMED).read
decode_checkpoint = Array[bytes](Annotated[bytes, Size(0, LEDGER_NOTE_MAX)], MALFORMED).read
decode_count = Array[int](Count, MALFORMED).read
decode_spki = Array[bytes](Spki, MALFORMED).read
decode_chain = Array[tuple[bytes, ...]](Certificates, MALFORMED).read
