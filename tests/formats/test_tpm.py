"""TPM structures and the record around them: every length, count and reserved bit."""

import struct
from datetime import UTC, datetime

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_attestation.codes import Code
from proxy_attestation.errors import AppraisalError, FormatError, ProxyAttestationError
from proxy_attestation.formats.bounds import TPM_EVIDENCE_MAX
from proxy_attestation.formats.tpm import (
    PcrSelection,
    decode_attest,
    decode_public,
    decode_signature,
    missing_attributes,
    spki_of,
)
from proxy_attestation.formats.tpm_codes import RESIDENT, ST_CERTIFY, ST_QUOTE, ObjectAttribute
from proxy_attestation.formats.tpm_evidence import Parts, decode_tpm, encode_tpm, looks_like_tpm, select_values
from proxy_attestation_simulator.tpm import TpmVendor, make
from proxy_attestation_simulator.tpm_structures import (
    AK_ATTRIBUTES,
    CERTIFY,
    QUOTE,
    AttestRecipe,
    name_of,
    public_area,
    selection,
    sign,
    sized,
)

KEY = ec.derive_private_key(7, ec.SECP256R1())
AREA = public_area(KEY, AK_ATTRIBUTES, restricted=True)
ATTESTED = selection([("sha256", (0, 7, 23)), ("sha384", (4,))]) + sized(b"d" * 32)
GOOD = AttestRecipe(QUOTE, ATTESTED, b"nonce").encode()
RECORD = cbor2.loads(make(TpmVendor.create(datetime(2026, 1, 1, tzinfo=UTC))).evidence)


def quote(attested: bytes, **fields: object) -> bytes:
    return AttestRecipe(QUOTE, attested, **fields).encode()  # type: ignore[arg-type] # by name


def code_of(call: object, *arguments: object) -> Code:
    with pytest.raises((FormatError, AppraisalError)) as refused:
        call(*arguments)  # type: ignore[operator] # a decoder
    return refused.value.code


def test_a_quote() -> None:
    attest = decode_attest(GOOD, ST_QUOTE)
    assert attest.pcr_selection == (PcrSelection("sha256", (0, 7, 23)), PcrSelection("sha384", (4,)))
    assert (attest.extra_data, attest.pcr_digest, attest.clock, attest.safe) == (b"nonce", b"d" * 32, 1000, 1)
    assert (attest.reset_count, attest.restart_count, attest.firmware_version.hex()) == (3, 1, "2019102300163636")
    assert attest.qualified_signer == b"\0\x0b" + b"\x51" * 32


def test_a_certification() -> None:
    data = AttestRecipe(CERTIFY, sized(b"name") + sized(b"qualified")).encode()
    attest = decode_attest(data, ST_CERTIFY)
    assert (attest.name, attest.qualified_name, attest.pcr_selection) == (b"name", b"qualified", ())
    assert code_of(decode_attest, data, ST_QUOTE) is Code.TPM_ATTEST_TYPE


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("empty", b"", Code.TPM_MALFORMED),
        ("cut off", GOOD[:-1], Code.TPM_MALFORMED),
        ("a byte too many", GOOD + b"\0", Code.TPM_MALFORMED),
        ("another magic", quote(ATTESTED, magic=b"\xfeTCG"), Code.TPM_ATTEST_TYPE),
        ("the magic the other way round", quote(ATTESTED, magic=b"GCT\xff"), Code.TPM_ATTEST_TYPE),
        ("safe is neither", quote(ATTESTED, safe=2), Code.TPM_MALFORMED),
        ("too much qualifying data", quote(ATTESTED, extra_data=bytes(67)), Code.TPM_MALFORMED),
        ("too long a signer", quote(ATTESTED, qualified_signer=bytes(67)), Code.TPM_MALFORMED),
        ("too many banks", quote(b"\0\0\0\x09" + ATTESTED[4:]), Code.TPM_MALFORMED),
        ("a bank twice", quote(selection([("sha256", (0,))] * 2) + sized(b"")), Code.TPM_MALFORMED),
        ("too long a bitmap", quote(b"\0\0\0\x01\0\x0b\x05" + bytes(5) + sized(b"")), Code.TPM_MALFORMED),
        ("an unknown hash", quote(b"\0\0\0\x01\0\x12\x03\x01\0\0" + sized(b"")), Code.TPM_ALGORITHM),
        ("too long a digest", quote(ATTESTED[:-34] + sized(bytes(65))), Code.TPM_MALFORMED),
    ],
)
def test_a_quote_that_is_none(name: str, data: bytes, code: Code) -> None:
    assert code_of(decode_attest, data, ST_QUOTE) is code, name


def test_a_public_area() -> None:
    public = decode_public(AREA)
    assert (public.kind, public.name_alg, public.scheme) == ("ECC", "sha256", 0x0018)
    assert (public.name, spki_of(public.key)) == (name_of(AREA), spki_of(KEY.public_key()))
    assert public.has(RESIDENT | ObjectAttribute.RESTRICTED)
    assert not public.has(ObjectAttribute.DECRYPT)
    assert missing_attributes(public, ObjectAttribute.DECRYPT | ObjectAttribute.SIGN_ENCRYPT) == ("decrypt",)
    rsa_key = rsa.generate_private_key(65537, 2048)
    public = decode_public(public_area(rsa_key, AK_ATTRIBUTES))
    assert (public.kind, public.scheme, spki_of(public.key)) == ("RSA", 0x0010, spki_of(rsa_key.public_key()))


def _area(kind: int = 0x23, attributes: int = AK_ATTRIBUTES, rest: bytes = AREA[10:]) -> bytes:
    return struct.pack(">HHIH", kind, 0x000B, attributes, 0) + rest


@pytest.mark.parametrize("bit", [bit for bit in range(32) if not sum(ObjectAttribute) >> bit & 1])
def test_a_reserved_attribute_is_refused(bit: int) -> None:
    assert code_of(decode_public, _area(attributes=AK_ATTRIBUTES | 1 << bit)) is Code.TPM_MALFORMED


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("empty", b"", Code.TPM_MALFORMED),
        ("cut off", AREA[:-1], Code.TPM_MALFORMED),
        ("a byte too many", AREA + b"\0", Code.TPM_MALFORMED),
        ("a keyed hash", _area(kind=0x0008), Code.TPM_ALGORITHM),
        ("an unknown name hash", b"\0\x23\0\x12" + AREA[4:], Code.TPM_ALGORITHM),
        ("an unknown curve", _area(rest=b"\0\x10\0\x10\0\x99\0\x10" + sized(b"x") * 2), Code.TPM_ALGORITHM),
        ("no point", _area(rest=b"\0\x10\0\x10\0\x03\0\x10" + sized(bytes(32)) * 2), Code.TPM_MALFORMED),
        ("too long a coordinate", _area(rest=b"\0\x10\0\x10\0\x03\0\x10" + sized(bytes(33)) * 2), Code.TPM_MALFORMED),
        (
            "RSA of 1024 bits",
            _area(1, rest=b"\0\x10\0\x10\x04\0" + bytes(4) + sized(b"\xff" * 128)),
            Code.TPM_ALGORITHM,
        ),
        ("a short modulus", _area(1, rest=b"\0\x10\0\x10\x08\0" + bytes(4) + sized(b"\xff" * 255)), Code.TPM_MALFORMED),
        ("a small modulus", _area(1, rest=b"\0\x10\0\x10\x08\0" + bytes(4) + sized(b"\x7f" * 256)), Code.TPM_MALFORMED),
        (
            "an even exponent",
            _area(1, rest=b"\0\x10\0\x10\x08\0\0\0\0\x02" + sized(b"\xff" * 256)),
            Code.TPM_MALFORMED,
        ),
    ],
)
def test_a_public_area_that_is_none(name: str, data: bytes, code: Code) -> None:
    assert code_of(decode_public, data) is code, name


def test_signatures_with_and_without_their_algorithms() -> None:
    public = KEY.public_key()
    found = decode_signature(sign(KEY, b"data", "sha384"), public)
    assert (found.alg, found.hash) == ("ECDSA", "sha384")
    bare = decode_signature(found.value, public)
    assert (bare.alg, bare.hash, bare.value) == ("ECDSA", "sha256", found.value)
    rsa_key = rsa.generate_private_key(65537, 2048)
    found = decode_signature(sign(rsa_key, b"data", pss=True), rsa_key.public_key())
    assert (found.alg, found.hash, len(found.value)) == ("RSAPSS", "sha256", 256)
    assert decode_signature(found.value, rsa_key.public_key()).alg == "RSASSA"


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("empty", b"", Code.TPM_MALFORMED),
        ("an unknown scheme", b"\0\x1a\0\x0b" + sized(b"r") * 2, Code.TPM_ALGORITHM),
        ("an unknown hash", b"\0\x18\0\x12" + sized(b"r") * 2, Code.TPM_ALGORITHM),
        ("too long a number", b"\0\x18\0\x0b" + sized(bytes(67)) * 2, Code.TPM_MALFORMED),
        ("a byte too many", b"\0\x18\0\x0b" + sized(b"r") * 2 + b"\0", Code.TPM_MALFORMED),
        ("too long an RSA signature", b"\0\x14\0\x0b" + sized(bytes(513)), Code.TPM_MALFORMED),
    ],
)
def test_a_signature_that_is_none(name: str, data: bytes, code: Code) -> None:
    assert code_of(decode_signature, data, KEY.public_key()) is code, name


def test_the_record_round_trips() -> None:
    parts = Parts(RECORD[1], RECORD[2], RECORD[3], tuple(RECORD[4]), RECORD[5], RECORD[6], RECORD[7])
    data = encode_tpm(parts)
    evidence = decode_tpm(data)
    assert looks_like_tpm(data)
    assert (evidence.signed, evidence.data, evidence.signature) == (RECORD[1], data, RECORD[2])
    assert evidence.bound == (b"\x42" * 32,) * 2
    alone = decode_tpm(RECORD[1])
    assert looks_like_tpm(RECORD[1])
    assert (alone.bound, alone.signature, alone.pcr_values) == ((b"\x42" * 32,), None, None)


@pytest.mark.parametrize("other", [b"", b"\x03\0\x02\0", b"\xa1\x01", cbor2.dumps({1: b"quote"})])
def test_other_bytes_do_not_look_like_it(other: bytes) -> None:
    assert not looks_like_tpm(other)


@pytest.mark.parametrize(
    ("name", "record", "code"),
    [
        ("no map", [1], Code.TPM_MALFORMED),
        ("an unknown part", RECORD | {10: b""}, Code.TPM_MALFORMED),
        ("no AK", {k: v for k, v in RECORD.items() if k != 3}, Code.TPM_MALFORMED),
        ("a certification without its key", {k: v for k, v in RECORD.items() if k != 7}, Code.TPM_MALFORMED),
        ("a key without its certification", {k: v for k, v in RECORD.items() if k not in (5, 6)}, Code.TPM_MALFORMED),
        ("a TD quote without HCL report", RECORD | {9: b"quote"}, Code.TPM_MALFORMED),
        ("too large an HCL report", RECORD | {8: bytes(8 * 1024 + 1)}, Code.TPM_MALFORMED),
        ("no values", RECORD | {4: []}, Code.TPM_MALFORMED),
        ("a short value", RECORD | {4: [bytes(20)] * 8}, Code.TPM_PCR_VALUES),
        ("a value too many", RECORD | {4: [bytes(32)] * 9}, Code.TPM_PCR_VALUES),
        ("a certification in place of the quote", RECORD | {1: RECORD[5]}, Code.TPM_ATTEST_TYPE),
    ],
)
def test_a_record_that_is_none(name: str, record: object, code: Code) -> None:
    assert code_of(decode_tpm, cbor2.dumps(record)) is code, name


def test_evidence_that_is_too_large_is_refused_before_it_is_read() -> None:
    assert code_of(decode_tpm, bytes(TPM_EVIDENCE_MAX + 1)) is Code.EVIDENCE_TOO_LARGE


def test_values_are_taken_in_the_quotes_order() -> None:
    banks = {"sha256": {0: b"a", 7: b"b", 23: b"c"}, "sha384": {4: b"d"}}
    chosen = decode_attest(GOOD, ST_QUOTE).pcr_selection
    assert select_values(chosen, banks) == (b"a", b"b", b"c", b"d")
    assert select_values(chosen, {"sha256": banks["sha256"]}) is None


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200), st.integers(0, 400))
def test_any_bytes_give_a_value_or_our_error(data: bytes, cut: int) -> None:
    public = KEY.public_key()
    for decode in (
        lambda d: decode_attest(d, ST_QUOTE),
        decode_public,
        decode_tpm,
        lambda d: decode_signature(d, public),
    ):
        for whole in (GOOD, AREA, cbor2.dumps(RECORD)):
            try:
                decode(whole[:cut] + data)
            except ProxyAttestationError as error:
                assert error.exit_status in (3, 4)
