"""Runs `proxy-attestation` in this process: as `command_line` does, without the time that a process takes."""

import contextlib
import io
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from proxy_attestation.cli.main import group
from proxy_attestation.cli.output import run

GOOD, REFUSED, USAGE, MALFORMED, UNAVAILABLE = 0, 3, 2, 4, 5


@dataclass(frozen=True)
class Ran:
    """What a command wrote."""

    stdout: str
    stderr: str


def call(*arguments: str | Path, status: int = GOOD) -> Ran:
    out, err = io.StringIO(), io.StringIO()
    before = sys.argv
    sys.argv = ["proxy-attestation", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            found = run(group)
    finally:
        sys.argv = before
    assert found == status, out.getvalue() + err.getvalue()
    return Ran(out.getvalue(), err.getvalue())


def call_json(*arguments: str | Path, status: int = GOOD) -> Any:
    return json.loads(call(*arguments, "--json", status=status).stdout)
