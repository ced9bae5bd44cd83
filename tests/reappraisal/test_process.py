"""The process that `serve` starts: ready at once, judges by itself, ends when told or when its supervisor has gone."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest
from issuing import Issuing, issuing

SECONDS = 60.0


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Issuing]:
    with issuing(tmp_path, datetime.now(UTC)) as made:
        (made.state / "run" / "metrics").mkdir()
        made.issue()
        yield made


@contextmanager
def started(state: Path, log: Path) -> Iterator[tuple["subprocess.Popen[bytes]", socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, log.open("wb") as errors:
        with theirs:
            command = [sys.executable, "-P", "-m", "proxy_attestation.reappraisal.process", str(state)]
            process = subprocess.Popen(command, stdin=theirs.fileno(), stdout=subprocess.PIPE, stderr=errors)
        try:
            yield process, ours
        finally:
            process.kill()
            process.wait()
            assert process.stdout is not None
            process.stdout.close()


def lines_until(log: Path, process: "subprocess.Popen[bytes]", event: str) -> list[dict[str, object]]:
    """Return the log up to an event; the process wakes us by writing nothing, so this looks again and again."""
    deadline = os.times().elapsed + SECONDS
    while os.times().elapsed < deadline and process.poll() is None:
        lines = [json.loads(line) for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")]
        if any(line["event"] == event for line in lines):
            return lines
    raise AssertionError(log.read_text())


def test_it_judges_by_itself_and_ends_when_told(proxy: Issuing, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with started(proxy.state, log) as (process, _):
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        lines = lines_until(log, process, "certificates judged again")
        said = json.loads((proxy.state / "run" / "reappraisal.json").read_text())
        assert (said["live"], said["accepted"]) == (1, 1)
        assert os.getpriority(os.PRIO_PROCESS, process.pid) == 19
        assert {line["process"] for line in lines} == {"reappraisal"}
        process.send_signal(signal.SIGTERM)
        assert process.wait(SECONDS) == 0


def test_a_hangup_has_it_look_at_once(proxy: Issuing, tmp_path: Path) -> None:
    log = tmp_path / "log"
    with started(proxy.state, log) as (process, _):
        lines_until(log, process, "certificates judged again")
        proxy.write_endorsements("sgx", fault="tcb-recovery")
        process.send_signal(signal.SIGHUP)
        lines_until(log, process, "certificate would be refused")


def test_it_ends_with_its_supervisor(proxy: Issuing, tmp_path: Path) -> None:
    with started(proxy.state, tmp_path / "log") as (process, line):
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        line.close()
        assert process.wait(SECONDS) == 1


def test_a_ledger_that_is_away_is_logged_and_waited_for(proxy: Issuing, tmp_path: Path) -> None:
    log, ledger = tmp_path / "log", proxy.state / "ledger.sqlite"
    proxy.close()
    ledger.rename(tmp_path / "away")
    with started(proxy.state, log) as (process, _):
        lines_until(log, process, "certificates not judged")
        assert process.poll() is None
    (tmp_path / "away").rename(ledger)
    proxy.open()


def test_without_an_authority_it_does_not_start(tmp_path: Path) -> None:
    with started(tmp_path, tmp_path / "log") as (process, _):
        assert process.wait(SECONDS) == 4
