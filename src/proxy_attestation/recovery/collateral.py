"""Which collateral a request is judged by: chosen here, verified by whoever judges."""

from datetime import datetime

from proxy_attestation.appraisal.kinds import Endorsements, decode_evidence_of
from proxy_attestation.endorsements.choose import choose_set, platform_of
from proxy_attestation.endorsements.detect_snp import snp_endorsements
from proxy_attestation.endorsements.load import Material
from proxy_attestation.formats.dcap_quote import Quote
from proxy_attestation.formats.key_transfer import KeyRequest
from proxy_attestation.formats.snp_report import SnpReport


def collateral_for(request: KeyRequest, material: Material, now: datetime) -> Endorsements | None:
    """Return the set for the asking platform; None for a vendor that has none.

    Raises:
        FormatError, AppraisalError: for evidence that cannot be read.
    """
    parsed = decode_evidence_of(request.tee, request.evidence)
    if isinstance(parsed, Quote):
        fmspc, issuer = platform_of(parsed, request.platform_certificates, material.dcap)
        return choose_set(material.dcap, parsed.tee, fmspc, issuer, now)
    return snp_endorsements(material.amd, parsed) if isinstance(parsed, SnpReport) else None
