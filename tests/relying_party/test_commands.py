"""`root`, `verify` and `connect` against a real proxy, and a server that presents what this proxy issued.

Each command's options and refusals have tests of their own beside this; here authority, leaf and check are those that
ship, so that they cannot disagree.
"""

import base64
import json
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from command_line import GOOD, MALFORMED, PROGRAM, REFUSED, UNAVAILABLE, USAGE, call, call_json
from fake_servers import CountingServer
from mini_authority import Leaf
from workload import Client, Workload, new_key, request_for

from proxy_attestation_simulator.harness import RunningProxy, running_proxy

pytestmark = pytest.mark.e2e

HOST = "127.0.0.1"
NAME = "app.example.org"
OTHER = "11" * 32
REQUEST = b"GET / HTTP/1.1\r\nhost: app.example.org\r\n\r\n"


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningProxy]:
    with running_proxy(tmp_path_factory.mktemp("proxy"), arguments=("--peer-rate", "10000")) as running:
        yield running


@pytest.fixture(scope="module")
def issued(proxy: RunningProxy) -> Leaf:
    """What the proxy issues to the default SGX platform."""
    client = Client.connect(proxy.connect, proxy.root_pin)
    key = new_key()
    message = Workload(proxy.vendor.platform("sgx")).message(client.challenge(), request_for(), key)
    chain = tuple(client.sign(message).chain)
    client.close()
    assert len(chain) == 2
    return Leaf(chain, key)


@pytest.fixture
def server(issued: Leaf, tmp_path: Path) -> Iterator[CountingServer]:
    running = CountingServer(issued.server_context(tmp_path))
    yield running
    running.close()


@dataclass(frozen=True)
class Expected:
    """An expectation that the leaf meets, of which a test may replace a part."""

    proxy: RunningProxy
    directory: Path

    @property
    def mr_enclave(self) -> str:
        body: Any = self.proxy.vendor.platform("sgx").body
        return bytes(body.mr_enclave).hex()

    def file(self, old: str = "", new: str = "") -> Path:
        text = (
            f'trust_domain = "example.org"\nroot_pin = "{self.proxy.root_pin}"\nworkload = "example-app"\n'
            f'tee = "sgx"\nmr_enclave = ["{self.mr_enclave}"]\ndns = ["{NAME}"]\nsimulated = true\n'
        )
        assert old in text
        path = self.directory / "expectation.toml"
        path.write_text(text.replace(old, new) if old else text)
        return path

    def options(self, old: str = "", new: str = "") -> tuple[str | Path, ...]:
        return ("--root", self.proxy.root_pem, "--expect", self.file(old, new), "--server-name", NAME)


@pytest.fixture
def expected(proxy: RunningProxy, tmp_path: Path) -> Expected:
    return Expected(proxy, tmp_path)


def differences(expected: Expected) -> dict[str, tuple[str, str, dict[str, str]]]:
    """Return, by what differs: a part of the file, what it becomes, and the mismatch that must come back."""
    measured = expected.mr_enclave
    return {
        "mr_enclave": (
            measured,
            OTHER,
            {"code": "policy.measurement", "field": "mr_enclave", "expected": OTHER, "actual": measured},
        ),
        "simulated": (
            "simulated = true",
            "simulated = false",
            {"code": "policy.claim", "field": "simulated", "expected": "false", "actual": "true"},
        ),
        "workload": (
            "example-app",
            "other-app",
            {"code": "policy.workload", "field": "workload", "expected": "other-app", "actual": "example-app"},
        ),
    }


def unused(connection: socket.socket) -> str:
    """Bind a socket that does not listen; nobody answers there while it is open."""
    connection.bind((HOST, 0))
    return f"{HOST}:{connection.getsockname()[1]}"


def test_root_is_the_one_that_init_made(proxy: RunningProxy, tmp_path: Path) -> None:
    url, out = f"https://{proxy.connect}", tmp_path / "root.pem"
    der = ssl.PEM_cert_to_DER_cert(proxy.root_pem.read_text())
    assert ssl.PEM_cert_to_DER_cert(call("root", url, "--pin", proxy.root_pin).stdout) == der
    assert "SIMULATED" in call("root", url, "--pin", proxy.root_pin, "--out", out).stdout
    assert ssl.PEM_cert_to_DER_cert(out.read_text()) == der


def test_root_as_json(proxy: RunningProxy, issued: Leaf) -> None:
    answer = call_json("root", f"https://{proxy.connect}", "--pin", proxy.root_pin)
    assert ssl.PEM_cert_to_DER_cert(answer["root_pem"]) == ssl.PEM_cert_to_DER_cert(proxy.root_pem.read_text())
    assert (answer["pin"], answer["trust_domain"], answer["simulated"]) == (proxy.root_pin, "example.org", True)
    assert [base64.b64decode(text) for text in answer["issuing"]] == [issued.chain[1]]


def test_root_and_leaf_tell_of_the_same_policy(proxy: RunningProxy, expected: Expected, server: CountingServer) -> None:
    url = f"https://{proxy.connect}"
    digest = call_json("root", url, "--pin", proxy.root_pin)["policy_digest"]
    for wanted, status in ((digest, GOOD), (OTHER, REFUSED)):
        options = expected.options("simulated = true", f'simulated = true\npolicy_digest = ["{wanted}"]')
        call("verify", f"{HOST}:{server.port}", *options, status=status)
        about_proxy = expected.directory / "proxy.toml"
        about_proxy.write_text(
            f'trust_domain = "example.org"\nroot_pin = "{proxy.root_pin}"\nsimulated = true\n'
            f'policy_digest = ["{wanted}"]\n[danger]\nany_workload = true\n'
        )
        call("root", url, "--expect", about_proxy, status=status)


@pytest.mark.parametrize(
    ("pin", "status", "code"), [(("--pin", OTHER), REFUSED, "peer.root_pin"), ((), USAGE, "usage")]
)
def test_root_takes_the_right_pin(
    pin: tuple[str, ...], status: int, code: str, proxy: RunningProxy, tmp_path: Path
) -> None:
    out = tmp_path / "root.pem"
    answer = call_json("root", f"https://{proxy.connect}", *pin, "--out", out, status=status)
    assert answer["error"]["code"] == code
    assert not out.exists()


def test_root_of_a_proxy_by_another_name(proxy: RunningProxy) -> None:
    url = f"https://{proxy.connect}"
    answer = call_json("root", url, "--pin", proxy.root_pin, "--server-name", "other.example.org", status=REFUSED)
    assert answer["error"]["code"] == "peer.name"


def test_root_where_nobody_listens(proxy: RunningProxy) -> None:
    with socket.socket() as reserved:
        answer = call_json("root", f"https://{unused(reserved)}", "--pin", proxy.root_pin, status=UNAVAILABLE)
    assert answer["error"]["code"] == "proxy.unreachable"


@pytest.mark.parametrize("root", ["file", "url"])
def test_verify_accepts(root: str, proxy: RunningProxy, expected: Expected, server: CountingServer) -> None:
    trusted = proxy.root_pem if root == "file" else f"https://{proxy.connect}"
    options = ("--root", trusted, "--expect", expected.file(), "--server-name", NAME)
    answer = call_json("verify", f"{HOST}:{server.port}", *options)
    assert answer["verdict"] == "accepted"
    peer = answer["peer"]
    assert (peer["spiffe_id"], peer["workload"]) == ("spiffe://example.org/example-app", "example-app")
    assert peer["dns"] == [NAME]
    assert peer["measurements"]["mr_enclave"] == expected.mr_enclave
    assert (peer["tee"], peer["tcb_status"], peer["key_origin"], peer["owner"]) == ("sgx", "UpToDate", "tee", "shared")
    assert (peer["debug"], peer["simulated"], peer["application_sha256"]) == (False, True, None)
    server.finish()
    assert server.connections == 1
    assert server.received == b""


@pytest.mark.parametrize("difference", ["mr_enclave", "simulated", "workload"])
def test_verify_says_what_differs(difference: str, expected: Expected, server: CountingServer) -> None:
    old, new, mismatch = differences(expected)[difference]
    answer = call_json("verify", f"{HOST}:{server.port}", *expected.options(old, new), status=REFUSED)
    assert (answer["verdict"], answer["code"]) == ("refused", "peer.claims_mismatch")
    assert answer["mismatches"] == [mismatch]


@pytest.mark.parametrize("name", [(), ("--server-name", "vm.example.org")])
def test_verify_by_a_name_that_the_leaf_has_not(
    name: tuple[str, ...], proxy: RunningProxy, expected: Expected, server: CountingServer
) -> None:
    options: tuple[str | Path, ...] = ("--root", proxy.root_pem, "--expect", expected.file(), *name)
    answer = call_json("verify", f"{HOST}:{server.port}", *options, status=REFUSED)
    assert (answer["verdict"], answer["code"], answer["mismatches"]) == ("refused", "peer.name", [])


def test_verify_takes_the_proxy_for_no_workload(proxy: RunningProxy, expected: Expected) -> None:
    options = ("--root", proxy.root_pem, "--expect", expected.file())
    answer = call_json("verify", proxy.connect, *options, status=REFUSED)
    assert (answer["verdict"], answer["code"]) == ("refused", "peer.trust_domain")


def test_verify_where_nobody_listens(expected: Expected) -> None:
    with socket.socket() as reserved:
        answer = call_json("verify", unused(reserved), *expected.options(), status=UNAVAILABLE)
    assert answer["error"]["code"] == "peer.unreachable"


@pytest.mark.parametrize("command", ["verify", "connect"])
def test_malformed_expectations_are_refused_before_anything_is_sent(
    command: str, expected: Expected, server: CountingServer
) -> None:
    options = expected.options("simulated = true", "simulated = true\ncolour = 1")
    answer = call_json(command, f"{HOST}:{server.port}", *options, status=MALFORMED)
    assert answer["error"]["code"] == "configuration.malformed"
    assert server.connections == 0


class Connect:
    """A running `connect --json`; the block's end sends SIGTERM and takes nothing but an orderly end."""

    def __init__(self, *arguments: str | Path) -> None:
        command = [*PROGRAM, "connect", *map(str, arguments), "--json"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.address = (HOST, int(self.read()["port"]))

    def read(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def ask(self) -> bytes:
        with socket.create_connection(self.address, 30) as connection:
            try:
                connection.sendall(REQUEST)
                return b"".join(iter(lambda: connection.recv(65536), b""))
            except ConnectionError:
                return b""

    def __enter__(self) -> "Connect":
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        out, errors = self._process.communicate(timeout=30)
        assert (self._process.returncode, out, errors) == (GOOD, b"", b"")


def test_connect_forwards(expected: Expected, server: CountingServer) -> None:
    with Connect(f"{HOST}:{server.port}", *expected.options()) as running:
        assert running.ask().endswith(b"hello")
        assert running.ask().endswith(b"hello")
    server.finish()
    assert server.received == REQUEST * 2


@pytest.mark.parametrize("difference", ["mr_enclave", "simulated"])
def test_connect_gives_a_wrong_peer_no_byte(difference: str, expected: Expected, server: CountingServer) -> None:
    old, new, mismatch = differences(expected)[difference]
    with Connect(f"{HOST}:{server.port}", *expected.options(old, new)) as running:
        assert running.ask() == b""
        refused = running.read()["refused"]
        assert running.ask() == b""
    assert refused["code"] == "peer.claims_mismatch"
    assert refused["mismatches"] == [mismatch]
    server.finish()
    assert server.connections == 2
    assert server.received == b""


def test_connect_listens_on_loopback_only(expected: Expected, server: CountingServer) -> None:
    options = (*expected.options(), "--listen", "0.0.0.0:0")
    answer = call_json("connect", f"{HOST}:{server.port}", *options, status=USAGE)
    assert answer["error"]["code"] == "usage"
    assert server.connections == 0
