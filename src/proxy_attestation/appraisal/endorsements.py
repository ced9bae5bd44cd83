"""Vendors' collateral, as bytes: what `endorsements/` reads from disk and `appraise` is given."""

from dataclasses import dataclass
from typing import Annotated, TypeAlias

from proxy_attestation.formats.arrays import Size
from proxy_attestation.formats.bounds import (
    CERTIFICATE_MAX,
    COLLATERAL_DOCUMENT_MAX,
    SNP_CERTIFICATES_MAX,
    SNP_CRL_MAX,
    SNP_CRLS_MAX,
    TIME_MAX,
)

Piece: TypeAlias = Annotated[bytes | None, Size(1, COLLATERAL_DOCUMENT_MAX)]
_Certificate: TypeAlias = Annotated[bytes, Size(1, CERTIFICATE_MAX)]
_Crl: TypeAlias = Annotated[bytes, Size(1, SNP_CRL_MAX)]
CrlNumber: TypeAlias = Annotated[int, Size(0, (1 << 160) - 1)]
"""At most 20 octets (RFC 5280 section 5.2.3)."""


@dataclass(frozen=True, slots=True)
class DcapEndorsements:
    """One set of Intel collateral, in the vendor's own encodings. Absent pieces are None.

    Attributes:
        tcb_info: the signed JSON document, exact bytes.
        tcb_info_issuer_chain: PEM, TCB signing certificate first, then the root.
        qe_identity: the signed JSON document, exact bytes.
        qe_identity_issuer_chain: PEM, as above.
        pck_crl: DER or PEM.
        pck_crl_issuer_chain: PEM, PCK CA first, then the root.
        root_ca_crl: DER or PEM.
        pck_certificate_chain: PEM, PCK leaf first; only for evidence that does not carry its own.
    """

    tcb_info: Piece = None
    tcb_info_issuer_chain: Piece = None
    qe_identity: Piece = None
    qe_identity_issuer_chain: Piece = None
    pck_crl: Piece = None
    pck_crl_issuer_chain: Piece = None
    root_ca_crl: Piece = None
    pck_certificate_chain: Piece = None


@dataclass(frozen=True, slots=True)
class SnpEndorsements:
    """AMD's certificates and lists, all of them hints until they chain to a pinned ARK.

    Attributes:
        certificates: DER, in any order: VCEKs, VLEKs, ASKs, ASVKs, ARKs.
        crls: DER. From the proxy's own store only: a peer's would be the one that suits it.
    """

    certificates: Annotated[tuple[_Certificate, ...], Size(0, SNP_CERTIFICATES_MAX)] = ()
    crls: Annotated[tuple[_Crl, ...], Size(0, SNP_CRLS_MAX)] = ()


@dataclass(frozen=True, slots=True)
class Floor:
    """The oldest collateral that may still be used for one platform (`kinds.platform_of`). Numbers never go back.

    Attributes:
        evaluation_number: tcbEvaluationDataNumber of the TCB info.
        issue_date: of the TCB info, seconds since the epoch.
        pck_crl_number: CRL number of the PCK CRL.
        root_crl_number: CRL number of the root's CRL.
    """

    evaluation_number: Annotated[int, Size(0, 0xFFFFFFFF)] = 0
    issue_date: Annotated[int, Size(0, TIME_MAX)] = 0
    pck_crl_number: CrlNumber = 0
    root_crl_number: CrlNumber = 0
