"""Which step of which walk an error comes from, read from the tags in the source: `# 7b`, `Step 4: ...`."""

import ast
import linecache
import re
from functools import cache
from pathlib import Path
from typing import Final

from proxy_attestation.errors import ProxyAttestationError

_NUMBERS: Final = r"C?\d+[a-d]?(?:(?:, | and | to )C?\d+[a-d]?)*"
_TAG: Final = re.compile(rf"^\s*# ({_NUMBERS})$")
_DOCSTRING: Final = re.compile(rf"^Steps? ({_NUMBERS})[,:.]")


def step_of(error: BaseException) -> tuple[str, frozenset[str]]:
    """Return the module and the numbers of the innermost tagged block that an error passed through.

    A tag holds for the lines below it, up to the next; one in a function's docstring for those above its first tag.
    """
    found: tuple[str, frozenset[str]] = ("", frozenset())
    if isinstance(error.__cause__, ProxyAttestationError):
        # Where it was translated; the cause tells more, unless it never left the decoder.
        found = step_of(error.__cause__)
        if found[0]:
            return found
    trace = error.__traceback__
    while trace is not None:
        code = trace.tb_frame.f_code
        tag = _tag(code.co_filename, code.co_name, code.co_firstlineno, trace.tb_lineno)
        if tag:
            found = (Path(code.co_filename).stem, _numbers(tag))
        trace = trace.tb_next
    return found


def _tag(path: str, name: str, first: int, at: int) -> str | None:
    for line in range(at, first, -1):
        tag = _TAG.match(linecache.getline(path, line))
        if tag:
            return tag[1]
    described = _DOCSTRING.match(_docstrings(path).get((name, first), ""))
    return described[1] if described else None


@cache
def _docstrings(path: str) -> dict[tuple[str, int], str]:
    if "proxy_attestation/appraisal" not in path:
        return {}
    functions = (node for node in ast.walk(ast.parse(Path(path).read_text())) if isinstance(node, ast.FunctionDef))
    return {(node.name, node.lineno): ast.get_docstring(node) or "" for node in functions}


def _numbers(text: str) -> frozenset[str]:
    first, to, last = text.partition(" to ")
    if to:
        return frozenset(str(number) for number in range(int(first), int(last) + 1))
    return frozenset(re.split(", | and ", text))
