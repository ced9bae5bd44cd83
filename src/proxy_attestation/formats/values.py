"""Typed values out of what a decoder gave, and dataclasses whose fields say where they stand in a map.

CBOR and JSON alike give numbers, text, lists and maps. Each `as_` function returns the value that it was given, typed,
or raises FormatError with the code that its format has for bytes which are not what they claim to be.
"""

from base64 import b64decode, b64encode
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from functools import cache
from operator import attrgetter
from typing import Any, Final, TypeVar, get_type_hints

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError

_T = TypeVar("_T")
_Member = TypeVar("_Member", bound=Enum)


def rank(key: object) -> tuple[int, int, bytes]:
    """Return what puts map keys into the bytewise order of their CBOR encodings (RFC 8949 section 4.2.1).

    That is major type, then argument (which for text is its length in bytes), then content.

    Raises:
        TypeError: for a key that is neither an integer nor text.
    """
    if type(key) is int:
        return (0, key, b"") if key >= 0 else (1, -key, b"")
    if type(key) is str:
        content = key.encode()
        return (3, len(content), content)
    raise TypeError(f"a {type(key).__name__} as a key")


def as_map(value: object, code: Code, keys: frozenset[int], optional: frozenset[int] = frozenset()) -> dict[int, Any]:
    """Return `value` as a map with exactly the given integer keys (and perhaps the optional ones).

    Raises:
        FormatError: with `code`, for another type, a missing key or an unknown key.
    """
    if not isinstance(value, dict):
        raise FormatError(code, "a map was expected")
    # True == 1 in Python: a boolean key must not pass for an integer.
    if not {int}.issuperset(map(type, value)) or not keys <= value.keys() <= keys | optional:
        raise FormatError(code, f"map keys {sorted(map(str, value))}, expected {sorted(keys)}")
    return value


def as_bytes(value: object, code: Code, minimum: int, maximum: int | None = None) -> bytes:
    """Return `value` as a byte string of exactly `minimum` bytes, or of `minimum` to `maximum`.

    Raises:
        FormatError: with `code`.
    """
    high = minimum if maximum is None else maximum
    if not isinstance(value, bytes) or not minimum <= len(value) <= high:
        raise FormatError(code, f"a byte string of {minimum} to {high} bytes was expected")
    return value


def as_text(value: object, code: Code, maximum: int) -> str:
    """Return `value` as non-empty text of at most `maximum` characters.

    Raises:
        FormatError: with `code`.
    """
    if not isinstance(value, str) or not 0 < len(value) <= maximum:
        raise FormatError(code, f"text of 1 to {maximum} characters was expected")
    return value


def as_hex(value: object, code: Code, length: int) -> bytes:
    """Return the `length` bytes that `value` spells in hex, in either case.

    Raises:
        FormatError: with `code`.
    """
    text = as_text(value, code, 2 * length)
    try:
        data = bytes.fromhex(text)
    except ValueError:
        data = b""
    if len(data) != length or len(text) != 2 * length:
        raise FormatError(code, f"{length} bytes in hex were expected")
    return data


def as_base64(value: object, code: Code, minimum: int, maximum: int | None = None) -> bytes:
    """Return the `minimum` (to `maximum`) bytes that `value` spells in base64 (RFC 4648, 4), in its one spelling.

    Raises:
        FormatError: with `code`, also for spare bits that are not zero.
    """
    high = minimum if maximum is None else maximum
    text = value if isinstance(value, str) and len(value) <= 4 * (high // 3 + 1) else None
    try:
        data = b64decode(text or "", validate=True)
    except ValueError:
        text = None
    if text is None or not minimum <= len(data) <= high or b64encode(data).decode() != text:
        raise FormatError(code, f"{minimum} to {high} bytes in base64 were expected")
    return data


def as_uint(value: object, code: Code, maximum: int, minimum: int = 0) -> int:
    """Return `value` as an integer from `minimum` to `maximum`; a boolean is none.

    Raises:
        FormatError: with `code`.
    """
    if type(value) is not int or not minimum <= value <= maximum:
        raise FormatError(code, f"an integer from {minimum} to {maximum} was expected")
    return value


def as_bool(value: object, code: Code) -> bool:
    """Return `value` as a boolean.

    Raises:
        FormatError: with `code`.
    """
    if not isinstance(value, bool):
        raise FormatError(code, "a boolean was expected")
    return value


def as_member(value: object, code: Code, kind: type[_Member]) -> _Member:
    """Return the member of an enumeration that has this value; a boolean is none's.

    Raises:
        FormatError: with `code`.
    """
    if type(value) not in (int, str):
        raise FormatError(code, f"a {kind.__name__} was expected")
    member: _Member | None = _members(kind).get(value)
    if member is None:
        raise FormatError(code, f"unknown {kind.__name__}")
    return member


@cache
def _members(kind: type[_Member]) -> dict[Any, _Member]:
    return {member.value: member for member in kind}


def as_list(value: object, code: Code, maximum: int, minimum: int = 0) -> list[Any]:
    """Return `value` as a list of `minimum` to `maximum` items.

    Raises:
        FormatError: with `code`.
    """
    if not isinstance(value, list) or not minimum <= len(value) <= maximum:
        raise FormatError(code, f"a list of {minimum} to {maximum} items was expected")
    return value


def as_tuple(
    value: object, code: Code, minimum: int, maximum: int, read: Callable[..., _T], *arguments: object
) -> tuple[_T, ...]:
    """Return the items of a list of `minimum` to `maximum`, each as `read(item, code, *arguments)` returns it.

    Raises:
        FormatError: with `code`, and whatever `read` raises.
    """
    return tuple([read(item, code, *arguments) for item in as_list(value, code, maximum, minimum)])


@dataclass(frozen=True, slots=True)
class Item:
    """Where one field of a dataclass stands in a map. It stands in the field's annotation, for `Record` to find.

    Attributes:
        key: in the map.
        read: called with the value in the map, the code of errors and `arguments`; returns what the field holds.
        arguments: of `read`.
        write: the reverse: what the map holds for what the field holds; None where that is the same.
        absent: what the field holds where the map has no such key; ``...`` for a key that must be there.
    """

    key: int | str
    read: Callable[..., object]
    arguments: tuple[object, ...] = ()
    write: Callable[[Any], object] | None = None
    absent: object = ...


class Record:
    """Reads and writes one map by the items in a dataclass's annotations.

    Attributes:
        items: (name of the field, its item), in the order of deterministic CBOR.
    """

    def __init__(self, kind: type, *, extensible: bool = False, **more: Item) -> None:
        """Collect the items.

        Args:
            kind: the dataclass.
            extensible: whether unknown keys are left alone instead of refused.
            more: items of attributes that are no fields, such as properties.
        """
        hints = get_type_hints(kind, include_extras=True).items()
        found = [(name, item) for name, hint in hints for item in getattr(hint, "__metadata__", ())]
        items = {name: item for name, item in found if isinstance(item, Item)} | more
        self.items: Final = sorted(items.items(), key=lambda pair: rank(pair[1].key))
        self._required: Final = frozenset(item.key for _, item in self.items if item.absent is ...)
        self._known: Final = None if extensible else frozenset(item.key for _, item in self.items)
        # What the two loops below need, taken out of the items once.
        self._readers: Final = [(name, i.key, i.read, i.arguments, i.absent) for name, i in self.items]
        self._writers: Final = [(attrgetter(name), i.key, i.write, i.absent) for name, i in self.items]

    def read(self, value: object, code: Code) -> dict[str, Any]:
        """Return what each field holds, by its name.

        Raises:
            FormatError: with `code`, for another type, a missing key, an unknown key (unless the map is extensible), or
                a value that its reader refuses.
        """
        if not isinstance(value, dict):
            raise FormatError(code, "a map was expected")
        if not self._required <= value.keys() or (self._known is not None and not value.keys() <= self._known):
            raise FormatError(code, f"map keys {sorted(map(str, value))}, expected {sorted(map(str, self._required))}")
        fields = {}
        name = ""
        try:
            for name, key, read, arguments, absent in self._readers:
                fields[name] = read(value[key], code, *arguments) if key in value else absent
        except FormatError as error:
            raise FormatError(error.code, f"{name}: {error.detail}") from error
        return fields

    def write(self, holder: object) -> dict[int | str, object]:
        """Return the map for an object that has the fields, its keys in the order of deterministic CBOR."""
        found = {}
        for get, key, write, absent in self._writers:
            value = get(holder)
            if value != absent:
                found[key] = value if write is None else write(value)
        return found
