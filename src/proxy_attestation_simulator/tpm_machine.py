"""A machine with a simulated TPM, as a proxy meets it: a certified EK, an AK, a key, and credentials that it opens."""

import hmac
from dataclasses import dataclass, field, replace
from typing import Final

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES

from proxy_attestation_simulator.keys import derive_key
from proxy_attestation_simulator.tpm import TpmMade, TpmRecipe, TpmVendor, make
from proxy_attestation_simulator.tpm_structures import name_of, public_area

_IDENTITY: Final = b"IDENTITY\0"


def kdf_a(name: str, key: bytes, label: bytes, context: bytes, bits: int) -> bytes:
    """KDFa, as part 1, section 11.4.10.2 of the TPM 2.0 library specification writes it."""
    result, counter = b"", 0
    while len(result) < bits // 8:
        counter += 1
        message = counter.to_bytes(4, "big") + label + b"\0" + context + bits.to_bytes(4, "big")
        result += hmac.digest(key, message, name)
    return result[: bits // 8]


def open_credential(ek: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey, blob: bytes, name: bytes) -> bytes | None:
    """Return the secret in a credential, as TPM2_ActivateCredential does; None where it is not for that object.

    Args:
        ek: RSA 2048, P-256 or P-384.
        blob: TPM2B_ID_OBJECT and TPM2B_ENCRYPTED_SECRET.
        name: of the object.
    """
    identity, rest = _sized(blob)
    encrypted, _ = _sized(rest)
    large = isinstance(ek, ec.EllipticCurvePrivateKey) and ek.key_size == 384
    digest, aes_bits, size = ("sha384", 256, 48) if large else ("sha256", 128, 32)
    if isinstance(ek, rsa.RSAPrivateKey):
        seed = ek.decrypt(encrypted, padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), _IDENTITY))
    else:
        x, rest = _sized(encrypted)
        y, _ = _sized(rest)
        ephemeral = ec.EllipticCurvePublicNumbers(int.from_bytes(x), int.from_bytes(y), ek.curve).public_key()
        own = ek.public_key().public_numbers().x.to_bytes(len(x), "big")
        hashed = hashes.Hash(hashes.SHA384() if large else hashes.SHA256())
        hashed.update(b"\0\0\0\x01" + ek.exchange(ec.ECDH(), ephemeral) + _IDENTITY + x + own)
        seed = hashed.finalize()
    integrity, hidden = _sized(identity)
    if hmac.digest(kdf_a(digest, seed, b"INTEGRITY", b"", 8 * size), hidden + name, digest) != integrity:
        return None
    decryptor = Cipher(AES(kdf_a(digest, seed, b"STORAGE", name, aes_bits)), CFB(bytes(16))).decryptor()
    return _sized(decryptor.update(hidden) + decryptor.finalize())[0]


def _sized(data: bytes) -> tuple[bytes, bytes]:
    end = 2 + int.from_bytes(data[:2], "big")
    return data[2:end], data[end:]


@dataclass(frozen=True)
class TpmMachine:
    """One machine.

    Attributes:
        vendor: that certified its EK.
        recipe: what its evidence is made of.
    """

    vendor: TpmVendor
    recipe: TpmRecipe = field(default_factory=TpmRecipe)

    @property
    def key(self) -> ec.EllipticCurvePrivateKey:
        """The subject's key, which the AK certifies as one of the TPM's."""
        return derive_key(self.recipe.csr_secret, "tpm key")

    @property
    def ak_public(self) -> bytes:
        """TPMT_PUBLIC of the AK."""
        return public_area(derive_key(self.recipe.ak_secret, "tpm ak"), self.recipe.ak_attributes, restricted=True)

    @property
    def certificates(self) -> tuple[bytes, ...]:
        """The EK's certificate and its issuers', DER."""
        return make(self.vendor, self.recipe).certificates

    def activate(self, credential: bytes) -> bytes | None:
        """Return the secret in a credential for this EK and AK, or None."""
        return open_credential(derive_key(self.recipe.ek_secret, "tpm ek"), credential, name_of(self.ak_public))

    def attest(self, qualifying: bytes) -> TpmMade:
        """Make a quote and a certification with this qualifying data, 32 bytes."""
        return make(self.vendor, replace(self.recipe, extra_data=qualifying))
