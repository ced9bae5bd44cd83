"""A small authority of the tests' own, in which each thing can be wrong alone."""

import dataclasses
import hashlib
import ipaddress
import ssl
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from proxy_attestation.formats.ear import LeafClaims, encode_claims_set, encode_extension
from proxy_attestation.formats.request import KeyOrigin
from proxy_attestation.formats.tee import Tee
from proxy_attestation.v1 import proxy_attestation_pb2 as v1

ID_PE_CMW = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.35")
# As long in DER as id-pe-cmw, and one bit away from it.
_PLACEHOLDER = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.36")

TRUST_DOMAIN = "example.org"
WORKLOAD = "example-app"
DNS = "app.example.org"
MR_ENCLAVE = bytes(range(32))
MR_SIGNER = bytes(range(32, 64))
APPLICATION = hashlib.sha256(b"application").digest()
POLICY_DIGEST = hashlib.sha256(b"policy").digest()


def _spki(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def _key_usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not ca,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=ca,
        crl_sign=ca,
        encipher_only=False,
        decipher_only=False,
    )


@dataclasses.dataclass(frozen=True)
class Leaf:
    """A leaf with what it takes to present it."""

    chain: tuple[bytes, ...]
    key: ec.EllipticCurvePrivateKey

    @property
    def der(self) -> bytes:
        return self.chain[0]

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    @property
    def chain_pem(self) -> bytes:
        return b"".join(ssl.DER_cert_to_PEM_cert(der).encode() for der in self.chain)

    def server_context(self, directory: Path, *, alpn: Sequence[str] = ()) -> ssl.SSLContext:
        """Return a TLS 1.3 server context that presents the chain."""
        file = directory / f"{hashlib.sha256(b''.join(self.chain)).hexdigest()[:16]}.pem"
        file.write_bytes(self.key_pem + self.chain_pem)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(file)
        if alpn:
            context.set_alpn_protocols(list(alpn))
        return context


class MiniAuthority:
    """A root with DNS name constraints, an issuing CA and leaves as the real authority makes them."""

    def __init__(self, now: datetime, name: str = "Test") -> None:
        self.now = now
        self._default: Leaf | None = None
        self.root_key = ec.generate_private_key(ec.SECP256R1())
        self.issuing_key = ec.generate_private_key(ec.SECP256R1())
        self.root = self._ca(f"{name} Root", self.root_key, None, timedelta(days=1000), path_length=1)
        self.issuing = self._ca(f"{name} Issuing", self.issuing_key, self.root, timedelta(days=90), path_length=0)

    def _ca(
        self,
        name: str,
        key: ec.EllipticCurvePrivateKey,
        issuer: x509.Certificate | None,
        life: timedelta,
        path_length: int,
    ) -> x509.Certificate:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issuer_key = self.root_key.public_key()
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer.subject if issuer else subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.now - timedelta(days=1))
            .not_valid_after(self.now + life)
            .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
            .add_extension(_key_usage(ca=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        if issuer:
            aki = x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key)
            builder = builder.add_extension(aki, critical=False)
        else:
            constraints = x509.NameConstraints([x509.DNSName(TRUST_DOMAIN), x509.DNSName("localhost")], None)
            builder = builder.add_extension(constraints, critical=True)
        return builder.sign(self.root_key, SHA256())

    @property
    def root_der(self) -> bytes:
        return self.root.public_bytes(Encoding.DER)

    @property
    def issuing_der(self) -> bytes:
        return self.issuing.public_bytes(Encoding.DER)

    @property
    def pin(self) -> bytes:
        return hashlib.sha256(_spki(self.root_key)).digest()

    def claims(self, spki: bytes, **changes: Any) -> LeafClaims:
        """Return what the authority would say of an SGX workload, with changes."""
        issued = int(self.now.timestamp())
        claims = LeafClaims(
            issued_at=issued,
            expires_at=issued + 24 * 3600,
            nonce=bytes(32),
            build="0.1.0",
            tee=Tee.SGX,
            status=2,
            vector=((0, 2), (1, 2), (2, 3), (4, 2), (5, 2)),
            policy_digest=POLICY_DIGEST,
            spki=spki,
            anchor=hashlib.sha256(b"anchor").digest(),
            key_origin=KeyOrigin.TEE,
            measurements=(("mr_enclave", MR_ENCLAVE),),
            signer=MR_SIGNER,
            product_id=7,
            svn=3,
            debug=False,
            tcb_status="UpToDate",
            tcb_date=issued - 100 * 24 * 3600,
            tcb_evaluation_number=17,
            advisories=(),
            application_sha256=APPLICATION,
            owner="shared",
            evidence_sha256=hashlib.sha256(b"evidence").digest(),
            ledger_origin="example.org/ledger",
            simulated=False,
        )
        return dataclasses.replace(claims, **changes)

    def leaf(
        self,
        *,
        dns: Sequence[str] = (DNS,),
        ip: Sequence[str] = ("127.0.0.1",),
        uri: Sequence[str] = (f"spiffe://{TRUST_DOMAIN}/{WORKLOAD}",),
        extra_names: Sequence[x509.GeneralName] = (),
        not_before: timedelta = timedelta(seconds=-60),
        not_after: timedelta = timedelta(hours=24),
        claims: dict[str, Any] | bytes | None = None,
        without_claims: bool = False,
        second_claims: bool = False,
        claims_key: bytes | None = None,
        eku: Sequence[x509.ObjectIdentifier] = (ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH),
        present: Callable[["MiniAuthority", bytes], tuple[bytes, ...]] | None = None,
    ) -> Leaf:
        """Issue a leaf.

        Args:
            dns: DNS names.
            ip: IP addresses.
            uri: URI names.
            extra_names: names of other kinds.
            not_before: from the authority's now.
            not_after: from the authority's now.
            claims: changes to the claims, or the whole value of the extension.
            without_claims: whether the extension is left out.
            second_claims: whether it stands twice.
            claims_key: the SPKI in the claims, where it is not the leaf's own.
            eku: extended key usages.
            present: makes the presented chain from the authority and the leaf.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        names: list[x509.GeneralName] = [
            *(x509.DNSName(name) for name in dns),
            *(x509.IPAddress(ipaddress.ip_address(name)) for name in ip),
            *(x509.UniformResourceIdentifier(name) for name in uri),
            *extra_names,
        ]
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([]))
            .issuer_name(self.issuing.subject)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(self.now + not_before)
            .not_valid_after(self.now + not_after)
            .add_extension(x509.SubjectAlternativeName(names), critical=True)
            .add_extension(_key_usage(ca=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage(eku), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.issuing_key.public_key()), critical=False
            )
        )
        if not without_claims:
            if isinstance(claims, bytes):
                value = claims
            else:
                spki = _spki(key) if claims_key is None else claims_key
                value = encode_extension(encode_claims_set(self.claims(spki, **(claims or {}))))
            builder = builder.add_extension(x509.UnrecognizedExtension(ID_PE_CMW, value), critical=False)
            if second_claims:
                builder = builder.add_extension(x509.UnrecognizedExtension(_PLACEHOLDER, value), critical=False)
        der = builder.sign(self.issuing_key, SHA256()).public_bytes(Encoding.DER)
        if second_claims:
            der = self._rename_extension(der)
        chain = (der, self.issuing_der) if present is None else present(self, der)
        return Leaf(chain, key)

    def _rename_extension(self, der: bytes) -> bytes:
        """Turn the placeholder into a second id-pe-cmw and sign again: no builder writes an extension twice."""
        certificate = x509.load_der_x509_certificate(der)
        old, new = (asn1.encode_der(oid) for oid in (_PLACEHOLDER, ID_PE_CMW))
        tbs = certificate.tbs_certificate_bytes
        assert tbs.count(old) == 1
        tbs = tbs.replace(old, new)
        signature = self.issuing_key.sign(tbs, ec.ECDSA(SHA256()))
        algorithm = bytes.fromhex("300a06082a8648ce3d040302")  # ecdsa-with-SHA256
        bits = b"\x00" + signature
        content = tbs + algorithm + b"\x03" + _der_length(len(bits)) + bits
        return b"\x30" + _der_length(len(content)) + content

    def leaf_once(self) -> Leaf:
        """Return one default leaf, the same at each call: for tests that need many chains and no new key."""
        if self._default is None:
            self._default = self.leaf()
        return self._default

    def reissued_root(self) -> x509.Certificate:
        """Return another certificate of the root's own key and name."""
        return self._ca("Test Root", self.root_key, None, timedelta(days=500), path_length=1)

    def answer(self, **changes: Any) -> v1.GetRootCertificateResponse:
        """Return what this authority's proxy says of itself, with changes."""
        fields: dict[str, Any] = {
            "bundle": v1.RootBundle(sequence=3, roots=[self.root_der], issuing=[self.issuing_der]),
            "policy_digest": b"\x07" * 32,
            "key_origin": "file",
            "trust_domain": "example.org",
            "simulated": True,
            "dangers": ["allow_debug example-app"],
        }
        return v1.GetRootCertificateResponse(**(fields | changes))

    def proxy_leaf(self, **changes: Any) -> Leaf:
        """Issue a certificate of the proxy's own."""
        kind: dict[str, Any] = {
            "uri": (f"spiffe://{TRUST_DOMAIN}/proxy-attestation/server",),
            "dns": ("proxy.example.org",),
            "without_claims": True,
        }
        return self.leaf(**(kind | changes))


def _der_length(length: int) -> bytes:
    if length < 0x80:
        return bytes([length])
    octets = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes([0x80 | len(octets)]) + octets
