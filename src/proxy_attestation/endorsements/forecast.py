"""What will collateral that is coming say of platforms that are seen today? Pure.

Intel publishes a TCB recovery first under `update=early`; months later it becomes `standard`, and platforms that were
not updated until then are OutOfDate. A platform here is a quote, judged in full, or a PCK certificate, judged by its
SVNs: for TDX that leaves out the TDX module and the TDX components.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.x509.oid import NameOID

from proxy_attestation.appraisal.dcap import appraise
from proxy_attestation.appraisal.dcap_collateral import issuer_pool
from proxy_attestation.appraisal.dcap_steps import check_platform
from proxy_attestation.appraisal.endorsements import DcapEndorsements
from proxy_attestation.appraisal.pck_chain import find_chain, verify_pck_chain
from proxy_attestation.appraisal.roots import Roots
from proxy_attestation.appraisal.tcb import match_levels
from proxy_attestation.codes import Code
from proxy_attestation.endorsements.detect import load_certificate
from proxy_attestation.endorsements.pcs import verified
from proxy_attestation.errors import FormatError, ProxyAttestationError
from proxy_attestation.formats.bounds import CERTIFICATE_MAX, PCK_CHAIN_MAX
from proxy_attestation.formats.dcap_codes import DcapFault, dcap_code
from proxy_attestation.formats.dcap_collateral import TcbStatus
from proxy_attestation.formats.dcap_quote import decode_quote
from proxy_attestation.formats.pck import SGX_EXTENSION, decode_pck_extension
from proxy_attestation.formats.pem import CERTIFICATE, decode_pem, is_pem
from proxy_attestation.formats.tee import Tee, tcb_status_code

_REFUSED: Final = frozenset({TcbStatus.OUT_OF_DATE, TcbStatus.OUT_OF_DATE_CONFIGURATION_NEEDED, TcbStatus.REVOKED})
_DER_SEQUENCE: Final = b"\x30"
_UNREADABLE: Final = (ValueError, TypeError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType)


@dataclass(frozen=True, slots=True)
class Platform:
    """A platform that was seen.

    Attributes:
        label: for people: where it was found.
        tee: what it runs.
        fmspc: 6 bytes.
        ca: `platform` or `processor`, from the PCK certificate's issuer.
        certificates: DER, PCK certificate first.
        quote: raw; empty for a certificate alone.
    """

    label: str
    tee: Tee
    fmspc: bytes
    ca: str
    certificates: tuple[bytes, ...]
    quote: bytes = b""


@dataclass(frozen=True, slots=True)
class Outlook:
    """How one set of collateral judges a platform.

    Attributes:
        status: Intel's word; empty where it got none.
        code: of the refusal, or None where it would be accepted as far as the TCB goes.
        detail: of the refusal.
        evaluation_number: of the set; -1 where the set itself was refused.
        advisories: of the matched level.
    """

    status: str
    code: Code | None
    detail: str = ""
    evaluation_number: int = -1
    advisories: tuple[str, ...] = ()


def read_platform(label: str, data: bytes, tee: Tee) -> Platform:
    """Read a quote (raw), or a PCK certificate (DER, or PEM with or without its issuers).

    Args:
        label: for messages.
        data: the bytes.
        tee: what a certificate alone is for; a quote says so itself.

    Raises:
        FormatError: `evidence.malformed`, for bytes that are neither, or a quote without certificates; and as
            `decode_quote`.
        AppraisalError: as `decode_quote`.
    """
    if is_pem(data):
        certificates = decode_pem(
            data, CERTIFICATE, Code.EVIDENCE_MALFORMED, count=PCK_CHAIN_MAX, limit=CERTIFICATE_MAX
        )
        return _platform(label, tee, certificates, b"")
    if data[:1] == _DER_SEQUENCE and len(data) <= CERTIFICATE_MAX:
        return _platform(label, tee, (data,), b"")
    quote = decode_quote(data)
    if not quote.has_chain:
        raise FormatError(Code.EVIDENCE_MALFORMED, f"{label}: a quote without PCK certificate")
    return _platform(label, quote.tee, find_chain(quote, (), None), data)


def _platform(label: str, tee: Tee, certificates: tuple[bytes, ...], quote: bytes) -> Platform:
    certificate = load_certificate(certificates[0])
    try:
        if certificate is None:
            raise FormatError(Code.EVIDENCE_MALFORMED, f"{label}: not a certificate")
        found = [item.value for item in certificate.extensions if item.oid == SGX_EXTENSION]
        fmspc = decode_pck_extension(found[0].value, Code.EVIDENCE_MALFORMED).fmspc
        issuer = certificate.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)
        ca = "platform" if issuer and "Platform" in str(issuer[0].value) else "processor"
    except (*_UNREADABLE, IndexError, AttributeError) as error:
        raise FormatError(Code.EVIDENCE_MALFORMED, f"{label}: not a PCK certificate") from error
    return Platform(label, tee, fmspc, ca, certificates, quote)


def judge(platform: Platform, pieces: DcapEndorsements, roots: Roots, now: datetime) -> Outlook:
    """Judge a platform by a set of collateral that was verified before.

    Raises:
        UnavailableError, RefusedError: as `pcs.verified`.
    """
    collateral = verified(platform.label, pieces, roots, now, platform.tee)
    number = collateral.tcb_info.evaluation_number
    advisories: tuple[str, ...]
    try:
        if platform.quote:
            tcb = appraise(platform.quote, pieces, roots, None, now).tcb
            status, advisories = ("", ()) if tcb is None else (tcb.status, tcb.advisories)
        else:
            pool = issuer_pool(pieces, platform.tee)
            chain = verify_pck_chain(platform.certificates, platform.tee, roots, now, pool=pool)
            check_platform(chain, collateral)
            level, _ = match_levels(collateral.tcb_info, chain.extension, None)
            if level is None:
                code = dcap_code(platform.tee, DcapFault.TCB_NOT_SUPPORTED)
                return Outlook("", code, "no TCB level is as low as this platform's", number)
            status, advisories = str(level.status), level.advisories
    except ProxyAttestationError as error:
        return Outlook("", error.code, error.detail, number)
    code_or_none = tcb_status_code(platform.tee) if status in _REFUSED else None
    return Outlook(status, code_or_none, "", number, advisories)


def outlook_to_json(outlook: Outlook) -> Mapping[str, object]:
    """Return an outlook as a JSON object."""
    return {
        "status": outlook.status or None,
        "code": None if outlook.code is None else str(outlook.code),
        "detail": outlook.detail,
        "evaluation_number": outlook.evaluation_number,
        "advisories": list(outlook.advisories),
    }
