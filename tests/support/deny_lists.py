"""Deny lists of the tests' own authority, in which each thing can be wrong alone."""

import copy
import hashlib
from datetime import timedelta
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from mini_authority import Leaf, MiniAuthority

from proxy_attestation.formats.deny_list import Denied, DenyList, sign_deny_list

ORIGIN = "example.org/issuance/0123456789abcdef"
DAY = 24 * 3600


def spki_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def digest_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    return hashlib.sha256(spki_of(key)).digest()


def serial_of(leaf: Leaf) -> bytes:
    return x509.load_der_x509_certificate(leaf.der).serial_number.to_bytes(20, "big")


def deny_list(
    authority: MiniAuthority,
    *denied: bytes,
    signer: ec.EllipticCurvePrivateKey | None = None,
    age: timedelta = timedelta(0),
    **changes: Any,
) -> bytes:
    """Return a signed list of serial numbers and digests of keys.

    Args:
        authority: whose issuing CA signs.
        denied: serial numbers of 20 bytes, digests of 32.
        signer: another key that signs.
        age: how long ago it was made.
        changes: to the other fields.
    """
    seconds = int((authority.now - age).timestamp())
    fields: dict[str, Any] = {
        "origin": ORIGIN,
        "sequence": 1,
        "this_update": seconds,
        "next_update": seconds + DAY,
        "certificates": (authority.issuing_der,),
        "denied": tuple(Denied(what, seconds + DAY) for what in denied),
    }
    content = DenyList(**(fields | changes))
    key = signer or authority.issuing_key
    return sign_deny_list(content, spki_of(key), lambda text: key.sign(text, ec.ECDSA(SHA256())))


def other_issuing(
    authority: MiniAuthority, *, since: timedelta = timedelta(0), path_length: int = 0
) -> tuple[ec.EllipticCurvePrivateKey, bytes]:
    """Return key and certificate of another issuing CA under the same root, made that much later."""
    maker, key = copy.copy(authority), ec.generate_private_key(ec.SECP256R1())
    maker.now = authority.now + since
    made = maker._ca("Other Issuing", key, authority.root, timedelta(days=90), path_length=path_length)
    return key, made.public_bytes(Encoding.DER)
