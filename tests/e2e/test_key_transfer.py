"""Hand-over and recovery with real processes: commands as docs/keys.md has them, the asking proxy on a simulated TEE.

Keys are plain files here, since no process here has a TEE's secret; tests/authority/test_key_transfer.py seals them.
"""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest
from command_line import REFUSED, call, call_json
from signers import key_files, sign

from proxy_attestation_simulator.files import write_endorsements
from proxy_attestation_simulator.harness import RunningProxy, default_policy
from proxy_attestation_simulator.intel import Vendor

pytestmark = pytest.mark.e2e

BIN: Final = Path(sys.executable).parent
SIMULATOR: Final = str(BIN / "proxy-attestation-simulator")
PROGRAM: Final = str(BIN / "proxy-attestation")
WAIT_S: Final = 90.0


@dataclass
class House:
    """An authority with signers and custodians, its statement, and a backup of it without keys."""

    directory: Path
    vendor: Vendor
    state: Path
    backup: Path
    judging: tuple[str | Path, ...]

    @contextmanager
    def asking(self, *command: str | Path) -> Iterator[subprocess.Popen[str]]:
        """Run a command on the simulated platform until it has written its request."""
        request = self.directory / "r"
        request.unlink(missing_ok=True)
        run = [SIMULATOR, "run", "--dir", str(self.directory / "vendor"), "--tee", "sgx", "--", PROGRAM]
        more = ["--tee", "sgx", "--attester", "simulator:{fd}", "--request", str(request), "--wait", "60", "--json"]
        with subprocess.Popen([*run, *map(str, command), *more], stdout=subprocess.PIPE, text=True) as process:
            try:
                end = time.monotonic() + WAIT_S
                while not request.exists():
                    assert process.poll() is None
                    assert time.monotonic() < end
                    time.sleep(0.02)
                yield process
            finally:
                process.terminate()


def answer_of(process: subprocess.Popen[str]) -> Any:
    out, _ = process.communicate(timeout=WAIT_S)
    assert process.returncode == 0, out
    return json.loads(out)


@pytest.fixture
def house(tmp_path: Path) -> House:
    vendor = Vendor.create(datetime.now(UTC))
    vendor.save(tmp_path / "vendor")
    write_endorsements(vendor.endorsements("sgx", datetime.now(UTC)), tmp_path / "sets")
    policy = tmp_path / "policy.toml"
    policy.write_text(default_policy(vendor))
    sign(policy, "alice", "bob")
    people = key_files(tmp_path)
    for name in "pqr":
        subprocess.run(
            ["openssl", "genpkey", "-algorithm", "x25519", "-out", tmp_path / f"{name}.pem"], check=True,
            capture_output=True,
        )  # fmt: skip
        subprocess.run(
            ["openssl", "pkey", "-in", tmp_path / f"{name}.pem", "-pubout", "-out", tmp_path / f"{name}.pub"],
            check=True, capture_output=True,
        )  # fmt: skip
    state = tmp_path / "state"
    call(
        "init", state, "--trust-domain", "example.org", "--dns", "example.org", "--policy", policy,
        "--simulated", tmp_path / "vendor" / "root.der", "--threshold", "2", "--recovery-threshold", "2",
        *(word for name in ("alice", "bob") for word in ("--signer", f"{name}={people[name][1]}")),
        *(word for name in "pqr" for word in ("--custodian", f"{name}={tmp_path / name}.pub")),
    )  # fmt: skip
    backup = tmp_path / "backup"
    shutil.copytree(state, backup)
    shutil.rmtree(backup / "keys")
    note = tmp_path / "d.note"
    # The simulator measures the package, so that all its commands are one image, as on a real machine.
    measure = [SIMULATOR, "measure", "--dir", str(tmp_path / "vendor"), "--tee", "sgx", "--", PROGRAM, "serve"]
    measured = subprocess.run(measure, check=True, capture_output=True, text=True).stdout
    (tmp_path / "measured.toml").write_text(measured)
    note.write_text(call("deployment", "statement", state, "--expect", tmp_path / "measured.toml").stdout)
    for name in ("alice", "bob"):
        call("deployment", "sign", note, "--key", people[name][0], "--name", name, "--out", note)
    return House(tmp_path, vendor, state, backup, ("--statement", note, "--endorsements", tmp_path / "sets"))


def test_hand_over_by_a_running_proxy(house: House) -> None:
    giver = RunningProxy(house.directory, house.state, house.vendor, (PROGRAM,))
    giver.start()
    try:
        nonce = call_json("keys", "challenge", house.state)["nonce"]
        answer = house.directory / "a"
        with house.asking("keys", "receive", house.backup, "--nonce", nonce, "--answer", answer) as process:
            call("keys", "hand-over", house.state, house.directory / "r", *house.judging, "--out", answer)
            assert answer_of(process) == {"received": ["issuing-1", "log", "root"]}
        again = ("keys", "hand-over", house.state, house.directory / "r", *house.judging, "--out", answer)
        assert call_json(*again, status=REFUSED)["error"]["code"] == "keys.asked_nonce"
    finally:
        giver.stop()
    assert (house.backup / "keys" / "root.key").read_bytes() == (house.state / "keys" / "root.key").read_bytes()
    assert call_json("status", house.backup)["trust_domain"] == "example.org"


def test_recovery_by_two_custodians(house: House) -> None:
    approvals = [house.directory / name for name in ("a1", "a2")]
    options = [word for path in approvals for word in ("--approval", path)]
    with house.asking("recover", "receive", house.backup, *options) as process:
        for custodian, out in zip("rp", approvals, strict=True):
            mine = (
                "--share", house.state / "recovery" / f"{custodian}.share",
                "--key", house.directory / f"{custodian}.pem", "--authority", house.state / "authority.toml",
            )  # fmt: skip
            call("recover", "approve", house.directory / "r", *mine, *house.judging, "--out", out)
        assert answer_of(process) == {"recovered": ["issuing-1", "log", "root"]}
    assert (house.backup / "keys" / "log.key").read_bytes() == (house.state / "keys" / "log.key").read_bytes()
    giver = RunningProxy(house.directory, house.backup, house.vendor, (PROGRAM,))
    giver.start()
    assert giver.stop() == 0
