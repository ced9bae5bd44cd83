"""The renewal's table and its loop, with a clock that moves only when somebody sleeps."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import pytest

from proxy_attestation.codes import Code
from proxy_attestation.errors import ProxyAttestationError, RefusedError, UnavailableError
from proxy_attestation.loader.backoff import Backoff
from proxy_attestation.loader.credential import Credential
from proxy_attestation.loader.proxy_client import Timing
from proxy_attestation.loader.renewal import (
    TRANSITIONS,
    Event,
    Renewal,
    State,
    next_state,
    renewal_time,
)

START: Final = datetime(2026, 11, 24, 12, tzinfo=UTC)
HOUR: Final = timedelta(hours=1)
RETRY: Final = Backoff(first=60.0, most=600.0, spread=0.0)


class Time:
    """A clock that a sleep moves on at once, until `end`; then sleeping lasts for ever."""

    def __init__(self, end: datetime) -> None:
        self.now = START
        self.end = end
        self.over = asyncio.Event()

    def clock(self) -> datetime:
        return self.now

    async def sleep(self, seconds: float) -> None:
        if self.now + timedelta(seconds=seconds) > self.end:
            self.now = self.end
            self.over.set()
            await asyncio.Event().wait()
        self.now += timedelta(seconds=seconds)


class Proxy:
    """Enrols according to a script; after it, always well."""

    def __init__(self, time: Time, template: Credential, script: list[ProxyAttestationError | None]) -> None:
        self.time = time
        self.template = template
        self.script = script
        self.times: list[datetime] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.started = asyncio.Event()

    async def enroll(self) -> Credential:
        self.started.set()
        await self.gate.wait()
        self.times.append(self.time.now)
        error = self.script.pop(0) if self.script else None
        if error is not None:
            raise error
        now = self.time.now
        return replace(self.template, obtained_at=now, not_before=now, not_after=now + HOUR, serial=len(self.times))


class Run:
    def __init__(
        self, template: Credential, end: timedelta, script: list[ProxyAttestationError | None], chance: float = 0.5
    ) -> None:
        self.time = Time(START + end)
        self.proxy = Proxy(self.time, template, script)
        self.issued: list[int] = []
        self.failed: list[Code] = []
        self.renewal = Renewal(
            self.proxy.enroll,
            Timing(self.time.clock, self.time.sleep, lambda: chance),
            lambda credential: self.issued.append(credential.serial),
            lambda error, _: self.failed.append(error.code),
            RETRY,
        )

    async def to_the_end(self) -> None:
        task = asyncio.create_task(self.renewal.run())
        await self.time.over.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    def state(self) -> State:
        return self.renewal.state

    def minutes(self) -> list[float]:
        return [round((moment - START).total_seconds() / 60, 2) for moment in self.proxy.times]


Start = Callable[..., Run]


@pytest.fixture(scope="module")
def template(authority: Any) -> Credential:
    made = authority.credential(START, HOUR)
    assert isinstance(made, Credential)
    return made


def play(action: Callable[[], Awaitable[None]]) -> None:
    async def scenario() -> None:
        await action()

    asyncio.run(scenario())


def unavailable() -> UnavailableError:
    return UnavailableError(Code.PROXY_UNREACHABLE)


def test_every_state_can_be_stopped_and_left() -> None:
    for state in State:
        assert next_state(state, Event.STOP) is State.STOPPED
    for state in set(State) - {State.STOPPED}:
        assert {target for (source, event), target in TRANSITIONS.items() if source is state and event != Event.STOP}


def test_an_event_without_meaning_changes_nothing() -> None:
    assert next_state(State.SERVING, Event.ISSUED) is State.SERVING
    assert next_state(State.STOPPED, Event.DUE) is State.STOPPED


@pytest.mark.parametrize(("chance", "minutes"), [(0.0, 36.0), (0.5, 40.0), (1.0, 44.0)])
def test_renewal_is_due_at_two_thirds_with_a_tenth_of_jitter(
    template: Credential, chance: float, minutes: float
) -> None:
    assert renewal_time(template, chance) == START + timedelta(minutes=minutes)


def test_the_proxys_window_can_only_make_it_sooner(template: Credential) -> None:
    window = (START + timedelta(minutes=5), START + timedelta(minutes=10))
    assert renewal_time(replace(template, renewal_window=window), 0.5) == window[1]
    late = (START + timedelta(minutes=50), START + timedelta(minutes=55))
    assert renewal_time(replace(template, renewal_window=late), 0.5) == START + timedelta(minutes=40)
    past = (START - HOUR, START - timedelta(minutes=1))
    assert renewal_time(replace(template, renewal_window=past), 0.5) == START


def test_it_renews_for_ever(template: Credential) -> None:
    async def scenario() -> None:
        run = Run(template, 3 * HOUR, [])
        await run.to_the_end()
        assert run.minutes() == [0, 40, 80, 120, 160]
        assert run.issued == [1, 2, 3, 4, 5]
        assert run.failed == []
        assert run.renewal.state is State.SERVING

    play(scenario)


def test_failures_are_repeated_with_growing_delays_and_the_old_certificate_stays(template: Credential) -> None:
    async def scenario() -> None:
        run = Run(template, HOUR, [None, unavailable(), unavailable(), unavailable()])
        await run.to_the_end()
        # At 40 minutes it is due; then after 1, 2 and 4 more it is tried again.
        assert run.minutes() == [0, 40, 41, 43, 47]
        assert run.issued == [1, 5]
        assert run.failed == [Code.PROXY_UNREACHABLE] * 3

    play(scenario)


def test_a_refusal_is_recorded_and_tried_again(template: Credential) -> None:
    async def scenario() -> None:
        run = Run(template, timedelta(minutes=40, seconds=30), [None, RefusedError(Code.SGX_TCB_STATUS)])
        await run.to_the_end()
        assert run.failed == [Code.SGX_TCB_STATUS]
        assert run.renewal.state is State.HOLDING
        attempt = run.renewal.attempt
        assert attempt is not None
        assert attempt.error is not None
        assert attempt.error.code is Code.SGX_TCB_STATUS
        assert run.renewal.next_attempt_at == START + timedelta(minutes=41)

    play(scenario)


def test_an_expired_certificate_is_noticed_and_enrolment_goes_on(template: Credential) -> None:
    async def scenario() -> None:
        script: list[ProxyAttestationError | None] = [None, *(unavailable() for _ in range(20))]
        run = Run(template, timedelta(minutes=61), script)
        await run.to_the_end()
        assert run.renewal.state is State.FIRST_WAIT
        assert run.issued == [1]
        longer = Run(template, 6 * HOUR, [None, *(unavailable() for _ in range(20))])
        await longer.to_the_end()
        assert len(longer.issued) > 1
        assert longer.renewal.state is State.SERVING

    play(scenario)


def test_the_first_certificate_is_tried_for_too(template: Credential) -> None:
    async def scenario() -> None:
        run = Run(template, timedelta(minutes=30), [unavailable(), RefusedError(Code.POLICY_NAME)])
        await run.to_the_end()
        assert run.minutes() == [0, 1, 3]
        assert run.issued == [3]

    play(scenario)


def test_renewing_now_does_not_wait(template: Credential) -> None:
    async def scenario() -> None:
        run = Run(template, timedelta(minutes=1), [])
        task = asyncio.create_task(run.renewal.run())
        await run.time.over.wait()
        attempt = await run.renewal.renew_now()
        assert attempt.error is None
        assert run.issued == [1, 2]
        assert run.state() is State.SERVING
        run.proxy.script.append(RefusedError(Code.POLICY_NAME))
        refused = await run.renewal.renew_now()
        assert refused.error is not None
        assert refused.error.code is Code.POLICY_NAME
        assert run.state() is State.HOLDING
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    play(scenario)


def test_who_asks_during_an_attempt_gets_that_attempt(template: Credential) -> None:
    async def scenario() -> None:
        run = Run(template, timedelta(minutes=1), [])
        run.proxy.gate.clear()
        task = asyncio.create_task(run.renewal.run())
        await run.proxy.started.wait()
        asked = [asyncio.ensure_future(run.renewal.renew_now()) for _ in range(3)]
        await asyncio.sleep(0)
        run.proxy.gate.set()
        attempts = await asyncio.gather(*asked)
        assert len(set(map(id, attempts))) == 1
        await run.time.over.wait()
        assert run.issued == [1]
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    play(scenario)


def test_stopping_ends_the_loop(template: Credential) -> None:
    async def scenario() -> None:
        run = Run(template, timedelta(minutes=1), [])
        task = asyncio.create_task(run.renewal.run())
        await run.time.over.wait()
        run.renewal.stop()
        await task
        assert run.renewal.state is State.STOPPED

    play(scenario)


def test_a_credential_that_cannot_be_taken_into_use_is_a_failure(template: Credential) -> None:
    async def scenario() -> None:
        run = Run(template, timedelta(seconds=30), [])

        def refuse(_: Credential) -> None:
            raise UnavailableError(Code.ATTESTER_UNAVAILABLE)

        run.renewal._on_issued = refuse
        await run.to_the_end()
        assert run.failed == [Code.ATTESTER_UNAVAILABLE]
        assert run.renewal.state is State.FIRST_WAIT

    play(scenario)
