"""A local stand-in for AWS: a Nitro root, the certificates below it, and the documents that enclaves get.

A document is written as the Nitro Secure Module writes it: nine keys in its order, an absent value null, 16 registers
of which the unused are zero, the map's length indefinite (definite by a fault; both occur). The same secret, time and
arguments make the same bytes: signatures are deterministic.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Final

import cbor2
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import Encoding

from proxy_attestation_simulator.certificates import name
from proxy_attestation_simulator.errors import SimulatorError
from proxy_attestation_simulator.keys import derive, spki

_ORDER: Final = int(
    "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973", 16
)
_ECDSA: Final = ec.ECDSA(hashes.SHA384(), deterministic_signing=True)
_REGION: Final = "xx-sim-1.aws.nitro-enclaves"
_KEYS: Final = (
    "module_id", "digest", "timestamp", "pcrs", "certificate", "cabundle", "public_key", "user_data", "nonce",
)  # fmt: skip
_USAGES: Final = (
    "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
    "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
)  # fmt: skip
PCRS: Final = 16
ROOT, REGION, ZONE, INSTANCE, LEAF = range(5)
"""Places in the chain."""


def derive_p384(secret: bytes, label: str) -> ec.EllipticCurvePrivateKey:
    """Return the P-384 key that follows from the secret and the label."""
    scalar = int.from_bytes(derive(secret, f"p384 {label}", 64), "big") % (_ORDER - 1) + 1
    return ec.derive_private_key(scalar, ec.SECP384R1())


@dataclass(frozen=True, slots=True)
class Link:
    """One certificate to be made.

    Attributes:
        label: of its key.
        common_name: of the subject.
        not_before: UTC.
        not_after: UTC.
        path_length: None for an end entity, -1 for a CA without limit.
        usage: the bits of keyUsage that are set; None for no such extension.
        issuer_name: the issuer's common name, where it is not the one above.
        signer: label of the key that signs, where it is not the one above.
        extensions: further ones: (OID, critical, value).
        p256: whether key and signature are those of P-256 with SHA-256.
        sha256: whether the signature is with SHA-256.
        der: what to use instead.
    """

    label: str
    common_name: str
    not_before: datetime
    not_after: datetime
    path_length: int | None
    usage: tuple[str, ...] | None
    issuer_name: str | None = None
    signer: str | None = None
    extensions: tuple[tuple[str, bool, bytes], ...] = ()
    p256: bool = False
    sha256: bool = False
    der: bytes | None = None


@dataclass(frozen=True, slots=True)
class NitroRecipe:
    """One document to be made; faults change it.

    Attributes:
        payload: the fields by their keys, without the certificates.
        links: the chain, root first, signing certificate last.
        order: places of the chain that the cabundle has, in its order.
        protected: the protected header's bytes.
        unprotected: the unprotected header.
        tag: of the whole, or None.
        indefinite: whether the payload's map is of indefinite length.
        signer: label of the key that signs, where it is not the signing certificate's.
        edit_map: changes the payload's (key, value) pairs.
        edit_payload: changes the payload's bytes before they are signed.
        edit_signed: changes the payload's bytes after they are signed.
        edit_signature: changes the signature.
        edit: changes the whole document.
        stranger: whether another vendor with the same names makes all of it.
    """

    payload: Mapping[str, object]
    links: tuple[Link, ...]
    order: tuple[int, ...] = (ROOT, REGION, ZONE, INSTANCE)
    protected: bytes = bytes.fromhex("a1013822")
    unprotected: object = field(default_factory=dict)
    tag: int | None = None
    indefinite: bool = True
    signer: str | None = None
    edit_map: Callable[[list[tuple[object, object]]], list[tuple[object, object]]] = list
    edit_payload: Callable[[bytes], bytes] = bytes
    edit_signed: Callable[[bytes], bytes] = bytes
    edit_signature: Callable[[bytes], bytes] = bytes
    edit: Callable[[bytes], bytes] = bytes
    stranger: bool = False


class Aws:
    """The vendor. Everything follows from a secret and the time it was made.

    Attributes:
        secret: 32 bytes.
        created_at: UTC, whole seconds.
        root: the anchor's certificate.
    """

    def __init__(self, secret: bytes, created_at: datetime) -> None:
        if created_at.tzinfo is None:
            raise SimulatorError("a time needs a time zone")
        self.secret = secret
        self.created_at = created_at.astimezone(UTC).replace(microsecond=0)
        self.root = self._certificates(self._links("", self.created_at)[:1])[0]

    @classmethod
    def create(cls, now: datetime, *, secret: bytes | None = None) -> Aws:
        """Make a vendor; `secret` makes the same one again."""
        return cls(os.urandom(32) if secret is None else secret, now)

    @property
    def root_der(self) -> bytes:
        """The root's certificate."""
        return self.root

    @property
    def root_pin(self) -> bytes:
        """SHA-256 of the root's SubjectPublicKeyInfo, 32 bytes."""
        return hashlib.sha256(spki(derive_p384(self.secret, "root"))).digest()

    def enclave(self, *, seed: int | str = 0, pcrs: Mapping[int, bytes] | None = None) -> Enclave:
        """Start an enclave.

        Args:
            seed: tells enclaves and their parent instances apart.
            pcrs: registers of 48 bytes, by index, instead of those that follow from the secret.
        """
        own = {index: derive(self.secret, f"pcr{index} {seed}", 48) for index in (0, 1, 2, 3, 4, 8)}
        return Enclave(self, str(seed), own | dict(pcrs or {}))

    def make(self, recipe: NitroRecipe) -> bytes:
        """Make a document."""
        vendor = Aws(derive(self.secret, "stranger", 32), self.created_at) if recipe.stranger else self
        certificates = vendor._certificates(recipe.links)
        fields = dict(recipe.payload)
        fields |= {"certificate": certificates[-1], "cabundle": [certificates[place] for place in recipe.order]}
        pairs = recipe.edit_map([(key, fields[key]) for key in _KEYS])
        body = b"".join(cbor2.dumps(key) + cbor2.dumps(value) for key, value in pairs)
        head = b"\xbf" if recipe.indefinite else (0xA0 + len(pairs)).to_bytes(1, "big")
        payload = recipe.edit_payload(head + body + (b"\xff" if recipe.indefinite else b""))
        signer = derive_p384(vendor.secret, recipe.signer or recipe.links[-1].label)
        signed = cbor2.dumps(["Signature1", recipe.protected, b"", payload])
        r, s = utils.decode_dss_signature(signer.sign(signed, _ECDSA))
        signature = recipe.edit_signature(r.to_bytes(48, "big") + s.to_bytes(48, "big"))
        cose: object = [recipe.protected, recipe.unprotected, recipe.edit_signed(payload), signature]
        return recipe.edit(cbor2.dumps(cose if recipe.tag is None else cbor2.CBORTag(recipe.tag, cose)))

    def _links(self, seed: str, now: datetime) -> tuple[Link, ...]:
        instance = f"i-{derive(self.secret, f'instance {seed}', 9).hex()[:17]}"
        lives = (  # label, common name, begun and lasting how long, path length
            ("root", "aws.nitro-enclaves", timedelta(days=365), timedelta(days=30 * 365), -1),
            ("region", f"simulated.{_REGION}", timedelta(days=3), timedelta(days=20), 2),
            ("zone", f"simulated.zonal.{_REGION}", timedelta(days=1), timedelta(days=6), 1),
            (f"instance {seed}", f"{instance}.{_REGION}", timedelta(hours=2), timedelta(hours=24), 0),
            (f"enclave {seed}", f"{self.module_id(seed)}.xx-sim-1.aws", timedelta(minutes=5), timedelta(hours=3), None),
        )
        ca, leaf = ("key_cert_sign", "crl_sign", "digital_signature"), ("digital_signature",)
        begin = self.created_at
        return tuple(
            Link(
                label,
                common_name,
                (begin if label == "root" else now) - age,
                (begin if label == "root" else now) - age + life,
                path,
                leaf if path is None else ca,
            )
            for label, common_name, age, life, path in lives
        )

    def module_id(self, seed: str) -> str:
        """Return the module id of an enclave."""
        instance = derive(self.secret, f"instance {seed}", 9).hex()[:17]
        return f"i-{instance}-enc{derive(self.secret, f'enclave {seed}', 8).hex()}"

    def _certificates(self, links: tuple[Link, ...]) -> tuple[bytes, ...]:
        """Make the certificates of a chain, each issued by the one before, the first by itself."""
        return tuple(
            self._issue(link, links[max(place - 1, 0)]) if link.der is None else link.der
            for place, link in enumerate(links)
        )

    def _issue(self, link: Link, above: Link) -> bytes:
        key = _key(self.secret, link.label, p256=link.p256)
        signer = _key(self.secret, link.signer or above.label, p256=above.p256)
        length = None if link.path_length in (None, -1) else link.path_length
        constraints = x509.BasicConstraints(ca=link.path_length is not None, path_length=length)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name(link.common_name))
            .issuer_name(name(link.issuer_name or above.common_name))
            .public_key(key.public_key())
            .serial_number(int.from_bytes(b"\x40" + derive(self.secret, f"serial {link}", 15), "big"))
            .not_valid_before(link.not_before)
            .not_valid_after(link.not_after)
        )
        if not any(oid == x509.OID_BASIC_CONSTRAINTS.dotted_string for oid, _, _ in link.extensions):
            builder = builder.add_extension(constraints, critical=True)
        if link.usage is not None:
            usage = x509.KeyUsage(**{bit: bit in link.usage for bit in _USAGES})
            builder = builder.add_extension(usage, critical=True)
        for oid, critical, value in link.extensions:
            unknown = x509.UnrecognizedExtension(x509.ObjectIdentifier(oid), value)
            builder = builder.add_extension(unknown, critical=critical)
        digest = hashes.SHA256() if above.p256 or link.sha256 else hashes.SHA384()
        return builder.sign(signer, digest, ecdsa_deterministic=True).public_bytes(Encoding.DER)


@dataclass(frozen=True, slots=True)
class Enclave:
    """An enclave with its module.

    Attributes:
        vendor: who certifies it.
        seed: tells it from others.
        pcrs: its registers, by index.
    """

    vendor: Aws
    seed: str
    pcrs: Mapping[int, bytes]

    def document(
        self,
        *,
        nonce: bytes | None = None,
        public_key: bytes | None = None,
        user_data: bytes | None = None,
        now: datetime | None = None,
        fault: str | Iterable[str] = (),
    ) -> bytes:
        """Make an attestation document.

        Args:
            nonce: as the enclave gives it to the module, and so the next two.
            public_key: see `nonce`.
            user_data: see `nonce`.
            now: aware; the vendor's own time by default.
            fault: one fault, or several applied in order; see `aws_faults`.

        Raises:
            SimulatorError: there is no such fault.
        """
        from proxy_attestation_simulator.aws_faults import NITRO_FAULTS  # noqa: PLC0415 - they change our recipes

        recipe = NITRO_FAULTS.apply_all(self.recipe(nonce, public_key, user_data, now), "nitro", fault)
        return self.vendor.make(recipe)

    def recipe(
        self, nonce: bytes | None, public_key: bytes | None, user_data: bytes | None, now: datetime | None = None
    ) -> NitroRecipe:
        """Return the recipe of a good document."""
        at = self.vendor.created_at if now is None else now
        payload = {
            "module_id": self.vendor.module_id(self.seed),
            "digest": "SHA384",
            "timestamp": int(at.timestamp() * 1000),
            "pcrs": {index: self.pcrs.get(index, bytes(48)) for index in range(PCRS)} | dict(self.pcrs),
            "public_key": public_key,
            "user_data": user_data,
            "nonce": nonce,
        }
        return NitroRecipe(payload, self.vendor._links(self.seed, at))


def with_link(recipe: NitroRecipe, place: int, **values: object) -> NitroRecipe:
    """Return a recipe with one certificate changed."""
    links = list(recipe.links)
    links[place] = replace(links[place], **values)  # type: ignore[arg-type] # the names are those of `Link`
    return replace(recipe, links=tuple(links))


def with_payload(recipe: NitroRecipe, **values: object) -> NitroRecipe:
    """Return a recipe with fields of the payload changed."""
    return replace(recipe, payload=dict(recipe.payload) | values)


def _key(secret: bytes, label: str, *, p256: bool) -> ec.EllipticCurvePrivateKey:
    if not p256:
        return derive_p384(secret, label)
    return ec.derive_private_key(int.from_bytes(derive(secret, f"p256 {label}", 31), "big") + 1, ec.SECP256R1())
