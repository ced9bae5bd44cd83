"""AMD's certificates and revocation lists, as the real ones are: RSASSA-PSS, and serial number 0 for a VCEK or VLEK.

A PSS signature has a random salt, so the same certificate made twice has the same key and other bytes.
"""

from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID, ObjectIdentifier

from proxy_attestation_simulator import der
from proxy_attestation_simulator.amd_keys import PSS, SHA384
from proxy_attestation_simulator.amd_recipes import VekRecipe
from proxy_attestation_simulator.recipes import Crl

AMD_ARC = "1.3.6.1.4.1.3704.1"
_CRITICAL = ObjectIdentifier("1.3.6.1.4.1.3704999.1")


def name(common_name: str) -> x509.Name:
    """Return a subject that nobody can take for AMD's."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "SIMULATED"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"Simulated {common_name}"),
        ]
    )


def issue_ca(
    subject: str,
    key: rsa.RSAPrivateKey,
    serial: int,
    validity: tuple[datetime, datetime],
    *,
    issuer: str,
    signing_key: rsa.RSAPrivateKey,
    path_length: int | None,
    is_ca: bool = True,
    crl_sign: bool = False,
) -> bytes:
    """Issue the certificate of an ARK, ASK or ASVK; return its DER."""
    usage = x509.KeyUsage(
        digital_signature=not is_ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=is_ca,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )
    constraints = x509.BasicConstraints(ca=is_ca, path_length=path_length if is_ca else None)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(subject))
        .issuer_name(name(issuer))
        .public_key(key.public_key())
        .serial_number(serial)
        .not_valid_before(validity[0])
        .not_valid_after(validity[1])
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(constraints, critical=True)
        .add_extension(usage, critical=True)
    )
    return builder.sign(signing_key, SHA384, rsa_padding=PSS).public_bytes(Encoding.DER)


def issue_vek(recipe: VekRecipe, key: ec.EllipticCurvePublicKey, issuer: str, signing_key: rsa.RSAPrivateKey) -> bytes:
    """Issue a VCEK or VLEK, with serial number 0; return its DER."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(recipe.common_name))
        .issuer_name(name(issuer))
        .public_key(key)
        .serial_number(1)
        .not_valid_before(recipe.not_before)
        .not_valid_after(recipe.not_after)
    )
    for oid, value in recipe.extensions:
        extension = x509.UnrecognizedExtension(ObjectIdentifier(f"{AMD_ARC}.{oid}"), value)
        builder = builder.add_extension(extension, critical=False)
    if recipe.is_ca:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
    if recipe.critical:
        builder = builder.add_extension(x509.UnrecognizedExtension(_CRITICAL, b"\x05\x00"), critical=True)
    certificate = builder.sign(signing_key, SHA384, rsa_padding=PSS)
    # No builder makes serial number 0, nor an extension twice: the bytes are changed and signed again.
    tbs = certificate.tbs_certificate_bytes
    for old, new in ((b"\xa0\x03\x02\x01\x02\x02\x01\x01", b"\xa0\x03\x02\x01\x02\x02\x01\x00"), *recipe.patches):
        if len(old) != len(new) or old not in tbs:
            raise ValueError("nothing to change, or something of another length")
        tbs = tbs.replace(old, new, 1)
    return signed_again(certificate, tbs, signing_key)


def signed_again(certificate: x509.Certificate, tbs: bytes, signing_key: rsa.RSAPrivateKey) -> bytes:
    """Return the DER of a certificate with other to-be-signed bytes and a good signature over them."""
    original = certificate.public_bytes(Encoding.DER)
    signature = der.tlv(0x03, b"\0" + certificate.signature)
    start = original.index(certificate.tbs_certificate_bytes) + len(certificate.tbs_certificate_bytes)
    algorithm = original[start : -len(signature)]
    return der.sequence((tbs, algorithm, der.tlv(0x03, b"\0" + signing_key.sign(tbs, PSS, SHA384))))


def revocation_list(crl: Crl, issuer: str, signing_key: rsa.RSAPrivateKey) -> bytes:
    """Issue a revocation list; return its DER."""
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(name(issuer))
        .last_update(crl.last_update)
        .next_update(crl.next_update)
    )
    if crl.number is not None:
        builder = builder.add_extension(x509.CRLNumber(crl.number), critical=False)
    for serial in crl.revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(crl.last_update)
        builder = builder.add_revoked_certificate(entry.build())
    return builder.sign(signing_key, SHA384, rsa_padding=PSS).public_bytes(Encoding.DER)
