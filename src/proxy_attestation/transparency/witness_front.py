"""A witness over HTTP, on granian: bounded bodies, few connections, little log."""

import asyncio
import socket
import sys
import time
from collections.abc import Callable
from http import HTTPStatus
from typing import Any, Final

from granian.constants import Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server

from proxy_attestation.errors import UnavailableError, UsageError
from proxy_attestation.transparency.witness import TEXT_TYPE, Answer, Witness
from proxy_attestation.transparency.witness_protocol import ADD_CHECKPOINT, BODY_MAX

READ_SECONDS: Final = 10.0
"""How long one body may take."""
NEWS_SECONDS: Final = 60.0
"""The same refusal is told once in this time; only a log's own key can grow a tree, and with it the other news."""
_CONNECTIONS_MAX: Final = 256


class WitnessFront:
    """An RSGI application over a witness (granian's HTTP scope and RSGIHTTPProtocol come without types).

    Attributes:
        listening: set when the server listens.

    Args:
        witness: what answers.
        news: told what the operator should hear.
        clock: seconds that never go back.
    """

    def __init__(
        self, witness: Witness, news: Callable[[str], object], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._witness, self._news, self._clock = witness, news, clock
        self._told: dict[HTTPStatus, float] = {}
        self.listening = asyncio.Event()

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Note that the server is starting: it binds its socket before it gives the loop back."""
        loop.call_soon(self.listening.set)

    async def __rsgi__(self, scope: Any, exchange: Any) -> None:
        """Answer one HTTP request."""
        path = scope.path.removeprefix("/")
        body = await _body(scope.headers, exchange) if path == ADD_CHECKPOINT and scope.method == "POST" else b""
        try:
            answer = Answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE)
            if body is not None:
                answer = self._witness.answer(scope.method, path, body)
        except UnavailableError as error:
            answer = Answer(HTTPStatus.SERVICE_UNAVAILABLE, news=str(error))
        self._tell(answer)
        headers = [("content-type", answer.kind or TEXT_TYPE), ("cache-control", "no-store")]
        exchange.response_bytes(int(answer.status), headers, answer.body)

    def _tell(self, answer: Answer) -> None:
        if answer.news is None:
            return
        now = self._clock()
        if answer.status is HTTPStatus.OK or now - self._told.get(answer.status, -NEWS_SECONDS) >= NEWS_SECONDS:
            self._told[answer.status] = now
            self._news(answer.news)


async def _body(headers: Any, exchange: Any) -> bytes | None:
    """Read a body; None for one that is too large or too slow."""
    declared = headers.get("content-length", "0")
    if not (declared.isascii() and declared.isdigit() and len(declared) <= 10 and int(declared) <= BODY_MAX):
        return None
    pieces = bytearray()
    try:
        async with asyncio.timeout(READ_SECONDS):
            async for piece in exchange:
                pieces += piece
                if len(pieces) > BODY_MAX:
                    return None
    except TimeoutError:
        return None
    return bytes(pieces)


def reserve(host: str, port: int) -> socket.socket:
    """Bind an address without listening, so that port 0 has become a number before the server takes it.

    Raises:
        UsageError: where it cannot be bound.
    """
    if port:
        # Once without SO_REUSEPORT: with it, a second witness would silently take half of the first one's requests.
        _bind(host, port, shared=False).close()
    return _bind(host, port, shared=True)


def _bind(host: str, port: int, *, shared: bool) -> socket.socket:
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, shared)
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        raise UsageError(f"cannot listen on {host}:{port}: {error.strerror}") from error
    return bound


async def serve(
    front: WitnessFront, host: str, port: int, started: Callable[[int], object], stop: asyncio.Event
) -> None:
    """Serve until `stop` is set.

    Args:
        front: what answers.
        host: an IP address.
        port: 0: any.
        started: called with the port as soon as requests are answered.
        stop: ends it.

    Raises:
        UsageError: where the address cannot be bound.
    """
    with reserve(host, port) as held:
        port = held.getsockname()[1]
        server = Server(
            front,
            address=host,
            port=port,
            interface=Interfaces.RSGI,
            websockets=False,
            backpressure=_CONNECTIONS_MAX,
            http1_settings=HTTP1Settings(header_read_timeout=10_000, max_buffer_size=16 * 1024),
            log_enabled=False,
        )
        loop = asyncio.get_running_loop()
        serving = loop.create_task(server.serve())
        waits = [loop.create_task(front.listening.wait()), serving]
        await asyncio.wait(waits, return_when="FIRST_COMPLETED")
        if not serving.done():
            started(port)
            await asyncio.wait([loop.create_task(stop.wait()), serving], return_when="FIRST_COMPLETED")
        server.stop()  # type: ignore[no-untyped-call] # granian has no annotation here
        await serving


def print_news(text: str) -> None:
    """Tell an operator on standard error."""
    print(text, file=sys.stderr, flush=True)
