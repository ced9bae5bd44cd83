"""Deterministic CBOR: one encoding per value, and a code for everything else."""

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError
from proxy_attestation.formats import cbor

CODE = Code.REQUEST_MALFORMED

leaves = st.integers(-(2**63), 2**63 - 1) | st.binary(max_size=40) | st.text(max_size=20) | st.booleans() | st.none()
values = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.integers(0, 100000) | st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(deadline=None, max_examples=200)
@given(values)
def test_what_is_encoded_decodes_to_itself(value: object) -> None:
    assert cbor.decode(cbor.encode(value), CODE, 1 << 20) == value


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=200))
def test_any_bytes_give_a_value_or_our_error(data: bytes) -> None:
    try:
        value = cbor.decode(data, CODE, 1 << 16)
    except FormatError as error:
        assert error.code is CODE
    else:
        assert cbor.encode(value) == data


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("empty", ""),
        ("truncated map", "a1"),
        ("bytes after the end", "a0a0"),
        ("long form of an integer", "1801"),
        ("long form of a length", "580141"),
        ("indefinite list", "9f01ff"),
        ("indefinite bytes", "5f4101ff"),
        ("indefinite map", "bf0102ff"),
        ("duplicate key", "a201020103"),
        ("keys out of order", "a202010102"),
        ("a date", "c11a00000000"),
        ("a bignum", "c24100"),
        ("a regular expression", "d82361613a"),
        ("a shared value", "d81c8101"),
        ("invalid UTF-8", "61ff"),
        ("break alone", "ff"),
        ("reserved length", "1c"),
        ("a float", "fb0000000000000000"),
        ("a simple value", "e1"),
        ("undefined", "f7"),
        ("a boolean as a key", "a1f501"),
        ("a simple value as a key", "a1e101"),
        ("bytes as a key", "a1410001"),
        ("a list as a key", "a1800001"),
        ("a tag inside", "81d9025901"),
        ("a tag in a tag", "d90259d9025901"),
        ("keys out of order in a list in a tag", "d9025981a202010102"),
    ],
)
def test_each_other_encoding_is_refused(name: str, data: str) -> None:
    with pytest.raises(FormatError) as caught:
        cbor.decode(bytes.fromhex(data), CODE, 1 << 16)
    assert caught.value.code is CODE, name


def test_the_bound_is_exact() -> None:
    data = cbor.encode(b"x" * 100)
    assert cbor.decode(data, CODE, len(data)) == b"x" * 100
    with pytest.raises(FormatError):
        cbor.decode(data, CODE, len(data) - 1)


def test_depth_is_bounded() -> None:
    with pytest.raises(FormatError):
        cbor.decode(b"\x81" * 60_000 + b"\x01", CODE, 1 << 20)


def test_map_keys_are_ordered_bytewise_and_not_by_length() -> None:
    # RFC 8949 section 4.2.1: 24 (18 18) sorts before -1 (20); RFC 7049's order would be the reverse.
    assert cbor.encode({-1: 0, 24: 0}) == bytes.fromhex("a21818002000")


def test_inner_maps_of_tags_and_lists_are_ordered_too() -> None:
    assert cbor.encode(cbor2.CBORTag(601, [{2: 0, 1: 0}])) == bytes.fromhex("d9025981a201000200")


@pytest.mark.parametrize("value", [{True: 1}, {1: 1, 2: 2, 3: 3}, {}, [1], {"1": 1}])
def test_a_map_has_exactly_the_keys_it_should(value: object) -> None:
    with pytest.raises(FormatError):
        cbor.as_map(value, CODE, frozenset({1}), optional=frozenset({2}))


@pytest.mark.parametrize("value", [True, -1, 11, 1.0, "1", None])
def test_an_unsigned_integer_is_no_boolean_and_in_range(value: object) -> None:
    with pytest.raises(FormatError):
        cbor.as_uint(value, CODE, 10)


@pytest.mark.parametrize("value", [b"", b"12345", "1234", None])
def test_bytes_have_the_length_they_should(value: object) -> None:
    with pytest.raises(FormatError):
        cbor.as_bytes(value, CODE, 4)
    assert cbor.as_bytes(b"1234", CODE, 4) == b"1234"


@pytest.mark.parametrize("value", ["", "12345", b"12", 1])
def test_text_is_not_empty_and_not_too_long(value: object) -> None:
    with pytest.raises(FormatError):
        cbor.as_text(value, CODE, 4)


def test_a_list_is_no_longer_than_it_may_be() -> None:
    assert cbor.as_list([1, 2], CODE, 2) == [1, 2]
    with pytest.raises(FormatError):
        cbor.as_list([1, 2, 3], CODE, 2)
