"""Ownership through the shipped commands, `serve` and `load` on simulated machines, as docs/ownership.md shows them."""

import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import pytest

from proxy_attestation.loader.config_file import parse_config
from proxy_attestation.policy.load import parse_policy
from proxy_attestation_simulator.harness import RunningProxy, default_policy, make_proxy
from proxy_attestation_simulator.intel import Vendor

BIN: Final = Path(sys.executable).parent
DOCUMENT: Final = (Path(__file__).parents[2] / "docs" / "ownership.md").read_text()
COMMANDS: Final = re.findall(r"^\$ (.*)$", DOCUMENT, re.MULTILINE)
BLOCKS: Final = re.findall(r"^```toml\n(.*?)^```$", DOCUMENT, re.DOTALL | re.MULTILINE)
LOAD: Final = (str(BIN / "proxy-attestation"), "load", "app.toml")
WAIT_S: Final = 60.0
BASE: Final = """
proxy = "https://{connect}"
root_pin = "{pin}"
trust_domain = "example.org"
workload = "{workload}"
tee = "sgx"
control = "load.sock"
[names]
dns = ["{workload}.example.org"]
[[listener]]
address = "127.0.0.1:0"
protocol = "tcp"
[application]
kind = "address"
connect = "127.0.0.1:9"
"""


def block(start: str) -> str:
    (found,) = [text for text in BLOCKS if text.split("\n")[1].startswith(start)]
    return str(found)


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_every_block_of_the_document_loads(number: int, tmp_path: Path) -> None:
    text = BLOCKS[number]
    if text.startswith("[owner]"):
        good = BASE.format(connect="127.0.0.1:1", pin="ab" * 32, workload="billing")
        assert parse_config((good + text).encode(), tmp_path).owner.kind
        return
    subprocess.run(
        ["/bin/sh", "-ec", "\n".join(command for command in COMMANDS if command.startswith("openssl"))],
        cwd=tmp_path, check=True, capture_output=True, timeout=WAIT_S,
    )  # fmt: skip
    assert parse_policy(f'version = 1\ntrust_domain = "example.org"\n{text}', tmp_path).workloads


class Load:
    """`load` on one simulated machine, whose events are read line by line."""

    def __init__(self, proxy: RunningProxy, directory: Path, seed: str, *faults: str) -> None:
        self.directory = directory
        self.events: list[dict[str, Any]] = []
        self._changed = threading.Condition()
        self._ended = False
        arguments = [argument for fault in faults for argument in ("--fault", fault)]
        with (directory / "load.log").open("wb") as log:
            self.process = subprocess.Popen(
                [
                    BIN / "proxy-attestation-simulator", "run", "--dir", proxy.directory / "vendor", "--seed", seed,
                    *arguments, "--", *LOAD, "--attester", "simulator:{fd}", "--json", "--wait", "50",
                ],
                cwd=directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    @property
    def log(self) -> str:
        return (self.directory / "load.log").read_text()

    def _read(self) -> None:
        assert self.process.stdout is not None
        with self.process.stdout as stream:
            for line in stream:
                with self._changed:
                    self.events.append(json.loads(line))
                    self._changed.notify_all()
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def wait_for(self, event: str) -> dict[str, Any]:
        with self._changed:
            found: list[dict[str, Any]] = []

            def seen() -> bool:
                found[:] = [one for one in self.events if one.get("event") == event]
                return bool(found) or self._ended

            assert self._changed.wait_for(seen, WAIT_S), self.log
            assert found, (self.events, self.log)
            return found[-1]

    def refused(self) -> str:
        """Wait for the end; return the code that it ended with."""
        assert self.end() == 3, self.log
        return str(self.events[-1]["error"]["code"])

    def end(self) -> int:
        status = self.process.wait(WAIT_S)
        self._reader.join()
        return status

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.end() == 0, self.log

    def renew(self) -> dict[str, Any]:
        done = subprocess.run(
            [*LOAD[:2], "renew", "--now", "app.toml", "--json"],
            cwd=self.directory, capture_output=True, text=True, check=False, timeout=WAIT_S,
        )  # fmt: skip
        answer: dict[str, Any] = json.loads(done.stdout)
        return answer


Start = Callable[..., Load]


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningProxy]:
    """A proxy whose policy has the document's entries, pinned to the loader of this installation."""
    directory = tmp_path_factory.mktemp("proxy")
    vendor = Vendor.create(datetime.now(UTC))
    vendor.save(directory / "pins")
    for command in COMMANDS:
        if command.startswith("openssl"):
            subprocess.run(["/bin/sh", "-c", command], cwd=directory, check=True, capture_output=True, timeout=WAIT_S)
    simulator = str(BIN / "proxy-attestation-simulator")
    measure = [simulator, "measure", "--dir", str(directory / "pins"), "--tee", "sgx", "--", *LOAD]
    measured = subprocess.run(measure, capture_output=True, text=True, check=True, timeout=WAIT_S).stdout
    policy = default_policy(vendor)
    for name in ("billing", "vault"):
        # The pins of the document are of no program here.
        kept = [line for line in block(f'name = "{name}"').split("\n") if not line.startswith(("tee", "mr_enclave"))]
        policy += "\n".join(kept) + measured
    made = make_proxy(directory, vendor=vendor, policy=policy)
    made.start()
    yield made
    if made.process is not None:
        made.stop()


@pytest.fixture
def start(proxy: RunningProxy, tmp_path: Path) -> Iterator[Start]:
    started: list[Load] = []

    def begin(workload: str, seed: str, *faults: str, owner: str = "", files: dict[str, str] | None = None) -> Load:
        directory = tmp_path / f"{workload}-{len(started)}"
        directory.mkdir()
        for name, content in (files or {}).items():
            (directory / name).write_text(content)
        base = BASE.format(connect=proxy.connect, pin=proxy.root_pin, workload=workload)
        (directory / "app.toml").write_text(base + owner)
        started.append(Load(proxy, directory, seed, *faults))
        return started[-1]

    yield begin
    for load in started:
        if load.process.poll() is None:
            load.process.kill()
        load.end()


def document(proxy: RunningProxy, command: str, **variables: str) -> str:
    """Run a command of the document beside STATE; return what it printed, or wrote into a file."""
    environment = {"PATH": f"{BIN}:{os.environ['PATH']}", **variables}
    done = subprocess.run(
        ["/bin/sh", "-c", command], cwd=proxy.directory, env=environment, check=True, capture_output=True, text=True,
        timeout=WAIT_S,
    )  # fmt: skip
    written = command.partition(" > ")[2]
    return (proxy.directory / written).read_text() if written else done.stdout


TOKEN: Final = "proxy-attestation owner token state billing --expires 1h > token"
LIST: Final = "proxy-attestation owner list state"
LIST_JSON: Final = "proxy-attestation owner list state --json"
RELEASE_HOLDER: Final = "proxy-attestation owner release state billing --holder $HOLDER"
RELEASE: Final = "proxy-attestation owner release state billing"
GRANT: Final = (
    "proxy-attestation owner grant --key tenant.key --trust-domain example.org --entry vault "
    "--spki-sha256 $SPKI > grant"
)


def test_the_commands_of_the_document_are_those_that_are_run_here() -> None:
    openssl = {command for command in COMMANDS if command.startswith("openssl")}
    assert set(COMMANDS) - openssl == {TOKEN, LIST, LIST_JSON, RELEASE_HOLDER, RELEASE, GRANT}


@pytest.mark.e2e
@pytest.mark.slow
def test_tokens(proxy: RunningProxy, start: Start) -> None:
    """Enrol, renew twice; a second loader is refused; after a release it is accepted, and the first is not."""
    owner = block("token_file")
    token = document(proxy, TOKEN)
    first = start("billing", "0", owner=owner, files={"token": token})
    serial = first.wait_for("ready")["certificate"]["serial"]
    serials = {serial} | {first.renew()["certificate"]["serial"] for _ in range(2)}
    assert len(serials) == 3
    (holder,) = json.loads(document(proxy, LIST_JSON))["holders"]
    assert (holder["entry"], holder["kind"], holder["held"]) == ("billing", "enrolment", True)
    assert holder["holder"] in document(proxy, LIST)

    clone = start("billing", "1", owner=owner, files={"token": token})
    assert clone.refused() == "policy.owner_held"
    assert "owner release STATE billing" in clone.log
    fresh = document(proxy, TOKEN)
    assert start("billing", "1", owner=owner, files={"token": fresh}).refused() == "policy.owner_held"

    document(proxy, RELEASE_HOLDER, HOLDER=holder["holder"])
    assert start("billing", "1", owner=owner, files={"token": token}).refused() == "owner.token_spent"
    second = start("billing", "1", owner=owner, files={"token": fresh})
    second.wait_for("ready")
    assert first.renew()["error"]["code"] == "policy.owner_held"
    second.stop()
    first.stop()
    (after,) = json.loads(document(proxy, LIST_JSON))["holders"]
    assert after["holder"] != holder["holder"]
    document(proxy, RELEASE)
    assert json.loads(document(proxy, LIST_JSON))["holders"] == []


@pytest.mark.e2e
@pytest.mark.slow
def test_grants(proxy: RunningProxy, start: Start) -> None:
    """The tenant grants one key; without launch data, without a grant, and beside the holder there is nothing."""
    checked = json.loads(
        subprocess.run(
            [BIN / "proxy-attestation", "policy", "check", "policy.toml", "--json"],
            cwd=proxy.state, capture_output=True, text=True, check=True, timeout=WAIT_S,
        ).stdout
    )  # fmt: skip
    (pins,) = [entry["pins"] for entry in checked["workloads"] if entry["name"] == "vault"]
    launched = f"config_id={pins['config_id'][0]}"
    owner = block("grant_file")
    assert start("vault", "0", launched).refused() == "policy.owner"
    first = start("vault", "0", launched, owner=owner)
    document(proxy, GRANT, SPKI=first.wait_for("grant_needed")["spki_sha256"])
    (proxy.directory / "grant").replace(first.directory / "grant")
    first.wait_for("ready")
    assert first.renew()["ok"]

    second = start("vault", "1", launched, owner=owner)
    document(proxy, GRANT, SPKI=second.wait_for("grant_needed")["spki_sha256"])
    (proxy.directory / "grant").replace(second.directory / "grant")
    assert second.refused() == "policy.owner_held"
    first.stop()
