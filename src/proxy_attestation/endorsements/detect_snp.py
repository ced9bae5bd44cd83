"""What is this file? AMD's endorsements told apart by content: bytes in, pieces out. No I/O, nothing verified.

Known: certificates and chains (DER, PEM, or DER as hex or base64 text) of VCEKs, VLEKs, ASKs, ASVKs and ARKs;
revocation lists of an ARK (likewise); and the certificate table of an extended report (configfs-tsm: auxblob), whose
revocation list is left out, since the host chose it.
"""

import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from cryptography import x509

from proxy_attestation.appraisal.endorsements import SnpEndorsements
from proxy_attestation.appraisal.snp_certificate import expecting_serial_zero, read_amd_certificate, signed_by
from proxy_attestation.appraisal.snp_chain import ARK_NAME, ArkPins
from proxy_attestation.codes import Code
from proxy_attestation.endorsements.detect import CHAIN_MAX, common_name, from_text
from proxy_attestation.endorsements.texts import thim_chain, without_remarks
from proxy_attestation.errors import AppraisalError, ConfigurationError, FormatError
from proxy_attestation.formats import pem
from proxy_attestation.formats.bounds import (
    COLLATERAL_DOCUMENT_MAX,
    PLATFORM_CERTIFICATES_MAX,
    SNP_CERTIFICATES_MAX,
    SNP_CRLS_MAX,
)
from proxy_attestation.formats.snp_certificates import decode_certificate_table, looks_like_certificate_table
from proxy_attestation.formats.snp_report import Product, SnpReport

_UNREADABLE: Final = (ValueError, TypeError, UserWarning, x509.InvalidVersion)
_CHIP_ID: Final = slice(0x1A0, 0x1E0)
_SHORT_CHIP_ID: Final = 8
_STORED_MAX: Final = SNP_CERTIFICATES_MAX - PLATFORM_CERTIFICATES_MAX - 4
"""Room is left for what a peer may send, beside its report and in the four entries of its table."""


class SnpKind(StrEnum):
    """What a piece is."""

    VEK = "VCEK or VLEK certificate"
    ISSUER = "ASK or ASVK certificate"
    ARK = "ARK certificate"
    CRL = "ARK's revocation list"


# By the end of the common name; in this order, since a VCEK's would pass for an ASK's.
_NAMES: Final = (
    (re.compile(r"\bSEV-V[CL]EK\Z"), SnpKind.VEK),
    (re.compile(r"\bSEV-(VLEK-)?[A-Z][a-z]+\Z"), SnpKind.ISSUER),
    (re.compile(rf"\b{ARK_NAME}[A-Z][a-z]+\Z"), SnpKind.ARK),
)


@dataclass(frozen=True, slots=True)
class SnpPiece:
    """One piece.

    Attributes:
        kind: what it is.
        data: DER.
        source: where it was found, for messages.
    """

    kind: SnpKind
    data: bytes
    source: str


def detect_snp(data: bytes, source: str) -> tuple[SnpPiece, ...] | None:
    """Tell whether a file holds something of AMD's, and what.

    Args:
        data: the whole file.
        source: its name, for messages.

    Returns:
        One or more pieces; None for content that is something else, or only partly AMD's.

    Raises:
        FormatError: `snp.certificate_table`, for a certificate table that breaks its format.
    """
    if len(data) > COLLATERAL_DOCUMENT_MAX:
        return None
    data = without_remarks(thim_chain(data) or data)
    ders: tuple[bytes, ...]
    if looks_like_certificate_table(data):
        ders = decode_certificate_table(data).certificates
    elif pem.is_pem(data):
        label = pem.CRL if b"-----BEGIN X509 CRL-----" in data else pem.CERTIFICATE
        try:
            ders = pem.decode_pem(
                data, label, Code.ENDORSEMENTS_MALFORMED, count=CHAIN_MAX, limit=COLLATERAL_DOCUMENT_MAX
            )
        except FormatError:
            return None
    else:
        ders = (from_text(data),)
    kinds = [_kind(der) for der in ders]
    pieces = tuple(SnpPiece(kind, der, source) for der, kind in zip(ders, kinds, strict=True) if kind is not None)
    return pieces if pieces and len(pieces) == len(kinds) else None


def _kind(der: bytes) -> SnpKind | None:
    with warnings.catch_warnings(), expecting_serial_zero():
        # Names longer than X.520 allows: a warning, and no name of AMD's.
        warnings.filterwarnings("error", category=UserWarning, message="(?!Parsed a serial number)")
        for load, listed in ((_load_subject, False), (_load_crl_issuer, True)):
            try:
                name = common_name(load(der))
            except _UNREADABLE:
                continue
            kind = next((kind for pattern, kind in _NAMES if pattern.search(name)), None)
            if listed:
                return SnpKind.CRL if kind is SnpKind.ARK else None
            return kind
    return None


def _load_subject(der: bytes) -> x509.Name:
    return x509.load_der_x509_certificate(der).subject


def _load_crl_issuer(der: bytes) -> x509.Name:
    return x509.load_der_x509_crl(der).issuer


def snp_endorsements(pieces: Sequence[SnpPiece], report: SnpReport | None = None) -> SnpEndorsements:
    """Put pieces together; of many VCEKs and VLEKs, those that name the report's chip and then as many as may be.

    Args:
        pieces: in any order; one twice counts once.
        report: what they are for, or None.
    """
    found = {kind: dict.fromkeys(piece.data for piece in pieces if piece.kind is kind) for kind in SnpKind}
    others = [*found[SnpKind.ARK], *found[SnpKind.ISSUER]]
    chip = b"" if report is None else report.signed[_CHIP_ID][:_SHORT_CHIP_ID]
    veks = sorted(found[SnpKind.VEK], key=lambda der: chip not in der)
    certificates = (*others, *veks[: max(0, _STORED_MAX - len(others))])
    return SnpEndorsements(certificates, tuple(found[SnpKind.CRL]))


def snp_sets(pieces: Sequence[SnpPiece]) -> tuple[SnpEndorsements, ...]:
    """Put pieces together as the sets that a proxy keeps: for each ARK its issuers and lists. Nothing is verified."""
    named = [(piece, *_names(piece.data)) for piece in pieces]
    sets = []
    for ark in dict.fromkeys(piece.data for piece in pieces if piece.kind is SnpKind.ARK):
        subject, _ = _names(ark)
        own = [(piece.kind, piece.data) for piece, _, issuer in named if issuer == subject]
        issuers = dict.fromkeys(data for kind, data in own if kind is SnpKind.ISSUER)
        crls = dict.fromkeys(data for kind, data in own if kind is SnpKind.CRL)
        sets.append(SnpEndorsements((ark, *issuers)[:_STORED_MAX], tuple(crls)[:SNP_CRLS_MAX]))
    return tuple(sets)


def _names(der: bytes) -> tuple[x509.Name | None, x509.Name]:
    with expecting_serial_zero():
        try:
            certificate = x509.load_der_x509_certificate(der)
        except _UNREADABLE:
            return None, x509.load_der_x509_crl(der).issuer
        return certificate.subject, certificate.issuer


def load_arks(ders: Sequence[bytes]) -> ArkPins:
    """Make anchors of root certificates (DER), by the processor line in their names.

    Raises:
        ConfigurationError: `configuration.malformed`, for anything but a self-signed ARK.
    """
    pins: dict[Product, frozenset[bytes]] = {}
    for der in ders:
        try:
            root = read_amd_certificate(der)
        except AppraisalError as error:
            raise ConfigurationError(Code.CONFIGURATION_MALFORMED, error.detail) from error
        product = next((line for line in Product if root.common_name.endswith(ARK_NAME + line)), None)
        if product is None or root.subject != root.issuer or not signed_by(root, root.signature, root.tbs):
            detail = f"{root.common_name!r} is not the self-signed ARK of a known processor line"
            raise ConfigurationError(Code.CONFIGURATION_MALFORMED, detail)
        pins[product] = pins.get(product, frozenset()) | {root.spki_sha256}
    return pins
