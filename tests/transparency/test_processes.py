"""A witness and a monitor, each a process of its own, catch a forked ledger and a restored snapshot."""

import asyncio
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path

import httpx
import pytest
from command_line import REFUSED, USAGE, call, call_json
from ledger_entries import leaf
from ledger_processes import MonitorProcess, WitnessProcess, file_server, publish
from logs import TestKey, TestLog, witness_key

from proxy_attestation.codes import Code
from proxy_attestation.errors import RefusedError
from proxy_attestation.formats.checkpoint import open_checkpoint
from proxy_attestation.transparency.witness_protocol import monitoring_path

pytestmark = [pytest.mark.e2e, pytest.mark.slow]
LOG_KEY = TestKey()
LogOf = Callable[[int], TestLog]


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[WitnessProcess]:
    process = WitnessProcess(tmp_path, witness_key(), LOG_KEY.verifier)
    yield process
    process.kill()


@pytest.fixture
def policy(tmp_path: Path, witness: WitnessProcess) -> Path:
    path = tmp_path / "witnesses"
    path.write_text(f"log {LOG_KEY.verifier}\nwitness w {witness.key} {witness.url}\nquorum w\n")
    return path


def fork_of(log: TestLog, keep: int, more: int) -> TestLog:
    """Return another history of the same log: its first entries, then others."""
    return TestLog(log.key).add(log.entries[:keep]).add(leaf(10_000 + number) for number in range(more))


def refused(witness: WitnessProcess, log: TestLog) -> None:
    with pytest.raises(RefusedError) as caught:
        asyncio.run(witness.cosign(log))
    assert caught.value.code is Code.LEDGER_WITNESS_REFUSED


def test_a_fork_and_a_restored_snapshot(log_of: LogOf, witness: WitnessProcess, policy: Path, tmp_path: Path) -> None:
    log, files = log_of(5), tmp_path / "log"
    publish(log, files, asyncio.run(witness.cosign(log)))
    with file_server(files) as url:
        options = ("--key", str(LOG_KEY.verifier), "--policy", policy, "--max-age", "0")
        assert call_json("ledger", "verify", url, "--key", str(LOG_KEY.verifier), "--policy", policy)["size"] == 5
        monitor = MonitorProcess(url, tmp_path / "monitor", *options)
        try:
            assert monitor.next("checkpoint")["size"] == 5
            snapshot = TestLog(log.key).add(log.entries)
            log.add(leaf(number) for number in range(5, 9))
            publish(log, files, asyncio.run(witness.cosign(log)))
            assert monitor.next("checkpoint")["size"] == 9

            # The authority's disk is set back to the snapshot.
            refused(witness, snapshot)
            publish(snapshot, files, witness_key().sign(snapshot.checkpoint().decode().split("\n\n")[0] + "\n"))
            assert monitor.next("alarm")["code"] == "ledger.rollback"

            # It goes on from there, and issues what nobody has seen.
            fork = fork_of(log, 5, 6)
            refused(witness, fork)
            publish(fork, files)
            assert monitor.next("alarm")["code"] == "ledger.witnesses"
            # Whoever follows without a witness still sees the fork, if he has seen the other side.
            plain = MonitorProcess(url, tmp_path / "monitor", "--key", str(LOG_KEY.verifier), "--max-age", "0")
            try:
                assert plain.next("alarm")["code"] == "ledger.fork"
            finally:
                assert plain.stop() == 0
            (evidence,) = (tmp_path / "monitor").glob("fork-*")
            assert evidence.read_bytes().endswith(fork.checkpoint())

            # The true history is still the only one that gets a cosignature.
            log.add([leaf(9)])
            publish(log, files, asyncio.run(witness.cosign(log)))
            assert monitor.next("checkpoint")["size"] == 10
        finally:
            assert monitor.stop() == 0
    status, told = witness.stop()
    assert status == 0
    assert "co-signed 10" in told


def test_one_look_ends_with_3(log_of: LogOf, tmp_path: Path) -> None:
    log = log_of(5)
    options = ("--key", str(LOG_KEY.verifier), "--state", tmp_path / "seen", "--once", "--max-age", "0")
    files = log.write(tmp_path / "log")
    call("ledger", "monitor", files, *options)
    publish(fork_of(log, 4, 3), files)
    call("ledger", "monitor", files, *options, status=REFUSED)


def test_a_killed_witness_remembers(log_of: LogOf, witness: WitnessProcess) -> None:
    log = log_of(5)
    asyncio.run(witness.cosign(log))
    witness.kill()
    witness.start()
    refused(witness, fork_of(log, 4, 1))
    refused(witness, fork_of(log, 4, 5))
    refused(witness, log_of(4))
    assert asyncio.run(witness.cosign(log.add([leaf(5)])))


def test_http(log_of: LogOf, witness: WitnessProcess) -> None:
    asyncio.run(witness.cosign(log_of(5)))
    with httpx.Client(base_url=witness.url, trust_env=False) as client:
        shown = client.get(f"/{monitoring_path(LOG_KEY.verifier.name)}")
        assert shown.status_code == HTTPStatus.OK
        assert open_checkpoint(shown.content, LOG_KEY.verifier, [witness.key])[2] == {witness.key}
        assert client.get("/").status_code == HTTPStatus.NOT_FOUND
        assert client.get("/add-checkpoint").status_code == HTTPStatus.METHOD_NOT_ALLOWED
        assert client.post("/add-checkpoint", content=b"x").status_code == HTTPStatus.BAD_REQUEST
        large = b"x" * 1_000_000
        assert client.post("/add-checkpoint", content=large).status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
        chunked = client.post("/add-checkpoint", content=iter([large]))
        assert chunked.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE
    assert httpx.get(witness.url, trust_env=False).status_code == HTTPStatus.NOT_FOUND


def test_a_port_that_is_taken(witness: WitnessProcess, tmp_path: Path) -> None:
    call(
        "ledger", "witness", "--state", tmp_path / "other", "--key", tmp_path / "witness.pem", "--name", "other",
        "--log", str(LOG_KEY.verifier), "--listen", witness.url.removeprefix("http://"), status=USAGE,
    )  # fmt: skip
