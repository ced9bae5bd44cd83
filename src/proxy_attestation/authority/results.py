"""What the appraisal comes to in a leaf: the claims set, and its AR4SI trustworthiness vector.

AR4SI (draft-ietf-rats-ar4si) tiers: 2 affirming, 32 warning, 96 contraindicated. The mapping for DCAP:

=====================  ===  ================================================================================
trustworthiness claim  key  value
=====================  ===  ================================================================================
instance-identity      0    2: the evidence chains to the platform's own PCK
configuration          1    2 as the policy pins it; 96 when the TEE can be debugged
executables            2    3: what was launched is approved; nothing says what it loaded later
hardware               4    2 when the TCB is UpToDate; 32 for any other status that the policy accepts
runtime-opaque         5    2: encrypted memory; 96 when the TEE can be debugged
=====================  ===  ================================================================================

The status is the tier of the worst of them.
"""

from dataclasses import dataclass
from typing import Final

from proxy_attestation import __version__
from proxy_attestation.appraisal.claims import Claims, SgxClaims
from proxy_attestation.codes import Code
from proxy_attestation.errors import UnavailableError
from proxy_attestation.formats.ear import AFFIRMING, CONTRAINDICATED, WARNING, LeafClaims
from proxy_attestation.formats.request import KeyOrigin
from proxy_attestation.policy.model import Decision

_APPROVED_AT_BOOT: Final = 3
_UP_TO_DATE: Final = "UpToDate"
# What a leaf says of the body, by the vendor's names: everything that an entry or a relying party can pin.
_SGX_FIELDS: Final = (
    "mr_enclave", "attributes_flags", "xfrm", "misc_select", "config_id", "isv_ext_prod_id", "isv_family_id",
)  # fmt: skip
_TDX_FIELDS: Final = (
    "mr_td", "rtmr0", "rtmr1", "rtmr2", "rtmr3", "mr_config_id", "mr_owner", "mr_owner_config", "td_attributes", "xfam",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Origin:
    """Who vouches.

    Attributes:
        ledger: the ledger's origin.
        simulated: whether this authority takes simulated evidence.
        policy_digest: 32 bytes.
    """

    ledger: str
    simulated: bool
    policy_digest: bytes


def trust_vector(claims: Claims) -> tuple[tuple[int, int], ...]:
    """Return the AR4SI vector of accepted claims: (key, value), sorted by key."""
    opaque = CONTRAINDICATED if claims.debug else AFFIRMING
    hardware = AFFIRMING if claims.tcb is None or claims.tcb.status == _UP_TO_DATE else WARNING
    return ((0, AFFIRMING), (1, opaque), (2, _APPROVED_AT_BOOT), (4, hardware), (5, opaque))


def tier(vector: tuple[tuple[int, int], ...]) -> int:
    """Return the AR4SI tier of a vector's worst value: 2, 32 or 96."""
    worst = max(value for _, value in vector)
    if worst < WARNING:
        return AFFIRMING
    return WARNING if worst < CONTRAINDICATED else CONTRAINDICATED


def body_measurements(claims: Claims) -> tuple[tuple[str, bytes], ...]:
    """Return what the leaf says of the TEE's body: (vendor field name, value), sorted by name.

    The number CONFIGSVN is two bytes, big-endian. A TDX 1.0 body has no `mr_service_td`.
    """
    body = claims.body
    if isinstance(body, SgxClaims):
        values = {name: getattr(body, name) for name in _SGX_FIELDS}
        values["config_svn"] = body.config_svn.to_bytes(2, "big")
    else:
        values = {name: getattr(body, name) for name in _TDX_FIELDS}
        if body.mr_service_td is not None:
            values["mr_service_td"] = body.mr_service_td
    return tuple(sorted(values.items()))


def code_measurements(claims: Claims) -> tuple[bytes, ...]:
    """Return the code measurements that a ledger entry lists: MRENCLAVE, or MRTD and RTMR0 to 3."""
    body = claims.body
    if isinstance(body, SgxClaims):
        return (body.mr_enclave,)
    return (body.mr_td, body.rtmr0, body.rtmr1, body.rtmr2, body.rtmr3)


def leaf_claims(
    claims: Claims,
    decision: Decision,
    origin: Origin,
    *,
    key_origin: KeyOrigin,
    nonce: bytes,
    spki: bytes,
    validity: tuple[int, int],
) -> LeafClaims:
    """Put together what the proxy vouches for in one leaf.

    Args:
        claims: as appraised.
        decision: accepted.
        origin: who vouches.
        key_origin: as the request says and the entry allows.
        nonce: 32 bytes, the challenge's.
        spki: DER of the leaf's key.
        validity: issued at (now), expires at (notAfter), seconds since the epoch.
    """
    sgx = claims.body if isinstance(claims.body, SgxClaims) else None
    tcb = claims.tcb
    if tcb is None:
        raise UnavailableError(Code.AUTHORITY_PROFILE, "claims without a TCB")
    vector = trust_vector(claims)
    return LeafClaims(
        issued_at=validity[0],
        expires_at=validity[1],
        nonce=nonce,
        build=__version__,
        tee=claims.tee,
        status=tier(vector),
        vector=vector,
        policy_digest=origin.policy_digest,
        spki=spki,
        anchor=claims.anchor,
        key_origin=key_origin,
        measurements=body_measurements(claims),
        signer=None if sgx is None else sgx.mr_signer,
        product_id=None if sgx is None else sgx.isv_prod_id,
        svn=None if sgx is None else sgx.isv_svn,
        debug=claims.debug,
        tcb_status=tcb.status,
        tcb_date=int(tcb.date.timestamp()),
        tcb_evaluation_number=tcb.evaluation_number,
        advisories=tcb.advisories,
        application_sha256=decision.application_sha256,
        owner=str(decision.workload.owner) if decision.workload is not None else "",
        evidence_sha256=claims.evidence_sha256,
        ledger_origin=origin.ledger,
        simulated=origin.simulated,
    )
