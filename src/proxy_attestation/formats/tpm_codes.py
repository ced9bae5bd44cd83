"""Numbers of the TPM 2.0 library specification, part 2 (algorithms, curves, attributes), by their names."""

from collections.abc import Mapping
from enum import IntEnum
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

GENERATED: Final = bytes.fromhex("ff544347")
"""TPM_GENERATED_VALUE: a restricted key signs no data from outside that begins with it."""
ST_CERTIFY: Final = 0x8017
ST_QUOTE: Final = 0x8018

HASH_NAMES: Final[Mapping[int, str]] = {0x0004: "sha1", 0x000B: "sha256", 0x000C: "sha384", 0x000D: "sha512"}
"""TPM_ALG_ID of each hash, by the names of `hashlib`."""
HASH_SIZES: Final[Mapping[str, int]] = {"sha1": 20, "sha256": 32, "sha384": 48, "sha512": 64}
HASHES: Final[Mapping[str, hashes.HashAlgorithm]] = {
    "sha1": hashes.SHA1(),  # noqa: S303 - the walk decides where it may count
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}
SIGNATURE_NAMES: Final[Mapping[int, str]] = {0x0014: "RSASSA", 0x0016: "RSAPSS", 0x0018: "ECDSA"}
ALG_RSA: Final = 0x0001
ALG_ECC: Final = 0x0023
ALG_AES: Final = 0x0006
ALG_NULL: Final = 0x0010
ALG_RSAES: Final = 0x0015
"""The one asymmetric scheme without details."""
ALG_ECDAA: Final = 0x001A
"""The one scheme with a counter beside its hash."""
CURVES: Final[Mapping[int, tuple[type[ec.EllipticCurve], int]]] = {
    0x0003: (ec.SECP256R1, 32),
    0x0004: (ec.SECP384R1, 48),
    0x0005: (ec.SECP521R1, 66),
}
"""TPM_ECC_CURVE: the curve, and the bytes of a coordinate."""


class ObjectAttribute(IntEnum):
    """Bits of TPMA_OBJECT (part 2, section 8.3)."""

    FIXED_TPM = 1 << 1
    ST_CLEAR = 1 << 2
    FIXED_PARENT = 1 << 4
    SENSITIVE_DATA_ORIGIN = 1 << 5
    USER_WITH_AUTH = 1 << 6
    ADMIN_WITH_POLICY = 1 << 7
    NO_DA = 1 << 10
    ENCRYPTED_DUPLICATION = 1 << 11
    RESTRICTED = 1 << 16
    DECRYPT = 1 << 17
    SIGN_ENCRYPT = 1 << 18
    X509_SIGN = 1 << 19


RESIDENT: Final = ObjectAttribute.FIXED_TPM | ObjectAttribute.FIXED_PARENT | ObjectAttribute.SENSITIVE_DATA_ORIGIN
"""Made by this TPM, and never outside it in clear."""
DEFINED: Final = sum(ObjectAttribute)
