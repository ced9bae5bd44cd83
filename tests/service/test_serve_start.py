"""Starting `serve`: its first lines, and every way in which it does not start."""

import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from proxy_attestation_simulator.errors import SimulatorError
from proxy_attestation_simulator.harness import make_proxy, running_proxy

pytestmark = pytest.mark.e2e


@pytest.fixture
def proxy(shared_proxy: Any) -> Any:
    return shared_proxy


def serve(command: Any, state: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    ports = ("--grpc", "127.0.0.1:0", "--connect", "127.0.0.1:0", "--admin", "127.0.0.1:0")
    line = [*command, "serve", str(state), *ports, *arguments]
    return subprocess.run(line, capture_output=True, check=False, timeout=90, text=True)


def test_a_second_serve_in_one_state_is_unavailable(proxy: Any) -> None:
    done = serve(proxy.command, proxy.state)
    assert done.returncode == 5
    assert "authority.state" in done.stderr


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return make_proxy(tmp_path_factory.mktemp("stopped"))


def test_the_first_lines_name_every_danger(tmp_path: Path) -> None:
    made = make_proxy(tmp_path)
    line = [*made.command, "serve", str(made.state), *made.arguments]
    with subprocess.Popen(line, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        lines = []
        for text in process.stdout:
            lines.append(text.rstrip())
            if lines[-1] == "ready":
                process.terminate()
    assert process.returncode == 0
    assert [text for text in lines if text.startswith("WARNING") and "SIMULATED" in text]
    assert [text for text in lines if text.startswith("WARNING") and "FILE KEYS" in text]


def test_an_address_in_use_is_a_usage_error(stopped: Any) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        done = serve(stopped.command, stopped.state, "--admin", f"127.0.0.1:{other.getsockname()[1]}")
    assert done.returncode == 2


def test_a_name_that_the_root_does_not_permit_is_a_usage_error(stopped: Any) -> None:
    assert serve(stopped.command, stopped.state, "--tls-name", "elsewhere.test").returncode == 2


def test_a_directory_that_is_no_authority_s_is_a_usage_error(stopped: Any, tmp_path: Path) -> None:
    assert serve(stopped.command, tmp_path).returncode == 2


def test_a_malformed_serve_toml_is_malformed(tmp_path: Path) -> None:
    made = make_proxy(tmp_path)
    (made.state / "serve.toml").write_text("port = 1")
    assert serve(made.command, made.state).returncode == 4


def test_a_malformed_policy_is_malformed(tmp_path: Path) -> None:
    made = make_proxy(tmp_path)
    (made.state / "policy.toml").write_text("version = 0")
    assert serve(made.command, made.state).returncode == 4


def test_the_harness_says_why_it_failed(tmp_path: Path) -> None:
    with pytest.raises(SimulatorError, match="policy"), running_proxy(tmp_path, policy="version = 0"):
        pass
