"""Whatever is killed, and when: nothing that was issued is lost, and every call can be repeated.

Issuers run without a pause while a seeded sequence of SIGKILLs falls on authority, workers and supervisor, at least
fifty on each. Every call that got no answer is repeated until it gets one. Afterwards each certificate in hand has
exactly one row in the ledger, by the digest of its to-be-signed bytes, and the indexes are 0 to n-1. The tree has the
root that the entries have, and the proof that came with each certificate verifies.
"""

import contextlib
import hashlib
import os
import random
import signal
import sqlite3
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from workload import Client, Workload, new_key, request_for, tbs_digest

from proxy_attestation.errors import UnavailableError
from proxy_attestation.formats.checkpoint import Checkpoint, open_checkpoint
from proxy_attestation.formats.ledger_entry import EntryKind, decode_entry
from proxy_attestation.formats.signed_note import KeyType, Verifier
from proxy_attestation.formats.tlog_proof import parse_tlog_proof, verify_tlog_proof
from proxy_attestation.service.published import PublishedLedger
from proxy_attestation_simulator.errors import SimulatorError
from proxy_attestation_simulator.harness import RunningProxy, make_proxy

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(900)]

SEED = 20260811
KILLS = 50
ISSUERS = 3
RESTING = 0.05


T = TypeVar("T")


@dataclass
class Issuer:
    """Issues one certificate after another and never gives up on one.

    Attributes:
        issued: digest of the to-be-signed bytes -> ledger index, of every answer.
        repeated: calls for a certificate that were repeated after a lost answer.
        failure: what ended it early.
    """

    address: str
    root: bytes
    workload: Workload
    stop: threading.Event
    issued: dict[bytes, int] = field(default_factory=dict)
    proofs: list[bytes] = field(default_factory=list)
    repeated: int = 0
    failure: BaseException | None = None
    client: Client | None = None
    pause: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        try:
            while not self.stop.is_set():
                challenge, _ = self._until_answered(lambda client: client.challenge())
                message = self.workload.message(challenge, request_for(), new_key())
                answer, tries = self._until_answered(lambda client: client.sign(message))  # noqa: B023 - called at once
                self.repeated += tries > 1
                self.issued[tbs_digest(answer.chain[0])] = answer.ledger_index
                self.proofs.append(answer.ledger_proof)
        except BaseException as error:
            self.failure = error
            raise
        finally:
            self._close()

    def _until_answered(self, call: Callable[[Client], T]) -> tuple[T, int]:
        """Repeat a call until it is answered; return the answer and the number of tries."""
        for attempt in range(1, 2000):
            try:
                if self.client is None:
                    self.client = Client(self.address, self.root)
                return call(self.client), attempt
            except (httpx.TransportError, UnavailableError):
                self._close()
                # Nothing to wait for but the next process: the pause only keeps this thread from taking its CPU. Also
                # when told to end, this call is still brought home.
                self.pause.wait(RESTING)
        raise AssertionError("no answer in 2000 tries")

    def _close(self) -> None:
        if self.client is not None:
            self.client.close()
            self.client = None


def kill_authority(proxy: RunningProxy) -> None:
    os.kill(proxy.authority_pid(), signal.SIGKILL)


def kill_worker(proxy: RunningProxy) -> None:
    pids = proxy.worker_pids()
    if not pids:
        raise SimulatorError("no worker runs at this moment")
    os.kill(pids[0], signal.SIGKILL)


def kill_supervisor(proxy: RunningProxy) -> None:
    proxy.kill()
    proxy.start()


def root_of(hashes: list[bytes]) -> bytes:
    """RFC 6962, section 2.1, over hashes of leaves."""
    if len(hashes) == 1:
        return hashes[0]
    split = 1
    while 2 * split < len(hashes):
        split *= 2
    return hashlib.sha256(b"\1" + root_of(hashes[:split]) + root_of(hashes[split:])).digest()


def checkpoint_of(state: Path) -> tuple[Verifier, Checkpoint]:
    """The log's key, as its key file has it, and the checkpoint that is stored, verified with it."""
    key = load_pem_private_key((state / "keys" / "log.key").read_bytes(), None)
    assert isinstance(key, Ed25519PrivateKey)
    with contextlib.closing(PublishedLedger(state / "ledger.sqlite")) as ledger:
        published = ledger.published()
    assert published is not None
    origin = published.note.split(b"\n")[0].decode()
    log = Verifier(origin, KeyType.ED25519, key.public_key().public_bytes_raw())
    return log, open_checkpoint(published.note, log)[0]


KINDS = {"authority": kill_authority, "worker": kill_worker, "supervisor": kill_supervisor}


def rows_of(state: Path) -> list[tuple[int, int, bytes]]:
    with contextlib.closing(sqlite3.connect(state / "ledger.sqlite")) as ledger:
        return list(ledger.execute("SELECT idx, kind, entry FROM entry ORDER BY idx"))


def test_nothing_is_lost_whatever_is_killed(tmp_path: Path) -> None:
    chance = random.Random(SEED)  # noqa: S311 - a sequence that can be repeated, not a secret
    order = [kind for kind in KINDS for _ in range(KILLS)]
    chance.shuffle(order)
    limits = ("--peer-rate", "10000")
    proxy = make_proxy(tmp_path, workers=2, arguments=limits)
    proxy.start()
    proxy.keep_ports()
    root = Client.connect(proxy.connect, proxy.root_pin).root
    stop = threading.Event()
    platform = proxy.vendor.platform("sgx")
    issuers = [Issuer(proxy.connect, root, Workload(platform), stop) for _ in range(ISSUERS)]
    threads = [threading.Thread(target=issuer.run) for issuer in issuers]
    killed: Counter[str] = Counter()
    try:
        for thread in threads:
            thread.start()
        for kind in order:
            before = sum(len(issuer.issued) for issuer in issuers)
            goal = before + chance.randint(0, 4)
            # The next blow falls after so many more certificates, wherever everyone is by then.
            while sum(len(issuer.issued) for issuer in issuers) < goal and all(t.is_alive() for t in threads):
                stop.wait(0.002)
            for _ in range(500):
                try:
                    KINDS[kind](proxy)
                except (SimulatorError, ProcessLookupError):
                    stop.wait(0.01)  # it is being restarted: the blow waits for it
                    continue
                killed[kind] += 1
                break
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
        status = proxy.stop()
    assert not any(thread.is_alive() for thread in threads)
    assert [issuer.failure for issuer in issuers] == [None] * ISSUERS
    assert killed == dict.fromkeys(KINDS, KILLS)
    assert status == 0
    rows = rows_of(proxy.state)
    assert [index for index, _, _ in rows] == list(range(len(rows)))
    in_ledger = Counter(decode_entry(bytes(entry)).tbs_sha256 for _, kind, entry in rows if kind == EntryKind.LEAF)
    in_hand = {digest: index for issuer in issuers for digest, index in issuer.issued.items()}
    assert all(in_ledger[digest] == 1 for digest in in_hand)
    by_index = {index: decode_entry(bytes(entry)).tbs_sha256 for index, _, entry in rows}
    assert all(by_index[index] == digest for digest, index in in_hand.items())
    # Every call came home, so every row is in somebody's hand.
    assert set(in_ledger) == set(in_hand)
    assert sum(issuer.repeated for issuer in issuers) > 0
    hashes = [hashlib.sha256(b"\0" + bytes(entry)).digest() for _, _, entry in rows]
    log, checkpoint = checkpoint_of(proxy.state)
    assert (checkpoint.size, checkpoint.root) == (len(rows), root_of(hashes))
    for proof in map(parse_tlog_proof, (proof for issuer in issuers for proof in issuer.proofs)):
        verify_tlog_proof(proof, hashes[proof.index], log)
