"""The CMW record around evidence."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError
from proxy_attestation.formats import cbor, cmw
from proxy_attestation.formats.bounds import QUOTE_MAX
from proxy_attestation.formats.evidence import Evidence, decode_evidence, encode_evidence
from proxy_attestation.formats.tee import Tee

SGX = "application/vnd.proxy-attestation.sgx-evidence+cbor"


def record(value: object, media_type: str = SGX, indicator: int = 4) -> bytes:
    return cbor.encode([media_type, value if isinstance(value, bytes) else cbor.encode(value), indicator])


@pytest.mark.parametrize(
    "evidence",
    [
        *[Evidence(Tee.TDX, b"q" * size) for size in (1, 255, 256, 257, 65_530, 65_531, 65_535)],
        *[Evidence(Tee.SGX, b"q" * 300, (b"certificate",)), Evidence(Tee.SGX, b"q" * 300, (), b"\x01" * 32)],
        Evidence(Tee.SGX, b"quote"),
        Evidence(Tee.TDX, b"q" * QUOTE_MAX, (b"certificate", b"other"), b"\x01" * 32),
    ],
)
def test_round_trip(evidence: Evidence) -> None:
    assert decode_evidence(encode_evidence(evidence)) == evidence


def test_the_bytes_are_those_of_the_description() -> None:
    assert encode_evidence(Evidence(Tee.SGX, b"q")) == record({1: b"q"})


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("empty", b"", Code.EVIDENCE_MALFORMED),
        ("two members", cbor.encode([SGX, b"\xa0"]), Code.EVIDENCE_MALFORMED),
        ("unknown tee", record({1: b"q"}, SGX.replace("sgx", "sev")), Code.EVIDENCE_UNKNOWN),
        ("no prefix", record({1: b"q"}, "sgx"), Code.EVIDENCE_UNKNOWN),
        ("a parameter", record({1: b"q"}, SGX + "; a=b"), Code.EVIDENCE_UNKNOWN),
        ("marked as a result", record({1: b"q"}, indicator=8), Code.EVIDENCE_UNKNOWN),
        ("marked as both", record({1: b"q"}, indicator=12), Code.EVIDENCE_UNKNOWN),
        ("unknown key", record({1: b"q", 4: 1}), Code.EVIDENCE_MALFORMED),
        ("no evidence", record({2: [b"c"]}), Code.EVIDENCE_MALFORMED),
        ("empty evidence", record({1: b""}), Code.EVIDENCE_MALFORMED),
        ("text as evidence", record({1: "q"}), Code.EVIDENCE_MALFORMED),
        ("long text as evidence", record({1: "q" * 300}), Code.EVIDENCE_MALFORMED),
        ("a boolean as the key", record(b"\xa1\xf5" + cbor.encode(b"q" * 300)), Code.EVIDENCE_MALFORMED),
        ("no certificates", record({1: b"q", 2: []}), Code.EVIDENCE_MALFORMED),
        ("too many certificates", record({1: b"q", 2: [b"c"] * 9}), Code.EVIDENCE_MALFORMED),
        ("short log digest", record({1: b"q", 3: b"x" * 31}), Code.EVIDENCE_MALFORMED),
        ("evidence over its bound", record({1: b"q" * (QUOTE_MAX + 1)}), Code.EVIDENCE_TOO_LARGE),
        ("record over its bound", record({1: b"q" * (3 * QUOTE_MAX)}), Code.EVIDENCE_TOO_LARGE),
        ("not CBOR inside", record(b"\xff"), Code.EVIDENCE_MALFORMED),
    ],
)
def test_each_wrong_thing_has_its_code(name: str, data: bytes, code: Code) -> None:
    with pytest.raises(FormatError) as caught:
        decode_evidence(data)
    assert caught.value.code is code, name


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=200) | st.binary(max_size=60).map(record))
def test_any_bytes_give_evidence_or_our_error(data: bytes) -> None:
    try:
        evidence = decode_evidence(data)
    except FormatError:
        return
    assert encode_evidence(evidence) == data


LONG = record({1: b"q" * 300})


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 70) | st.integers(-5, -1), st.binary(max_size=2))
def test_changed_evidence_of_the_usual_length_gives_evidence_or_our_error(position: int, put: bytes) -> None:
    data = LONG[:position] + put + LONG[position:][1:]
    try:
        evidence = decode_evidence(data)
    except FormatError:
        return
    assert encode_evidence(evidence) == data


@settings(deadline=None, max_examples=100)
@given(st.text(min_size=1, max_size=cmw.MEDIA_TYPE_MAX), st.binary(min_size=1, max_size=50), st.integers(0, 31))
def test_cmw_round_trip(media_type: str, value: bytes, indicator: int) -> None:
    original = cmw.CmwRecord(media_type, value, indicator)
    assert cmw.decode_cmw(cmw.encode_cmw(original), Code.EVIDENCE_MALFORMED, 4096) == original
