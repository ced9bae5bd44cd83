"""The simulated measurement of a program: the files of the `proxy_attestation` package that its interpreter imports.

A real TEE measures what it loads before it runs. Here that is every file of the package but `__pycache__`, one line
each as `sha256sum` prints it (64 hex digits, two spaces, the path from the package's parent), sorted by path as bytes.
MRENCLAVE is the SHA-256 of these lines, MRTD their SHA-384. The command line, the application and its parameters are
not in it, nor are the interpreter and other packages: this shows how measurements behave, and protects nothing.

One thing of the command line counts: `proxy-attestation serve` measures as an image of its own, one line longer. Real
proxies and loaders are different images, and a proxy refuses a policy that could take one for the other.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import dropwhile, pairwise
from pathlib import Path
from typing import Final

from proxy_attestation_simulator.errors import SimulatorError

PACKAGE: Final = "proxy_attestation"

_PROBE: Final = f"""
import importlib.util, json, sys
if len(sys.argv) > 1:
    sys.path.insert(0, sys.argv[1])
spec = importlib.util.find_spec({PACKAGE!r})
print(json.dumps([] if spec is None else list(spec.submodule_search_locations or [])))
"""
_PROGRAM: Final = "proxy-attestation"
_SERVE: Final = "serve"
_OF_THE_PROXY: Final = frozenset({_SERVE, "keys", "recover"})
"""Commands of the proxy's image: what serves, and what receives its keys there."""
_PROBE_TIMEOUT_S: Final = 60
_SHEBANG_MAX: Final = 4096
_TRAMPOLINE: Final = re.compile(rb"""'''exec' "?([^"\s]+)"? """)
"""Second line of a console script whose interpreter's path does not fit into a shebang: `/bin/sh` runs it."""
_PYTHON: Final = re.compile(r"python[0-9.]*")
_ENDS_OPTIONS: Final = "cm"
_TAKES_VALUE: Final = "WX"


@dataclass(frozen=True, slots=True)
class Measurement:
    """What a program measures.

    Attributes:
        mr_enclave: SHA-256 of the lines, 32 bytes.
        mr_td: SHA-384 of the lines, 48 bytes.
        index: the lines.
    """

    mr_enclave: bytes
    mr_td: bytes
    index: str


@dataclass(frozen=True, slots=True)
class Interpreter:
    """How a command starts Python.

    Attributes:
        arguments: the interpreter and its options.
        script_directory: what Python puts first on its path when it runs a script, or None where it runs none.
    """

    arguments: tuple[str, ...]
    script_directory: str | None = None


def measure_command(command: Sequence[str]) -> Measurement:
    """Measure a program by the command that starts it. An empty command is the interpreter that runs this.

    Raises:
        SimulatorError: there is no such program, or its interpreter has no such package.
    """
    interpreter = interpreter_of(command) if command else Interpreter((sys.executable,))
    return measure_package(package_directory(interpreter), serves=_serves(command))


def _serves(command: Sequence[str]) -> bool:
    return any(Path(word).name == _PROGRAM and following in _OF_THE_PROXY for word, following in pairwise(command))


def measure_package(directory: Path, *, serves: bool = False) -> Measurement:
    """Measure a package by its directory; `serves` tells whether it is the proxy's image.

    Raises:
        SimulatorError: it has no files, or one with a line break in its name, or one that cannot be read.
    """
    parent = directory.parent
    paths = [path for path in directory.rglob("*") if "__pycache__" not in path.parts and path.is_file()]
    lines = []
    try:
        for name, path in sorted((os.fsencode(path.relative_to(parent)), path) for path in paths):
            if b"\n" in name or b"\\" in name:
                raise SimulatorError(f"{path}: this name cannot stand in an index")
            lines.append(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  {os.fsdecode(name)}\n")
    except OSError as error:
        raise SimulatorError(f"cannot measure {directory}: {error}") from error
    if not lines:
        raise SimulatorError(f"{directory} has no files to measure")
    if serves:
        lines.append(f"{hashlib.sha256(_SERVE.encode()).hexdigest()}  {_SERVE}\n")
    index = "".join(lines)
    data = os.fsencode(index)
    return Measurement(hashlib.sha256(data).digest(), hashlib.sha384(data).digest(), index)


def interpreter_of(command: Sequence[str]) -> Interpreter:
    """Find the interpreter that a command starts.

    It is COMMAND[0] where that is a Python, else the Python that the script COMMAND[0] names in its first line, else
    the one that runs this.

    Raises:
        SimulatorError: there is no such program.
    """
    program = shutil.which(command[0])
    if program is None:
        raise SimulatorError(f"there is no program {command[0]!r}")
    if _PYTHON.fullmatch(Path(program).name):
        return _python(program, command[1:])
    with Path(program).open("rb") as file:
        head = file.read(_SHEBANG_MAX)
    first, _, rest = head.partition(b"\n")
    if not first.startswith(b"#!"):
        return Interpreter((sys.executable,))
    words = [os.fsdecode(word) for word in first[2:].split()]
    if words and Path(words[0]).name == "env":
        words = list(dropwhile(lambda word: word.startswith("-") or "=" in word, words[1:]))
        words[:1] = [found for word in words[:1] if (found := shutil.which(word))]
    trampoline = _TRAMPOLINE.match(rest)
    if trampoline:
        words = [os.fsdecode(trampoline[1])]
    if not words or not _PYTHON.fullmatch(Path(words[0]).name):
        return Interpreter((sys.executable,))
    return _script(tuple(words), program)


def _script(interpreter: tuple[str, ...], script: str) -> Interpreter:
    return Interpreter(interpreter, str(Path(script).resolve().parent))


def _python(program: str, arguments: Sequence[str]) -> Interpreter:
    """Take Python's own options off a command line, up to `-m`, `-c` or a script."""
    options = [program]
    rest = iter(arguments)
    for argument in rest:
        if argument == "-" or not argument.startswith("-"):
            return Interpreter(tuple(options)) if argument == "-" else _script(tuple(options), argument)
        if argument.startswith("--"):
            continue
        letters = argument[1:]
        at = next((i for i, letter in enumerate(letters) if letter in _ENDS_OPTIONS + _TAKES_VALUE), None)
        if at is None:
            options.append(argument)
        elif letters[at] in _ENDS_OPTIONS:
            return Interpreter((*options, f"-{letters[:at]}") if at else tuple(options))
        else:
            options.append(argument)
            options += [next(rest, "")] if at == len(letters) - 1 else []
    return Interpreter(tuple(options))


def package_directory(interpreter: Interpreter) -> Path:
    """Ask an interpreter where it would import the package from; nothing of the package is run.

    Raises:
        SimulatorError: it cannot be asked, or has no such package.
    """
    arguments = [*interpreter.arguments]
    isolated = any(option.startswith("-") and set("IP") & set(option) for option in arguments[1:])
    if interpreter.script_directory is not None:
        arguments += ["-P", "-c", _PROBE]
        arguments += [] if isolated else [interpreter.script_directory]
    else:
        arguments += ["-c", _PROBE]
    try:
        done = subprocess.run(
            arguments, stdin=subprocess.DEVNULL, capture_output=True, timeout=_PROBE_TIMEOUT_S, check=True
        )
        locations: Iterable[str] = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        raise SimulatorError(f"cannot ask {arguments[0]} where {PACKAGE} is: {error}") from error
    directories = [Path(location) for location in locations]
    if len(directories) != 1:
        raise SimulatorError(f"{arguments[0]} imports {PACKAGE} from {len(directories)} places, not from one")
    return directories[0].resolve()
