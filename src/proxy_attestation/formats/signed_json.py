"""Intel's signed JSON documents: ``{"tcbInfo": {...}, "signature": "<128 hex digits>"}``.

The signature covers the bytes of the inner object exactly as sent, so they are cut out of the document and never
written anew. The document is scanned for that cut before the signature is checked; what the inner object means is read
afterwards, from the bytes that were verified, by `decode_object`.

Strict: no duplicate names at any depth, no floats, no NaN, nothing after the document but white space. Names that are
not known are left alone: the vendor may add some.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NoReturn

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError
from proxy_attestation.formats.bounds import SIGNED_DOCUMENT_MAX
from proxy_attestation.formats.values import as_hex, as_text

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


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
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
    if len(data) > SIGNED_DOCUMENT_MAX:
        raise FormatError(code, f"a document of {len(data)} bytes, at most {SIGNED_DOCUMENT_MAX} allowed")
    try:
        text = data.decode()
        spans = _member_spans(text)
        start, end = spans[member]
        signature = _DECODER.decode(text[slice(*spans["signature"])])
    except (ValueError, KeyError, IndexError, RecursionError) as error:
        raise FormatError(code, f"not a signed JSON document around {member}") from error
    return SignedDocument(text[start:end].encode(), as_hex(signature, code, 64))


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


def decode_object(content: bytes, code: Code) -> dict[str, object]:
    """Decode the inner object.

    Raises:
        FormatError: with `code`.
    """
    try:
        value = _DECODER.decode(content.decode())
    except (ValueError, RecursionError) as error:
        raise FormatError(code, "not JSON as we accept it") from error
    return as_object(value, code)


def as_object(value: object, code: Code) -> dict[str, object]:
    """Return `value` as an object.

    Raises:
        FormatError: with `code`.
    """
    if not isinstance(value, dict):
        raise FormatError(code, "an object was expected")
    return value


def as_date(value: object, code: Code) -> datetime:
    """Return the date that `value` spells, to the second, UTC.

    Raises:
        FormatError: with `code`.
    """
    text = as_text(value, code, 20)
    try:
        date = datetime.strptime(text, _DATE).replace(tzinfo=UTC)
    except ValueError:
        date = None
    if date is None or date.strftime(_DATE) != text:
        raise FormatError(code, "a date like 2026-11-24T00:00:00Z was expected")
    return date
