"""Connections on which nothing happens for a long time, with a clock that jumps."""

import asyncio
import contextlib
import socket
from collections.abc import Callable, Coroutine
from typing import Any, Final

import h2.connection
import h2.events
import pytest
from h2.config import H2Configuration

from proxy_attestation.loader.forward import forward
from proxy_attestation.loader.grpc_session import GrpcSession
from proxy_attestation.loader.limits import Budget, SessionLimits
from proxy_attestation.loader.streams import SocketStream

IDLE_S: Final = SessionLimits().idle_s


class JumpingLoop(asyncio.SelectorEventLoop):
    """A loop whose clock can be set forward."""

    ahead = 0.0

    def time(self) -> float:
        return super().time() + self.ahead


def run(scenario: Callable[[JumpingLoop], Coroutine[Any, Any, None]]) -> None:
    loop = JumpingLoop()
    with asyncio.Runner(loop_factory=lambda: loop) as runner:
        runner.run(scenario(loop))


def test_the_idle_limit_is_a_quarter_of_an_hour() -> None:
    assert IDLE_S == 15 * 60


def test_forwarding_ends_when_neither_direction_moves() -> None:
    async def scenario(loop: JumpingLoop) -> None:
        one, left = (SocketStream(end) for end in socket.socketpair())
        other, right = (SocketStream(end) for end in socket.socketpair())
        carrying = asyncio.create_task(forward(left, right, IDLE_S))
        await asyncio.sleep(0)
        # Either direction alone keeps both alive.
        for source, sink in ((one, other), (other, one), (one, other)):
            loop.ahead += IDLE_S * 2 / 3
            await source.write(b"x")
            assert await sink.read() == b"x"
        loop.ahead += IDLE_S + 1
        await asyncio.wait((carrying,), timeout=20)
        with pytest.raises(TimeoutError):
            carrying.result()
        assert await one.read() == b""
        assert await other.read() == b""
        for stream in (one, left, other, right):
            await stream.close()

    run(scenario)


@pytest.mark.parametrize("half_closed", [False, True])
def test_forwarding_where_nothing_ever_moved_or_one_side_has_ended_is_idle_too(*, half_closed: bool) -> None:
    async def scenario(loop: JumpingLoop) -> None:
        one, left = (SocketStream(end) for end in socket.socketpair())
        other, right = (SocketStream(end) for end in socket.socketpair())
        carrying = asyncio.create_task(forward(left, right, IDLE_S))
        await asyncio.sleep(0)
        if half_closed:
            await one.write_eof()
            assert await other.read() == b""
        loop.ahead += IDLE_S + 1
        await asyncio.wait((carrying,), timeout=20)
        with pytest.raises(TimeoutError):
            carrying.result()
        for stream in (one, left, other, right):
            await stream.close()

    run(scenario)


def test_a_grpc_peer_that_only_pings_is_idle() -> None:
    async def scenario(loop: JumpingLoop) -> None:
        ours, theirs = socket.socketpair()
        server, stream = SocketStream(ours), SocketStream(theirs)
        application: Any = None
        session = GrpcSession(server, application, SessionLimits(), Budget())
        serving = asyncio.create_task(session.run())
        client = h2.connection.H2Connection(H2Configuration(client_side=True))
        client.initiate_connection()

        async def ping() -> None:
            client.ping(b"8 bytes.")
            await stream.write(client.data_to_send())
            events: list[h2.events.Event] = []
            while not any(isinstance(event, h2.events.PingAckReceived) for event in events):
                data = await stream.read()
                assert data
                events += client.receive_data(data)

        await ping()
        loop.ahead += IDLE_S * 2 / 3
        await ping()
        loop.ahead += IDLE_S * 2 / 3
        await asyncio.wait((serving,), timeout=5)
        assert serving.done()
        serving.result()
        for end in (server, stream):
            end.abort()
            await end.close()

    run(scenario)


def test_a_grpc_peer_whose_pings_wait_already_is_idle_as_well() -> None:
    class Pinging:
        """A stream that always has another PING."""

        def __init__(self, loop: JumpingLoop) -> None:
            client = h2.connection.H2Connection(H2Configuration(client_side=True))
            client.initiate_connection()
            self.loop = loop
            self.opening = client.data_to_send()
            client.ping(b"8 bytes.")
            self.ping = client.data_to_send()
            self.reads = 0

        async def read(self, limit: int = 65_536) -> bytes:
            del limit
            self.reads += 1
            self.loop.ahead += IDLE_S / 10
            return self.opening if self.reads == 1 else self.ping if self.reads < 100 else b""

        async def write(self, data: bytes) -> None:
            del data

        async def write_eof(self) -> None: ...

        async def close(self) -> None: ...

        def abort(self) -> None: ...

    async def scenario(loop: JumpingLoop) -> None:
        stream = Pinging(loop)
        anything: Any = stream
        with contextlib.suppress(OSError):
            await GrpcSession(anything, anything, SessionLimits(write_s=IDLE_S * 100), Budget()).run()
        assert stream.reads <= 11

    run(scenario)
