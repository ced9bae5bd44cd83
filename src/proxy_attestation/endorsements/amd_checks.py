"""What AMD's endorsements are checked for before they are kept: a chain with its revocation list, and a VCEK.

Source: AMD document 57230, "VCEK Certificate and KDS Interface Specification", chapters 3 and 4.
"""

import hashlib
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

from proxy_attestation.appraisal.roots import AMD_ARKS
from proxy_attestation.endorsements.detect import common_name
from proxy_attestation.endorsements.fetched import (
    Window,
    rejected,
    source,
    stale,
)

HWID_LENGTH: Final = 64
TURIN_HWID_LENGTH: Final = 8
_OID: Final = "1.3.6.1.4.1.3704.1"
SPL_OIDS: Final = {"fmc": ".3.9", "bl": ".3.1", "tee": ".3.2", "snp": ".3.3", "ucode": ".3.8"}
"""By the name of a TCB component; in the order of KDS's query."""
_HWID_OID: Final = f"{_OID}.4"
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
AMD_PINS: Final[AmdPins] = {str(product): pins for product, pins in AMD_ARKS.items()}


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
        label = self.hwid + bytes(self.tcb.get(name, 0) for name in SPL_OIDS)
        return f"vcek-{hashlib.sha256(label).hexdigest()[:32]}.der"


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
        tcb = {part: asn1.decode_der(int, values[_OID + oid]) for part, oid in SPL_OIDS.items() if _OID + oid in values}
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
