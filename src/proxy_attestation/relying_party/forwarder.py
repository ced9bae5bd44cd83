"""Forwards local plaintext connections to an attested server, each over a TLS connection of its own.

`connect` listens on a loopback address with it, `grpc_channel` on a private Unix socket. The server is checked anew
for every connection; where it is refused, the local connection is closed and nothing of it was forwarded.
"""

import asyncio
import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proxy_attestation.codes import Code
from proxy_attestation.errors import ProxyAttestationError, UnavailableError, UsageError
from proxy_attestation.relying_party.context import CheckedContext
from proxy_attestation.relying_party.failure import attestation_error

_CHUNK: Final = 64 * 1024
_CLOSE_TIMEOUT: Final = 10.0
CONNECTIONS_MAX: Final = 256
CONNECT_TIMEOUT: Final = 10.0
DRAIN_TIMEOUT: Final = 30.0
"""Seconds of silence that the server may take to answer after the local side has said its last byte."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where to, and how.

    Attributes:
        host: DNS name or IP address to connect to; the peer must carry it unless the context names another.
        port: TCP.
        context: the check.
    """

    host: str
    port: int
    context: CheckedContext


def split_target(text: str) -> tuple[str, int]:
    """Split `HOST:PORT`; an IPv6 address stands in brackets and comes back without them. Port 0 is one.

    Raises:
        UsageError: for anything else.
    """
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        host = ""
    if not colon or not host or not port.isascii() or not port.isdigit() or len(port) > 5 or int(port) > 0xFFFF:
        raise UsageError(f"{text!r}: HOST:PORT was expected")
    return host, int(port)


class Forwarder:
    """One listener and its connections, on the event loop that it was started on.

    Args:
        target: where to.
        on_failure: called with the error of each connection that could not be made.
        on_connected: called when one was made.
    """

    def __init__(
        self,
        target: Target,
        *,
        on_failure: Callable[[ProxyAttestationError], None],
        on_connected: Callable[[], None] = lambda: None,
    ) -> None:
        self._target = target
        self._on_failure = on_failure
        self._on_connected = on_connected
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def listen_tcp(self, host: str, port: int) -> int:
        """Listen on an IP address and return the port.

        Raises:
            UnavailableError: `peer.unreachable`, where the address cannot be had.
        """
        try:
            self._server = await asyncio.start_server(self._accept, host, port)
        except OSError as error:
            raise UnavailableError(Code.PEER_UNREACHABLE, f"cannot listen on {host}:{port}: {error}") from error
        chosen: int = self._server.sockets[0].getsockname()[1]
        return chosen

    async def listen_unix(self, path: Path) -> None:
        """Listen on a Unix socket, whose directory says who may connect."""
        self._server = await asyncio.start_unix_server(self._accept, path)

    async def close(self) -> None:
        """Stop listening, close every connection and wait until all are gone."""
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None or len(self._tasks) >= CONNECTIONS_MAX:
            writer.transport.abort()
            return
        self._tasks.add(task)
        try:
            await self._forward(reader, writer)
        except asyncio.CancelledError:
            # Only close() cancels, and it waits for us. asyncio 3.11 asks a finished handler for its exception, which
            # raises for a cancelled one.
            return
        finally:
            self._tasks.discard(task)
            writer.transport.abort()

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            remote_reader, remote_writer = await _connect(self._target)
        except ProxyAttestationError as error:
            self._on_failure(error)
            return
        self._on_connected()
        up, down = _Pump(reader, remote_writer), _Pump(remote_reader, writer)
        sending, receiving = asyncio.create_task(up.run()), asyncio.create_task(down.run())
        try:
            await asyncio.wait((sending, receiving), return_when=asyncio.FIRST_COMPLETED)
            if sending.done() and sending.result():
                # The local side said its last byte, and TLS has no half-closed connections: wait for the answer.
                await _until_silent(receiving, down)
            if receiving.done() and receiving.result():
                await _flush(writer)
        finally:
            sending.cancel()
            receiving.cancel()
            await asyncio.gather(sending, receiving, return_exceptions=True)
            remote_writer.transport.abort()


class _Pump:
    """Moves bytes one way until their end."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self.moved = 0

    async def run(self) -> bool:
        """Return whether the end was orderly."""
        try:
            while data := await self._reader.read(_CHUNK):
                self._writer.write(data)
                await self._writer.drain()
                self.moved += len(data)
        except OSError:
            return False
        return True


async def _until_silent(task: asyncio.Task[bool], pump: _Pump) -> None:
    moved = -1
    while not task.done() and pump.moved != moved:
        moved = pump.moved
        await asyncio.wait((task,), timeout=DRAIN_TIMEOUT)


async def _flush(writer: asyncio.StreamWriter) -> None:
    """Close a connection after what was written to it has gone out, if its reader still reads."""
    writer.close()
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(_CLOSE_TIMEOUT):
            await writer.wait_closed()


async def _connect(target: Target) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    where = f"{target.host}:{target.port}"
    try:
        async with asyncio.timeout(CONNECT_TIMEOUT):
            return await asyncio.open_connection(
                target.host, target.port, ssl=target.context, server_hostname=target.host
            )
    except (OSError, TimeoutError) as error:
        refused = attestation_error(error)
        if refused is not None:
            raise refused from error
        raise UnavailableError(Code.PEER_UNREACHABLE, f"{where}: {error or 'no answer in time'}") from error
