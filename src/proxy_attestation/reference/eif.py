"""EIF: the image of a Nitro enclave, and the registers that it leads to.

Source: AWS, aws-nitro-enclaves-image-format: src/defs/mod.rs (layout), utils/eif_reader.rs and defs/eif_hasher.rs
(registers). Big-endian:

    0     ".eif" | version u16 | flags u16 (bit 0: ARM64) | memory u64 | CPUs u64 | reserved u16 | sections u16
    28    32 offsets u64 | 284 32 sizes u64 | 540 unused u32 | 544 CRC-32 u32 of everything but itself
    548   sections, one after the other: type u16 | flags u16 | size u64 | content
          1 kernel, 2 command line, 3 ramdisk, 4 signature (CBOR), 5 metadata (JSON)

    PCR0  kernel, command line, every ramdisk       each SHA-384(48 zero bytes || SHA-384(contents in the file's order))
    PCR1  kernel, command line, first ramdisk
    PCR2  further ramdisks
    PCR8  the signing certificate, DER

Read in pieces: memory is bounded whatever the image's size.
"""

import hashlib
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Final

import cbor2
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding

from proxy_attestation.codes import Code
from proxy_attestation.errors import AppraisalError, FormatError
from proxy_attestation.formats import cbor
from proxy_attestation.formats.binary import Reader
from proxy_attestation.formats.tee import Tee
from proxy_attestation.reference.measured import Measured, Value

HEADER: Final = 548
SECTIONS_MAX: Final = 32
SIGNATURE_MAX: Final = 64 * 1024
METADATA_MAX: Final = 1024 * 1024
IMAGE_MAX: Final = 64 * 1024**3
_VERSIONS: Final = range(2, 5)
"""Version 2 is the first with a CRC, 3 has the signature, 4 the metadata."""
_KERNEL, _CMDLINE, _RAMDISK, _SIGNATURE, _METADATA = range(1, 6)
_CODE: Final = Code.REFERENCE_MALFORMED
_PIECE: Final = 1024 * 1024
_CURVES: Final[dict[str, tuple[int, hashes.HashAlgorithm]]] = {
    "secp256r1": (-7, hashes.SHA256()),
    "secp384r1": (-35, hashes.SHA384()),
    "secp521r1": (-36, hashes.SHA512()),
}
"""COSE algorithm and hash of each curve that nitro-cli signs with."""


def _sha384() -> Any:
    return hashlib.sha384()


@dataclass(slots=True)
class _Reading:
    crc: int
    image: Any = field(default_factory=_sha384)
    boot: Any = field(default_factory=_sha384)
    application: Any = field(default_factory=_sha384)
    ramdisks: int = 0
    seen: list[int] = field(default_factory=list)
    kept: dict[int, bytes] = field(default_factory=dict)

    def hashers(self, kind: int) -> list[Any]:
        """Return what a section goes into."""
        if kind in (_KERNEL, _CMDLINE):
            return [self.image, self.boot]
        if kind != _RAMDISK:
            return []
        self.ramdisks += 1
        return [self.image, self.boot if self.ramdisks == 1 else self.application]


def measure_eif(file: BinaryIO, source: str) -> Measured:
    """Read an image once from its start, and return the registers of the enclaves that run it.

    Args:
        file: of the image, at its start.
        source: its name.

    Raises:
        FormatError: `reference.malformed`: another layout, a wrong CRC, bytes too many.
        AppraisalError: `reference.signature`, where the image is signed and the signature is not good.
    """
    head = _take(file, HEADER)
    reader = Reader(head, _CODE)
    if reader.take(4) != b".eif":
        raise reader.fail("not an enclave image")
    version, flags = reader.uint(2), reader.uint(2)
    memory, cpus, _, count = reader.uint(8), reader.uint(8), reader.uint(2), reader.uint(2)
    offsets, sizes = ([reader.uint(8) for _ in range(SECTIONS_MAX)] for _ in range(2))
    if version not in _VERSIONS or not 3 <= count <= SECTIONS_MAX:
        raise reader.fail(f"version {version} with {count} sections")
    reading, position, whole = _Reading(zlib.crc32(head[:-4])), HEADER, hashlib.sha256(head)
    for offset, size in zip(offsets[:count], sizes[:count], strict=True):
        # Loaders go by the offsets, others read on: both must come to the same.
        if offset != position or position + size > IMAGE_MAX:
            raise FormatError(_CODE, f"a section at {position} that the header has at {offset}")
        _section(file, size, reading, whole.update)
        position += 12 + size
    if file.read(1):
        raise FormatError(_CODE, "bytes behind the last section")
    if reading.crc != int.from_bytes(head[-4:]):
        raise FormatError(_CODE, "the CRC is another: the image was changed or is not whole")
    once = (_KERNEL, _CMDLINE, _SIGNATURE, _METADATA)
    if any(reading.seen.count(kind) > 1 for kind in once) or not {_KERNEL, _CMDLINE, _RAMDISK} <= set(reading.seen):
        raise FormatError(_CODE, f"sections of types {reading.seen}")
    hashed = (reading.image, reading.boot, reading.application)
    pins: dict[str, Value] = {f"pcr{index}": (_extended(each.digest()),) for index, each in enumerate(hashed)}
    if _SIGNATURE in reading.kept:
        pins["pcr8"] = (_extended(hashlib.sha384(_signer(reading.kept[_SIGNATURE], pins["pcr0"])).digest()),)
    notes = ("pcr3 and pcr4 say where the enclave runs (IAM role, parent instance), not what: no image leads to them",)
    details = {
        "architecture": "aarch64" if flags & 1 else "x86_64",
        "default memory": f"{memory} bytes, {cpus} CPUs",
        "signed": "yes, with a good signature" if "pcr8" in pins else "no",
        **_metadata(reading.kept.get(_METADATA)),
    }
    return Measured(Tee.NITRO, f"image {source} (SHA-256 {whole.hexdigest()})", pins, notes, (), details)


def _section(file: BinaryIO, size: int, reading: _Reading, whole: Callable[[bytes], None]) -> None:
    head = _take(file, 12)
    whole(head)
    reading.crc = zlib.crc32(head, reading.crc)
    kind = int.from_bytes(head[:2])
    if not _KERNEL <= kind <= _METADATA or int.from_bytes(head[4:]) != size:
        raise FormatError(_CODE, f"a section of type {kind} with another size than the header has")
    limit = {_SIGNATURE: SIGNATURE_MAX, _METADATA: METADATA_MAX}.get(kind)
    if limit is not None and size > limit:
        raise FormatError(_CODE, f"a section of type {kind} with {size} bytes, at most {limit} allowed")
    reading.seen.append(kind)
    hashers, kept = reading.hashers(kind), bytearray()
    while size:
        piece = _take(file, min(size, _PIECE))
        size -= len(piece)
        whole(piece)
        reading.crc = zlib.crc32(piece, reading.crc)
        for hasher in hashers:
            hasher.update(piece)
        if limit is not None:
            kept += piece
    if limit is not None:
        reading.kept[kind] = bytes(kept)


def _take(file: BinaryIO, count: int) -> bytes:
    data = file.read(count)
    if len(data) != count:
        raise FormatError(_CODE, f"{count} bytes expected, {len(data)} are left")
    return data


def _extended(digest: bytes) -> bytes:
    return hashlib.sha384(bytes(48) + digest).digest()


def _signer(section: bytes, pcr0: Value) -> bytes:
    """Return the signing certificate, DER, once its key is found to have signed PCR0."""
    first = _first(cbor.decode_foreign(section, _CODE, SIGNATURE_MAX))
    pem, cose = (_octets(first.get(key)) for key in ("signing_certificate", "signature"))
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        key = certificate.public_key()
        der = certificate.public_bytes(Encoding.DER)
    except Exception as error:
        # Whatever the library raises for bytes that are no certificate.
        raise FormatError(_CODE, "the signing certificate cannot be read") from error
    message = cbor.decode_foreign(cose, _CODE, SIGNATURE_MAX)
    parts: Any = message.value if isinstance(message, cbor2.CBORTag) and message.tag == 18 else message
    if not isinstance(parts, list) or len(parts) != 4 or not all(isinstance(parts[i], bytes) for i in (0, 2, 3)):
        raise FormatError(_CODE, "the signature is no COSE_Sign1")
    protected, _, payload, signature = parts
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name not in _CURVES:
        raise FormatError(_CODE, "the signing certificate has no key on a NIST curve")
    algorithm, hashed = _CURVES[key.curve.name]
    said = _map(cbor.decode_foreign(payload, _CODE, SIGNATURE_MAX))
    size = (key.curve.key_size + 7) // 8
    try:
        good = (
            _map(cbor.decode_foreign(protected, _CODE, SIGNATURE_MAX)) == {1: algorithm}
            and said.keys() == {"register_index", "register_value"}
            and said["register_index"] == 0
            and (_octets(said["register_value"]),) == pcr0
            and len(signature) == 2 * size
        )
        r, s = int.from_bytes(signature[:size]), int.from_bytes(signature[size:])
        signed = cbor.encode(["Signature1", protected, b"", payload])
        if good:
            key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(hashed))
    except (InvalidSignature, ValueError):
        good = False
    if not good:
        raise AppraisalError(Code.REFERENCE_SIGNATURE, "the certificate's key did not sign this image's PCR0")
    return der


def _first(value: object) -> dict[Any, Any]:
    if not isinstance(value, list) or len(value) != 1:
        raise FormatError(_CODE, "a signature section of other than one signature")
    return _map(value[0])


def _map(value: object) -> dict[Any, Any]:
    if not isinstance(value, dict):
        raise FormatError(_CODE, "a map was expected")
    return value


def _octets(value: object) -> bytes:
    """Return bytes, which the tool's library writes as a list of numbers."""
    if isinstance(value, bytes):
        return value
    if not isinstance(value, list) or not all(type(item) is int and 0 <= item <= 255 for item in value):
        raise FormatError(_CODE, "bytes were expected")
    return bytes(value)


def _metadata(data: bytes | None) -> dict[str, str]:
    """Return the image's name and version, which nothing measures."""
    try:
        said = json.loads(data or b"{}")
    except (ValueError, RecursionError) as error:
        raise FormatError(_CODE, "the metadata is no JSON") from error
    found = {} if not isinstance(said, dict) else {key: said.get(key) for key in ("ImageName", "ImageVersion")}
    return {
        f"{key} (not measured)": text for key, text in found.items() if isinstance(text, str) and text.isprintable()
    }
