"""The command line of `load`: forms, exit statuses, and what is printed."""

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from click.testing import CliRunner

from proxy_attestation.cli.load import command
from proxy_attestation.codes import Code
from proxy_attestation.errors import (
    ConfigurationError,
    FormatError,
    InternalError,
    ProxyAttestationError,
    RefusedError,
    UnavailableError,
    UsageError,
)

STATUS: Final[dict[str, Any]] = {
    "ok": True,
    "state": "holding",
    "workload": "example-app",
    "proxy": "https://127.0.0.1:7444",
    "certificate": {"serial": "abc", "not_after": "2026-11-24T13:00:00Z"},
    "next_attempt_at": "2026-11-24T12:40:00Z",
    "last_attempt": {"at": "2026-11-24T12:39:00Z", "error": {"code": "sgx.tcb_status", "detail": ""}},
    "listeners": [{"address": "127.0.0.1:8443", "protocol": "grpc", "connections": 2}],
    "application": {"kind": "wasm", "restarts": 1},
}
FILE: Final = """
proxy = "https://127.0.0.1:1"
root_pin = "abababababababababababababababababababababababababababababababab"
trust_domain = "example.org"
workload = "example-app"
tee = "sgx"
control = "load.sock"
[[listener]]
address = "127.0.0.1:0"
protocol = "tcp"
[application]
kind = "address"
connect = "127.0.0.1:1"
"""


@pytest.fixture
def answering(tmp_path: Path) -> Iterator[Callable[[dict[str, Any]], list[str]]]:
    """Makes `load.sock` answer with a value; returns the list of commands that it was asked."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "load.sock"))
    listener.listen()
    threads: list[threading.Thread] = []

    def start(answer: dict[str, Any]) -> list[str]:
        seen: list[str] = []

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                seen.append(json.loads(connection.recv(4096))["command"])
                connection.sendall(json.dumps(answer).encode() + b"\n")

        threads.append(threading.Thread(target=serve))
        threads[-1].start()
        return seen

    yield start
    for thread in threads:
        thread.join(10)
    listener.close()


def invoke(*arguments: str) -> str:
    result = CliRunner().invoke(command, list(arguments), standalone_mode=False)
    if result.exception is not None:
        raise result.exception
    return result.output


def test_status_by_socket_and_by_file(tmp_path: Path, answering: Callable[[dict[str, Any]], list[str]]) -> None:
    seen = answering(STATUS)
    output = invoke("status", "--control", str(tmp_path / "load.sock"))
    assert seen == ["status"]
    for part in ("holding", "abc", "2026-11-24T13:00:00Z", "sgx.tcb_status", "127.0.0.1:8443", "1 restarts"):
        assert part in output
    (tmp_path / "app.toml").write_text(FILE)
    answering(STATUS)
    assert json.loads(invoke("status", str(tmp_path / "app.toml"), "--json")) == STATUS


def test_renew_says_what_came_of_it(tmp_path: Path, answering: Callable[[dict[str, Any]], list[str]]) -> None:
    socket_path = str(tmp_path / "load.sock")
    seen = answering({"ok": True, "certificate": {"serial": "def", "not_after": "x"}})
    assert "def" in invoke("renew", "--now", "--control", socket_path)
    assert seen == ["renew"]
    answering({"ok": True, "certificate": {"serial": "def", "not_after": "x"}})
    assert json.loads(invoke("renew", "--now", "--json", "--control", socket_path))["ok"] is True


@pytest.mark.parametrize(
    ("error", "kind", "code"),
    [
        ({"code": "sgx.debug", "detail": "d", "exit_status": 3}, RefusedError, Code.SGX_DEBUG),
        ({"code": "proxy.unreachable", "exit_status": 5}, UnavailableError, Code.PROXY_UNREACHABLE),
        ({"code": "proxy.protocol", "exit_status": 4}, FormatError, Code.PROXY_PROTOCOL),
        ({"code": "sgx.debug", "exit_status": 99}, InternalError, Code.INTERNAL),
        ({"code": "no.such_code", "exit_status": 3}, InternalError, Code.INTERNAL),
        ({"code": None}, InternalError, Code.INTERNAL),
        (None, InternalError, Code.INTERNAL),
        ("text", InternalError, Code.INTERNAL),
    ],
)
def test_a_failed_renewal_has_the_exit_status_of_its_error(
    tmp_path: Path,
    answering: Callable[[dict[str, Any]], list[str]],
    error: object,
    kind: type[ProxyAttestationError],
    code: Code,
) -> None:
    answering({"ok": False, "error": error})
    with pytest.raises(ProxyAttestationError) as refused:
        invoke("renew", "--now", "--control", str(tmp_path / "load.sock"))
    assert (type(refused.value), refused.value.code) == (kind, code)


def test_no_loader_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError) as refused:
        invoke("status", "--control", str(tmp_path / "load.sock"))
    assert refused.value.code is Code.LOADER_UNREACHABLE


@pytest.mark.parametrize(
    "arguments",
    [
        ("status",),
        ("status", "a", "--control", "b"),
        ("renew", "--control", "b"),
        ("renew", "--now"),
    ],
)
def test_command_lines_that_make_no_sense(arguments: tuple[str, ...]) -> None:
    with pytest.raises(UsageError):
        invoke(*arguments)


@pytest.mark.parametrize("form", [("{file}",), ("run", "{file}"), ("--wait", "1", "{file}"), ("--json", "{file}")])
def test_a_file_means_run(tmp_path: Path, form: tuple[str, ...]) -> None:
    file = tmp_path / "app.toml"
    file.write_text("unknown = 1\n")
    with pytest.raises(ConfigurationError) as refused:
        invoke(*(part.format(file=file) for part in form))
    assert refused.value.code is Code.CONFIGURATION_MALFORMED


def test_help_does_not_need_a_file() -> None:
    assert "load app.toml" in invoke("--help")


def shipped(*arguments: str, **options: Any) -> "subprocess.CompletedProcess[str]":
    program = str(Path(sys.executable).parent / "proxy-attestation")
    return subprocess.run(
        [program, "load", *arguments], capture_output=True, text=True, timeout=60, check=False, **options
    )


@pytest.mark.e2e
def test_exit_statuses_of_the_shipped_command(tmp_path: Path) -> None:
    file = tmp_path / "app.toml"
    assert shipped(str(file)).returncode == 4
    file.write_text(FILE)
    if not Path("/dev/attestation").exists():
        without = shipped(str(file), "--json")
        assert without.returncode == 5
        assert json.loads(without.stdout)["error"]["code"] == "attester.unavailable"
    assert shipped(str(file), "--attester", "nothing").returncode == 2
    assert shipped().returncode == 2
    assert shipped("status", str(file)).returncode == 5


@pytest.mark.e2e
def test_an_unreachable_proxy_ends_the_start_with_5(tmp_path: Path) -> None:
    file = tmp_path / "app.toml"
    file.write_text(FILE)
    one, other = socket.socketpair()
    with one, other:
        done = shipped(
            str(file),
            "--attester",
            f"simulator:{other.fileno()}",
            "--wait",
            "0.5",
            "--json",
            pass_fds=(other.fileno(),),
        )
    events = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 5
    assert events[0]["event"] == "attesting"
    assert events[-1]["error"]["code"] == "proxy.unreachable"
