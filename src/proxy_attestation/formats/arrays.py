"""Dataclasses as arrays: each field one item, in the order of the class, bounded by what its annotation says.

=========================  ===========================================================================================
``bytes``, ``str``         itself, its length bounded by a `Size`
``int``                    itself, its value bounded by a `Size`; as bytes of one length where that exceeds 63 bits
``bool``                   itself
``datetime``               whole seconds since the epoch; fractions are cut off, so that an end never moves back
an enumeration             the member's value
``tuple[X, ...]``          a list, its length bounded by a `Size`
a dataclass, a NamedTuple  its array
``X | None``               X or null
any, with `Chosen`         the array of the dataclass that the value of an earlier field chooses
=========================  ===========================================================================================

Anything else, and a `Size` that is missing, is a TypeError when a class is compiled: nothing is unbounded by accident.
"""

from collections.abc import Callable, Mapping
from dataclasses import is_dataclass
from datetime import UTC, datetime
from enum import Enum
from operator import attrgetter
from types import NoneType
from typing import Any, ClassVar, Final, Generic, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError
from proxy_attestation.formats.bounds import TIME_MAX
from proxy_attestation.formats.values import as_bool, as_bytes, as_list, as_member, as_tuple, as_uint

_PLAIN_BITS: Final = 63

_T = TypeVar("_T")


class Size(NamedTuple):
    """Bounds in an annotation, both included: of an integer's value, of the length of bytes, text or a tuple."""

    minimum: int
    maximum: int


def exactly(length: int) -> Size:
    """Return the bounds of a fixed length."""
    return Size(length, length)


class Chosen(NamedTuple):
    """In an annotation: which dataclass stands here is what the table has for the value of an earlier field."""

    field: str
    table: Mapping[Any, type]


class _Codec(NamedTuple):
    """How one type is read (value, code, arguments), and written: None where it is written as it is."""

    read: Callable[..., Any]
    arguments: tuple[Any, ...] = ()
    write: Callable[[Any], Any] | None = None


class _Place(NamedTuple):
    """One field of a record: its name, its codec, and the one length that it has as bytes or -1."""

    name: str
    codec: _Codec
    length: int


class Array(Generic[_T]):
    """Reads and writes one type of the table above."""

    def __init__(self, kind: Any, code: Code) -> None:
        """Compile a type.

        Args:
            kind: the type.
            code: of the errors of `read`.

        Raises:
            TypeError: for a type that is not in the table, or lacks its bounds.
        """
        self._codec = _codec(kind)
        self._code = code

    def read(self, value: object) -> _T:
        """Return the value whose array this is.

        Raises:
            FormatError: with the code, for anything that `write` would not give of a value within its bounds.
        """
        found: _T = self._codec.read(value, self._code, *self._codec.arguments)
        return found

    def write(self, value: _T) -> object:
        """Return lists, integers, bytes, text, booleans and None."""
        return value if self._codec.write is None else self._codec.write(value)


def _codec(hint: Any, size: Size | None = None) -> _Codec:
    marks, parts = getattr(hint, "__metadata__", ()), get_args(hint)
    if marks:
        return _codec(hint.__origin__, next((mark for mark in marks if isinstance(mark, Size)), None))
    if parts[1:] == (NoneType,):
        read, more, write = _codec(parts[0], size)
        return _Codec(_optional, (read, *more), _unless_none(write))
    if get_origin(hint) is tuple and parts[1:] == (...,) and size is not None:
        read, more, write = _codec(parts[0])
        return _Codec(as_tuple, (*size, read, *more), list if write is None else lambda value: [*map(write, value)])
    if hint is int and size is not None and size.maximum.bit_length() > _PLAIN_BITS:
        length = (size.maximum.bit_length() + 7) // 8
        return _Codec(_large, (*size, length), lambda value: value.to_bytes(length, "big"))
    if hint in _SIZED and size is not None:
        return _Codec(_SIZED[hint], size)
    if hint is bool:
        return _Codec(as_bool)
    if hint is datetime:
        return _Codec(_moment, (), lambda moment: int(moment.timestamp()))
    if isinstance(hint, type) and issubclass(hint, Enum):
        return _Codec(as_member, (hint,), lambda member: member.value)
    if isinstance(hint, type) and (is_dataclass(hint) or hasattr(hint, "_fields")):
        return _record(hint)
    raise TypeError(f"{hint} with {size} has no array")


def _record(kind: type) -> _Codec:
    found = get_type_hints(kind, include_extras=True).items()
    hints = {name: hint for name, hint in found if get_origin(hint) is not ClassVar}
    codecs = [_choice(hint, [*hints]) or _codec(hint) for hint in hints.values()]
    places = [_Place(name, codec, _length(codec)) for name, codec in zip(hints, codecs, strict=True)]
    changed = [(index, codec.write) for index, codec in enumerate(codecs) if codec.write is not None]
    values = attrgetter(*hints) if len(hints) > 1 else lambda holder: [getattr(holder, name) for name in hints]

    def write(holder: object) -> list[object]:
        items = list(values(holder))
        for index, write in changed:
            items[index] = write(items[index])
        return items

    return _Codec(_read_record, (kind, places), write)


def _choice(hint: Any, names: list[str]) -> _Codec | None:
    mark = next((mark for mark in getattr(hint, "__metadata__", ()) if isinstance(mark, Chosen)), None)
    if mark is None:
        return None
    codecs = {key: _record(kind) for key, kind in mark.table.items()}
    writers = {kind: codecs[key].write for key, kind in mark.table.items()}
    return _Codec(_chosen, (names.index(mark.field), codecs), lambda value: (writers[type(value)] or list)(value))


def _read_record(value: object, code: Code, kind: type, places: list[_Place]) -> object:
    found: list[Any] = []
    items = as_list(value, code, len(places), len(places))
    for (name, (read, arguments, _), length), item in zip(places, items, strict=True):
        if type(item) is bytes and len(item) == length:
            found.append(item)  # what most fields are, and all that their reader would ask
            continue
        try:
            if read is _chosen:
                codec = _chosen(found, code, *arguments)
                found.append(codec.read(item, code, *codec.arguments))
            else:
                found.append(read(item, code, *arguments))
        except FormatError as error:
            raise FormatError(code, f"{name}: {error.detail}") from error
    return kind(*found)


def _length(codec: _Codec) -> int:
    """Return the one length that bytes have here, or -1."""
    exact = codec.read is as_bytes and len(set(codec.arguments)) == 1
    return codec.arguments[0] if exact else -1


def _unless_none(write: Callable[[Any], Any] | None) -> Callable[[Any], Any] | None:
    return None if write is None else lambda value: None if value is None else write(value)


def _chosen(found: list[Any], code: Code, index: int, codecs: Mapping[Any, _Codec]) -> _Codec:
    """Return how to read what an earlier field, the one at this index, has chosen."""
    codec = codecs.get(found[index])
    if codec is None:
        raise FormatError(code, f"nothing stands here for {found[index]}")
    return codec


def _optional(value: object, code: Code, read: Callable[..., Any], *arguments: object) -> object:
    return None if value is None else read(value, code, *arguments)


def _text(value: object, code: Code, minimum: int, maximum: int) -> str:
    if not isinstance(value, str) or not minimum <= len(value) <= maximum:
        raise FormatError(code, f"text of {minimum} to {maximum} characters was expected")
    return value


def _integer(value: object, code: Code, minimum: int, maximum: int) -> int:
    return as_uint(value, code, maximum, minimum)


def _large(value: object, code: Code, minimum: int, maximum: int, length: int) -> int:
    return as_uint(int.from_bytes(as_bytes(value, code, length), "big"), code, maximum, minimum)


def _moment(value: object, code: Code) -> datetime:
    return datetime.fromtimestamp(as_uint(value, code, TIME_MAX), UTC)


_SIZED: Final[Mapping[Any, Callable[..., Any]]] = {bytes: as_bytes, str: _text, int: _integer}
