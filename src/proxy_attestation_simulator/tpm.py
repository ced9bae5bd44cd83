"""A TPM in software with its vendor: a CA for endorsement keys, an AK, a subject's key, registers and a boot log.

It makes what a TPM makes, but anybody may read its keys. Every fault is one argument (`tpm_faults.py`).
"""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, Final

import cbor2
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, ObjectIdentifier

from proxy_attestation_simulator.certificates import name
from proxy_attestation_simulator.keys import derive_key
from proxy_attestation_simulator.tpm_structures import (
    AK_ATTRIBUTES,
    CERTIFY,
    KEY_ATTRIBUTES,
    QUOTE,
    AttestRecipe,
    LogEvent,
    LogRecipe,
    PrivateKey,
    name_of,
    public_area,
    selection,
    sign,
    sized,
)

EK_USAGE: Final = ObjectIdentifier("2.23.133.8.1")
AK_USAGE: Final = ObjectIdentifier("2.23.133.8.3")
_TPM_NAME: Final = {"2.23.133.2.1": "id:00000000", "2.23.133.2.2": "SIMULATED", "2.23.133.2.3": "id:00000001"}
_SECRET: Final = b"proxy-attestation simulated TPM"
BOOT: Final = LogRecipe(
    (
        LogEvent(0, 0x00000008, b"1\0.\x000\0", None),
        LogEvent(0, 0x00000004, b"\0\0\0\0"),
        LogEvent(4, 0x80000003, b"the path of the boot loader", b"the boot loader"),
        LogEvent(7, 0x80000001, b"SecureBoot"),
    )
)


def spki(key: Any) -> bytes:  # every kind of public or private key
    """Return a key's SubjectPublicKeyInfo, DER."""
    public = key.public_key() if hasattr(key, "public_key") else key
    return bytes(public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))


@dataclass(frozen=True)
class LeafRecipe:
    """A certificate of an EK or AK."""

    usage: ObjectIdentifier | None = EK_USAGE
    encrypts: bool = True
    signs: bool = False
    is_ca: bool = False
    aki: bool = True
    tpm_name: Mapping[str, str] = field(default_factory=lambda: dict(_TPM_NAME))
    critical: ObjectIdentifier | None = None
    padding: bytes = b""
    days: int = 3650
    forged: bool = False
    any_usage: bool = False


class TpmVendor:
    """A root, an intermediate CA, and what it certifies."""

    def __init__(self, now: datetime, *, root_secret: bytes = _SECRET) -> None:
        """Make both CAs, valid from a day before `now` for thirty years."""
        self.start = now.replace(microsecond=0) - timedelta(days=1)
        self._root_key = derive_key(root_secret, "tpm root")
        self._ca_key = derive_key(root_secret, "tpm issuer")
        self._root = self._ca("Simulated TPM Root CA", self._root_key, "Simulated TPM Root CA", self._root_key, 1)
        self.issuer = self._ca("Simulated TPM EK CA", self._ca_key, "Simulated TPM Root CA", self._root_key, 0)

    @classmethod
    def create(cls, now: datetime) -> "TpmVendor":
        """Make the vendor that is the same in every run."""
        return cls(now)

    @property
    def pin(self) -> bytes:
        """SHA-256 of the root's SubjectPublicKeyInfo."""
        return hashlib.sha256(spki(self._root_key)).digest()

    @property
    def issuers(self) -> tuple[bytes, ...]:
        """The certificates of both CAs, DER."""
        return (self.issuer, self._root)

    def _ca(
        self, subject: str, key: ec.EllipticCurvePrivateKey, issuer: str, by: ec.EllipticCurvePrivateKey, length: int
    ) -> bytes:
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        builder = self._builder(subject, issuer, key.public_key(), self.start + timedelta(days=30 * 365))
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=length), critical=True)
        builder = builder.add_extension(usage, critical=True)
        builder = builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        return builder.sign(by, hashes.SHA256()).public_bytes(Encoding.DER)

    def _builder(self, subject: str, issuer: str, key: Any, end: datetime) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(name(subject) if subject else x509.Name([]))
            .issuer_name(name(issuer))
            .public_key(key)
            .serial_number(int.from_bytes(hashlib.sha256(spki(key)).digest()[:8], "big") | 1)
            .not_valid_before(self.start)
            .not_valid_after(end)
        )

    def certify(self, key: Any, recipe: LeafRecipe) -> bytes:
        """Certify a public key; return DER."""
        rsa_key = isinstance(key, rsa.RSAPublicKey)
        usage = x509.KeyUsage(
            digital_signature=recipe.signs,
            content_commitment=False,
            key_encipherment=recipe.encrypts and rsa_key,
            data_encipherment=False,
            key_agreement=recipe.encrypts and not rsa_key,
            key_cert_sign=False,
            crl_sign=False,
            encipher_only=False,
            decipher_only=False,
        )
        builder = self._builder("", "Simulated TPM EK CA", key, self.start + timedelta(days=recipe.days))
        builder = builder.add_extension(usage, critical=True)
        builder = builder.add_extension(x509.BasicConstraints(ca=recipe.is_ca, path_length=None), critical=True)
        attributes = [x509.NameAttribute(ObjectIdentifier(oid), text) for oid, text in recipe.tpm_name.items()]
        names = x509.SubjectAlternativeName([x509.DirectoryName(x509.Name(attributes))])
        builder = builder.add_extension(names, critical=True)
        if recipe.usage is not None:
            more = [ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE] if recipe.any_usage else []
            builder = builder.add_extension(x509.ExtendedKeyUsage([recipe.usage, *more]), critical=False)
        if recipe.aki:
            identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._ca_key.public_key())
            builder = builder.add_extension(identifier, critical=False)
        if recipe.critical is not None:
            builder = builder.add_extension(x509.UnrecognizedExtension(recipe.critical, b"\x05\x00"), critical=True)
        by = derive_key(_SECRET, "nobody") if recipe.forged else self._ca_key
        return builder.sign(by, hashes.SHA256()).public_bytes(Encoding.DER) + recipe.padding

    def certify_ek(self, key: Any) -> bytes:
        """Certify an EK as it should be."""
        return self.certify(key, LeafRecipe())


@dataclass(frozen=True)
class TpmRecipe:
    """One piece of evidence with everything beside it. `tpm_faults.py` changes one thing at a time.

    Attributes:
        extra_data: the qualifying data of the quote, and so `certify_extra` of the certification; None for the same.
        way: `activation`, `certificate` (of the AK itself), or `none`.
        csr_secret: of the key that a certificate is asked for.
        parts: what replaces a part of the record, by its number, last; None leaves it out.
    """

    extra_data: bytes = b"\x42" * 32
    certify_extra: bytes | None = None
    magic: bytes = b"\xffTCG"
    quote_type: int = QUOTE
    quote_tail: bytes = b""
    certify_type: int = CERTIFY
    certify_resets: int = 3
    certify_name: bytes | None = None
    ak_attributes: int = AK_ATTRIBUTES
    key_attributes: int = KEY_ATTRIBUTES
    ak_secret: bytes = _SECRET
    signed_by: bytes = _SECRET
    certify_signed_by: bytes = _SECRET
    hash: str = "sha256"
    banks: tuple[tuple[str, tuple[int, ...]], ...] = (("sha256", tuple(range(8))),)
    log: LogRecipe = BOOT
    shown: Mapping[int, bytes] = field(default_factory=dict)
    log_bytes: Callable[[bytes], bytes] = bytes
    with_key: bool = True
    certificate: LeafRecipe = field(default_factory=LeafRecipe)
    ek_secret: bytes = _SECRET
    activated_ek: bytes = _SECRET
    activated_name: bytes | None = None
    root_secret: bytes = _SECRET
    parts: Mapping[int, object] = field(default_factory=dict)
    way: str = "activation"
    csr_secret: bytes = _SECRET


@dataclass(frozen=True)
class TpmMade:
    """What a recipe makes.

    Attributes:
        evidence: the record.
        event_log: beside it.
        certificates: DER, the EK's or AK's first.
        activated_name: of the AK that a credential was made for.
        activated_ek: SHA-256 of the SubjectPublicKeyInfo of the EK that it was made for.
        key_spki: the key that a certificate is asked for.
        ak_spki: the AK.
    """

    evidence: bytes
    event_log: bytes
    certificates: tuple[bytes, ...]
    activated_name: bytes
    activated_ek: bytes
    key_spki: bytes
    ak_spki: bytes


def make(vendor: TpmVendor, recipe: TpmRecipe | None = None, *, ak_key: PrivateKey | None = None) -> TpmMade:
    """Make evidence.

    Args:
        vendor: certifies.
        recipe: what is to be made.
        ak_key: the AK, where it is not the recipe's P-256 key.
    """
    recipe = recipe or TpmRecipe()
    ak = ak_key or derive_key(recipe.ak_secret, "tpm ak")
    signer = ak if recipe.signed_by == _SECRET else derive_key(recipe.signed_by, "tpm ak")
    certifier = ak if recipe.certify_signed_by == _SECRET else derive_key(recipe.certify_signed_by, "tpm ak")
    key = derive_key(_SECRET, "tpm key")
    ak_area = public_area(ak, recipe.ak_attributes, restricted=True)
    key_area = public_area(key, recipe.key_attributes)
    values = [recipe.log.registers(bank)[index] for bank, indexes in recipe.banks for index in indexes]
    digest = hashlib.new(recipe.hash, b"".join(values)).digest()
    quote = AttestRecipe(
        recipe.quote_type,
        selection(recipe.banks) + sized(digest),
        recipe.extra_data,
        magic=recipe.magic,
        tail=recipe.quote_tail,
    ).encode()
    shown = [recipe.shown.get(index, value) for index, value in enumerate(values)]
    record: dict[int, object] = {1: quote, 2: sign(signer, quote, recipe.hash), 3: ak_area, 4: shown}
    if recipe.with_key:
        named = name_of(key_area) if recipe.certify_name is None else recipe.certify_name
        extra = recipe.extra_data if recipe.certify_extra is None else recipe.certify_extra
        certify = AttestRecipe(
            recipe.certify_type, sized(named) + sized(b"\0\x0b" + bytes(32)), extra, reset_count=recipe.certify_resets
        ).encode()
        record |= {5: certify, 6: sign(certifier, certify, recipe.hash), 7: key_area}
    record |= recipe.parts
    record = {number: record[number] for number in sorted(record) if record[number] is not None}
    issuer = vendor if recipe.root_secret == _SECRET else TpmVendor(vendor.start, root_secret=recipe.root_secret)
    ek = derive_key(recipe.ek_secret, "tpm ek").public_key()
    subject: Any = ek if recipe.way == "activation" else ak.public_key()
    name_made_for = name_of(ak_area) if recipe.activated_name is None else recipe.activated_name
    return TpmMade(
        evidence=cbor2.dumps(record),
        event_log=recipe.log_bytes(recipe.log.encode()),
        certificates=() if recipe.way == "none" else (issuer.certify(subject, recipe.certificate), *issuer.issuers),
        activated_name=name_made_for,
        activated_ek=hashlib.sha256(spki(derive_key(recipe.activated_ek, "tpm ek"))).digest(),
        key_spki=spki(derive_key(recipe.csr_secret, "tpm key")),
        ak_spki=spki(ak),
    )


def ak_certificate_recipe(recipe: TpmRecipe) -> TpmRecipe:
    """Return the recipe with a certificate of the AK in place of the EK's."""
    leaf = replace(recipe.certificate, usage=AK_USAGE, encrypts=False, signs=True)
    return replace(recipe, certificate=leaf, way="certificate")


class SoftwareTpm:
    """A software key that poses as an AK: its public area claims what a TPM would guarantee."""

    def __init__(self, secret: bytes = b"somebody's own") -> None:
        """Make the key that follows from the secret."""
        self._secret = secret
        self.ak_public: Final = public_area(derive_key(secret, "tpm ak"), AK_ATTRIBUTES, restricted=True)
        self.spki: Final = spki(derive_key(_SECRET, "tpm key"))

    def evidence(self, extra_data: bytes) -> bytes:
        """Make evidence with this qualifying data."""
        recipe = TpmRecipe(
            extra_data=extra_data, ak_secret=self._secret, signed_by=self._secret, certify_signed_by=self._secret
        )
        return make(TpmVendor.create(datetime.fromisoformat("2026-01-01T00:00:00Z")), recipe).evidence


__all__ = ["LeafRecipe", "SoftwareTpm", "TpmMade", "TpmRecipe", "TpmVendor", "ak_certificate_recipe", "make"]
