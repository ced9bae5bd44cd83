"""SIGSTRUCT: what an SGX enclave's signer says of it. Gramine writes it as `<application>.sig`.

Source: Intel SDM volume 3D, table 38-19 (SIGSTRUCT), and section 39.1.2 for the signature. Little-endian, 1808 bytes:

    0     header 16 = 06000000E10000000000010000000000   516   signature 384, over [0,128) and [900,1028)
    16    vendor 4: 0 or 0x8086                          900   MISCSELECT 4, mask 4
    20    date 4: BCD yyyymmdd                           908   CET attributes 1, mask 1, reserved 2
    24    header 16 = 01010000600000006000000001000000   912   ISVFAMILYID 16
    40    for software 4                                 928   ATTRIBUTES 16, mask 16: flags u64, XFRM u64 each
    44    reserved 84                                    960   MRENCLAVE 32, reserved 16
    128   modulus 384                                    1008  ISVEXTPRODID 16, ISVPRODID u16, ISVSVN u16, reserved 12
    512   exponent 4 = 3                                 1040  Q1 384, Q2 384

The signature is RSA-3072 PKCS#1 v1.5 with SHA-256 and exponent 3; Q1 = sig^2 / n, Q2 = (sig^3 - Q1 sig n) / n, as the
processor wants them. MRSIGNER is SHA-256 of the modulus as it stands here.
"""

import hashlib
from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from proxy_attestation.codes import Code
from proxy_attestation.errors import AppraisalError, FormatError
from proxy_attestation.formats.binary import Reader
from proxy_attestation.formats.tee import Tee
from proxy_attestation.reference.measured import Measured, Value

SIZE: Final = 1808
_CODE: Final = Code.REFERENCE_MALFORMED
_HEADERS: Final = (
    bytes.fromhex("06000000e10000000000010000000000"),
    bytes.fromhex("01010000600000006000000001000000"),
)
_VENDORS: Final = (0, 0x8086)
_RSA: Final = 384
_SIGNED: Final = (slice(0, 128), slice(900, 1028))
_INIT, _DEBUG, _KSS = 0x01, 0x02, 0x80


def measure_sigstruct(data: bytes, source: str) -> Measured:
    """Read a SIGSTRUCT, check its signature, and return what it pins.

    Args:
        data: the file, 1808 bytes.
        source: its name.

    Raises:
        FormatError: `reference.malformed`.
        AppraisalError: `reference.signature`, where the signature, Q1 or Q2 is another than the processor would take.
    """
    reader = Reader(data, _CODE, "little")
    if len(data) != SIZE:
        raise reader.fail(f"{len(data)} bytes, a SIGSTRUCT has {SIZE}")
    first, vendor, date = reader.take(16), reader.uint(4), reader.take(4)
    second, _, reserved = reader.take(16), reader.take(4), reader.take(84)
    if (first, second) != _HEADERS or vendor not in _VENDORS or any(reserved):
        raise reader.fail("not the header of a SIGSTRUCT")
    modulus, exponent, signature = reader.take(_RSA), reader.uint(4), reader.take(_RSA)
    misc, misc_mask = reader.take(4), reader.take(4)
    cet = reader.take(4)
    family_id = reader.take(16)
    flags, xfrm, flags_mask, xfrm_mask = (reader.take(8) for _ in range(4))
    mr_enclave = reader.take(32)
    reserved = reader.take(16)
    ext_prod_id, prod_id, svn = reader.take(16), reader.uint(2), reader.uint(2)
    reserved += reader.take(12)
    if any(reserved) or any(cet[2:]) or not any(mr_enclave) or exponent != 3:
        raise reader.fail("reserved bytes, an MRENCLAVE of zero, or another exponent than 3")
    _check_signature(data, modulus, signature, (reader.take(_RSA), reader.take(_RSA)))
    # EINIT sets INIT after it has compared; and that a signer leaves DEBUG open is no reason to accept it.
    value = int.from_bytes(flags, "little") & int.from_bytes(flags_mask, "little") | _INIT
    mask = int.from_bytes(flags_mask, "little") | _INIT | _DEBUG
    pins: dict[str, Value] = {
        "mr_enclave": (mr_enclave,),
        "mr_signer": (hashlib.sha256(modulus).digest(),),
        "isv_prod_id": prod_id,
        "min_isv_svn": svn,
        "attributes_flags": value.to_bytes(8, "little"),
        "attributes_flags_mask": mask.to_bytes(8, "little"),
        **_masked("xfrm", xfrm, xfrm_mask),
        **_masked("misc_select", misc, misc_mask),
    }
    if value & _KSS or any(ext_prod_id) or any(family_id):
        pins |= {"isv_ext_prod_id": ext_prod_id, "isv_family_id": family_id}
    free = [key for key in ("xfrm", "misc_select") if key not in pins]
    notes = ["config_id and config_svn stand in no SIGSTRUCT: an entry that does not name them demands zero"]
    notes += [f"the signer leaves {' and '.join(free)} open, and so these pins do"] if free else []
    if not int.from_bytes(flags_mask, "little") & _DEBUG:
        notes.append("the signer lets the enclave run with or without debugging; the pins take it without")
    dangers = ("the signer demands DEBUG: anybody can read such an enclave's memory",) if value & _DEBUG else ()
    return Measured(
        Tee.SGX,
        f"SIGSTRUCT {source} (SHA-256 {hashlib.sha256(data).hexdigest()})",
        pins,
        tuple(notes),
        dangers,
        {"signed on": f"{date[::-1].hex()}", "debug": "demanded" if value & _DEBUG else "refused by these pins"},
    )


def _masked(key: str, value: bytes, mask: bytes) -> dict[str, Value]:
    """Return a pin under a mask; none where the mask has no bit."""
    kept = bytes(v & m for v, m in zip(value, mask, strict=True))
    return {key: kept, f"{key}_mask": mask} if any(mask) else {}


def _check_signature(data: bytes, modulus: bytes, signature: bytes, quotients: tuple[bytes, bytes]) -> None:
    n, s = int.from_bytes(modulus, "little"), int.from_bytes(signature, "little")
    if n.bit_length() != 8 * _RSA or n % 2 == 0 or not 0 < s < n:
        raise FormatError(_CODE, "no modulus of 3072 bits, or a signature outside it")
    try:
        key = rsa.RSAPublicNumbers(3, n).public_key()
        signed = b"".join(data[part] for part in _SIGNED)
        key.verify(signature[::-1], signed, padding.PKCS1v15(), hashes.SHA256())
    except (ValueError, InvalidSignature) as error:
        raise AppraisalError(Code.REFERENCE_SIGNATURE, "the modulus did not sign this SIGSTRUCT") from error
    q1 = s * s // n
    if (q1, (s * s * s - q1 * s * n) // n) != tuple(int.from_bytes(q, "little") for q in quotients):
        raise AppraisalError(Code.REFERENCE_SIGNATURE, "Q1 or Q2 is another: the processor would refuse the enclave")
