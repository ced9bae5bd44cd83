"""docs/reference-values.md: its commands run, its entry is a policy, its tables have every code."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from corim_files import manifest, public_pem
from reference_files import HEAD, eif, event_log, firmware, sigstruct

from proxy_attestation.codes import Code
from proxy_attestation.policy.load import load_policy

pytest.importorskip("sevsnpmeasure", reason="the extra `measure` is not installed")

TEXT = (Path(__file__).parents[2] / "docs" / "reference-values.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", TEXT, re.DOTALL | re.MULTILINE)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with the files that the page speaks of, and the command on the path."""
    program = tmp_path / "bin" / "proxy-attestation"
    program.parent.mkdir()
    program.write_text(
        f"#!/bin/sh\nexec '{sys.executable}' -W error -c 'from proxy_attestation.cli.main import main; main()' \"$@\"\n"
    )
    program.chmod(0o755)
    files = {
        "app.sig": sigstruct(),
        "OVMF.fd": firmware(),
        "vmlinuz": b"kernel",
        "initrd.img": b"initrd",
        "example.eif": eif(),
        "eventlog": event_log((0, 5, b"a"), (4, 5, b"b"), bank="sha256"),
        "ccel": event_log((1, 5, b"a"), (2, 5, b"b"), (3, 5, b"c")),
        "vendor.corim": manifest(),
        "vendor.pem": public_pem(),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    return tmp_path


def run(directory: Path, script: str) -> str:
    path = f"{directory / 'bin'}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["sh", "-e", "-c", script],
        cwd=directory, env={**os.environ, "PATH": path}, capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_command_runs_and_what_is_signed_is_a_policy(directory: Path) -> None:
    shown = "".join(run(directory, block) for block in blocks("sh"))
    keys = dict(re.findall(r"^signer ((?:alice|bob)\.example\.org)(\+\S+)$", shown, re.MULTILINE))
    assert len(keys) == 2
    (entry,) = blocks("toml")
    for name, rest in keys.items():
        entry = entry.replace(f'"{name}+..."', f'"{name}{rest}"')
    (directory / "policy.toml").write_text(HEAD + entry)
    assert "pcr0" in load_policy(directory / "policy.toml").workloads["example"].pins
    assert "reference-values/v1" in (directory / "values.toml.note").read_text()


def test_every_code_stands_in_a_table() -> None:
    listed = set(re.findall(r"^\| `(reference\.\w+)` \|", TEXT, re.MULTILINE))
    assert listed == {str(code) for code in Code if code.startswith("reference.")}
