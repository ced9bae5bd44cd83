"""All kinds of evidence under one roof: what is read first, and which walk judges it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Final, TypeAlias

from proxy_attestation.appraisal.azure import HardwareLayer, hardware_layer
from proxy_attestation.appraisal.bodies import parse_body
from proxy_attestation.appraisal.claims import Body, Claims, HardwareClaims, TdxClaims
from proxy_attestation.appraisal.dcap import DcapAppraiser
from proxy_attestation.appraisal.dcap_collateral import DcapCollateral, verify_collateral
from proxy_attestation.appraisal.endorsements import DcapEndorsements, Floor, SnpEndorsements
from proxy_attestation.appraisal.event_log import replay_td
from proxy_attestation.appraisal.layers import judgeable
from proxy_attestation.appraisal.nitro import appraise_nitro, check_fresh
from proxy_attestation.appraisal.nitro_claims import claims_of
from proxy_attestation.appraisal.roots import Roots
from proxy_attestation.appraisal.snp import SnpResult, appraise_snp, line_of
from proxy_attestation.appraisal.snp_claims import SnpClaims, snp_claims
from proxy_attestation.appraisal.snp_collateral import SnpCollateral, floor_of, verify_snp_collateral
from proxy_attestation.appraisal.tpm import Activation, TpmEndorsements, TpmResult, appraise_tpm
from proxy_attestation.appraisal.tpm_body import tpm_body
from proxy_attestation.appraisal.tpm_chain import TpmRoots
from proxy_attestation.codes import Code
from proxy_attestation.errors import AppraisalError, FormatError, UnavailableError
from proxy_attestation.formats.bounds import TIME_MAX
from proxy_attestation.formats.dcap_quote import Quote, decode_quote
from proxy_attestation.formats.nitro import NitroDocument, decode_nitro
from proxy_attestation.formats.snp_report import SnpReport, decode_snp_report
from proxy_attestation.formats.tee import Tee
from proxy_attestation.formats.tpm_evidence import TpmEvidence, decode_tpm

Endorsements: TypeAlias = DcapEndorsements | SnpEndorsements
"""A set of endorsements that a proxy keeps, as it was read."""
Collateral: TypeAlias = DcapCollateral | SnpCollateral
"""A set that was verified."""
Parsed: TypeAlias = Quote | SnpReport | NitroDocument
"""Evidence that was read and not yet believed; `bound` is what a binder must equal."""
ParsedOrTpm: TypeAlias = Parsed | TpmEvidence

_NITRO_AGE: Final = timedelta(seconds=120)
"""A document answers a challenge, which lives no longer (`authority.token.CHALLENGE_LIFETIME`)."""
_DECODERS: Final[Mapping[Tee, Callable[[bytes], ParsedOrTpm]]] = {
    Tee.SGX: decode_quote,
    Tee.TDX: decode_quote,
    Tee.SNP: decode_snp_report,
    Tee.NITRO: decode_nitro,
    Tee.TPM: decode_tpm,
}


def verify_endorsements(endorsements: Endorsements, roots: Roots, now: datetime) -> Collateral:
    """Verify a set by itself, as its vendor's walk does.

    Raises:
        FormatError, AppraisalError: as `verify_collateral` and `verify_snp_collateral` say.
    """
    if isinstance(endorsements, SnpEndorsements):
        return verify_snp_collateral(endorsements, roots, now)
    return verify_collateral(endorsements, roots, now)


def platform_of(claims: Claims) -> bytes | None:
    """Return what the collateral behind claims is kept for: an FMSPC, a processor line; None where there is none."""
    rooted = claims.rooted
    if isinstance(rooted.body, SnpClaims):
        return (rooted.body.product or "").encode()
    return None if rooted.tcb is None else rooted.tcb.fmspc


def decode_evidence_of(tee: Tee, data: bytes) -> ParsedOrTpm:
    """Read evidence of a kind.

    Raises:
        FormatError, AppraisalError: as the decoder of that kind says.
    """
    return _DECODERS[tee](data)


def tee_of(evidence: ParsedOrTpm) -> Tee:
    """Return the kind of TEE that evidence says it comes from."""
    if isinstance(evidence, Quote):
        return evidence.tee
    if isinstance(evidence, SnpReport):
        return Tee.SNP
    return Tee.NITRO if isinstance(evidence, NitroDocument) else Tee.TPM


def body_of(evidence: ParsedOrTpm) -> Body:
    """Return what evidence says of its TEE; nothing vouches for it yet.

    Raises:
        FormatError: `evidence.unknown`, for a TPM's, which says nothing before its registers are known to be its own.
    """
    if isinstance(evidence, TpmEvidence):
        raise FormatError(Code.EVIDENCE_UNKNOWN, "a TPM's evidence in a place where it is not expected")
    if isinstance(evidence, Quote):
        return parse_body(evidence)
    return snp_claims(evidence) if isinstance(evidence, SnpReport) else claims_of(evidence)


def snp_result_claims(result: SnpResult) -> Claims:
    """Return the outcome of the SNP walk as claims."""
    return Claims(
        tee=Tee.SNP,
        body=result.body,
        bound=result.bound,
        debug=result.body.debug,
        tcb=None,
        instance_id=result.instance_id,
        anchor=result.anchor,
        evidence_sha256=result.evidence_sha256,
        valid_until=result.valid_until,
    )


def tpm_result_claims(result: TpmResult) -> Claims:
    """Return the outcome of the TPM walk as claims. An AK that was named for one run has no CA, and matches no pin."""
    below = None if result.hardware is None else result.hardware.claims
    return Claims(
        tee=Tee.TPM,
        body=tpm_body(result.body, result.anchor),
        bound=result.bound,
        debug=below is not None and below.debug,
        tcb=None,
        instance_id=result.instance_id,
        anchor=result.anchor,
        evidence_sha256=result.evidence_sha256,
        valid_until=result.valid_until or datetime.fromtimestamp(TIME_MAX, UTC),
        layers=judgeable(result.body.layers),
        hardware=None if below is None else HardwareClaims(below.tee, below.body, below.debug, below.tcb),
    )


@dataclass(frozen=True, slots=True)
class Beside:
    """What came with evidence, or stands in its session.

    Attributes:
        event_log: as the firmware gave it, or None.
        activation: of a TPM's session, or None.
        spki: DER of the key that a certificate is asked for, or None outside of a request.
    """

    event_log: bytes | None = None
    activation: Activation | None = None
    spki: bytes | None = None


_NOTHING: Final = Beside()


class Appraiser:
    """The walks of every kind, over the endorsements in use. Not for several threads at once."""

    def __init__(self, roots: Roots, collateral: Mapping[tuple[Tee, bytes], Collateral]) -> None:
        intel = {key: one for key, one in collateral.items() if isinstance(one, DcapCollateral)}
        self._roots = roots
        self._dcap = DcapAppraiser(roots, intel)
        self._amd = {one.product: one.endorsements for one in collateral.values() if isinstance(one, SnpCollateral)}

    def appraise(
        self, evidence: ParsedOrTpm, platform_certificates: tuple[bytes, ...], now: datetime, beside: Beside = _NOTHING
    ) -> tuple[Claims, Floor | None]:
        """Appraise evidence.

        Args:
            evidence: as read.
            platform_certificates: DER, that came with it.
            now: aware, UTC.
            beside: what else came with it.

        Returns:
            The claims, and the numbers of the collateral that they rest on, where there is any.

        Raises:
            FormatError, AppraisalError, UnavailableError: as the walk of that kind says.
        """
        if isinstance(evidence, TpmEvidence):
            return self._appraise_tpm(evidence, platform_certificates, now, beside)
        if beside.event_log is not None and tee_of(evidence) is not Tee.TDX:
            raise FormatError(Code.EVIDENCE_UNKNOWN, f"an event log, and no register of {tee_of(evidence)} to lead to")
        if isinstance(evidence, NitroDocument):
            claims = appraise_nitro(evidence, self._roots, now)
            check_fresh(evidence.timestamp_ms, now, _NITRO_AGE)
            return claims, None
        if isinstance(evidence, SnpReport):
            return self._appraise_snp(evidence, platform_certificates, now)
        claims, floor = self._dcap.appraise(evidence, platform_certificates, now)
        if beside.event_log is not None and isinstance(claims.body, TdxClaims):
            claims = replace(claims, layers=judgeable(replay_td(beside.event_log, claims.body)))
        return claims, floor

    def _appraise_tpm(
        self, evidence: TpmEvidence, certificates: tuple[bytes, ...], now: datetime, beside: Beside
    ) -> tuple[Claims, Floor | None]:
        floors: list[Floor | None] = []

        def verify(kind: str, data: bytes) -> HardwareLayer:
            found = decode_snp_report(data) if kind == "SNP" else decode_quote(data)
            claims, floor = self.appraise(found, certificates, now)
            floors.append(floor)
            return hardware_layer(claims)

        given = TpmEndorsements(certificates, beside.activation, event_log=beside.event_log, hardware=verify)
        roots = TpmRoots(self._roots.tpm)
        result = appraise_tpm(evidence, given, roots, now, csr_spki=beside.spki)
        return tpm_result_claims(result), floors[0] if floors else None

    def _appraise_snp(
        self, report: SnpReport, certificates: tuple[bytes, ...], now: datetime
    ) -> tuple[Claims, Floor | None]:
        line = line_of(report, certificates)
        amd = self._amd.get(line, SnpEndorsements())
        try:
            result = appraise_snp(
                report, amd, self._roots.amd, None, now, platform_certificates=certificates, crl_required=True
            )
        except AppraisalError as error:
            # Lists and issuers are the proxy's to have: that they are absent or too old says nothing about the report.
            brought = bool(certificates or report.certificates.certificates)
            no_issuers = error.code is Code.SNP_ENDORSEMENTS_MISSING and brought and line not in self._amd
            if error.code in (Code.SNP_CRL_MISSING, Code.SNP_CRL_EXPIRED) or no_issuers:
                raise UnavailableError(Code.ENDORSEMENTS_UNAVAILABLE, error.detail) from error
            raise
        return snp_result_claims(result), None if result.floor is None else floor_of(result.floor)
