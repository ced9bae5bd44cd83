"""Byte streams over non-blocking sockets: plain, and TLS on top, with half-close and without unbounded buffers.

asyncio's own TLS transport closes both directions when the peer closes one, so an application's answer to a client
that has finished sending would be lost. Here `ssl.MemoryBIO` carries the records, and a write returns only when the
socket has taken the bytes: what the peer does not read stays with the writer.

A stream has one reader and one writer task at a time. `abort` may be called by anyone: pending reads and writes then
fail. The owner calls `close` when its tasks have ended.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable
from typing import Final, Protocol, TypeAlias

CHUNK: Final = 64 * 1024
_LINGER_S: Final = 2.0
_LINGER_BYTES: Final = 16 * CHUNK


class Stream(Protocol):
    """What sessions and applications talk through."""

    async def read(self, limit: int = CHUNK) -> bytes:
        """Return 1 to `limit` bytes, or none at the peer's orderly end.

        Raises:
            OSError: when the connection broke.
        """

    async def write(self, data: bytes) -> None:
        """Send everything. A cancelled write leaves the stream useless: abort it.

        Raises:
            OSError: when the connection broke.
        """

    async def write_eof(self) -> None:
        """Say that nothing more will be sent; reading goes on.

        Raises:
            OSError: when the connection broke.
        """

    async def close(self) -> None:
        """End both directions in an orderly way, as far as the peer lets us, and free the socket."""

    def abort(self) -> None:
        """Break the connection now; `close` still has to be called."""


class SocketStream:
    """A connected stream socket."""

    def __init__(self, connection: socket.socket) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._loop = asyncio.get_running_loop()
        self._finished = False
        if connection.family in (socket.AF_INET, socket.AF_INET6):
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)

    async def read(self, limit: int = CHUNK) -> bytes:
        """Return what has arrived."""
        return await self._loop.sock_recv(self._socket, limit)

    async def write(self, data: bytes) -> None:
        """Send everything."""
        await self._loop.sock_sendall(self._socket, data)

    async def write_eof(self) -> None:
        """Send FIN."""
        self._finished = True
        self._socket.shutdown(socket.SHUT_WR)

    async def close(self) -> None:
        """Send FIN, wait a moment for the peer's, close.

        Closing with unread bytes would send RST, and that may destroy the last answer before the peer has read it.
        """
        try:
            if not self._finished:
                await self.write_eof()
            async with asyncio.timeout(_LINGER_S):
                discarded = 0
                while discarded < _LINGER_BYTES and (data := await self.read()):
                    discarded += len(data)
        except (OSError, TimeoutError):
            pass  # the peer is gone already, or does not care
        finally:
            self._socket.close()

    def abort(self) -> None:
        """Shut both directions down, which wakes pending calls."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)


Step: TypeAlias = Callable[[ssl.SSLObject], Awaitable[None]]
"""Calls `do_handshake` once, and raises what that raises."""


async def in_place(tls: ssl.SSLObject) -> None:
    """Take a step on the event loop: with a key in memory it lasts less than a millisecond."""
    tls.do_handshake()


class TlsStream:
    """The server's end of TLS over another stream."""

    def __init__(self, inner: Stream, context: ssl.SSLContext, step: Step = in_place) -> None:
        """Begin nothing yet.

        Args:
            inner: carries the records.
            context: the server's.
            step: goes on with the handshake as far as what was received allows.
        """
        self._inner = inner
        self._step = step
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        # Some versions of Python set this by default; a cut connection would then look like an orderly end.
        context.options &= ~ssl.OP_IGNORE_UNEXPECTED_EOF
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)
        self._sending = asyncio.Lock()
        self._unread = bytearray()
        self._finished = False
        self._shaken = False

    async def handshake(self, timeout: float) -> None:  # noqa: ASYNC109 - the limit is part of what a handshake is
        """Shake hands.

        Raises:
            OSError: (`ssl.SSLError`, `TimeoutError` and `ConnectionError` are such) when it fails.
        """
        async with asyncio.timeout(timeout):
            while True:
                try:
                    await self._step(self._tls)
                except ssl.SSLWantReadError:
                    await self._flush()
                    await self._receive()
                except ssl.SSLError:
                    await self._flush()  # the alert that says why
                    raise
                else:
                    await self._flush()
                    self._shaken = True
                    return

    @property
    def alpn(self) -> str | None:
        """The protocol that was agreed on in the handshake."""
        return self._tls.selected_alpn_protocol()

    async def read(self, limit: int = CHUNK) -> bytes:
        """Return decrypted bytes; none only after the peer's close_notify: a bare FIN raises (RFC 8446, 6.1)."""
        if self._unread:
            data = bytes(self._unread[:limit])
            del self._unread[:limit]
            return data
        while True:
            try:
                return self._tls.read(limit)
            except ssl.SSLZeroReturnError:
                return b""  # close_notify, after ours; before ours it reads as no bytes
            except ssl.SSLWantReadError:
                if self._outgoing.pending:
                    await self._flush()
                await self._receive()

    async def write(self, data: bytes) -> None:
        """Encrypt and send piece by piece, so that no more than one piece is ever held twice."""
        view = memoryview(data)
        async with self._sending:
            while view:
                taken = self._tls.write(view[:CHUNK])
                view = view[taken:]
                await self._send()

    async def write_eof(self) -> None:
        """Send close_notify; the other direction stays open (RFC 8446, 6.1)."""
        if self._finished:
            return
        self._finished = True
        # SSL_shutdown looks for the peer's close_notify and stumbles over data that nobody has read yet.
        with contextlib.suppress(ssl.SSLError):
            while data := self._tls.read(CHUNK):
                self._unread += data
        with contextlib.suppress(ssl.SSLError):
            self._tls.unwrap()
        await self._flush()

    async def close(self) -> None:
        """Send close_notify if the handshake was completed, then close below."""
        try:
            if self._shaken:
                async with asyncio.timeout(_LINGER_S):
                    await self.write_eof()
        except (OSError, TimeoutError):
            self._inner.abort()
        finally:
            await self._inner.close()

    def abort(self) -> None:
        """Break the connection below."""
        self._inner.abort()

    async def _flush(self) -> None:
        async with self._sending:
            await self._send()

    async def _send(self) -> None:
        try:
            if data := self._outgoing.read():
                await self._inner.write(data)
        except asyncio.CancelledError:
            self._inner.abort()  # half a record may be out
            raise

    async def _receive(self) -> None:
        data = await self._inner.read(CHUNK)
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()
