"""Every stable code that a refusal, an error or a mismatch can carry.

A code is part of the wire protocol: once released it keeps its spelling and its meaning. The part before the dot names
who refuses (a TEE's walk, the policy, the challenge ...), the part after it what was wrong. `explanations.py` gives
the cause and the fix of each; `proxy-attestation explain` prints it, and a peer is told the same one line and no more.
"""

from dataclasses import dataclass
from enum import StrEnum


class Code(StrEnum):
    """The stable codes, grouped by who refuses."""

    # The request and what it carries.
    REQUEST_TOO_LARGE = "request.too_large"
    REQUEST_MALFORMED = "request.malformed"
    REQUEST_TEE = "request.tee"
    CSR_MALFORMED = "csr.malformed"
    CSR_SIGNATURE = "csr.signature"
    CSR_KEY = "csr.key"
    CSR_NAMES = "csr.names"
    CSR_EXTENSIONS = "csr.extensions"
    EVIDENCE_MISSING = "evidence.missing"
    EVIDENCE_MALFORMED = "evidence.malformed"
    EVIDENCE_TOO_LARGE = "evidence.too_large"
    EVIDENCE_UNKNOWN = "evidence.unknown"
    BINDER_MISMATCH = "binder.mismatch"

    # The challenge.
    CHALLENGE_INVALID = "challenge.invalid"
    CHALLENGE_EXPIRED = "challenge.expired"
    CHALLENGE_SPENT = "challenge.spent"
    CHALLENGE_EXHAUSTED = "challenge.exhausted"
    CHALLENGE_CA = "challenge.ca"

    # Intel SGX quotes (appraisal/dcap.py numbers the walk).
    SGX_MALFORMED = "sgx.malformed"
    SGX_VERSION = "sgx.version"
    SGX_KEY_TYPE = "sgx.key_type"
    SGX_QE_VENDOR = "sgx.qe_vendor"
    SGX_CERTIFICATION_DATA = "sgx.certification_data"
    SGX_CHAIN = "sgx.chain"
    SGX_ROOT = "sgx.root"
    SGX_PCK = "sgx.pck"
    SGX_EXPIRED = "sgx.expired"
    SGX_REVOKED = "sgx.revoked"
    SGX_CRL = "sgx.crl"
    SGX_CRL_EXPIRED = "sgx.crl_expired"
    SGX_QE_REPORT_SIGNATURE = "sgx.qe_report_signature"
    SGX_QE_REPORT_DATA = "sgx.qe_report_data"
    SGX_SIGNATURE = "sgx.signature"
    SGX_ENDORSEMENTS_MISSING = "sgx.endorsements_missing"
    SGX_ENDORSEMENTS_MALFORMED = "sgx.endorsements_malformed"
    SGX_ENDORSEMENTS_FLOOR = "sgx.endorsements_floor"
    SGX_TCB_INFO_SIGNATURE = "sgx.tcb_info_signature"
    SGX_TCB_INFO_EXPIRED = "sgx.tcb_info_expired"
    SGX_TCB_INFO_MISMATCH = "sgx.tcb_info_mismatch"
    SGX_TCB_NOT_SUPPORTED = "sgx.tcb_not_supported"
    SGX_TCB_REVOKED = "sgx.tcb_revoked"
    SGX_QE_IDENTITY = "sgx.qe_identity"
    SGX_QE_IDENTITY_SIGNATURE = "sgx.qe_identity_signature"
    SGX_QE_IDENTITY_EXPIRED = "sgx.qe_identity_expired"
    SGX_QE_TCB_NOT_SUPPORTED = "sgx.qe_tcb_not_supported"
    SGX_QE_TCB_REVOKED = "sgx.qe_tcb_revoked"
    SGX_DEBUG = "sgx.debug"
    SGX_TCB_STATUS = "sgx.tcb_status"

    # Intel TDX quotes: the same walk, and the TDX module.
    TDX_MALFORMED = "tdx.malformed"
    TDX_VERSION = "tdx.version"
    TDX_KEY_TYPE = "tdx.key_type"
    TDX_QE_VENDOR = "tdx.qe_vendor"
    TDX_CERTIFICATION_DATA = "tdx.certification_data"
    TDX_CHAIN = "tdx.chain"
    TDX_ROOT = "tdx.root"
    TDX_PCK = "tdx.pck"
    TDX_EXPIRED = "tdx.expired"
    TDX_REVOKED = "tdx.revoked"
    TDX_CRL = "tdx.crl"
    TDX_CRL_EXPIRED = "tdx.crl_expired"
    TDX_QE_REPORT_SIGNATURE = "tdx.qe_report_signature"
    TDX_QE_REPORT_DATA = "tdx.qe_report_data"
    TDX_SIGNATURE = "tdx.signature"
    TDX_ENDORSEMENTS_MISSING = "tdx.endorsements_missing"
    TDX_ENDORSEMENTS_MALFORMED = "tdx.endorsements_malformed"
    TDX_ENDORSEMENTS_FLOOR = "tdx.endorsements_floor"
    TDX_TCB_INFO_SIGNATURE = "tdx.tcb_info_signature"
    TDX_TCB_INFO_EXPIRED = "tdx.tcb_info_expired"
    TDX_TCB_INFO_MISMATCH = "tdx.tcb_info_mismatch"
    TDX_TCB_NOT_SUPPORTED = "tdx.tcb_not_supported"
    TDX_TCB_REVOKED = "tdx.tcb_revoked"
    TDX_QE_IDENTITY = "tdx.qe_identity"
    TDX_QE_IDENTITY_SIGNATURE = "tdx.qe_identity_signature"
    TDX_QE_IDENTITY_EXPIRED = "tdx.qe_identity_expired"
    TDX_QE_TCB_NOT_SUPPORTED = "tdx.qe_tcb_not_supported"
    TDX_QE_TCB_REVOKED = "tdx.qe_tcb_revoked"
    TDX_MODULE_IDENTITY = "tdx.module_identity"
    TDX_MODULE_TCB_NOT_SUPPORTED = "tdx.module_tcb_not_supported"
    TDX_MODULE_TCB_REVOKED = "tdx.module_tcb_revoked"
    TDX_ATTRIBUTES = "tdx.attributes"
    TDX_XFAM = "tdx.xfam"
    TDX_SERVICE_TD = "tdx.service_td"
    TDX_DEBUG = "tdx.debug"
    TDX_TCB_STATUS = "tdx.tcb_status"

    # The policy's decision.
    POLICY_WORKLOAD = "policy.workload"
    POLICY_TEE = "policy.tee"
    POLICY_MEASUREMENT = "policy.measurement"
    POLICY_SIGNER = "policy.signer"
    POLICY_PRODUCT = "policy.product"
    POLICY_SVN = "policy.svn"
    POLICY_ATTRIBUTES = "policy.attributes"
    POLICY_CONFIG = "policy.config"
    POLICY_ADVISORY = "policy.advisory"
    POLICY_APPLICATION = "policy.application"
    POLICY_KEY_ORIGIN = "policy.key_origin"
    POLICY_OWNER = "policy.owner"
    POLICY_NAME = "policy.name"
    POLICY_CLAIM = "policy.claim"
    POLICY_MALFORMED = "policy.malformed"
    POLICY_STALE = "policy.stale"

    # The proxy and its authority.
    AUTHORITY_UNAVAILABLE = "authority.unavailable"
    AUTHORITY_LIFETIME = "authority.lifetime"
    AUTHORITY_CLOCK = "authority.clock"
    AUTHORITY_STATE = "authority.state"
    AUTHORITY_PROFILE = "authority.profile"
    ENDORSEMENTS_UNAVAILABLE = "endorsements.unavailable"
    ENDORSEMENTS_MALFORMED = "endorsements.malformed"
    ENDORSEMENTS_SOURCE = "endorsements.source"
    ENDORSEMENTS_UNKNOWN = "endorsements.unknown"
    ENDORSEMENTS_STALE = "endorsements.stale"
    ENDORSEMENTS_REJECTED = "endorsements.rejected"
    LIMITS_EXHAUSTED = "limits.exhausted"
    LEDGER_NO_PROOF = "ledger.no_proof"
    PROXY_UNREACHABLE = "proxy.unreachable"
    PROXY_PROTOCOL = "proxy.protocol"

    # What a relying party refuses.
    PEER_CHAIN = "peer.chain"
    PEER_EXPIRED = "peer.expired"
    PEER_NAME = "peer.name"
    PEER_ROOT_PIN = "peer.root_pin"
    PEER_CLAIMS_MISSING = "peer.claims_missing"
    PEER_CLAIMS_MALFORMED = "peer.claims_malformed"
    PEER_CLAIMS_KEY = "peer.claims_key"
    PEER_CLAIMS_MISMATCH = "peer.claims_mismatch"
    PEER_TRUST_DOMAIN = "peer.trust_domain"
    PEER_UNREACHABLE = "peer.unreachable"

    # The machine the loader runs on, and its application.
    ATTESTER_UNAVAILABLE = "attester.unavailable"
    APPLICATION_FAILED = "application.failed"
    APPLICATION_LIMIT = "application.limit"
    LOADER_UNREACHABLE = "loader.unreachable"

    # Local input.
    CONFIGURATION_MALFORMED = "configuration.malformed"
    INPUT_UNKNOWN = "input.unknown"
    USAGE = "usage"
    INTERNAL = "internal"


@dataclass(frozen=True, slots=True)
class Explanation:
    """What a code means, in one line, and what to do about it, in one line. Neither holds a value of anybody's."""

    cause: str
    fix: str
