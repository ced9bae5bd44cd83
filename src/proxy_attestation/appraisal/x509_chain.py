"""Vendors' certificates and revocation lists (RFC 5280), checked one step at a time.

Everything in Intel's hierarchy is ECDSA P-256 with SHA-256, and in that of AWS Nitro ECDSA P-384 with SHA-384; nothing
else is accepted. Critical extensions other than basicConstraints and keyUsage are refused: we would not know what they
restrict.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.x509.oid import NameOID, SignatureAlgorithmOID

from proxy_attestation.appraisal.refusal import refuse
from proxy_attestation.formats.bounds import COLLATERAL_DOCUMENT_MAX
from proxy_attestation.formats.dcap_codes import DcapFault, dcap_code
from proxy_attestation.formats.pck import SGX_EXTENSION
from proxy_attestation.formats.pem import CRL, decode_pem, is_pem
from proxy_attestation.formats.tee import Tee

# By the issuer's curve; both hierarchies have the same curve and the same hash throughout.
_ECDSA: Final = {"secp256r1": ec.ECDSA(hashes.SHA256()), "secp384r1": ec.ECDSA(hashes.SHA384())}
_ALGORITHM: Final = {
    "secp256r1": SignatureAlgorithmOID.ECDSA_WITH_SHA256,
    "secp384r1": SignatureAlgorithmOID.ECDSA_WITH_SHA384,
}
# What `cryptography` raises on bytes that are no acceptable certificate or list, eagerly or on first use. It warns of
# a serial number below one; where warnings are errors that is a refusal too.
_PARSE_ERRORS: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    UserWarning,
)


@dataclass(frozen=True, slots=True)
class Certificate:
    """What the walk needs of one certificate.

    Attributes:
        der: the certificate.
        subject: its subject.
        issuer: its issuer's subject.
        common_name: of the subject; empty where there is none or more than one.
        serial: positive.
        public_key: of the curve that `read_certificate` was asked for.
        spki_sha256: 32 bytes, over the DER of the SubjectPublicKeyInfo.
        not_before: UTC, inclusive.
        not_after: UTC, inclusive.
        path_length: None for an end entity; for a CA the number of CAs that may follow (255 where it is unlimited).
        key_cert_sign: from keyUsage; False where the extension is absent, and so the next two.
        crl_sign: from keyUsage.
        digital_signature: from keyUsage.
        tbs: what the issuer signed.
        signature: DER.
        sgx_extension: the value of 1.2.840.113741.1.13.1, or None.
    """

    der: bytes
    subject: x509.Name
    issuer: x509.Name
    common_name: str
    serial: int
    public_key: ec.EllipticCurvePublicKey
    spki_sha256: bytes
    not_before: datetime
    not_after: datetime
    path_length: int | None
    key_cert_sign: bool
    crl_sign: bool
    digital_signature: bool
    tbs: bytes
    signature: bytes
    sgx_extension: bytes | None


@dataclass(frozen=True, slots=True)
class RevocationList:
    """A verified list.

    Attributes:
        number: the CRL number.
        this_update: UTC.
        next_update: UTC.
        revoked: serial numbers.
    """

    number: int
    this_update: datetime
    next_update: datetime
    revoked: frozenset[int]


def read_certificate(der: bytes, tee: str, curve: str = "secp256r1") -> Certificate:
    """Read a certificate; nothing is verified yet.

    Args:
        der: the certificate.
        tee: for the code.
        curve: of its key, and of the key that signed it: `secp256r1`, or `secp384r1`.

    Raises:
        AppraisalError: `<tee>.chain`.
    """
    try:
        certificate = x509.load_der_x509_certificate(der)
        key = certificate.public_key()
        if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != curve:
            refuse(tee, DcapFault.CHAIN, f"a certificate whose key is not {curve}")
        if certificate.signature_algorithm_oid != _ALGORITHM[curve]:
            refuse(tee, DcapFault.CHAIN, "a certificate that is not signed with ECDSA and its curve's hash")
        if certificate.version is not x509.Version.v3 or certificate.serial_number < 1:
            refuse(tee, DcapFault.CHAIN, "a certificate of another version than 3, or its serial number")
        constraints = usage = sgx_extension = None
        for extension in certificate.extensions:
            if isinstance(extension.value, x509.BasicConstraints):
                constraints = extension.value
            elif isinstance(extension.value, x509.KeyUsage):
                usage = extension.value
            elif extension.critical:
                refuse(tee, DcapFault.CHAIN, f"unknown critical extension {extension.oid.dotted_string}")
            elif extension.oid == SGX_EXTENSION and isinstance(extension.value, x509.UnrecognizedExtension):
                sgx_extension = extension.value.value
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return Certificate(
            der=der,
            subject=certificate.subject,
            issuer=certificate.issuer,
            common_name=str(names[0].value) if len(names) == 1 else "",
            serial=certificate.serial_number,
            public_key=key,
            spki_sha256=_sha256_of_spki(key),
            not_before=certificate.not_valid_before_utc,
            not_after=certificate.not_valid_after_utc,
            path_length=_path_length(constraints),
            key_cert_sign=usage is not None and usage.key_cert_sign,
            crl_sign=usage is not None and usage.crl_sign,
            digital_signature=usage is not None and usage.digital_signature,
            tbs=certificate.tbs_certificate_bytes,
            signature=certificate.signature,
            sgx_extension=sgx_extension,
        )
    except _PARSE_ERRORS as error:
        refuse(tee, DcapFault.CHAIN, "not an X.509 certificate that we accept", error)


def _sha256_of_spki(key: ec.EllipticCurvePublicKey) -> bytes:
    digest = hashes.Hash(hashes.SHA256())
    digest.update(key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo))
    return digest.finalize()


def _path_length(constraints: x509.BasicConstraints | None) -> int | None:
    if constraints is None or not constraints.ca:
        return None
    return 255 if constraints.path_length is None else constraints.path_length


def check_issued(child: Certificate, issuer: Certificate, tee: str, *, cas_below: int) -> None:
    """Check that `issuer` is a CA, may issue `child`, and signed it.

    Args:
        child: the certificate.
        issuer: the one that is said to have signed it; for a root, the root itself.
        tee: for the code.
        cas_below: how many intermediate CAs stand below `issuer`.

    Raises:
        AppraisalError: `<tee>.chain`.
    """
    if child.issuer != issuer.subject:
        refuse(tee, DcapFault.CHAIN, f"{child.common_name!r} names another issuer than {issuer.common_name!r}")
    if issuer.path_length is None or issuer.path_length < cas_below or not issuer.key_cert_sign:
        refuse(tee, DcapFault.CHAIN, f"{issuer.common_name!r} may not issue {child.common_name!r}")
    if not verifies(issuer.public_key, child.signature, child.tbs):
        refuse(tee, DcapFault.CHAIN, f"{issuer.common_name!r} did not sign {child.common_name!r}")


def check_end_entity(certificate: Certificate, name: str, tee: str, fault: DcapFault) -> None:
    """Check that a certificate may sign statements, is no CA, and has `name` in its common name.

    Raises:
        AppraisalError: `<tee>.<fault>`.
    """
    if certificate.path_length is not None or certificate.key_cert_sign or not certificate.digital_signature:
        refuse(tee, fault, f"{certificate.common_name!r} is not an end entity that signs")
    if name not in certificate.common_name:
        refuse(tee, fault, f"common name {certificate.common_name!r}; {name!r} was expected")


def check_validity(certificate: Certificate, now: datetime, tee: str) -> None:
    """Check notBefore and notAfter.

    Raises:
        AppraisalError: `<tee>.expired`.
    """
    if not certificate.not_before <= now <= certificate.not_after:
        refuse(
            tee,
            DcapFault.EXPIRED,
            f"{certificate.common_name!r} is valid from {certificate.not_before} to {certificate.not_after}",
        )


def read_crl(data: bytes, issuer: Certificate, now: datetime, tee: Tee) -> RevocationList:
    """Read a revocation list, DER or PEM, and check that `issuer` signed it and that it holds at `now`.

    Raises:
        AppraisalError: `<tee>.crl`, `<tee>.crl_expired`.
        FormatError: `<tee>.crl` for bad PEM.
    """
    if is_pem(data):
        (data,) = decode_pem(data, CRL, dcap_code(tee, DcapFault.CRL), count=1, limit=COLLATERAL_DOCUMENT_MAX)
    try:
        crl = x509.load_der_x509_crl(data)
        number = None
        for extension in crl.extensions:
            if isinstance(extension.value, x509.CRLNumber):
                number = extension.value.crl_number
            elif extension.critical:
                refuse(tee, DcapFault.CRL, f"unknown critical extension {extension.oid.dotted_string}")
        this_update, next_update = crl.last_update_utc, crl.next_update_utc
        signature, tbs = crl.signature, crl.tbs_certlist_bytes
        algorithm, name = crl.signature_algorithm_oid, crl.issuer
        revoked = frozenset(entry.serial_number for entry in crl)
    except _PARSE_ERRORS as error:
        refuse(tee, DcapFault.CRL, "not a revocation list that we accept", error)
    if number is None or next_update is None:
        refuse(tee, DcapFault.CRL, "a list without number or next update")
    if name != issuer.subject or not issuer.crl_sign or algorithm != SignatureAlgorithmOID.ECDSA_WITH_SHA256:
        refuse(tee, DcapFault.CRL, f"a list that {issuer.common_name!r} cannot have issued")
    if not verifies(issuer.public_key, signature, tbs):
        refuse(tee, DcapFault.CRL, f"{issuer.common_name!r} did not sign the list")
    if not this_update <= now <= next_update:
        refuse(tee, DcapFault.CRL_EXPIRED, f"the list holds from {this_update} to {next_update}")
    return RevocationList(number, this_update, next_update, revoked)


def verifies(key: ec.EllipticCurvePublicKey, signature: bytes, data: bytes) -> bool:
    """Tell whether a DER-encoded ECDSA signature with the hash of the key's curve is good."""
    try:
        key.verify(signature, data, _ECDSA[key.curve.name])
    except InvalidSignature:
        return False
    return True


def verifies_raw(key: ec.EllipticCurvePublicKey, signature: bytes, data: bytes) -> bool:
    """Tell whether an ECDSA signature with the hash of the key's curve, given as r and s of 32 or 48 bytes, is good."""
    half = len(signature) // 2
    r, s = int.from_bytes(signature[:half]), int.from_bytes(signature[half:])
    return verifies(key, encode_dss_signature(r, s), data)


def raw_public_key(point: bytes) -> ec.EllipticCurvePublicKey | None:
    """Return the P-256 key with this x and y (64 bytes, big-endian), or None where they are no point."""
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), b"\x04" + point)
    except ValueError:
        return None
