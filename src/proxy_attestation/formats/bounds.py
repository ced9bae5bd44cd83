"""Every size bound on bytes that come from outside, in one place. docs/limits.md lists them with their reasons."""

from typing import Final

QUOTE_MAX: Final = 64 * 1024
EVENT_LOG_MAX: Final = 256 * 1024
EVENTS_MAX: Final = 2048
"""Events of one log. The longest seen has 45; a boot loader that measures each command makes some hundreds."""
TPM_EVIDENCE_MAX: Final = 32 * 1024
"""The record around TPM structures. With an HCL report and a TD quote it has some 10 KiB."""
TPM_ROOTS_MAX: Final = 1024
"""Different CAs of TPMs that one policy names."""
CSR_MAX: Final = 16 * 1024
"""The CSR without its attestation attribute."""
MESSAGE_MAX: Final = 512 * 1024
JSON_MESSAGE_MAX: Final = 768 * 1024
REQUEST_MAX: Final = 8 * 1024
NAMES_MAX: Final = 64
PLATFORM_CERTIFICATES_MAX: Final = 8
CERTIFICATE_MAX: Final = 8 * 1024
COLLATERAL_DOCUMENT_MAX: Final = 512 * 1024
"""One TCB info, QE identity, chain or CRL. The largest seen is 9 KiB; a CRL may grow."""
SIGNED_DOCUMENT_MAX: Final = 256 * 1024
"""One TCB info or QE identity: JSON that is read twice before its signature is checked."""
PCK_CHAIN_MAX: Final = 3
"""Certificates of one platform or issuer chain in Intel's hierarchy, root included."""
TCB_LEVELS_MAX: Final = 128
TDX_MODULE_IDENTITIES_MAX: Final = 32
ADVISORIES_MAX: Final = 256
"""Advisories of one TCB level. The largest list seen has seven."""
CLAIMS_MAX: Final = 2 * 1024
LEDGER_ENTRY_MAX: Final = 4 * 1024
LEDGER_NOTE_MAX: Final = 16 * 1024
"""A checkpoint of ours with the cosignatures of at most 16 witnesses."""
LEDGER_PROOF_MAX: Final = 28 * 1024
"""A checkpoint with the path that leads to it, of 63 hashes at most, and the entry."""
CBOR_DEPTH_MAX: Final = 8
TIME_MAX: Final = 253_402_300_799
"""Seconds since the epoch: 9999-12-31T23:59:59Z, where X.509's years end (RFC 5280, 4.1.2.5), and Python's."""
ENDORSEMENT_FILES_MAX: Final = 1000
"""Files that one call loads endorsements from; directories nested at most `ENDORSEMENT_DEPTH_MAX` deep."""
ENDORSEMENT_DEPTH_MAX: Final = 3
ENDORSEMENT_SETS_MAX: Final = 1024
"""Sets that the loaded pieces make; more is a sign of pieces of several sets in one directory."""
ENDORSEMENT_TOTAL_MAX: Final = 64 * 1024 * 1024
ENDORSEMENT_BUNDLE_MAX: Final = 2 * 1024 * 1024
"""One JSON object with a whole set of collateral."""
INDEX_FILES_MAX: Final = 100_000
INDEX_PATH_MAX: Final = 4096
INDEX_MAX: Final = 32 * 1024 * 1024
"""One index file, in characters."""
POLICY_FILE_MAX: Final = 1024 * 1024
REFERENCE_VALUES_MAX: Final = 64 * 1024
"""One file of reference values."""
REFERENCE_SIGNERS_MAX: Final = 16
"""Signers that one entry names."""
POLICY_TOTAL_MAX: Final = 64 * 1024 * 1024
"""A policy file and all files that it names."""
POLICY_SIGNERS_MAX: Final = 16
POLICY_WORKLOADS_MAX: Final = 1024
PIN_VALUES_MAX: Final = 64
"""Values in one list of a policy or an expectation."""
DENY_VALUES_MAX: Final = 1024
"""Values in one list of `[deny]`."""
REGISTERS_ROOM: Final = 768
"""Bytes of a TPM's registers that one entry can pin, and its leaves carry."""
EVENT_RULES_MAX: Final = 256
"""Event rules of one entry. A log that is longer has many events of few types."""
APPLICATION_PATHS_MAX: Final = 256
COLLATERAL_SET_MAX: Final = 768 * 1024
"""All pieces of one set that the authority is to verify."""
AUTHORITY_FRAME_MAX: Final = 1024 * 1024
"""One message between a worker and the authority."""
EXPECTATION_FILE_MAX: Final = 64 * 1024
ROOTS_MAX: Final = 8
"""Roots that one relying party trusts, or one root bundle holds."""
SNP_CERTIFICATES_MAX: Final = 24
"""Certificates of AMD's that one appraisal looks through: the proxy's own and the peer's."""
SNP_CRL_MAX: Final = 16 * 1024
"""One revocation list of AMD's, of which one appraisal looks through `SNP_CRLS_MAX`. A real one has 866 bytes."""
SNP_CRLS_MAX: Final = 16
SNP_TABLE_ENTRIES_MAX: Final = 16
"""Entries of the certificate table of an extended SEV-SNP report. GHCB defines five."""
NOTE_MAX: Final = 64 * 1024
"""One signed note: a checkpoint, a policy, a deny list ..."""
NOTE_SIGNATURES_MAX: Final = 32
NOTE_NAME_MAX: Final = 255
"""The name of a key that signs notes, in bytes of UTF-8; a log's origin is one."""
TREE_SIZE_MAX: Final = 2**63 - 1
TLOG_POLICY_MAX: Final = 64 * 1024
"""A file that says which witnesses must co-sign."""
TLOG_POLICY_LINES_MAX: Final = 1024
DENY_LIST_MAX: Final = 960 * 1024
"""One deny list, so that it fits one message between a worker and the authority; see `DENIALS_MAX`."""
DENIALS_MAX: Final = 10_000
"""Lines of one deny list: certificates, keys or issuing CAs that are revoked and have not expired."""
ROOT_NONCES_MAX: Final = 256
"""Callers whose nonces one piece of the proxy's evidence answers."""
ROOT_EVIDENCE_MAX: Final = QUOTE_MAX + PLATFORM_CERTIFICATES_MAX * CERTIFICATE_MAX + EVENT_LOG_MAX + 1024
"""The record around the proxy's evidence; `MESSAGE_MAX` has room for it."""
DEPLOYMENT_MAX: Final = 32 * 1024
"""The text of a deployment statement. A measurement is a line of some 120 bytes."""
DEPLOYMENT_NOTE_MAX: Final = 64 * 1024
"""The same with its signatures."""
KEPT_EVIDENCE_MAX: Final = 576 * 1024
"""What is kept of one issuance: a record, 16 certificates and an event log. Of SGX it is some 5 KiB."""
EVIDENCE_STORE_MAX: Final = 1024 * 1024 * 1024
"""What is kept of all issuances together; beyond it the oldest goes, what has expired first."""
KEY_REQUEST_MAX: Final = QUOTE_MAX + PLATFORM_CERTIFICATES_MAX * CERTIFICATE_MAX + EVENT_LOG_MAX + 1024
"""A proxy's request for an authority's keys: its evidence and 160 bytes."""
TRANSFERRED_KEY_MAX: Final = 512
"""One private key, PKCS#8: of P-256 138 bytes, of Ed25519 48."""
TRANSFERRED_KEYS_MAX: Final = 64
KEY_BUNDLE_MAX: Final = 64 * 1024
"""All keys of an authority on their way to another proxy."""
CUSTODIANS_MAX: Final = 16
"""Who have shares of a recovery key; SLIP-39 allows no more."""
