"""Go's own checker of transparency logs (golang.org/x/mod/sumdb), for tests; tests/transparency/go says why it."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

SOURCE: Final = Path(__file__).resolve().parents[1] / "transparency" / "go" / "main.go"
_GOPATH: Final = Path("/usr/share/gocode")
"""Where Debian's golang-golang-x-mod-dev puts the library."""


class Checker:
    """The built program."""

    def __init__(self, program: Path) -> None:
        self._program = program

    def run(self, folder: Path, vkey: str, **options: list[str | Path]) -> subprocess.CompletedProcess[str]:
        """Check a log's folder; `cosigner`, `proof` and `older` are lists of what these options name."""
        more = [part for name, values in options.items() for value in values for part in (f"-{name}", str(value))]
        command = [str(self._program), str(folder), vkey, *more]
        return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)

    def check(self, folder: Path, vkey: str, **options: list[str | Path]) -> Any:
        """Check a log's folder; return what it has, size and root."""
        done = self.run(folder, vkey, **options)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


def build_checker(folder: Path) -> Checker:
    """Build the program, or skip the test."""
    go = shutil.which("go")
    if go is None or not (_GOPATH / "src" / "golang.org" / "x" / "mod" / "sumdb").is_dir():
        pytest.skip("no Go with golang.org/x/mod here (Debian: golang-go, golang-golang-x-mod-dev)")
    environment = {**os.environ, "GO111MODULE": "off", "GOPATH": str(_GOPATH), "GOCACHE": str(folder / "cache")}
    program = folder / "checker"
    subprocess.run([go, "build", "-o", str(program), str(SOURCE)], env=environment, check=True, timeout=110)
    return Checker(program)
