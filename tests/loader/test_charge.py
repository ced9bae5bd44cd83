"""The budget of request bodies: charged as long as anybody holds the bytes, and not longer."""

import asyncio
from typing import Any, Final

import pytest
from h2.config import H2Configuration
from h2.connection import H2Connection

from proxy_attestation.loader.applications.model import CallResult, Outcome
from proxy_attestation.loader.grpc_messages import write_message
from proxy_attestation.loader.grpc_session import GrpcSession
from proxy_attestation.loader.http_session import HttpSession
from proxy_attestation.loader.limits import Budget, Charge, SessionLimits

BYTES: Final = 1000
BODY: Final = b"x" * 100
HEADERS: Final = [
    (":method", "POST"),
    (":scheme", "https"),
    (":authority", "localhost"),
    (":path", "/pkg.Service/Echo"),
    ("content-type", "application/grpc"),
]


class Slow:
    """An application that ends a call when it is told to, cancelled or not: as one whose bytes are on their way."""

    def __init__(self) -> None:
        self.called = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.gate = asyncio.Event()

    async def call(self, arguments: tuple[str, ...], message: bytes, seconds: float) -> CallResult:
        del arguments, seconds
        self.called.set()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            await self.gate.wait()
            raise
        return CallResult(Outcome.EXITED, 0, message)


class Fed:
    """A stream that is fed by the test; what is written goes nowhere."""

    def __init__(self) -> None:
        self.pieces: asyncio.Queue[bytes] = asyncio.Queue()

    async def read(self, limit: int = 65_536) -> bytes:
        del limit
        return await self.pieces.get()

    async def write(self, data: bytes) -> None:
        del data

    async def write_eof(self) -> None: ...

    async def close(self) -> None: ...

    def abort(self) -> None: ...


async def freed(budget: Budget) -> None:
    """Wait for the calls that were given up; everything has been given back then."""
    if budget._running:
        await asyncio.wait(budget._running)
    assert budget.left == BYTES


@pytest.mark.parametrize("way", ["reset", "cut"])
def test_a_call_that_is_given_up_stays_charged_until_the_application_has_ended_it(way: str) -> None:
    async def scenario() -> None:
        client = H2Connection(H2Configuration(client_side=True))
        client.initiate_connection()
        stream_id = client.get_next_available_stream_id()
        client.send_headers(stream_id, HEADERS)
        client.send_data(stream_id, write_message(BODY), end_stream=True)
        stream, application, budget = Fed(), Slow(), Budget(BYTES)
        anything: Any = stream
        some: Any = application
        session = GrpcSession(anything, some, SessionLimits(), budget)
        serving = asyncio.create_task(session.run())
        stream.pieces.put_nowait(client.data_to_send())
        await application.called.wait()
        assert budget.left == BYTES - len(write_message(BODY))
        if way == "reset":
            client.reset_stream(stream_id)
            stream.pieces.put_nowait(client.data_to_send())
            await application.cancelled.wait()
        stream.pieces.put_nowait(b"")
        await serving
        await application.cancelled.wait()
        assert session._calls == {}
        assert budget.left == BYTES - len(write_message(BODY))
        application.gate.set()
        await freed(budget)

    asyncio.run(scenario())


def test_an_http_request_that_is_given_up_stays_charged_too() -> None:
    async def scenario() -> None:
        stream, application, budget = Fed(), Slow(), Budget(BYTES)
        anything: Any = stream
        some: Any = application
        serving = asyncio.create_task(HttpSession(anything, some, SessionLimits(), budget).run())
        head = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(BODY)
        stream.pieces.put_nowait(head + BODY)
        await application.called.wait()
        serving.cancel()
        await application.cancelled.wait()
        assert budget.left == BYTES - len(BODY)
        application.gate.set()
        await freed(budget)
        assert serving.cancelled()

    asyncio.run(scenario())


def test_a_call_that_never_reached_the_application_is_given_back_at_once() -> None:
    async def waiting_for_its_turn() -> None:
        await asyncio.Event().wait()

    async def scenario() -> None:
        budget = Budget(BYTES)
        charge = Charge(budget)
        assert charge.take(BYTES)
        assert not charge.take(1)
        holding = asyncio.create_task(charge.hold(waiting_for_its_turn()))
        await asyncio.sleep(0)
        holding.cancel()
        charge.let_go()
        assert budget.left == 0
        await asyncio.wait((holding,))
        assert holding.cancelled()
        await freed(budget)

    asyncio.run(scenario())
