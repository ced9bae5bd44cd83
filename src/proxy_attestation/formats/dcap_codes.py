"""What an SGX or a TDX quote, or its collateral, can be refused for: one word a reason, the same for both TEEs."""

from enum import StrEnum
from functools import cache

from proxy_attestation.codes import Code


class DcapFault(StrEnum):
    """The part of a code after the dot. `appraisal/dcap.py` says at which step each one arises."""

    MALFORMED = "malformed"
    VERSION = "version"
    KEY_TYPE = "key_type"
    QE_VENDOR = "qe_vendor"
    CERTIFICATION_DATA = "certification_data"
    CHAIN = "chain"
    ROOT = "root"
    PCK = "pck"
    EXPIRED = "expired"
    REVOKED = "revoked"
    CRL = "crl"
    CRL_EXPIRED = "crl_expired"
    QE_REPORT_SIGNATURE = "qe_report_signature"
    QE_REPORT_DATA = "qe_report_data"
    SIGNATURE = "signature"
    ENDORSEMENTS_MISSING = "endorsements_missing"
    ENDORSEMENTS_MALFORMED = "endorsements_malformed"
    ENDORSEMENTS_FLOOR = "endorsements_floor"
    TCB_INFO_SIGNATURE = "tcb_info_signature"
    TCB_INFO_EXPIRED = "tcb_info_expired"
    TCB_INFO_MISMATCH = "tcb_info_mismatch"
    TCB_NOT_SUPPORTED = "tcb_not_supported"
    TCB_REVOKED = "tcb_revoked"
    QE_IDENTITY = "qe_identity"
    QE_IDENTITY_SIGNATURE = "qe_identity_signature"
    QE_IDENTITY_EXPIRED = "qe_identity_expired"
    QE_TCB_NOT_SUPPORTED = "qe_tcb_not_supported"
    QE_TCB_REVOKED = "qe_tcb_revoked"
    # TDX only.
    MODULE_IDENTITY = "module_identity"
    MODULE_TCB_NOT_SUPPORTED = "module_tcb_not_supported"
    MODULE_TCB_REVOKED = "module_tcb_revoked"
    ATTRIBUTES = "attributes"
    XFAM = "xfam"


@cache
def dcap_code(tee: str, fault: DcapFault) -> Code:
    """Return the code of a fault of a TEE's evidence. Every fault that can arise for a TEE has one (tested)."""
    return Code(f"{tee}.{fault}")
