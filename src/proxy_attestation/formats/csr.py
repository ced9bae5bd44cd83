"""PKCS#10 certification requests (RFC 2986) that carry evidence in the id-aa-attestation attribute.

Accepted: version 0, any subject (never copied), a P-256 or P-384 key, ECDSA with SHA-256 or SHA-384, and at most two
attributes, each at most once with one value: id-aa-attestation (draft-ietf-lamps-csr-attestation, AttestationBundle
with one statement of type id-pe-cmw) and an extensionRequest that holds a subjectAltName and nothing else.
"""

import hashlib
import struct
from dataclasses import dataclass
from itertools import accumulate
from typing import Annotated, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import SignatureAlgorithmOID

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError
from proxy_attestation.formats.bounds import CSR_MAX, QUOTE_MAX
from proxy_attestation.formats.pem import is_pem
from proxy_attestation.formats.request import Names, names_from

ID_AA_ATTESTATION: Final = x509.ObjectIdentifier("1.2.840.113549.1.9.16.2.59")
ID_PE_CMW: Final = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.35")
_NAMES: Final = (x509.DNSName, x509.IPAddress, x509.UniformResourceIdentifier)
_EXTENSION_REQUEST: Final = x509.ObjectIdentifier("1.2.840.113549.1.9.14")
_SHA256: Final = hashes.SHA256()
_ECDSA_WITH: Final[dict[x509.ObjectIdentifier, hashes.HashAlgorithm]] = {
    SignatureAlgorithmOID.ECDSA_WITH_SHA256: _SHA256,
    SignatureAlgorithmOID.ECDSA_WITH_SHA384: hashes.SHA384(),
}
_SCHEMES: Final = {algorithm.name: ec.ECDSA(algorithm) for algorithm in _ECDSA_WITH.values()}
_SPKI_LENGTHS: Final = {"secp256r1": 91, "secp384r1": 120}
"""Of a named curve and an uncompressed point. Another encoding of the same key has another length."""
# A request as `build_csr` writes it for a P-256 key and evidence of 256 to some 65,000 bytes, up to the evidence: each
# of these tags is followed by a length of two bytes, but for the head of the key, which the point follows.
_USUAL_TAGS: Final = (
    bytes.fromhex("3082"),  # CertificationRequest
    bytes.fromhex("3082"),  # CertificationRequestInfo
    bytes.fromhex("020100 3000 3059301306072a8648ce3d020106082a8648ce3d03010703420004"),  # version, subject, key
    bytes.fromhex("a082"),  # attributes
    bytes.fromhex("3082"),  # Attribute
    bytes.fromhex("060b2a864886f70d010910023b 3182"),  # id-aa-attestation, its values
    bytes.fromhex("3082"),  # AttestationBundle
    bytes.fromhex("3082"),  # its list
    bytes.fromhex("3082"),  # AttestationStatement
    bytes.fromhex("06082b06010505070123 0482"),  # id-pe-cmw, OCTET STRING
)
_USUAL_SIZES: Final = [len(tag) + (64 if len(tag) == 32 else 2) for tag in _USUAL_TAGS]
_USUAL: Final = struct.Struct(">" + "".join(f"{len(t)}s{'64s' if len(t) == 32 else 'H'}" for t in _USUAL_TAGS))
# How much longer than the evidence is what each length but the first one counts: the rest of the head, and that.
_, _USUAL_INFO, _, *_USUAL_NESTED = [_USUAL.size - end for end in accumulate(_USUAL_SIZES)]
_USUAL_ALGORITHM: Final = bytes.fromhex("300a06082a8648ce3d040302 03")  # ecdsa-with-SHA256, and the signature's tag
# What `cryptography` raises, eagerly or on first use, on bytes that are no request which it knows.
_PARSE_ERRORS: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    UserWarning,
)


@asn1.sequence
class _Algorithm:
    oid: x509.ObjectIdentifier


@asn1.sequence
class _Attribute:
    oid: x509.ObjectIdentifier
    values: asn1.SetOf[asn1.TLV]


@asn1.sequence
class _Info:
    version: int
    subject: asn1.TLV
    spki: asn1.TLV
    attributes: Annotated[asn1.SetOf[_Attribute], asn1.Implicit(0)]


@asn1.sequence
class _Csr:
    info: asn1.TLV
    algorithm: _Algorithm
    signature: asn1.BitString


@asn1.sequence
class _Statement:
    type: x509.ObjectIdentifier
    statement: asn1.TLV


@asn1.sequence
class _Bundle:
    attestations: list[_Statement]


@dataclass(frozen=True, slots=True)
class Csr:
    """A certification request whose form has been checked, and its signature not yet.

    Attributes:
        info: the CertificationRequestInfo's exact bytes, which the signature covers.
        spki: the DER of its SubjectPublicKeyInfo.
        public_key: that key, P-256 or P-384.
        algorithm: the hash of the signature.
        signature: DER of the ECDSA signature.
        names: what its subjectAltName asks for, or None where it has none.
        cmw: the CMW record with the evidence (the CBOR bytes), or None.
    """

    info: bytes
    spki: bytes
    public_key: ec.EllipticCurvePublicKey
    algorithm: hashes.HashAlgorithm
    signature: bytes
    names: Names | None
    cmw: bytes | None


def decode_csr(data: bytes) -> Csr:
    """Decode a DER or PEM certification request.

    Raises:
        FormatError: `request.too_large`, `csr.malformed`, `csr.key`, `csr.names` or `csr.extensions`.
    """
    if len(data) > CSR_MAX + 2 * QUOTE_MAX:
        raise FormatError(Code.REQUEST_TOO_LARGE, f"a CSR of {len(data)} bytes")
    return _decode_usual(data) or _decode_any(data)


def _decode_usual(data: bytes) -> Csr | None:
    """Decode the request that `build_csr` makes for a P-256 key, and return None for any other.

    All but the point, the evidence and the signature follows from the evidence's length: where these bytes are the
    ones that follow, this is what `_decode_any` returns, in a third of the time.

    Raises:
        FormatError: `csr.key`.
    """
    if len(data) < _USUAL.size:
        return None
    found = _USUAL.unpack_from(data)
    size: int = found[-1]
    end = _USUAL.size + size
    tail = data[end:]
    if (
        found[::2] != _USUAL_TAGS
        or size < 256
        or found[1] != len(data) - 4
        or found[3] != size + _USUAL_INFO
        or [*found[7::2]] != [size + more for more in _USUAL_NESTED]
        or not tail.startswith(_USUAL_ALGORITHM)
        # The signature's length in one byte, and no unused bits.
        or not 15 < len(tail) < 15 + 127
        or tail[13] != len(tail) - 14
        or tail[14] != 0
    ):
        return None
    spki = data[13:104]
    key, algorithm = load_subject_key(spki), _SHA256
    return Csr(data[4:end], spki, key, algorithm, tail[15:], None, data[end - size : end])


def _decode_any(data: bytes) -> Csr:
    try:
        der = x509.load_pem_x509_csr(data).public_bytes(serialization.Encoding.DER) if is_pem(data) else data
        outer = asn1.decode_der(_Csr, der)
        info = outer.info.parse(_Info)
        if info.version != 0 or info.subject.tag_bytes != b"\x30" or outer.signature.padding_bits() != 0:
            raise FormatError(Code.CSR_MALFORMED, "version, subject or signature bits")
        algorithm = _ECDSA_WITH.get(outer.algorithm.oid)
        if algorithm is None:
            raise FormatError(Code.CSR_KEY, f"signature algorithm {outer.algorithm.oid.dotted_string}")
        attributes = _attributes(info.attributes.as_list())
        cmw = _statement(attributes[ID_AA_ATTESTATION]) if ID_AA_ATTESTATION in attributes else None
        names = _requested_names(der) if _EXTENSION_REQUEST in attributes else None
    except _PARSE_ERRORS as error:
        raise FormatError(Code.CSR_MALFORMED, "not a PKCS#10 request that we accept") from error
    if len(der) - len(cmw or b"") > CSR_MAX:
        raise FormatError(Code.REQUEST_TOO_LARGE, f"a CSR of {len(der)} bytes without its evidence")
    spki = asn1.encode_der(info.spki)
    signature = outer.signature.as_bytes()
    return Csr(asn1.encode_der(outer.info), spki, load_subject_key(spki), algorithm, signature, names, cmw)


def load_subject_key(spki: bytes) -> ec.EllipticCurvePublicKey:
    """Load a P-256 or P-384 key from the DER of its SubjectPublicKeyInfo (uncompressed point, RFC 5480).

    Raises:
        FormatError: `csr.key`, for any other kind of key or another encoding of this one.
    """
    try:
        key = serialization.load_der_public_key(spki)
    except _PARSE_ERRORS as error:
        raise FormatError(Code.CSR_KEY, "not a public key that we know") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or _SPKI_LENGTHS.get(key.curve.name) != len(spki):
        raise FormatError(Code.CSR_KEY, "only P-256 and P-384 keys are accepted, in their usual encoding")
    return key


def verify_csr(csr: Csr) -> None:
    """Check that the request is signed by the key that it asks a certificate for.

    Raises:
        FormatError: `csr.signature`.
    """
    try:
        csr.public_key.verify(csr.signature, csr.info, _SCHEMES[csr.algorithm.name])
    except InvalidSignature as error:
        raise FormatError(Code.CSR_SIGNATURE, "not signed by its own key") from error


def build_csr(key: ec.EllipticCurvePrivateKey, cmw: bytes | None) -> bytes:
    """Build and sign a request with an empty subject, no names, and the evidence in its attribute.

    Args:
        key: a P-256 or P-384 key.
        cmw: the CMW record's CBOR bytes, or None for a request without evidence.

    Returns:
        The DER.
    """
    sha256, sha384 = _ECDSA_WITH
    algorithm = sha256 if key.curve.key_size == 256 else sha384
    attributes = []
    if cmw is not None:
        # CMW ::= CHOICE { json UTF8String, cbor OCTET STRING }
        statement = _Statement(type=ID_PE_CMW, statement=_tlv(asn1.encode_der(cmw)))
        bundle = asn1.encode_der(_Bundle(attestations=[statement]))
        attributes.append(_Attribute(oid=ID_AA_ATTESTATION, values=asn1.SetOf([_tlv(bundle)])))
    info = asn1.encode_der(
        _Info(
            version=0,
            subject=_tlv(b"\x30\x00"),
            spki=_tlv(spki_of(key.public_key())),
            attributes=asn1.SetOf(attributes),
        )
    )
    signature = asn1.BitString(key.sign(info, _SCHEMES[_ECDSA_WITH[algorithm].name]), 0)
    return asn1.encode_der(_Csr(info=_tlv(info), algorithm=_Algorithm(oid=algorithm), signature=signature))


def spki_of(key: ec.EllipticCurvePublicKey) -> bytes:
    """Return the DER of a key's SubjectPublicKeyInfo."""
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def spki_sha256(spki: bytes) -> bytes:
    """Return the 32 bytes by which keys are pinned."""
    return hashlib.sha256(spki).digest()


def _tlv(der: bytes) -> asn1.TLV:
    return asn1.decode_der(asn1.TLV, der)


def _attributes(attributes: list[_Attribute]) -> dict[x509.ObjectIdentifier, asn1.TLV]:
    """Return the one value of each attribute."""
    found: dict[x509.ObjectIdentifier, asn1.TLV] = {}
    for attribute in attributes:
        values = attribute.values.as_list()
        if attribute.oid in found or len(values) != 1:
            raise FormatError(Code.CSR_MALFORMED, "a repeated attribute, or one without exactly one value")
        if attribute.oid not in (ID_AA_ATTESTATION, _EXTENSION_REQUEST):
            raise FormatError(Code.CSR_EXTENSIONS, f"attribute {attribute.oid.dotted_string}")
        found[attribute.oid] = values[0]
    return found


def _statement(value: asn1.TLV) -> bytes:
    statements = value.parse(_Bundle).attestations
    if len(statements) != 1 or statements[0].type != ID_PE_CMW:
        raise FormatError(Code.EVIDENCE_UNKNOWN, "one attestation statement of type id-pe-cmw was expected")
    if statements[0].statement.tag_bytes != b"\x04":
        raise FormatError(Code.EVIDENCE_UNKNOWN, "the CBOR form of a CMW was expected")
    return bytes(statements[0].statement.data)


def _requested_names(der: bytes) -> Names:
    found = Names()
    for extension in x509.load_der_x509_csr(der).extensions:
        value = extension.value
        if not isinstance(value, x509.SubjectAlternativeName):
            raise FormatError(Code.CSR_EXTENSIONS, f"extension {extension.oid.dotted_string} requested")
        if not all(isinstance(name, _NAMES) for name in value):
            raise FormatError(Code.CSR_NAMES, "only DNS names, IP addresses and URIs can be asked for")
        try:
            found = names_from(*(tuple(str(name.value) for name in value if isinstance(name, kind)) for kind in _NAMES))
        except FormatError as error:
            raise FormatError(Code.CSR_NAMES, error.detail) from error
    return found
