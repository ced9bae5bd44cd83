"""What sessions and connections may use at most. Everything that waits has an end, everything that grows a bound."""

import asyncio
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Final, TypeVar

MIB: Final = 1024 * 1024
CONNECTIONS_MAX: Final = 1024
"""Connections of one listener at one time."""
PEER_SHARE: Final = 4
"""One peer may have a quarter of a listener's connections."""
WAITING_CALLS_MAX: Final = 1024
"""Calls of a message application that wait for their turn."""

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """Bounds of the terminated protocols; the defaults serve small services.

    Attributes:
        message: bytes of one request or reply body.
        streams: concurrent HTTP/2 streams of one connection.
        headers: bytes of one header section.
        handshake_s: for the TLS handshake.
        request_s: from a request's first byte to its last.
        write_s: for the peer to take what is written.
        idle_s: between two requests of one connection, or two pieces of a forwarded one in either direction.
        answer_s: for the application, however long the caller would wait.
    """

    message: int = 4 * MIB
    streams: int = 100
    headers: int = 16 * 1024
    handshake_s: float = 10.0
    request_s: float = 60.0
    write_s: float = 60.0
    idle_s: float = 900.0
    answer_s: float = 10.0


class Budget:
    """Bytes of request bodies that all connections together may hold."""

    def __init__(self, limit: int = 256 * MIB) -> None:
        self._left = limit
        self._running: set[asyncio.Task[Any]] = set()  # the event loop itself holds tasks weakly

    @property
    def left(self) -> int:
        """Bytes that can still be taken."""
        return self._left

    def take(self, count: int) -> bool:
        """Take `count` bytes, or none and return False."""
        if count > self._left:
            return False
        self._left -= count
        return True

    def give(self, count: int) -> None:
        """Return bytes that were taken."""
        self._left += count

    def keep(self, task: "asyncio.Task[Any]") -> None:
        """Keep a task that holds bytes alive until it has ended."""
        self._running.add(task)
        task.add_done_callback(self._running.discard)


class Charge:
    """What the body of one request has taken from the budget, until nobody holds its bytes any more."""

    def __init__(self, budget: Budget) -> None:
        self._budget = budget
        self._taken = 0
        self._holders = 1

    def take(self, count: int) -> bool:
        """Take `count` bytes more, or none and return False."""
        if not self._budget.take(count):
            return False
        self._taken += count
        return True

    def let_go(self) -> None:
        """End one holder, the session being the first; the last one gives everything back."""
        self._holders -= 1
        if self._holders == 0:
            self._budget.give(self._taken)

    async def hold(self, call: Coroutine[Any, Any, _T]) -> _T:
        """Await a call that holds the bytes.

        When the caller is cancelled, the call is too; the bytes stay charged until it has ended, and it may take its
        time: what a Wasm host has been sent cannot be called back.
        """
        task = asyncio.create_task(call)
        self._holders += 1
        self._budget.keep(task)
        # Not in the call itself: a task that is cancelled before it starts runs no `finally`.
        task.add_done_callback(lambda _: self.let_go())
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.cancel()
            raise
