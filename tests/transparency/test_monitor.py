"""What a monitor takes for good, what it alarms on, and what it remembers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest
from ledger_entries import MEASUREMENT, POLICY, leaf, proxy_tls
from logs import TestKey, TestLog, witness_key

from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError, UnavailableError
from proxy_attestation.formats.tlog_policy import TlogPolicy, parse_tlog_policy
from proxy_attestation.transparency.monitor import Alarm, Event, Expected, Monitor, NewCheckpoint, NewEntry
from proxy_attestation.transparency.source import DirectorySource

LogOf = Callable[[int], TestLog]
NOTHING: Final = Expected()


class Watched:
    """A log's folder and a monitor's."""

    def __init__(self, path: Path) -> None:
        self.files, self.state = path / "log", path / "seen"
        self.state.mkdir()

    def look(
        self,
        log: TestLog | None = None,
        expected: Expected = NOTHING,
        *,
        policy: TlogPolicy = TlogPolicy(),  # noqa: B008 - immutable
        now: int = 0,
        key: TestKey | None = None,
        witnesses: tuple[TestKey, ...] = (),
        time: int = 1,
    ) -> list[Event]:
        if log is not None:
            log.written = 0
            log.write(self.files, *witnesses, time=time)
        monitor = Monitor((key or TestKey()).verifier, policy, self.state, expected, lambda: now)
        return list(monitor.look(DirectorySource(self.files)))

    @property
    def kept(self) -> bytes:
        return (self.state / "checkpoint").read_bytes()


@pytest.fixture
def watched(tmp_path: Path) -> Watched:
    return Watched(tmp_path)


def alarms(events: list[Event]) -> list[tuple[Code, int | None]]:
    return [(event.code, event.index) for event in events if isinstance(event, Alarm)]


def indexes(events: list[Event]) -> list[int]:
    return [event.index for event in events if isinstance(event, NewEntry)]


def test_each_entry_is_told_once(watched: Watched, log_of: LogOf) -> None:
    log = log_of(3)
    first = watched.look(log)
    assert indexes(first) == [0, 1, 2]
    assert first[-1] == NewCheckpoint(0, first[-1].checkpoint)  # type: ignore[union-attr] # it is one, or they differ
    assert watched.kept == log.checkpoint()
    assert watched.look() == []
    second = watched.look(log.add(leaf(i) for i in range(3, 300)))
    assert indexes(second) == list(range(3, 300))
    assert alarms(first + second) == []
    assert watched.kept == log.checkpoint()


def test_the_proxy_s_own_leaves_are_not_told(watched: Watched) -> None:
    assert indexes(watched.look(TestLog().add([leaf(0), proxy_tls(1), leaf(2)]))) == [0, 2]


def test_an_empty_ledger(watched: Watched) -> None:
    assert alarms(watched.look(TestLog())) == []
    assert indexes(watched.look(TestLog().add([leaf(0)]))) == [0]


@pytest.mark.parametrize("before", [1, 255, 256, 300])
def test_a_fork_that_went_on(watched: Watched, log_of: LogOf, before: int) -> None:
    watched.look(log_of(before))
    kept = watched.kept
    forked = TestLog().add(leaf(i) for i in range(before - 1)).add(leaf(i) for i in range(5000, 5300))
    assert alarms(watched.look(forked)) == [(Code.LEDGER_FORK, None)]
    assert watched.kept == kept
    (evidence,) = watched.state.glob("fork-*")
    assert evidence.read_bytes() == kept + b"\n" + forked.checkpoint()
    assert alarms(watched.look()) == [(Code.LEDGER_FORK, None)]
    assert len(list(watched.state.glob("fork-*"))) == 1


def test_a_fork_of_the_same_size(watched: Watched, log_of: LogOf) -> None:
    watched.look(log_of(5))
    assert alarms(watched.look(TestLog().add(leaf(i) for i in range(1, 6)))) == [(Code.LEDGER_FORK, None)]


def test_evidence_does_not_fill_the_disk(watched: Watched, log_of: LogOf) -> None:
    watched.look(log_of(2))
    for number in range(20):
        watched.look(TestLog().add([leaf(0), leaf(100 + number)]))
    assert len(list(watched.state.glob("fork-*"))) == 16


def test_a_restored_snapshot(watched: Watched, log_of: LogOf) -> None:
    watched.look(log_of(5))
    kept = watched.kept
    assert alarms(watched.look(log_of(4))) == [(Code.LEDGER_ROLLBACK, None)]
    assert watched.kept == kept
    assert alarms(watched.look(log_of(6))) == []


def test_files_that_do_not_fit(watched: Watched, log_of: LogOf) -> None:
    watched.look(log_of(5))
    log_of(6).write(watched.files)
    (watched.files / "tile" / "0" / "000.p" / "6").write_bytes(bytes(192))
    assert alarms(watched.look()) == [(Code.LEDGER_ROOT, None)]


def test_no_files(watched: Watched) -> None:
    with pytest.raises(UnavailableError) as caught:
        watched.look()
    assert caught.value.code is Code.LEDGER_UNREACHABLE


@pytest.mark.parametrize("damage", [b"", b"x", b"x" * 100_000])
def test_a_damaged_memory_is_not_taken_for_none(watched: Watched, log_of: LogOf, damage: bytes) -> None:
    (watched.state / "checkpoint").write_bytes(damage)
    with pytest.raises(Exception, match=r"note\.malformed|configuration\.malformed"):
        watched.look(log_of(2))


def test_a_memory_that_cannot_be_read(watched: Watched, log_of: LogOf) -> None:
    (watched.state / "checkpoint").mkdir()
    with pytest.raises(ConfigurationError):
        watched.look(log_of(2))


def test_another_key(watched: Watched, log_of: LogOf) -> None:
    assert alarms(watched.look(log_of(1), key=TestKey(secret="another"))) == [(Code.NOTE_SIGNATURE, None)]


def test_missing_cosignatures(watched: Watched, log_of: LogOf) -> None:
    policy = parse_tlog_policy(f"witness w {witness_key().verifier}\nquorum w\n")
    assert alarms(watched.look(log_of(1), policy=policy)) == [(Code.LEDGER_WITNESSES, None)]
    assert alarms(watched.look(log_of(1), policy=policy, witnesses=(witness_key(),))) == []


@pytest.mark.parametrize(
    ("expected", "bad"),
    [
        (Expected(measurements=frozenset({MEASUREMENT})), leaf(1, measurement=b"x" * 32)),
        (Expected(policies=frozenset({POLICY})), leaf(1, policy=b"x" * 32)),
        (Expected(policies=frozenset({POLICY})), proxy_tls(1, policy=b"x" * 32)),
    ],
)
def test_what_is_not_expected(watched: Watched, expected: Expected, bad: bytes) -> None:
    events = watched.look(TestLog().add([leaf(0), bad, leaf(2)]), expected)
    assert alarms(events) == [(Code.LEDGER_UNEXPECTED, 1)]
    assert 2 in indexes(events)
    assert alarms(watched.look(None, expected)) == []


def test_an_entry_that_no_authority_writes(watched: Watched) -> None:
    events = watched.look(TestLog().add([leaf(0), b"something", leaf(2)]), Expected(max_age=10**6))
    assert alarms(events) == [(Code.LEDGER_MALFORMED, 1)]
    assert indexes(events) == [0, 2]


@pytest.mark.parametrize(("now", "stale"), [(1299, False), (1399, False), (1400, True)])
def test_staleness_by_the_newest_certificate(watched: Watched, log_of: LogOf, now: int, stale: bool) -> None:
    events = watched.look(log_of(300), Expected(max_age=100), now=now)
    assert alarms(events) == ([(Code.LEDGER_STALE, None)] if stale else [])
    assert watched.kept


def test_staleness_by_a_demanded_cosignature(watched: Watched, log_of: LogOf) -> None:
    policy = parse_tlog_policy(f"witness w {witness_key().verifier}\nquorum w\n")
    fresh: dict[str, Any] = {"witnesses": (witness_key(),), "time": 9000, "now": 9050}
    expected = Expected(max_age=100)
    assert alarms(watched.look(log_of(1), expected, policy=policy, **fresh)) == []
    assert alarms(watched.look(log_of(1), expected, **fresh)) == [(Code.LEDGER_STALE, None)]  # nobody vouches for it


def test_a_ledger_without_any_time_is_stale(watched: Watched) -> None:
    assert alarms(watched.look(TestLog(), Expected(max_age=10**12))) == [(Code.LEDGER_STALE, None)]
