"""Certificates and revocation lists, one thing wrong at a time, made with `cryptography` itself."""

import warnings
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_attestation.appraisal.x509_chain import (
    Certificate,
    check_end_entity,
    check_issued,
    check_validity,
    raw_public_key,
    read_certificate,
    read_crl,
    verifies_raw,
)
from proxy_attestation.codes import Code
from proxy_attestation.errors import AppraisalError, ProxyAttestationError
from proxy_attestation.formats.dcap_codes import DcapFault
from proxy_attestation.formats.tee import Tee

_KEYS = [ec.generate_private_key(ec.SECP256R1()) for _ in range(3)]
_ROOT, _CA, _LEAF = _KEYS
_OID = x509.ObjectIdentifier("1.2.3.4")


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _usage(**true: bool) -> x509.KeyUsage:
    names = (
        "digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement",
        "key_cert_sign", "crl_sign", "encipher_only", "decipher_only",
    )  # fmt: skip
    return x509.KeyUsage(**{name: true.get(name, False) for name in names})


_SIGNS, _ISSUES = _usage(digital_signature=True), _usage(key_cert_sign=True, crl_sign=True)


class _Maker:
    """Makes certificates and lists around one moment."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def der(self, subject: str = "leaf", issuer: str = "ca", **o: Any) -> bytes:
        builder = (
            x509.CertificateBuilder()
            .subject_name(o.get("subject_name", _name(subject)))
            .issuer_name(_name(issuer))
            .public_key(o.get("key", _LEAF).public_key())
            .serial_number(o.get("serial", 7))
            .not_valid_before(self.now - timedelta(days=1))
            .not_valid_after(self.now + timedelta(days=1))
        )
        extensions = o.get("extensions", [(o.get("usage", _SIGNS), True), (o.get("constraints"), True)])
        for value, critical in extensions:
            if value is not None:
                builder = builder.add_extension(value, critical)
        return builder.sign(o.get("signer", _CA), o.get("hash", hashes.SHA256())).public_bytes(Encoding.DER)

    def read(self, subject: str = "leaf", issuer: str = "ca", **options: Any) -> Certificate:
        return read_certificate(self.der(subject, issuer, **options), Tee.SGX)

    def ca(self, **options: Any) -> Certificate:
        constraints = x509.BasicConstraints(ca=True, path_length=options.pop("path_length", 0))
        defaults: dict[str, Any] = {"key": _CA, "usage": _ISSUES, "constraints": constraints, "signer": _ROOT}
        return self.read("ca", "root", **(defaults | options))

    def crl(self, *, encoding: Encoding = Encoding.DER, **o: Any) -> bytes:
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(_name(o.get("issuer", "ca")))
            .last_update(o.get("start", self.now))
            .next_update(o.get("end", self.now))
        )
        for value, critical in o.get("extensions", [(x509.CRLNumber(5), False)]):
            builder = builder.add_extension(value, critical)
        entry = x509.RevokedCertificateBuilder().serial_number(77).revocation_date(self.now).build()
        return builder.add_revoked_certificate(entry).sign(o.get("key", _CA), hashes.SHA256()).public_bytes(encoding)


@pytest.fixture(scope="module")
def make(now: datetime) -> _Maker:
    return _Maker(now)


def _refused(code: Code, call: Callable[[], object]) -> None:
    with pytest.raises(AppraisalError) as caught:
        call()
    assert caught.value.code is code


def test_what_a_certificate_says(make: _Maker, now: datetime) -> None:
    leaf = make.read("leaf")
    assert (leaf.common_name, leaf.serial, leaf.path_length) == ("leaf", 7, None)
    assert (leaf.not_before, leaf.not_after) == (now - timedelta(days=1), now + timedelta(days=1))
    assert (leaf.digital_signature, leaf.key_cert_sign, leaf.crl_sign) == (True, False, False)
    ca = make.ca()
    assert (ca.path_length, ca.digital_signature, ca.key_cert_sign, ca.crl_sign) == (0, False, True, True)
    assert make.ca(path_length=None).path_length == 255
    check_issued(leaf, ca, Tee.SGX, cas_below=0)
    check_end_entity(leaf, "eaf", Tee.SGX, DcapFault.PCK)


@pytest.mark.parametrize(
    "options",
    [
        {"key": ec.generate_private_key(ec.SECP384R1())},
        {"key": rsa.generate_private_key(65537, 2048)},
        {"signer": ec.generate_private_key(ec.SECP384R1()), "hash": hashes.SHA384()},
        {"hash": hashes.SHA384()},
        {"signer": rsa.generate_private_key(65537, 2048)},
        {"extensions": [(x509.UnrecognizedExtension(_OID, b""), True)]},
        {"extensions": [(x509.NameConstraints([x509.DNSName("a")], None), True)]},
        {"extensions": [(x509.ExtendedKeyUsage([_OID]), True)]},
    ],
    ids=["P-384", "RSA", "signed by P-384", "SHA-384", "signed by RSA", "unknown", "constraints", "key usage"],
)
def test_a_certificate_that_is_not_read(options: dict[str, Any], make: _Maker) -> None:
    _refused(Code.SGX_CHAIN, lambda: make.read(**options))


def test_a_certificate_of_version_1_or_of_serial_0(make: _Maker) -> None:
    der = make.der(extensions=[])
    assert der.count(b"\xa0\x03\x02\x01\x02\x02\x01\x07") == 1
    _refused(
        Code.SGX_CHAIN, lambda: read_certificate(der.replace(b"\xa0\x03\x02\x01\x02", b"\xa0\x03\x02\x01\x00"), Tee.SGX)
    )
    zero = der.replace(b"\xa0\x03\x02\x01\x02\x02\x01\x07", b"\xa0\x03\x02\x01\x02\x02\x01\x00")
    _refused(Code.SGX_CHAIN, lambda: read_certificate(zero, Tee.SGX))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _refused(Code.SGX_CHAIN, lambda: read_certificate(zero, Tee.SGX))


def test_two_common_names_are_none(make: _Maker) -> None:
    attribute = x509.NameAttribute(NameOID.COMMON_NAME, "leaf")
    leaf = make.read(subject_name=x509.Name([attribute, attribute]))
    _refused(Code.SGX_PCK, lambda: check_end_entity(leaf, "leaf", Tee.SGX, DcapFault.PCK))


@pytest.mark.parametrize(
    ("ca", "leaf"),
    [
        ({"constraints": None}, {}),
        ({"constraints": x509.BasicConstraints(ca=False, path_length=None)}, {}),
        ({"usage": None}, {}),
        ({"usage": _usage(crl_sign=True)}, {}),
        ({"key": _ROOT}, {}),
        ({}, {"signer": _LEAF}),
    ],
    ids=["no constraints", "no CA", "no usage", "no issuer of certificates", "another key", "another signer"],
)
def test_what_a_ca_must_be(ca: dict[str, Any], leaf: dict[str, Any], make: _Maker) -> None:
    _refused(Code.SGX_CHAIN, lambda: check_issued(make.read(**leaf), make.ca(**ca), Tee.SGX, cas_below=0))


def test_the_issuer_is_named_and_path_lengths_count(make: _Maker) -> None:
    _refused(Code.SGX_CHAIN, lambda: check_issued(make.read(issuer="cb"), make.ca(), Tee.SGX, cas_below=0))
    _refused(Code.SGX_CHAIN, lambda: check_issued(make.read(), make.ca(), Tee.SGX, cas_below=1))
    check_issued(make.read(), make.ca(path_length=1), Tee.SGX, cas_below=1)


@pytest.mark.parametrize(
    "options",
    [
        {"usage": None},
        {"usage": _usage(content_commitment=True)},
        {"usage": _usage(digital_signature=True, key_cert_sign=True)},
        {"constraints": x509.BasicConstraints(ca=True, path_length=0)},
        {"subject": "lea"},
    ],
    ids=["no usage", "no signer", "an issuer", "a CA", "another name"],
)
def test_what_an_end_entity_must_be(options: dict[str, Any], make: _Maker) -> None:
    leaf = make.read(**options)
    _refused(Code.SGX_PCK, lambda: check_end_entity(leaf, "leaf", Tee.SGX, DcapFault.PCK))


def test_validity_includes_both_ends(make: _Maker) -> None:
    leaf, second = make.read(), timedelta(seconds=1)
    for moment in (leaf.not_before, leaf.not_after):
        check_validity(leaf, moment, Tee.SGX)
    for moment in (leaf.not_before - second, leaf.not_after + second):
        _refused(Code.SGX_EXPIRED, partial(check_validity, leaf, moment, Tee.SGX))


@pytest.mark.parametrize("encoding", [Encoding.DER, Encoding.PEM])
def test_a_list_by_field(encoding: Encoding, make: _Maker, now: datetime) -> None:
    crl = read_crl(make.crl(encoding=encoding, end=now + timedelta(days=1)), make.ca(), now, Tee.SGX)
    assert (crl.number, crl.this_update, crl.next_update) == (5, now, now + timedelta(days=1))
    assert crl.revoked == {77}


def test_the_dates_of_a_list_include_both_ends(make: _Maker, now: datetime) -> None:
    data, second = make.crl(), timedelta(seconds=1)
    assert read_crl(data, make.ca(), now, Tee.TDX).number == 5
    for moment in (now - second, now + second):
        _refused(Code.TDX_CRL_EXPIRED, partial(read_crl, data, make.ca(), moment, Tee.TDX))


@pytest.mark.parametrize(
    ("options", "ca"),
    [
        ({"issuer": "cb"}, {}),
        ({"key": _LEAF}, {}),
        ({"extensions": []}, {}),
        ({"extensions": [(x509.CRLNumber(5), False), (x509.DeltaCRLIndicator(4), True)]}, {}),
        ({}, {"usage": _usage(key_cert_sign=True)}),
    ],
    ids=["another issuer", "another key", "no number", "a delta", "no issuer of lists"],
)
def test_a_list_that_is_not_accepted(options: dict[str, Any], ca: dict[str, Any], make: _Maker, now: datetime) -> None:
    _refused(Code.SGX_CRL, lambda: read_crl(make.crl(**options), make.ca(**ca), now, Tee.SGX))


def test_raw_keys_and_signatures() -> None:
    numbers = _LEAF.public_key().public_numbers()
    point = numbers.x.to_bytes(32) + numbers.y.to_bytes(32)
    key = raw_public_key(point)
    assert key == _LEAF.public_key()
    assert raw_public_key(bytes(64)) is None
    assert raw_public_key(point[:32] + bytes(32)) is None
    assert key is not None
    for signature in (bytes(64), b"\xff" * 64, bytes(63) + b"\1"):
        assert not verifies_raw(key, signature, b"data")


@given(st.binary(max_size=400))
@settings(deadline=None, max_examples=200)
def test_any_bytes_are_a_certificate_or_refused(data: bytes) -> None:
    _refused(Code.SGX_CHAIN, lambda: read_certificate(data, Tee.SGX))


@given(offset=st.integers(0, 10000), change=st.integers(1, 255))
@settings(deadline=None, max_examples=200)
def test_any_changed_byte_gives_something_or_is_refused(offset: int, change: int, make: _Maker, now: datetime) -> None:
    reads: list[tuple[bytes, Callable[[bytes], object]]] = [
        (make.der(), lambda data: read_certificate(data, Tee.SGX)),
        (make.crl(), lambda data: read_crl(data, make.ca(), now, Tee.SGX)),
    ]
    for good, read in reads:
        data = bytearray(good)
        data[offset % len(data)] ^= change
        try:
            read(bytes(data))
        except ProxyAttestationError as error:
            assert error.code in {Code.SGX_CHAIN, Code.SGX_CRL, Code.SGX_CRL_EXPIRED}
