"""The proxy's own evidence end to end: a simulated platform, `serve`, signers, `root --expect`, the loader; a clone."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import pytest
from command_line import GOOD, MALFORMED, REFUSED, call, call_json

from proxy_attestation_simulator.files import write_endorsements
from proxy_attestation_simulator.harness import RunningProxy, default_policy, make_proxy
from proxy_attestation_simulator.intel import Vendor

pytestmark = pytest.mark.e2e

BIN: Final = Path(sys.executable).parent
SIMULATOR: Final = str(BIN / "proxy-attestation-simulator")
WAIT_S: Final = 90.0


def measure(vendor: Path, *command: str) -> str:
    """Return the policy lines of a program as an SGX enclave of the simulated vendor."""
    arguments = [
        SIMULATOR,
        "measure",
        "--dir",
        str(vendor),
        "--tee",
        "sgx",
        "--",
        str(BIN / "proxy-attestation"),
        *command,
    ]
    return subprocess.run(arguments, capture_output=True, text=True, check=True, timeout=WAIT_S).stdout


def attested(proxy: RunningProxy, vendor: Path) -> RunningProxy:
    """Have `serve` run on a simulated platform, and be quoted by it."""
    run = (SIMULATOR, "run", "--dir", str(vendor), "--tee", "sgx", "--")
    proxy.command = (*run, *proxy.command)
    proxy.arguments = [*proxy.arguments, "--attester", "simulator:{fd}"]
    return proxy


@dataclass
class House:
    """A proxy whose signers have signed, and a clone of it with a root of its own."""

    directory: Path
    proxy: RunningProxy
    clone: RunningProxy
    expect: Path
    endorsements: Path
    root: Path

    def root_command(self, proxy: RunningProxy, *more: str | Path, status: int = GOOD) -> dict[str, object]:
        url = f"https://{proxy.connect}"
        files = ("--endorsements", self.endorsements, "--roots", self.root)
        answer = call_json("root", url, "--expect", self.expect, *files, *more, status=status)
        return dict(answer)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    directory = tmp_path_factory.mktemp("house")
    vendor = Vendor.create(datetime.now(UTC))
    policy = default_policy(vendor)
    pins = directory / "vendor"
    vendor.save(pins)
    policy += f'\n[[workload]]\nname = "loaded"\n{measure(pins, "load", "app.toml")}owner = {{ shared = true }}\n'
    measured = measure(pins, "serve", "STATE")
    (directory / "measured.toml").write_text(measured)
    made = []
    for name in ("proxy", "clone"):
        (directory / name).mkdir()
        made.append(attested(make_proxy(directory / name, vendor=vendor, policy=policy), pins))
    proxy, clone = made
    endorsements = directory / "collateral"
    write_endorsements(vendor.endorsements("sgx", datetime.now(UTC)), endorsements)
    alice = sign(directory, proxy.state)
    bob = call("deployment", "vkey", "--key", directory / "bob.pem", "--name", "bob").stdout
    expect = directory / "proxy.toml"
    expect.write_text(
        f'trust_domain = "example.org"\nsimulated = true\nkey_origin = ["file"]\n'
        f"signers = {json.dumps([alice, bob.strip()])}\nthreshold = 2\n"
        + "".join(line + "\n" for line in measured.splitlines() if line.startswith(("tee", "mr_enclave")))
    )
    # A clone: the same image, policy and statement, and keys that it made itself.
    for one in made:
        one.start()
    yield House(directory, proxy, clone, expect, endorsements, pins / "root.der")
    for one in made:
        one.stop()


SIGNERS: Final = ("alice", "bob")


def document_lines(first: str) -> list[str]:
    """Return the commands of the block of docs/proxy-evidence.md that begins so."""
    text = (Path(__file__).parents[2] / "docs" / "proxy-evidence.md").read_text()
    blocks: list[str] = re.findall(r"^```sh\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return next(block for block in blocks if block.startswith(f"proxy-attestation {first}")).splitlines()


def run_line(line: str, directory: Path) -> str:
    """Run a command of the document as its reader does, in a directory."""
    line, _, target = line.partition(" > ")
    command = [str(BIN / "proxy-attestation"), *shlex.split(line)[1:]]
    done = subprocess.run(command, cwd=directory, capture_output=True, text=True, check=False, timeout=WAIT_S)
    assert done.returncode == GOOD, done.stderr
    if target:
        (directory / target).write_text(done.stdout)
    return done.stdout


def sign(directory: Path, state: Path) -> str:
    """Do what docs/proxy-evidence.md tells an operator and two signers to do; return the first one's vkey."""
    for name in SIGNERS:
        key = directory / f"{name}.pem"
        subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", key], check=True, capture_output=True)
    said = [run_line(line.replace("STATE", str(state)), directory) for line in document_lines("deployment statement")]
    return said[-1].strip()


def test_the_root_is_attested_without_a_pin(house: House, tmp_path: Path) -> None:
    answer = house.root_command(house.proxy, "--out", tmp_path / "root.pem")
    assert answer["attested"] is True
    assert answer["pin"] == house.proxy.root_pin
    assert answer["deployment_statement"] is True
    assert (tmp_path / "root.pem").read_bytes() == house.proxy.root_pem.read_bytes()


def test_the_command_of_the_document(house: House) -> None:
    (line,) = document_lines("root")
    line = line.replace("https://proxy.example.org:7444", f"https://{house.proxy.connect}")
    shown = run_line(f"{line} --roots {house.root}", house.directory)
    assert "evidence      sgx" in shown
    assert "measured      mr_enclave" in shown
    assert (house.directory / "root.pem").read_bytes() == house.proxy.root_pem.read_bytes()


def test_a_clone_with_a_root_of_its_own_is_refused(house: House) -> None:
    note = house.directory / "d.note"
    assert call_json("deployment", "install", house.clone.state, note, status=REFUSED)["error"]["code"] == (
        "proxy.statement_other"
    )
    answer = house.root_command(house.clone, status=REFUSED)
    assert answer["error"]["code"] == "proxy.no_statement"  # type: ignore[index] # JSON


def test_the_loader_attests_the_proxy_before_it_sends_anything(house: House, tmp_path: Path) -> None:
    loaded = run_loader(house, house.proxy, tmp_path / "a")
    assert loaded[0] == "ready"
    refused = run_loader(house, house.clone, tmp_path / "b")
    assert refused[0] == "proxy.no_statement"
    assert not [line for line in house.clone.log_lines() if line.get("rpc") == "GetChallenge"]


def run_loader(house: House, proxy: RunningProxy, directory: Path) -> tuple[str, int]:
    """Run the loader until it is ready or refuses; return which, and its exit status."""
    directory.mkdir()
    shutil.copytree(house.endorsements, directory / "endorsements")
    shutil.copy(house.expect, directory / "proxy.toml")
    shutil.copy(house.root, directory / "root.der")
    (directory / "app.toml").write_text(
        f'proxy = "https://{proxy.connect}"\nproxy_expect = "proxy.toml"\nproxy_endorsements = ["endorsements"]\n'
        'proxy_roots = ["root.der"]\ntrust_domain = "example.org"\nworkload = "loaded"\ntee = "sgx"\nlifetime = "1h"\n'
        'control = "load.sock"\n[[listener]]\naddress = "127.0.0.1:0"\nprotocol = "tcp"\n'
        '[application]\nkind = "address"\nconnect = "unix:app.sock"\n'
    )
    command = [SIMULATOR, "run", "--dir", str(house.directory / "vendor"), "--", str(BIN / "proxy-attestation"), "load"]
    started = subprocess.Popen(
        [*command, str(directory / "app.toml"), "--attester", "simulator:{fd}", "--json", "--wait", "60"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert started.stdout is not None
    try:
        for line in started.stdout:
            event = json.loads(line)
            if event.get("event") == "ready":
                return "ready", 0
            if "error" in event:
                return event["error"]["code"], 0
        return "ended", started.wait(WAIT_S)
    finally:
        started.terminate()
        started.communicate(timeout=WAIT_S)


def test_statements_below_the_minimum_are_refused(house: House) -> None:
    config = "sgx mr_signer " + "11" * 32
    error = call_json("status", house.proxy.state)
    assert error["trust_domain"] == "example.org"
    done = call("deployment", "statement", house.proxy.state, "--pin", config, status=MALFORMED)
    assert "proxy.statement_malformed" in done.stderr
