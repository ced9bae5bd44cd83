"""What the size of the ledger costs: an issuance into an empty store beside one into 1,000,000 entries, and a restart.

- Issuance: CPU microseconds of one order through the authority, in this process, ledger on disk: decision, entry,
  nodes, signed checkpoint, commit, signature, proof. Both stores are measured in turns in one run, so that what else
  the machine does falls on both alike; the ratio is that of the medians.
- Memory: how much more the process has resident after it has issued into the large store than before it opened it.
- Restart: from starting the authority's process over 100,000 entries, the tree recomputed from all of them, until it
  listens; the best of a few starts. The bound is on CPU seconds, since the process waits for nobody but a machine that
  has other things to do. Over 1,000,000 entries it is told beside it, without a bound.

Large stores are written directly: entries of the usual size, the nodes that they complete, one signed checkpoint. Exit
status 1 when an issuance into the large store costs more than BOUND times that into the empty one, when the process
needs more than MEMORY_MAX beyond, or when the best restart takes RESTART_MAX seconds of CPU or more.
"""

import asyncio
import json
import os
import resource
import socket
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "support"))

from workload import Workload, new_key, request_for

from proxy_attestation.appraisal.dcap_collateral import verify_collateral
from proxy_attestation.appraisal.endorsements import DcapEndorsements, Floor
from proxy_attestation.appraisal.kinds import Appraiser, Endorsements
from proxy_attestation.appraisal.roots import Roots
from proxy_attestation.authority.init import init_state
from proxy_attestation.authority.issue import Issuer
from proxy_attestation.authority.keys import FileKeys
from proxy_attestation.authority.messages import AuthorityInfo, Issued, IssueOrder, Proven
from proxy_attestation.authority.state import open_authority
from proxy_attestation.codes import Code
from proxy_attestation.errors import UnavailableError
from proxy_attestation.formats.checkpoint import Checkpoint
from proxy_attestation.formats.merkle import Frontier, leaf_hash, node_hash
from proxy_attestation.formats.signed_note import KeyType, Note, Verifier, sign_note
from proxy_attestation.formats.tee import Tee
from proxy_attestation.service.core import Core, Serving
from proxy_attestation.v1 import proxy_attestation_pb2 as pb
from proxy_attestation_simulator.harness import default_policy
from proxy_attestation_simulator.intel import Vendor

BOUND = 1.2
MEMORY_MAX = 32 * 1024 * 1024
RESTART_MAX = 2.0
SIZE = 1_000_000
RESTART_SIZE = 100_000
ROUNDS = 9
CALLS = 100
STARTS = 3
_AT_ONCE = 20_000
_ENTRY, _TBS, _CLAIMS = 330, 900, 600
"""Bytes of what one issuance for SGX leaves in the store."""


def now() -> datetime:
    """Return the system's time."""
    return datetime.now(UTC)


class Recorder:
    """An authority that issues nothing, and keeps the orders that a worker would have sent."""

    def __init__(self, info: AuthorityInfo) -> None:
        self._info = info
        self.orders: list[IssueOrder] = []

    async def hello(self) -> AuthorityInfo:
        """Say what a worker needs to know."""
        return self._info

    async def issue(self, order: IssueOrder) -> Issued:
        """Keep an order."""
        self.orders.append(order)
        raise UnavailableError(Code.AUTHORITY_UNAVAILABLE)

    async def raise_floor(self, endorsements: Endorsements) -> Floor:
        """Refuse: the floor was raised before."""
        del endorsements
        raise UnavailableError(Code.AUTHORITY_UNAVAILABLE)

    async def evidence(self, nonce: bytes) -> Proven:
        """Refuse: nobody asks here who the proxy is."""
        del nonce
        raise UnavailableError(Code.AUTHORITY_UNAVAILABLE)

    async def denied(self) -> bytes:
        """Refuse: nobody reads a deny list here."""
        raise UnavailableError(Code.AUTHORITY_UNAVAILABLE)


@dataclass
class Store:
    """An authority in a directory, and the orders of honest workers for it."""

    issuer: Issuer
    appraiser: Appraiser
    workload: Workload

    @classmethod
    def open(cls, state: Path, vendor: Vendor) -> "Store":
        """Open STATE and make it know the vendor's collateral."""
        authority = open_authority(state, now)
        issuer = Issuer(authority, authority.settings.server_names(("127.0.0.1",)))
        pieces = DcapEndorsements(**vendor.endorsements("sgx", now()))
        issuer.raise_floor(pieces)
        roots = Roots(intel=frozenset({vendor.root_pin}))
        found = verify_collateral(pieces, roots, now(), tee=Tee.SGX)
        return cls(issuer, Appraiser(roots, {(Tee.SGX, found.fmspc): found}), Workload(vendor.platform("sgx")))

    def orders(self, count: int) -> list[IssueOrder]:
        """Return orders that were never sent."""
        recorder = Recorder(self.issuer.hello())
        core = Core(recorder, now)
        core.serving = Serving(self.issuer.hello(), self.appraiser)
        key, request = new_key(), request_for()

        async def send() -> None:
            for _ in range(count):
                challenge = await core.get_challenge(pb.GetChallengeRequest(tee="sgx"))
                try:
                    await core.get_signed_certificate(self.workload.message(challenge, request, key))
                except UnavailableError as error:
                    if error.code is not Code.AUTHORITY_UNAVAILABLE:
                        raise

        asyncio.run(send())
        return recorder.orders

    def round(self) -> float:
        """Issue some certificates one by one; return CPU microseconds of one."""
        orders = self.orders(CALLS)
        started = time.process_time_ns()
        for order in orders:
            (issued,) = self.issuer.issue_batch([order])
            if not isinstance(issued, Issued):
                raise issued
        return (time.process_time_ns() - started) / len(orders) / 1000


def new_state(directory: Path, name: str, vendor: Vendor) -> Path:
    """Make an authority."""
    policy = directory / "policy.toml"
    policy.write_text(default_policy(vendor))
    state = directory / name
    init_state(
        state,
        trust_domain="example.org",
        dns=["example.org"],
        policy=policy,
        simulated_roots=[vendor.root_der],
        now=now(),
    )
    return state


def grow(state: Path, size: int) -> None:
    """Fill the ledger of STATE up to so many entries: leaves that have expired, of the usual size."""
    with closing(sqlite3.connect(state / "ledger.sqlite", isolation_level=None)) as connection:
        triggers = connection.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in triggers:
            connection.execute(f"DROP TRIGGER {name}")
        stored = connection.execute("SELECT entry FROM entry ORDER BY idx").fetchall()
        (note,) = connection.execute("SELECT note FROM checkpoint WHERE name = 'signed'").fetchone()
        connection.execute("PRAGMA synchronous = OFF")
        tree = Tree()
        for (entry,) in stored:
            tree.add(entry)
        while tree.size < size:
            connection.execute("BEGIN")
            rows, nodes = [], []
            for index in range(tree.size, min(size, tree.size + _AT_ONCE)):
                entry = index.to_bytes(8, "big") * (_ENTRY // 8)
                rows.append(_row(index, entry))
                nodes.append((index, tree.add(entry)))
            connection.executemany("INSERT INTO entry VALUES (?, 1, ?, ?, ?, ?, ?, ?, ?, ?)", rows)
            connection.executemany("INSERT INTO node VALUES (?, ?)", nodes)
            connection.execute("COMMIT")
        key = FileKeys(state / "keys").load_log()
        log = Verifier(note.split(b"\n")[0].decode(), KeyType.ED25519, key.public_key)
        text = Checkpoint(log.name, tree.size, tree.root).text
        signed = Note(text, (sign_note(text, log, key.sign),)).encode()
        connection.execute("UPDATE checkpoint SET size = ?, note = ? WHERE name = 'signed'", (size, signed))
        for _, statement in triggers:
            connection.execute(statement)
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


class Tree:
    """A tree that is built entry by entry."""

    def __init__(self) -> None:
        self.size = 0
        self._nodes: list[bytes] = []

    @property
    def root(self) -> bytes:
        """Its root."""
        return Frontier(self.size, tuple(self._nodes)).root

    def add(self, entry: bytes) -> bytes:
        """Add an entry; return the hashes that are stored with it."""
        made, index = [leaf_hash(entry)], self.size
        while index & 1:
            made.append(node_hash(self._nodes.pop(), made[-1]))
            index >>= 1
        self._nodes.append(made[-1])
        self.size += 1
        return b"".join(made)


_PAST = int(time.time()) - 86_400


def _row(index: int, entry: bytes) -> Sequence[object]:
    name = index.to_bytes(8, "big")
    return index, entry, name + bytes(_TBS), _PAST, _PAST + 3600, name * 4, name * 2, name * 4, name + bytes(_CLAIMS)


def resident() -> int:
    """Return the bytes that this process has resident."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def restarts(state: Path) -> Iterator[tuple[float, float]]:
    """Yield how long the authority's process takes until it listens, start after start: seconds of CPU, and in all."""
    command = [sys.executable, "-P", "-m", "proxy_attestation.authority.process", "--state", str(state)]
    for _ in range(STARTS):
        ours, theirs = socket.socketpair()
        with ours, theirs:
            started, used = time.monotonic(), _used_by_children()
            process = subprocess.Popen(
                command, stdin=theirs.fileno(), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
            theirs.close()
            with process:
                assert process.stdout is not None
                ready = process.stdout.readline().startswith(b"ready")
                seconds = time.monotonic() - started
                ours.close()  # it ends with its supervisor
                process.wait(60)
        if not ready:
            raise RuntimeError("the authority did not start")
        yield _used_by_children() - used, seconds


def _used_by_children() -> float:
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def main() -> int:
    """Measure, print (or JSON with --json), and compare with the bounds."""
    vendor = Vendor.create(now())
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        empty, large, restarted = (new_state(directory, one, vendor) for one in ("empty", "large", "restarted"))
        grow(large, SIZE)
        grow(restarted, RESTART_SIZE)
        small_store = Store.open(empty, vendor)
        small_store.round()
        before = resident()
        large_store = Store.open(large, vendor)
        large_store.round()
        turns = [(small_store.round(), large_store.round()) for _ in range(ROUNDS)]
        more = max(0, resident() - before)
        for store in (small_store, large_store):
            store.issuer.authority.ledger.close()
        best, at_large = min(restarts(restarted)), min(restarts(large))
    into_empty, into_large = (statistics.median(column) for column in zip(*turns, strict=True))
    ratio = into_large / into_empty
    if "--json" in sys.argv:
        figures = {"empty_us": into_empty, "large_us": into_large, "ratio": ratio, "memory_more": more}
        print(json.dumps({**figures, "restart_s": best, "restart_large_s": at_large, "bound": BOUND}))
    else:
        print(f"an issuance into an empty ledger        {into_empty:8.0f} CPU us")
        print(f"an issuance into {SIZE:,} entries     {into_large:8.0f} CPU us, {ratio:.2f} times as much")
        print(f"resident memory for {SIZE:,} entries  {more / 2**20:8.1f} MiB more")
        print(f"a restart over {RESTART_SIZE:,} entries         {best[0]:8.2f} CPU s, {best[1]:.2f} s in all")
        print(f"a restart over {SIZE:,} entries       {at_large[0]:8.2f} CPU s, {at_large[1]:.2f} s in all")
    problems = []
    if ratio > BOUND:
        problems.append(f"{ratio:.2f} times the cost in a large ledger, at most {BOUND} are allowed")
    if more > MEMORY_MAX:
        problems.append(f"{more} bytes more for a large ledger, at most {MEMORY_MAX} are allowed")
    if best[0] >= RESTART_MAX:
        problems.append(f"a restart of {best[0]:.2f} s of CPU, less than {RESTART_MAX} are allowed")
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
