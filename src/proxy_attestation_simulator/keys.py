"""P-256 keys and signatures that follow from a secret, so that the same vendor can be made twice."""

import hashlib
import hmac
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_ECDSA: Final = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)


def derive(secret: bytes, label: str, size: int) -> bytes:
    """Return `size` (at most 64) bytes that follow from the secret and the label."""
    return hmac.digest(secret, label.encode(), hashlib.sha512)[:size]


def derive_key(secret: bytes, label: str) -> ec.EllipticCurvePrivateKey:
    """Return the P-256 key that follows from the secret and the label."""
    scalar = int.from_bytes(derive(secret, label, 48), "big") % (_ORDER - 1) + 1
    return ec.derive_private_key(scalar, ec.SECP256R1())


def sign_raw(key: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
    """Sign with ECDSA P-256 and SHA-256; return r and s, 32 bytes big-endian each."""
    r, s = utils.decode_dss_signature(key.sign(message, _ECDSA))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def raw_point(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return X and Y of the public key, 32 bytes big-endian each."""
    return key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)[1:]


def spki(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the public key as DER SubjectPublicKeyInfo."""
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
