"""From a decision to a leaf that can be committed: what it says, its bytes, the last check, its row in the ledger.

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

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from proxy_attestation import __version__
from proxy_attestation.appraisal.claims import Claims, claim_of
from proxy_attestation.authority import profile
from proxy_attestation.authority.cas import Ca
from proxy_attestation.authority.check import Expected, ExpectedClaims, check_leaf
from proxy_attestation.authority.ledger import Row
from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError, UnavailableError
from proxy_attestation.formats.csr import spki_sha256
from proxy_attestation.formats.ear import AFFIRMING, CONTRAINDICATED, WARNING, LeafClaims, encode_extension
from proxy_attestation.formats.ledger_entry import EntryKind, LedgerEntry, encode_entry, names_digest
from proxy_attestation.formats.pins import PINS, UP_TO_DATE, PinKey
from proxy_attestation.formats.request import Names, Request
from proxy_attestation.formats.tee import Tee
from proxy_attestation.policy.model import Decision

_APPROVED_AT_BOOT: Final = 3
# A leaf says everything of the body that an entry or a relying party can pin, sorted by name; these three stand beside
# it. The code is what a ledger entry lists.
_BESIDE: Final = ("mr_signer", "isv_prod_id", "isv_svn")
_MEASURED: Final[Mapping[Tee, tuple[PinKey, ...]]] = {
    tee: tuple(sorted((key for key in keys.values() if key.claim not in _BESIDE), key=lambda key: key.claim))
    for tee, keys in PINS.items()
}
_CODE: Final[Mapping[Tee, tuple[str, ...]]] = {
    tee: tuple(key.claim for key in keys.values() if key.code is Code.POLICY_MEASUREMENT) for tee, keys in PINS.items()
}


@dataclass(frozen=True, slots=True)
class Plan:
    """A leaf as it was decided.

    Attributes:
        issuing: the CA that will sign.
        now: seconds since the epoch.
        limits: seconds since the epoch; the leaf outlives none of them.
        spki: DER of its key.
        names: exactly these.
        spiffe_id: the one URI among them.
        permitted_dns: the root's constraints.
        policy_digest: 32 bytes, in force.
    """

    issuing: Ca
    now: int
    limits: tuple[int, ...]
    spki: bytes
    names: Names
    spiffe_id: str
    permitted_dns: tuple[str, ...]
    policy_digest: bytes

    @property
    def not_before(self) -> int:
        """A minute ago, or when the issuing CA began."""
        return max(self.now - profile.BACKDATE, self.issuing.not_before)

    @property
    def not_after(self) -> int:
        """The earliest of the limits, the issuing CA's end, and 24 hours of life in all."""
        return min(*self.limits, self.issuing.not_after, self.not_before + profile.LEAF_LIFETIME_MAX)


def trust_vector(claims: Claims) -> tuple[tuple[int, int], ...]:
    """Return the AR4SI vector of accepted claims: (key, value), sorted by key."""
    opaque = CONTRAINDICATED if claims.debug else AFFIRMING
    hardware = AFFIRMING if claims.tcb is None or claims.tcb.status == UP_TO_DATE else WARNING
    return ((0, AFFIRMING), (1, opaque), (2, _APPROVED_AT_BOOT), (4, hardware), (5, opaque))


def tier(vector: tuple[tuple[int, int], ...]) -> int:
    """Return the AR4SI tier of a vector's worst value: 2, 32 or 96."""
    worst = max([value for _, value in vector])
    if worst < WARNING:
        return AFFIRMING
    return WARNING if worst < CONTRAINDICATED else CONTRAINDICATED


def body_measurements(claims: Claims) -> tuple[tuple[str, bytes], ...]:
    """Return what the leaf says of the TEE's body: (vendor field name, value), sorted by name.

    Numbers are big-endian. What a body does not have (`mr_service_td` in TDX 1.0, a register of zero) is left out.
    """
    found = [(key, claim_of(claims.body, key.claim)) for key in _MEASURED[claims.tee]]
    return tuple(
        [
            (key.claim, value.to_bytes(key.size) if isinstance(value, int) else value)
            for key, value in found
            if value is not None
        ]
    )


def code_measurements(claims: Claims) -> tuple[bytes, ...]:
    """Return the code measurements that a ledger entry lists, such as MRENCLAVE, or MRTD and RTMR0 to 3."""
    found = [claim_of(claims.body, name) for name in _CODE[claims.tee]]
    return tuple([value for value in found if isinstance(value, bytes)])


def leaf_claims(
    claims: Claims, request: Request, decision: Decision, plan: Plan, *, nonce: bytes, ledger: str, simulated: bool
) -> LeafClaims:
    """Put together what the proxy vouches for in one leaf.

    Args:
        claims: as appraised.
        request: whose key origin the entry accepts.
        decision: accepted.
        plan: of the leaf.
        nonce: 32 bytes, the challenge's.
        ledger: the ledger's origin.
        simulated: whether this authority takes simulated evidence.
    """
    vector, tcb, body = trust_vector(claims), claims.tcb, claims.body
    return LeafClaims(
        issued_at=plan.now, expires_at=plan.not_after, nonce=nonce, build=__version__, tee=claims.tee,
        status=tier(vector), vector=vector, policy_digest=plan.policy_digest, spki=plan.spki, anchor=claims.anchor,
        key_origin=request.runtime.key_origin, measurements=body_measurements(claims),
        signer=getattr(body, "mr_signer", None), product_id=getattr(body, "isv_prod_id", None),
        svn=getattr(body, "isv_svn", None), debug=claims.debug,
        tcb_status=None if tcb is None else tcb.status, tcb_date=None if tcb is None else int(tcb.date.timestamp()),
        tcb_evaluation_number=None if tcb is None else tcb.evaluation_number,
        advisories=() if tcb is None else tcb.advisories,
        application_sha256=decision.application_sha256,
        owner=str(decision.workload.owner) if decision.workload is not None else "",
        evidence_sha256=claims.evidence_sha256, ledger_origin=ledger, simulated=simulated,
    )  # fmt: skip


def leaf_row(
    kind: EntryKind,
    plan: Plan,
    serial: bytes,
    expected: ExpectedClaims | None = None,
    claims_set: bytes | None = None,
    *,
    session_id: bytes | None = None,
    **said: Any,
) -> Row:
    """Build the to-be-signed bytes of a leaf, judge them, and return them as the row that is to be committed.

    Args:
        kind: of its ledger entry.
        plan: as decided.
        serial: 20 bytes, the top bit clear.
        expected: what the claims must say, or None.
        claims_set: for the extension id-pe-cmw, or None.
        session_id: 16 bytes, or None.
        **said: the fields of the ledger entry that only this kind of leaf has.

    Raises:
        UnavailableError: `authority.lifetime`, when nothing of its life would be left; `authority.profile`, see
            `check.check_leaf`, and when the entry does not fit its format.
    """
    issuing, not_before, not_after = plan.issuing, plan.not_before, plan.not_after
    if not_after <= plan.now:
        raise UnavailableError(Code.AUTHORITY_LIFETIME, f"nothing is left of {not_after - plan.now} s")
    tbs = profile.leaf_tbs(
        serial=serial, issuer=issuing.name, authority_key_id=issuing.key_id, validity=(not_before, not_after),
        spki=plan.spki, names=plan.names, extension=None if claims_set is None else encode_extension(claims_set),
    )  # fmt: skip
    check_leaf(
        tbs,
        Expected(
            issuer=issuing.name, authority_key_id=issuing.key_id, issuer_not_before=issuing.not_before, now=plan.now,
            not_after_limits=(*plan.limits, issuing.not_after), spki=plan.spki, names=plan.names,
            spiffe_id=plan.spiffe_id, permitted_dns=plan.permitted_dns, claims=expected,
        ),
    )  # fmt: skip
    key = spki_sha256(plan.spki)
    entry = LedgerEntry(
        kind=kind, issuer_spki_sha256=issuing.ca_id, serial=serial, tbs_sha256=hashlib.sha256(tbs).digest(),
        not_before=not_before, not_after=not_after, spki_sha256=key, policy_digest=plan.policy_digest,
        names_sha256=names_digest(plan.names), **said,
    )  # fmt: skip
    try:
        encoded = encode_entry(entry)
    except FormatError as error:
        raise UnavailableError(Code.AUTHORITY_PROFILE, error.detail) from error
    return Row(kind, encoded, tbs, not_before, not_after, key, session_id, entry.request_sha256, claims_set)
