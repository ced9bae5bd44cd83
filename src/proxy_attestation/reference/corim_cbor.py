"""CBOR with tags inside, which `formats.cbor` has no place for: what CoRIM is written in, bounded in every way."""

import io
from collections.abc import Iterator, Mapping
from typing import Any, Final, NoReturn

import cbor2

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError

CORIM_MAX: Final = 256 * 1024
CONTAINERS_MAX: Final = 4096
DEPTH_MAX: Final = 16
TIME, URI, UUID = 1, 32, 37
"""Tags that cbor2 would turn into objects, and that are left as they are."""


def _keep(tag: int) -> Any:
    return lambda value, *_: cbor2.CBORTag(tag, value)


def _refuse(*_: object) -> NoReturn:
    raise ValueError("tag not allowed")


_BUILT_IN: Final = (0, 2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 100, 256, 258, 260, 261, 1004, 43000, 55799)
_DECODERS: Final[dict[int, Any]] = {
    **dict.fromkeys(_BUILT_IN, _refuse),
    **{tag: _keep(tag) for tag in (TIME, URI, UUID)},
}


def load(data: bytes) -> object:
    """Decode one item: integers, bytes, text, booleans, None, lists, maps by integers and text, and tags.

    Raises:
        FormatError: `reference.malformed`.
    """
    if len(data) > CORIM_MAX:
        raise malformed(f"{len(data)} bytes, at most {CORIM_MAX} allowed")
    stream = io.BytesIO(data)
    try:
        value = cbor2.load(stream, max_depth=DEPTH_MAX, allow_duplicate_keys=False, semantic_decoders=_DECODERS)
        plain = _plain(value, iter(range(CONTAINERS_MAX)))
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise FormatError(Code.REFERENCE_MALFORMED, "not CBOR that we accept") from error
    if stream.tell() != len(data):
        raise malformed("bytes after the end")
    return plain


def _plain(value: object, budget: Iterator[int]) -> object:
    """Return lists, maps and tags that can be changed by nobody else; refuse other types and too many of them."""
    if value is None or type(value) in (int, str, bytes, bool):
        return value
    if next(budget, None) is None:
        raise ValueError("too many lists and maps")
    if isinstance(value, list | tuple):
        return [_plain(item, budget) for item in value]
    if isinstance(value, dict | cbor2.frozendict):
        if not {type(key) for key in value} <= {int, str}:
            raise ValueError("a key that is neither a number nor text")
        return {key: _plain(item, budget) for key, item in value.items()}
    if isinstance(value, cbor2.CBORTag):
        return cbor2.CBORTag(value.tag, _plain(value.value, budget))
    raise ValueError(f"a {type(value).__name__}")


def as_tagged(value: object, tag: int, what: str) -> object:
    """Return the content of a tag."""
    if not isinstance(value, cbor2.CBORTag) or value.tag != tag:
        raise malformed(f"{what} in tag {tag} was expected")
    content: object = value.value
    return content


def as_fields(
    value: object, required: set[int], optional: set[int], refused: Mapping[int, str] | None = None
) -> dict[Any, object]:
    """Return a map with the given keys, and perhaps the optional ones; others are conditions that are not read.

    Raises:
        FormatError: `reference.malformed`, where a key is missing; `reference.unsupported`, for any other key.
    """
    found = as_map(value)
    for key, what in (refused or {}).items():
        if key in found:
            raise unsupported(what)
    if not required <= found.keys():
        raise malformed(f"map keys {sorted(map(str, found))}, expected {sorted(required)}")
    if not found.keys() <= required | optional:
        raise unsupported(f"map keys {sorted(map(str, found.keys() - required - optional))}")
    return found


def as_map(value: object) -> dict[Any, object]:
    """Return a map."""
    # True == 1 in Python: no key is a boolean, `_plain` has seen to it.
    if not isinstance(value, dict):
        raise malformed("a map was expected")
    return value


def as_items(value: object, minimum: int, maximum: int = CONTAINERS_MAX) -> list[Any]:
    """Return the items of a list of `minimum` to `maximum`."""
    if not isinstance(value, list) or not minimum <= len(value) <= maximum:
        raise malformed(f"a list of {minimum} to {maximum} items was expected")
    return value


def as_bytes(value: object) -> bytes:
    """Return bytes."""
    if not isinstance(value, bytes):
        raise malformed("bytes were expected")
    return value


def malformed(detail: str) -> FormatError:
    """Return the error for bytes that are not what they claim to be."""
    return FormatError(Code.REFERENCE_MALFORMED, detail)


def unsupported(detail: str) -> FormatError:
    """Return the error for a condition that is not read here, and so cannot be kept."""
    return FormatError(Code.REFERENCE_UNSUPPORTED, detail)
