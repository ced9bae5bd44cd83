"""Bytes between a TLS connection and an application's plaintext connection, in both directions, with half-close."""

import asyncio

from proxy_attestation.loader.applications.model import StreamApplication
from proxy_attestation.loader.streams import Stream


class ForwardSession:
    """Serves one connection until both directions have ended."""

    def __init__(self, stream: Stream, application: StreamApplication) -> None:
        self._stream = stream
        self._application = application

    async def run(self) -> None:
        """Connect to the application and carry bytes.

        Raises:
            OSError: when the application does not listen, or either connection broke; the other one breaks too, so
                that a cut never looks like an end.
        """
        backend = await self._application.connect()
        try:
            await forward(self._stream, backend)
        finally:
            await backend.close()

    def drain(self) -> None:
        """Do nothing: only the two ends know when they are done."""


async def forward(one: Stream, other: Stream) -> None:
    """Carry bytes both ways until both have ended. No more than one piece a direction is held.

    Raises:
        OSError: when either broke; both are aborted then.
    """
    there = asyncio.create_task(_pump(one, other))
    back = asyncio.create_task(_pump(other, one))
    try:
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


async def _pump(source: Stream, sink: Stream) -> None:
    while data := await source.read():
        await sink.write(data)
    await sink.write_eof()
