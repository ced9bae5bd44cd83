"""A witness: every answer of the protocol, and never two checkpoints that disagree, killed or not."""

import itertools
import random
import sqlite3
import subprocess
import sys
from contextlib import closing
from http import HTTPStatus
from pathlib import Path
from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from logs import TestKey, TestLog, signed, witness_key

from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError, FormatError, UnavailableError
from proxy_attestation.formats.checkpoint import Checkpoint, open_checkpoint
from proxy_attestation.formats.merkle import consistency_proof
from proxy_attestation.formats.signed_note import Note, parse_note, parse_signatures, verify_note
from proxy_attestation.transparency.witness import Witness
from proxy_attestation.transparency.witness_protocol import (
    BODY_MAX,
    SIZE_TYPE,
    AddCheckpoint,
    monitoring_path,
    parse_add_checkpoint,
    parse_size,
)

KEY: Final = witness_key()
LOG: Final = TestLog().add(b"%d" % number for number in range(20))
FORK: Final = TestLog().add([b"other"]).add(b"%d" % number for number in range(1, 20))


def witness(folder: Path, *logs: TestLog) -> Witness:
    keys = [log.key.verifier for log in logs or (LOG,)]
    return Witness(folder, KEY.verifier, KEY.private.sign, keys, lambda: 1234)


@pytest.fixture
def one(tmp_path: Path) -> Witness:
    return witness(tmp_path / "seen")


def body(old: int, new: int, log: TestLog = LOG, proof: tuple[bytes, ...] | None = None) -> bytes:
    path = consistency_proof(log.node, old, new) if proof is None and old <= new else proof or ()
    return AddCheckpoint(old, path, log.checkpoint(new)).encode()


def test_a_log_s_life(one: Witness) -> None:
    for old, new in itertools.pairwise((0, 0, 1, 1, 7, 20)):
        answer = one.add_checkpoint(body(old, new))
        assert answer.status is HTTPStatus.OK
        lines = parse_signatures(answer.body.decode())
        assert [line.time for line in lines] == [1234]
        note = Note(parse_note(LOG.checkpoint(new)).text, lines)
        assert verify_note(note, [KEY.verifier]) == (KEY.verifier,)
        shown = one.answer("GET", monitoring_path(LOG.key.verifier.name), b"")
        assert open_checkpoint(shown.body, LOG.key.verifier, [KEY.verifier])[0].size == new
        assert open_checkpoint(shown.body, LOG.key.verifier, [KEY.verifier])[2] == {KEY.verifier}


def test_news_are_told_of_growth_only(one: Witness) -> None:
    assert one.add_checkpoint(body(0, 5)).news
    assert one.add_checkpoint(body(5, 5)).news is None


def test_the_first_checkpoint_may_have_any_size(one: Witness) -> None:
    assert one.add_checkpoint(body(0, 20)).status is HTTPStatus.OK


def test_an_old_size_that_is_not_the_one_seen(one: Witness) -> None:
    one.add_checkpoint(body(0, 7))
    for old in (0, 6, 8, 20):
        answer = one.add_checkpoint(body(old, 20))
        assert (answer.status, answer.kind, answer.body) == (HTTPStatus.CONFLICT, SIZE_TYPE, b"7\n")
    assert parse_size(answer.body) == 7


def test_an_old_size_above_the_new_one(one: Witness) -> None:
    assert one.add_checkpoint(body(8, 7)).status is HTTPStatus.BAD_REQUEST


def test_an_unknown_log(one: Witness) -> None:
    other = TestLog(TestKey("other.example.org")).add([b"a"])
    assert one.add_checkpoint(body(0, 1, other)).status is HTTPStatus.NOT_FOUND


def test_a_checkpoint_that_the_log_did_not_sign(one: Witness) -> None:
    other = TestLog(TestKey(secret="another")).add([b"a"])
    assert one.add_checkpoint(body(0, 1, other)).status is HTTPStatus.FORBIDDEN


def test_wrong_proofs(one: Witness) -> None:
    one.add_checkpoint(body(0, 7))
    right = consistency_proof(LOG.node, 7, 20)
    for proof in ((), right[:-1], (*right, bytes(32)), (bytes(32), *right[1:]), right[::-1]):
        assert one.add_checkpoint(body(7, 20, proof=proof)).status is HTTPStatus.UNPROCESSABLE_ENTITY
    assert one.add_checkpoint(body(7, 20)).status is HTTPStatus.OK


def test_a_proof_where_there_must_be_none(one: Witness) -> None:
    assert one.add_checkpoint(body(0, 7, proof=(bytes(32),))).status is HTTPStatus.UNPROCESSABLE_ENTITY
    one.add_checkpoint(body(0, 7))
    assert one.add_checkpoint(body(7, 7, proof=(bytes(32),))).status is HTTPStatus.UNPROCESSABLE_ENTITY


def test_an_empty_tree_with_another_root(one: Witness) -> None:
    text = Checkpoint(LOG.key.verifier.name, 0, bytes(32)).text
    answer = one.add_checkpoint(AddCheckpoint(0, (), signed(text, LOG.key)).encode())
    assert answer.status is HTTPStatus.UNPROCESSABLE_ENTITY


def test_a_fork(one: Witness) -> None:
    one.add_checkpoint(body(0, 7))
    answer = one.add_checkpoint(body(7, 7, FORK))
    assert (answer.status, answer.kind, answer.body) == (HTTPStatus.CONFLICT, SIZE_TYPE, b"7\n")
    assert "ledger.fork" in (answer.news or "")
    assert one.add_checkpoint(body(7, 20, FORK)).status is HTTPStatus.UNPROCESSABLE_ENTITY
    assert one.add_checkpoint(body(7, 20)).status is HTTPStatus.OK


def test_the_first_forked_checkpoint_is_kept(tmp_path: Path, one: Witness) -> None:
    one.add_checkpoint(body(0, 7))
    one.add_checkpoint(body(7, 7, FORK))
    with closing(sqlite3.connect(tmp_path / "seen" / "witness.sqlite")) as database:
        ((note,),) = database.execute("SELECT note FROM conflict").fetchall()
    assert note == FORK.checkpoint(7)


def test_logs_are_kept_apart(tmp_path: Path) -> None:
    other = TestLog(TestKey("other.example.org")).add(b"%d" % n for n in range(9))
    both = witness(tmp_path / "seen", LOG, other)
    assert both.add_checkpoint(body(0, 7)).status is HTTPStatus.OK
    assert both.add_checkpoint(body(0, 9, other)).status is HTTPStatus.OK
    assert both.add_checkpoint(body(7, 20)).status is HTTPStatus.OK


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "add-checkpoint", HTTPStatus.METHOD_NOT_ALLOWED),
        ("PUT", "add-checkpoint", HTTPStatus.METHOD_NOT_ALLOWED),
        ("GET", "", HTTPStatus.NOT_FOUND),
        ("GET", monitoring_path(LOG.key.verifier.name), HTTPStatus.NOT_FOUND),
        ("GET", monitoring_path("unknown"), HTTPStatus.NOT_FOUND),
        ("POST", monitoring_path(LOG.key.verifier.name), HTTPStatus.NOT_FOUND),
        ("POST", "add-checkpoint", HTTPStatus.BAD_REQUEST),
    ],
)
def test_other_requests(one: Witness, method: str, path: str, status: HTTPStatus) -> None:
    assert one.answer(method, path, b"").status is status


GOOD = body(7, 20)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        GOOD.replace(b"old ", b"Old "),
        GOOD.replace(b"old 7", b"old 07"),
        GOOD.replace(b"old 7", b"old -7"),
        GOOD.replace(b"old 7", b"old  7"),
        GOOD.replace(b"old 7\n", b""),
        GOOD.replace(b"old 7\n", b"old 7\n\n"),
        GOOD.replace(b"\n\n", b"\n", 1),
        GOOD.replace(b"old 7\n", b"old 7\nAAAA\n"),
        GOOD.replace(b"old 7\n", b"old 7\n" + b"A" * 43 + b"=\n" * 1 + (b"A" * 43 + b"=\n") * 63),
        GOOD.replace(b"old 7\n", b"old 7\n\xff\n"),
        GOOD + b"x" * BODY_MAX,
    ],
)
def test_malformed_bodies(one: Witness, data: bytes) -> None:
    answer = one.add_checkpoint(data)
    assert answer.status is HTTPStatus.BAD_REQUEST
    assert len(answer.body) < 1000


def test_a_body_reads_as_it_was_written() -> None:
    assert parse_add_checkpoint(GOOD).encode() == GOOD


@pytest.mark.parametrize("data", [b"", b"7", b"07\n", b"x\n", b"7\n\n", b"\xff\n"])
def test_what_is_no_size(data: bytes) -> None:
    with pytest.raises(FormatError) as caught:
        parse_size(data)
    assert caught.value.code is Code.LEDGER_MALFORMED


@settings(deadline=None, max_examples=50)
@given(st.binary(max_size=200))
def test_any_body_gets_an_answer(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    assert witness(tmp_path_factory.getbasetemp() / "any").answer("POST", "add-checkpoint", data).status >= 400


class TestMemory:
    """What was co-signed lasts; a witness that forgot it is none."""

    def test_it_lasts(self, tmp_path: Path) -> None:
        witness(tmp_path).add_checkpoint(body(0, 7))
        assert witness(tmp_path).add_checkpoint(body(0, 7, FORK)).status is HTTPStatus.CONFLICT

    def refused(self, folder: Path, key: TestKey = KEY) -> None:
        with pytest.raises(ConfigurationError) as caught:
            Witness(folder, key.verifier, key.private.sign, [LOG.key.verifier], lambda: 1)
        assert caught.value.code is Code.CONFIGURATION_MALFORMED

    def test_a_lost_database(self, tmp_path: Path) -> None:
        witness(tmp_path)
        (tmp_path / "witness.sqlite").unlink()
        self.refused(tmp_path)

    def test_another_key(self, tmp_path: Path) -> None:
        witness(tmp_path)
        self.refused(tmp_path, witness_key(secret="another"))
        self.refused(tmp_path, witness_key("another"))

    def test_a_database_that_vanishes(self, tmp_path: Path, one: Witness) -> None:
        (tmp_path / "seen" / "witness.sqlite").unlink()
        for method, path in (("POST", "add-checkpoint"), ("GET", monitoring_path(LOG.key.verifier.name))):
            with pytest.raises(UnavailableError) as caught:
                one.answer(method, path, body(0, 7))
            assert caught.value.code is Code.LEDGER_UNREACHABLE
        assert not (tmp_path / "seen" / "witness.sqlite").exists()

    def test_a_start_that_was_cut_off(self, tmp_path: Path) -> None:
        witness(tmp_path)
        (tmp_path / "vkey").unlink()  # written last
        assert witness(tmp_path).add_checkpoint(body(0, 7)).status is HTTPStatus.OK

    def test_a_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_bytes(b"")
        self.refused(tmp_path / "file" / "seen")


CHILD = """
import sys
sys.path.insert(0, {support!r})
from pathlib import Path
from logs import TestLog, witness_key
from proxy_attestation.transparency.witness import Witness
key = witness_key()
one = Witness(Path({folder!r}), key.verifier, key.private.sign, [TestLog().key.verifier], lambda: 1)
for line in sys.stdin:
    answer = one.add_checkpoint(bytes.fromhex(line))
    print(int(answer.status), answer.body.hex(), flush=True)
"""


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_killed_at_any_point_it_never_signs_two_histories(tmp_path: Path, seed: int) -> None:
    """Two forked logs race for one witness that is killed again and again: what it ever told is one history."""
    chance = random.Random(seed)  # noqa: S311 - the same kills in every run
    support = str(Path(__file__).resolve().parents[1] / "support")
    program = [sys.executable, "-c", CHILD.format(support=support, folder=str(tmp_path))]
    told: list[tuple[int, bytes]] = []
    seen = 0
    for _ in range(12):
        with subprocess.Popen(program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
            assert child.stdin is not None
            assert child.stdout is not None
            asked = []
            for _ in range(chance.randrange(1, 6)):
                log = chance.choice((LOG, FORK))
                new = min(seen + chance.randrange(3), 20)
                asked.append((log, new))
                child.stdin.write(body(seen, new, log).hex() + "\n")
                child.stdin.flush()
                if chance.random() < 0.4:
                    break  # killed with this one under way
                status, _, answer = child.stdout.readline().partition(" ")
                if int(status) == HTTPStatus.CONFLICT:
                    seen = parse_size(bytes.fromhex(answer))
                elif int(status) == HTTPStatus.OK:
                    seen = new
                    told.append((new, log.root(new)))
                    asked.pop()
            child.kill()
            for line, (log, new) in zip(child.stdout, asked[-1:], strict=False):
                if line.startswith("200") and line.endswith("\n"):
                    told.append((new, log.root(new)))
    histories = [log for log in (LOG, FORK) if all(log.root(size) == root for size, root in told)]
    assert len(told) > 3
    assert histories
    assert all(size == 0 for size, _ in told) or len(histories) == 1
    assert [size for size, _ in told] == sorted(size for size, _ in told)


def test_a_key_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    def broken(_: bytes) -> bytes:
        raise OSError("gone")

    failing = Witness(tmp_path, KEY.verifier, broken, [LOG.key.verifier], lambda: 1)
    with pytest.raises(OSError, match="gone"):
        failing.add_checkpoint(body(0, 7))
    assert witness(tmp_path).add_checkpoint(body(0, 9, FORK)).status is HTTPStatus.OK


def test_two_processes_on_one_folder(tmp_path: Path) -> None:
    first, second = witness(tmp_path), witness(tmp_path)
    assert first.add_checkpoint(body(0, 7)).status is HTTPStatus.OK
    assert second.add_checkpoint(body(0, 9)).status is HTTPStatus.CONFLICT
    assert second.add_checkpoint(body(7, 9)).status is HTTPStatus.OK
    assert first.add_checkpoint(body(7, 8)).status is HTTPStatus.CONFLICT


def test_a_database_that_is_held(tmp_path: Path, one: Witness, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("proxy_attestation.transparency.witness._BUSY_SECONDS", 0.0)
    with closing(sqlite3.connect(tmp_path / "seen" / "witness.sqlite", isolation_level=None)) as holder:
        holder.execute("BEGIN IMMEDIATE")
        with pytest.raises(UnavailableError):
            one.add_checkpoint(body(0, 7))
        holder.execute("ROLLBACK")
    assert one.add_checkpoint(body(0, 7)).status is HTTPStatus.OK


def test_a_refused_request_leaves_no_transaction_open(one: Witness) -> None:
    one.add_checkpoint(body(0, 7))
    for _ in range(2):
        assert one.add_checkpoint(body(0, 7)).status is HTTPStatus.CONFLICT
    assert one.add_checkpoint(body(7, 9)).status is HTTPStatus.OK
