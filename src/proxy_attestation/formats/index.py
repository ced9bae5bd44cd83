"""Indexes of files: what `sha256sum` prints and `proxy-attestation index` writes, one line a file.

A line is 64 lower-case hex digits, two spaces, a path, a newline. Strict: paths are relative, have one spelling (no
empty, `.` or `..` component) and stand once; a file name that `sha256sum` would escape (it then begins the line with
a backslash) is refused by name, since readers of such lines disagree.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError
from proxy_attestation.formats.bounds import INDEX_FILES_MAX, INDEX_MAX, INDEX_PATH_MAX

_LINE: Final = re.compile(r"([0-9a-f]{64})  (.+)")


@dataclass(frozen=True, slots=True)
class IndexLine:
    """One file.

    Attributes:
        sha256: 32 bytes, over the file's content.
        path: relative, `/` between components.
    """

    sha256: bytes
    path: str


@dataclass(frozen=True, slots=True)
class IndexDifference:
    """What changed from an old index to a new one, each part sorted by path.

    Attributes:
        added: lines whose path only the new index has.
        removed: lines whose path only the old index has.
        changed: (old, new) lines of one path with two digests.
    """

    added: tuple[IndexLine, ...]
    removed: tuple[IndexLine, ...]
    changed: tuple[tuple[IndexLine, IndexLine], ...]

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return not (self.added or self.removed or self.changed)


def path_fault(path: str) -> str | None:
    """Say why an index cannot hold a path, or None where it can."""
    if any(ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0 for character in path) or "\\" in path:
        return "a control character or a backslash in the name"
    try:
        length = len(path.encode())
    except UnicodeEncodeError:
        return "not UTF-8"
    if length > INDEX_PATH_MAX:
        return f"longer than {INDEX_PATH_MAX} bytes"
    if path.startswith("/"):
        return "an absolute path"
    if any(component in ("", ".", "..") for component in path.split("/")):
        return "an empty, `.` or `..` component"
    return None


def parse_index(text: str, code: Code) -> tuple[IndexLine, ...]:
    """Read an index; its lines come back sorted by path, whatever their order was.

    Args:
        text: the whole file; the newline at its end may be absent.
        code: the code of the error.

    Raises:
        FormatError: with `code`, for an empty index and for any line that is not exactly as above.
    """
    if len(text) > INDEX_MAX:
        raise FormatError(code, f"an index of {len(text)} characters, at most {INDEX_MAX} allowed")
    rows = text.removesuffix("\n").split("\n")
    if len(rows) > INDEX_FILES_MAX:
        raise FormatError(code, f"an index of {len(rows)} lines, at most {INDEX_FILES_MAX} allowed")
    lines: dict[str, IndexLine] = {}
    for number, row in enumerate(rows, start=1):
        match = _LINE.fullmatch(row)
        if match is None:
            raise FormatError(code, f"line {number}: not 64 lower-case hex digits, two spaces and a path")
        digest, path = match.groups()
        fault = path_fault(path)
        if fault is not None:
            raise FormatError(code, f"line {number}: {path[:256]!r}: {fault}")
        if path in lines:
            raise FormatError(code, f"line {number}: {path[:256]!r} stands twice")
        lines[path] = IndexLine(bytes.fromhex(digest), path)
    return _sorted(lines.values())


def format_index(lines: Iterable[IndexLine]) -> str:
    """Write an index, sorted by path as bytes (the order of `LC_ALL=C sort -k 2`).

    Raises:
        FormatError: `policy.malformed`, for a path that no index can hold, or that stands twice.
    """
    ordered = _sorted(lines)
    seen: set[str] = set()
    for line in ordered:
        fault = "stands twice" if line.path in seen else path_fault(line.path)
        if fault is not None:
            raise FormatError(Code.POLICY_MALFORMED, f"{line.path[:256]!r}: {fault}")
        seen.add(line.path)
    return "".join(f"{line.sha256.hex()}  {line.path}\n" for line in ordered)


def compare_indexes(old: Iterable[IndexLine], new: Iterable[IndexLine]) -> IndexDifference:
    """Compare two indexes, path by path."""
    before: Mapping[str, IndexLine] = {line.path: line for line in old}
    after: Mapping[str, IndexLine] = {line.path: line for line in new}
    both = _sorted(line for line in after.values() if line.path in before)
    return IndexDifference(
        added=_sorted(line for line in after.values() if line.path not in before),
        removed=_sorted(line for line in before.values() if line.path not in after),
        changed=tuple((before[line.path], line) for line in both if line != before[line.path]),
    )


def _sorted(lines: Iterable[IndexLine]) -> tuple[IndexLine, ...]:
    # Paths that cannot be encoded are refused elsewhere; sorting them must not fail.
    return tuple(sorted(lines, key=lambda line: line.path.encode(errors="replace")))
