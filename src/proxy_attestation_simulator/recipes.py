"""What a quote and a set of collateral are made from. A fault is a function from one recipe to another."""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final, TypeAlias

from proxy_attestation_simulator.bodies import SgxBody, TdBody

QE_VENDOR_ID: Final = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")

# SVNs of the components, as a function of one number that stands for the platform's age: 7 is the newest level.
NEWEST: Final = 7


def components(age: int) -> tuple[int, ...]:
    """Return the 16 SGX component SVNs of a platform at level `age` (7 the newest, 1 the oldest known)."""
    return (age, age, 2, 2, 3, 1, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0)


def tdx_components(age: int) -> tuple[int, ...]:
    """Return the 16 TDX component SVNs of level `age`: TDX module, its major version, late microcode, unused."""
    return (4, 0, age, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)


AGE_OF_STATUS: Final = {
    "UpToDate": NEWEST,
    "SWHardeningNeeded": 6,
    "ConfigurationNeeded": 5,
    "ConfigurationAndSWHardeningNeeded": 4,
    "OutOfDate": 3,
    "OutOfDateConfigurationNeeded": 2,
    "Revoked": 1,
}
"""Which level of the vendor's TCB info has which status."""


@dataclass(frozen=True, slots=True)
class PckRecipe:
    """A PCK certificate.

    Attributes:
        serial: positive, at most 20 bytes.
        fmspc: 6 bytes.
        pce_id: 2 bytes.
        ppid: 16 bytes.
        platform_instance_id: 16 bytes; only in certificates of the platform CA.
        svns: 16 component SVNs.
        cpu_svn: 16 bytes; the same numbers as `svns` on every real platform.
        pce_svn: u16.
        not_before: UTC.
        not_after: UTC.
        common_name: of the subject.
        extension: "good", "absent", "short" (a component is missing) or "trailing" (bytes follow the sequence).
        issuer: who signs: "ca", or "other", a key that is not the CA's.
    """

    serial: int
    fmspc: bytes
    pce_id: bytes
    ppid: bytes
    platform_instance_id: bytes
    svns: tuple[int, ...]
    cpu_svn: bytes
    pce_svn: int
    not_before: datetime
    not_after: datetime
    common_name: str = "Simulated Intel SGX PCK Certificate"
    extension: str = "good"
    issuer: str = "ca"


@dataclass(frozen=True, slots=True)
class QuoteRecipe:
    """A quote.

    Attributes:
        version: 3, 4 or 5 lay out the quote; `header_version` is what it says.
        body_type: of a v5 quote: 1 SGX, 2 TDX 1.0, 3 TDX 1.5.
        header_version: u16.
        key_type: u16, 2 is ECDSA P-256.
        tee_type: u32, 0 SGX, 0x81 TDX.
        vendor_id: 16 bytes.
        body: what is attested.
        pck: the platform's certificate.
        qe: the quoting enclave's report, whose report data is filled in later.
        authentication: the quoting enclave's authentication data.
        qe_report_data_xor: 64 bytes, put over the report data of the quoting enclave.
        ca: "good", "expired", or "other" (the CA's certificate is signed by a key that is not the root's).
        chain: which certificates stand in the quote, in order.
        certification_type: of the certification data.
        attestation_key: which key stands in the quote, "own" or "other".
        quote_key: which key signs the quote, "own" or "other".
        qe_report_key: which key signs the quoting enclave's report, "pck" or "other".
        flip: offset of a byte that changes after the signature, or None.
        body_size_delta: added to the size that a v5 quote declares for its body.
        signature_size_delta: added to the size that the quote declares for its signature data.
        cut: bytes missing at the end.
        append: bytes that follow the end.
        stranger: whether everything is signed by another vendor.
    """

    version: int
    body_type: int
    header_version: int
    tee_type: int
    body: SgxBody | TdBody
    pck: PckRecipe
    qe: SgxBody
    key_type: int = 2
    vendor_id: bytes = QE_VENDOR_ID
    authentication: bytes = bytes(range(32))
    qe_report_data_xor: bytes = bytes(64)
    ca: str = "good"
    chain: tuple[str, ...] = ("pck", "ca", "root")
    certification_type: int = 5
    attestation_key: str = "own"
    quote_key: str = "own"
    qe_report_key: str = "pck"
    flip: int | None = None
    body_size_delta: int = 0
    signature_size_delta: int = 0
    cut: int = 0
    append: bytes = b""
    stranger: bool = False


@dataclass(frozen=True, slots=True)
class Level:
    """One TCB level: its age gives the SVNs, see `components`."""

    age: int
    pce_svn: int
    status: str
    advisories: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class SvnLevel:
    """One TCB level of a TDX module or of the quoting enclave."""

    isv_svn: int
    status: str
    advisories: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Document:
    """What the TCB info and the QE identity have in common.

    Attributes:
        id: "SGX", "TDX", "QE" or "TD_QE".
        version: of the document's structure.
        issue_date: UTC.
        next_update: UTC.
        evaluation_number: tcbEvaluationDataNumber.
        key: which key signs: "signer", or "other", which the chain does not know.
        flip: whether the document changes after it was signed.
        malformed: whether it ends too early (and is signed so).
    """

    id: str
    version: int
    issue_date: datetime
    next_update: datetime
    evaluation_number: int
    key: str = "signer"
    flip: bool = False
    malformed: bool = False


@dataclass(frozen=True, slots=True)
class Crl:
    """A certificate revocation list.

    Attributes:
        number: CRL number, or None for a list without one.
        last_update: UTC.
        next_update: UTC.
        revoked: serial numbers.
        issuer: "good"; "other" is a key that is not the issuer's; "sibling" is the other PCK CA.
    """

    number: int | None
    last_update: datetime
    next_update: datetime
    revoked: tuple[int, ...] = ()
    issuer: str = "good"


@dataclass(frozen=True, slots=True)
class CollateralRecipe:
    """A set of collateral.

    Attributes:
        tee: "sgx" or "tdx".
        ca: "platform" or "processor", whose CRL it is.
        fmspc: 6 bytes.
        pce_id: 2 bytes.
        tcb_date: of the newest level.
        tcb_info: its frame.
        qe_identity: its frame.
        levels: of the platform.
        module_levels: of TDX module version 1.
        qe_levels: of the quoting enclave.
        pck_crl: the CA's list.
        root_crl: the root's list.
        revoked_authorities: what the root's list revokes: "pck_ca", "tcb_signer".
        tcb_signer: certificate of the TCB signer: "good", "expired", or "other" (not signed by the root).
        missing: pieces left out.
        garbage: pieces replaced by bytes that mean nothing.
        stranger: whether everything is signed by another vendor.
        pck_serial: of the platform that `revoked-pck` revokes.
    """

    tee: str
    ca: str
    fmspc: bytes
    pce_id: bytes
    tcb_date: datetime
    tcb_info: Document
    qe_identity: Document
    levels: tuple[Level, ...]
    module_levels: tuple[SvnLevel, ...]
    qe_levels: tuple[SvnLevel, ...]
    pck_crl: Crl
    root_crl: Crl
    pck_serial: int
    revoked_authorities: tuple[str, ...] = ()
    tcb_signer: str = "good"
    missing: frozenset[str] = field(default_factory=frozenset)
    garbage: frozenset[str] = field(default_factory=frozenset)
    stranger: bool = False


Recipe: TypeAlias = QuoteRecipe | CollateralRecipe
