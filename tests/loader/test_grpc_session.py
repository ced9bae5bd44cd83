"""The HTTP/2 side without TLS, spoken to frame by frame."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Final

import h2.config
import h2.connection
import h2.events
import h2.exceptions
from h2.errors import ErrorCodes
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_attestation.formats.request import ApplicationKind
from proxy_attestation.loader.applications.model import CallResult, Outcome
from proxy_attestation.loader.grpc_messages import read_message, write_message
from proxy_attestation.loader.grpc_session import GrpcSession
from proxy_attestation.loader.limits import Budget, SessionLimits
from proxy_attestation.loader.streams import SocketStream

LIMITS: Final = SessionLimits(message=1000)
HEADERS: Final = [
    (":method", "POST"),
    (":scheme", "https"),
    (":authority", "localhost"),
    (":path", "/pkg.Service/Echo"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
]


class Echo:
    kind: Final = ApplicationKind.WASM
    sha256: Final = None

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.called = asyncio.Event()

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def status(self) -> dict[str, object]:
        return {}

    async def call(self, arguments: tuple[str, ...], message: bytes, seconds: float) -> CallResult:
        del arguments, seconds
        self.called.set()
        await self.gate.wait()
        return CallResult(Outcome.EXITED, 0, message)


class Client:
    """Speaks HTTP/2, and keeps every event by its stream."""

    def __init__(self, stream: SocketStream) -> None:
        config = h2.config.H2Configuration(
            client_side=True, header_encoding="utf-8", validate_outbound_headers=False, normalize_outbound_headers=False
        )
        self.h2 = h2.connection.H2Connection(config)
        self.stream = stream
        self.events: list[h2.events.Event] = []
        self.over = False

    async def start(self) -> None:
        self.h2.initiate_connection()
        await self.flush()

    async def flush(self) -> None:
        if data := self.h2.data_to_send():
            await self.stream.write(data)

    async def open(self, body: bytes | None, *, end: bool = True, headers: list[tuple[str, str]] = HEADERS) -> int:
        stream_id = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream_id, headers, end_stream=end and body is None)
        if body is not None:
            self.h2.send_data(stream_id, body, end_stream=end)
        await self.flush()
        return stream_id

    async def step(self) -> None:
        data = await self.stream.read()
        if not data:
            self.over = True
            return
        for event in self.h2.receive_data(data):
            self.events.append(event)
            if isinstance(event, h2.events.DataReceived) and event.stream_id:
                with contextlib.suppress(h2.exceptions.StreamClosedError):
                    self.h2.acknowledge_received_data(event.flow_controlled_length or 0, event.stream_id)
        await self.flush()

    async def finish(self, stream_id: int) -> dict[str, str]:
        """Read until the stream has ended; return headers and trailers, and the body under `body`."""
        while not self.over and not any(
            isinstance(event, h2.events.StreamEnded) and event.stream_id == stream_id for event in self.events
        ):
            await self.step()
        found: dict[str, str] = {}
        for event in self.events:
            if getattr(event, "stream_id", None) != stream_id:
                continue
            if isinstance(event, h2.events.ResponseReceived | h2.events.TrailersReceived):
                found.update({str(name): str(value) for name, value in event.headers or ()})
            if isinstance(event, h2.events.DataReceived):
                found["body"] = found.get("body", "") + (event.data or b"").hex()
        return found

    async def goodbye(self) -> h2.events.ConnectionTerminated:
        while not self.over:
            for event in self.events:
                if isinstance(event, h2.events.ConnectionTerminated):
                    return event
            await self.step()
        raise AssertionError("no GOAWAY")


class Pair:
    def __init__(self, limits: SessionLimits, budget: Budget) -> None:
        ours, theirs = socket.socketpair()
        self.application = Echo()
        self.budget = budget
        self.server = SocketStream(ours)
        self.client = Client(SocketStream(theirs))
        self.session = GrpcSession(self.server, self.application, limits, budget)
        self.task = asyncio.create_task(self._run())

    async def _run(self) -> None:
        try:
            await self.session.run()
        finally:
            self.server.abort()
            await self.server.close()


@contextlib.asynccontextmanager
async def pair(limits: SessionLimits = LIMITS, budget: Budget | None = None) -> AsyncIterator[Pair]:
    both = Pair(limits, budget or Budget())
    before = both.budget.left
    try:
        await both.client.start()
        yield both
    finally:
        both.client.stream.abort()
        await both.client.stream.close()
        await asyncio.gather(both.task, return_exceptions=True)
        assert both.budget.left == before  # every byte of a body was given back


def test_an_answer_has_headers_message_and_trailers() -> None:
    async def scenario() -> None:
        async with pair() as both:
            answer = await both.client.finish(await both.client.open(write_message(b"hello")))
            assert answer[":status"] == "200"
            assert answer["content-type"] == "application/grpc"
            assert answer["grpc-status"] == "0"
            assert read_message(bytes.fromhex(answer["body"])) == b"hello"

    asyncio.run(scenario())


def test_refusals_before_the_application_is_asked() -> None:
    async def scenario() -> None:
        async with pair() as both:

            async def status(body: bytes | None, **changes: str) -> str:
                named = {name.replace("_", "-"): value for name, value in changes.items()}
                changed = [(name, named.pop(name.lstrip(":"), value)) for name, value in HEADERS]
                stream_id = await both.client.open(body, headers=[*changed, *named.items()])
                answer = await both.client.finish(stream_id)
                return answer.get("grpc-status") or answer[":status"]

            assert await status(None) == "13"
            assert await status(b"\1\0\0\0\0") == "13"
            assert await status(write_message(b"a") + write_message(b"b")) == "12"
            assert await status(write_message(b""), path="/nothing") == "12"
            assert await status(write_message(b""), grpc_encoding="gzip") == "12"
            assert await status(write_message(b""), grpc_timeout="soon") == "13"
            assert await status(write_message(b""), grpc_timeout="0n") == "4"
            assert await status(write_message(b""), content_type="text/plain") == "415"
            assert await status(write_message(b""), method="PUT") == "405"
            assert await status(write_message(bytes(1001))) == "8"
            assert not both.application.called.is_set()
            assert await status(write_message(bytes(1000))) == "0"

    asyncio.run(scenario())


def test_bodies_of_all_connections_share_a_budget() -> None:
    async def scenario() -> None:
        budget = Budget(100)
        async with pair(budget=budget) as both:
            waiting = await both.client.open(write_message(bytes(90))[:80], end=False)
            refused = await both.client.finish(await both.client.open(write_message(bytes(50))))
            assert refused["grpc-status"] == "8"
            both.client.h2.send_data(waiting, write_message(bytes(90))[80:], end_stream=True)
            await both.client.flush()
            assert (await both.client.finish(waiting))["grpc-status"] == "0"

    asyncio.run(scenario())


def test_a_request_that_does_not_arrive_in_time_is_ended() -> None:
    async def scenario() -> None:
        async with pair(replace(LIMITS, request_s=0.05)) as both:
            answer = await both.client.finish(await both.client.open(b"\0\0", end=False))
            assert answer["grpc-status"] == "4"

    asyncio.run(scenario())


def test_an_idle_connection_is_closed_and_a_busy_one_is_not() -> None:
    async def scenario() -> None:
        async with pair(replace(LIMITS, idle_s=0.05)) as both:
            both.application.gate.clear()
            stream_id = await both.client.open(write_message(b"x"))
            await both.application.called.wait()
            asyncio.get_running_loop().call_later(0.2, both.application.gate.set)
            assert (await both.client.finish(stream_id))["grpc-status"] == "0"
            await both.task
            while not both.client.over:
                await both.client.step()

    asyncio.run(scenario())


def test_a_window_that_stays_shut_resets_only_its_stream() -> None:
    async def scenario() -> None:
        async with pair(replace(LIMITS, write_s=0.1)) as both:
            client = both.client
            client.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 10})
            await client.flush()
            while not any(isinstance(event, h2.events.SettingsAcknowledged) for event in client.events[1:]):
                await client.step()
            stream_id = client.h2.get_next_available_stream_id()
            client.h2.send_headers(stream_id, HEADERS)
            client.h2.send_data(stream_id, write_message(bytes(500)), end_stream=True)
            await client.flush()
            while True:  # read, and give no credit back
                events = client.h2.receive_data(await client.stream.read())
                reset = [event for event in events if isinstance(event, h2.events.StreamReset)]
                if reset:
                    assert reset[0].stream_id == stream_id
                    assert reset[0].error_code == ErrorCodes.CANCEL
                    break
            answer = await client.finish(await client.open(write_message(b"abc")))
            assert answer["grpc-status"] == "0"

    asyncio.run(scenario())


def test_a_reset_call_is_dropped_and_the_connection_lives() -> None:
    async def scenario() -> None:
        async with pair() as both:
            both.application.gate.clear()
            dropped = await both.client.open(write_message(b"x"))
            await both.application.called.wait()
            both.client.h2.reset_stream(dropped, ErrorCodes.CANCEL)
            await both.client.flush()
            both.application.gate.set()
            assert (await both.client.finish(await both.client.open(write_message(b"y"))))["grpc-status"] == "0"

    asyncio.run(scenario())


def test_a_flood_of_resets_ends_the_connection() -> None:
    async def scenario() -> None:
        async with pair() as both:
            both.application.gate.clear()
            for _ in range(300):
                stream_id = both.client.h2.get_next_available_stream_id()
                both.client.h2.send_headers(stream_id, HEADERS)
                both.client.h2.reset_stream(stream_id, ErrorCodes.CANCEL)
            with contextlib.suppress(OSError):
                await both.client.flush()
            assert (await both.client.goodbye()).error_code == ErrorCodes.ENHANCE_YOUR_CALM

    asyncio.run(scenario())


def test_too_many_streams_end_the_connection() -> None:
    async def scenario() -> None:
        async with pair(replace(LIMITS, streams=2)) as both:
            both.application.gate.clear()
            # Sent before our settings are read: the peer need not have known better.
            for _ in range(3):
                await both.client.open(write_message(b"x"))
            assert (await both.client.goodbye()).error_code != ErrorCodes.NO_ERROR

    asyncio.run(scenario())


def test_a_header_section_beyond_the_limit_ends_the_connection() -> None:
    async def scenario() -> None:
        async with pair() as both:
            large = [*HEADERS, *((f"x-{n}", "v" * 1000) for n in range(20))]
            await both.client.open(None, headers=large)
            assert (await both.client.goodbye()).error_code != ErrorCodes.NO_ERROR

    asyncio.run(scenario())


def test_draining_finishes_running_calls_and_takes_no_new_ones() -> None:
    async def scenario() -> None:
        async with pair() as both:
            both.application.gate.clear()
            running = await both.client.open(write_message(b"running"))
            await both.application.called.wait()
            both.session.drain()
            assert (await both.client.goodbye()).error_code == ErrorCodes.NO_ERROR
            # h2 as a client goes deaf at a GOAWAY; RFC 9113, section 6.8, has running streams go on.
            both.client.h2.state_machine.state = h2.connection.ConnectionState.CLIENT_OPEN
            both.application.gate.set()
            assert (await both.client.finish(running))["grpc-status"] == "0"
            await both.task
            while not both.client.over:
                await both.client.step()

    asyncio.run(scenario())


def test_draining_an_idle_connection_ends_it() -> None:
    async def scenario() -> None:
        async with pair() as both:
            both.session.drain()
            both.session.drain()
            await both.task

    asyncio.run(scenario())


@given(st.binary(max_size=400), st.booleans())
@settings(deadline=None, max_examples=60)
def test_any_bytes_end_a_connection_without_a_bug(data: bytes, preface: bool) -> None:
    async def scenario() -> None:
        ours, theirs = socket.socketpair()
        server, client = SocketStream(ours), SocketStream(theirs)
        session = GrpcSession(server, Echo(), LIMITS, Budget())
        task = asyncio.create_task(session.run())
        head = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0" if preface else b""
        with contextlib.suppress(OSError):
            await client.write(head + data)
            await client.write_eof()
        with contextlib.suppress(OSError):
            await task
        server.abort()
        client.abort()
        await server.close()
        await client.close()

    asyncio.run(scenario())
