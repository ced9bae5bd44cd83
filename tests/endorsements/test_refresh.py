"""Refreshing: at half life with jitter, what is there stays on failure, and the loop ends when told."""

import asyncio
import shutil
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fake_amd import FakeAmd
from fake_vendors import NOW, Clock, FakeService, IntelAnswers, Reply, Serve
from hypothesis import given
from hypothesis import strategies as st

from proxy_attestation.appraisal.endorsements import Floor
from proxy_attestation.appraisal.kinds import Endorsements, verify_endorsements
from proxy_attestation.appraisal.roots import Roots
from proxy_attestation.codes import Code
from proxy_attestation.endorsements.cache import Cache, HeldSet
from proxy_attestation.endorsements.http import Getter
from proxy_attestation.endorsements.kds import AmdTarget
from proxy_attestation.endorsements.load import load_endorsements
from proxy_attestation.endorsements.pcs import IntelTarget, pieces_of
from proxy_attestation.endorsements.refresh import Outcome, Refresher, Sources, due
from proxy_attestation.endorsements.status import Status
from proxy_attestation.formats.tee import Tee
from proxy_attestation.service.collateral import CollateralStore

SGX = IntelTarget(Tee.SGX, bytes.fromhex("00906ed50000"))
TDX = IntelTarget(Tee.TDX, bytes.fromhex("50806f000000"))
MILAN = AmdTarget("Milan")
With = Callable[..., Any]


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "endorsements")


@pytest.fixture
def sources(roots: Roots, service_of: Any, serve: Serve) -> Callable[[Getter], Sources]:
    kds = serve(FakeAmd())
    pins = {"Milan": frozenset({FakeAmd().pin})}
    return lambda getter: Sources(getter, service_of(getter), roots, pins, kds.url)


@pytest.fixture
def with_refresher(run: Any, cache: Cache, clock: Clock, sources: Callable[[Getter], Sources]) -> With:
    """Run an asynchronous function with a refresher."""

    def call(function: Any) -> Any:
        def inside(getter: Getter) -> Any:
            return function(Refresher(cache, sources(getter), now=clock.now, chance=lambda: 0.0))

        return run(inside)

    return call


def refresh(with_refresher: With, target: Any) -> Outcome:
    outcome: Outcome = with_refresher(lambda refresher: refresher.refresh(target))
    return outcome


def test_a_refresh(with_refresher: With, cache: Cache, pcs: FakeService, clock: Clock) -> None:
    outcome = refresh(with_refresher, SGX)
    assert (outcome.name, outcome.source, outcome.new, outcome.error) == ("sgx-00906ed50000", pcs.url, True, None)
    assert outcome.fetched is not None
    assert load_endorsements([cache.directory]) == (pieces_of(outcome.fetched.files),)
    assert cache.statuses() == {"sgx-00906ed50000": Status(pcs.url, NOW)}
    clock.advance(days=10)
    assert refresh(with_refresher, SGX).new
    assert len(load_endorsements([cache.directory])) == 1


def test_amd_and_intel_beside_each_other(with_refresher: With, cache: Cache) -> None:
    assert refresh(with_refresher, MILAN).new
    assert refresh(with_refresher, TDX).new
    assert list(cache.held()) == ["snp-milan", "tdx-50806f000000"]


def test_a_failure_keeps_what_is_there(
    with_refresher: With, cache: Cache, intel: IntelAnswers, pcs: FakeService, clock: Clock
) -> None:
    before = refresh(with_refresher, SGX).fetched
    assert before is not None
    clock.advance(days=10)
    intel.change("/tcb", body=b"garbage")
    outcome = refresh(with_refresher, SGX)
    assert outcome.fetched is None
    assert outcome.error is not None
    assert outcome.error.code is Code.ENDORSEMENTS_SOURCE
    assert load_endorsements([cache.directory]) == (pieces_of(before.files),)
    status = cache.statuses()["sgx-00906ed50000"]
    assert (status.source, status.success, status.code, status.failures) == (pcs.url, NOW, "endorsements.source", 1)
    assert status.error_at is not None
    assert status.error_at >= clock.time - timedelta(seconds=1)


@pytest.mark.parametrize(
    "older", [{"evaluation_number": 16}, {"crl_number": 2}, {"issue_date": NOW - timedelta(days=2)}]
)
def test_what_is_older_than_the_cache_is_refused(
    with_refresher: With, cache: Cache, intel: IntelAnswers, older: dict[str, Any]
) -> None:
    before = refresh(with_refresher, SGX).fetched
    assert before is not None
    intel.options |= older
    outcome = refresh(with_refresher, SGX)
    assert outcome.error is not None
    assert outcome.error.code is Code.ENDORSEMENTS_STALE
    assert cache.held()["sgx-00906ed50000"].numbers == before.numbers


# When.

HELD = HeldSet("x", Path(), {}, NOW + timedelta(days=14), NOW + timedelta(days=29))


@pytest.mark.parametrize(
    ("held", "status", "chance", "expected"),
    [
        (None, Status(), 0.5, timedelta(0)),
        (HELD, Status(), 0.5, timedelta(0)),
        (None, Status(success=NOW - timedelta(days=1)), 0.5, timedelta(0)),
        (HELD, Status(success=NOW), 0.0, timedelta(days=14)),
        (HELD, Status(success=NOW), 1.0, timedelta(days=14) * 0.9),
        (HELD, Status(success=NOW - timedelta(days=4)), 0.0, timedelta(days=14)),
        # Past half of its life when it came: not again at once.
        (HELD, Status(success=NOW + timedelta(days=0)), 0.0, timedelta(days=14)),
        (HELD, Status(success=NOW + timedelta(days=99)), 0.0, timedelta(days=14)),
        (HELD, Status(success=NOW, error_at=NOW, failures=1), 0.0, timedelta(minutes=1)),
        (HELD, Status(success=NOW, error_at=NOW, failures=1), 1.0, timedelta(seconds=54)),
        (HELD, Status(error_at=NOW, failures=4), 0.0, timedelta(minutes=8)),
        (HELD, Status(error_at=NOW, failures=7), 0.0, timedelta(hours=1)),
        (HELD, Status(error_at=NOW, failures=10**9), 0.0, timedelta(hours=1)),
        (HELD, Status(error_at=NOW + timedelta(days=9), failures=1), 0.0, timedelta(minutes=1)),
    ],
)
def test_when_a_target_is_due(held: HeldSet | None, status: Status, chance: float, expected: timedelta) -> None:
    assert due(held, status, NOW, chance) == NOW + expected


def test_collateral_past_half_of_its_life_is_not_asked_for_at_once() -> None:
    old = HeldSet("x", Path(), {}, NOW - timedelta(days=1), NOW + timedelta(days=1))
    assert due(old, Status(success=NOW), NOW, 0.0) == NOW + timedelta(hours=1)


@given(
    st.integers(-(10**9), 10**9).map(lambda seconds: NOW + timedelta(seconds=seconds)),
    st.integers(0, 100),
    st.floats(0, 1),
)
def test_a_due_time_never_lies_far_ahead_of_the_half_life(now: datetime, failures: int, chance: float) -> None:
    error_at = now if failures else None
    found = due(HELD, Status(success=now, error_at=error_at, failures=failures), now, chance)
    assert found <= max(HELD.half_life, now + timedelta(hours=1))


# The loop.


class Watch:
    """Runs the loop until a time, with a clock that waiting moves."""

    def __init__(self, with_refresher: With, clock: Clock, until: datetime) -> None:
        self._with = with_refresher
        self._clock = clock
        self._until = until
        self.outcomes: list[tuple[timedelta, str, Code | None, timedelta]] = []
        self.waits: list[float] = []

    async def _wait(self, seconds: float) -> bool:
        self.waits.append(seconds)
        self._clock.advance(seconds=seconds)
        return self._clock.time >= self._until

    def _report(self, outcome: Outcome, next_time: datetime) -> None:
        code = None if outcome.error is None else outcome.error.code
        self.outcomes.append((self._clock.time - NOW, outcome.name, code, next_time - NOW))

    def run(self, *targets: Any) -> None:
        self._with(lambda refresher: refresher.watch(targets, self._wait, self._report))


def test_the_loop_refreshes_at_half_life(with_refresher: With, clock: Clock) -> None:
    watch = Watch(with_refresher, clock, NOW + timedelta(days=30))
    watch.run(SGX)
    days = timedelta(days=1)
    assert [(when, due_next) for when, _, _, due_next in watch.outcomes] == [
        (0 * days, 14 * days),
        (14 * days, 28 * days),
        (28 * days, 42 * days),
    ]
    assert max(watch.waits) == 60


def test_the_loop_goes_on_over_failures(with_refresher: With, clock: Clock, intel: IntelAnswers) -> None:
    fails = iter([True, True, False])

    def change(reply: Reply) -> Reply:
        return Reply(400) if next(fails, False) else reply

    intel.changes["/tcb"] = change
    watch = Watch(with_refresher, clock, NOW + timedelta(hours=1))
    watch.run(SGX, MILAN)
    assert [(name, code) for _, name, code, _ in watch.outcomes] == [
        ("sgx-00906ed50000", Code.ENDORSEMENTS_SOURCE),
        ("snp-milan", None),
        ("sgx-00906ed50000", Code.ENDORSEMENTS_SOURCE),
        ("sgx-00906ed50000", None),
    ]
    assert [when for when, name, _, _ in watch.outcomes if name.startswith("sgx")] == [
        timedelta(0),
        timedelta(minutes=1),
        timedelta(minutes=3),
    ]


def test_the_loop_says_what_it_plans(with_refresher: With, clock: Clock) -> None:
    plans: list[dict[str, datetime]] = []

    async def stop(_seconds: float) -> bool:
        return True

    async def watch(refresher: Refresher) -> None:
        await refresher.watch([SGX], stop, lambda _outcome, _next: None, lambda first: plans.append(dict(first)))

    with_refresher(watch)
    with_refresher(watch)
    assert plans[0] == {SGX.name: clock.now()}
    assert plans[1][SGX.name] > clock.now()


def test_a_loop_that_starts_again_does_not_ask_again(with_refresher: With, clock: Clock, pcs: FakeService) -> None:
    refresh(with_refresher, SGX)
    asked = len(pcs.requests)
    watch = Watch(with_refresher, clock, NOW + timedelta(minutes=5))
    watch.run(SGX)
    assert (watch.outcomes, len(pcs.requests)) == ([], asked)


# What a worker makes of it.


class OneAuthority:
    """Records floors as the authority does."""

    def __init__(self, roots: Roots, clock: Callable[[], datetime]) -> None:
        self.floors: dict[Any, Floor] = {}
        self._roots = roots
        self._clock = clock

    async def raise_floor(self, endorsements: Endorsements) -> Floor:
        found = verify_endorsements(endorsements, self._roots, self._clock())
        self.floors[found.tee, found.platform] = found.floor
        return found.floor


def test_a_worker_takes_up_what_was_refreshed(
    with_refresher: With, cache: Cache, roots: Roots, clock: Clock, intel: IntelAnswers
) -> None:
    authority = OneAuthority(roots, clock.now)
    store = CollateralStore(cache.directory, authority, clock.now)  # type: ignore[arg-type] # it is asked for floors only

    def numbers() -> list[int]:
        asyncio.run(store.update(roots, authority.floors))
        return [item.floor.evaluation_number for item in store.in_use.values()]

    assert numbers() == []
    refresh(with_refresher, SGX)
    assert numbers() == [17]
    intel.options["evaluation_number"] = 18
    refresh(with_refresher, SGX)
    assert store.due()
    assert numbers() == [18]
    intel.options["evaluation_number"] = 17
    assert refresh(with_refresher, SGX).error is not None
    assert numbers() == [18]
    # Even where the cache was emptied, the floor holds.
    shutil.rmtree(cache.directory)
    assert refresh(with_refresher, SGX).new
    assert numbers() == []
