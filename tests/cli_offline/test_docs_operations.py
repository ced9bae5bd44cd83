"""docs/operations.md: whoever types what the runbooks say gets where they say."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from proxy_attestation.cli.main import group

PROJECT = Path(__file__).parents[2]
DOCUMENT = (PROJECT / "docs" / "operations.md").read_text()
RUNBOOKS = DOCUMENT.partition("\n## Runbooks\n")[2]
BLOCKS = re.findall(r"^```sh\n(.*?)^```$", RUNBOOKS, re.DOTALL | re.MULTILINE)
INLINE = re.findall(r"`((?:owner|revoke|policy|ca|ledger) [^`]+)`", RUNBOOKS)
# The example has no entry that takes tokens.
VAULT = '\n[[workload]]\nname = "vault"\ntee = "sgx"\nmr_enclave = ["{}"]\nowner = {{ enrolment = true }}\n'


def run(directory: Path, *blocks: str, status: int = 0) -> str:
    """Run blocks one after the other in one shell; return what they printed."""
    done = subprocess.run(
        ["bash", "-c", "set -euo pipefail\n" + "\n".join(blocks)],
        cwd=directory,
        env={"PATH": f"{Path(sys.executable).parent}:{os.defpath}", "HOME": str(directory)},
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    assert done.returncode == status, done.stdout[-2000:] + done.stderr[-2000:]
    return done.stdout if status == 0 else done.stdout + done.stderr


def of(words: str) -> str:
    """Return the one block that has these words."""
    (block,) = [str(block) for block in BLOCKS if words in block]
    return block


CEREMONY, BACKUP, RESTORE = of("init STATE"), of("state.tar STATE"), of("restored/STATE/run")
LIFE, STOLEN, TOKEN, DENY = of("ca succeed"), of("ca-compromise"), of("owner token"), of("[deny]")


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The policy and its index."""
    if shutil.which("openssl") is None:
        pytest.skip("the signers make their keys with openssl")
    for name in ("sgx.toml", "reproducibility_index"):
        shutil.copy(PROJECT / "examples" / "policies" / name, tmp_path)
    text = (tmp_path / "sgx.toml").read_text() + VAULT.format("77" * 32)
    (tmp_path / "policy.toml").write_text(text)
    return tmp_path


def test_every_block_is_run_here() -> None:
    assert len(BLOCKS) == len({CEREMONY, BACKUP, RESTORE, LIFE, STOLEN, TOKEN, DENY})


@pytest.mark.slow
def test_ceremony_rotation_compromise_and_a_broken_vendor(place: Path) -> None:
    stolen = run(place, CEREMONY, LIFE, STOLEN, TOKEN, DENY, "echo; echo $stolen").splitlines()[-1]
    assert len(bytes.fromhex(stolen)) == 32
    assert (place / "roots.pem").read_text().count("BEGIN CERTIFICATE") == 2
    assert (place / "token").read_text().strip()
    # What was revoked has left the bundle.
    cas = json.loads(run(place, "proxy-attestation ca list STATE --json"))["cas"]
    assert stolen not in {ca["pin"] for ca in cas}
    history = json.loads(run(place, "proxy-attestation policy log STATE --json"))["versions"]
    assert [one["signers"] for one in history] == [["alice", "bob"], ["alice", "carol"]]
    for name in ("root.key", "log.key"):
        assert (place / "STATE" / "keys" / name).stat().st_mode & 0o077 == 0


@pytest.mark.slow
def test_backup_and_restore(place: Path) -> None:
    run(place, CEREMONY, BACKUP, RESTORE)
    before, after = (run(place, f"proxy-attestation status {state}") for state in ("STATE", "restored/STATE"))
    assert after == before
    assert not (place / "restored" / "STATE" / "run" / "serve.lock").exists()


@pytest.mark.slow
def test_a_copy_that_is_behind_says_so(place: Path) -> None:
    """The page's last command of a restore is refused when more was published than the copy has."""
    later = "proxy-attestation ca rotate STATE\nproxy-attestation ledger export STATE backup/ledger"
    told = run(place, CEREMONY, BACKUP, later, RESTORE, status=3)
    assert "ledger.rollback" in told


@pytest.mark.parametrize("line", INLINE)
def test_a_command_in_the_text_exists_with_its_options(line: str) -> None:
    arguments = line.split()
    command: click.Command = group
    context = click.Context(group)
    while isinstance(command, click.Group):
        found = command.get_command(context, arguments[0])
        assert found is not None, line
        command, arguments = found, arguments[1:]
    options = {name for parameter in command.params for name in (*parameter.opts, *parameter.secondary_opts)}
    assert {argument for argument in arguments if argument.startswith("-")} <= options
