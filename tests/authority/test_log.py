"""The tree over the ledger's entries: its proofs, its checkpoints, and that nothing is signed over a doubt."""

import asyncio
import hashlib
import sqlite3
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from ledgers import LOG_KEY, ORIGIN, FixedLogKey, signing

from proxy_attestation.authority import process, tree
from proxy_attestation.authority.issue import Issuer
from proxy_attestation.authority.ledger import Ledger, Row
from proxy_attestation.authority.messages import Issued, IssueOrder
from proxy_attestation.authority.tree import NO_WITNESSES, Witnesses, read_witnesses
from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError, InternalError, RequestError, UnavailableError
from proxy_attestation.formats.checkpoint import open_checkpoint
from proxy_attestation.formats.ledger_entry import EntryKind
from proxy_attestation.formats.merkle import leaf_hash
from proxy_attestation.formats.signed_note import KeyType, Note, Verifier, parse_note, parse_vkey, sign_note
from proxy_attestation.formats.tlog_proof import parse_tlog_proof, verify_tlog_proof

LOG = Verifier(ORIGIN, KeyType.ED25519, LOG_KEY.public_key)


def rows(first: int, count: int) -> list[Row]:
    return [Row(EntryKind.POLICY, b"entry %d" % index) for index in range(first, first + count)]


def grow(ledger: Ledger, count: int) -> None:
    with ledger.transaction():
        ledger.append(rows(ledger.size(), count))


def root_of(entries: Sequence[bytes]) -> bytes:
    """RFC 6962, section 2.1, as it is written there; nothing of the code under test."""
    if len(entries) == 1:
        return hashlib.sha256(b"\0" + entries[0]).digest()
    split = 1
    while 2 * split < len(entries):
        split *= 2
    return hashlib.sha256(b"\1" + root_of(entries[:split]) + root_of(entries[split:])).digest()


def path_root(index: int, size: int, leaf: bytes, path: list[bytes]) -> bytes:
    """The root that a path leads to: the recursion of RFC 6962, section 2.1.1, backwards."""
    if size == 1:
        assert not path
        return leaf
    split = 1
    while 2 * split < size:
        split *= 2
    *rest, top = path
    if index < split:
        return hashlib.sha256(b"\1" + path_root(index, split, leaf, rest) + top).digest()
    return hashlib.sha256(b"\1" + top + path_root(index - split, size - split, leaf, rest)).digest()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "ledger.sqlite"
    made.touch(0o600)
    return made


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    with closing(signing(Ledger.create(path))) as opened:
        yield opened


def test_every_transaction_signs_the_root_over_all_entries(ledger: Ledger) -> None:
    said = []
    for count in (1, 1, 3, 2, 9, 1, 17, 30):
        grow(ledger, count)
        head = ledger.tree.signed
        assert head is not None
        text, signature = head.note.decode().split("\n\n")
        origin, size, root, end = f"{text}\n".split("\n")
        assert (origin, int(size), end) == (ORIGIN, ledger.size(), "")
        assert b64decode(root) == root_of([b"entry %d" % index for index in range(int(size))])
        dash, name, body = signature.removesuffix("\n").split(" ")
        key_id = hashlib.sha256(ORIGIN.encode() + b"\n\x01" + LOG_KEY.public_key).digest()[:4]
        assert (dash, name, b64decode(body)[:4]) == ("\u2014", ORIGIN, key_id)
        Ed25519PublicKey.from_public_bytes(LOG_KEY.public_key).verify(b64decode(body)[4:], f"{text}\n".encode())
        said.append(head.size)
    assert said == [1, 2, 5, 7, 16, 17, 34, 64]


def test_every_entry_is_proven_in_a_tree_of_every_size(ledger: Ledger) -> None:
    for size in range(1, 40):
        grow(ledger, 1)
        for index in range(size):
            data = ledger.proof(index)
            entry = b"entry %d" % index
            checkpoint = verify_tlog_proof(parse_tlog_proof(data), leaf_hash(entry), LOG)
            assert checkpoint.size == size
            head, note = data.split(b"\n\n", 1)
            first, extra, at, *hashes = head.decode().split("\n")
            assert (first, at) == ("c2sp.org/tlog-proof@v1", f"index {index}")
            assert b64decode(extra.removeprefix("extra ")) == entry
            leaf = hashlib.sha256(b"\0" + entry).digest()
            root = path_root(index, size, leaf, [b64decode(one) for one in hashes])
            assert b64encode(root) == note.split(b"\n")[2]
        assert ledger.proof(size) == b""


def test_what_is_rolled_back_signed_nothing(ledger: Ledger) -> None:
    grow(ledger, 5)
    before = ledger.tree.signed
    with pytest.raises(KeyError), ledger.transaction():
        ledger.append(rows(5, 2))
        raise KeyError
    assert ledger.tree.signed == before
    assert [ledger._select("SELECT count(*) FROM node"), ledger.size()] == [[(5,)], 5]
    grow(ledger, 2)
    assert ledger.tree.signed is not None
    assert ledger.tree.signed.root == root_of([b"entry %d" % index for index in range(7)])


def test_a_transaction_of_several_appends(ledger: Ledger) -> None:
    with ledger.transaction():
        ledger.append(rows(0, 3))
        ledger.append(rows(3, 4))
    assert ledger.tree.signed is not None
    assert ledger.tree.signed.root == root_of([b"entry %d" % index for index in range(7)])


def test_without_a_key_nothing_is_appended(path: Path) -> None:
    with closing(Ledger.create(path)) as ledger, pytest.raises(InternalError), ledger.transaction():
        ledger.append(rows(0, 1))


def test_it_goes_on_after_it_was_opened_again(ledger: Ledger, path: Path) -> None:
    grow(ledger, 300)
    ledger.close()
    with closing(signing(Ledger.open(path))) as again:
        grow(again, 7)
        assert again.tree.signed is not None
        assert again.tree.signed.root == root_of([b"entry %d" % index for index in range(307)])


def forge(ledger: Ledger, statement: str, *values: object) -> None:
    """Change what the schema protects, as somebody with the file can."""
    connection = ledger._connection
    connection.execute("PRAGMA foreign_keys = OFF")
    for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        connection.execute(f"DROP TRIGGER {name}")
    connection.execute(statement, values)


def another_note(size: int, key: FixedLogKey = LOG_KEY, origin: str = ORIGIN) -> bytes:
    """A checkpoint of another tree, or another key's or log's."""
    with closing(Ledger.create(None)) as other:
        other.sign_with(origin, key)
        with other.transaction():
            other.append([Row(EntryKind.POLICY, b"other %d" % index) for index in range(size)])
        assert other.tree.signed is not None
        return other.tree.signed.note


NODE = "UPDATE node SET hashes = zeroblob(length(hashes)) WHERE idx = ?"
ENTRY = "UPDATE entry SET entry = x'00' WHERE idx = ?"
NOTE = "UPDATE checkpoint SET note = ? WHERE name = 'signed'"
AT_ONCE: dict[str, tuple[str, tuple[object, ...]]] = {
    "a node of the frontier": (NODE, (511,)),
    "the last node": (NODE, (599,)),
    "a node that is gone": ("DELETE FROM node WHERE idx = 511", ()),
    "the last node that is gone": ("DELETE FROM node WHERE idx = 599", ()),
    "the last entry that is gone": ("DELETE FROM entry WHERE idx = 599", ()),
    "a checkpoint of another tree": (NOTE, (another_note(600),)),
    "a checkpoint of another key": (NOTE, (another_note(600, FixedLogKey(b"\x11" * 32)),)),
    "a checkpoint of another log": (NOTE, (another_note(600, origin="example.org/other"),)),
    "no checkpoint": (NOTE, (b"no note",)),
    "a checkpoint that is gone": ("DELETE FROM checkpoint", ()),
}
LATER = {"an entry": (ENTRY, (17,)), "the first entry": (ENTRY, (0,)), "a node inside": (NODE, (17,))}


def inconsistent(action: Callable[[], object], kind: type[Exception] = UnavailableError) -> None:
    with pytest.raises(kind) as caught:
        action()
    assert getattr(caught.value, "code", None) is Code.LEDGER_INCONSISTENT


@pytest.mark.parametrize(("statement", "values"), AT_ONCE.values(), ids=AT_ONCE)
def test_the_next_entry_finds_what_was_forged_and_none_is_signed_after_it(
    ledger: Ledger, path: Path, statement: str, values: tuple[object, ...]
) -> None:
    grow(ledger, 600)
    signed = ledger.tree.signed
    forge(ledger, statement, *values)
    inconsistent(lambda: grow(ledger, 1))
    inconsistent(lambda: ledger.proof(3))
    inconsistent(lambda: ledger.audit(1))
    assert ledger.tree.signed == signed
    assert ledger._select("SELECT max(idx) FROM node") != [(600,)]
    ledger.close()
    # And neither does a start.
    with closing(Ledger.open(path)) as again:
        inconsistent(lambda: signing(again), ConfigurationError)


@pytest.mark.parametrize(("statement", "values"), LATER.values(), ids=LATER)
@pytest.mark.parametrize("slice_", [7, 256, 10_000])
def test_the_audit_finds_what_was_forged_and_none_is_signed_after_it(
    ledger: Ledger, path: Path, statement: str, values: tuple[object, ...], slice_: int
) -> None:
    grow(ledger, 600)
    forge(ledger, statement, *values)
    grow(ledger, 1)  # nothing that it builds on was touched

    def audit() -> None:
        while not ledger.audit(slice_):
            pass

    inconsistent(audit)
    inconsistent(lambda: grow(ledger, 1))
    ledger.close()
    with closing(Ledger.open(path)) as again:
        inconsistent(lambda: signing(again), ConfigurationError)


def test_the_audit_goes_on_while_entries_come(ledger: Ledger) -> None:
    grow(ledger, 100)
    steps = [ledger.audit(30)]
    grow(ledger, 7)
    steps += [ledger.audit(30) for _ in range(3)]
    assert steps == [False, False, False, True]
    forge(ledger, ENTRY, 106)
    assert [ledger.audit(100)] == [False]
    inconsistent(lambda: ledger.audit(100))


def test_a_start_recomputes_the_newest_entries_at_least(
    ledger: Ledger, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tree, "START_ENTRIES", 100)
    grow(ledger, 600)
    forge(ledger, ENTRY, 500)
    ledger.close()
    with closing(Ledger.open(path)) as again:
        inconsistent(lambda: signing(again), ConfigurationError)


def test_an_older_entry_is_the_audit_s_to_find(ledger: Ledger, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "START_ENTRIES", 100)
    grow(ledger, 600)
    forge(ledger, ENTRY, 499)
    ledger.close()
    with closing(signing(Ledger.open(path))) as again:
        inconsistent(lambda: again.audit(1000))


def test_an_older_signed_checkpoint_is_no_way_back(ledger: Ledger, path: Path) -> None:
    grow(ledger, 5)
    old = ledger.tree.signed
    assert old is not None
    grow(ledger, 5)
    forge(ledger, "UPDATE checkpoint SET size = ?, note = ? WHERE name = 'signed'", old.size, old.note)
    inconsistent(lambda: grow(ledger, 1))
    ledger.close()
    with closing(Ledger.open(path)) as again:
        inconsistent(lambda: signing(again), ConfigurationError)


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE node SET hashes = x'00' WHERE idx = 0",
        "DELETE FROM node",
        "INSERT INTO node VALUES (5, zeroblob(32))",
        "UPDATE checkpoint SET size = 2",
        "DELETE FROM checkpoint",
    ],
)
def test_the_file_keeps_nodes_and_checkpoints(ledger: Ledger, statement: str) -> None:
    grow(ledger, 3)
    with pytest.raises(sqlite3.IntegrityError):
        ledger._connection.execute(statement)


def test_a_disk_that_is_full_at_the_commit(ledger: Ledger, path: Path) -> None:
    grow(ledger, 3)
    signed = ledger.tree.signed
    (pages,) = ledger._connection.execute("PRAGMA page_count").fetchone()
    ledger._connection.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(UnavailableError) as caught:
        for _ in range(100):
            grow(ledger, 100)
            signed = ledger.tree.signed
    assert caught.value.code is Code.AUTHORITY_UNAVAILABLE
    assert signed is not None
    assert (ledger.tree.signed, ledger.size()) == (signed, signed.size)
    ledger._connection.execute("PRAGMA max_page_count = 1000000")
    grow(ledger, 1)
    ledger.close()
    with closing(signing(Ledger.open(path))) as again:
        assert again.size() == signed.size + 1


# What is issued.


def test_a_certificate_comes_with_its_proof(issuer: Issuer, world: Any, issue: Callable[[IssueOrder], Issued]) -> None:
    order = world.order(issuer.hello())
    first = issue(order)
    log = parse_vkey(issuer.hello().ledger_key)
    assert log.name == issuer.authority.settings.ledger_origin
    entry = issuer.authority.ledger.entry(first.index)
    assert entry is not None
    assert verify_tlog_proof(parse_tlog_proof(first.proof), leaf_hash(entry), log).size == first.index + 1
    issue(world.order(issuer.hello()))
    again = issue(order)
    assert (again.chain, again.index) == (first.chain, first.index)
    assert verify_tlog_proof(parse_tlog_proof(again.proof), leaf_hash(entry), log).size == first.index + 2


def test_what_the_authority_records_of_itself_stands_in_the_tree(issuer: Issuer, world: Any) -> None:
    ledger = issuer.authority.ledger
    issuer.tls_leaf(world.spki)
    entries = [ledger.entry(index) or b"" for index in range(ledger.size())]
    assert ledger.tree.signed is not None
    assert ledger.tree.signed.root == root_of(entries)
    log = parse_vkey(issuer.hello().ledger_key)
    for index, entry in enumerate(entries):
        verify_tlog_proof(parse_tlog_proof(ledger.proof(index)), leaf_hash(entry), log)


def test_over_a_forged_tree_nothing_is_issued(issuer: Issuer, world: Any) -> None:
    forge(issuer.authority.ledger, "UPDATE node SET hashes = zeroblob(length(hashes))")
    size = issuer.authority.ledger.size()
    for _ in range(2):
        (outcome,) = issuer.issue_batch([world.order(issuer.hello())])
        assert isinstance(outcome, UnavailableError)
        assert outcome.code is Code.LEDGER_INCONSISTENT
    inconsistent(lambda: issuer.tls_leaf(world.spki))
    assert issuer.authority.ledger.size() == size


# Witnesses.


class Witness:
    def __init__(self, name: str) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(name.encode()).digest())
        self.verifier = Verifier(name, KeyType.COSIGNATURE, self._key.public_key().public_bytes_raw())

    def cosign(self, note: bytes) -> bytes:
        found = parse_note(note)
        line = sign_note(found.text, self.verifier, self._key.sign, time=1_800_000_000)
        return Note(found.text, (*found.signatures, line)).encode()


ALICE, BOB, CAROL = (Witness(f"{name}.example") for name in ("alice", "bob", "carol"))
TWO_OF_THREE = Witnesses(2, tuple(witness.verifier for witness in (ALICE, BOB, CAROL)))


@pytest.fixture
def watched(ledger: Ledger) -> Ledger:
    grow(ledger, 5)
    ledger.require_witnesses(TWO_OF_THREE)
    return ledger


def newest(ledger: Ledger) -> bytes:
    assert ledger.tree.signed is not None
    return ledger.tree.signed.note


def test_what_is_not_cosigned_is_not_proven(watched: Ledger) -> None:
    assert watched.proof(0) == b""
    note = BOB.cosign(ALICE.cosign(newest(watched)))
    grow(watched, 3)
    assert watched.cosign(note) == 5
    proof = parse_tlog_proof(watched.proof(4))
    assert verify_tlog_proof(proof, leaf_hash(b"entry 4"), LOG).size == 5
    _, _, others = open_checkpoint(proof.checkpoint, LOG, TWO_OF_THREE.verifiers)
    assert others == {ALICE.verifier, BOB.verifier}
    assert watched.proof(5) == b""
    assert watched.cosign(CAROL.cosign(ALICE.cosign(newest(watched)))) == 8
    assert watched.cosign(note) == 8, "an older one changes nothing"


def test_cosignatures_survive_a_restart_as_far_as_they_are_enough(watched: Ledger, path: Path) -> None:
    watched.cosign(BOB.cosign(ALICE.cosign(newest(watched))))
    watched.close()
    with closing(signing(Ledger.open(path))) as again:
        again.require_witnesses(TWO_OF_THREE)
        assert again.proof(0)
        again.require_witnesses(TWO_OF_THREE._replace(quorum=3))
        assert again.proof(0) == b""
        again.require_witnesses(NO_WITNESSES)
        assert again.proof(0)


def changed(note: bytes) -> bytes:
    at = note.rindex(b"\n") - 4
    return note[:at] + (b"A" if note[at : at + 1] != b"A" else b"B") + note[at + 1 :]


@pytest.mark.parametrize(
    "spoil",
    [
        lambda _: b"",
        ALICE.cosign,
        lambda note: ALICE.cosign(ALICE.cosign(note)),
        lambda note: Witness("dave.example").cosign(ALICE.cosign(note)),
        lambda note: changed(BOB.cosign(ALICE.cosign(note))),
        lambda _: BOB.cosign(ALICE.cosign(another_note(5, FixedLogKey(b"\x11" * 32)))),
        lambda _: BOB.cosign(ALICE.cosign(another_note(5, origin="example.org/other"))),
        lambda _: BOB.cosign(ALICE.cosign(another_note(6))),
    ],
    ids=["nothing", "one", "one twice", "a stranger", "one bad", "another log key", "another log", "a longer ledger"],
)
def test_what_is_no_quorum_over_a_checkpoint_of_ours(watched: Ledger, spoil: Callable[[bytes], bytes]) -> None:
    with pytest.raises(RequestError) as caught:
        watched.cosign(spoil(newest(watched)))
    assert caught.value.code is Code.LEDGER_COSIGNATURE
    assert watched.proof(0) == b""
    grow(watched, 1)


def test_a_second_tree_under_the_log_s_key_stops_everything(watched: Ledger) -> None:
    inconsistent(lambda: watched.cosign(BOB.cosign(ALICE.cosign(another_note(4)))))
    inconsistent(lambda: grow(watched, 1))


def keys(*witnesses: Witness) -> list[str]:
    return [str(witness.verifier) for witness in witnesses]


@pytest.mark.parametrize(
    ("vkeys", "quorum"),
    [
        (keys(ALICE), 2),
        (keys(ALICE, BOB), -1),
        ([], 1),
        ([*keys(ALICE), *keys(ALICE)], 1),
        ([*keys(BOB), str(Verifier(ALICE.verifier.name, KeyType.COSIGNATURE, BOB.verifier.public_key))], 1),
        ([*keys(BOB), str(Verifier(BOB.verifier.name, KeyType.COSIGNATURE, ALICE.verifier.public_key))], 1),
        ([str(LOG)], 0),
        (["alice"], 0),
        (keys(*(Witness(f"w{number}.example") for number in range(17))), 1),
    ],
    ids=["too many", "negative", "none", "twice", "one key, two names", "one name, two keys", "type", "no key", "17"],
)
def test_witnesses_that_cannot_be(vkeys: list[str], quorum: int) -> None:
    with pytest.raises(ConfigurationError) as caught:
        read_witnesses(vkeys, quorum)
    assert caught.value.code is Code.CONFIGURATION_MALFORMED


def test_witnesses_as_they_are_configured() -> None:
    assert read_witnesses(keys(ALICE, BOB, CAROL), 2) == TWO_OF_THREE
    assert read_witnesses([], 0) == NO_WITNESSES


def test_the_audit_in_the_background_ends_with_what_it_finds(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "AUDIT_PAUSE_SECONDS", 0)
    monkeypatch.setattr(process, "AUDIT_REST_SECONDS", 0)
    grow(ledger, 600)
    forge(ledger, ENTRY, 300)
    asyncio.run(process.audit(ledger))
    inconsistent(lambda: grow(ledger, 1))
