"""What workers and the authority say to each other; `wire.py` frames it as CBOR over a private Unix socket."""

from dataclasses import dataclass

from proxy_attestation.appraisal.claims import Claims
from proxy_attestation.appraisal.endorsements import Floor
from proxy_attestation.formats.tee import Tee


@dataclass(frozen=True, slots=True)
class TokenKey:
    """A key that session tokens are authenticated with.

    Attributes:
        key_id: 4 bytes.
        key: 32 bytes.
        not_after: seconds since the epoch; tokens that expire later are not made with it.
    """

    key_id: bytes
    key: bytes
    not_after: int


@dataclass(frozen=True, slots=True)
class AuthorityInfo:
    """What a worker needs to know, read when it connects and again when `generation` has moved.

    Attributes:
        generation: rises whenever anything below changes.
        trust_domain: the SPIFFE trust domain.
        simulated: whether the authority was made for simulated evidence.
        key_origin: `file`.
        anchors: SPKI SHA-256 of the accepted vendor roots, 32 bytes each.
        token_keys: the newest first.
        ca_id: SHA-256 of the active issuing CA's SPKI, 32 bytes.
        bundle_sequence: the root bundle's number.
        roots: DER.
        issuing: DER of every live issuing CA, the active one first.
        policy_digest: 32 bytes.
        dangers: the policy's dangerous switches, readable.
        floors: by (tee, FMSPC of 6 bytes).
    """

    generation: int
    trust_domain: str
    simulated: bool
    key_origin: str
    anchors: tuple[bytes, ...]
    token_keys: tuple[TokenKey, ...]
    ca_id: bytes
    bundle_sequence: int
    roots: tuple[bytes, ...]
    issuing: tuple[bytes, ...]
    policy_digest: bytes
    dangers: tuple[str, ...]
    floors: tuple[tuple[Tee, bytes, Floor], ...]


@dataclass(frozen=True, slots=True)
class IssueOrder:
    """One certificate, as a worker asks for it after it has verified CSR, binder and evidence.

    Attributes:
        token: the session token, exactly as the peer returned it.
        request: the request's exact bytes.
        spki: DER of the CSR's SubjectPublicKeyInfo.
        claims: the appraised claims.
        collateral_floor: the numbers of the collateral that the claims rest on.
        policy_digest: 32 bytes: the policy that the worker was told of.
        owner_kind: of the owner proof, or empty.
        owner_proof: its bytes, or empty.
    """

    token: bytes
    request: bytes
    spki: bytes
    claims: Claims
    collateral_floor: Floor
    policy_digest: bytes
    owner_kind: str = ""
    owner_proof: bytes = b""


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate that stands in the ledger.

    Attributes:
        chain: DER: leaf, issuing CA.
        index: of the leaf's ledger entry.
        not_before: seconds since the epoch.
        not_after: seconds since the epoch.
        claims_set: the claims set inside the leaf (`formats.ear`).
        generation: the authority's, so that a worker notices a change.
    """

    chain: tuple[bytes, ...]
    index: int
    not_before: int
    not_after: int
    claims_set: bytes
    generation: int
