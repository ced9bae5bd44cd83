"""docs/policy-history.md: an operator and signers who type what it says get where it says."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from proxy_attestation.codes import Code

PROJECT = Path(__file__).parents[2]
DOCUMENT = (PROJECT / "docs" / "policy-history.md").read_text()
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", DOCUMENT, re.DOTALL | re.MULTILINE)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="the signers make their keys with openssl")
def test_every_command_does_what_the_document_says(tmp_path: Path) -> None:
    for name in ("sgx.toml", "reproducibility_index"):
        shutil.copy(PROJECT / "examples" / "policies" / name, tmp_path)
    (tmp_path / "sgx.toml").rename(tmp_path / "policy.toml")
    script = "set -euo pipefail\n" + "\n".join(BLOCKS)
    done = subprocess.run(
        ["bash", "-c", script],
        cwd=tmp_path,
        env={"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    (log,) = [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"signers"')]
    assert [(one["version"], one["kept"], one["signers"]) for one in log["versions"]] == [
        (1, True, ["alice", "bob"]),
        (2, True, ["bob", "carol"]),
    ]
    assert log["threshold"] == 2
    assert "+ [deny] advisories INTEL-SA-00615" in done.stdout.splitlines()


def test_there_are_commands() -> None:
    assert len(BLOCKS) >= 6


def test_every_refusal_is_listed() -> None:
    listed = set(re.findall(r"^\| `(policy\.[a-z]+)`", DOCUMENT, re.MULTILINE))
    assert listed == {Code.POLICY_UNSIGNED, Code.POLICY_SIGNATURE, Code.POLICY_STALE, Code.POLICY_MALFORMED}
