"""RSA keys of 4096 bits for AMD's hierarchy, and the P-384 keys that sign reports.

Making an RSA key takes up to a second, and certificates under keys that change with every run are hard to compare. So
a vendor has keys of its own, made once and kept beside it, or, for tests, the fixed keys of this file: each prime is
the first one above a number that follows from a label, and the table says how far above.
"""

import hashlib
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

from proxy_attestation_simulator.keys import derive

BITS: Final = 4096
SHA384: Final = hashes.SHA384()
PSS: Final = padding.PSS(padding.MGF1(SHA384), salt_length=48)
FIXED_SECRET: Final = bytes(range(32))
_EXPONENT: Final = 65537
_ORDER_P384: Final = int(
    "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973", 16
)
_ECDSA: Final = ec.ECDSA(SHA384, deterministic_signing=True)
_WITNESSES: Final = (3, 5, 7, 11, 13, 17, 19, 23)

_OFFSETS: Final = {
    "Milan ark": (2426, 2102),
    "Milan ask": (2292, 1538),
    "Milan asvk": (1874, 4944),
    "Genoa ark": (158, 892),
    "Genoa ask": (2708, 944),
    "Genoa asvk": (1228, 1706),
    "Turin ark": (4864, 1154),
    "Turin ask": (348, 368),
    "Turin asvk": (246, 1846),
    "stranger Milan ark": (770, 2438),
    "stranger Milan ask": (1752, 1960),
    "stranger Milan asvk": (648, 5884),
    "stranger Genoa ark": (1020, 1176),
    "stranger Genoa ask": (1916, 1158),
    "stranger Genoa asvk": (998, 388),
    "stranger Turin ark": (2336, 1948),
    "stranger Turin ask": (1868, 268),
    "stranger Turin asvk": (2508, 1478),
}
"""How far above its start each of the two primes of a fixed key lies."""


def make_key() -> rsa.RSAPrivateKey:
    """Return a new key."""
    return rsa.generate_private_key(_EXPONENT, BITS)


def fixed_key(label: str) -> rsa.RSAPrivateKey:
    """Return the fixed key with this label. Everybody has it: good for tests alone."""
    p, q = (start + offset for start, offset in zip(_starts(label), _OFFSETS[label], strict=True))
    d = pow(_EXPONENT, -1, (p - 1) * (q - 1))
    numbers = rsa.RSAPrivateNumbers(
        p, q, d, d % (p - 1), d % (q - 1), rsa.rsa_crt_iqmp(p, q), rsa.RSAPublicNumbers(_EXPONENT, p * q)
    )
    # Checking that both are primes takes longer than everything else; whoever wrote the table did it.
    return numbers.private_key(unsafe_skip_rsa_key_validation=True)


def search(label: str) -> tuple[int, int]:
    """Return a label's line for the table of fixed keys. Takes some seconds."""
    first, second = (_distance(start) for start in _starts(label))
    return first, second


def _starts(label: str) -> tuple[int, int]:
    both = hashlib.shake_256(FIXED_SECRET + label.encode()).digest(BITS // 8)
    top, half = 3 << (BITS // 2 - 2), BITS // 16
    return int.from_bytes(both[:half]) | top | 1, int.from_bytes(both[half:]) | top | 1


def _distance(start: int) -> int:
    candidate = start
    while candidate % _EXPONENT == 1 or not _is_prime(candidate):
        candidate += 2
    return candidate - start


def _is_prime(number: int) -> bool:
    """Miller and Rabin's test, after a division by small numbers and Fermat's test have thrown out nearly all."""
    if any(number % small == 0 for small in range(3, 5000, 2)) or pow(2, number - 1, number) != 1:
        return False
    twos = ((number - 1) & -(number - 1)).bit_length() - 1
    for witness in _WITNESSES:
        power = pow(witness, (number - 1) >> twos, number)
        seen = {power}
        for _ in range(twos - 1):
            power = power * power % number
            seen.add(power)
        if number - 1 not in seen and pow(witness, (number - 1) >> twos, number) != 1:
            return False
    return True


def derive_p384(secret: bytes, label: str) -> ec.EllipticCurvePrivateKey:
    """Return the P-384 key that follows from a secret and a label."""
    scalar = int.from_bytes(derive(secret, label, 64)) % (_ORDER_P384 - 1) + 1
    return ec.derive_private_key(scalar, ec.SECP384R1())


def sign_report(key: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
    """Sign with ECDSA P-384 and SHA-384; return R and S, 72 bytes little-endian each."""
    r, s = utils.decode_dss_signature(key.sign(message, _ECDSA))
    return r.to_bytes(72, "little") + s.to_bytes(72, "little")
