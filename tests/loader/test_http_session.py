"""The HTTP/1.1 side without TLS, spoken to byte by byte."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_attestation.formats.request import ApplicationKind
from proxy_attestation.loader.applications.model import CallResult, Outcome
from proxy_attestation.loader.http_session import HttpSession
from proxy_attestation.loader.limits import Budget, SessionLimits
from proxy_attestation.loader.streams import SocketStream

LIMITS: Final = SessionLimits(message=1000, headers=4096)
GET: Final = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n"


class Length:
    """Answers with the length of the body that it read."""

    kind: Final = ApplicationKind.WASM
    sha256: Final = None

    def __init__(self) -> None:
        self.result: CallResult | None = None
        self.gate = asyncio.Event()
        self.gate.set()
        self.called = asyncio.Event()

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def status(self) -> dict[str, object]:
        return {}

    async def call(self, arguments: tuple[str, ...], message: bytes, seconds: float) -> CallResult:
        assert arguments == ("http",)
        assert seconds > 0
        self.called.set()
        await self.gate.wait()
        if self.result is not None:
            return self.result
        body = b"%d" % len(message.partition(b"\r\n\r\n")[2])
        return CallResult(Outcome.EXITED, 0, b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))


class Pair:
    def __init__(self, limits: SessionLimits, budget: Budget) -> None:
        ours, theirs = socket.socketpair()
        self.application = Length()
        self.budget = budget
        self.server = SocketStream(ours)
        self.client = SocketStream(theirs)
        self.session = HttpSession(self.server, self.application, limits, budget)
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            await self.session.run()
        finally:
            await self.server.close()

    async def receive(self, ending: bytes) -> bytes:
        """Read up to an ending, or to the end of the connection."""
        data = b""
        while not data.endswith(ending) and (piece := await self.client.read()):
            data += piece
        return data

    async def rest(self) -> bytes:
        data = b""
        while piece := await self.client.read():
            data += piece
        return data


@contextlib.asynccontextmanager
async def pair(limits: SessionLimits = LIMITS, budget: Budget | None = None) -> AsyncIterator[Pair]:
    both = Pair(limits, budget or Budget())
    before = both.budget.left
    try:
        yield both
    finally:
        both.client.abort()
        await both.client.close()
        await asyncio.gather(both.task, return_exceptions=True)
        assert both.budget.left == before


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def test_requests_follow_each_other_on_one_connection() -> None:
    async def scenario() -> None:
        async with pair() as both:
            for body in (b"", b"abc", b"x" * 1000):
                await both.client.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
                answer = await both.receive(b"\r\n\r\n%d" % len(body))
                assert status_of(answer) == 200

    asyncio.run(scenario())


def test_pipelined_and_chunked_requests_are_served() -> None:
    async def scenario() -> None:
        async with pair() as both:
            chunked = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
            await both.client.write(GET + chunked)
            await both.client.write_eof()
            answers = await both.rest()
            assert answers.count(b"HTTP/1.1 200") == 2
            assert answers.endswith(b"\r\n\r\n3")

    asyncio.run(scenario())


def test_expect_100_continue() -> None:
    async def scenario() -> None:
        async with pair() as both:
            await both.client.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
            assert status_of(await both.receive(b"\r\n\r\n")) == 100
            await both.client.write(b"abc")
            assert status_of(await both.receive(b"\r\n\r\n3")) == 200

    asyncio.run(scenario())


def test_connection_close_is_obeyed() -> None:
    async def scenario() -> None:
        async with pair() as both:
            await both.client.write(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = await both.rest()
            assert status_of(answer) == 200

    asyncio.run(scenario())


def test_too_large_a_body_is_413_and_closes() -> None:
    async def scenario() -> None:
        async with pair() as both:
            await both.client.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1001\r\n\r\n" + bytes(1001))
            answer = await both.rest()
            assert status_of(answer) == 413
            assert b"onnection: close" in answer
            assert not both.application.called.is_set()

    asyncio.run(scenario())


def test_an_exhausted_budget_is_503() -> None:
    async def scenario() -> None:
        async with pair(budget=Budget(10)) as both:
            await both.client.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 11\r\n\r\n" + bytes(11))
            assert status_of(await both.rest()) == 503

    asyncio.run(scenario())


def test_requests_that_break_the_protocol_are_400_or_431() -> None:
    async def scenario() -> None:
        for request, status in (
            (b"nonsense\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\n\r\n", 400),  # no Host
            (b"GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n", 400),
            (b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"v" * 5000, 431),
        ):
            async with pair() as both:
                await both.client.write(request)
                assert status_of(await both.rest()) == status
                assert not both.application.called.is_set()

    asyncio.run(scenario())


def test_a_failing_application_is_told_and_the_connection_lives() -> None:
    async def scenario() -> None:
        async with pair() as both:
            both.application.result = CallResult(Outcome.TIME)
            await both.client.write(GET)
            answer = await both.receive(b"504 Gateway Timeout\n")
            assert status_of(answer) == 504
            both.application.result = None
            await both.client.write(GET)
            assert status_of(await both.receive(b"\r\n\r\n0")) == 200

    asyncio.run(scenario())


def test_head_gets_no_body_even_for_an_error() -> None:
    async def scenario() -> None:
        async with pair() as both:
            both.application.result = CallResult(Outcome.LOST)
            await both.client.write(b"HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            answer = await both.rest()
            assert status_of(answer) == 503
            assert answer.endswith(b"\r\n\r\n")

    asyncio.run(scenario())


def test_a_slow_request_is_ended() -> None:
    async def scenario() -> None:
        async with pair(replace(LIMITS, request_s=0.05)) as both:
            await both.client.write(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nab")
            assert status_of(await both.rest()) == 408
        async with pair(replace(LIMITS, request_s=0.05)) as both:
            await both.client.write(b"GET / HT")
            assert await both.rest() == b""

    asyncio.run(scenario())


def test_an_idle_connection_is_closed() -> None:
    async def scenario() -> None:
        async with pair(replace(LIMITS, idle_s=0.05)) as both:
            assert await both.rest() == b""

    asyncio.run(scenario())


def test_draining_finishes_the_running_request_and_closes() -> None:
    async def scenario() -> None:
        async with pair() as both:
            both.application.gate.clear()
            await both.client.write(GET)
            await both.application.called.wait()
            both.session.drain()
            both.application.gate.set()
            answer = await both.rest()
            assert status_of(answer) == 200
            assert b"onnection: close" in answer

    asyncio.run(scenario())


def test_draining_an_idle_connection_ends_it() -> None:
    async def scenario() -> None:
        async with pair() as both:
            await both.client.write(GET)
            await both.receive(b"\r\n\r\n0")
            both.session.drain()
            assert await both.rest() == b""

    asyncio.run(scenario())


@given(st.binary(max_size=300), st.booleans())
@settings(deadline=None, max_examples=100)
def test_any_bytes_end_a_connection_without_a_bug(data: bytes, started: bool) -> None:
    async def scenario() -> None:
        async with pair() as both:
            await both.client.write((b"POST / HTTP/1.1\r\nHost: x\r\n" if started else b"") + data)
            await both.client.write_eof()
            await both.rest()
            await both.task

    asyncio.run(scenario())
