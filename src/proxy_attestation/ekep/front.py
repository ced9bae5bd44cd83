"""The front: handshakes on a bidirectional gRPC stream, then calls of the proxy's service inside records.

The stream itself is not protected by TLS: the handshake does that. What a client calls inside it is handed on, as it
is, to the proxy's Connect front, over TLS that only the proxy under the pinned root can answer. Nothing in an answer
depends on the channel: evidence, binder and policy are judged there as on any other way in.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any, Final, Protocol

import grpc
from google.protobuf.message import DecodeError

from proxy_attestation import log
from proxy_attestation.ekep.frames import FRAME_MAX, HandshakeAborted
from proxy_attestation.ekep.handshake import Assertions, Handshake, State
from proxy_attestation.ekep.record import Records
from proxy_attestation.ekep.v1 import ekep_pb2 as pb
from proxy_attestation.ekep.v1 import ekep_pb2_grpc
from proxy_attestation.errors import ProxyAttestationError
from proxy_attestation.v1 import proxy_attestation_pb2 as v1

CHANNELS_MAX: Final = 64
"""At once; another one is told RESOURCE_EXHAUSTED."""
HANDSHAKE_SECONDS: Final = 20.0
"""For a whole handshake, a quote of each side included."""
IDLE_SECONDS: Final = 60.0
"""Between two calls on one channel."""
CALLS_MAX: Final = 64
"""On one channel; then it ends, and another handshake is due."""
METHODS: Final = frozenset(v1.DESCRIPTOR.services_by_name["ProxyAttestation"].methods_by_name)

_OPTIONS: Final = (
    ("grpc.max_receive_message_length", FRAME_MAX + 1024),
    ("grpc.max_metadata_size", 16 * 1024),
    ("grpc.max_concurrent_streams", CHANNELS_MAX),
    ("grpc.max_connection_idle_ms", 300_000),
)


class Upstream(Protocol):
    """Where calls go."""

    async def call(self, method: str, body: bytes) -> tuple[int, bytes]:
        """Hand a call on.

        Returns:
            The HTTP status, and the answer's message (200) or the Connect error in JSON.

        Raises:
            UnavailableError: `proxy.unreachable`.
        """


class Front(ekep_pb2_grpc.EkepServicer):
    """Serves channels; each gets assertions of its own."""

    def __init__(self, assertions: Callable[[], Assertions], upstream: Upstream) -> None:
        self._assertions = assertions
        self._upstream = upstream
        self._open = 0

    async def Channel(self, request_iterator: Any, context: Any) -> AsyncIterator[pb.Frame]:  # noqa: N802 - the rpc's name
        """Serve one channel."""
        if self._open >= CHANNELS_MAX:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many channels")
        self._open += 1
        try:
            async for frame in self._serve(request_iterator):
                yield pb.Frame(data=frame)
        except TimeoutError:
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "nothing came in time")
        except HandshakeAborted as error:
            log.warning("handshake ended", code=str(error.code), detail=error.detail)
            if error.frame is not None:
                yield pb.Frame(data=error.frame)
        except ProxyAttestationError as error:
            log.warning("channel ended", code=str(error.code), detail=error.detail)
            await context.abort(grpc.StatusCode.ABORTED, str(error.code))
        finally:
            self._open -= 1

    async def _serve(self, frames: Any) -> AsyncIterator[bytes]:
        handshake = Handshake(self._assertions(), server=True)
        async with asyncio.timeout(HANDSHAKE_SECONDS):
            while handshake.state is not State.DONE:
                received = await anext(frames, None)
                if received is None:
                    return
                for answer in await asyncio.to_thread(handshake.receive, received.data):
                    yield answer
        log.info("channel open")
        records = Records(handshake.record_key, server=True)
        for _ in range(CALLS_MAX):
            async with asyncio.timeout(IDLE_SECONDS):
                received = await anext(frames, None)
            if received is None:
                return
            yield records.seal(await self._answer(records.open(received.data)))

    async def _answer(self, content: bytes) -> bytes:
        try:
            call = pb.Call.FromString(content)
        except DecodeError:
            return pb.Answer(status=400).SerializeToString()
        if call.method not in METHODS:
            return pb.Answer(status=404).SerializeToString()
        try:
            status, body = await self._upstream.call(call.method, call.body)
        except ProxyAttestationError as error:
            log.warning("call not handed on", method=call.method, code=str(error.code), detail=error.detail)
            status, body = 503, b""
        return pb.Answer(status=status, body=body).SerializeToString()


async def serve_front(front: Front, address: str, ready: Callable[[int], None], stop: asyncio.Event) -> None:
    """Serve until told to stop.

    Args:
        front: what to serve.
        address: `HOST:PORT`; port 0 lets the system choose.
        ready: called with the port once it listens.
        stop: ends it; channels that are open have five seconds.
    """
    server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=2 * CHANNELS_MAX)
    ekep_pb2_grpc.add_EkepServicer_to_server(front, server)  # type: ignore[no-untyped-call] # generated
    ready(server.add_insecure_port(address))
    await server.start()
    try:
        await stop.wait()
    finally:
        with suppress(asyncio.CancelledError):
            await server.stop(5.0)
