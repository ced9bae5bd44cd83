"""Where the fields of DER structures and of JSON documents stand, by their paths."""

import re
from collections.abc import Iterator
from typing import Final

_TOKEN: Final = re.compile(rb'[{}\[\],:]|"(?:[^"\\]|\\.)*"|-?\d+|true|false|null')
_CONSTRUCTED: Final = 0x20
_STRINGS: Final = (0x04, 0x03)
"""OCTET STRING and BIT STRING, which may hold DER."""


def der_fields(data: bytes, start: int = 0, end: int | None = None, path: str = "") -> Iterator[tuple[str, int, int]]:
    """Yield path, offset and length of the content of every primitive value, in strings that hold DER too."""
    at, number = start, 0
    end = len(data) if end is None else end
    while at < end:
        tag, content, length = _header(data, at)
        name = f"{path}.{number}" if path else str(number)
        if tag & _CONSTRUCTED:
            yield from der_fields(data, content, content + length, name)
        elif tag in _STRINGS and (inner := _inside(data, tag, content, length)) is not None:
            yield from der_fields(data, inner, content + length, name)
        elif length:
            yield name, content, length
        at, number = content + length, number + 1


def _header(data: bytes, at: int) -> tuple[int, int, int]:
    tag, length, content = data[at], data[at + 1], at + 2
    if length & 0x80:
        content += length & 0x7F
        length = int.from_bytes(data[at + 2 : content])
    return tag, content, length


def _inside(data: bytes, tag: int, content: int, length: int) -> int | None:
    """Return where DER begins in a string, if the string holds one SEQUENCE and nothing else."""
    start = content + (tag == 0x03)
    if length < 4 or data[start] != 0x30:
        return None
    _, inner, size = _header(data, start)
    return start if inner + size == content + length else None


def json_fields(content: bytes) -> Iterator[tuple[str, int, int]]:
    """Yield path, offset and length of every scalar, with the indexes of lists in the path; strings without quotes."""
    stack: list[str | int] = []
    key, tokens = "", list(_TOKEN.finditer(content))
    for number, token in enumerate(tokens):
        text = token[0]
        if text in (b"{", b"["):
            stack.append(0 if text == b"[" else "")
        elif text in (b"}", b"]"):
            stack.pop()
        elif text == b"," and isinstance(stack[-1], int):
            stack[-1] += 1
        elif text[:1] == b'"' and tokens[number + 1][0] == b":":
            key = text[1:-1].decode()
            stack[-1] = key
        elif text not in (b",", b":"):
            quoted = text[:1] == b'"'
            yield ".".join(map(str, stack)), token.start() + quoted, len(text) - 2 * quoted
