"""AMD's certificates and revocation lists from its Key Distribution Service (KDS).

A set is one product's: for VCEKs the chain (ASK, ARK) and the CRL that the ARK signs, for VLEKs the same with the ASVK,
and the VCEKs of chips that were named. Checked in this order; nothing is used before the last step:

 1  each answer is 200, within size and time                                                 (`http.Getter`)
 2  chains are PEM with the signing key first and the root second; CRLs and VCEKs are DER
 3  chain and CRL verify to a pinned ARK at `now`                                            (`ChainCheck`)
 4  a VCEK is signed by the ASK and is for the chip and the TCB that were asked for
 5  no CRL goes back                                                                         (`fetched.check_not_older`)

A VCEK never changes for a chip and a TCB, so one that the cache has is verified again and not asked for again.

Source: AMD document 57230, "VCEK Certificate and KDS Interface Specification", chapters 3 and 4.
"""

import hashlib
import re
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Final, TypeAlias

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.utils import CryptographyDeprecationWarning

from proxy_attestation.codes import Code
from proxy_attestation.endorsements.detect import common_name
from proxy_attestation.endorsements.fetched import (
    FetchedSet,
    Window,
    check_not_older,
    half_life,
    rejected,
    source,
    stale,
)
from proxy_attestation.endorsements.http import Getter
from proxy_attestation.errors import FormatError
from proxy_attestation.formats.bounds import CERTIFICATE_MAX, COLLATERAL_DOCUMENT_MAX
from proxy_attestation.formats.pem import CERTIFICATE, decode_pem

KDS_BASE: Final = "https://kdsintf.amd.com"
PRODUCTS: Final = ("Milan", "Genoa", "Turin")
VCEKS_MAX: Final = 64
"""Chips and TCBs of one set."""
HWID_LENGTH: Final = 64
TURIN_HWID_LENGTH: Final = 8
_OID: Final = "1.3.6.1.4.1.3704.1"
_SPL_OIDS: Final = {"fmc": ".3.9", "bl": ".3.1", "tee": ".3.2", "snp": ".3.3", "ucode": ".3.8"}
"""By the name of a TCB component; in the order of KDS's query."""
_HWID_OID: Final = f"{_OID}.4"
_CHAIN_FILE: Final = "{}_cert_chain.pem"
_CRL_FILE: Final = "{}_crl.der"
_VCEK_FILE: Final = re.compile(r"vcek-[0-9a-f]{32}\.der")
_PARSE_ERRORS: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    InvalidSignature,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.UnsupportedGeneralNameType,
)

AmdPins: TypeAlias = Mapping[str, frozenset[bytes]]
"""By product: SPKI SHA-256 of the ARKs that count, 32 bytes each."""
AMD_PINS: Final[AmdPins] = {
    "Milan": frozenset({bytes.fromhex("9f056bee44377e29308cb5ffa895bdfb62d18881fa6bed8d6f075b0204089cb9")}),
    "Genoa": frozenset({bytes.fromhex("429a69c9422aa258ee4d8db5fcda9c6470ef15f8cd5a9cebd6cbc7d90b863831")}),
    "Turin": frozenset({bytes.fromhex("4f125410563a2ab9a50356f9243f6fe0b6f73de98603f53f90339c70e9d7ad08")}),
}


@dataclass(frozen=True, slots=True)
class ChainPieces:
    """What `ChainCheck` is given.

    Attributes:
        product: one of `PRODUCTS`.
        kind: `vcek` or `vlek`.
        signer: DER of the ASK or ASVK.
        root: DER of the ARK.
        crl: DER.
    """

    product: str
    kind: str
    signer: bytes
    root: bytes
    crl: bytes


@dataclass(frozen=True, slots=True)
class ChainFacts:
    """What a check found.

    Attributes:
        crl_number: of the CRL, or None where it has none.
        crl_window: from the CRL's this update to its next.
        valid_until: the earliest end of either certificate and of the CRL, UTC.
    """

    crl_number: int | None
    crl_window: Window
    valid_until: datetime


ChainCheck: TypeAlias = Callable[[ChainPieces, AmdPins, datetime], ChainFacts]
"""Verifies a chain and its CRL to a pinned ARK. Raises RefusedError or UnavailableError, `endorsements.*`."""


@dataclass(frozen=True, slots=True)
class VcekRequest:
    """A chip at one TCB.

    Attributes:
        hwid: CHIP_ID of the report: 64 bytes, for Turin the first 8.
        tcb: component by name: `bl`, `tee`, `snp`, `ucode`, for Turin `fmc` too; 0 to 255 each.
    """

    hwid: bytes
    tcb: Mapping[str, int]

    @property
    def file_name(self) -> str:
        """The file of this VCEK. The chip's id is only in it as a digest."""
        label = self.hwid + bytes(self.tcb.get(name, 0) for name in _SPL_OIDS)
        return f"vcek-{hashlib.sha256(label).hexdigest()[:32]}.der"


@dataclass(frozen=True, slots=True)
class AmdTarget:
    """A product to have endorsements for.

    Attributes:
        product: one of `PRODUCTS`.
        vlek: whether the VLEK chain and its CRL are wanted too.
        vceks: chips whose VCEKs are wanted; evidence usually brings its own.
    """

    product: str
    vlek: bool = False
    vceks: tuple[VcekRequest, ...] = ()

    @property
    def name(self) -> str:
        """`snp-<product in lower case>`."""
        return f"snp-{self.product.lower()}"

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of signing key whose chain and CRL are wanted."""
        return ("vcek", "vlek") if self.vlek else ("vcek",)


def parse_vcek(text: str, product: str) -> VcekRequest:
    """Read `HWID:bl=N,tee=N,snp=N,ucode=N`, for Turin with `fmc=N` too.

    Raises:
        ValueError: for anything else.
    """
    hwid, _, components = text.partition(":")
    turin = product == "Turin"
    length = TURIN_HWID_LENGTH if turin else HWID_LENGTH
    if not re.fullmatch(rf"[0-9A-Fa-f]{{{2 * length}}}", hwid):
        raise ValueError(f"a chip id of {length} bytes in hex was expected before the colon")
    pairs = [item.partition("=") for item in components.split(",")]
    tcb = {name: int(number) for name, _, number in pairs if re.fullmatch(r"[0-9]{1,3}", number)}
    wanted = {name for name in _SPL_OIDS if turin or name != "fmc"}
    if len(pairs) != len(wanted) or set(tcb) != wanted or max(tcb.values()) > 0xFF:
        raise ValueError(f"after the colon {', '.join(f'{name}=N' for name in _SPL_OIDS if name in wanted)}; N to 255")
    if not any(bytes.fromhex(hwid)):
        raise ValueError("a chip id of zeros names no chip: the platform masks it")
    return VcekRequest(bytes.fromhex(hwid), tcb)


async def fetch_amd(
    getter: Getter,
    base: str,
    target: AmdTarget,
    pins: AmdPins,
    now: datetime,
    *,
    held: Mapping[str, int],
    held_files: Mapping[str, bytes],
    check: ChainCheck | None = None,
) -> FetchedSet:
    """Fetch and check a product's set.

    Args:
        getter: how.
        base: of KDS, without `/vcek/v1/...`.
        target: what.
        pins: the anchors.
        now: aware, UTC.
        held: the numbers of the set that the cache has; none go back.
        held_files: the files of that set, for VCEKs that need not be asked for again.
        check: verifies chains; `check_chain` by default.

    Raises:
        UnavailableError: as `Getter.get`; `endorsements.source`, `endorsements.stale`.
        RefusedError: `endorsements.rejected`.
    """
    files: dict[str, bytes] = {}
    for kind in target.kinds:
        where = f"{base}/{kind}/v1/{target.product}"
        chain = await getter.get(f"{where}/cert_chain", limit=4 * CERTIFICATE_MAX)
        files[_CHAIN_FILE.format(kind)] = chain.body
        crl = await getter.get(f"{where}/crl", limit=COLLATERAL_DOCUMENT_MAX)
        files[_CRL_FILE.format(kind)] = crl.body
    for vcek in target.vceks:
        name = vcek.file_name
        if name in held_files:
            files[name] = held_files[name]
        else:
            query = {f"{component}SPL": f"{vcek.tcb[component]:02}" for component in _SPL_OIDS if component in vcek.tcb}
            url = f"{base}/vcek/v1/{target.product}/{vcek.hwid.hex()}"
            files[name] = (await getter.get(url, limit=CERTIFICATE_MAX, query=query)).body
    return check_amd(files, target, pins, now, held=held, check=check)


def check_amd(
    files: Mapping[str, bytes],
    target: AmdTarget,
    pins: AmdPins,
    now: datetime,
    *,
    held: Mapping[str, int],
    check: ChainCheck | None = None,
) -> FetchedSet:
    """Check a set that was fetched or imported: steps 2 to 5. Pure.

    Raises:
        UnavailableError: `endorsements.source`, `endorsements.stale`.
        RefusedError: `endorsements.rejected`.
    """
    checked = check if check is not None else check_chain
    kept: dict[str, bytes] = {}
    numbers: dict[str, int] = {}
    windows: list[Window] = []
    ends: list[datetime] = []
    signers: dict[str, bytes] = {}
    for kind in target.kinds:
        # 2
        chain_file, crl_file = _CHAIN_FILE.format(kind), _CRL_FILE.format(kind)
        if chain_file not in files or crl_file not in files:
            raise source(target.name, f"{chain_file} or {crl_file} is absent")
        signer, root = _chain(target.name, files[chain_file])
        # 3
        facts = checked(ChainPieces(target.product, kind, signer, root, files[crl_file]), pins, now)
        kept[chain_file] = files[chain_file]
        kept[crl_file] = files[crl_file]
        signers[kind] = signer
        windows.append(facts.crl_window)
        ends.append(facts.valid_until)
        numbers[f"{kind} crl issue date"] = int(facts.crl_window[0].timestamp())
        if facts.crl_number is not None:
            numbers[f"{kind} crl number"] = facts.crl_number
    # 4
    wanted = {vcek.file_name: vcek for vcek in target.vceks}
    names = [name for name in files if _VCEK_FILE.fullmatch(name)]
    if len(names) > VCEKS_MAX or not wanted.keys() <= set(names):
        raise source(target.name, f"a VCEK is absent, or there are more than {VCEKS_MAX}")
    for name in names:
        check_vcek(target.name, files[name], signers["vcek"], wanted.get(name), now)
        kept[name] = files[name]
    # 5
    check_not_older(target.name, numbers, held)
    return FetchedSet(target.name, kept, numbers, half_life(windows), min(ends))


def check_chain(pieces: ChainPieces, pins: AmdPins, now: datetime) -> ChainFacts:
    """Verify a chain and its CRL: what the walk for SEV-SNP evidence does again with each report's chain.

    Raises:
        UnavailableError: `endorsements.source`, `endorsements.stale`.
        RefusedError: `endorsements.rejected`.
    """
    name = f"{pieces.kind} chain of {pieces.product}"
    root, signer = _certificate(name, pieces.root), _certificate(name, pieces.signer)
    try:
        spki = root.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        if hashlib.sha256(spki).digest() not in pins.get(pieces.product, frozenset()):
            raise rejected(name, "its root is not the pinned ARK of this product")
        expected = ("SEV-VLEK-" if pieces.kind == "vlek" else "SEV-") + pieces.product
        if common_name(signer.subject) != expected:
            raise rejected(name, f"a chain of {common_name(signer.subject)!r}; {expected!r} was asked for")
        for child in (root, signer):
            if not isinstance(child.signature_hash_algorithm, SHA384):
                raise rejected(name, "a certificate that is not signed with SHA-384")
            child.verify_directly_issued_by(root)
        key = root.public_key()
        crl = x509.load_der_x509_crl(pieces.crl)
        if not isinstance(key, rsa.RSAPublicKey) or crl.issuer != root.subject or not crl.is_signature_valid(key):
            raise rejected(name, "the ARK did not sign the CRL")
        if any(entry.serial_number == signer.serial_number for entry in crl):
            raise rejected(name, f"{expected} is revoked")
        number = next((x.value.crl_number for x in crl.extensions if isinstance(x.value, x509.CRLNumber)), None)
        window = crl.last_update_utc, crl.next_update_utc
        lives = [(item.not_valid_before_utc, item.not_valid_after_utc) for item in (root, signer)]
    except InvalidSignature as error:
        raise rejected(name, "the ARK did not sign it") from error
    except _PARSE_ERRORS as error:
        raise source(name, f"no chain or CRL that can be read: {error}") from error
    start, end = window
    if end is None:
        raise source(name, "a CRL without next update")
    for begins, ends in (*lives, (start, end)):
        if not begins <= now <= ends:
            raise stale(name, f"a piece holds from {begins} to {ends}")
    return ChainFacts(number, (start, end), min(end, *(ends for _, ends in lives)))


def check_vcek(name: str, der: bytes, signer: bytes, wanted: VcekRequest | None, now: datetime) -> None:
    """Check that a VCEK is signed by the ASK, holds now, and is for the chip and TCB that were asked for.

    Raises:
        UnavailableError: `endorsements.source`, `endorsements.stale`.
        RefusedError: `endorsements.rejected`.
    """
    certificate = _certificate(name, der)
    try:
        key = certificate.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP384R1):
            raise rejected(name, "a VCEK whose key is not P-384")
        certificate.verify_directly_issued_by(_certificate(name, signer))
        values = {
            item.oid.dotted_string: item.value.value
            for item in certificate.extensions
            if isinstance(item.value, x509.UnrecognizedExtension)
        }
        tcb = {
            part: asn1.decode_der(int, values[_OID + oid]) for part, oid in _SPL_OIDS.items() if _OID + oid in values
        }
        hwid = values[_HWID_OID]
        begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    except InvalidSignature as error:
        raise rejected(name, "the ASK did not sign the VCEK") from error
    except (*_PARSE_ERRORS, KeyError) as error:
        raise source(name, f"no VCEK that can be read: {error}") from error
    if not begins <= now <= ends:
        raise stale(name, f"the VCEK holds from {begins} to {ends}")
    if wanted is None:
        return
    if len(hwid) == HWID_LENGTH + 2 and hwid[:2] == bytes((4, HWID_LENGTH)):  # a DER OCTET STRING around it
        hwid = hwid[2:]
    if hwid.rstrip(b"\0") != wanted.hwid.rstrip(b"\0") or len(hwid) < len(wanted.hwid):
        raise rejected(name, "a VCEK of another chip")
    if any(tcb.get(part) != number for part, number in wanted.tcb.items()):
        raise rejected(name, f"a VCEK for the TCB {tcb}")


def _chain(name: str, pem: bytes) -> tuple[bytes, bytes]:
    try:
        ders = decode_pem(pem, CERTIFICATE, Code.ENDORSEMENTS_SOURCE, count=2, limit=CERTIFICATE_MAX)
    except FormatError as error:
        raise source(name, error.detail) from error
    if len(ders) != 2:
        raise source(name, "a chain of one certificate; the signing key and the root were expected")
    return ders[0], ders[1]


def _certificate(name: str, der: bytes) -> x509.Certificate:
    """Read a certificate, by name allowing what `cryptography` warns of: AMD's VCEKs have the serial number 0."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", UserWarning)
            warnings.simplefilter("ignore", CryptographyDeprecationWarning)
            certificate = x509.load_der_x509_certificate(der)
            _ = certificate.subject, certificate.issuer
    except (*_PARSE_ERRORS, UserWarning) as error:
        raise source(name, "not a certificate") from error
    return certificate
