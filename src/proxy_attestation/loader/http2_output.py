"""What an HTTP/2 connection has to write, written by one task."""

import asyncio

from h2.connection import H2Connection

from proxy_attestation.loader.streams import Stream


class Http2Output:
    """The one writer of a connection: a call that is cancelled must not leave half a record behind."""

    def __init__(self, stream: Stream, connection: H2Connection, write_s: float) -> None:
        self._stream = stream
        self._h2 = connection
        self._write_s = write_s
        self._wanted = asyncio.Event()
        self._done = asyncio.Event()
        self._extra = b""
        self._finishing = False
        self._broken = False

    def add(self, frame: bytes) -> None:
        """Send a frame that h2 does not know of, after what h2 has."""
        self._extra += frame

    def wake(self) -> None:
        """Have everything written soon, without waiting for it."""
        self._wanted.set()

    async def flush(self) -> None:
        """Wait until everything is written.

        Raises:
            ConnectionError: when the connection broke.
        """
        self._done.clear()
        self._wanted.set()
        if not self._broken:
            await self._done.wait()
        if self._broken:
            raise ConnectionResetError("the connection broke")

    async def finish(self) -> None:
        """Write everything, then say that nothing more follows."""
        self._finishing = True
        await self.flush()

    async def run(self) -> None:
        """Write until cancelled, or until the connection breaks."""
        try:
            while True:
                await self._wanted.wait()
                self._wanted.clear()
                async with asyncio.timeout(self._write_s):
                    while data := self._h2.data_to_send() + self._extra:
                        self._extra = b""
                        await self._stream.write(data)
                    if self._finishing:
                        await self._stream.write_eof()
                self._done.set()
        except OSError:
            self._stream.abort()
        finally:
            self._broken = True
            self._done.set()
