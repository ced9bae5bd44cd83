"""What the processes of a running proxy have given up, seen from outside."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from proxy_attestation_simulator.harness import RunningProxy, default_command, running_proxy

pytestmark = pytest.mark.e2e

# Root may look into everybody's memory; without these capabilities it is a user like any other.
_LESS = "-sys_ptrace,-perfmon,-sys_admin"
AS_A_USER = ("setpriv", f"--bounding-set={_LESS}", f"--inh-caps={_LESS}") if os.geteuid() == 0 else ()


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningProxy]:
    with running_proxy(tmp_path_factory.mktemp("hard"), command=(*AS_A_USER, *default_command())) as running:
        yield running


@pytest.fixture(params=["supervisor", "authority", "worker"])
def pid(request: pytest.FixtureRequest, proxy: RunningProxy) -> int:
    assert proxy.process is not None
    if request.param == "supervisor":
        return proxy.process.pid
    return proxy.authority_pid() if request.param == "authority" else proxy.worker_pids()[0]


def readable(pid: int) -> bool:
    """Tell whether another process of the same user may look into the memory of one."""
    line = [*AS_A_USER, sys.executable, "-I", "-c", f"open('/proc/{pid}/maps').read(1)"]
    return subprocess.run(line, capture_output=True, check=False, timeout=60).returncode == 0


def test_nobody_of_the_same_user_looks_into_its_memory(pid: int) -> None:
    line = [*AS_A_USER, sys.executable, "-I", "-c", "print(flush=True); input()"]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdout is not None
        other.stdout.readline()
        usual = readable(other.pid)
        other.communicate(b"\n")
    if not usual:
        pytest.skip("this system lets nobody look into any process")
    assert not readable(pid)


def test_it_leaves_no_core_dump(pid: int) -> None:
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("Max core file size")]
    assert line.split()[4:6] == ["0", "0"]


def test_it_gets_no_new_privileges(pid: int) -> None:
    fields = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    assert fields["NoNewPrivs"].strip() == "1"
