"""Bytes between a TLS connection and an application's plaintext connection, in both directions, with half-close."""

import asyncio
from collections.abc import Callable

from proxy_attestation.loader.applications.model import StreamApplication
from proxy_attestation.loader.limits import SessionLimits
from proxy_attestation.loader.streams import Stream


class ForwardSession:
    """Serves one connection until both directions have ended, or nothing has moved for a long time."""

    def __init__(self, stream: Stream, application: StreamApplication, limits: SessionLimits) -> None:
        self._stream = stream
        self._application = application
        self._limits = limits

    async def run(self) -> None:
        """Connect to the application and carry bytes.

        Raises:
            OSError: when the application does not listen, or either connection broke or both were idle; the other one
                breaks too, so that a cut never looks like an end.
        """
        backend = await self._application.connect()
        try:
            await forward(self._stream, backend, self._limits.idle_s)
        finally:
            await backend.close()

    def drain(self) -> None:
        """Do nothing: only the two ends know when they are done."""


async def forward(one: Stream, other: Stream, idle_s: float) -> None:
    """Carry bytes both ways until both have ended. No more than one piece a direction is held.

    Args:
        one: either end.
        other: the other end.
        idle_s: seconds in which a piece has to move, whichever way.

    Raises:
        OSError: when either broke, or (`TimeoutError`) nothing moved for too long; both are aborted then.
    """
    loop = asyncio.get_running_loop()
    idle = asyncio.timeout(idle_s)

    def moved() -> None:
        if not idle.expired():
            idle.reschedule(loop.time() + idle_s)

    there = asyncio.create_task(_pump(one, other, moved))
    back = asyncio.create_task(_pump(other, one, moved))
    try:
        async with idle:
            done, _ = await asyncio.wait((there, back), return_when=asyncio.FIRST_EXCEPTION)
        for task in done:
            task.result()
    except BaseException:
        one.abort()
        other.abort()
        raise
    finally:
        for task in (there, back):
            task.cancel()
        await asyncio.gather(there, back, return_exceptions=True)


async def _pump(source: Stream, sink: Stream, moved: Callable[[], None]) -> None:
    while data := await source.read():
        moved()
        await sink.write(data)
        moved()
    moved()
    await sink.write_eof()
