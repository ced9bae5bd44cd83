"""The admin address: `/metrics` and `/healthz` in plain HTTP, answered by the supervisor. Not for the network."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

from proxy_attestation.errors import UsageError
from proxy_attestation.service.config import Address
from proxy_attestation.service.metrics import exposition

_HEAD_MAX: Final = 8 * 1024
_READ_SECONDS: Final = 5.0


class Admin:
    """Serves the admin address.

    Args of `__init__`: the directory of the metrics files; what tells whether calls are answered.
    """

    def __init__(self, metrics: Path, healthy: Callable[[], bool]) -> None:
        self._metrics, self._healthy = metrics, healthy
        self._server: asyncio.Server | None = None

    async def start(self, address: Address) -> int:
        """Listen, and return the port.

        Raises:
            UsageError: when the address cannot be bound.
        """
        try:
            self._server = await asyncio.start_server(self._serve, address.host, address.port, limit=_HEAD_MAX)
        except OSError as error:
            raise UsageError(f"cannot listen on {address}: {error.strerror}") from error
        return int(self._server.sockets[0].getsockname()[1])

    async def stop(self) -> None:
        """Stop listening."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            async with asyncio.timeout(_READ_SECONDS):
                head = await reader.readuntil(b"\r\n\r\n")
                status, kind, body = self._answer(head.split(b"\r\n", 1)[0].split(b" "))
                lines = f"HTTP/1.1 {status}\r\ncontent-type: {kind}\r\ncontent-length: {len(body)}\r\nconnection: close"
                writer.write(lines.encode() + b"\r\n\r\n" + body)
                await writer.drain()
        except (TimeoutError, OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            pass  # a caller that says nothing sensible gets nothing
        finally:
            writer.close()

    def _answer(self, request: list[bytes]) -> tuple[str, str, bytes]:
        if len(request) != 3 or request[0] != b"GET":
            return "405 Method Not Allowed", "text/plain", b"use GET\n"
        if request[1] == b"/metrics":
            return "200 OK", "text/plain; version=0.0.4; charset=utf-8", exposition(self._metrics)
        if request[1] != b"/healthz":
            return "404 Not Found", "text/plain", b"/metrics, /healthz\n"
        if self._healthy():
            return "200 OK", "text/plain", b"ok\n"
        return "503 Service Unavailable", "text/plain", b"unavailable\n"
