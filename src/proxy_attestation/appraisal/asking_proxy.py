"""May this proxy have an authority's keys? Its request, evidence and the signers' statement, against an authority.

`check_asking`, in order; each step below is tagged with its number:

 1. The authority has signers, since nobody else can say which code may have its keys: `keys.no_signers`.
 2. The request is for this purpose and about this authority's first root: `keys.asked_purpose`, `keys.asked_other`.
 3. The nonce is the one that was given out, where one was: `keys.asked_nonce`.
 4. The evidence carries the binder of the request's own values: `keys.binder`, before any signature is checked.
 5. The evidence is genuine: the codes of the vendor's walk. A TPM's is never taken (`evidence.unknown`): whose
    attestation key made a quote only he can tell who made the credential.
 6. What was appraised is what was read: `keys.binder` again.
 7. It is no debug TEE, and its platform is in a state that is accepted: `keys.debug`, `keys.tcb`.
 8. Enough signers have signed the statement: `note.*`, `proxy.statement_malformed`, `proxy.statement_signatures`.
 9. It is about this trust domain, root and ledger: `proxy.statement_other`.
10. It names what was measured: `proxy.statement_measurement`.

Whoever runs this still has to seal to the key of the request that was checked, and to no other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from proxy_attestation.appraisal.claims import Claims, claim_of
from proxy_attestation.appraisal.dcap import appraise
from proxy_attestation.appraisal.endorsements import DcapEndorsements, Floor, SnpEndorsements
from proxy_attestation.appraisal.kinds import decode_evidence_of, snp_result_claims, tee_of
from proxy_attestation.appraisal.nitro import appraise_nitro
from proxy_attestation.appraisal.roots import Roots
from proxy_attestation.appraisal.snp import appraise_snp
from proxy_attestation.codes import Code
from proxy_attestation.errors import AppraisalError, RefusedError
from proxy_attestation.formats.dcap_quote import Quote
from proxy_attestation.formats.deployment import check_about, verify_deployment
from proxy_attestation.formats.key_transfer import KeyRequest, Purpose
from proxy_attestation.formats.nitro import NitroDocument
from proxy_attestation.formats.signed_note import Verifier
from proxy_attestation.formats.snp_report import SnpReport

TCB_ACCEPTED: Final = frozenset({"UpToDate"})
"""What a platform must be that gets an authority's keys, where nobody decides otherwise."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The authority whose keys are asked for.

    Attributes:
        trust_domain: the SPIFFE trust domain.
        root: SHA-256 of its first root's SubjectPublicKeyInfo, 32 bytes.
        ledger_origin: the name of its log's key.
        signers: who sign its deployment statements.
        threshold: how many of them must have.
        roots: what evidence may chain to.
        nonce: that was given out, 32 bytes; None where custodians are asked, who give none.
        tcb: accepted states of a platform whose vendor has words for them.
    """

    trust_domain: str
    root: bytes
    ledger_origin: str
    signers: Sequence[Verifier]
    threshold: int
    roots: Roots
    nonce: bytes | None = None
    tcb: frozenset[str] = TCB_ACCEPTED


def check_asking(
    request: KeyRequest,
    statement: bytes,
    asked: Asked,
    endorsements: DcapEndorsements | SnpEndorsements | None,
    now: datetime,
    *,
    floor: Floor | None = None,
) -> Claims:
    """Check a request as the module says.

    Args:
        request: as it was read.
        statement: the deployment statement, a signed note; it may be newer than the one in force and name another
            measurement: that is how a proxy is upgraded.
        asked: the authority.
        endorsements: the vendor's collateral for the asking platform; None for a vendor that has none.
        now: aware, UTC.
        floor: the oldest of Intel's collateral that may be used, or None.

    Returns:
        The claims of the asking proxy.

    Raises:
        FormatError, AppraisalError, RefusedError: with the code of the first step that fails.
    """
    # 1.
    if not asked.signers or asked.threshold < 1:
        raise RefusedError(Code.KEYS_NO_SIGNERS)
    # 2.
    if request.purpose is not (Purpose.RECOVERY if asked.nonce is None else Purpose.HAND_OVER):
        raise RefusedError(Code.KEYS_ASKED_PURPOSE, f"it is for {request.purpose.name}")
    if request.root != asked.root:
        raise RefusedError(Code.KEYS_ASKED_OTHER, f"it is about the root {request.root.hex()}")
    # 3.
    if asked.nonce is not None and request.nonce != asked.nonce:
        raise RefusedError(Code.KEYS_ASKED_NONCE, "another nonce than the one that was given out last")
    # 4.
    binding = request.binding
    parsed = decode_evidence_of(request.tee, request.evidence)
    if tee_of(parsed) is not request.tee or not binding.is_in(request.tee, parsed.bound):
        raise RefusedError(Code.KEYS_BINDER, "the evidence is bound to something else")
    # 5.
    certificates = request.platform_certificates
    if isinstance(parsed, Quote):
        intel = endorsements if isinstance(endorsements, DcapEndorsements) else None
        claims = appraise(parsed.data, intel, asked.roots, floor, now, platform_certificates=certificates)
    elif isinstance(parsed, SnpReport):
        amd = endorsements if isinstance(endorsements, SnpEndorsements) else SnpEndorsements()
        claims = snp_result_claims(
            appraise_snp(parsed, amd, asked.roots.amd, None, now, platform_certificates=certificates, crl_required=True)
        )
    elif isinstance(parsed, NitroDocument):
        claims = appraise_nitro(parsed, asked.roots, now)
    else:
        raise AppraisalError(Code.EVIDENCE_UNKNOWN, "a TPM's quote: only who made its challenge can tell whose it is")
    # 6.
    if claims.tee is not request.tee or not binding.is_in(claims.tee, claims.bound):
        raise RefusedError(Code.KEYS_BINDER, "what was appraised is bound to something else than what was read")
    # 7.
    if claims.debug:
        raise RefusedError(Code.KEYS_DEBUG)
    if claims.tcb is not None and claims.tcb.status not in asked.tcb:
        raise RefusedError(Code.KEYS_TCB, f"{claims.tcb.status}, not {', '.join(sorted(asked.tcb))}")
    # 8.
    found = verify_deployment(statement, asked.signers, asked.threshold)
    # 9.
    ledger_key = found.ledger_key if found.ledger_key.startswith(f"{asked.ledger_origin}+") else asked.ledger_origin
    check_about(found, asked.trust_domain, asked.root, ledger_key)
    # 10.
    accepted = found.accepted(claims.tee)
    wrong = [field for field, values in accepted.items() if claim_of(claims.body, field) not in values]
    if wrong or not accepted:
        raise RefusedError(Code.PROXY_STATEMENT_MEASUREMENT, ", ".join(wrong) or f"nothing of {claims.tee}")
    return claims
