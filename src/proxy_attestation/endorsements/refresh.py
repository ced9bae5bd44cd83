"""Keeping a cache fresh: one target at a time, at half of its set's life, and what is there stays when it fails."""

import random
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, TypeAlias

from proxy_attestation.appraisal.roots import Roots
from proxy_attestation.endorsements.amd_checks import AmdPins
from proxy_attestation.endorsements.cache import Cache, HeldSet
from proxy_attestation.endorsements.fetched import FetchedSet
from proxy_attestation.endorsements.http import Getter, utc_now
from proxy_attestation.endorsements.kds import KDS_BASE, AmdTarget, fetch_amd
from proxy_attestation.endorsements.pcs import IntelService, IntelTarget, fetch_intel
from proxy_attestation.endorsements.status import Status
from proxy_attestation.errors import ProxyAttestationError

LEAST_INTERVAL: Final = timedelta(hours=1)
"""Between two refreshes of one target that worked: a vendor may publish what is already past half of its life."""
FIRST_RETRY: Final = timedelta(minutes=1)
"""After a failure; doubled with each further one."""
MOST_RETRY: Final = timedelta(hours=1)
SPREAD: Final = 0.1
"""The share of the wait by which a refresh may come early, so that many proxies do not come at the same moment."""
_STEP: Final = 60.0
"""The longest sleep: clocks are set and machines are suspended."""

Target: TypeAlias = IntelTarget | AmdTarget


@dataclass(frozen=True, slots=True)
class Sources:
    """Where to ask, and what to believe.

    Attributes:
        getter: for KDS.
        intel: PCS or PCCS.
        kds: base URL.
        roots: Intel's anchors.
        pins: AMD's anchors.
    """

    getter: Getter
    intel: IntelService
    roots: Roots
    pins: AmdPins
    kds: str = KDS_BASE

    def of(self, target: Target) -> str:
        """Return the base URL that a target is asked for at."""
        return self.intel.base if isinstance(target, IntelTarget) else self.kds

    async def fetch(self, target: Target, now: datetime, held: HeldSet | None) -> FetchedSet:
        """Fetch and check a target's set; nothing is stored.

        Raises:
            UnavailableError, RefusedError: as `fetch_intel` and `fetch_amd`.
        """
        numbers = {} if held is None else held.numbers
        if isinstance(target, IntelTarget):
            return await fetch_intel(self.intel, target, self.roots, now, numbers)
        files = {} if held is None else held.files()
        return await fetch_amd(
            self.getter,
            self.kds,
            target,
            self.pins,
            now,
            held=numbers,
            held_files=files,
        )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one refresh.

    Attributes:
        name: of the target.
        source: base URL.
        fetched: the set that is in the cache now, or None where it failed.
        new: whether the cache did not have it before.
        error: why it failed.
    """

    name: str
    source: str
    fetched: FetchedSet | None = None
    new: bool = False
    error: ProxyAttestationError | None = None


class Refresher:
    """Refreshes targets in a cache.

    Args:
        cache: where sets are kept.
        sources: where they come from.
        now: the time, aware, UTC.
        chance: a random number, 0 to 1.
    """

    def __init__(
        self,
        cache: Cache,
        sources: Sources,
        *,
        now: Callable[[], datetime] = utc_now,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._cache = cache
        self._sources = sources
        self._now = now
        self._chance = chance

    async def refresh(self, target: Target) -> Outcome:
        """Fetch a target's set and store it, and note how that went.

        Returns:
            What came of it; a source that fails is an outcome, and the old set is still there.

        Raises:
            UnavailableError: when not even the note could be written.
        """
        name, source = target.name, self._sources.of(target)
        try:
            fetched = await self._sources.fetch(target, self._now(), self._cache.held().get(name))
            new = self._cache.store(fetched)
        except ProxyAttestationError as error:
            self._cache.failed(name, source, self._now(), error)
            return Outcome(name, source, error=error)
        self._cache.succeeded(name, source, self._now())
        return Outcome(name, source, fetched, new)

    async def watch(
        self,
        targets: Sequence[Target],
        wait: Callable[[float], Awaitable[bool]],
        report: Callable[[Outcome, datetime], None],
        planned: Callable[[Mapping[str, datetime]], None] = lambda _: None,
    ) -> None:
        """Refresh each target whenever it is due, until told to stop.

        Args:
            targets: what to keep fresh.
            wait: waits for so many seconds, at most 60; returns whether to stop.
            report: called after each refresh, with the time of the next.
            planned: called once at the beginning with the time of each target's first.
        """
        due = {target.name: self._due(target.name, self._cache.held(), self._cache.statuses()) for target in targets}
        planned(due)
        while True:
            for target in targets:
                if due[target.name] > self._now():
                    continue
                outcome = await self.refresh(target)
                due[target.name] = self._due(target.name, self._cache.held(), self._cache.statuses())
                report(outcome, due[target.name])
                if await wait(0.0):
                    return
            seconds = (min(due.values()) - self._now()).total_seconds()
            if await wait(min(max(seconds, 0.0), _STEP)):
                return

    def _due(self, name: str, held: Mapping[str, HeldSet], statuses: Mapping[str, Status]) -> datetime:
        return due(held.get(name), statuses.get(name, Status()), self._now(), self._chance())


def due(held: HeldSet | None, status: Status, now: datetime, chance: float) -> datetime:
    """Return when a target is to be refreshed next: at half of its set's life or, after a failure, after a wait.

    Args:
        held: its set in the cache, or None.
        status: how its last refresh went.
        now: aware, UTC.
        chance: 0 to 1: how early within `SPREAD`.
    """
    early = 1 - SPREAD * chance
    # A time of the past that lies ahead means that the clock was set back: then it counts as now.
    if status.error_at is not None:
        # The exponent is bounded: timedelta cannot hold 2 to the power of a week's failures.
        wait = min(FIRST_RETRY * 2.0 ** min(status.failures - 1, 16), MOST_RETRY)
        return min(status.error_at, now) + wait * early
    if held is None or status.success is None:
        return now
    success = min(status.success, now)
    return success + max(held.half_life - success, LEAST_INTERVAL) * early
