"""Deterministic CBOR (RFC 8949 section 4.2.1), one encoding per value.

`cbor2` does the encoding; this module adds the order of map keys (bytewise on their encodings) and refuses on the way
in whatever `encode` would not have written: trailing bytes, indefinite lengths, long forms, duplicate keys, other
orders, floats, tags that turn into Python objects.
"""

from functools import lru_cache
from typing import Final, NoReturn, TypeAlias

import cbor2

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError
from proxy_attestation.formats.bounds import CBOR_DEPTH_MAX

Value: TypeAlias = "int | bytes | str | bool | list[Value] | dict[int | str, Value] | cbor2.CBORTag | None"

# Tags for which cbor2 has decoders of its own (dates, bignums, regular expressions, shared values ...). None occurs in
# our formats, and some cost more than their bytes.
_BUILT_IN_TAGS: Final = (0, 1, 2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 37, 100, 256, 258, 260, 261, 1004, 43000, 55799)

_SHORT_KEY: Final = 32
_FEW_KEYS: Final = 32
_CONTAINERS: Final = (dict, list, tuple, cbor2.CBORTag)


def _refuse_tag(*_: object) -> NoReturn:
    raise ValueError("tag not allowed")


_NO_TAGS: Final = dict.fromkeys(_BUILT_IN_TAGS, _refuse_tag)


@lru_cache(maxsize=512, typed=True)
def _short_key_encoding(key: int | str) -> bytes:
    return cbor2.dumps(key)


def _key_encoding(key: object) -> bytes:
    # The same few keys come with every message. Long ones could fill the cache with what a stranger sent.
    if type(key) is int or (type(key) is str and len(key) <= _SHORT_KEY):
        return _short_key_encoding(key)
    return cbor2.dumps(key)


@lru_cache(maxsize=512)
def _order(keys: tuple[int | str, ...]) -> tuple[int | str, ...]:
    return tuple(sorted(keys, key=_key_encoding))


def _ordered(value: object) -> object:
    if isinstance(value, dict):
        keys = tuple(value)
        # Only what we encode ourselves comes here. A set of types tells True from 1, which are equal as keys.
        plain = len(keys) <= _FEW_KEYS and {int, str}.issuperset(map(type, keys))
        order = _order(keys) if plain else tuple(sorted(keys, key=_key_encoding))
        return {key: _ordered(item) if isinstance(item := value[key], _CONTAINERS) else item for key in order}
    if isinstance(value, list | tuple):
        return [_ordered(item) for item in value]
    if isinstance(value, cbor2.CBORTag):
        return cbor2.CBORTag(value.tag, _ordered(value.value))
    return value


def _in_order(value: object) -> bool:
    """Tell whether `_ordered` would leave every map as it is."""
    if isinstance(value, dict):
        before = b""
        for key, item in value.items():
            encoded = _key_encoding(key)
            if encoded <= before or (isinstance(item, _CONTAINERS) and not _in_order(item)):
                return False
            before = encoded
        return True
    if isinstance(value, list | tuple):
        return all(_in_order(item) for item in value)
    return _in_order(value.value) if isinstance(value, cbor2.CBORTag) else True


def _thawed(value: object) -> object:
    # cbor2 freezes what stands inside a tag; callers expect the same types everywhere.
    if isinstance(value, cbor2.frozendict):
        return {key: _thawed(item) for key, item in value.items()}
    if isinstance(value, tuple):
        return [_thawed(item) for item in value]
    return value


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
        value: Value = cbor2.loads(
            data,
            max_depth=CBOR_DEPTH_MAX,
            allow_indefinite=False,
            allow_duplicate_keys=False,
            semantic_decoders=_NO_TAGS,
        )
        if isinstance(value, cbor2.CBORTag):
            value = cbor2.CBORTag(value.tag, _thawed(value.value))
        # Maps keep the order in which they came: what is written back shows every other liberty of the encoder.
        exact = cbor2.dumps(value) == data and _in_order(value)
    except (cbor2.CBORError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise FormatError(code, "not CBOR that we accept") from error
    if not exact:
        raise FormatError(code, "not deterministic CBOR, or bytes after its end")
    return value


def as_map(value: object, code: Code, keys: frozenset[int], optional: frozenset[int] = frozenset()) -> dict[int, Value]:
    """Return `value` as a map with exactly the given integer keys (and perhaps the optional ones).

    Raises:
        FormatError: with `code`, for another type, a missing key or an unknown key.
    """
    if not isinstance(value, dict):
        raise FormatError(code, "a map was expected")
    present = value.keys()
    # True == 1 in Python: a boolean key must not pass for an integer.
    if not {int}.issuperset(map(type, present)) or not (present == keys or keys <= present <= keys | optional):
        raise FormatError(code, f"map keys {sorted(map(str, present))}, expected {sorted(keys)}")
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


def as_uint(value: object, code: Code, maximum: int) -> int:
    """Return `value` as an integer from 0 to `maximum`; a boolean is none.

    Raises:
        FormatError: with `code`.
    """
    if type(value) is not int or not 0 <= value <= maximum:
        raise FormatError(code, f"an integer from 0 to {maximum} was expected")
    return value


def as_list(value: object, code: Code, maximum: int) -> "list[Value]":
    """Return `value` as a list of at most `maximum` items.

    Raises:
        FormatError: with `code`.
    """
    if not isinstance(value, list) or len(value) > maximum:
        raise FormatError(code, f"a list of at most {maximum} items was expected")
    return value
