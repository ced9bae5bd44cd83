"""A store that fails under an authority: full while it issues, gone, replaced, not writable; and a clock that jumps.

Whatever fails, nothing is answered that does not stand in the ledger, and what was answered is there afterwards.
"""

import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ledgers import closing_ledgers
from workload import tbs_digest

from proxy_attestation.appraisal.endorsements import Floor
from proxy_attestation.authority import state as layout
from proxy_attestation.authority.issue import Issuer
from proxy_attestation.authority.messages import Issued
from proxy_attestation.codes import Code
from proxy_attestation.errors import ProxyAttestationError, UnavailableError
from proxy_attestation.formats.ledger_entry import decode_entry
from proxy_attestation.formats.request import Names
from proxy_attestation.formats.tee import DCAP

FMSPC = bytes.fromhex("00606a000000")
FLOOR = Floor(evaluation_number=18, issue_date=1_795_000_000, pck_crl_number=5, root_crl_number=7)
FILES = ("ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-shm")


class Bench:
    """An authority over STATE, and what it answered."""

    def __init__(self, state: Path, world: Any) -> None:
        self.state, self.world = state, world
        self.answered: list[Issued] = []
        self.open()

    def open(self) -> None:
        self.authority = layout.open_authority(self.state, self.world.clock)
        self.issuer = Issuer(self.authority, Names())
        for tee in DCAP:
            self.authority.raise_floor(tee, FMSPC, FLOOR)

    def close(self) -> None:
        self.authority.ledger.close()

    def order(self) -> Any:
        (anchor,) = self.authority.settings.anchors
        return self.world.order(self.issuer.hello(), claims=self.world.claims(anchor=anchor))

    def batch(self, count: int = 1, orders: Any = None) -> list[Code | None]:
        """Issue, remember what was answered, and return the codes of what was not."""
        codes: list[Code | None] = []
        for outcome in self.issuer.issue_batch(orders or [self.order() for _ in range(count)]):
            if isinstance(outcome, Issued):
                self.answered.append(outcome)
            codes.append(None if isinstance(outcome, Issued) else outcome.code)
        return codes

    def check(self) -> None:
        """Open STATE anew: every answer is an entry of its own, the indexes are 0 to n-1, the tree is theirs."""
        self.close()
        self.open()
        ledger = self.authority.ledger
        for issued in self.answered:
            stored = ledger.entry(issued.index)
            assert stored is not None
            assert decode_entry(stored).tbs_sha256 == tbs_digest(issued.chain[0])
        assert len({issued.index for issued in self.answered}) == len(self.answered)
        while not ledger.audit(1000):
            pass
        assert self.batch() == [None]


@pytest.fixture
def bench(make_state: Callable[..., Path], world: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    with closing_ledgers(monkeypatch):
        yield Bench(make_state(), world)


def limit(bench: Bench, pages: int) -> None:
    bench.authority.ledger._connection.execute(f"PRAGMA max_page_count = {pages}")


def pages(bench: Bench) -> int:
    return int(bench.authority.ledger._connection.execute("PRAGMA page_count").fetchone()[0])


@pytest.mark.parametrize("room", range(4))
def test_a_disk_that_is_full_in_the_midst_of_a_batch(bench: Bench, room: int) -> None:
    """With room for some pages more, another statement of the transaction is the one that fails."""
    bench.batch()
    limit(bench, pages(bench) + room)
    orders = [bench.order() for _ in range(40)]
    size = bench.authority.ledger.size()
    assert set(bench.batch(orders=orders)) == {Code.AUTHORITY_UNAVAILABLE}
    assert bench.authority.ledger.size() == size
    limit(bench, 1_000_000)
    # The same calls again, once there is room.
    assert set(bench.batch(orders=orders)) == {None}
    bench.check()


def test_a_disk_that_is_full_while_floors_rise(bench: Bench) -> None:
    before = bench.authority.info()
    limit(bench, pages(bench))
    raised = 0
    with pytest.raises(UnavailableError):
        for number in range(100, 400):
            bench.authority.raise_floor(DCAP[0], number.to_bytes(6), FLOOR)
            raised += 1
    assert len(bench.authority.info().floors) == len(before.floors) + raised
    limit(bench, 1_000_000)
    bench.close()
    bench.open()
    assert len(bench.authority.info().floors) == len(before.floors) + raised
    bench.check()


@pytest.mark.parametrize("which", [FILES[:1], FILES[1:2], FILES], ids=["the file", "its log", "all"])
def test_a_store_that_vanishes_issues_nothing(bench: Bench, which: tuple[str, ...], tmp_path: Path) -> None:
    bench.batch(3)
    aside = tmp_path / "aside"
    aside.mkdir()
    for name in which:
        (bench.state / name).rename(aside / name)
    assert bench.batch(2) == [Code.AUTHORITY_UNAVAILABLE] * 2
    # The mount comes back.
    for name in which:
        (aside / name).rename(bench.state / name)
    assert bench.batch() == [None]
    bench.check()


def test_a_store_that_vanishes_between_the_statements_and_the_answer(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was committed into a file that is gone is not answered."""
    bench.batch()
    copy = bench.state.parent / "copy"
    extend = bench.authority.ledger.tree.extend

    def vanish(*arguments: Any) -> Any:
        head = extend(*arguments)
        copy.mkdir()
        for name in FILES:
            shutil.copy(bench.state / name, copy / name)
            (bench.state / name).unlink()
        return head

    monkeypatch.setattr(bench.authority.ledger.tree, "extend", vanish)
    assert bench.batch(2) == [Code.AUTHORITY_UNAVAILABLE] * 2
    assert bench.batch() == [Code.AUTHORITY_UNAVAILABLE]
    bench.authority.ledger._connection.close()
    for name in FILES:
        (bench.state / name).unlink(missing_ok=True)  # SQLite left none, or a new log
        shutil.copy(copy / name, bench.state / name)
    bench.open()
    bench.check()


def test_an_older_copy_under_a_running_authority_stops_it(bench: Bench, tmp_path: Path) -> None:
    bench.batch(2)
    with sqlite3.connect(bench.state / FILES[0]) as source, sqlite3.connect(tmp_path / "old") as target:
        source.backup(target)
    source.close()
    target.close()
    bench.batch(2)
    (tmp_path / "old").replace(bench.state / FILES[0])
    assert bench.batch() == [Code.AUTHORITY_UNAVAILABLE]


def test_a_store_that_became_read_only(bench: Bench) -> None:
    bench.batch()
    connection = bench.authority.ledger._connection
    connection.execute("PRAGMA query_only = ON")
    orders = [bench.order() for _ in range(3)]
    assert bench.batch(orders=orders) == [Code.AUTHORITY_UNAVAILABLE] * 3
    connection.execute("PRAGMA query_only = OFF")
    assert bench.batch(orders=orders) == [None] * 3
    bench.check()


class TestClock:
    """`authority.clock`: never before what was signed; a jump ahead ends what has ended and nothing else."""

    def test_back_and_again(self, bench: Bench) -> None:
        bench.batch()
        bench.world.clock.move(hours=-3)
        assert bench.batch() == [Code.AUTHORITY_CLOCK]
        with pytest.raises(UnavailableError) as caught:
            bench.authority.maintain()
        assert caught.value.code is Code.AUTHORITY_CLOCK
        bench.world.clock.move(hours=3)
        assert bench.batch() == [None]
        bench.check()

    def test_back_over_a_restart(self, bench: Bench) -> None:
        bench.batch()
        bench.close()
        bench.world.clock.move(hours=-3)
        with pytest.raises(ProxyAttestationError) as caught:
            bench.open()
        assert caught.value.code is Code.AUTHORITY_CLOCK
        bench.world.clock.move(hours=3)
        bench.open()
        bench.check()

    def test_ahead_and_back(self, bench: Bench) -> None:
        """What was signed ahead of time keeps the clock from going back behind it; nothing before is lost."""
        bench.batch()
        bench.world.clock.move(days=2)
        bench.authority.maintain()
        assert bench.batch() == [None]
        bench.world.clock.move(days=-2)
        assert bench.batch() == [Code.AUTHORITY_CLOCK]
        bench.world.clock.move(days=2)
        bench.check()

    def test_ahead_over_all_that_is_prepared_on_a_schedule(self, bench: Bench) -> None:
        bench.batch()
        first = bench.authority.active.ca.number
        bench.world.clock.move(days=100)
        bench.authority.maintain()
        assert bench.authority.active.ca.number > first
        bench.check()
