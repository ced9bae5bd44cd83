r"""Structures of the TPM 2.0 library specification, part 2: what a TPM signs, its signatures and its public areas.

All integers are big-endian; TPM2B is a u16 length and that many bytes. Nothing may follow a structure.

    TPMS_ATTEST     "\xffTCG" | u16 type | TPM2B qualifiedSigner | TPM2B extraData | u64 clock | u32 resetCount |
                    u32 restartCount | u8 safe | u64 firmwareVersion | attested                       (10.12.8)
    attested        quote 8018: TPML_PCR_SELECTION | TPM2B pcrDigest; certify 8017: TPM2B name | TPM2B qualifiedName
    TPMT_SIGNATURE  u16 scheme | u16 hash | RSA: TPM2B signature; ECDSA: TPM2B r | TPM2B s            (11.3.4)
    TPMT_PUBLIC     u16 type | u16 nameAlg | u32 attributes | TPM2B authPolicy | parameters | unique  (12.2.4)

What is read here is not yet believed: `appraisal.tpm` checks the signatures over exactly these bytes.
"""

import hashlib
from dataclasses import dataclass
from typing import Final, TypeAlias

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from proxy_attestation.codes import Code
from proxy_attestation.errors import AppraisalError
from proxy_attestation.formats import tpm_codes as tpm
from proxy_attestation.formats.binary import Reader
from proxy_attestation.formats.tpm_codes import ObjectAttribute

_CODE: Final = Code.TPM_MALFORMED
_NAME_MAX: Final = 66
"""TPM2B_NAME and TPM2B_DATA: an algorithm and the longest digest."""
_DIGEST_MAX: Final = 64
_BANKS_MAX: Final = 8
_SELECT_MAX: Final = 4
"""Bytes of one PCR bitmap; TPMs of today have 24 PCRs, three bytes."""
RSA_BYTES_MAX: Final = 512
_RSA_BITS: Final = (2048, 3072, 4096)
_DER_SEQUENCE: Final = 0x30

PublicKey: TypeAlias = rsa.RSAPublicKey | ec.EllipticCurvePublicKey


@dataclass(frozen=True, slots=True)
class PcrSelection:
    """PCRs of one bank.

    Attributes:
        alg: the bank's hash, such as `sha256`.
        pcrs: their numbers, ascending, 0 to 31.
    """

    alg: str
    pcrs: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Attest:
    """A TPMS_ATTEST, quote or certify.

    Attributes:
        data: all of it: what the signature covers.
        type: `tpm_codes.ST_QUOTE` or `ST_CERTIFY`.
        qualified_signer: the signing key's qualified name, 0 to 66 bytes.
        extra_data: the qualifying data of whoever asked, 0 to 66 bytes.
        clock: milliseconds.
        reset_count: TPM resets, u32; two quotes with the same counts are of one boot.
        restart_count: TPM restarts or resumes since, u32.
        safe: 1 where clock cannot have been reported higher before, else 0.
        firmware_version: 8 bytes, the vendor's.
        pcr_selection: of a quote, in the order in which the digest takes them; else empty.
        pcr_digest: of a quote, else empty.
        name: of a certified object, else empty.
        qualified_name: likewise.
    """

    data: bytes
    type: int
    qualified_signer: bytes
    extra_data: bytes
    clock: int
    reset_count: int
    restart_count: int
    safe: int
    firmware_version: bytes
    pcr_selection: tuple[PcrSelection, ...] = ()
    pcr_digest: bytes = b""
    name: bytes = b""
    qualified_name: bytes = b""


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature by a TPM.

    Attributes:
        alg: `RSASSA`, `RSAPSS` or `ECDSA`.
        hash: such as `sha256`.
        value: for RSA as long as the modulus; for ECDSA the DER of r and s.
    """

    alg: str
    hash: str
    value: bytes


@dataclass(frozen=True, slots=True)
class Public:
    """A TPMT_PUBLIC of an asymmetric key.

    Attributes:
        data: all of it: what the name is computed over.
        name_alg: the hash of the name.
        attributes: TPMA_OBJECT, u32.
        auth_policy: 0 to 64 bytes.
        scheme: TPM_ALG_ID of the scheme that the key is bound to; ALG_NULL for none.
        key: the public key itself.
    """

    data: bytes
    name_alg: str
    attributes: int
    auth_policy: bytes
    scheme: int
    key: PublicKey

    @property
    def name(self) -> bytes:
        """The object's name: u16 nameAlg, then the digest of the public area (part 1, section 16)."""
        return self.data[2:4] + hashlib.new(self.name_alg, self.data).digest()

    @property
    def kind(self) -> str:
        """`RSA` or `ECC`."""
        return "RSA" if isinstance(self.key, rsa.RSAPublicKey) else "ECC"

    def has(self, attributes: int) -> bool:
        """Tell whether all of these attributes are set."""
        return self.attributes & attributes == attributes


def spki_of(key: PublicKey) -> bytes:
    """Return the DER of a key's SubjectPublicKeyInfo."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def decode_attest(data: bytes, kind: int) -> Attest:
    """Decode a TPMS_ATTEST of one kind.

    Raises:
        FormatError: `tpm.malformed`.
        AppraisalError: `tpm.attest_type` for what no TPM generated or another kind; `tpm.algorithm`.
    """
    reader = Reader(data, _CODE)
    magic, found = reader.take(4), reader.uint(2)
    if magic != tpm.GENERATED or found != kind:
        raise AppraisalError(Code.TPM_ATTEST_TYPE, f"magic {magic.hex()}, type {found:04x}; {kind:04x} was expected")
    signer, extra = reader.sized(_NAME_MAX), reader.sized(_NAME_MAX)
    clock, resets, restarts, safe = reader.uint(8), reader.uint(4), reader.uint(4), reader.uint(1)
    if safe > 1:
        raise reader.fail("a boolean that is neither 0 nor 1")
    common = (data, kind, signer, extra, clock, resets, restarts, safe, reader.take(8))
    if kind == tpm.ST_QUOTE:
        attest = Attest(*common, pcr_selection=_selection(reader), pcr_digest=reader.sized(_DIGEST_MAX))
    else:
        attest = Attest(*common, name=reader.sized(_NAME_MAX), qualified_name=reader.sized(_NAME_MAX))
    reader.end()
    return attest


def _selection(reader: Reader) -> tuple[PcrSelection, ...]:
    count = reader.uint(4)
    if count > _BANKS_MAX:
        raise reader.fail(f"{count} PCR banks")
    banks = []
    for _ in range(count):
        alg = _hash(reader)
        bits = int.from_bytes(reader.sized(_SELECT_MAX, 1), "little")
        banks.append(PcrSelection(alg, tuple(index for index in range(8 * _SELECT_MAX) if bits >> index & 1)))
    if len({bank.alg for bank in banks}) != count:
        raise reader.fail("a PCR bank twice")
    return tuple(banks)


def _named(names: "dict[int, str]", number: int, what: str) -> str:
    name = names.get(number)
    if name is None:
        raise AppraisalError(Code.TPM_ALGORITHM, f"unknown {what} {number:04x}")
    return name


def _hash(reader: Reader) -> str:
    return _named(dict(tpm.HASH_NAMES), reader.uint(2), "hash")


def decode_signature(data: bytes, key: PublicKey) -> Signature:
    """Decode a signature by `key`: a TPMT_SIGNATURE, or the bare value where tools cut it out.

    A bare value (as long as an RSA modulus, or DER for ECDSA) does not name its algorithms: it is taken for RSASSA or
    ECDSA with SHA-256. A TPMT_SIGNATURE begins with a zero byte and is never as long as the modulus.

    Raises:
        FormatError: `tpm.malformed`.
        AppraisalError: `tpm.algorithm`.
    """
    if isinstance(key, rsa.RSAPublicKey) and len(data) == (key.key_size + 7) // 8:
        return Signature("RSASSA", "sha256", data)
    if isinstance(key, ec.EllipticCurvePublicKey) and data[:1] == bytes([_DER_SEQUENCE]):
        return Signature("ECDSA", "sha256", data)
    reader = Reader(data, _CODE)
    alg = _named(dict(tpm.SIGNATURE_NAMES), reader.uint(2), "signature scheme")
    name = _hash(reader)
    if alg == "ECDSA":
        r, s = reader.sized(_NAME_MAX), reader.sized(_NAME_MAX)
        value = encode_dss_signature(int.from_bytes(r), int.from_bytes(s))
    else:
        value = reader.sized(RSA_BYTES_MAX)
    reader.end()
    return Signature(alg, name, value)


def decode_public(data: bytes) -> Public:
    """Decode the TPMT_PUBLIC of an RSA or ECC key.

    Raises:
        FormatError: `tpm.malformed`.
        AppraisalError: `tpm.algorithm`.
    """
    reader = Reader(data, _CODE)
    kind, name_alg, attributes = reader.uint(2), _hash(reader), reader.uint(4)
    if attributes & ~tpm.DEFINED:
        raise reader.fail(f"attributes {attributes:08x} have reserved bits")
    policy = reader.sized(_DIGEST_MAX)
    if kind not in (tpm.ALG_RSA, tpm.ALG_ECC):
        raise AppraisalError(Code.TPM_ALGORITHM, f"an object of type {kind:04x}")
    if reader.uint(2) != tpm.ALG_NULL:  # TPMT_SYM_DEF_OBJECT: key bits and mode, of no interest here
        reader.take(4)
    scheme = _scheme(reader)
    key = _rsa(reader) if kind == tpm.ALG_RSA else _ecc(reader)
    reader.end()
    return Public(data, name_alg, attributes, policy, scheme, key)


def _scheme(reader: Reader) -> int:
    scheme = reader.uint(2)
    if scheme not in (tpm.ALG_NULL, tpm.ALG_RSAES):
        reader.take(4 if scheme == tpm.ALG_ECDAA else 2)
    return scheme


def _rsa(reader: Reader) -> rsa.RSAPublicKey:
    bits, exponent, modulus = reader.uint(2), reader.uint(4) or 65537, reader.sized(RSA_BYTES_MAX)
    if bits not in _RSA_BITS:
        raise AppraisalError(Code.TPM_ALGORITHM, f"an RSA key of {bits} bits")
    number = int.from_bytes(modulus)
    if len(modulus) * 8 != bits or number.bit_length() != bits:
        raise reader.fail(f"a modulus of {number.bit_length()} bits in {len(modulus)} bytes")
    try:
        return rsa.RSAPublicNumbers(exponent, number).public_key()
    except ValueError as error:
        raise reader.fail("not an RSA key") from error


def _ecc(reader: Reader) -> ec.EllipticCurvePublicKey:
    number = reader.uint(2)
    if number not in tpm.CURVES:
        raise AppraisalError(Code.TPM_ALGORITHM, f"unknown curve {number:04x}")
    curve, size = tpm.CURVES[number]
    _scheme(reader)  # the key derivation that goes with the key: ALG_NULL in practice
    # Some TPMs drop leading zero bytes of a coordinate, others keep them.
    x, y = (int.from_bytes(reader.sized(size)) for _ in range(2))
    try:
        return ec.EllipticCurvePublicNumbers(x, y, curve()).public_key()
    except ValueError as error:
        raise reader.fail("no point of the curve") from error


def missing_attributes(public: Public, demanded: int) -> tuple[str, ...]:
    """Return the names of the attributes that a key lacks."""
    return tuple(bit.name.lower() for bit in ObjectAttribute if demanded & bit and not public.attributes & bit)
