"""A small AMD: ARK, ASK, ASVK, CRLs and VCEKs as KDS serves them. RSA-2048 instead of 4096, for speed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache, cached_property
from hashlib import sha256
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from fake_vendors import NOW, Reply, Request

_PSS: Any = {"rsa_padding": padding.PSS(padding.MGF1(hashes.SHA384()), 48)}
_DAY = timedelta(days=1)
_OID = "1.3.6.1.4.1.3704.1"
_SPLS = {"bl": ".3.1", "tee": ".3.2", "snp": ".3.3", "ucode": ".3.8", "fmc": ".3.9"}


@cache
def rsa_key(label: str) -> rsa.RSAPrivateKey:
    """Return the key of this label; made once a test run."""
    del label
    return rsa.generate_private_key(65537, 2048)


@cache
def vcek_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP384R1())


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


@dataclass
class FakeAmd:
    """One product's hierarchy.

    Attributes:
        product: `Milan`, `Genoa` or `Turin`.
        label: tells hierarchies apart.
        crl_number: of both CRLs; None leaves it out.
        crl_issued: this update.
        crl_lasts: until its next update.
        revoked: whether the CRL lists the signing keys.
    """

    product: str = "Milan"
    label: str = "amd"
    crl_number: int | None = 5
    crl_issued: datetime = NOW - _DAY
    crl_lasts: timedelta = 60 * _DAY
    revoked: bool = False
    ends: datetime = NOW + 3650 * _DAY
    requests: list[Request] = field(default_factory=list)

    @cached_property
    def pin(self) -> bytes:
        spki = rsa_key(self.label).public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return sha256(spki).digest()

    @cached_property
    def ark(self) -> x509.Certificate:
        return self._ca(f"ARK-{self.product}", self.label, 1)

    @cached_property
    def ask(self) -> x509.Certificate:
        return self._ca(f"SEV-{self.product}", f"{self.label} ask", 2)

    @cached_property
    def asvk(self) -> x509.Certificate:
        return self._ca(f"SEV-VLEK-{self.product}", f"{self.label} asvk", 3)

    def _ca(self, name: str, label: str, serial: int) -> x509.Certificate:
        builder = x509.CertificateBuilder().subject_name(_name(name)).issuer_name(_name(f"ARK-{self.product}"))
        builder = builder.public_key(rsa_key(label).public_key()).serial_number(serial)
        builder = builder.not_valid_before(NOW - 365 * _DAY).not_valid_after(self.ends)
        return builder.sign(rsa_key(self.label), hashes.SHA384(), **_PSS)

    def chain(self, kind: str) -> bytes:
        signer = self.ask if kind == "vcek" else self.asvk
        return signer.public_bytes(Encoding.PEM) + self.ark.public_bytes(Encoding.PEM)

    def crl(self) -> bytes:
        builder = x509.CertificateRevocationListBuilder().issuer_name(_name(f"ARK-{self.product}"))
        builder = builder.last_update(self.crl_issued).next_update(self.crl_issued + self.crl_lasts)
        if self.crl_number is not None:
            builder = builder.add_extension(x509.CRLNumber(self.crl_number), critical=False)
        for serial in (2, 3) if self.revoked else ():
            entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(NOW - _DAY).build()
            builder = builder.add_revoked_certificate(entry)
        return builder.sign(rsa_key(self.label), hashes.SHA384(), **_PSS).public_bytes(Encoding.DER)

    def vcek(
        self, hwid: bytes, tcb: Mapping[str, int], *, wrapped: bool = False, lasts: timedelta = 700 * _DAY
    ) -> bytes:
        builder = x509.CertificateBuilder().subject_name(_name("SEV-VCEK")).issuer_name(_name(f"SEV-{self.product}"))
        builder = builder.public_key(vcek_key().public_key()).serial_number(7)
        builder = builder.not_valid_before(NOW - 30 * _DAY).not_valid_after(NOW + lasts)
        values = {_OID + _SPLS[part]: _integer(number) for part, number in tcb.items()}
        values[f"{_OID}.4"] = bytes((4, len(hwid))) + hwid if wrapped else hwid
        for oid, value in values.items():
            extension = x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value)
            builder = builder.add_extension(extension, critical=False)
        signed = builder.sign(rsa_key(f"{self.label} ask"), hashes.SHA384(), **_PSS)
        return signed.public_bytes(Encoding.DER)

    def __call__(self, request: Request, number: int) -> Reply:
        del number
        self.requests.append(request)
        kind, version, product, what = request.path.strip("/").split("/")
        if version != "v1" or product != self.product:
            return Reply(404)
        if what == "cert_chain":
            return Reply(body=self.chain(kind))
        if what == "crl":
            return Reply(body=self.crl())
        tcb = {name.removesuffix("SPL"): int(value) for name, value in request.query.items()}
        return Reply(body=self.vcek(bytes.fromhex(what), tcb))


def _integer(number: int) -> bytes:
    content = number.to_bytes(2) if number > 0x7F else number.to_bytes(1)
    return bytes((2, len(content))) + content


def with_serial_zero(certificate: bytes) -> bytes:
    """Return a certificate (unsigned now) whose serial number is 0, as every VCEK's is."""
    index = certificate.index(b"\x02\x01\x07")
    return certificate[:index] + b"\x02\x01\x00" + certificate[index + 3 :]
