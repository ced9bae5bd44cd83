"""Finds the line at which a key of a TOML document stands, since `tomllib` does not tell.

It reads a document that `tomllib` has already accepted, so it knows only where tables, keys, strings and arrays begin
and end. Whatever it has not seen is answered with the nearest thing around it: the key's table, or line 1.
"""

import re
import tomllib
from contextlib import suppress
from typing import Final

from proxy_attestation.policy.reader import Place

_KEY: Final = re.compile(r"""[ \t]*(?:[A-Za-z0-9_-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')[ \t]*""")
_STRING: Final = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}|' + r"'''.*?'{3,5}|" + r'"(?:[^"\\\n]|\\.)*"|' + r"'[^'\n]*'", re.DOTALL
)
_SCALAR: Final = re.compile(r"[^,\]}#\n]+")
_BLANK: Final = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")


def locate(text: str) -> dict[Place, int]:
    """Return the line, counted from 1, of every table, key and array element of a valid TOML document.

    Never raises: what it cannot follow it leaves out.
    """
    scanner = _Scanner(text.replace("\r\n", "\n"))
    with suppress(tomllib.TOMLDecodeError, RecursionError):
        scanner.scan()
    return scanner.lines


def line_of(lines: dict[Place, int], place: Place) -> int:
    """Return the line of a place, or of the nearest thing around it."""
    for length in range(len(place), 0, -1):
        if place[:length] in lines:
            return lines[place[:length]]
    return 1


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._counted_to = 0
        self._line = 1
        self.lines: dict[Place, int] = {}
        self._elements: dict[Place, int] = {}

    def scan(self) -> None:
        table: Place = ()
        while self._skip(_BLANK) and self._at < len(self._text):
            if self._peek("[["):
                table = self._header(array=True)
            elif self._peek("["):
                table = self._header(array=False)
            else:
                self._pair(table)

    def _header(self, *, array: bool) -> Place:
        line = self._here()
        self._at += 2 if array else 1
        *before, last = self._keys()
        self._at += 2 if array else 1
        place: Place = ()
        for part in before:
            self.lines.setdefault((*place, part), line)
            place = self._inside((*place, part))
        place = (*place, last)
        if array:
            self.lines.setdefault(place, line)
            self._elements[place] = self._elements.get(place, 0) + 1
        place = self._inside(place)
        self.lines.setdefault(place, line)
        return place

    def _inside(self, place: Place) -> Place:
        """Step into the newest element where `place` is an array of tables."""
        return (*place, self._elements[place] - 1) if place in self._elements else place

    def _pair(self, table: Place) -> None:
        line = self._here()
        place = (*table, *self._keys())
        self._at += 1  # the equals sign
        for length in range(len(table) + 1, len(place) + 1):
            self.lines.setdefault(place[:length], line)
        self._value(place)

    def _value(self, place: Place) -> None:
        self._skip(_BLANK)
        if self._peek("["):
            self._at += 1
            index = 0
            while self._more("]"):
                self.lines.setdefault((*place, index), self._here())
                self._value((*place, index))
                index += 1
        elif self._peek("{"):
            self._at += 1
            while self._more("}"):
                self._pair(place)
        elif not self._skip(_STRING) and not self._skip(_SCALAR):
            self._at += 1

    def _more(self, end: str) -> bool:
        """Step over blanks and a comma; tell whether an element follows, and step over the end where none does."""
        self._skip(_BLANK)
        if self._peek(","):
            self._at += 1
            self._skip(_BLANK)
        if self._peek(end):
            self._at += 1
            return False
        return self._at < len(self._text)

    def _keys(self) -> Place:
        start = self._at
        self._skip(_KEY)
        while self._peek("."):
            self._at += 1
            self._skip(_KEY)
        # TOML's own rules for quoted and dotted keys are applied by TOML's own reader.
        node: object = tomllib.loads(self._text[start : self._at] + "= 0")
        parts: list[str | int] = []
        while isinstance(node, dict):
            part, node = next(iter(node.items()))
            parts.append(part)
        return tuple(parts)

    def _peek(self, token: str) -> bool:
        return self._text.startswith(token, self._at)

    def _skip(self, pattern: re.Pattern[str]) -> bool:
        match = pattern.match(self._text, self._at)
        if match is None:
            return False
        self._at = match.end()
        return True

    def _here(self) -> int:
        self._line += self._text.count("\n", self._counted_to, self._at)
        self._counted_to = self._at
        return self._line
