"""Deterministic CBOR (RFC 8949 section 4.2.1), one encoding per value.

`cbor2` does the encoding; this module adds the order of map keys (bytewise on their encodings) and refuses on the way
in whatever `encode` would not have written: trailing bytes, indefinite lengths, long forms, duplicate keys, other
orders, floats and simple values, keys other than integers and text, tags anywhere but outermost, and there the ones
that turn into Python objects.

`decode_foreign` is for what others write and sign: it takes any order, any length form and indefinite lengths, and
refuses everything else that `decode` refuses.
"""

import io
from collections.abc import Iterator
from itertools import repeat
from typing import Final, NoReturn, TypeAlias

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


_NO_TAGS: Final = dict.fromkeys(_BUILT_IN_TAGS, _refuse_tag)


def _ordered(value: object) -> object:
    if isinstance(value, dict):
        return {key: _ordered(value[key]) for key in sorted(value, key=rank)}
    if isinstance(value, list | tuple):
        return [item if type(item) in _LEAVES else _ordered(item) for item in value]
    return cbor2.CBORTag(value.tag, _ordered(value.value)) if isinstance(value, cbor2.CBORTag) else value


def _require_ours(value: object, budget: Iterator[int], *, ordered: bool) -> None:
    """Refuse types that `encode` does not write, maps in another order than its own, and more lists than the budget.

    Raises:
        ValueError: or TypeError.
    """
    if not isinstance(value, list | tuple | dict | cbor2.frozendict):
        if type(value) not in _LEAVES:
            raise TypeError(f"a {type(value).__name__}")
        return
    if not next(budget, 0):
        raise ValueError("too many lists and maps")
    if isinstance(value, dict | cbor2.frozendict):
        keys = list(value)
        # `rank` raises for a key of another type, which sorting makes it see.
        if keys != sorted(keys, key=rank) and ordered:
            raise ValueError("map keys in another order")
        value = list(value.values())
    for item in value:
        if type(item) not in _LEAVES:
            _require_ours(item, budget, ordered=ordered)


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
    value = _read(data, code, limit, foreign=False)
    # Maps keep the order in which they came: what is written back shows every other liberty of the encoder.
    if cbor2.dumps(value) != data:
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
    return _read(data, code, limit, foreign=True)


def _read(data: bytes, code: Code, limit: int, *, foreign: bool) -> Value:
    if len(data) > limit:
        raise FormatError(code, f"{len(data)} bytes, at most {limit} allowed")
    stream = io.BytesIO(data)
    try:
        value: Value = cbor2.load(
            stream,
            max_depth=CBOR_DEPTH_MAX,
            allow_indefinite=foreign,
            allow_duplicate_keys=False,
            semantic_decoders=_NO_TAGS,
        )
        budget = iter(range(FOREIGN_CONTAINERS_MAX, 0, -1)) if foreign else repeat(1)
        _require_ours(value.value if isinstance(value, cbor2.CBORTag) else value, budget, ordered=not foreign)
        if isinstance(value, cbor2.CBORTag):
            value = cbor2.CBORTag(value.tag, _thawed(value.value))
    except _DECODE_ERRORS as error:
        raise FormatError(code, "not CBOR that we accept") from error
    # The decoder leaves the stream behind the last byte of the item, however much it has read ahead.
    if stream.tell() != len(data):
        raise FormatError(code, "bytes after the end")
    return value
