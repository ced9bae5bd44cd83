"""Certification requests: what is read, what is refused, and that nothing of theirs is trusted unsigned."""

import base64
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.x509.oid import AttributeOID, NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError
from proxy_attestation.formats.csr import (
    Csr,
    _Csr,
    _decode_any,
    _decode_usual,
    _Info,
    build_csr,
    decode_csr,
    load_subject_key,
    spki_of,
    verify_csr,
)
from proxy_attestation.formats.request import names_from

P256 = ec.derive_private_key(7, ec.SECP256R1())
P384 = ec.derive_private_key(7, ec.SECP384R1())
CMW = b"\x83\x61x\x41y\x04"
DER = build_csr(P256, CMW)


def builder(*names: x509.GeneralName) -> x509.CertificateSigningRequestBuilder:
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return request.add_extension(x509.SubjectAlternativeName(names), critical=False) if names else request


def signed(request: x509.CertificateSigningRequestBuilder, key: ec.EllipticCurvePrivateKey = P256) -> bytes:
    return request.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.DER)


def resigned(info: _Info) -> bytes:
    der = asn1.encode_der(info)
    outer = asn1.decode_der(_Csr, DER)
    outer.info = asn1.decode_der(asn1.TLV, der)
    outer.signature = asn1.BitString(P256.sign(der, ec.ECDSA(hashes.SHA256())), 0)
    return asn1.encode_der(outer)


def code_of(data: bytes) -> Code:
    with pytest.raises(FormatError) as caught:
        decode_csr(data)
    return caught.value.code


@pytest.mark.parametrize("key", [P256, P384])
def test_what_we_build_is_read_back_and_verifies(key: ec.EllipticCurvePrivateKey) -> None:
    csr = decode_csr(build_csr(key, CMW))
    verify_csr(csr)
    assert (csr.cmw, csr.names, csr.spki) == (CMW, None, spki_of(key.public_key()))


def test_openssl_reads_and_verifies_what_we_build(tmp_path: Path) -> None:
    path = tmp_path / "request.der"
    path.write_bytes(DER)
    command = ["openssl", "req", "-inform", "DER", "-in", str(path), "-verify", "-noout"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr


def test_pem_is_read_like_der() -> None:
    pem = x509.load_der_x509_csr(DER).public_bytes(serialization.Encoding.PEM)
    assert decode_csr(pem) == decode_csr(DER)


def test_a_request_without_evidence_has_none() -> None:
    assert decode_csr(build_csr(P256, None)).cmw is None


def test_requests_of_other_programs_are_read() -> None:
    name = x509.DNSName("a.example.org"), x509.UniformResourceIdentifier("spiffe://example.org/a")
    csr = decode_csr(signed(builder(*name)))
    verify_csr(csr)
    assert csr.names == names_from(("a.example.org",), (), ("spiffe://example.org/a",))


def test_a_signature_by_another_key_is_refused() -> None:
    other = ec.derive_private_key(8, ec.SECP256R1())
    forged = DER.replace(spki_of(P256.public_key()), spki_of(other.public_key()))
    with pytest.raises(FormatError) as caught:
        verify_csr(decode_csr(forged))
    assert caught.value.code is Code.CSR_SIGNATURE


def test_changed_evidence_breaks_the_signature() -> None:
    with pytest.raises(FormatError) as caught:
        verify_csr(decode_csr(DER.replace(CMW, CMW[:-1] + b"\x05")))
    assert caught.value.code is Code.CSR_SIGNATURE


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("empty", b"", Code.CSR_MALFORMED),
        ("truncated", DER[:-1], Code.CSR_MALFORMED),
        ("trailing byte", DER + b"\0", Code.CSR_MALFORMED),
        ("not DER", b"\x30\x80" + DER[4:], Code.CSR_MALFORMED),
        ("PEM of nothing", b"-----BEGIN CERTIFICATE REQUEST-----\n", Code.CSR_MALFORMED),
        ("version 1", DER.replace(b"\x02\x01\x00\x30\x00", b"\x02\x01\x01\x30\x00"), Code.CSR_MALFORMED),
        ("too large", build_csr(P256, b"x" * 200_000), Code.REQUEST_TOO_LARGE),
        (
            "a large subject",
            signed(
                x509.CertificateSigningRequestBuilder().subject_name(
                    x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "x" * 64)] * 300)
                )
            ),
            Code.REQUEST_TOO_LARGE,
        ),
        (
            "another extension",
            signed(builder().add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)),
            Code.CSR_EXTENSIONS,
        ),
        (
            "another attribute",
            signed(builder().add_attribute(AttributeOID.CHALLENGE_PASSWORD, b"secret")),
            Code.CSR_EXTENSIONS,
        ),
        ("an e-mail address", signed(builder(x509.RFC822Name("a@example.org"))), Code.CSR_NAMES),
        ("a wildcard", signed(builder(x509.DNSName("*.example.org"))), Code.CSR_NAMES),
        (
            "an RSA key",
            builder()
            .sign(rsa.generate_private_key(65537, 2048), hashes.SHA256())
            .public_bytes(serialization.Encoding.DER),
            Code.CSR_MALFORMED,
        ),
        (
            "an Ed25519 key",
            builder().sign(ed25519.Ed25519PrivateKey.generate(), None).public_bytes(serialization.Encoding.DER),
            Code.CSR_KEY,
        ),
        (
            "a P-521 key",
            builder()
            .sign(ec.generate_private_key(ec.SECP521R1()), hashes.SHA256())
            .public_bytes(serialization.Encoding.DER),
            Code.CSR_KEY,
        ),
        (
            "a SHA-512 signature",
            builder().sign(P256, hashes.SHA512()).public_bytes(serialization.Encoding.DER),
            Code.CSR_KEY,
        ),
    ],
)
def test_each_wrong_thing_has_its_code(name: str, data: bytes, code: Code) -> None:
    assert code_of(data) is code, name


def test_a_repeated_attribute_is_refused() -> None:
    info = asn1.decode_der(_Csr, DER).info.parse(_Info)
    attribute = info.attributes.as_list()[0]
    info.attributes = asn1.SetOf([attribute, attribute])
    assert code_of(resigned(info)) is Code.CSR_MALFORMED


def test_an_attribute_with_two_values_is_refused() -> None:
    info = asn1.decode_der(_Csr, DER).info.parse(_Info)
    attribute = info.attributes.as_list()[0]
    attribute.values = asn1.SetOf(attribute.values.as_list() * 2)
    info.attributes = asn1.SetOf([attribute])
    assert code_of(resigned(info)) is Code.CSR_MALFORMED


def test_compressed_points_are_refused() -> None:
    compressed = P256.public_key().public_bytes(serialization.Encoding.X962, serialization.PublicFormat.CompressedPoint)
    head = bytes.fromhex("3039301306072a8648ce3d020106082a8648ce3d030107032200")
    with pytest.raises(FormatError) as caught:
        load_subject_key(head + compressed)
    assert caught.value.code is Code.CSR_KEY


@settings(deadline=None, max_examples=200)
@given(st.integers(0, len(DER) - 1), st.integers(0, 255))
def test_any_changed_byte_gives_a_request_or_our_error(position: int, value: int) -> None:
    data = DER[:position] + bytes([value]) + DER[position + 1 :]
    try:
        verify_csr(decode_csr(data))
    except FormatError:
        return
    assert data == DER


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=400))
def test_any_bytes_give_our_error(data: bytes) -> None:
    with pytest.raises(FormatError):
        decode_csr(data)


USUAL = build_csr(P256, CMW * 60)
# Where something else than evidence and coordinates stands: 36 of them are the head of the key.
FRAME = [*range(40), *range(104, 155), *range(len(USUAL) - 88, len(USUAL))]


@pytest.mark.parametrize("size", [256, 257, 4096, 65_000, 65_250])
def test_a_usual_request_is_read_alike_by_both_readers(size: int) -> None:
    data = build_csr(P256, b"x" * size)
    assert _decode_usual(data) == _decode_any(data)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        DER,
        build_csr(P256, None),
        build_csr(P256, b"x" * 255),
        build_csr(P256, b"x" * 65_389),
        build_csr(P256, b"x" * 65_536),
        build_csr(P384, CMW * 60),
        USUAL[:-1],
        USUAL + b"\0",
    ],
)
def test_every_other_request_is_left_to_the_general_reader(data: bytes) -> None:
    assert _decode_usual(data) is None


def outcome(read: Callable[[bytes], Csr | None], data: bytes) -> Csr | Code | None:
    try:
        return read(data)
    except FormatError as error:
        return error.code


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(FRAME) | st.integers(0, len(USUAL) - 1), st.integers(0, 255))
def test_a_changed_usual_request_is_what_the_general_reader_says_it_is(position: int, value: int) -> None:
    data = USUAL[:position] + bytes([value]) + USUAL[position + 1 :]
    assert outcome(decode_csr, data) == outcome(_decode_any, data)


def _tlv(tag: int, content: bytes) -> bytes:
    length = len(content)
    head = bytes([length]) if length < 128 else b"\x82" + length.to_bytes(2, "big")
    return bytes([tag]) + head + content


SAN = bytes.fromhex("0603551d11")


def requesting(extensions: bytes, version: int = 0) -> bytes:
    """Return a CSR, signed by hand, whose extensionRequest holds these bytes."""
    requested = _tlv(0x30, bytes.fromhex("06092a864886f70d01090e") + _tlv(0x31, _tlv(0x30, extensions)))
    attributes = _tlv(0xA0, requested) if extensions else b"\xa0\x00"
    info = _tlv(0x30, bytes([2, 1, version]) + b"\x30\x00" + spki_of(P256.public_key()) + attributes)
    signature = P256.sign(info, ec.ECDSA(hashes.SHA256()))
    return _tlv(0x30, info + _tlv(0x30, bytes.fromhex("06082a8648ce3d040302")) + _tlv(3, b"\0" + signature))


def names(general: bytes) -> bytes:
    return _tlv(0x30, SAN + _tlv(4, _tlv(0x30, general)))


def pem(der: bytes) -> bytes:
    body = base64.encodebytes(der)
    return b"-----BEGIN CERTIFICATE REQUEST-----\n" + body + b"-----END CERTIFICATE REQUEST-----\n"


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("two lists of names", requesting(names(_tlv(0x82, b"a.example")) * 2), Code.CSR_MALFORMED),
        ("an X.400 address", requesting(names(_tlv(0xA3, b""))), Code.CSR_MALFORMED),
        ("an EDI party", requesting(names(_tlv(0xA5, b"\x30\x00"))), Code.CSR_MALFORMED),
        ("an address of seven bytes", requesting(names(_tlv(0x87, b"1234567"))), Code.CSR_MALFORMED),
        ("PEM of version 1", pem(requesting(b"", version=1)), Code.CSR_MALFORMED),
    ],
)
def test_what_the_library_refuses_in_its_own_words_has_our_code(name: str, data: bytes, code: Code) -> None:
    assert code_of(data) is code, name
