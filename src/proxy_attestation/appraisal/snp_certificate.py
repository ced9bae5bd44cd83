"""AMD's certificates and revocation lists (RFC 5280), read one at a time.

Everything in AMD's hierarchy is signed with RSASSA-PSS, SHA-384 and a salt of 48 bytes, by RSA keys of 4096 bits; the
keys that sign reports are ECDSA P-384 (AMD's 57230). Nothing else is accepted. Their certificates have serial
number 0, which RFC 5280 forbids: `cryptography` warns of it, and exactly that warning is expected here.
"""

import hashlib
import warnings
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NoReturn

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import NameOID, SignatureAlgorithmOID

from proxy_attestation.appraisal.x509_chain import RevocationList
from proxy_attestation.codes import Code
from proxy_attestation.errors import AppraisalError
from proxy_attestation.formats.bounds import CERTIFICATE_MAX, SNP_CRL_MAX
from proxy_attestation.formats.snp_certificates import AMD_ARC

_SHA384: Final = hashes.SHA384()
_PSS: Final = padding.PSS(padding.MGF1(_SHA384), salt_length=48)
_RSA_BITS: Final = 4096
_RSA_EXPONENT: Final = 65537
_HEADER: Final = 4
"""Bytes of tag and length before 256 to 65535 bytes of content, which everything with such a signature has."""
_SERIAL_WARNING: Final = "Parsed a serial number which wasn't positive"
# What `cryptography` raises on bytes that are no acceptable certificate or list, eagerly or on first use.
_PARSE_ERRORS: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
    UserWarning,
)


@dataclass(frozen=True, slots=True)
class AmdCertificate:
    """What the walk needs of one certificate.

    Attributes:
        der: the certificate.
        subject: its subject.
        issuer: its issuer's subject.
        common_name: of the subject; empty where there is none or more than one.
        serial: 0 or more.
        key: RSA of 4096 bits (ARK, ASK, ASVK) or P-384 (VCEK, VLEK).
        spki_sha256: 32 bytes, over the DER of the SubjectPublicKeyInfo.
        not_before: UTC, inclusive.
        not_after: UTC, inclusive.
        path_length: None for an end entity; for a CA the number of CAs that may follow (255 where it is unlimited).
        key_cert_sign: from keyUsage; False where the extension is absent, and so the next one.
        crl_sign: from keyUsage.
        tbs: what the issuer signed.
        signature: the issuer's.
        extensions: the values of all extensions below AMD's arc, by dotted OID.
    """

    der: bytes
    subject: x509.Name
    issuer: x509.Name
    common_name: str
    serial: int
    key: rsa.RSAPublicKey | ec.EllipticCurvePublicKey
    spki_sha256: bytes
    not_before: datetime
    not_after: datetime
    path_length: int | None
    key_cert_sign: bool
    crl_sign: bool
    tbs: bytes
    signature: bytes
    extensions: Mapping[str, bytes]


def refuse(code: Code, detail: str, cause: BaseException | None = None) -> NoReturn:
    """Raise the refusal.

    Raises:
        AppraisalError: with `code`, always.
    """
    raise AppraisalError(code, detail) from cause


def read_amd_certificate(der: bytes) -> AmdCertificate:
    """Read a certificate; nothing is verified yet.

    Raises:
        AppraisalError: `snp.chain`; `snp.vek` for an extension that stands twice.
    """
    if len(der) > CERTIFICATE_MAX:
        refuse(Code.SNP_CHAIN, f"a certificate of {len(der)} bytes")
    try:
        with expecting_serial_zero():
            return _read(x509.load_der_x509_certificate(der))
    except x509.DuplicateExtension as error:
        refuse(Code.SNP_VEK, "an extension stands twice", error)
    except _PARSE_ERRORS as error:
        refuse(Code.SNP_CHAIN, "not an X.509 certificate that we accept", error)


@contextmanager
def expecting_serial_zero() -> Iterator[None]:
    """Silence the one warning that `cryptography` has for AMD's serial number 0, and no other."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", _SERIAL_WARNING, CryptographyDeprecationWarning)
        yield


def _read(certificate: x509.Certificate) -> AmdCertificate:
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        known = key.key_size == _RSA_BITS and key.public_numbers().e == _RSA_EXPONENT
    else:
        known = isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP384R1)
    if not known or not isinstance(key, (rsa.RSAPublicKey, ec.EllipticCurvePublicKey)):
        refuse(Code.SNP_CHAIN, "a key that is neither RSA of 4096 bits nor P-384")
    if certificate.version is not x509.Version.v3 or certificate.serial_number < 0:
        refuse(Code.SNP_CHAIN, "a certificate of another version than 3, or its serial number")
    _require_pss(certificate, certificate.tbs_certificate_bytes, Code.SNP_CHAIN)
    constraints = usage = None
    extensions: dict[str, bytes] = {}
    for extension in certificate.extensions:
        value, oid = extension.value, extension.oid.dotted_string
        if isinstance(value, x509.BasicConstraints):
            constraints = value
        elif isinstance(value, x509.KeyUsage):
            usage = value
        elif isinstance(value, x509.UnrecognizedExtension) and oid.startswith(f"{AMD_ARC}."):
            extensions[oid] = value.value
        elif extension.critical:
            refuse(Code.SNP_CHAIN, f"unknown critical extension {oid}")
    path_length = None
    if constraints is not None and constraints.ca:
        path_length = 255 if constraints.path_length is None else constraints.path_length
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return AmdCertificate(
        der=certificate.public_bytes(Encoding.DER),
        subject=certificate.subject,
        issuer=certificate.issuer,
        common_name=str(names[0].value) if len(names) == 1 else "",
        serial=certificate.serial_number,
        key=key,
        spki_sha256=hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest(),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        path_length=path_length,
        key_cert_sign=usage is not None and usage.key_cert_sign,
        crl_sign=usage is not None and usage.crl_sign,
        tbs=certificate.tbs_certificate_bytes,
        signature=certificate.signature,
        extensions=extensions,
    )


def _require_pss(signed: x509.Certificate | x509.CertificateRevocationList, tbs: bytes, code: Code) -> None:
    algorithm = signed.signature_algorithm_oid
    if algorithm != SignatureAlgorithmOID.RSASSA_PSS or not isinstance(signed.signature_hash_algorithm, hashes.SHA384):
        refuse(code, "a signature other than RSASSA-PSS with SHA-384")
    # The algorithm stands inside what is signed and once more behind it, and must be the same (RFC 5280, 4.1.1.2).
    outer, rest = signed.public_bytes(Encoding.DER)[_HEADER + len(tbs) :], _HEADER + 1 + _RSA_BITS // 8
    # The byte before the signature counts the unused bits of its BIT STRING.
    if len(signed.signature) != _RSA_BITS // 8 or outer[:-rest] not in tbs or outer[_HEADER - rest]:
        refuse(code, "a signature of another length, or of another algorithm than was signed")


def signed_by(issuer: AmdCertificate, signature: bytes, tbs: bytes) -> bool:
    """Tell whether an RSASSA-PSS signature with SHA-384, MGF1 with SHA-384 and a salt of 48 bytes is good."""
    if not isinstance(issuer.key, rsa.RSAPublicKey):
        return False
    try:
        issuer.key.verify(signature, tbs, _PSS, _SHA384)
    except InvalidSignature:
        return False
    return True


def report_signed_by(key: ec.EllipticCurvePublicKey, signature: bytes, data: bytes) -> bool:
    """Tell whether a DER-encoded ECDSA signature with SHA-384 is good."""
    try:
        key.verify(signature, data, ec.ECDSA(_SHA384))
    except InvalidSignature:
        return False
    return True


@dataclass(frozen=True, slots=True)
class AmdCrl:
    """A revocation list that was read, and not verified.

    Attributes:
        issuer: its issuer's subject.
        tbs: what the issuer signed.
        signature: the issuer's.
        content: what it says.
    """

    issuer: x509.Name
    tbs: bytes
    signature: bytes
    content: RevocationList


def read_amd_crl(der: bytes, serials: Collection[int]) -> AmdCrl:
    """Read a revocation list; nothing is verified yet.

    Args:
        der: the list.
        serials: whom it is asked about: `revoked` names none but these.

    Raises:
        AppraisalError: `snp.crl`.
    """
    if len(der) > SNP_CRL_MAX:
        refuse(Code.SNP_CRL, f"a list of {len(der)} bytes")
    try:
        with expecting_serial_zero():
            crl = x509.load_der_x509_crl(der)
            _require_pss(crl, crl.tbs_certlist_bytes, Code.SNP_CRL)
            number = None
            for extension in crl.extensions:
                if isinstance(extension.value, x509.CRLNumber):
                    number = extension.value.crl_number
                elif extension.critical:
                    refuse(Code.SNP_CRL, f"unknown critical extension {extension.oid.dotted_string}")
            next_update = crl.next_update_utc
            if number is None or next_update is None:
                refuse(Code.SNP_CRL, "a list without number or next update")
            revoked = frozenset(n for n in serials if crl.get_revoked_certificate_by_serial_number(n) is not None)
            content = RevocationList(number, crl.last_update_utc, next_update, revoked)
            return AmdCrl(crl.issuer, crl.tbs_certlist_bytes, crl.signature, content)
    except (*_PARSE_ERRORS, x509.DuplicateExtension) as error:
        refuse(Code.SNP_CRL, "not a revocation list that we accept", error)
