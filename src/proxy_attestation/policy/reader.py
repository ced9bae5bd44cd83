"""Reads one table of a TOML file strictly, and notes everything that is wrong with it instead of stopping at the first.

A method that finds something wrong notes an `Issue` and returns nothing (None or an empty tuple), so that reading goes
on; whoever owns the list of issues refuses the file at the end if there is one. Issues name a place by its path in the
file; `lines.py` finds the line.
"""

import difflib
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias, TypeVar

from proxy_attestation.codes import Code

Place: TypeAlias = tuple[str | int, ...]
"""Where a value stands: keys, and the indexes of arrays."""

_SHOWN: Final = 80
_T = TypeVar("_T")
_Sortable = TypeVar("_Sortable", str, bytes)


@dataclass(frozen=True, slots=True)
class Issue:
    """One thing wrong with a file.

    Attributes:
        place: of the value, or of the table where a value is missing.
        message: what is wrong.
        fix: what to do about it.
        code: what kind of thing.
    """

    place: Place
    message: str
    fix: str
    code: Code = Code.POLICY_MALFORMED


@dataclass(frozen=True, slots=True)
class Fault:
    """What a reader of one text says instead of a value.

    Attributes:
        message: what is wrong.
        fix: what to do about it.
    """

    message: str
    fix: str


def show(value: object) -> str:
    """Return a value for a message: on one line, printable, and not longer than a line."""
    text = ascii(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


class TableReader:
    """One table, its place in the file, and the list that its issues are noted in."""

    def __init__(self, table: Mapping[str, object], place: Place, title: str, issues: list[Issue]) -> None:
        self.table = table
        self.place = place
        self.title = title
        self.issues = issues

    def note(
        self,
        key: str | None,
        message: str,
        fix: str,
        index: int | None = None,
        code: Code = Code.POLICY_MALFORMED,
    ) -> None:
        """Note an issue at a key, at an element of its array, or (None) at the table itself."""
        place = self.place if key is None else (*self.place, key)
        place = place if index is None else (*place, index)
        self.issues.append(Issue(place, f"{self.title}: {message}", fix, code))

    def has(self, key: str) -> bool:
        """Tell whether the key is there."""
        return key in self.table

    def refuse_unknown(self, known: Collection[str], hints: Mapping[str, str] | None = None) -> None:
        """Note every key that is not known; `hints` has the fix for keys that people write all the same."""
        for key in self.table:
            if key in known:
                continue
            near = difflib.get_close_matches(key, known, n=1)
            fix = f"did you mean {near[0]}?" if near else f"remove it; known here: {', '.join(sorted(known))}"
            self.note(key, f"unknown key {show(key)}", (hints or {}).get(key, fix))

    def require(self, keys: Iterable[str], why: str) -> bool:
        """Note every key that is missing, and tell whether none is."""
        missing = [key for key in keys if key not in self.table]
        if missing:
            self.note(None, f"{', '.join(missing)} missing", why)
        return not missing

    def integer(self, key: str, low: int, high: int) -> int | None:
        """Return an integer from `low` to `high`; None where it is absent or something else (a boolean is)."""
        fits = self._get(key, lambda value: type(value) is int and low <= value <= high, f"an integer, {low} to {high}")
        return None if fits is None else int(fits)

    def text(self, key: str) -> str | None:
        """Return non-empty text; None where it is absent or something else."""
        fits = self._get(key, lambda value: isinstance(value, str) and value != "", "text between quotes")
        return None if fits is None else str(fits)

    def flag(self, key: str) -> bool:
        """Return whether a switch is on. A switch that is written must be on: what is off is left out."""
        return self._get(key, lambda value: value is True, f"{key} = true, or remove the key") is not None

    def child(self, key: str, title: str) -> "TableReader | None":
        """Return the reader of a table inside this one; None where it is absent or something else."""
        table = self._get(key, lambda value: isinstance(value, dict), f"a table: {key} = {{ ... }}")
        return None if table is None else TableReader(table, (*self.place, key), title, self.issues)

    def children(self, key: str, title: str, maximum: int) -> "list[TableReader]":
        """Return the readers of an array of 1 to `maximum` tables; none where it is absent or something else."""
        found = self._get(
            key,
            lambda value: (
                isinstance(value, list) and 0 < len(value) <= maximum and all(isinstance(t, dict) for t in value)
            ),
            f"1 to {maximum} tables [[...{key}]]",
        )
        return [TableReader(table, (*self.place, key, i), title, self.issues) for i, table in enumerate(found or ())]

    def value(self, key: str, read: Callable[[str], _T | Fault], missing: str | None = None) -> _T | None:
        """Return what `read` makes of a text; None where it is absent or something else, or `read` finds a fault.

        Args:
            key: the key.
            read: takes the text.
            missing: what to do about it where the key is absent; None where it may be.
        """
        if missing is not None and not self.require([key], missing):
            return None
        text = self.text(key)
        return None if text is None else self._accept(key, read(text))

    def values(self, key: str, maximum: int, read: Callable[[str], _Sortable | Fault]) -> tuple[_Sortable, ...]:
        """Return what `read` makes of each text of a list of 1 to `maximum` different ones, sorted; () where absent."""
        texts = self._get(key, lambda value: isinstance(value, list), 'a list: ["..."]')
        if texts is None:
            return ()
        if not texts:
            self.note(key, f"{key} is an empty list", "list at least one value, or remove the key")
        if len(texts) > maximum:
            self.note(key, f"{key} has {len(texts)} values", f"list at most {maximum}")
            return ()
        found: set[_Sortable] = set()
        for index, text in enumerate(texts):
            if not isinstance(text, str) or not text:
                self.note(key, f"{key} holds {show(text)}", "write text between quotes", index)
            elif text in texts[:index]:
                self.note(key, f"{key} lists {show(text)} twice", "remove one of them", index)
            elif (value := self._accept(key, read(text), index)) is not None:
                found.add(value)
        return tuple(sorted(found))

    def _get(self, key: str, fits: Callable[[Any], bool], what: str) -> Any:
        """Return a value that fits; None where it is absent or (noted) does not fit. TOML has no null."""
        value = self.table.get(key)
        if value is None or fits(value):
            return value
        self.note(key, f"{key} is {show(value)}", f"write {what}")
        return None

    def _accept(self, key: str, found: _T | Fault, index: int | None = None) -> _T | None:
        if isinstance(found, Fault):
            self.note(key, f"{key}: {found.message}", found.fix, index)
            return None
        return found
