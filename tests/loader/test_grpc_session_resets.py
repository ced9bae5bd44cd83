"""A stream that is opened, fed and reset in one read: its task is cancelled before it has started."""

import asyncio
from typing import Any, Final

from h2.config import H2Configuration
from h2.connection import H2Connection

from proxy_attestation.loader.grpc_session import GrpcSession
from proxy_attestation.loader.limits import Budget, SessionLimits

HEADERS: Final = [
    (":method", "POST"),
    (":scheme", "https"),
    (":authority", "localhost"),
    (":path", "/pkg.Service/Echo"),
    ("content-type", "application/grpc"),
]
BYTES: Final = 1 << 20


class OneRead:
    """A stream whose reads are what was put into its queue, piece by piece; what is written goes nowhere."""

    def __init__(self, pieces: list[bytes]) -> None:
        self._pieces = [*pieces, b""]

    async def read(self, limit: int = 65_536) -> bytes:
        del limit
        return self._pieces.pop(0) if self._pieces else b""

    async def write(self, data: bytes) -> None:
        del data

    async def write_eof(self) -> None: ...

    async def close(self) -> None: ...

    def abort(self) -> None: ...


class Never:
    """An application that must not be called."""

    async def call(self, *arguments: object) -> None:
        raise AssertionError(arguments)


def test_what_a_reset_stream_held_is_given_back() -> None:
    client = H2Connection(H2Configuration(client_side=True))
    client.initiate_connection()
    opening = client.data_to_send()
    for _ in range(3):
        stream_id = client.get_next_available_stream_id()
        client.send_headers(stream_id, HEADERS)
        client.send_data(stream_id, b"x" * 16_000)
        client.reset_stream(stream_id)
    budget = Budget(BYTES)
    stream: Any = OneRead([opening, client.data_to_send()])
    application: Any = Never()
    session = GrpcSession(stream, application, SessionLimits(), budget)
    asyncio.run(session.run())
    assert budget.left == BYTES
    assert session._calls == {}
