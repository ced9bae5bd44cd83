"""`run` with real processes: a child asks for quotes, gets signals, and its status is the command's."""

import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest

from proxy_attestation_simulator.intel import Vendor
from proxy_attestation_simulator.measure import measure_command

pytestmark = pytest.mark.e2e

SIMULATOR = [sys.executable, "-c", "from proxy_attestation_simulator.cli import main; main()"]
Judge = Callable[[bytes, Mapping[str, bytes]], str]

# What every child below begins with: ask(fd, [report data, ...]) sends all requests before it reads an answer.
_ASK = """
import cbor2, json, os, signal, socket, struct, sys
def receive(connection, size):
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        assert piece, "the service hung up"
        data += piece
    return data
def ask(fd, several):
    connection = socket.socket(fileno=os.dup(fd))
    for report_data in several:
        body = cbor2.dumps({1: report_data})
        connection.sendall(struct.pack(">I", len(body)) + body)
    return [cbor2.loads(receive(connection, struct.unpack(">I", receive(connection, 4))[0])) for _ in several]
"""


def _child(code: str) -> list[str]:
    return [sys.executable, "-c", _ASK + textwrap.dedent(code), "{fd}"]


@pytest.fixture
def directory(tmp_path: Path, vendor: Vendor) -> Path:
    vendor.save(tmp_path / "vendor")
    return tmp_path / "vendor"


def _run(directory: Path, options: list[str], command: list[str]) -> subprocess.CompletedProcess[str]:
    arguments = [*SIMULATOR, "run", "--dir", str(directory), *options, "--", *command]
    return subprocess.run(arguments, capture_output=True, text=True, timeout=60, check=False)


_TWO_QUOTES = _child(
    """
    print(json.dumps([answer[1].hex() for answer in ask(int(sys.argv[1]), [bytes(64), bytes(range(64))])]))
    """
)


@pytest.mark.parametrize(
    ("tee", "options", "version", "report_data_at"),
    [
        ("sgx", [], 3, 48 + 320),
        ("tdx", ["--tee", "tdx"], 4, 48 + 520),
        ("tdx", ["--tee", "tdx", "--quote-version", "5"], 5, 54 + 520),
        ("tdx", ["--tee", "tdx", "--quote-version", "5", "--body-type", "2"], 5, 54 + 520),
    ],
)
def test_a_child_gets_quotes_for_two_requests_at_once(  # noqa: PLR0917 - fixtures and one table row
    directory: Path, vendor: Vendor, judge: Judge, tee: str, options: list[str], version: int, report_data_at: int
) -> None:
    done = _run(directory, options, _TWO_QUOTES)
    assert done.returncode == 0, done.stderr
    quotes = [bytes.fromhex(quote) for quote in json.loads(done.stdout)]
    assert [quote[report_data_at : report_data_at + 64] for quote in quotes] == [bytes(64), bytes(range(64))]
    measurement = measure_command(_TWO_QUOTES)
    for quote in quotes:
        assert int.from_bytes(quote[:2], "little") == version
        assert judge(quote, vendor.endorsements(tee)) == "UpToDate"
        measured = {"sgx": measurement.mr_enclave, "tdx": measurement.mr_td}[tee]
        at = report_data_at + {"sgx": 64 - 320, "tdx": 136 - 520}[tee]
        assert quote[at : at + len(measured)] == measured
        assert measured.hex() in done.stderr
    assert "SIMULATED" in done.stderr


def test_faults_are_those_of_the_library(directory: Path, vendor: Vendor) -> None:
    done = _run(directory, ["--fault", "debug", "--fault", "mr_enclave=" + "ab" * 32], _TWO_QUOTES)
    good = vendor.platform("sgx").quote(bytes(64), fault=["debug", "mr_enclave=" + "ab" * 32])
    assert bytes.fromhex(json.loads(done.stdout)[0]) == good


def test_a_quote_is_refused_in_words_and_the_service_goes_on(directory: Path) -> None:
    command = _child(
        """
        first, second = ask(int(sys.argv[1]), [b"short", bytes(64)])
        print(type(first[2]).__name__, type(second[1]).__name__)
        """
    )
    assert _run(directory, [], command).stdout == "str bytes\n"


def test_the_child_inherits_one_descriptor_more(directory: Path) -> None:
    # The listing needs a descriptor itself, which is closed by the time that it is looked at.
    command = _child(
        """
        listed = os.listdir("/proc/self/fd")
        open_ones = {int(number) for number in listed if os.path.exists("/proc/self/fd/" + number)}
        print(open_ones == {0, 1, 2, int(sys.argv[1])})
        """
    )
    assert _run(directory, [], command).stdout == "True\n"


@pytest.mark.parametrize(
    ("code", "status"), [("sys.exit(0)", 0), ("sys.exit(7)", 7), ("os.kill(os.getpid(), signal.SIGKILL)", 137)]
)
def test_the_status_is_the_childs(directory: Path, code: str, status: int) -> None:
    assert _run(directory, [], _child(code)).returncode == status


def test_the_child_may_close_the_socket_and_live_on(directory: Path) -> None:
    assert _run(directory, [], _child("os.close(int(sys.argv[1])); sys.exit(5)")).returncode == 5


@pytest.mark.parametrize(
    ("options", "command"),
    [
        (["--fault", "unknown"], ["true"]),
        (["--fault", "expired-crl"], ["true"]),
        (["--quote-version", "4", "--body-type", "3"], ["true"]),
        (["--quote-version", "6"], ["true"]),
        ([], ["/nonexistent/program"]),
        ([], []),
    ],
)
def test_what_cannot_be_is_said_before_the_child_starts(
    directory: Path, options: list[str], command: list[str]
) -> None:
    done = _run(directory, options, command)
    assert done.returncode == 2
    assert done.stdout == ""
    assert "SIMULATED" not in done.stderr
    assert "Traceback" not in done.stderr


def test_without_a_vendor_there_is_no_platform(tmp_path: Path) -> None:
    assert _run(tmp_path, [], ["true"]).returncode == 2


_WAITS = _child(
    """
    awaited = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2}
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, awaited) & (awaited | {signal.SIGCHLD})
    print("ready", os.getpid(), flush=True)
    print(signal.sigwait(awaited).name, flush=True)
    print(len(ask(int(sys.argv[1]), [bytes(64)])[0][1]) > 1000, flush=True)
    sys.exit(3)
    """
)


def _start(directory: Path, command: list[str]) -> subprocess.Popen[str]:
    arguments = [*SIMULATOR, "run", "--dir", str(directory), "--", *command]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2"])
def test_signals_are_forwarded(directory: Path, name: str) -> None:
    with _start(directory, _WAITS) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ready")
        process.send_signal(signal.Signals[name])
        assert process.stdout.read() == f"{name}\nTrue\n"
        assert process.wait(timeout=30) == 3


def test_the_child_dies_with_the_platform(directory: Path) -> None:
    with _start(directory, _WAITS) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("ready")
        process.kill()
        # The end of the output: nobody holds its other end any more.
        assert process.stdout.read() == ""
        assert process.wait(timeout=30) == -signal.SIGKILL


_COUNTS = _child(
    """
    counted = []
    signal.signal(signal.SIGINT, lambda *_: (counted.append("int"), print("interrupted", flush=True)))
    def end(*_):
        print("ended", len(counted), flush=True)
        sys.exit(0)
    signal.signal(signal.SIGTERM, end)
    print("ready", flush=True)
    while True:
        signal.pause()
    """
)


def test_what_the_terminal_sends_reaches_the_child_once(directory: Path) -> None:
    controller, terminal = os.openpty()
    log_in = "import os, sys; os.login_tty(int(sys.argv[1])); os.execv(sys.argv[2], sys.argv[2:])"
    arguments = [
        sys.executable,
        "-c",
        log_in,
        str(terminal),
        *SIMULATOR,
        "run",
        "--dir",
        str(directory),
        "--",
        *_COUNTS,
    ]
    with subprocess.Popen(arguments, pass_fds=(terminal,)) as process, os.fdopen(controller, "rb", 0) as output:
        os.close(terminal)
        seen = b""

        def read_until(pattern: bytes) -> re.Match[bytes]:
            nonlocal seen
            while (match := re.search(pattern, seen)) is None:
                seen += os.read(output.fileno(), 4096)
            return match

        read_until(rb"ready\r")
        os.write(controller, b"\x03")
        read_until(rb"interrupted\r")
        # A forwarded SIGINT would come before this one.
        process.send_signal(signal.SIGTERM)
        assert read_until(rb"ended (\d+)\r")[1] == b"1"
        assert process.wait(timeout=30) == 0
