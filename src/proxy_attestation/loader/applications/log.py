"""What an application writes to its standard error, as lines of the loader's log."""

from typing import Final

_PREFIX: Final = "application: "
_LINES_MAX: Final = 100
_LINE_MAX: Final = 1024


def application_lines(data: bytes) -> list[str]:
    """Return prefixed lines that steer no terminal and look like nothing but an application's.

    Args:
        data: what one call wrote.

    Returns:
        At most 101 lines of at most 1024 characters after the prefix, where what is not printable, or not UTF-8, is
        escaped as Python does; the last one says how many more there were.
    """
    lines = data.decode("utf-8", "backslashreplace").removesuffix("\n").split("\n") if data else []
    told = [_PREFIX + _escape(line) for line in lines[:_LINES_MAX]]
    if len(lines) > _LINES_MAX:
        told.append(f"{_PREFIX}({len(lines) - _LINES_MAX} more lines)")
    return told


def _escape(line: str) -> str:
    # Cut first as well: escaping makes a character ten at most, and never none.
    clean = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in line[:_LINE_MAX])
    return clean[:_LINE_MAX]
