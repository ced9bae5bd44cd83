"""The vendor's certificates and revocation lists."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID, ObjectIdentifier

from proxy_attestation_simulator import der
from proxy_attestation_simulator.recipes import Crl, PckRecipe

_SGX_EXTENSIONS: Final = "1.2.840.113741.1.13.1"
_SCALABLE: Final = 1


@dataclass(frozen=True, slots=True)
class Authority:
    """A key and its certificate."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def pem(self) -> bytes:
        """The certificate in PEM."""
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def der(self) -> bytes:
        """The certificate in DER."""
        return self.certificate.public_bytes(Encoding.DER)


def name(common_name: str) -> x509.Name:
    """Return a subject that nobody can take for a real vendor's."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "SIMULATED"),
        ]
    )


def issue(
    common_name: str,
    key: ec.EllipticCurvePrivateKey,
    serial: int,
    not_before: datetime,
    not_after: datetime,
    *,
    issuer: Authority | None,
    signing_key: ec.EllipticCurvePrivateKey | None = None,
    path_length: int | None = None,
    extension: bytes | None = None,
) -> x509.Certificate:
    """Issue a certificate with the extensions of Intel's own.

    Args:
        common_name: of the subject.
        key: the subject's.
        serial: of the certificate.
        not_before: UTC.
        not_after: UTC.
        issuer: or None for a self-signed one.
        signing_key: signs instead of the issuer's key, for a certificate that must not verify.
        path_length: makes it a CA's.
        extension: value of the SGX extension, DER.
    """
    is_ca = path_length is not None
    issuer_key = issuer.key if issuer else key
    usage = x509.KeyUsage(
        digital_signature=not is_ca,
        content_commitment=not is_ca,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_ca,
        crl_sign=is_ca,
        encipher_only=False,
        decipher_only=False,
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(common_name))
        .issuer_name(issuer.certificate.subject if issuer else name(common_name))
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(not_before)
        .not_valid_after(not_after)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(usage, critical=True)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=path_length), critical=True)
    )
    if extension is not None:
        value = x509.UnrecognizedExtension(ObjectIdentifier(_SGX_EXTENSIONS), extension)
        builder = builder.add_extension(value, critical=False)
    return builder.sign(signing_key or issuer_key, hashes.SHA256(), ecdsa_deterministic=True)


def sgx_extension(pck: PckRecipe, *, platform_ca: bool) -> bytes:
    """Encode the value of a PCK certificate's SGX extension: 5 items, of the platform CA 7.

    Source: Intel, "SGX PCK Certificate and Certificate Revocation List Profile Specification", section 1.3.5.
    """

    def item(suffix: str, value: bytes) -> bytes:
        return der.sequence((der.object_identifier(f"{_SGX_EXTENSIONS}.{suffix}"), value))

    svns = pck.svns[:-1] if pck.extension == "short" else pck.svns
    tcb = [item(f"2.{number}", der.integer(svn)) for number, svn in enumerate(svns, 1)]
    tcb += [item("2.17", der.integer(pck.pce_svn)), item("2.18", der.octet_string(pck.cpu_svn))]
    items = [
        item("1", der.octet_string(pck.ppid)),
        item("2", der.sequence(tcb)),
        item("3", der.octet_string(pck.pce_id)),
        item("4", der.octet_string(pck.fmspc)),
        item("5", der.enumerated(_SCALABLE if platform_ca else 0)),
    ]
    if platform_ca:
        configuration = [item(f"7.{number}", der.boolean(True)) for number in (1, 2, 3)]
        items.append(item("6", der.octet_string(pck.platform_instance_id)))
        items.append(item("7", der.sequence(configuration)))
    return der.sequence(items) + (b"\x05\x00" if pck.extension == "trailing" else b"")


def revocation_list(crl: Crl, issuer: Authority, signing_key: ec.EllipticCurvePrivateKey) -> bytes:
    """Issue a revocation list; return its DER."""
    key_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.key.public_key())
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(crl.last_update)
        .next_update(crl.next_update)
        .add_extension(key_id, critical=False)
    )
    if crl.number is not None:
        builder = builder.add_extension(x509.CRLNumber(crl.number), critical=False)
    for serial in crl.revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(crl.last_update)
        reason = x509.CRLReason(x509.ReasonFlags.key_compromise)
        builder = builder.add_revoked_certificate(entry.add_extension(reason, critical=False).build())
    return builder.sign(signing_key, hashes.SHA256(), ecdsa_deterministic=True).public_bytes(Encoding.DER)


def pem_chain(certificates: Sequence[x509.Certificate]) -> bytes:
    """Return certificates in PEM, one after the other."""
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)
