"""Runs `proxy-attestation` as people do: as a process."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

PROGRAM = [sys.executable, "-W", "error", "-c", "from proxy_attestation.cli.main import main; main()"]
GOOD, REFUSED, USAGE, MALFORMED, UNAVAILABLE = 0, 3, 2, 4, 5


def call(*arguments: str | Path, status: int = GOOD) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([*PROGRAM, *map(str, arguments)], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    return done


def call_json(*arguments: str | Path, status: int = GOOD) -> Any:
    return json.loads(call(*arguments, "--json", status=status).stdout)
