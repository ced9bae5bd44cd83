"""Print how much code is trusted, and what stands beside it.

Part one counts the rooms that a certificate depends on: lines of code without docstrings, comments and blanks.
Part two starts a proxy and lists every package and shared library that the authority and a worker have loaded.
"""

import ast
import io
import os
import re
import sys
import tempfile
import tokenize
from collections import defaultdict
from pathlib import Path

from proxy_attestation_simulator.harness import make_proxy

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "src" / "proxy_attestation"
ROOMS = ("formats", "appraisal", "policy", "authority", "service")
SHARED = ("log.py",)
"""Modules below the rooms that only they use."""
BUDGET = 6000
_NO_CODE = {
    tokenize.COMMENT,
    tokenize.NL,
    tokenize.NEWLINE,
    tokenize.INDENT,
    tokenize.DEDENT,
    tokenize.ENDMARKER,
}


def code_lines(source: str) -> int:
    """Count the lines of a module that hold code."""
    lines = {
        token.start[0] for token in tokenize.generate_tokens(io.StringIO(source).readline) if token.type not in _NO_CODE
    }
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str):
            lines -= set(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    return len(lines)


def count() -> int:
    """Print the table of rooms and return the total."""
    total = 0
    for room in (*ROOMS, *SHARED):
        files = sorted((PACKAGE / room).glob("*.py")) if room in ROOMS else [PACKAGE / room]
        lines = sum(code_lines(path.read_text()) for path in files)
        total += lines
        print(f"{room:<12} {lines:>6} lines of code in {len(files):>2} files")
    print(f"{'together':<12} {total:>6} of {BUDGET}")
    return total


def loaded(trace: str) -> dict[str, set[str]]:
    """Return top-level packages and their modules, from the trace of `-X importtime`."""
    modules: dict[str, set[str]] = defaultdict(set)
    for name in re.findall(r"^import time:\s+\d+ \|\s+\d+ \|\s+(\S+)$", trace, re.MULTILINE):
        modules[name.split(".")[0]].add(name)
    return dict(sorted(modules.items()))


def lines_loaded(modules: set[str]) -> int:
    """Count the trusted lines among modules of the package."""
    names = [name.split(".")[1:] for name in modules]
    paths = [PACKAGE.joinpath(*name).with_suffix(".py") for name in names if name and name[0] in ROOMS]
    return sum(code_lines(path.read_text()) for path in paths if path.exists())


def libraries(pid: int) -> list[str]:
    """Return the shared libraries that a process has mapped."""
    paths = set()
    try:
        lines = Path(f"/proc/{pid}/maps").read_text().splitlines()
    except PermissionError:
        return ["(none to see: the process forbids it to all but root)"]
    for line in lines:
        path = line.split(maxsplit=5)[-1]
        if ".so" in path and path.startswith("/"):
            paths.add(Path(path).name)
    return sorted(paths)


def beside() -> None:
    """Start a proxy and print what its authority and a worker have loaded."""
    os.environ["PYTHONPROFILEIMPORTTIME"] = "1"  # every Python below writes the modules that it imports to its log
    with tempfile.TemporaryDirectory() as scratch:
        proxy = make_proxy(Path(scratch))
        proxy.start()
        try:
            mapped = {"authority": libraries(proxy.authority_pid()), "worker": libraries(proxy.worker_pids()[0])}
        finally:
            proxy.stop()
        packages = loaded(proxy.log.read_text())
    for role, names in mapped.items():
        print(f"\n{role}: {len(names)} shared libraries and extension modules\n  {' '.join(names)}")
    others = [name for name in packages if name not in sys.stdlib_module_names and not name.startswith("_")]
    print("\nsupervisor, authority and worker together: packages (modules imported)")
    print("  " + ", ".join(f"{name} ({len(packages[name])})" for name in others))
    print(f"  and {len(packages) - len(others)} of the standard library")
    print(
        f"  of the trusted rooms {lines_loaded(packages['proxy_attestation'])} lines of code, packages' own files aside"
    )


def main() -> int:
    """Print both parts; exit with 1 when the code is over its budget."""
    total = count()
    beside()
    return 1 if total > BUDGET else 0


if __name__ == "__main__":
    sys.exit(main())
