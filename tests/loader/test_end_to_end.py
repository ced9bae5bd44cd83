"""The shipped commands together: a simulated platform, `load`, `serve`, and clients over real sockets."""

import contextlib
import hashlib
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import grpc
import httpx
import pytest

from proxy_attestation_simulator.harness import RunningProxy, default_policy, make_proxy
from proxy_attestation_simulator.intel import Vendor

pytestmark = pytest.mark.e2e

BIN: Final = Path(sys.executable).parent
EXAMPLE: Final = Path(__file__).parents[2] / "examples" / "example_application"
METHOD: Final = "/proxy_attestation.example.v1.ExampleApplication/GetExampleMessage"
REPLY: Final = b"\n\x19Hello from attested code!"
LOAD: Final = (str(BIN / "proxy-attestation"), "load", "app.toml")
WAIT_S: Final = 60.0


def measured(vendor_directory: Path, tee: str) -> str:
    """Return the policy lines that pin the loader as it is installed here."""
    simulator = str(BIN / "proxy-attestation-simulator")
    command = [simulator, "measure", "--dir", str(vendor_directory), "--tee", tee, "--", *LOAD]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=WAIT_S)
    return done.stdout


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningProxy]:
    """A proxy whose policy names the loader of this installation, with and without the example application."""
    directory = tmp_path_factory.mktemp("proxy")
    vendor = Vendor.create(datetime.now(UTC))
    vendor.save(directory / "pins")
    shutil.copy(EXAMPLE / "reproducibility_index", directory / "reproducibility_index")
    index = (directory / "reproducibility_index").read_bytes()
    digest = hashlib.sha256(index).hexdigest()
    application = f'application = {{ index = "reproducibility_index", sha256 = "{digest}", paths = ["example.wat"] }}\n'
    policy = default_policy(vendor)
    for name, tee, extra in (("wasm-app", "sgx", application), ("wasm-vm", "tdx", application), ("any-app", "sgx", "")):
        policy += f'\n[[workload]]\nname = "{name}"\n{measured(directory / "pins", tee)}{extra}'
        policy += f'dns = ["localhost", "{name}.example.org"]\nowner = {{ shared = true }}\n'
    made = make_proxy(directory, vendor=vendor, policy=policy, dns=("example.org", "localhost"))
    made.start()
    yield made
    if made.process is not None:
        made.stop()


class RunningLoad:
    """`load` on a simulated platform."""

    def __init__(self, proxy: RunningProxy, directory: Path, faults: Sequence[str], tee: str) -> None:
        self.directory = directory
        self.events: list[dict[str, Any]] = []
        self._changed = threading.Condition()
        self._ended = False
        arguments = [argument for fault in faults for argument in ("--fault", fault)]
        self.log = directory / "load.log"
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    BIN / "proxy-attestation-simulator", "run", "--dir", proxy.directory / "vendor", "--tee", tee,
                    *arguments, "--", *LOAD, "--attester", "simulator:{fd}", "--json", "--wait", "5",
                ],
                cwd=directory, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

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
        def found() -> list[dict[str, Any]]:
            return [seen for seen in self.events if seen.get("event") == event]

        with self._changed:
            assert self._changed.wait_for(lambda: found() or self._ended, WAIT_S), self.log.read_text()
            assert found(), (self.events, self.log.read_text())
            return found()[-1]

    def status(self) -> int:
        """Wait for the end and return the exit status."""
        status = self.process.wait(WAIT_S)
        self._reader.join()
        return status

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.status()

    def command(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [*LOAD[:2], *arguments, "app.toml", "--json"],
            cwd=self.directory, capture_output=True, text=True, check=False, timeout=WAIT_S,
        )  # fmt: skip

    def port(self, protocol: str) -> int:
        listeners = self.wait_for("ready")["listeners"]
        return int(next(listener["port"] for listener in listeners if listener["protocol"] == protocol))


Load = Callable[..., "contextlib.AbstractContextManager[RunningLoad]"]


@pytest.fixture
def load(proxy: RunningProxy, tmp_path: Path) -> Load:
    """Starts `load` with changes to its configuration."""
    application = tmp_path / "example.wat"
    shutil.copy(EXAMPLE / "example.wat", application)

    @contextlib.contextmanager
    def start(
        *,
        workload: str = "wasm-app",
        dns: str = "localhost",
        application: str = 'kind = "wasm"\npath = "example.wat"',
        protocols: Sequence[str] = ("grpc", "http"),
        faults: Sequence[str] = (),
        tee: str = "sgx",
        pin: str | None = None,
    ) -> Iterator[RunningLoad]:
        listeners = "".join(
            f'[[listener]]\naddress = "127.0.0.1:0"\nprotocol = "{protocol}"\n' for protocol in protocols
        )
        (tmp_path / "app.toml").write_text(
            f'proxy = "https://{proxy.connect}"\nroot_pin = "{pin or proxy.root_pin}"\ntrust_domain = "example.org"\n'
            f'workload = "{workload}"\ntee = "{tee}"\nlifetime = "1h"\ncontrol = "load.sock"\n'
            f'[names]\ndns = ["{dns}"]\n{listeners}[application]\n{application}\n'
        )
        running = RunningLoad(proxy, tmp_path, faults, tee)
        try:
            yield running
        finally:
            if running.process.poll() is None:
                running.process.kill()
            running.status()

    return start


def refused(load: Load, **changes: Any) -> tuple[int, str]:
    """Return exit status and code of a start that does not succeed."""
    with load(**changes) as running:
        status = running.status()
        error = running.events[-1].get("error")
        assert isinstance(error, dict), (running.events, running.log.read_text())
        return status, str(error["code"])


def call(port: int, root: bytes) -> bytes:
    with grpc.secure_channel(f"localhost:{port}", grpc.ssl_channel_credentials(root)) as channel:
        method: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)
        return method(b"", timeout=WAIT_S)


@pytest.mark.parametrize(("workload", "tee"), [("wasm-app", "sgx"), ("wasm-vm", "tdx")])
def test_a_wasm_application_is_attested_and_served(proxy: RunningProxy, load: Load, workload: str, tee: str) -> None:
    root = proxy.root_pem.read_bytes()
    with load(workload=workload, tee=tee) as running:
        ready = running.wait_for("ready")
        assert ready["certificate"]["tee"] == tee
        assert ready["certificate"]["simulated"] is True
        assert f"spiffe://example.org/{workload}" in ready["certificate"]["names"]
        assert call(running.port("grpc"), root) == REPLY
        context = ssl.create_default_context(cadata=root.decode())
        answer = httpx.get(f"https://localhost:{running.port('http')}/", verify=context, trust_env=False)
        assert answer.text == "Hello from attested code!"
        assert running.stop() == 0
        assert running.events[-1] == {"event": "stopped"}


def test_a_renewal_under_an_open_channel(proxy: RunningProxy, load: Load) -> None:
    root = proxy.root_pem.read_bytes()
    with load() as running:
        port = running.port("grpc")
        with grpc.secure_channel(f"localhost:{port}", grpc.ssl_channel_credentials(root)) as channel:
            method: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)
            assert method(b"", timeout=WAIT_S) == REPLY
            before = json.loads(running.command("status").stdout)
            renewed = running.command("renew", "--now")
            assert renewed.returncode == 0
            assert method(b"", timeout=WAIT_S) == REPLY
            after = json.loads(running.command("status").stdout)
        assert before["certificate"]["serial"] != after["certificate"]["serial"]
        assert json.loads(renewed.stdout)["certificate"]["serial"] == after["certificate"]["serial"]
        assert after["listeners"][0]["connections"] == 1
        # A new connection is made with the new certificate.
        pem = ssl.get_server_certificate(("127.0.0.1", port))
        shown = subprocess.run(
            ["openssl", "x509", "-noout", "-serial"], input=pem, capture_output=True, text=True, check=True, timeout=30
        )
        assert int(shown.stdout.partition("=")[2], 16) == int(after["certificate"]["serial"], 16)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"faults": ["debug"]}, "sgx.debug"),
        ({"faults": ["mr_enclave=" + "ab" * 32]}, "policy.measurement"),
        ({"faults": ["tampered"]}, "sgx.signature"),
        ({"faults": ["old-tcb"]}, "sgx.tcb_status"),
        ({"dns": "other.example.org"}, "policy.name"),
        ({"workload": "no-such-entry"}, "policy.workload"),
        ({"pin": "ab" * 32}, "peer.root_pin"),
    ],
)
def test_refusals_end_the_start_with_3_and_their_code(load: Load, changes: dict[str, Any], code: str) -> None:
    assert refused(load, **changes) == (3, code)


def test_another_application_under_the_same_loader_is_refused(load: Load, tmp_path: Path) -> None:
    other = tmp_path / "other.wat"
    other.write_bytes((EXAMPLE / "example.wat").read_bytes() + b"\n")
    assert refused(load, application='kind = "wasm"\npath = "other.wat"') == (3, "policy.application")


def test_an_address_carries_no_application_claim(load: Load) -> None:
    address = {"application": 'kind = "address"\nconnect = "unix:app.sock"', "protocols": ("tcp",)}
    assert refused(load, **address) == (3, "policy.application")
    with load(workload="any-app", **address) as running:
        assert running.wait_for("ready")["application"]["kind"] == "address"
        assert running.stop() == 0


def test_a_lost_authority_is_waited_for(load: Load, proxy: RunningProxy) -> None:
    with load() as running:
        running.wait_for("ready")
        os.kill(proxy.authority_pid(), signal.SIGKILL)
        # This attempt may fail, and says so; the next ones come by themselves.
        assert running.command("renew", "--now").returncode in (0, 5)
        running.wait_for("renewed")


def _runs(pid: int) -> bool:
    """Tell whether a process exists and is no zombie that nobody has waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("kind", ["wasm", "child"])
def test_no_application_outlives_a_killed_loader(load: Load, tmp_path: Path, kind: str) -> None:
    server = (
        "import socket, sys, time; s = socket.socket(socket.AF_UNIX); s.bind(sys.argv[1][5:]); s.listen(); "
        "time.sleep(1000)"
    )
    child = f'kind = "child"\ncommand = ["{sys.executable}", "-c", "{server}", "{{connect}}"]\nconnect = "unix:a.sock"'
    changes: dict[str, Any] = {} if kind == "wasm" else {"workload": "any-app", "application": child}
    with load(**changes) as running:
        pid = running.wait_for("ready")["application"]["pid"]
        assert _runs(pid)
        running.process.kill()
        running.status()
        deadline = time.monotonic() + WAIT_S
        while _runs(pid):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert (tmp_path / "load.sock").exists()  # a killed loader leaves it, and the next one replaces it
    with load(**changes) as running:
        running.wait_for("ready")
        assert running.stop() == 0
