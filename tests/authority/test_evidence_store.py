"""Evidence is kept with its leaf, forgotten a week after the leaf's end, and bounded; issuing never waits for room."""

import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from ledgers import signing

from proxy_attestation.authority.evidence_store import FORGET_AT_ONCE, KEPT_AFTER_EXPIRY, EvidenceStore, Kept
from proxy_attestation.authority.issue import Issuer
from proxy_attestation.authority.ledger import Ledger, Row
from proxy_attestation.authority.messages import Issued, IssueOrder
from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError, RequestError
from proxy_attestation.formats.kept_evidence import KeptEvidence, decode_kept, encode_kept
from proxy_attestation.formats.ledger_entry import EntryKind

BEGIN, END = 1_800_000_000, 1_800_003_600


def rows(store: Ledger) -> list[int]:
    return [index for (index,) in store._connection.execute("SELECT idx FROM evidence ORDER BY idx")]


def leaves(ledger: Ledger, count: int) -> None:
    made = [
        Row(EntryKind.LEAF, b"leaf entry", b"tbs", BEGIN, END, bytes(32), number.to_bytes(16), bytes(32), b"claims")
        for number in range(count)
    ]
    with ledger.transaction():
        ledger.append(made)


def kept(index: int, not_after: int = END, size: int = 100) -> Kept:
    return Kept(index, not_after, b"r", b"s", bytes(size - 2))


@pytest.fixture
def ledger() -> Ledger:
    made = signing(Ledger.create(None))
    leaves(made, 2 * FORGET_AT_ONCE)
    return made


def test_what_a_worker_sends_is_kept_with_the_leaf(
    issuer: Issuer, world: Any, issue: Callable[[IssueOrder], Issued]
) -> None:
    order = replace(world.order(issuer.hello()), kept=b"opaque")
    issued = issue(order)
    ledger = issuer.authority.ledger
    found = ledger._connection.execute("SELECT idx, not_after, request, spki, kept FROM evidence").fetchall()
    assert found == [(issued.index, issued.not_after, order.request, order.spki, b"opaque")]
    assert ledger.evidence.size == len(order.request) + len(order.spki) + len(order.kept)


def test_a_repeated_call_keeps_nothing_twice_and_a_refused_one_nothing(
    issuer: Issuer, world: Any, issue: Callable[[IssueOrder], Issued]
) -> None:
    order = replace(world.order(issuer.hello()), kept=b"opaque")
    first, again = issue(order), issue(replace(order, kept=b"another"))
    refused = replace(world.order(issuer.hello()), token=bytes(94), kept=b"opaque")
    with pytest.raises(RequestError):
        issue(refused)
    assert again == first
    assert rows(issuer.authority.ledger) == [first.index]


def test_without_evidence_nothing_is_kept(issuer: Issuer, world: Any, issue: Callable[[IssueOrder], Issued]) -> None:
    issue(world.order(issuer.hello()))
    assert rows(issuer.authority.ledger) == []


def test_maintenance_forgets_a_week_after_the_leafs_end(
    issuer: Issuer, world: Any, issue: Callable[[IssueOrder], Issued], clock: Any
) -> None:
    issued = issue(replace(world.order(issuer.hello()), kept=b"opaque"))
    for seconds, left in ((KEPT_AFTER_EXPIRY - 1, [issued.index]), (KEPT_AFTER_EXPIRY, [])):
        moment = issued.not_after + seconds - issuer.authority.now()
        clock.move(seconds=moment)
        issuer.authority.maintain()
        assert rows(issuer.authority.ledger) == left
    assert issuer.authority.ledger.evidence.size == 0


def test_forgetting_takes_turns(ledger: Ledger) -> None:
    with ledger.transaction():
        ledger.evidence.keep([kept(number) for number in range(FORGET_AT_ONCE + 1)], BEGIN)
    late = END + KEPT_AFTER_EXPIRY
    for left in (1, 0):
        assert ledger.evidence.due(late)
        with ledger.transaction():
            ledger.evidence.forget(late)
        assert len(rows(ledger)) == left
    assert not ledger.evidence.due(late)


def test_beyond_the_bound_the_oldest_of_the_expired_goes_first_then_the_oldest(
    ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = ledger.evidence = EvidenceStore(ledger._connection, maximum=400)
    monkeypatch.setattr("proxy_attestation.authority.evidence_store._SLACK", 64)
    now = END
    with ledger.transaction():
        store.keep([kept(0, END + 9), kept(1, END - 1), kept(2, END - 2), kept(3, END + 9)], now)
        assert store.size == 400
        store.keep([kept(4, END + 9)], now)
    assert rows(ledger) == [0, 3, 4]  # both expired ones went: one for the room, one for the slack
    assert (store.size, store.evicted) == (300, 2)
    with ledger.transaction():
        store.keep([kept(5, END + 9), kept(6, END + 9)], now)
    assert rows(ledger) == [4, 5, 6]
    assert (store.size, store.evicted) == (300, 4)


def test_one_piece_beyond_the_whole_bound_is_not_kept_and_harms_nobody(ledger: Ledger) -> None:
    store = ledger.evidence = EvidenceStore(ledger._connection, maximum=400)
    with ledger.transaction():
        store.keep([kept(0, size=500)], BEGIN)
    assert (rows(ledger), store.size) == ([], 0)


def test_what_is_rolled_back_does_not_count(ledger: Ledger) -> None:
    class StopError(Exception):
        pass

    with pytest.raises(StopError), ledger.transaction():
        ledger.evidence.keep([kept(0)], BEGIN)
        raise StopError
    assert (rows(ledger), ledger.evidence.size) == ([], 0)


def test_its_size_is_known_again_after_opening(tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    path.touch(0o600)
    with closing(signing(Ledger.create(path))) as made:
        leaves(made, 1)
        with made.transaction():
            made.evidence.keep([kept(0)], BEGIN)
    with closing(Ledger.open(path)) as again:
        assert again.evidence.size == 100


def test_evidence_belongs_to_an_entry(ledger: Ledger) -> None:
    with pytest.raises(sqlite3.IntegrityError):
        ledger._connection.execute("INSERT INTO evidence VALUES (999999, 1, 0, x'', x'', x'')")


GOOD = KeptEvidence(b"record", (b"certificate",), b"log", bytes(34), bytes(32))


@pytest.mark.parametrize("whole", [GOOD, KeptEvidence(b"record")])
def test_kept_evidence_comes_back_as_it_was(whole: KeptEvidence) -> None:
    assert decode_kept(encode_kept(whole)) == whole


@pytest.mark.parametrize(
    "changes",
    [{"record": b""}, {"certificates": (b"",)}, {"event_log": b""}, {"ak_name": b"x"}, {"ek_spki_sha256": b"x"},
     {"version": 2}],
)  # fmt: skip
def test_anything_else_is_unreadable(changes: dict[str, object]) -> None:
    data = encode_kept(replace(GOOD, **changes))  # type: ignore[arg-type] # any field, wrong by itself
    with pytest.raises(FormatError) as caught:
        decode_kept(data)
    assert caught.value.code is Code.REAPPRAISAL_UNREADABLE
