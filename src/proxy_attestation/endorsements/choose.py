"""Which set of collateral for this evidence, at this time? A choice by what the sets say; `appraise` verifies it."""

from collections.abc import Sequence
from datetime import datetime
from typing import Final, TypeAlias

from cryptography import x509

from proxy_attestation.appraisal.endorsements import DcapEndorsements
from proxy_attestation.codes import Code
from proxy_attestation.endorsements.peek import peek_crl, peek_qe_identity, peek_tcb_info
from proxy_attestation.errors import FormatError
from proxy_attestation.formats import pem
from proxy_attestation.formats.bounds import CERTIFICATE_MAX
from proxy_attestation.formats.dcap_quote import PCK_CHAIN, PCK_LEAF, Quote
from proxy_attestation.formats.pck import SGX_EXTENSION, decode_pck_extension
from proxy_attestation.formats.tee import Tee

_Rank: TypeAlias = tuple[bool, int, int, int, datetime]
_UNREADABLE: Final = (
    ValueError,
    TypeError,
    x509.InvalidVersion,
    x509.ExtensionNotFound,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    FormatError,
)


def choose_set(
    sets: Sequence[DcapEndorsements], tee: Tee, fmspc: bytes | None, pck_issuer: str | None, now: datetime
) -> DcapEndorsements | None:
    """Return the set for a platform: valid now if there is one, of the highest evaluation number.

    Args:
        sets: as `load_endorsements` returns them. A single one is returned whatever it is for: appraisal then says
            exactly what does not fit.
        tee: of the evidence.
        fmspc: 6 bytes, of the platform's PCK certificate; None where the evidence does not have it.
        pck_issuer: the issuer of the platform's PCK certificate as RFC 4514 text, or None.
        now: the time of the appraisal.

    Returns:
        The set, or None where several are given and none is for this platform.
    """
    if len(sets) == 1:
        return sets[0]
    ranked = [(_rank(item, pck_issuer, now), item) for item in sets if _fits(item, tee, fmspc)]
    return max(ranked, key=lambda pair: pair[0], default=(None, None))[1]


def _fits(item: DcapEndorsements, tee: Tee, fmspc: bytes | None) -> bool:
    if item.tcb_info is None:
        return False
    info = peek_tcb_info(item.tcb_info)
    return info.tee is tee and (fmspc is None or info.fmspc == fmspc)


def _rank(item: DcapEndorsements, pck_issuer: str | None, now: datetime) -> _Rank:
    """Return what the best set has most of: the platform's own CRL, valid pieces, evaluation numbers, youth."""
    windows: list[tuple[datetime, datetime]] = []
    numbers = [-1, -1]
    youth = now
    crl_fits = False
    if item.tcb_info is not None:
        info = peek_tcb_info(item.tcb_info)
        windows.append(info.window)
        numbers[0], youth = info.evaluation_number, info.window[0]
    if item.qe_identity is not None:
        identity = peek_qe_identity(item.qe_identity)
        windows.append(identity.window)
        numbers[1] = identity.evaluation_number
    if item.pck_crl is not None:
        issuer, window = peek_crl(item.pck_crl)
        windows.append(window)
        crl_fits = pck_issuer is None or issuer == pck_issuer
    if item.root_ca_crl is not None:
        windows.append(peek_crl(item.root_ca_crl)[1])
    valid = sum(start <= now <= end for start, end in windows)
    return crl_fits, valid, numbers[0], numbers[1], youth


def platform_of(
    quote: Quote, platform_certificates: tuple[bytes, ...], sets: tuple[DcapEndorsements, ...]
) -> tuple[bytes | None, str | None]:
    """Read, without verifying anything, which platform a quote says it is from: only to choose its collateral.

    Returns:
        FMSPC (6 bytes) and the issuer of its PCK certificate as RFC 4514 text; None for what it does not say.
    """
    candidates: list[bytes] = list(platform_certificates)
    texts = [quote.certification_data] if quote.certification_type in (PCK_LEAF, PCK_CHAIN) else []
    texts += [chain for item in sets if (chain := item.pck_certificate_chain) is not None]
    for text in texts:
        try:
            code = Code.EVIDENCE_MALFORMED
            candidates += pem.decode_pem(text, pem.CERTIFICATE, code, count=8, limit=CERTIFICATE_MAX)
        except FormatError:
            continue
    for der in candidates:
        try:
            certificate = x509.load_der_x509_certificate(der)
            extension = certificate.extensions.get_extension_for_oid(SGX_EXTENSION).value
            if isinstance(extension, x509.UnrecognizedExtension):
                fmspc = decode_pck_extension(extension.value, Code.EVIDENCE_MALFORMED).fmspc
                return fmspc, certificate.issuer.rfc4514_string()
        except _UNREADABLE:
            continue
    return None, None
