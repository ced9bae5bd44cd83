"""Intel's collateral from its Provisioning Certification Service (PCS, API version 4) or a cache of it (PCCS).

A set is five GETs. What comes back is checked here, in this order; nothing of it is used before the last step:

 1  each answer is 200, within size and time                                        (`http.Getter`)
 2  issuer chains are in the headers (URL-encoded PEM); CRLs are DER, PEM or hex, and CRLs of the right kind
 3  the whole set verifies to a pinned root at `now`                                (`appraisal.verify_collateral`)
 4  it is what was asked: TEE, FMSPC, PCK CA, and the evaluation number where one was named
 5  no number is below what the cache has                                           (`fetched.check_not_older`)

Source: Intel PCS API documentation, version 4; Intel PCCS design guide, "API Specification for PCCS".
"""

import re
import urllib.parse
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography.hazmat.primitives.serialization import Encoding

from proxy_attestation.appraisal.dcap_collateral import DcapCollateral, verify_collateral
from proxy_attestation.appraisal.endorsements import DcapEndorsements
from proxy_attestation.appraisal.pck_chain import PckChain, verify_pck_chain
from proxy_attestation.appraisal.roots import Roots
from proxy_attestation.codes import Code
from proxy_attestation.endorsements.detect import Bundle, Kind, detect, load_certificate
from proxy_attestation.endorsements.fetched import (
    FetchedSet,
    check_not_older,
    half_life,
    rejected,
    source,
    translated,
)
from proxy_attestation.endorsements.http import Answer, Getter
from proxy_attestation.endorsements.peek import peek_crl, peek_qe_identity
from proxy_attestation.errors import FormatError, ProxyAttestationError
from proxy_attestation.formats.bounds import CERTIFICATE_MAX, COLLATERAL_DOCUMENT_MAX, PCK_CHAIN_MAX
from proxy_attestation.formats.pem import CERTIFICATE, decode_pem
from proxy_attestation.formats.tee import Tee

PCS_BASE: Final = "https://api.trustedservices.intel.com"
ROOT_CRL_URL: Final = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"
"""Where Intel publishes the root's CRL; the CRL distribution point of its certificates is never followed."""
CHAIN_HEADER_MAX: Final = 32 * 1024
CAS: Final = ("platform", "processor")
UPDATES: Final = ("standard", "early")
FILES: Final = {
    "tcb_info": "tcb_info.json",
    "tcb_info_issuer_chain": "tcb_info_issuer_chain.pem",
    "qe_identity": "qe_identity.json",
    "qe_identity_issuer_chain": "qe_identity_issuer_chain.pem",
    "pck_crl": "pck_crl.der",
    "pck_crl_issuer_chain": "pck_crl_issuer_chain.pem",
    "root_ca_crl": "root_ca_crl.der",
}
"""The file of each piece of a set, as `load_endorsements` reads a directory."""
_TCB_INFO_CHAIN: Final = ("tcb-info-issuer-chain", "sgx-tcb-info-issuer-chain")
_QE_IDENTITY_CHAIN: Final = ("sgx-enclave-identity-issuer-chain",)
_PCK_CRL_CHAIN: Final = ("sgx-pck-crl-issuer-chain",)
_PCK_CHAIN: Final = ("sgx-pck-certificate-issuer-chain",)
_HEX: Final = re.compile(r"(?:[0-9A-Fa-f]{2})+")


@dataclass(frozen=True, slots=True)
class IntelTarget:
    """A platform family to have collateral for.

    Attributes:
        tee: SGX or TDX.
        fmspc: 6 bytes.
        ca: who issues its PCK certificates: `platform` (scalable processors, all of TDX) or `processor`.
        release: `standard`, `early`, or one evaluation number.
    """

    tee: Tee
    fmspc: bytes
    ca: str = "platform"
    release: str | int = "standard"

    @property
    def name(self) -> str:
        """`<tee>-<fmspc in hex>`."""
        return f"{self.tee}-{self.fmspc.hex()}"


@dataclass(frozen=True, slots=True)
class IntelService:
    """Where to ask.

    Attributes:
        getter: how.
        base: of PCS or PCCS, without `/sgx/certification/...`.
        root_crl: the URL of the root's CRL; a PCCS has one of its own, see `pccs`.
        api_key: for `pck_certificate` at PCS; empty where none is needed.
    """

    getter: Getter
    base: str = PCS_BASE
    root_crl: str = ROOT_CRL_URL
    api_key: str = ""

    @classmethod
    def pccs(cls, getter: Getter, base: str) -> "IntelService":
        """Return a PCCS, which serves the root's CRL beside everything else."""
        return cls(getter, base, f"{base}/sgx/certification/v4/rootcacrl")

    async def get(self, tee: Tee, path: str, query: Mapping[str, str]) -> Answer:
        """Get one document.

        Raises:
            UnavailableError: as `Getter.get`.
        """
        url = f"{self.base}/{tee}/certification/v4/{path}"
        headers = {"ocp-apim-subscription-key": self.api_key} if self.api_key else {}
        return await self.getter.get(url, limit=COLLATERAL_DOCUMENT_MAX, query=query, headers=headers)


async def fetch_intel(
    service: IntelService, target: IntelTarget, roots: Roots, now: datetime, held: Mapping[str, int]
) -> FetchedSet:
    """Fetch and check a whole set.

    Args:
        service: where.
        target: what.
        roots: the anchors.
        now: aware, UTC.
        held: the numbers of the set that the cache has; none go back.

    Raises:
        UnavailableError: as `Getter.get`; `endorsements.source` for an answer that is none; `endorsements.stale` for
            one that holds no more or is older than `held`.
        RefusedError: `endorsements.rejected`, for a set that does not verify, or is not what was asked.
    """
    # 1
    if isinstance(target.release, int):
        release = {"tcbEvaluationDataNumber": str(target.release)}
    else:
        release = {"update": target.release}
    tcb = await service.get(target.tee, "tcb", {"fmspc": target.fmspc.hex().upper(), **release})
    identity = await service.get(target.tee, "qe/identity", release)
    crl = await service.get(Tee.SGX, "pckcrl", {"ca": target.ca, "encoding": "der"})
    root_crl = await service.getter.get(service.root_crl, limit=COLLATERAL_DOCUMENT_MAX)
    # 2
    pieces = DcapEndorsements(
        tcb_info=tcb.body,
        tcb_info_issuer_chain=issuer_chain(tcb, _TCB_INFO_CHAIN),
        qe_identity=identity.body,
        qe_identity_issuer_chain=issuer_chain(identity, _QE_IDENTITY_CHAIN),
        pck_crl=revocation_list(crl, Kind.PCK_CRL),
        pck_crl_issuer_chain=issuer_chain(crl, _PCK_CRL_CHAIN),
        root_ca_crl=revocation_list(root_crl, Kind.ROOT_CA_CRL),
    )
    return check_intel(pieces, target, roots, now, held)


def check_intel(
    pieces: DcapEndorsements, target: IntelTarget, roots: Roots, now: datetime, held: Mapping[str, int]
) -> FetchedSet:
    """Check a set that was fetched or imported: steps 3 to 5. Pure.

    Raises:
        UnavailableError: `endorsements.source`, `endorsements.stale`.
        RefusedError: `endorsements.rejected`.
    """
    name = target.name
    # 3
    collateral = verified(name, pieces, roots, now, target.tee)
    # 4
    if collateral.fmspc != target.fmspc:
        raise rejected(name, f"collateral for the FMSPC {collateral.fmspc.hex()}")
    ca = "platform" if "Platform" in collateral.pck_ca.common_name else "processor"
    if ca != target.ca:
        raise rejected(name, f"the CRL of the {ca} CA; that of the {target.ca} CA was asked for")
    identity = peek_qe_identity(pieces.qe_identity or b"")
    numbers = {
        "tcb info number": collateral.tcb_info.evaluation_number,
        "qe identity number": identity.evaluation_number,
    }
    if isinstance(target.release, int) and set(numbers.values()) != {target.release}:
        raise rejected(name, f"evaluation number {sorted(numbers.values())}; {target.release} was asked for")
    # 5
    numbers |= {
        "tcb info issue date": int(collateral.tcb_info.issue_date.timestamp()),
        "qe identity issue date": int(collateral.qe_identity.issue_date.timestamp()),
        f"{ca} ca crl number": collateral.pck_crl.number,
        "root ca crl number": collateral.root_crl.number,
    }
    check_not_older(name, numbers, held)
    windows = [
        (collateral.tcb_info.issue_date, collateral.tcb_info.next_update),
        (collateral.qe_identity.issue_date, collateral.qe_identity.next_update),
        peek_crl(pieces.pck_crl or b"")[1],
        peek_crl(pieces.root_ca_crl or b"")[1],
    ]
    files = {file: getattr(pieces, piece) for piece, file in FILES.items()}
    return FetchedSet(name, files, numbers, half_life(windows), collateral.valid_until)


def pieces_of(files: Mapping[str, bytes]) -> DcapEndorsements:
    """Return a set's files as the pieces that appraisal takes."""
    return DcapEndorsements(**{piece: files.get(file) for piece, file in FILES.items()})


def verified(name: str, pieces: DcapEndorsements, roots: Roots, now: datetime, tee: Tee) -> DcapCollateral:
    """Verify a set by the same walk as a worker.

    Raises:
        UnavailableError: `endorsements.source`, `endorsements.stale`.
        RefusedError: `endorsements.rejected`.
    """
    try:
        return verify_collateral(pieces, roots, now, tee=tee)
    except ProxyAttestationError as error:
        raise translated(name, error) from error


def issuer_chain(answer: Answer, names: tuple[str, ...]) -> bytes:
    """Return the issuer chain of an answer, PEM written anew: its headers carry it as URL-encoded PEM.

    Raises:
        UnavailableError: `endorsements.source`, for a header that is absent, too long, or no chain.
    """
    text = next((answer.headers[name] for name in names if name in answer.headers), None)
    if text is None or len(text) > CHAIN_HEADER_MAX:
        raise source(answer.url, f"no header {names[0]}, or more than {CHAIN_HEADER_MAX} characters of it")
    return chain_pem(answer.url, urllib.parse.unquote_to_bytes(text.encode("utf-8", "replace")))


def chain_pem(url: str, pem: bytes) -> bytes:
    """Return a PEM chain as we write it.

    Raises:
        UnavailableError: `endorsements.source`, for anything but 1 to 3 certificates.
    """
    code = Code.ENDORSEMENTS_SOURCE
    try:
        ders = decode_pem(pem, CERTIFICATE, code, count=PCK_CHAIN_MAX, limit=CERTIFICATE_MAX)
    except FormatError as error:
        raise source(url, error.detail) from error
    certificates = [load_certificate(der) for der in ders]
    if None in certificates:
        raise source(url, "not a chain of certificates")
    return b"".join(item.public_bytes(Encoding.PEM) for item in certificates if item is not None)


def revocation_list(answer: Answer, kind: Kind) -> bytes:
    """Return the DER of the CRL that an answer's body is, in DER, PEM, hex or base64.

    Raises:
        UnavailableError: `endorsements.source`, for anything else.
        RefusedError: `endorsements.rejected`, for a CRL of another kind of issuer.
    """
    try:
        found = detect(answer.body, answer.url)
    except FormatError as error:
        raise source(answer.url, error.detail) from error
    if isinstance(found, Bundle) or len(found) != 1:
        raise source(answer.url, "not one CRL")
    if found[0].kind is not kind:
        raise rejected(answer.url, f"a {found[0].kind}; a {kind} was asked for")
    return found[0].data


@dataclass(frozen=True, slots=True)
class PckRequest:
    """What names a platform at one TCB level.

    Attributes:
        encrypted_ppid: 384 bytes (RSA-3072), as the platform's PCK ID retrieval tool prints it.
        cpu_svn: 16 bytes.
        pce_svn: 2 bytes, little-endian.
        pce_id: 2 bytes.
        qe_id: 16 bytes; a PCCS needs it, empty for PCS.
    """

    encrypted_ppid: bytes
    cpu_svn: bytes
    pce_svn: bytes
    pce_id: bytes
    qe_id: bytes = b""

    def query(self) -> dict[str, str]:
        """Return the query, hex."""
        fields = {
            "encrypted_ppid": self.encrypted_ppid,
            "cpusvn": self.cpu_svn,
            "pcesvn": self.pce_svn,
            "pceid": self.pce_id,
            "qeid": self.qe_id,
        }
        return {name: value.hex() for name, value in fields.items() if value}


async def fetch_pck(service: IntelService, request: PckRequest, roots: Roots, now: datetime) -> tuple[bytes, PckChain]:
    """Fetch a platform's PCK certificate for one TCB level.

    Returns:
        The chain in PEM, leaf first, and what it says.

    Raises:
        UnavailableError: as `fetch_intel`.
        RefusedError: `endorsements.rejected`, for a chain that does not verify, another PCE, or a TCB level that is
            higher than what was asked.
    """
    answer = await service.get(Tee.SGX, "pckcert", request.query())
    pem = chain_pem(answer.url, answer.body) + issuer_chain(answer, _PCK_CHAIN)
    code = Code.ENDORSEMENTS_SOURCE
    try:
        ders = decode_pem(pem, CERTIFICATE, code, count=2 * PCK_CHAIN_MAX, limit=CERTIFICATE_MAX)
        chain = verify_pck_chain(ders, Tee.SGX, roots, now, pool=())
    except ProxyAttestationError as error:
        raise translated(answer.url, error) from error
    if chain.root is None:
        raise rejected(answer.url, "the chain has no root")
    _check_pck(answer, chain, request)
    return pem, chain


def _check_pck(answer: Answer, chain: PckChain, request: PckRequest) -> None:
    extension = chain.extension
    if extension.pce_id != request.pce_id:
        raise rejected(answer.url, f"a certificate for the PCE {extension.pce_id.hex()}")
    # PCS answers with the highest level at or below the platform's own; CPUSVN itself is opaque (QVL 4.1.2.4.15).
    if extension.pce_svn > int.from_bytes(request.pce_svn, "little"):
        raise rejected(answer.url, f"a certificate for the PCE SVN {extension.pce_svn}, which is higher than asked for")
    told = answer.headers.get("sgx-fmspc", "")
    if told and (not _HEX.fullmatch(told) or bytes.fromhex(told) != extension.fmspc):
        raise rejected(answer.url, "SGX-FMSPC is not that of the certificate")
