"""Reads one table of a TOML file strictly, and notes everything that is wrong with it instead of stopping at the first.

A method that finds something wrong notes an `Issue` and returns nothing (None or an empty tuple), so that reading goes
on; whoever owns the list of issues refuses the file at the end if there is one. Issues name a place by its path in the
file; `lines.py` finds the line.
"""

import difflib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final, TypeAlias

Place: TypeAlias = tuple[str | int, ...]
"""Where a value stands: keys, and the indexes of arrays."""

_SHOWN: Final = 80


@dataclass(frozen=True, slots=True)
class Issue:
    """One thing wrong with a file.

    Attributes:
        place: of the value, or of the table where a value is missing.
        message: what is wrong.
        fix: what to do about it.
    """

    place: Place
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

    def note(self, key: str | None, message: str, fix: str, index: int | None = None) -> None:
        """Note an issue at a key, at an element of its array, or (None) at the table itself."""
        place = self.place if key is None else (*self.place, key)
        self.issues.append(Issue(place if index is None else (*place, index), f"{self.title}: {message}", fix))

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
        if key not in self.table:
            return None
        value = self.table[key]
        if type(value) is not int or not low <= value <= high:
            self.note(key, f"{key} is {show(value)}", f"write an integer from {low} to {high}")
            return None
        return value

    def text(self, key: str) -> str | None:
        """Return non-empty text; None where it is absent or something else."""
        if key not in self.table:
            return None
        value = self.table[key]
        if not isinstance(value, str) or not value:
            self.note(key, f"{key} is {show(value)}", "write text between quotes")
            return None
        return value

    def texts(self, key: str, maximum: int) -> tuple[tuple[int, str], ...]:
        """Return (index, text) of each element of a list of 1 to `maximum` different texts; wrong ones are left out."""
        if key not in self.table:
            return ()
        value = self.table[key]
        if not isinstance(value, list):
            self.note(key, f"{key} is {show(value)}", 'write a list: ["..."]')
            return ()
        if not value:
            self.note(key, f"{key} is an empty list", "list at least one value, or remove the key")
        if len(value) > maximum:
            self.note(key, f"{key} has {len(value)} values", f"list at most {maximum}")
            return ()
        good: dict[str, int] = {}
        for index, item in enumerate(value):
            if not isinstance(item, str) or not item:
                self.note(key, f"{key} holds {show(item)}", "write text between quotes", index)
            elif item in good:
                self.note(key, f"{key} lists {show(item)} twice", "remove one of them", index)
            else:
                good[item] = index
        return tuple((index, item) for item, index in good.items())

    def flag(self, key: str) -> bool:
        """Return whether a switch is on. A switch that is written must be on: what is off is left out."""
        if key not in self.table:
            return False
        if self.table[key] is not True:
            self.note(key, f"{key} is {show(self.table[key])}", f"write {key} = true, or remove the key")
            return False
        return True

    def child(self, key: str, title: str) -> "TableReader | None":
        """Return the reader of a table inside this one; None where it is absent or something else."""
        if key not in self.table:
            return None
        value = self.table[key]
        if not isinstance(value, dict):
            self.note(key, f"{key} is {show(value)}", f"write a table: {key} = {{ ... }}")
            return None
        return TableReader(value, (*self.place, key), title, self.issues)
