"""When to enrol: a state machine as a table, and a loop around it with clock, sleep and chance handed in.

::

    state        event      next state
    first        issued     serving       the first certificate is there
    first        failed     first_wait    there is none yet
    first_wait   due        first
    first_wait   asked      first
    serving      due        renewing      2/3 of the lifetime have gone, more or less
    serving      asked      renewing      somebody wants a new certificate now: an operator, or the proxy (`news`)
    renewing     issued     serving
    renewing     failed     holding       the old certificate stays
    holding      due        renewing      after a delay that doubles with each failure
    holding      asked      renewing
    holding      expired    first_wait    nothing valid is left to serve
    (any)        stop       stopped

Whatever moves this machine stands in this file.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Final

from proxy_attestation.errors import ProxyAttestationError
from proxy_attestation.loader.backoff import Backoff
from proxy_attestation.loader.credential import Credential
from proxy_attestation.loader.proxy_client import Timing

RETRY: Final = Backoff(first=2.0, most=300.0)
_SHARE: Final = 2 / 3
_JITTER: Final = 0.1
_SLEEP_MAX_S: Final = 60.0
"""The wall clock is looked at this often: it may be set, and a machine may be suspended."""


class State(StrEnum):
    """Where the machine stands."""

    FIRST = "first"
    FIRST_WAIT = "first_wait"
    SERVING = "serving"
    RENEWING = "renewing"
    HOLDING = "holding"
    STOPPED = "stopped"


class Event(StrEnum):
    """What moves it."""

    ISSUED = "issued"
    FAILED = "failed"
    DUE = "due"
    ASKED = "asked"
    EXPIRED = "expired"
    STOP = "stop"


TRANSITIONS: Final[dict[tuple[State, Event], State]] = {
    (State.FIRST, Event.ISSUED): State.SERVING,
    (State.FIRST, Event.FAILED): State.FIRST_WAIT,
    (State.FIRST_WAIT, Event.DUE): State.FIRST,
    (State.FIRST_WAIT, Event.ASKED): State.FIRST,
    (State.SERVING, Event.DUE): State.RENEWING,
    (State.SERVING, Event.ASKED): State.RENEWING,
    (State.RENEWING, Event.ISSUED): State.SERVING,
    (State.RENEWING, Event.FAILED): State.HOLDING,
    (State.HOLDING, Event.DUE): State.RENEWING,
    (State.HOLDING, Event.ASKED): State.RENEWING,
    (State.HOLDING, Event.EXPIRED): State.FIRST_WAIT,
    **{(state, Event.STOP): State.STOPPED for state in State},
}


def next_state(state: State, event: Event) -> State:
    """Return the state after an event; an event that means nothing in a state changes nothing."""
    return TRANSITIONS.get((state, event), state)


def renewal_time(credential: Credential, chance: float) -> datetime:
    """Return when to renew a certificate: 2/3 into its life, a tenth sooner or later, never after the proxy's window.

    Args:
        credential: the certificate.
        chance: a random number, 0 to 1.
    """
    life = credential.not_after - credential.obtained_at
    planned = credential.obtained_at + life * (_SHARE * (1 + _JITTER * (2 * chance - 1)))
    if credential.renewal_window is not None:
        planned = min(planned, credential.renewal_window[1])
    return max(planned, credential.obtained_at)


@dataclass(frozen=True, slots=True)
class Attempt:
    """One enrolment that was tried.

    Attributes:
        at: when it ended, UTC.
        error: why it failed, or None.
    """

    at: datetime
    error: ProxyAttestationError | None


class Renewal:
    """Enrols for ever. `on_issued` and `on_failed` tell what happened; they must not block."""

    def __init__(
        self,
        enroll: Callable[[], Awaitable[Credential]],
        timing: Timing,
        on_issued: Callable[[Credential], None],
        on_failed: Callable[[ProxyAttestationError, float], None],
        retry: Backoff = RETRY,
    ) -> None:
        """Start nothing yet.

        Args:
            enroll: makes one enrolment.
            timing: clock, sleep and chance.
            on_issued: takes the new credential into use.
            on_failed: is told the error, and the seconds until the next attempt.
            retry: delays after failures.
        """
        self.state = State.FIRST
        self.attempt: Attempt | None = None
        self.next_attempt_at: datetime | None = None
        self._enroll = enroll
        self._timing = timing
        self._on_issued = on_issued
        self._on_failed = on_failed
        self._retry = retry
        self._credential: Credential | None = None
        self._failures = 0
        self._asked = asyncio.Event()
        self._ended: asyncio.Future[Attempt] | None = None

    async def run(self) -> None:
        """Go round until `stop`."""
        while self.state is not State.STOPPED:
            if self.state in (State.FIRST, State.RENEWING):
                await self._try()
            else:
                await self._wait()

    def stop(self) -> None:
        """End after the attempt that is under way; cancel `run` to end at once."""
        self._move(Event.STOP)
        self._asked.set()

    async def renew_now(self) -> Attempt:
        """Ask for a new certificate now, or join the attempt that is under way.

        Returns:
            How that attempt ended.
        """
        if self._ended is None:
            self._ended = asyncio.get_running_loop().create_future()
        self._asked.set()
        return await asyncio.shield(self._ended)

    def told(self) -> None:
        """Renew now, because the proxy says so. While a renewal is under way or has failed, that goes on as it does."""
        if self.state is State.SERVING:
            self._asked.set()

    async def _try(self) -> None:
        self._asked.clear()
        self.next_attempt_at = None
        try:
            credential = await self._enroll()
            self._on_issued(credential)
        except ProxyAttestationError as error:
            self._failures += 1
            delay = self._retry.delay(self._failures, self._timing.chance())
            self.next_attempt_at = self._timing.clock() + timedelta(seconds=delay)
            self._move(Event.FAILED)
            self._end(Attempt(self._timing.clock(), error))
            self._on_failed(error, delay)
        else:
            self._failures = 0
            self._credential = credential
            self.next_attempt_at = renewal_time(credential, self._timing.chance())
            self._move(Event.ISSUED)
            self._end(Attempt(self._timing.clock(), None))

    async def _wait(self) -> None:
        """Wait for the planned time, the end of the certificate, or somebody who asks; whichever is first."""
        wake = self.next_attempt_at or self._timing.clock()
        if self.state is State.HOLDING and self._credential is not None:
            wake = min(wake, self._credential.not_after)
        left = (wake - self._timing.clock()).total_seconds()
        if left > 0 and not self._asked.is_set():
            sleeping = asyncio.ensure_future(self._timing.sleep(min(left, _SLEEP_MAX_S)))
            asked = asyncio.create_task(self._asked.wait())
            try:
                await asyncio.wait((sleeping, asked), return_when=asyncio.FIRST_COMPLETED)
            finally:
                for task in (sleeping, asked):
                    task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.gather(sleeping, asked, return_exceptions=True)
        now = self._timing.clock()
        if self._asked.is_set():
            self._move(Event.ASKED)
        elif self.state is State.HOLDING and self._credential is not None and now >= self._credential.not_after:
            self._move(Event.EXPIRED)
        elif self.next_attempt_at is None or now >= self.next_attempt_at:
            self._move(Event.DUE)

    def _move(self, event: Event) -> None:
        self.state = next_state(self.state, event)

    def _end(self, attempt: Attempt) -> None:
        self.attempt = attempt
        self._asked.clear()  # who asked meanwhile has this attempt as the answer
        ended, self._ended = self._ended, None
        if ended is not None and not ended.done():
            ended.set_result(attempt)
