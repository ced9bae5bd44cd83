"""Intel's signed JSON documents: ``{"tcbInfo": {...}, "signature": "<128 hex digits>"}``.

The signature covers the bytes of the inner object exactly as sent, so they are cut out of the document and never
written anew. The document is scanned for that cut before the signature is checked; what the inner object means is read
afterwards, from the bytes that were verified, by `decode_object` and the accessors below.

Strict: no duplicate names at any depth, no floats, no NaN, nothing after the document but white space. Names that are
not known are left alone: the vendor may add some.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NoReturn, TypeAlias

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError
from proxy_attestation.formats.bounds import COLLATERAL_DOCUMENT_MAX

JsonObject: TypeAlias = dict[str, object]
_WHITE_SPACE: Final = " \t\r\n"
_DATE: Final = "%Y-%m-%dT%H:%M:%SZ"


@dataclass(frozen=True, slots=True)
class SignedDocument:
    """A document that has been cut up and not yet verified.

    Attributes:
        content: the exact bytes of the inner object.
        signature: r and s, 64 bytes, big-endian, ECDSA P-256 with SHA-256 over `content`.
    """

    content: bytes
    signature: bytes


def _unique(pairs: list[tuple[str, object]]) -> JsonObject:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a name occurs twice in one object")
    return result


def _no_number(text: str) -> NoReturn:
    raise ValueError(f"{text} is no integer")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_no_number, parse_constant=_no_number)


def decode_signed_document(data: bytes, member: str, code: Code) -> SignedDocument:
    """Cut a signed document into the bytes of its member and the signature.

    Args:
        data: the document.
        member: the name of the inner object: `tcbInfo` or `enclaveIdentity`.
        code: the code of the error.

    Raises:
        FormatError: with `code`.
    """
    if len(data) > COLLATERAL_DOCUMENT_MAX:
        raise FormatError(code, f"a document of {len(data)} bytes, at most {COLLATERAL_DOCUMENT_MAX} allowed")
    try:
        text = data.decode()
        spans = _member_spans(text)
        start, end = spans[member]
        signature = _DECODER.decode(text[slice(*spans["signature"])])
    except (ValueError, KeyError, IndexError, RecursionError) as error:
        raise FormatError(code, f"not a signed JSON document around {member}") from error
    return SignedDocument(text[start:end].encode(), hex_value({"signature": signature}, "signature", 64, code))


def _member_spans(text: str) -> dict[str, tuple[int, int]]:
    """Return where the value of each member of the outermost object starts and ends."""
    spans: dict[str, tuple[int, int]] = {}
    position, expected = _skip(text, 0), "{"
    while text[position] == expected:
        name, position = _DECODER.raw_decode(text, _skip(text, position + 1))
        position = _skip(text, position)
        if not isinstance(name, str) or name in spans or text[position] != ":":
            raise ValueError("a new name and a colon were expected")
        start = _skip(text, position + 1)
        _, end = _DECODER.raw_decode(text, start)
        spans[name] = start, end
        position, expected = _skip(text, end), ","
    if text[position] != "}" or expected == "{" or _skip(text, position + 1) != len(text):
        raise ValueError("the end of the only object was expected")
    return spans


def _skip(text: str, position: int) -> int:
    while position < len(text) and text[position] in _WHITE_SPACE:
        position += 1
    return position


def decode_object(content: bytes, code: Code) -> JsonObject:
    """Decode the inner object.

    Raises:
        FormatError: with `code`.
    """
    try:
        value = _DECODER.decode(content.decode())
    except (ValueError, RecursionError) as error:
        raise FormatError(code, "not JSON as we accept it") from error
    return _object(value, code)


def _object(value: object, code: Code) -> JsonObject:
    if not isinstance(value, dict):
        raise FormatError(code, "an object was expected")
    return value


def text_value(parent: JsonObject, name: str, code: Code, limit: int = 64) -> str:
    """Return a string member of at most `limit` characters."""
    value = parent.get(name)
    if not isinstance(value, str) or len(value) > limit:
        raise FormatError(code, f"{name}: a string of at most {limit} characters was expected")
    return value


def int_value(parent: JsonObject, name: str, code: Code, limit: int) -> int:
    """Return an integer member from 0 to `limit`."""
    value = parent.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= limit:
        raise FormatError(code, f"{name}: an integer from 0 to {limit} was expected")
    return value


def hex_value(parent: JsonObject, name: str, length: int, code: Code) -> bytes:
    """Return a member of exactly `length` bytes in hex, either case."""
    text = text_value(parent, name, code, 2 * length)
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != length or len(text) != 2 * length:
        raise FormatError(code, f"{name}: {length} bytes in hex were expected")
    return value


def date_value(parent: JsonObject, name: str, code: Code) -> datetime:
    """Return a date member, to the second, UTC."""
    text = text_value(parent, name, code, 20)
    try:
        value = datetime.strptime(text, _DATE).replace(tzinfo=UTC)
    except ValueError:
        value = None
    if value is None or value.strftime(_DATE) != text:
        raise FormatError(code, f"{name}: a date like 2026-11-24T00:00:00Z was expected")
    return value


def object_value(parent: JsonObject, name: str, code: Code) -> JsonObject:
    """Return an object member."""
    return _object(parent.get(name), code)


def objects_value(parent: JsonObject, name: str, code: Code, count: int) -> Sequence[JsonObject]:
    """Return a member that is a list of 1 to `count` objects."""
    value = parent.get(name)
    if not isinstance(value, list) or not 0 < len(value) <= count:
        raise FormatError(code, f"{name}: a list of 1 to {count} objects was expected")
    return [_object(item, code) for item in value]


def texts_value(parent: JsonObject, name: str, code: Code, count: int) -> tuple[str, ...]:
    """Return a member that is a list of at most `count` short strings; absent means none."""
    value = parent.get(name, [])
    if not isinstance(value, list) or len(value) > count:
        raise FormatError(code, f"{name}: a list of at most {count} strings was expected")
    return tuple(text_value({name: item}, name, code, 32) for item in value)
