"""The commands of docs/keys.md do what they are there for."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from softhsm import SoftHsm, needs_softhsm

ROOT = Path(__file__).resolve().parents[2]

pytestmark = needs_softhsm


def test_a_token_for_trying_it_out(tmp_path: Path) -> None:
    (commands,) = re.findall(r"```\n(softhsm2-util.*?)```", (ROOT / "docs" / "keys.md").read_text(), re.DOTALL)
    for file in (ROOT / "examples" / "policies").iterdir():
        shutil.copy(file, tmp_path)
    shutil.copy(tmp_path / "sgx.toml", tmp_path / "policy.toml")
    token = SoftHsm(tmp_path / "hsm", label="other")
    environment = token.environment | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}

    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", commands],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert "pkcs11:token=proxy" in done.stdout
    status = subprocess.run(
        ["proxy-attestation", "status", "STATE"], cwd=tmp_path, env=environment, capture_output=True, text=True,
        timeout=60, check=True,
    )  # fmt: skip
    assert "keys           pkcs11" in status.stdout
