"""The structures of a TPM 2.0 and of measured boot, written: the reverse of what a verifier reads, by its own hand."""

import hashlib
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

HASHES: Final[Mapping[str, tuple[int, hashes.HashAlgorithm]]] = {
    "sha1": (0x0004, hashes.SHA1()),  # noqa: S303 - an old TPM's
    "sha256": (0x000B, hashes.SHA256()),
    "sha384": (0x000C, hashes.SHA384()),
    "sha512": (0x000D, hashes.SHA512()),
}
SCHEMES: Final = {"RSASSA": 0x0014, "RSAPSS": 0x0016, "ECDSA": 0x0018}
CURVES: Final = {"secp256r1": (0x0003, 32), "secp384r1": (0x0004, 48)}
QUOTE: Final = 0x8018
CERTIFY: Final = 0x8017
AK_ATTRIBUTES: Final = 0x00050072
"""fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth, restricted, sign."""
KEY_ATTRIBUTES: Final = 0x00040072
"""The same without restricted."""

PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey


def sized(data: bytes) -> bytes:
    """Return a TPM2B."""
    return len(data).to_bytes(2, "big") + data


def public_area(key: PrivateKey, attributes: int, *, name_alg: str = "sha256", restricted: bool = False) -> bytes:
    """Return a TPMT_PUBLIC without policy."""
    number = HASHES[name_alg][0]
    rsa_key = isinstance(key, rsa.RSAPrivateKey)
    head = struct.pack(">HHI", 0x0001 if rsa_key else 0x0023, number, attributes) + sized(b"")
    scheme = struct.pack(">HHH", 0x0010, 0x0014 if rsa_key else 0x0018, number) if restricted else b"\0\x10\0\x10"
    if isinstance(key, rsa.RSAPrivateKey):
        numbers = key.public_key().public_numbers()
        return head + scheme + struct.pack(">HI", key.key_size, 0) + sized(numbers.n.to_bytes(key.key_size // 8, "big"))
    curve, size = CURVES[key.curve.name]
    point = key.public_key().public_numbers()
    coordinates = sized(point.x.to_bytes(size, "big")) + sized(point.y.to_bytes(size, "big"))
    return head + scheme + struct.pack(">HH", curve, 0x0010) + coordinates


def name_of(area: bytes) -> bytes:
    """Return the name of an object with SHA-256 as its name algorithm."""
    return area[2:4] + hashlib.sha256(area).digest()


def selection(banks: Iterable[tuple[str, Iterable[int]]]) -> bytes:
    """Return a TPML_PCR_SELECTION with bitmaps of three bytes."""
    items = [(HASHES[name][0], sum(1 << index for index in indexes)) for name, indexes in banks]
    packed = b"".join(struct.pack(">HB", number, 3) + bits.to_bytes(3, "little") for number, bits in items)
    return len(items).to_bytes(4, "big") + packed


@dataclass(frozen=True)
class AttestRecipe:
    """A TPMS_ATTEST; `attested` is what differs from one type to the other."""

    type: int
    attested: bytes
    extra_data: bytes = b""
    magic: bytes = b"\xffTCG"
    qualified_signer: bytes = b"\0\x0b" + b"\x51" * 32
    clock: int = 1_000
    reset_count: int = 3
    restart_count: int = 1
    safe: int = 1
    tail: bytes = b""

    def encode(self) -> bytes:
        """Return its bytes."""
        times = struct.pack(">QIIB", self.clock, self.reset_count, self.restart_count, self.safe)
        head = self.magic + self.type.to_bytes(2, "big") + sized(self.qualified_signer) + sized(self.extra_data)
        return head + times + b"\x20\x19\x10\x23\x00\x16\x36\x36" + self.attested + self.tail


def sign(key: PrivateKey, data: bytes, name: str = "sha256", *, pss: bool = False) -> bytes:
    """Sign; return a TPMT_SIGNATURE."""
    number, algorithm = HASHES[name]
    if isinstance(key, ec.EllipticCurvePrivateKey):
        r, s = utils.decode_dss_signature(key.sign(data, ec.ECDSA(algorithm)))
        size = CURVES[key.curve.name][1]
        values = sized(r.to_bytes(size, "big")) + sized(s.to_bytes(size, "big"))
        return struct.pack(">HH", SCHEMES["ECDSA"], number) + values
    scheme = "RSAPSS" if pss else "RSASSA"
    with_pss = padding.PSS(padding.MGF1(algorithm), padding.PSS.DIGEST_LENGTH)
    value = key.sign(data, with_pss if pss else padding.PKCS1v15(), algorithm)
    return struct.pack(">HH", SCHEMES[scheme], number) + sized(value)


@dataclass(frozen=True)
class LogEvent:
    """An event; its digests are those of `measured`, which is the data where nothing else is given."""

    register: int
    type: int
    data: bytes
    measured: bytes | None = None


@dataclass(frozen=True)
class LogRecipe:
    """A crypto-agile log."""

    events: Sequence[LogEvent]
    algorithms: Sequence[str] = ("sha256",)
    padding: bytes = b""
    sizes: Mapping[str, int] = field(default_factory=dict)

    def encode(self) -> bytes:
        """Return its bytes."""
        parts = [struct.pack("<HH", HASHES[name][0], self._size(name)) for name in self.algorithms]
        header = b"Spec ID Event03\0" + struct.pack("<IBBBBI", 0, 0, 2, 0, 2, len(parts)) + b"".join(parts) + b"\0"
        records = [struct.pack("<II20sI", 0, 3, bytes(20), len(header)) + header]
        for event in self.events:
            content = event.data if event.measured is None else event.measured
            digests = b"".join(
                struct.pack("<H", HASHES[name][0]) + hashlib.new(name, content).digest() for name in self.algorithms
            )
            head = struct.pack("<III", event.register, event.type, len(self.algorithms))
            records.append(head + digests + struct.pack("<I", len(event.data)) + event.data)
        return b"".join(records) + self.padding

    def _size(self, name: str) -> int:
        return self.sizes.get(name, HASHES[name][1].digest_size)

    def registers(self, name: str = "sha256", count: int = 24) -> dict[int, bytes]:
        """Return what a machine's registers hold after these events; PCRs 17 to 22 are left out."""
        size = hashlib.new(name).digest_size
        values = {index: bytes(size) for index in range(count) if not 17 <= index <= 22}
        for event in self.events:
            if event.type != 3:
                content = event.data if event.measured is None else event.measured
                digest = hashlib.new(name, content).digest()
                values[event.register] = hashlib.new(name, values[event.register] + digest).digest()
        return values
