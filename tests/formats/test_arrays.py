"""Dataclasses as arrays: what is within its bounds comes back, and everything else is refused, also in a new class."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import IntEnum, StrEnum
from typing import Annotated, Any, NamedTuple

import pytest

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError
from proxy_attestation.formats import cbor
from proxy_attestation.formats.arrays import Array, Chosen, Size, exactly
from proxy_attestation.formats.bounds import TIME_MAX

CODE = Code.PROXY_PROTOCOL


class Kind(StrEnum):
    """What a thing is."""

    CAT = "cat"
    DOG = "dog"
    FISH = "fish"


class Level(IntEnum):
    """A number with a name."""

    LOW = 1
    HIGH = 2


@dataclass(frozen=True, slots=True)
class Cat:
    """One body."""

    name: Annotated[bytes, exactly(4)]
    lives: Annotated[int, Size(1, 9)]


@dataclass(frozen=True, slots=True)
class Dog:
    """Another body."""

    tricks: Annotated[tuple[Annotated[str, Size(1, 8)], ...], Size(1, 2)]
    chip: Annotated[bytes | None, Size(2, 4)]


class Pair(NamedTuple):
    """A tuple with names."""

    level: Level
    good: bool


@dataclass(frozen=True, slots=True)
class Pet:
    """Every type of the table."""

    kind: Kind
    body: Annotated[Cat | Dog, Chosen("kind", {Kind.CAT: Cat, Kind.DOG: Dog})]
    born: datetime
    serial: Annotated[int, Size(0, (1 << 160) - 1)]
    pairs: Annotated[tuple[Pair, ...], Size(0, 2)]
    friend: Pair | None = None


ARRAY = Array[Pet](Pet, CODE)
BORN = datetime(2026, 11, 24, 12, tzinfo=UTC)
CAT = Pet(Kind.CAT, Cat(b"Mimi", 9), BORN, (1 << 160) - 1, (Pair(Level.LOW, True), Pair(Level.HIGH, False)))
DOG = Pet(Kind.DOG, Dog(("sit",), None), BORN, 0, (), Pair(Level.HIGH, True))
GOOD = ["cat", [b"Mimi", 9], 1795521600, b"\xff" * 20, [[1, True], [2, False]], None]


def test_what_is_written() -> None:
    assert ARRAY.write(CAT) == GOOD
    assert ARRAY.write(DOG) == ["dog", [["sit"], None], 1795521600, bytes(20), [], [2, True]]


@pytest.mark.parametrize("pet", [CAT, DOG])
def test_round_trip(pet: Pet) -> None:
    data = cbor.encode(ARRAY.write(pet))
    assert ARRAY.read(cbor.decode(data, CODE, 1000)) == pet


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ((0,), "bird"),
        ((0,), "fish"),
        ((0,), "dog"),
        ((0,), 1),
        ((0,), None),
        ((1,), None),
        ((1,), []),
        ((1,), {}),
        ((1,), [b"Mimi", 9, 1]),
        ((1, 0), b"Mim"),
        ((1, 0), b"Mimi!"),
        ((1, 0), "Mimi"),
        ((1, 0), None),
        ((1, 1), 0),
        ((1, 1), 10),
        ((1, 1), True),
        ((1, 1), "9"),
        ((2,), -1),
        ((2,), TIME_MAX + 1),
        ((2,), 1.5),
        ((3,), 5),
        ((3,), b"\xff" * 19),
        ((3,), b"\xff" * 21),
        ((4,), [[1, True]] * 3),
        ((4,), ([1, True],)),
        ((4, 0), [1]),
        ((4, 0), None),
        ((4, 0, 0), 3),
        ((4, 0, 0), True),
        ((4, 0, 1), 1),
        ((5,), []),
        ((5,), False),
    ],
)
def test_one_wrong_item(path: tuple[int, ...], value: object) -> None:
    whole: Any = ["cat", [b"Mimi", 9], 1795521600, b"\xff" * 20, [[1, True], [2, False]], None]
    assert ARRAY.read(whole) == CAT
    place = whole
    for step in path[:-1]:
        place = place[step]
    place[path[-1]] = value
    with pytest.raises(FormatError) as caught:
        ARRAY.read(whole)
    assert caught.value.code is CODE


@pytest.mark.parametrize("chip", [b"", b"1", b"12345", "12", 12])
def test_what_may_be_absent_is_bounded_where_it_is_there(chip: object) -> None:
    body = ["dog", [["sit"], chip], 1795521600, bytes(20), [], None]
    with pytest.raises(FormatError):
        ARRAY.read(body)


@pytest.mark.parametrize("tricks", [[], ["sit"] * 3, [""], ["x" * 9], [b"sit"], "sit"])
def test_lists_and_texts_are_bounded(tricks: object) -> None:
    with pytest.raises(FormatError):
        ARRAY.read(["dog", [tricks, None], 1795521600, bytes(20), [], None])


def test_a_large_number_is_bounded_too() -> None:
    array = Array[int](Annotated[int, Size(3, 1 << 64)], CODE)
    assert array.read(array.write(1 << 64)) == 1 << 64
    for value in (2, (1 << 64) + 1):
        with pytest.raises(FormatError):
            array.read(value.to_bytes(9, "big"))


@pytest.mark.parametrize(
    "hint",
    [
        bytes,
        str,
        int,
        float,
        object,
        dict[int, int],
        list[int],
        tuple[bytes, ...],
        tuple[Annotated[bytes, exactly(1)], bool],
        Annotated[tuple[bytes, ...], Size(0, 1)],
        bytes | None,
        Cat | Dog,
        Cat | Dog | None,
        Annotated[float, Size(0, 1)],
    ],
)
def test_what_has_no_bounds_or_no_array_is_refused_at_once(hint: Any) -> None:
    with pytest.raises(TypeError):
        Array(hint, CODE)
