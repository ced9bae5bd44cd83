"""A tree of named values with their meanings: lines for people, or JSON."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

_LONG: Final = 64
"""Characters of a value beside which its meaning still fits on a line."""
Scalar: TypeAlias = "str | int | bool | None"
Value: TypeAlias = "Scalar | tuple[Node, ...] | list[str] | list[tuple[Node, ...]]"


@dataclass(frozen=True, slots=True)
class Node:
    """One thing that a file holds.

    Attributes:
        name: snake_case; in JSON it is the key.
        value: a scalar, the nodes below, a list of texts, or a list of nodes that belong together.
        meaning: what it stands for, for people.
    """

    name: str
    value: Value
    meaning: str = ""


def tree_to_json(nodes: Sequence[Node]) -> dict[str, object]:
    """Return nodes as a JSON object."""
    return {node.name: _to_json(node.value) for node in nodes}


def _to_json(value: Value) -> object:
    if isinstance(value, tuple):
        return tree_to_json(value)
    if isinstance(value, list):
        return [tree_to_json(item) if isinstance(item, tuple) else item for item in value]
    return value


def tree_lines(nodes: Sequence[Node], indent: str = "  ") -> Iterator[str]:
    """Return nodes as aligned lines; what a file says is printed without its control characters."""
    width = max((len(node.name) for node in nodes), default=0)
    for node in nodes:
        meaning = f"  -- {node.meaning}" if node.meaning else ""
        if isinstance(node.value, tuple):
            yield f"{indent}{node.name}{meaning}"
            yield from tree_lines(node.value, indent + "  ")
        elif isinstance(node.value, list):
            yield from _list_lines(node.name, node.value, meaning, indent)
        else:
            value = _readable(node.value)
            if meaning and len(value) > _LONG:
                yield f"{indent}{node.name:<{width}}{meaning}"
                yield f"{indent}{'':<{width}}  {value}"
            else:
                yield f"{indent}{node.name:<{width}}  {value}{meaning}"


def _list_lines(name: str, values: Sequence[str | tuple[Node, ...]], meaning: str, indent: str) -> Iterator[str]:
    yield f"{indent}{name}{'' if values else '  none'}{meaning}"
    for number, value in enumerate(values):
        if isinstance(value, tuple):
            yield f"{indent}  [{number}]"
            yield from tree_lines(value, indent + "    ")
        else:
            yield f"{indent}  {_readable(value)}"


def _readable(value: Scalar) -> str:
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "true" if value else "false"
    # A name inside a certificate could otherwise write to the terminal.
    return "".join(c if c.isprintable() else c.encode("unicode_escape", "surrogatepass").decode() for c in str(value))
