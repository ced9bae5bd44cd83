"""The command line in this process, and a simulated vendor with one machine of each kind."""

import contextlib
import io
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from proxy_attestation.cli.main import group
from proxy_attestation.cli.output import run
from proxy_attestation_simulator.intel import Vendor

NOW = datetime(2026, 11, 24, tzinfo=UTC)


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> dict[str, Any]:
        result: dict[str, Any] = json.loads(self.out)
        return result


@pytest.fixture
def cli(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Ran]:
    """Run `proxy-attestation` with these arguments."""

    def call(*arguments: str | Path, stdin: bytes = b"") -> Ran:
        monkeypatch.setattr(sys, "argv", ["proxy-attestation", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        out, err = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            status = run(group)
        return Ran(status, out.getvalue(), err.getvalue())

    return call


@pytest.fixture(scope="session")
def vendor() -> Vendor:
    return Vendor.create(NOW, secret=bytes(range(32)))


@pytest.fixture(scope="session")
def write() -> Callable[[Path, Mapping[str, bytes]], Path]:
    """Write files into a directory and return it."""

    def to(directory: Path, files: Mapping[str, bytes]) -> Path:
        directory.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            (directory / name).write_bytes(data)
        return directory

    return to
