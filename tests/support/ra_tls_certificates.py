"""Certificates with evidence inside, put together byte by byte: also such as no library would write."""

import hashlib
from collections.abc import Iterable

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from proxy_attestation_simulator import der

GRAMINE = "0.6.9.42.840.113741.1337.6"
INTEL = "1.2.840.113741.1337.6"
CCC = "2.23.133.5.4.9"
SGX_SDK = "1.2.840.113741.1.13.1"
CMW = "1.3.6.1.5.5.7.1.35"
SUBJECT_ALT_NAME = "2.5.29.17"

KEY = ec.derive_private_key(11, ec.SECP384R1())
SPKI = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)

_ECDSA_SHA256 = "1.2.840.10045.4.3.2"
_NULL = b"\x05\x00"


def certificate(
    extensions: Iterable[tuple[str, bytes]],
    *,
    version: int = 2,
    spki: bytes = SPKI,
    algorithm_null: bool = True,
    critical: bytes = b"",
) -> bytes:
    """Make a certificate.

    Args:
        extensions: (OID, content of extnValue).
        version: 2 for v3.
        spki: the subject's key.
        algorithm_null: whether the ECDSA algorithm has a NULL parameter, as Gramine writes it, which RFC 5758 forbids.
        critical: the extensions' critical flag, encoded.
    """
    algorithm = der.sequence([der.object_identifier(_ECDSA_SHA256), *([_NULL] if algorithm_null else [])])
    name = der.sequence(
        [der.tlv(0x31, der.sequence([der.object_identifier("2.5.4.3"), der.tlv(0x0C, b"RATLS")]))],
    )
    validity = der.sequence([der.tlv(0x17, b"010101000000Z"), der.tlv(0x17, b"301231235959Z")])
    held = [der.sequence([der.object_identifier(oid), critical, der.octet_string(value)]) for oid, value in extensions]
    parts = [der.tlv(0xA0, der.integer(version)), der.integer(1), algorithm, name, validity, name, spki]
    tbs = der.sequence([*parts, der.tlv(0xA3, der.sequence(held))])
    signature = KEY.sign(tbs, ec.ECDSA(hashes.SHA256()))
    return der.sequence([tbs, algorithm, der.tlv(0x03, b"\0" + signature)])


def claims(spki: bytes = SPKI, algorithm: int = 1, **more: object) -> bytes:
    """Make the claims of the CCC form."""
    make = {1: hashlib.sha256, 7: hashlib.sha384, 8: hashlib.sha512}[algorithm]
    return cbor2.dumps({**more, "pubkey-hash": cbor2.dumps([algorithm, make(spki).digest()])})


def tagged(quote: bytes, held: bytes, tag: int = 60000) -> bytes:
    """Make the CCC form's evidence."""
    return cbor2.dumps(cbor2.CBORTag(tag, [quote, held]))


def general_names(*names: str) -> bytes:
    """Make the value of a subjectAltName with DNS names."""
    return der.sequence([der.tlv(0x82, name.encode()) for name in names])
