"""Typed values, and records that read and write a map by a dataclass's annotations."""

from collections.abc import Callable
from dataclasses import dataclass
from enum import IntEnum, StrEnum
from functools import partial
from typing import Annotated, Any

import cbor2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError
from proxy_attestation.formats import values
from proxy_attestation.formats.values import Item, Record

CODE = Code.REQUEST_MALFORMED


class Number(IntEnum):
    ONE = 1
    TWO = 2


class Word(StrEnum):
    YES = "yes"


def _doubled(value: Any, code: Code) -> int:
    return 2 * values.as_uint(value, code, 10)


@dataclass(frozen=True, slots=True)
class Example:
    last: Annotated[bytes, Item(-70, values.as_bytes, (1, 4))]
    first: Annotated[int, Item(3, _doubled, write=lambda value: value // 2)]
    beside: str
    maybe: Annotated[int | None, Item(24, values.as_uint, (9,), absent=None)] = None

    @property
    def also(self) -> str:
        return "also"


EXAMPLE = Record(Example)
GOOD: dict[object, object] = {3: 2, 24: 5, -70: b"ab"}


def refused(call: Callable[[], object]) -> bool:
    with pytest.raises(FormatError) as caught:
        call()
    return caught.value.code is CODE


@settings(deadline=None, max_examples=200)
@given(st.lists(st.integers(-(2**64), 2**64 - 1) | st.text(max_size=300), max_size=8, unique=True))
def test_ranks_order_keys_as_their_encodings_do(keys: list[int | str]) -> None:
    assert sorted(keys, key=values.rank) == sorted(keys, key=cbor2.dumps)


@pytest.mark.parametrize("key", [True, None, b"x", 1.0, (1,)])
def test_no_other_key_has_a_rank(key: object) -> None:
    with pytest.raises(TypeError):
        values.rank(key)


@pytest.mark.parametrize("value", ["", "0", "000", "0g", " 00", "00 ", "0 0", b"00", None, 0])
def test_no_hex(value: object) -> None:
    assert refused(lambda: values.as_hex(value, CODE, 1))


def test_hex_in_either_case() -> None:
    assert values.as_hex("aBcD", CODE, 2) == b"\xab\xcd"


@pytest.mark.parametrize("value", [True, 0, 3, "1", 1.0, None, [], b"1"])
def test_no_member(value: object) -> None:
    assert refused(lambda: values.as_member(value, CODE, Number))


def test_members() -> None:
    assert values.as_member(2, CODE, Number) is Number.TWO
    assert values.as_member("yes", CODE, Word) is Word.YES
    assert refused(lambda: values.as_member("YES", CODE, Word))


@pytest.mark.parametrize("value", [0, 1, None, "true"])
def test_no_boolean(value: object) -> None:
    assert refused(lambda: values.as_bool(value, CODE))


def test_both_bounds_of_a_number_and_a_list_are_exact() -> None:
    assert [values.as_uint(value, CODE, 3, 2) for value in (2, 3)] == [2, 3]
    for number in (1, 4):
        assert refused(partial(values.as_uint, number, CODE, 3, 2))
    assert values.as_tuple([1, 2], CODE, 2, 2, values.as_uint, 2) == (1, 2)
    bad: list[object] = [[1], [1, 2, 2], [1, 3], (1, 2), None]
    for value in bad:
        assert refused(partial(values.as_tuple, value, CODE, 2, 2, values.as_uint, 2))


def test_a_record_reads_what_it_writes_in_the_order_of_the_encodings() -> None:
    fields = EXAMPLE.read(GOOD, CODE)
    assert fields == {"first": 4, "maybe": 5, "last": b"ab"}
    assert list(EXAMPLE.write(Example(beside="x", **fields)).items()) == list(GOOD.items())


def test_what_may_be_absent_is_left_out() -> None:
    fields = EXAMPLE.read({3: 2, -70: b"ab"}, CODE)
    assert fields["maybe"] is None
    assert EXAMPLE.write(Example(beside="x", **fields)) == {3: 2, -70: b"ab"}


@pytest.mark.parametrize(
    "value", [None, [], {}, {3: 2}, {**GOOD, 4: 1}, {**GOOD, "3": 1}, {**GOOD, 3: 11}, {**GOOD, 24: None}]
)
def test_each_other_map_is_refused(value: object) -> None:
    assert refused(lambda: EXAMPLE.read(value, CODE))


def test_an_error_names_the_field() -> None:
    with pytest.raises(FormatError) as caught:
        EXAMPLE.read({**GOOD, -70: b""}, CODE)
    assert caught.value.detail.startswith("last: ")


def test_an_extensible_record_leaves_unknown_keys_alone_and_no_missing_one() -> None:
    record = Record(Example, extensible=True)
    assert record.read({**GOOD, "new": 1}, CODE) == EXAMPLE.read(GOOD, CODE)
    assert refused(lambda: record.read({3: 2, "new": 1}, CODE))


def test_attributes_that_are_no_fields_can_have_items() -> None:
    record = Record(Example, also=Item(2, values.as_text, (9,)))
    written = record.write(Example(b"ab", 4, "x"))
    assert list(written.items()) == [(2, "also"), (3, 2), (-70, b"ab")]
    assert record.read(written, CODE)["also"] == "also"
