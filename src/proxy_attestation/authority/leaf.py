"""From a decision to a leaf that can be committed: what it says, its bytes, the last check, its row in the ledger.

AR4SI (draft-ietf-rats-ar4si) tiers: 2 affirming, 32 warning, 96 contraindicated. The mapping for DCAP:

=====================  ===  ================================================================================
trustworthiness claim  key  value
=====================  ===  ================================================================================
instance-identity      0    2: the evidence chains to the platform's own PCK
configuration          1    2 as the policy pins it; 96 when the TEE can be debugged
executables            2    3: what was launched is approved; nothing says what it loaded later
hardware               4    2 when the TCB is UpToDate; 32 for any other status that the policy accepts
runtime-opaque         5    2: encrypted memory; 96 when the TEE can be debugged; absent for a TPM alone
=====================  ===  ================================================================================

The status is the tier of the worst of them.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, Final

from proxy_attestation import __version__
from proxy_attestation.appraisal.claims import Claims, claim_of
from proxy_attestation.authority import profile
from proxy_attestation.authority.check import Expected, ExpectedClaims, check_leaf
from proxy_attestation.authority.ledger import Row
from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError, UnavailableError
from proxy_attestation.formats.csr import spki_sha256
from proxy_attestation.formats.ear import AFFIRMING, CONTRAINDICATED, WARNING, LeafClaims, encode_extension
from proxy_attestation.formats.ledger_entry import EntryKind, LedgerEntry, encode_entry, names_digest
from proxy_attestation.formats.pins import EK_ROOT, PINS, UP_TO_DATE, Claim, PinKey
from proxy_attestation.formats.request import Request
from proxy_attestation.formats.tee import Tee
from proxy_attestation.policy.model import Workload

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


def life(expected: Expected) -> tuple[int, int]:
    """Return notBefore and notAfter, seconds since the epoch.

    The first is a minute ago, or when the issuing CA began; the second the earliest of the limits and 24 hours of life.
    """
    begin = max(expected.now - profile.BACKDATE, expected.issuer_not_before)
    return begin, min(*expected.not_after_limits, begin + profile.LEAF_LIFETIME_MAX)


def trust_vector(claims: Claims) -> tuple[tuple[int, int], ...]:
    """Return the AR4SI vector of accepted claims: (key, value), sorted by key."""
    opaque = CONTRAINDICATED if claims.debug or claims.rooted.debug else AFFIRMING
    tcb = claims.rooted.tcb
    hardware = AFFIRMING if tcb is None or tcb.status == UP_TO_DATE else WARNING
    vector = ((0, AFFIRMING), (1, opaque), (2, _APPROVED_AT_BOOT), (4, hardware), (5, opaque))
    return vector[:-1] if claims.rooted.tee is Tee.TPM else vector


def tier(vector: tuple[tuple[int, int], ...]) -> int:
    """Return the AR4SI tier of a vector's worst value: 2, 32 or 96."""
    worst = max([value for _, value in vector])
    if worst < WARNING:
        return AFFIRMING
    return WARNING if worst < CONTRAINDICATED else CONTRAINDICATED


def body_measurements(claims: Claims, workload: Workload | None = None) -> tuple[tuple[str, bytes], ...]:
    """Return what the leaf says of the TEE's body: (vendor field name, value), sorted by name.

    Of a TPM's registers, those that the entry speaks of: a leaf has no room for all, and nobody judged the others.

    Numbers are big-endian, words ASCII. What a body does not have (`mr_service_td` in TDX 1.0, a register of zero) is
    left out.
    """
    keys = _MEASURED[claims.tee]
    if claims.tee is Tee.TPM and workload is not None:
        spoken_of = {*workload.pins, *(rule.register for rule in workload.events), EK_ROOT}
        keys = tuple([key for key in keys if key.name in spoken_of])
    found = [(key, claim_of(claims.body, key.claim)) for key in keys]
    return tuple([(key.claim, _as_bytes(value, key.size)) for key, value in found if value is not None])


def _as_bytes(value: Claim, size: int) -> bytes:
    if isinstance(value, int):
        return value.to_bytes(size)
    return value.encode() if isinstance(value, str) else value


def code_measurements(claims: Claims) -> tuple[bytes, ...]:
    """Return the code measurements that a ledger entry lists, such as MRENCLAVE, or MRTD and RTMR0 to 3."""
    found = [claim_of(claims.body, name) for name in _CODE[claims.tee]]
    return tuple([value for value in found if isinstance(value, bytes)])


def leaf_claims(
    claims: Claims,
    request: Request,
    expected: Expected,
    what: ExpectedClaims,
    *,
    workload: Workload | None,
    ledger: str,
) -> LeafClaims:
    """Put together what the proxy vouches for in one leaf.

    Args:
        claims: as appraised.
        request: whose key origin the entry accepts.
        expected: the leaf as it was decided.
        what: its claims as they were decided.
        workload: the entry that decided, or None.
        ledger: the ledger's origin.
    """
    vector, tcb, body = trust_vector(claims), claims.tcb, claims.body
    return LeafClaims(
        issued_at=expected.now,
        expires_at=life(expected)[1],
        nonce=what.nonce,
        build=__version__,
        tee=claims.tee,
        status=tier(vector),
        vector=vector,
        policy_digest=what.policy_digest,
        spki=expected.spki,
        anchor=claims.anchor,
        key_origin=request.runtime.key_origin,
        measurements=body_measurements(claims, workload),
        signer=getattr(body, "mr_signer", None),
        product_id=getattr(body, "isv_prod_id", None),
        svn=getattr(body, "isv_svn", None),
        debug=claims.debug,
        tcb_status=None if tcb is None else tcb.status,
        tcb_date=None if tcb is None else int(tcb.date.timestamp()),
        tcb_evaluation_number=None if tcb is None else tcb.evaluation_number,
        advisories=() if tcb is None else tcb.advisories,
        application_sha256=what.application_sha256,
        owner="" if workload is None else str(workload.owner.kind),
        evidence_sha256=claims.evidence_sha256,
        ledger_origin=ledger,
        simulated=what.simulated,
    )


def leaf_row(
    kind: EntryKind, serial: bytes, expected: Expected, claims_set: bytes | None, session: bytes | None, **said: Any
) -> Row:
    """Build the to-be-signed bytes of a leaf, judge them, and return them as the row that is to be committed.

    Args:
        kind: of its ledger entry.
        serial: 20 bytes, the top bit clear.
        expected: as decided.
        claims_set: for the extension id-pe-cmw, or None.
        session: its id, 16 bytes, or None.
        **said: the fields of the ledger entry that do not follow from these.

    Raises:
        UnavailableError: `authority.lifetime`, when nothing of its life would be left; `authority.profile`, see
            `check.check_leaf`, and when the entry does not fit its format.
    """
    begin, end = life(expected)
    if end <= expected.now:
        raise UnavailableError(Code.AUTHORITY_LIFETIME, f"nothing is left of {end - expected.now} s")
    tbs = profile.leaf_tbs(
        serial=serial,
        issuer=expected.issuer,
        authority_key_id=expected.authority_key_id,
        validity=(begin, end),
        spki=expected.spki,
        names=expected.names,
        extension=None if claims_set is None else encode_extension(claims_set),
    )
    check_leaf(tbs, expected)
    entry = LedgerEntry(
        kind=kind,
        serial=serial,
        tbs_sha256=hashlib.sha256(tbs).digest(),
        not_before=begin,
        not_after=end,
        spki_sha256=spki_sha256(expected.spki),
        names_sha256=names_digest(expected.names),
        **said,
    )
    try:
        encoded = encode_entry(entry)
    except FormatError as error:
        raise UnavailableError(Code.AUTHORITY_PROFILE, error.detail) from error
    return Row(kind, encoded, tbs, begin, end, entry.spki_sha256, session, entry.request_sha256, claims_set)
