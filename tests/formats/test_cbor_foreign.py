"""CBOR that others wrote: any order and any form of length, and everything else as strict as ours."""

import tracemalloc

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError
from proxy_attestation.formats import cbor

CODE = Code.NITRO_MALFORMED


@pytest.mark.parametrize(
    ("data", "value"),
    [
        ("1801", 1),
        ("580141", b"A"),
        ("9f01ff", [1]),
        ("bf0102ff", {1: 2}),
        ("a202010102", {2: 1, 1: 2}),
        ("bf6162f66161f5ff", {"b": None, "a": True}),
        ("5f41014102ff", b"\x01\x02"),
        ("9f9f9fffffff", [[[]]]),
        ("390001", -2),
    ],
)
def test_each_liberty_that_others_take_is_read(data: str, value: object) -> None:
    assert cbor.decode_foreign(bytes.fromhex(data), CODE, 64) == value
    with pytest.raises(FormatError):
        cbor.decode(bytes.fromhex(data), CODE, 64)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("empty", ""),
        ("truncated map", "a1"),
        ("no end", "bf0102"),
        ("a key without value", "bf01ff"),
        ("bytes after the end", "a000"),
        ("a break after the end", "a0ff"),
        ("a second item", "9fff9fff"),
        ("duplicate key", "a201020103"),
        ("duplicate key, indefinite", "bf01020103ff"),
        ("duplicate key, another form", "a20102180103"),
        ("duplicate key below", "81a201020103"),
        ("duplicate key in a tag", "d281a201020103"),
        ("duplicate text key", "a2616101616102"),
        ("a date", "c11a00000000"),
        ("a bignum", "c24100"),
        ("a shared value", "d81c8101"),
        ("invalid UTF-8", "61ff"),
        ("break alone", "ff"),
        ("reserved length", "1c"),
        ("a float", "fb0000000000000000"),
        ("a float in a list", "81f93c00"),
        ("a simple value", "e1"),
        ("undefined", "f7"),
        ("a boolean as a key", "a1f501"),
        ("null as a key", "a1f601"),
        ("a float as a key", "a1f93c0001"),
        ("bytes as a key", "a1410001"),
        ("a list as a key", "a1800001"),
        ("a tag inside", "81d201"),
        ("a tag in a tag", "d2d201"),
        ("text in indefinite bytes", "5f6161ff"),
    ],
)
def test_everything_else_is_refused(name: str, data: str) -> None:
    with pytest.raises(FormatError) as caught:
        cbor.decode_foreign(bytes.fromhex(data), CODE, 64)
    assert caught.value.code is CODE, name


def test_a_tag_stands_outermost_and_its_content_has_the_usual_types() -> None:
    value = cbor.decode_foreign(bytes.fromhex("d29fbf0180ff9fffff"), CODE, 64)
    assert isinstance(value, cbor2.CBORTag)
    assert (value.tag, value.value) == (18, [{1: []}, []])


def test_size_and_depth_are_bounded() -> None:
    assert cbor.decode_foreign(b"\x81" * 7 + b"\x01", CODE, 8)
    for data in (b"\x81" * 9 + b"\x01", b"\x9f" * 30_000, b"\xbf\x01" * 30_000, bytes(65)):
        with pytest.raises(FormatError):
            cbor.decode_foreign(data, CODE, 64 if len(data) == 65 else 1 << 20)


@pytest.mark.parametrize(("item", "budget"), [(b"\x80", 63), (b"\xa0", 63), (b"\xa1\x00\x80", 31)])
def test_lists_and_maps_are_counted(item: bytes, budget: int) -> None:
    assert cbor.decode_foreign(b"\x98" + bytes([budget]) + item * budget, CODE, 1000)
    for tag in (b"", b"\xd2"):
        with pytest.raises(FormatError):
            cbor.decode_foreign(tag + b"\x98" + bytes([budget + 1]) + item * (budget + 1), CODE, 1000)


@pytest.mark.parametrize("head", ["9b", "bb", "5b", "7b"])
def test_a_length_that_is_not_there_takes_no_room(head: str) -> None:
    data = bytes.fromhex(head + "0fffffffffffffff") + bytes(1000)
    tracemalloc.start()
    with pytest.raises(FormatError):
        cbor.decode_foreign(data, CODE, 2000)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1024 * 1024


@settings(deadline=None, max_examples=300)
@given(st.binary(max_size=200))
def test_any_bytes_give_a_value_or_our_error(data: bytes) -> None:
    try:
        value = cbor.decode_foreign(data, CODE, 1 << 16)
    except FormatError as error:
        assert error.code is CODE
    else:
        # What is ours is also foreign, and the same.
        assert cbor.decode(cbor.encode(value), CODE, 1 << 16) == value
