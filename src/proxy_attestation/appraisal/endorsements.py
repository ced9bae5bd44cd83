"""Vendor collateral for DCAP, as bytes: what `endorsements/` reads from disk and `appraise` is given."""

from dataclasses import dataclass


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

    tcb_info: bytes | None = None
    tcb_info_issuer_chain: bytes | None = None
    qe_identity: bytes | None = None
    qe_identity_issuer_chain: bytes | None = None
    pck_crl: bytes | None = None
    pck_crl_issuer_chain: bytes | None = None
    root_ca_crl: bytes | None = None
    pck_certificate_chain: bytes | None = None


@dataclass(frozen=True, slots=True)
class Floor:
    """The oldest collateral that may still be used for one FMSPC and TEE. Numbers never go back.

    Attributes:
        evaluation_number: tcbEvaluationDataNumber of the TCB info.
        issue_date: of the TCB info, seconds since the epoch.
        pck_crl_number: CRL number of the PCK CRL.
        root_crl_number: CRL number of the root's CRL.
    """

    evaluation_number: int = 0
    issue_date: int = 0
    pck_crl_number: int = 0
    root_crl_number: int = 0
