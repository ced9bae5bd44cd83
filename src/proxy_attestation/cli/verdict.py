"""One off-line verdict: appraise, then compare with what was demanded, and say so."""

from dataclasses import dataclass, replace
from datetime import datetime

import click

from proxy_attestation.appraisal.claims import Body, Claims, TdxClaims, body_to_json, claims_to_json
from proxy_attestation.appraisal.dcap import appraise
from proxy_attestation.appraisal.dcap_collateral import issuer_pool
from proxy_attestation.appraisal.endorsements import DcapEndorsements
from proxy_attestation.appraisal.event_log import replay_td
from proxy_attestation.appraisal.kinds import Parsed, body_of, snp_result_claims
from proxy_attestation.appraisal.nitro import appraise_nitro
from proxy_attestation.appraisal.pck_chain import find_chain, verify_pck_chain
from proxy_attestation.appraisal.refusal import EvidenceRefusedError
from proxy_attestation.appraisal.roots import Roots
from proxy_attestation.appraisal.snp import appraise_snp, appraise_vek
from proxy_attestation.appraisal.snp_claims import vek_to_json
from proxy_attestation.cli.acceptance import Acceptance, judge_claims
from proxy_attestation.cli.demands import check_demands, show_value
from proxy_attestation.cli.evidence_file import Given, read_evidence
from proxy_attestation.codes import Code
from proxy_attestation.endorsements.choose import choose_set, platform_of
from proxy_attestation.endorsements.detect_snp import SnpKind, detect_snp, snp_endorsements
from proxy_attestation.endorsements.load import Material
from proxy_attestation.errors import AppraisalError, FormatError, Mismatch, ProxyAttestationError
from proxy_attestation.explanations import EXPLANATIONS
from proxy_attestation.formats.dcap_quote import Quote
from proxy_attestation.formats.ra_tls import require_bound
from proxy_attestation.formats.snp_report import SnpReport
from proxy_attestation.formats.tee import debug_code


@dataclass(frozen=True, slots=True)
class Verdict:
    """The outcome.

    Attributes:
        code: None means accepted.
        detail: one line for the local user.
        mismatches: everything that was demanded and is not so.
        claims: values that a checked signature covers, as JSON; None where none does.
        unverified: what the evidence says of itself, where no checked signature covers it.
        workload: the policy's entry that decided, or None.
        exit_status: 0 accepted, 3 refused, 4 malformed.
    """

    code: Code | None
    detail: str
    mismatches: tuple[Mismatch, ...]
    claims: dict[str, object] | None
    unverified: dict[str, object] | None
    workload: str | None
    exit_status: int


def judge(data: bytes, material: Material, roots: Roots, now: datetime, acceptance: Acceptance) -> Verdict:
    """Appraise evidence and decide. Never raises for what the evidence or its endorsements are.

    A certificate may hold several pieces of evidence: each must be about its key and accepted, and the verdict is that
    of the first one that is not, or of the first one.
    """
    try:
        pieces = read_evidence(data)
    except (AppraisalError, FormatError) as error:
        return _vek_verdict(data, material, roots, now, acceptance) or refused(error, acceptance)
    verdicts = [_judge(given, material, roots, now, acceptance) for given in pieces]
    return next((verdict for verdict in verdicts if verdict.code is not None), verdicts[0])


def _judge(given: Given, material: Material, roots: Roots, now: datetime, acceptance: Acceptance) -> Verdict:
    evidence = given.evidence
    endorsements: DcapEndorsements | None = None
    try:
        if given.embedded is not None:
            require_bound(given.embedded, evidence.bound)
        if isinstance(evidence, Quote):
            endorsements = _choose(given, evidence, material, now)
        claims = _appraise(given, endorsements, material, roots, now)
    except EvidenceRefusedError as error:
        signed = _signed_claims(evidence, error.body) | _platform_claims(given, endorsements, roots, now)
        return refused(
            _with_debug(error, error.body, acceptance), acceptance, claims=signed, unverified=_csr_key(given)
        )
    except (AppraisalError, FormatError) as error:
        body = body_of(evidence)
        unverified = _signed_claims(evidence, body) | (_csr_key(given) or {})
        return refused(_with_debug(error, body, acceptance), acceptance, unverified=unverified)
    mismatches = tuple(_mismatches(claims, acceptance))
    return Verdict(
        code=mismatches[0].code if mismatches else None,
        detail="",
        mismatches=mismatches,
        claims=claims_to_json(claims),
        unverified=_csr_key(given),
        workload=acceptance.workload.name if acceptance.workload else None,
        exit_status=3 if mismatches else 0,
    )


def _csr_key(given: Given) -> dict[str, object] | None:
    """The key of a request: it signed the request, and off line nothing tells whether the evidence is about it."""
    return None if given.csr_spki_sha256 is None else {"csr_spki_sha256": given.csr_spki_sha256.hex()}


def _choose(given: Given, quote: Quote, material: Material, now: datetime) -> DcapEndorsements | None:
    fmspc, issuer = platform_of(quote, given.platform_certificates, material.dcap)
    return choose_set(material.dcap, quote.tee, fmspc, issuer, now)


def _appraise(
    given: Given, endorsements: DcapEndorsements | None, material: Material, roots: Roots, now: datetime
) -> Claims:
    evidence, certificates = given.evidence, given.platform_certificates
    if isinstance(evidence, Quote):
        claims = appraise(evidence.data, endorsements, roots, None, now, platform_certificates=certificates)
        if not material.event_logs or not isinstance(claims.body, TdxClaims):
            return claims
        if len(material.event_logs) > 1:
            raise FormatError(Code.TDX_EVENT_LOG_MALFORMED, f"{len(material.event_logs)} event logs beside one quote")
        return replace(claims, layers=replay_td(material.event_logs[0], claims.body))
    if isinstance(evidence, SnpReport):
        amd = snp_endorsements(material.amd, evidence)
        result = appraise_snp(
            evidence, amd, roots.amd, None, now, platform_certificates=certificates, crl_required=False
        )
        return snp_result_claims(result)
    return appraise_nitro(evidence, roots, now)


def _vek_verdict(
    data: bytes, material: Material, roots: Roots, now: datetime, acceptance: Acceptance
) -> Verdict | None:
    """Return the verdict on a VCEK or VLEK by itself, which is no evidence yet; None for anything else."""
    pieces = detect_snp(data, "EVIDENCE") or ()
    if [piece.kind for piece in pieces] != [SnpKind.VEK]:
        return None
    try:
        amd = snp_endorsements((*pieces, *material.amd))
        extensions, anchor = appraise_vek(amd, roots.amd, now, crl_required=False)
    except (AppraisalError, FormatError) as error:
        return refused(error, acceptance)
    claims = vek_to_json(extensions) | {"anchor_spki_sha256": anchor.hex()}
    mismatches = tuple(check_demands(claims, acceptance.demands))
    code = mismatches[0].code if mismatches else None
    return Verdict(code, "a certificate of AMD's, and no evidence", mismatches, claims, None, None, 3 if code else 0)


def refuse_input(error: ProxyAttestationError, data: bytes, acceptance: Acceptance) -> Verdict:
    """Return the verdict where endorsements or roots could not even be read; nothing vouches for the evidence then."""
    try:
        (given, *_) = read_evidence(data)
    except (AppraisalError, FormatError):
        return refused(error, acceptance)
    return refused(error, acceptance, unverified=_signed_claims(given.evidence, body_of(given.evidence)))


def refused(
    error: ProxyAttestationError,
    acceptance: Acceptance,
    *,
    claims: dict[str, object] | None = None,
    unverified: dict[str, object] | None = None,
) -> Verdict:
    """Return the verdict that an error is."""
    workload = acceptance.workload.name if acceptance.workload else None
    return Verdict(error.code, error.detail, (), claims or None, unverified or None, workload, error.exit_status)


def _with_debug(
    error: AppraisalError | FormatError, body: Body, acceptance: Acceptance
) -> AppraisalError | FormatError:
    """Debug can be told without endorsements: where only they are missing, its code wins."""
    if error.code != f"{body.tee}.endorsements_missing" or acceptance.debug_allowed or not body.debug:
        return error
    return AppraisalError(debug_code(body.tee), f"debug; and {error.detail}")


def _signed_claims(evidence: Parsed, body: Body) -> dict[str, object]:
    more = {"report_data": evidence.report_data.hex()} if isinstance(evidence, Quote) else {}
    return {"tee": str(body.tee), **body_to_json(body), **more}


def _platform_claims(
    given: Given, endorsements: DcapEndorsements | None, roots: Roots, now: datetime
) -> dict[str, object]:
    """Return what the platform's PCK certificate says, where its chain reaches a pinned root."""
    quote = given.evidence
    if not isinstance(quote, Quote):
        return {}
    fallback = None if endorsements is None else endorsements.pck_certificate_chain
    try:
        ders = find_chain(quote, given.platform_certificates, fallback)
        if not ders:
            return {}
        chain = verify_pck_chain(ders, quote.tee, roots=roots, now=now, pool=issuer_pool(endorsements, quote.tee))
    except (AppraisalError, FormatError):
        return {}
    if chain.root is None:
        return {}
    return {"fmspc": chain.extension.fmspc.hex(), "pce_id": chain.extension.pce_id.hex()}


def _mismatches(claims: Claims, acceptance: Acceptance) -> list[Mismatch]:
    found: list[Mismatch] = []
    if acceptance.tee not in (None, claims.tee):
        found.append(Mismatch(Code.POLICY_TEE, "tee", str(acceptance.tee), str(claims.tee)))
    found += judge_claims(claims, acceptance)
    return found + check_demands(claims_to_json(claims), acceptance.demands)


def verdict_to_json(verdict: Verdict) -> dict[str, object]:
    """Return a verdict as a JSON object. `workload` is there only where a policy decided."""
    result: dict[str, object] = {
        "verdict": "accepted" if verdict.code is None else "refused",
        "code": None if verdict.code is None else str(verdict.code),
        "mismatches": [
            {"code": str(m.code), "field": m.field, "expected": m.expected, "actual": m.actual}
            for m in verdict.mismatches
        ],
        "claims": verdict.claims,
        "unverified": verdict.unverified,
    }
    if verdict.workload is not None:
        result["workload"] = verdict.workload
    return result


def print_verdict(verdict: Verdict) -> None:
    """Print a verdict for people: the verdict first, then why, then the claims."""
    if verdict.code is None:
        click.echo("accepted")
    else:
        click.echo(f"refused: {verdict.code}")
        click.echo(f"  cause: {EXPLANATIONS[verdict.code].cause}")
        click.echo(f"  fix:   {EXPLANATIONS[verdict.code].fix}")
    if verdict.detail:
        click.echo(f"  detail: {verdict.detail}")
    if verdict.workload is not None:
        click.echo(f"  policy entry: {verdict.workload} (names, application and key origin are not judged off line)")
    for mismatch in verdict.mismatches:
        click.echo(
            f"  mismatch: {mismatch.code} {mismatch.field}: expected {mismatch.expected}, found {mismatch.actual}"
        )
    if verdict.claims is not None:
        _print_table("claims, each covered by a signature that was checked", verdict.claims)
    if verdict.unverified is not None:
        _print_table("UNVERIFIED: what the evidence says of itself; nothing vouches for it", verdict.unverified)


def _print_table(title: str, claims: dict[str, object]) -> None:
    click.echo(f"{title}:")
    width = max(map(len, claims))
    for name, value in claims.items():
        click.echo(f"  {name:<{width}}  {show_value(value)}")
