"""Deterministic CBOR (RFC 8949 section 4.2.1), one encoding per value.

`cbor2` does the encoding; this module adds the order of map keys (bytewise on their encodings) and refuses on the way
in whatever `encode` would not have written: trailing bytes, indefinite lengths, long forms, duplicate keys, other
orders, floats and simple values, keys other than integers and text, tags anywhere but outermost, and there the ones
that turn into Python objects.

`decode_foreign` is for what others write and sign: it takes any order, any length form and indefinite lengths, and
refuses everything else that `decode` refuses.
"""

import io
from collections.abc import Iterable, Iterator
from typing import Any, Final, NoReturn, TypeAlias

import cbor2

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError
from proxy_attestation.formats.bounds import CBOR_DEPTH_MAX
from proxy_attestation.formats.values import as_bytes, as_list, as_map, as_text, as_uint, rank

__all__ = [
    "Value", "as_bytes", "as_list", "as_map", "as_text", "as_uint",
    "decode", "decode_foreign", "encode", "encode_ordered",
]  # fmt: skip

Value: TypeAlias = "int | bytes | str | bool | list[Value] | dict[int | str, Value] | cbor2.CBORTag | None"

# Tags for which cbor2 has decoders of its own (dates, bignums, regular expressions, shared values ...). None occurs in
# our formats, and some cost more than their bytes.
_BUILT_IN_TAGS: Final = (0, 1, 2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 37, 100, 256, 258, 260, 261, 1004, 43000, 55799)
_LEAVES: Final = frozenset({int, bytes, str, bool, type(None)})
FOREIGN_CONTAINERS_MAX: Final = 64
"""Lists and maps in one item of somebody else's. The formats that we read have five."""
_DECODE_ERRORS: Final = (cbor2.CBORError, ValueError, TypeError, OverflowError, RecursionError)


def _refuse_tag(*_: object) -> NoReturn:
    raise ValueError("tag not allowed")


_BOUNDS: Final[dict[str, Any]] = {
    "max_depth": CBOR_DEPTH_MAX,
    "allow_duplicate_keys": False,
    "semantic_decoders": dict.fromkeys(_BUILT_IN_TAGS, _refuse_tag),
}


def _ordered(value: object) -> object:
    if isinstance(value, dict):
        return {key: _ordered(value[key]) for key in sorted(value, key=rank)}
    if isinstance(value, list | tuple):
        return [item if type(item) in _LEAVES else _ordered(item) for item in value]
    return cbor2.CBORTag(value.tag, _ordered(value.value)) if isinstance(value, cbor2.CBORTag) else value


def _require_ours(value: object, *, ordered: bool) -> None:
    """Refuse types that `encode` does not write, and maps in another order than its own.

    Args:
        value: a container, or something that has no place here.
        ordered: whether the order counts.

    Raises:
        ValueError: or TypeError.
    """
    items: Iterable[object]
    if isinstance(value, dict):
        last = -1
        for key in value:
            # Numbers that ascend, which most maps of ours have, need no ranks; `rank` raises for a key of another type.
            if type(key) is not int or key <= last:
                if list(value) != sorted(value, key=rank) and ordered:
                    raise ValueError("map keys in another order")
                break
            last = key
        items = value.values()
    elif isinstance(value, list):
        items = value
    else:
        raise TypeError(f"a {type(value).__name__}")
    for item in items:
        if type(item) not in _LEAVES:
            _require_ours(item, ordered=ordered)


def _bound(value: object, budget: Iterator[int]) -> None:
    """Refuse more lists and maps than the budget has; a tag freezes those that stand inside it."""
    if isinstance(value, list | tuple | dict | cbor2.frozendict):
        if not next(budget, 0):
            raise ValueError("too many lists and maps")
        for item in value.values() if isinstance(value, dict | cbor2.frozendict) else value:
            _bound(item, budget)


def _thawed(value: object) -> object:
    # cbor2 freezes what stands inside a tag; callers expect the same types everywhere.
    if isinstance(value, cbor2.frozendict):
        return {key: _thawed(item) for key, item in value.items()}
    return [_thawed(item) for item in value] if isinstance(value, tuple) else value


def encode(value: object) -> bytes:
    """Encode ints, bytes, text, booleans, None, lists, dicts and tags deterministically."""
    return cbor2.dumps(_ordered(value))


def encode_ordered(value: object) -> bytes:
    """Encode what `encode` would leave in its order: for writers of fixed maps that list their keys in it."""
    return cbor2.dumps(value)


def decode(data: bytes, code: Code, limit: int) -> Value:
    """Decode one deterministically encoded item.

    Args:
        data: the whole item.
        code: the code of the error when it is not one.
        limit: the largest accepted length in bytes.

    Raises:
        FormatError: with `code`, for anything that `encode` would not have written.
    """
    if len(data) > limit:
        raise FormatError(code, f"{len(data)} bytes, at most {limit} allowed")
    try:
        value = _checked(cbor2.loads(data, allow_indefinite=False, **_BOUNDS), ordered=True)
        # Maps keep the order in which they came: what is written back shows every other liberty of the encoder.
        exact = cbor2.dumps(value) == data
    except _DECODE_ERRORS as error:
        raise FormatError(code, "not CBOR that we accept") from error
    if not exact:
        raise FormatError(code, "not deterministic CBOR, or bytes after its end")
    return value


def decode_foreign(data: bytes, code: Code, limit: int) -> Value:
    """Decode one item of somebody else's, which need not be deterministically encoded.

    Its size is bounded by `limit`, its depth by `CBOR_DEPTH_MAX`, the lists and maps in it by `FOREIGN_CONTAINERS_MAX`;
    a map with a key twice is refused wherever it stands. What is signed must be verified over the bytes as received.

    Args:
        data: the whole item.
        code: the code of the error when it is not one.
        limit: the largest accepted length in bytes.

    Raises:
        FormatError: with `code`, for more than that, bytes after the end, duplicate keys, floats and simple values,
            keys other than integers and text, and tags anywhere but outermost.
    """
    if len(data) > limit:
        raise FormatError(code, f"{len(data)} bytes, at most {limit} allowed")
    stream = io.BytesIO(data)
    try:
        value = cbor2.load(stream, allow_indefinite=True, **_BOUNDS)
        _bound(value.value if isinstance(value, cbor2.CBORTag) else value, iter(range(FOREIGN_CONTAINERS_MAX, 0, -1)))
        value = _checked(value, ordered=False)
    except _DECODE_ERRORS as error:
        raise FormatError(code, "not CBOR that we accept") from error
    # The decoder leaves the stream behind the last byte of the item, however much it has read ahead.
    if stream.tell() != len(data):
        raise FormatError(code, "bytes after the end")
    return value


def _checked(value: Value, *, ordered: bool) -> Value:
    content: object = value
    if isinstance(value, cbor2.CBORTag):
        content = _thawed(value.value)
        value = cbor2.CBORTag(value.tag, content)
    if type(content) not in _LEAVES:
        _require_ours(content, ordered=ordered)
    return value
