"""The authority as a process of its own: ready, signals, the end of its parent, and `kill -9` at any instant."""

import asyncio
import hashlib
import json
import random
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from proxy_attestation.appraisal.endorsements import DcapEndorsements, Floor
from proxy_attestation.authority import process
from proxy_attestation.authority import state as layout
from proxy_attestation.authority.client import AuthorityClient
from proxy_attestation.authority.init import init_state
from proxy_attestation.authority.messages import AuthorityInfo, Issued, IssueOrder
from proxy_attestation.codes import Code
from proxy_attestation.errors import RefusedError, UnavailableError
from proxy_attestation.formats.ledger_entry import EntryKind, decode_entry
from proxy_attestation.formats.tee import Tee
from proxy_attestation_simulator.intel import Vendor

FMSPC = bytes.fromhex("00606a000000")
VENDOR = Vendor.create(datetime.now(UTC))
SET = DcapEndorsements(**VENDOR.endorsements(fmspc=FMSPC, evaluation_number=18, crl_number=5))
OLDER = DcapEndorsements(**VENDOR.endorsements(fmspc=FMSPC, evaluation_number=17, crl_number=5))
FLOOR = Floor(18, int((VENDOR.created_at - timedelta(days=1)).timestamp()), 5, 5)


class Process:
    """One authority process; its log goes to a file, or to a pipe that the test reads."""

    def __init__(self, state: Path, *arguments: str, piped_log: bool = False) -> None:
        self.log = state.parent / "authority.log"
        self.line, theirs = socket.socketpair()
        self.line.setblocking(False)
        with self.log.open("ab") as log, theirs:
            self.child: subprocess.Popen[bytes] = subprocess.Popen(
                [sys.executable, "-P", "-m", "proxy_attestation.authority.process", "--state", str(state), *arguments],
                stdin=theirs.fileno(),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE if piped_log else log,
            )
        assert self.child.stdout is not None
        self.first_line = self.child.stdout.readline().decode()

    @property
    def ready(self) -> Any:
        word, fields = self.first_line.split(" ", 1)
        assert word == "ready"
        return json.loads(fields)

    def end(self, number: signal.Signals | None = None) -> int:
        """Send a signal, wait, and let go of the pipes; return the exit status."""
        if number is not None:
            self.child.send_signal(number)
        status = self.child.wait(30)
        self.line.close()
        for pipe in (self.child.stdout, self.child.stderr):
            if pipe is not None:
                pipe.close()
        return status

    def next_event(self, prefix: str) -> str:
        """Wait for the next event in a piped log whose name begins so."""
        assert self.child.stderr is not None
        for line in self.child.stderr:
            event = str(json.loads(line)["event"])
            if event.startswith(prefix):
                return event
        pytest.fail("the process ended")

    def events(self) -> list[Any]:
        return [json.loads(line) for line in self.log.read_text().splitlines()]


@pytest.fixture
def vendor() -> Vendor:
    """A vendor of today, for processes that have no other clock."""
    return VENDOR


@pytest.fixture
def state(tmp_path: Path, policy_file: Path, vendor_root: bytes) -> Path:
    """An authority made now: a process has no other clock."""
    made = tmp_path / "state"
    init_state(
        made,
        trust_domain="example.org",
        dns=["example.org"],
        policy=policy_file,
        simulated_roots=[vendor_root],
        now=datetime.now(UTC),
    )
    return made


@pytest.fixture
def start(state: Path) -> Iterator[Callable[..., Process]]:
    """Start processes, of which none survives the test."""
    started: list[Process] = []

    def one(*arguments: str, piped_log: bool = False) -> Process:
        started.append(Process(state, *arguments, piped_log=piped_log))
        return started[-1]

    yield one
    for running in started:
        if running.child.poll() is None:
            running.end(signal.SIGKILL)


@pytest.fixture
def order(world: Any, vendor_root: bytes) -> Callable[[AuthorityInfo], IssueOrder]:
    """Make an order that the authority accepts now."""
    anchor = layout.read_anchor(vendor_root, "test")[1]

    def one(info: AuthorityInfo) -> IssueOrder:
        world.clock.now = datetime.now(UTC)
        made: IssueOrder = world.order(info, claims=world.claims(anchor=anchor), collateral_floor=FLOOR)
        return made

    return one


async def connect(state: Path) -> tuple[AuthorityClient, AuthorityInfo]:
    client = await AuthorityClient.connect(state / "run" / "authority.sock")
    await client.raise_floor(SET)
    return client, await client.hello()


async def issue_one(state: Path, order: Callable[[AuthorityInfo], IssueOrder]) -> Issued:
    client, info = await connect(state)
    try:
        return await client.issue(order(info))
    finally:
        await client.close()


@pytest.mark.e2e
class TestProcess:
    """Start and end."""

    def test_it_serves_until_it_is_told_to_stop(
        self, state: Path, start: Callable[..., Process], order: Callable[[AuthorityInfo], IssueOrder], world: Any
    ) -> None:
        running = start("--tls-name", "proxy.example.org", "--tls-name", "127.0.0.1")
        path = state / "run" / "authority.sock"
        assert running.ready["socket"] == str(path)
        assert running.ready["simulated"] is True

        async def work() -> tuple[bytes, ...]:
            client, info = await connect(state)
            assert info.ca_id.hex() == running.ready["ca_id"]
            assert (await client.issue(order(info))).index > 0
            with pytest.raises(RefusedError) as caught:
                await client.tls_leaf(world.spki)
            assert caught.value.code is Code.AUTHORITY_CALLER
            supervisor = await AuthorityClient.adopt(running.line.dup())
            chain = await supervisor.tls_leaf(world.spki)
            await client.close()
            await supervisor.close()
            return chain

        leaf = x509.load_der_x509_certificate(asyncio.run(work())[0])
        names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == ["proxy.example.org"]
        assert running.end(signal.SIGTERM) == 0
        assert not path.exists()
        assert running.events()[-1]["event"] == "stopped"
        assert not list(state.glob("ledger.sqlite-*"))

    def test_it_ends_with_its_parent(self, start: Callable[..., Process]) -> None:
        running = start()
        assert running.ready
        running.line.close()
        assert running.child.wait(30) == 0
        assert "parent gone" in [event["event"] for event in running.events()]
        running.end()

    def test_it_reads_the_policy_again(self, state: Path, start: Callable[..., Process]) -> None:
        running = start(piped_log=True)
        policy = state / "policy.toml"
        text = policy.read_text()

        def told() -> AuthorityInfo:
            async def work() -> AuthorityInfo:
                client, info = await connect(state)
                await client.close()
                return info

            return asyncio.run(work())

        def change(new: str) -> str:
            policy.write_text(new)
            running.child.send_signal(signal.SIGHUP)
            return running.next_event("policy ")

        before = told()
        assert change(text.replace('ip = ["192.0.2.7"]', 'ip = ["192.0.2.8"]')) == "policy kept"
        assert change("nonsense") == "policy kept"
        assert change(text) == "policy unchanged"
        assert told() == before
        assert change(text.replace("version = 7", "version = 8")) == "policy in force"
        after = told()
        assert after.policy_digest != before.policy_digest
        assert after.generation > before.generation
        assert running.end(signal.SIGTERM) == 0

    def test_floors_and_certificates_survive(
        self, state: Path, start: Callable[..., Process], order: Callable[[AuthorityInfo], IssueOrder]
    ) -> None:
        first = start()
        issued = asyncio.run(issue_one(state, order))
        assert first.end(signal.SIGTERM) == 0
        second = start()
        assert second.ready["entries"] == issued.index + 1

        async def work() -> None:
            client = await AuthorityClient.connect(state / "run" / "authority.sock")
            info = await client.hello()
            assert {(tee, fmspc): floor for tee, fmspc, floor in info.floors} == {(Tee.SGX, FMSPC): FLOOR}
            with pytest.raises(UnavailableError) as caught:
                await client.raise_floor(OLDER)
            assert caught.value.code is Code.ENDORSEMENTS_UNAVAILABLE
            await client.close()

        asyncio.run(work())
        assert second.end(signal.SIGTERM) == 0

    @pytest.mark.parametrize(
        ("what", "status", "code"),
        [
            ("authority.toml", 4, Code.AUTHORITY_STATE),
            ("key mode", 4, Code.AUTHORITY_STATE),
            ("policy", 4, Code.POLICY_MALFORMED),
            ("tls name", 2, Code.USAGE),
        ],
    )
    def test_what_does_not_fit_does_not_start(
        self, state: Path, start: Callable[..., Process], what: str, status: int, code: Code
    ) -> None:
        arguments = ["--tls-name", "proxy.example.com"] if what == "tls name" else []
        if what == "authority.toml":
            path = state / "authority.toml"
            path.write_text(path.read_text().replace("simulated", "real"))
        elif what == "key mode":
            (state / "keys" / "root.key").chmod(0o644)
        elif what == "policy":
            (state / "policy.toml").write_text("")
        refused = start(*arguments)
        assert refused.first_line == ""
        assert refused.end() == status
        assert refused.events()[-1]["code"] == str(code)

    @pytest.mark.parametrize("stdin", [subprocess.DEVNULL, subprocess.PIPE])
    def test_it_needs_a_parent_that_holds_a_socket(self, state: Path, stdin: int) -> None:
        done = subprocess.run(
            [sys.executable, "-P", "-m", "proxy_attestation.authority.process", "--state", str(state)],
            stdin=stdin,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 2
        assert done.stdout == b""

    def test_a_command_line_that_cannot_be_obeyed(self) -> None:
        with pytest.raises(SystemExit) as caught:
            process.main(["--sate", "x"])
        assert caught.value.code == 2


class Killing:
    """Issues against an authority that is killed, and remembers what was answered."""

    def __init__(self, state: Path, make: Callable[[AuthorityInfo], IssueOrder], seed: int) -> None:
        self.state = state
        self.make = make
        self.random = random.Random(seed)  # noqa: S311 - a test that can be run again
        self.answered: list[tuple[IssueOrder, Issued]] = []
        self.unanswered: list[IssueOrder] = []

    async def until_killed(self, running: Process) -> None:
        """Issue from several callers, and kill the process after some answers, in the midst of others."""
        client, info = await connect(self.state)
        target = len(self.answered) + self.random.randrange(1, 60)
        delay = self.random.random() * 0.003

        async def caller() -> None:
            while True:
                order = self.make(info)
                try:
                    issued = await client.issue(order)
                except UnavailableError:
                    self.unanswered.append(order)
                    return
                self.answered.append((order, issued))
                if len(self.answered) == target:
                    await asyncio.sleep(delay)
                    running.child.kill()

        await asyncio.gather(*(caller() for _ in range(8)))
        await client.close()
        assert running.end() == -signal.SIGKILL

    async def retry(self) -> None:
        """Repeat every call that was not answered, and one that was."""
        client, _ = await connect(self.state)
        orders, self.unanswered = self.unanswered, []
        self.answered += zip(orders, [await client.issue(order) for order in orders], strict=True)
        order, issued = self.random.choice(self.answered)
        assert (await client.issue(order)).chain == issued.chain
        await client.close()


@pytest.mark.e2e
def test_kill_9_loses_nothing_and_uses_no_index_twice(
    state: Path, start: Callable[..., Process], order: Callable[[AuthorityInfo], IssueOrder]
) -> None:
    killing = Killing(state, order, seed=2)
    for _ in range(5):
        running = start()
        if killing.unanswered:
            asyncio.run(killing.retry())
        asyncio.run(killing.until_killed(running))
    last = start()
    asyncio.run(killing.retry())
    assert last.end(signal.SIGTERM) == 0

    with closing(sqlite3.connect(state / "ledger.sqlite")) as connection:
        rows = connection.execute("SELECT idx, entry, tbs, session_id FROM entry ORDER BY idx").fetchall()
    assert [row[0] for row in rows] == list(range(len(rows)))
    by_digest: dict[bytes, list[int]] = {}
    leaves = 0
    for index, encoded, tbs, _ in rows:
        entry = decode_entry(encoded)
        leaves += entry.kind is EntryKind.LEAF
        if entry.tbs_sha256 is not None:
            assert entry.tbs_sha256 == hashlib.sha256(tbs).digest()
            by_digest.setdefault(entry.tbs_sha256, []).append(index)
    assert len(killing.answered) == leaves
    for _, issued in killing.answered:
        tbs = x509.load_der_x509_certificate(issued.chain[0]).tbs_certificate_bytes
        assert by_digest[hashlib.sha256(tbs).digest()] == [issued.index]
    sessions = [row[3] for row in rows if row[3] is not None]
    assert len(set(sessions)) == len(sessions) == leaves
