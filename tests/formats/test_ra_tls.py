"""Certificates with evidence inside: every place, every binding, and each wrong thing alone."""

import base64
import hashlib
from datetime import UTC, datetime

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ra_tls_certificates import (
    CCC,
    CMW,
    GRAMINE,
    INTEL,
    SGX_SDK,
    SPKI,
    SUBJECT_ALT_NAME,
    certificate,
    claims,
    general_names,
    tagged,
)

from proxy_attestation.codes import Code
from proxy_attestation.errors import AppraisalError, ProxyAttestationError
from proxy_attestation.formats.bounds import QUOTE_MAX
from proxy_attestation.formats.dcap_quote import decode_quote
from proxy_attestation.formats.evidence import Evidence, encode_evidence
from proxy_attestation.formats.nitro import decode_nitro
from proxy_attestation.formats.ra_tls import (
    CERTIFICATE_MAX,
    EXTENSIONS_MAX,
    Binding,
    EmbeddedEvidence,
    Place,
    decode_ra_tls,
    require_bound,
)
from proxy_attestation.formats.tee import Tee
from proxy_attestation_simulator import der
from proxy_attestation_simulator.aws import Aws
from proxy_attestation_simulator.intel import Vendor

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
PLATFORM = Vendor.create(NOW, secret=bytes(range(32))).platform("sgx")
ENCLAVE = Aws.create(NOW, secret=bytes(range(32))).enclave()
BY_SPKI = hashlib.sha256(SPKI).digest() + bytes(32)
QUOTE = PLATFORM.quote(BY_SPKI)
CLAIMS = claims()
BY_CLAIMS = hashlib.sha256(CLAIMS).digest() + bytes(32)
CCC_QUOTE = PLATFORM.quote(BY_CLAIMS)
CCC_VALUE = tagged(CCC_QUOTE, CLAIMS)
DOCUMENT = ENCLAVE.document(user_data=SPKI)
NITRO_NAME = f"{DOCUMENT.hex()}.app.example.org"
TDX_CMW = encode_evidence(Evidence(Tee.TDX, QUOTE, (b"certificate",)))
GOOD = certificate([(GRAMINE, QUOTE), (CCC, CCC_VALUE)])


def bound_of(piece: EmbeddedEvidence) -> tuple[bytes, ...]:
    if piece.kind == "nitro":
        return decode_nitro(piece.evidence).bound
    return (decode_quote(piece.evidence).report_data,)


def refused(code: Code, data: bytes) -> None:
    with pytest.raises(ProxyAttestationError) as caught:
        decode_ra_tls(data)
    assert caught.value.code is code


@pytest.mark.parametrize(
    ("oid", "value", "place", "kind", "evidence"),
    [
        (GRAMINE, QUOTE, Place.GRAMINE, "quote", QUOTE),
        (INTEL, QUOTE, Place.INTEL, "quote", QUOTE),
        (SGX_SDK, QUOTE, Place.SGX_SDK, "quote", QUOTE),
        (CCC, CCC_VALUE, Place.CCC, "quote", CCC_QUOTE),
        (CCC, der.sequence([der.octet_string(CCC_VALUE)]), Place.CCC, "quote", CCC_QUOTE),
        (CMW, der.octet_string(TDX_CMW), Place.CMW, "quote", QUOTE),
        (SUBJECT_ALT_NAME, general_names("a.example.org", NITRO_NAME), Place.NITRO, "nitro", DOCUMENT),
    ],
    ids=["gramine", "intel", "sgx-sdk", "ccc", "dice", "cmw", "nitro"],
)
def test_each_place_is_read_and_its_evidence_bound(
    oid: str, value: bytes, place: Place, kind: str, evidence: bytes
) -> None:
    (piece,) = decode_ra_tls(certificate([("2.5.29.19", b"\x30\x00"), (oid, value)]))
    assert (piece.place, piece.kind, piece.evidence, piece.spki) == (place, kind, evidence, SPKI)
    assert piece.claims == (CLAIMS if place is Place.CCC else None)
    assert piece.binding is {Place.CCC: Binding.CLAIMS, Place.NITRO: Binding.KEY}.get(place, Binding.SPKI)
    assert piece.platform_certificates == ((b"certificate",) if place is Place.CMW else ())
    require_bound(piece, bound_of(piece))


def test_several_pieces_come_in_a_fixed_order() -> None:
    for order in ([(GRAMINE, QUOTE), (CCC, CCC_VALUE)], [(CCC, CCC_VALUE), (GRAMINE, QUOTE)]):
        assert [piece.place for piece in decode_ra_tls(certificate(order))] == [Place.GRAMINE, Place.CCC]


def test_one_quote_in_two_places_of_intels_sdk_is_one_piece() -> None:
    both = certificate([(SGX_SDK, CCC_QUOTE), (CCC, CCC_VALUE)])
    assert [piece.place for piece in decode_ra_tls(both)] == [Place.CCC]
    different = certificate([(SGX_SDK, QUOTE), (CCC, CCC_VALUE)])
    assert [piece.place for piece in decode_ra_tls(different)] == [Place.CCC, Place.SGX_SDK]


def test_the_sdks_identifier_in_a_pck_certificate_is_no_evidence() -> None:
    refused(Code.RA_TLS_NO_EVIDENCE, PLATFORM.certificates[0])


def test_certificates_that_the_library_loads_and_others() -> None:
    for algorithm_null in (True, False):
        for critical in (b"", b"\x01\x01\xff", b"\x01\x01\x00"):
            data = certificate([(GRAMINE, QUOTE)], algorithm_null=algorithm_null, critical=critical)
            assert decode_ra_tls(data)[0].evidence == QUOTE


def test_only_dns_names_hold_documents() -> None:
    uri = der.sequence([der.tlv(0x86, NITRO_NAME.encode())])
    refused(Code.RA_TLS_NO_EVIDENCE, certificate([(SUBJECT_ALT_NAME, uri)]))
    refused(Code.RA_TLS_MALFORMED, certificate([(SUBJECT_ALT_NAME, general_names("a" * 40_000))]))


def test_pem_is_read_too() -> None:
    text = base64.encodebytes(GOOD)
    pem = b"-----BEGIN CERTIFICATE-----\n" + text + b"-----END CERTIFICATE-----\n"
    assert decode_ra_tls(pem) == decode_ra_tls(GOOD)
    refused(Code.RA_TLS_MALFORMED, pem + pem)


@pytest.mark.parametrize("algorithm", [1, 7, 8])
def test_claims_may_use_three_hashes_and_have_other_keys(algorithm: int) -> None:
    held = claims(algorithm=algorithm, zzz=1, nonce=b"n")
    quote = PLATFORM.quote(hashlib.sha256(held).digest() + bytes(32))
    (piece,) = decode_ra_tls(certificate([(CCC, tagged(quote, held))]))
    require_bound(piece, bound_of(piece))


def _with_hash(value: object) -> bytes:
    return certificate([(CCC, tagged(QUOTE, cbor2.dumps({"pubkey-hash": value})))])


@pytest.mark.parametrize(
    ("code", "data"),
    [
        (Code.RA_TLS_MALFORMED, b""),
        (Code.RA_TLS_MALFORMED, GOOD[:-1]),
        (Code.RA_TLS_MALFORMED, GOOD + b"\0"),
        (Code.RA_TLS_MALFORMED, certificate([(GRAMINE, QUOTE)], version=1)),
        (Code.RA_TLS_MALFORMED, certificate([(GRAMINE, QUOTE), (GRAMINE, QUOTE)])),
        (Code.RA_TLS_MALFORMED, certificate([(f"1.2.3.{i}", b"x") for i in range(EXTENSIONS_MAX + 1)])),
        (Code.RA_TLS_MALFORMED, b"\x30\x84\x7f\xff\xff\xff" + bytes(CERTIFICATE_MAX)),
        (Code.RA_TLS_MALFORMED, certificate([(GRAMINE, b"")])),
        (Code.RA_TLS_MALFORMED, certificate([(INTEL, bytes(QUOTE_MAX + 1))])),
        (Code.RA_TLS_MALFORMED, certificate([(SUBJECT_ALT_NAME, b"\x30\x05\x82")])),
        (Code.RA_TLS_MALFORMED, certificate([(SUBJECT_ALT_NAME, general_names(DOCUMENT.hex() + "g"))])),
        (Code.RA_TLS_MALFORMED, certificate([(SUBJECT_ALT_NAME, general_names(DOCUMENT.hex()[:-1]))])),
        (Code.RA_TLS_MALFORMED, certificate([(CCC, CCC_VALUE + b"\0")])),
        (Code.RA_TLS_MALFORMED, certificate([(CCC, der.sequence([der.integer(1)]))])),
        (Code.RA_TLS_MALFORMED, certificate([(CCC, cbor2.dumps(cbor2.CBORTag(60000, [QUOTE])))])),
        (Code.RA_TLS_MALFORMED, certificate([(CCC, tagged(b"", CLAIMS))])),
        (Code.RA_TLS_MALFORMED, certificate([(CCC, tagged(QUOTE, b""))])),
        (Code.RA_TLS_MALFORMED, certificate([(CCC, tagged(QUOTE, CLAIMS + b"\0"))])),
        (Code.RA_TLS_MALFORMED, certificate([(CCC, tagged(QUOTE, claims(nonce=bytes(4096))))])),
        (Code.RA_TLS_MALFORMED, certificate([(CCC, tagged(QUOTE, cbor2.dumps({})))])),
        (Code.RA_TLS_MALFORMED, certificate([(CCC, tagged(QUOTE, cbor2.dumps([])))])),
        (Code.RA_TLS_MALFORMED, _with_hash("text")),
        (Code.RA_TLS_MALFORMED, _with_hash(cbor2.dumps([1]))),
        (Code.RA_TLS_MALFORMED, _with_hash(cbor2.dumps(1))),
        (Code.RA_TLS_NO_EVIDENCE, certificate([])),
        (Code.RA_TLS_NO_EVIDENCE, certificate([("2.5.29.19", b"\x30\x00"), ("1.2.840.113741.1337.7", QUOTE)])),
        (Code.RA_TLS_NO_EVIDENCE, certificate([(SUBJECT_ALT_NAME, general_names("8444.example.org", "example.org"))])),
        (Code.RA_TLS_UNKNOWN, certificate([(CCC, tagged(QUOTE, CLAIMS, 60001))])),
        (Code.RA_TLS_UNKNOWN, certificate([(CCC, tagged(QUOTE, CLAIMS, 60002))])),
        (Code.RA_TLS_UNKNOWN, certificate([(CCC, cbor2.dumps([QUOTE, CLAIMS]))])),
        (Code.RA_TLS_UNKNOWN, certificate([(CMW, der.tlv(0x0C, b"{}"))])),
        (Code.EVIDENCE_MALFORMED, certificate([(CMW, der.octet_string(b"\xa0"))])),
        (Code.RA_TLS_CLAIMS, certificate([(CCC, tagged(QUOTE, claims(b"another key")))])),
        (Code.RA_TLS_CLAIMS, _with_hash(cbor2.dumps([1, hashlib.sha384(SPKI).digest()]))),
        (Code.RA_TLS_CLAIMS, _with_hash(cbor2.dumps([2, hashlib.sha256(SPKI).digest()]))),
        (Code.RA_TLS_CLAIMS, _with_hash(cbor2.dumps([True, hashlib.sha256(SPKI).digest()]))),
        (Code.RA_TLS_CLAIMS, _with_hash(cbor2.dumps(["1", hashlib.sha256(SPKI).digest()]))),
        (Code.RA_TLS_CLAIMS, _with_hash(cbor2.dumps([1, None]))),
    ],
)  # fmt: skip
def test_each_wrong_thing_alone(code: Code, data: bytes) -> None:
    refused(code, data)


_SHA256 = hashlib.sha256(SPKI).digest()


@pytest.mark.parametrize(
    "report_data",
    [
        bytes(64),
        _SHA256 + b"\1" + bytes(31),
        _SHA256 + bytes(31) + b"\1",
        bytes(32) + _SHA256,
        _SHA256[::-1] + bytes(32),
        hashlib.sha512(SPKI).digest(),
        hashlib.sha384(SPKI).digest() + bytes(16),
        hashlib.sha512(b"ratls-cert:" + SPKI).digest(),
        hashlib.sha256(SPKI[-97:]).digest() + bytes(32),
        BY_CLAIMS,
    ],
)
def test_report_data_of_another_binding_is_refused(report_data: bytes) -> None:
    (piece,) = decode_ra_tls(certificate([(GRAMINE, PLATFORM.quote(report_data))]))
    with pytest.raises(AppraisalError) as caught:
        require_bound(piece, bound_of(piece))
    assert caught.value.code is Code.RA_TLS_BINDING


@pytest.mark.parametrize(
    "report_data", [BY_SPKI, BY_CLAIMS[:32] + bytes(31) + b"\1", hashlib.sha384(CLAIMS).digest() + bytes(16)]
)
def test_claims_are_bound_by_their_own_digest_and_not_by_the_keys(report_data: bytes) -> None:
    (piece,) = decode_ra_tls(certificate([(CCC, tagged(PLATFORM.quote(report_data), CLAIMS))]))
    with pytest.raises(AppraisalError) as caught:
        require_bound(piece, bound_of(piece))
    assert caught.value.code is Code.RA_TLS_BINDING


@pytest.mark.parametrize(
    ("slots", "good"),
    [
        ({"user_data": SPKI}, True),
        ({"public_key": SPKI}, True),
        ({"nonce": SPKI}, False),
        ({}, False),
        ({"user_data": _SHA256}, False),
        ({"user_data": SPKI + b"\0"}, False),
        ({"public_key": SPKI[:-1]}, False),
    ],
)
def test_a_nitro_document_names_the_key_itself(slots: dict[str, bytes], good: bool) -> None:
    document = ENCLAVE.document(
        nonce=slots.get("nonce"), public_key=slots.get("public_key"), user_data=slots.get("user_data")
    )
    name = f"{document.hex()}.example.org"
    (piece,) = decode_ra_tls(certificate([(SUBJECT_ALT_NAME, general_names(name))]))
    if good:
        require_bound(piece, bound_of(piece))
        return
    with pytest.raises(AppraisalError) as caught:
        require_bound(piece, bound_of(piece))
    assert caught.value.code is Code.RA_TLS_BINDING


def test_evidence_with_no_or_several_commitments_is_bound_to_nothing() -> None:
    (piece,) = decode_ra_tls(certificate([(GRAMINE, QUOTE)]))
    for bound in ((), (BY_SPKI, BY_SPKI), (b"",)):
        with pytest.raises(AppraisalError):
            require_bound(piece, bound)


def test_a_key_in_another_certificate_is_not_bound() -> None:
    spki = SPKI[:-1] + bytes([SPKI[-1] ^ 1])
    (piece,) = decode_ra_tls(certificate([(GRAMINE, QUOTE)], spki=spki))
    with pytest.raises(AppraisalError) as caught:
        require_bound(piece, bound_of(piece))
    assert caught.value.code is Code.RA_TLS_BINDING


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=300))
def test_any_bytes_give_our_error(data: bytes) -> None:
    with pytest.raises(ProxyAttestationError):
        decode_ra_tls(data)


@settings(deadline=None, max_examples=400)
@given(st.data())
def test_any_change_gives_evidence_or_our_error(draw: st.DataObject) -> None:
    at = draw.draw(st.integers(0, 400) | st.integers(0, len(GOOD) - 1))
    data = GOOD[:at] + draw.draw(st.binary(max_size=4)) + GOOD[at + draw.draw(st.integers(0, 4)) :]
    try:
        decode_ra_tls(data)
    except ProxyAttestationError as error:
        assert error.exit_status in (3, 4)
