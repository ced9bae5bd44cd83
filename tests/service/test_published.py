"""The ledger as static files, and who may read how much of it."""

import asyncio
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ledgers import LOG_KEY, ORIGIN, signing

from proxy_attestation.authority.ledger import Ledger, Row
from proxy_attestation.authority.tree import Witnesses
from proxy_attestation.codes import Code
from proxy_attestation.errors import RequestError, UnavailableError
from proxy_attestation.formats.checkpoint import Checkpoint, open_checkpoint
from proxy_attestation.formats.ledger_entry import EntryKind
from proxy_attestation.formats.merkle import leaf_hash, read_frontier, verify_consistency
from proxy_attestation.formats.signed_note import KeyType, Verifier
from proxy_attestation.formats.tiles import Tile, decode_entries, decode_tile, new_tiles, node_reader
from proxy_attestation.formats.tlog_proof import parse_tlog_proof, verify_tlog_proof
from proxy_attestation.service.calls import Calls
from proxy_attestation.service.connect_front import ConnectFront
from proxy_attestation.service.core import Core
from proxy_attestation.service.published import READS_BURST, LedgerFiles, PublishedLedger
from proxy_attestation.v1 import proxy_attestation_pb2 as pb

LOG = Verifier(ORIGIN, KeyType.ED25519, LOG_KEY.public_key)


def grow(ledger: Ledger, count: int) -> None:
    with ledger.transaction():
        first = ledger.size()
        ledger.append([Row(EntryKind.POLICY, b"entry %d" % index) for index in range(first, first + count)])


class Exchange:
    """Takes the answer, as granian's protocol object does."""

    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.answer = int(status), dict(headers), body


def get(calls: Calls, path: str, method: str = "GET") -> tuple[int, dict[str, str], bytes]:
    exchange = Exchange()
    scope = SimpleNamespace(method=method, path=path, headers={}, client="192.0.2.1:5")
    asyncio.run(ConnectFront(calls).__rsgi__(scope, exchange))
    return exchange.answer


def checkpoint(note: bytes) -> Checkpoint:
    return open_checkpoint(note, LOG)[0]


@pytest.mark.parametrize("size", [1, 255, 256, 257, 600, 66_000])
def test_every_file_of_a_tree_and_its_root(writer: Ledger, files: LedgerFiles, calls: Calls, size: int) -> None:
    grow(writer, size)
    status, headers, note = get(calls, "/checkpoint")
    assert (status, headers["content-type"]) == (200, "text/plain; charset=utf-8")
    assert headers["cache-control"] == "max-age=1"
    told = checkpoint(note)
    assert told.size == size
    found: dict[str, bytes] = {}
    for tile in new_tiles(0, size):
        read = files.file(f"/{tile.path}")
        assert read is not None
        assert (read.kind, read.cache) == ("application/octet-stream", "max-age=31536000, immutable")
        found[tile.path] = read.body
    read_tile = node_reader(lambda tile: decode_tile(found[tile.path], tile.width), size)
    assert read_frontier(read_tile, size).root == told.root
    bundles = [(tile, found[tile.path]) for tile in new_tiles(0, size) if tile.level is None]
    entries = [entry for tile, data in bundles for entry in decode_entries(data, tile.width)]
    assert entries == [b"entry %d" % index for index in range(size)]


def test_partial_files_as_long_as_a_checkpoint_may_need_them(writer: Ledger, files: LedgerFiles) -> None:
    grow(writer, 300)
    whole = files.file("/tile/0/001.p/44")
    assert whole is not None
    grow(writer, 500)
    assert files.file("/tile/0/001.p/44") == whole, "of an older checkpoint"
    later = files.file("/tile/0/001")
    assert later is not None
    assert later.body.startswith(whole.body)
    assert files.file("/tile/1/000.p/3") is not None


NOWHERE = [
    "/tile/0/003.p/33", "/tile/0/003", "/tile/entries/003.p/33", "/tile/entries/003", "/tile/0/004.p/1",
    "/tile/1/000.p/4", "/tile/1/000", "/tile/2/000.p/1", "/tile/63/000.p/1", "/tile/0/000.p/0", "/tile/0/000.p/256",
    "/tile/00/000", "/tile/0/0", "/tile/0/x000/000", "/tile/0/x001/000", "/tile/-1/000", "/tile/0/000/", "/tile/",
    "/tile/0/" + "x999/" * 6 + "999", "/tile/0/000.p/032", "/tile/entries/0000", "/tile/0/\u0661\u0661\u0661",
]  # fmt: skip


@pytest.mark.parametrize("path", NOWHERE)
def test_what_is_no_file_of_this_tree(writer: Ledger, files: LedgerFiles, calls: Calls, path: str) -> None:
    grow(writer, 800)
    assert files.file("/tile/0/003.p/32") is not None
    status, headers, _ = get(calls, path)
    assert (status, headers["cache-control"]) == (404, "no-store")


def test_before_there_is_an_entry(files: LedgerFiles, calls: Calls) -> None:
    assert files.file("/tile/0/000.p/1") is None
    assert get(calls, "/checkpoint")[0] == 404


@pytest.mark.usefixtures("files")
def test_methods(writer: Ledger, calls: Calls) -> None:
    grow(writer, 1)
    assert [get(calls, "/checkpoint", method)[0] for method in ("GET", "HEAD", "POST", "PUT")] == [200, 200, 405, 405]
    assert get(calls, "/tile/0/000.p/1", "DELETE")[0] == 405


def test_proofs_come_from_the_same_place(writer: Ledger, files: LedgerFiles, core: Core) -> None:
    grow(writer, 70)
    answer = asyncio.run(core.get_ledger_proof(pb.GetLedgerProofRequest(index=33)))
    proof = parse_tlog_proof(answer.inclusion_proof)
    assert proof.checkpoint == answer.checkpoint
    assert verify_tlog_proof(proof, leaf_hash(b"entry 33"), LOG).size == 70
    for index in (70, 71, (1 << 64) - 1):
        with pytest.raises(RequestError) as caught:
            files.proof(index)
        assert caught.value.code is Code.LEDGER_NO_PROOF


def test_consistency(writer: Ledger, reader: PublishedLedger) -> None:
    grow(writer, 37)
    before = reader.published()
    grow(writer, 63)
    after = reader.published()
    assert before is not None
    assert after is not None
    path = reader.consistency(37, 100)
    verify_consistency(37, 100, checkpoint(before.note).root, checkpoint(after.note).root, path)


def test_where_witnesses_are_required_nothing_goes_before_them(
    writer: Ledger, reader: PublishedLedger, files: LedgerFiles
) -> None:
    grow(writer, 10)
    assert files.file("/checkpoint") is not None
    writer.require_witnesses(Witnesses(1, ()))
    assert files.file("/checkpoint") is None
    assert files.file("/tile/0/000.p/10") is None
    with pytest.raises(RequestError):
        files.proof(3)
    assert reader.signed() is not None


def test_strangers_read_so_much_and_no_more(writer: Ledger, files: LedgerFiles, calls: Calls, reader: Any) -> None:
    grow(writer, 1)
    now = 0.0
    budgeted = LedgerFiles(reader, lambda: now)
    for _ in range(READS_BURST):
        budgeted.file("/checkpoint")
    with pytest.raises(UnavailableError) as caught:
        budgeted.file("/checkpoint")
    assert caught.value.code is Code.LIMITS_EXHAUSTED
    with pytest.raises(UnavailableError):
        budgeted.proof(0)
    assert budgeted.file("/nowhere") is None, "what is no file costs nothing"
    calls.core.ledger = budgeted
    status, headers, body = get(calls, "/checkpoint")
    assert (status, headers["retry-after"], body) == (429, "1", b"limits.exhausted\n")
    now = 1.0
    assert get(calls, "/checkpoint")[0] == 200
    del files


def test_the_reader_cannot_write(writer: Ledger, reader: PublishedLedger) -> None:
    grow(writer, 1)
    assert reader.signed() is not None
    connection = reader._connection
    assert connection is not None
    for statement in ("DELETE FROM meta", "CREATE TABLE t (x)", "PRAGMA user_version = 9"):
        with pytest.raises(sqlite3.OperationalError):
            connection.execute(statement)


def test_a_ledger_that_is_not_there(tmp_path: Path, calls: Calls) -> None:
    with closing(PublishedLedger(tmp_path / "nothing.sqlite")) as reader:
        calls.core.ledger = LedgerFiles(reader, lambda: 0.0)
        status, headers, body = get(calls, "/checkpoint")
    assert (status, headers["retry-after"], body) == (503, "1", b"authority.unavailable\n")


def test_a_ledger_that_was_restored_is_read_anew(
    writer: Ledger, reader: PublishedLedger, tmp_path: Path, calls: Calls
) -> None:
    grow(writer, 5)
    assert reader.signed() is not None
    writer.close()
    other = tmp_path / "other.sqlite"
    other.touch(0o600)
    with closing(signing(Ledger.create(other))) as restored:
        grow(restored, 3)
    for suffix in ("", "-wal", "-shm"):
        (tmp_path / f"ledger.sqlite{suffix}").unlink(missing_ok=True)
    other.rename(tmp_path / "ledger.sqlite")
    with closing(signing(Ledger.open(tmp_path / "ledger.sqlite"))):
        found = reader.signed()
    assert found is not None
    assert found.size == 3
    del calls


@pytest.mark.parametrize(
    ("statement", "ask_for"),
    [
        ("DELETE FROM node WHERE idx = 3", lambda files: files.file("/tile/0/000.p/10")),
        ("DELETE FROM node WHERE idx = 255", lambda files: files.file("/tile/1/000.p/1")),
        ("DELETE FROM entry WHERE idx = 3", lambda files: files.file("/tile/entries/000.p/10")),
        ("DELETE FROM node WHERE idx = 3", lambda files: files.proof(2)),
    ],
)
def test_what_is_missing_is_said_and_not_made_up(
    writer: Ledger, files: LedgerFiles, statement: str, ask_for: Callable[[LedgerFiles], object]
) -> None:
    grow(writer, 300)
    connection = writer._connection
    connection.execute("PRAGMA foreign_keys = OFF")
    connection.execute("DROP TRIGGER node_no_delete")
    connection.execute("DROP TRIGGER entry_no_delete")
    connection.execute(statement)
    with pytest.raises(UnavailableError) as caught:
        ask_for(files)
    assert caught.value.code is Code.LEDGER_INCONSISTENT


def test_a_tile_that_a_reader_asks_for_itself(writer: Ledger, reader: PublishedLedger) -> None:
    grow(writer, 3)
    assert decode_tile(reader.tile(Tile(0, 0, 2)), 2) == (leaf_hash(b"entry 0"), leaf_hash(b"entry 1"))
