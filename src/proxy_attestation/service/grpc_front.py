"""The gRPC front: grpc.aio with health and reflection, over the same `Calls` as the Connect front.

TLS 1.3 where the client can, 1.2 otherwise: grpcio cannot refuse 1.2. Every rpc is unary on the wire, and handled as a
stream of exactly one message: so we are called when the headers have come, hold a place in the budgets while the
message comes, and give up on a peer that never sends it. Messages reach us as bytes, and a malformed one gets our code.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, Final

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc
from grpc_status import rpc_status

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError, UnavailableError
from proxy_attestation.formats.bounds import MESSAGE_MAX
from proxy_attestation.service.calls import READ_SECONDS, SERVICE, Calls, Method, decode_message
from proxy_attestation.service.errors_wire import WireError, status_message
from proxy_attestation.service.limits import Admission, Bounds, peer_key

# A message a little over the bound is refused by us with our code; beyond that grpcio refuses it unread.
_SLACK: Final = 64 * 1024
_OPTIONS: Final = (
    ("grpc.so_reuseport", 1),
    ("grpc.max_receive_message_length", MESSAGE_MAX + _SLACK),
    ("grpc.max_metadata_size", 16 * 1024),
    ("grpc.max_concurrent_streams", 128),
    ("grpc.keepalive_time_ms", 60_000),
    ("grpc.keepalive_timeout_ms", 20_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
    ("grpc.max_connection_idle_ms", 300_000),
)


class GrpcFront:
    """A gRPC server.

    Args of `__init__`: the calls, the bounds, `HOST:PORT`, and the PEM of the TLS key and chain.
    """

    def __init__(self, calls: Calls, bounds: Bounds, address: str, key: bytes, chain: bytes) -> None:
        self._calls = calls
        # grpcio's own bound lies above ours: a call over ours is answered with our code.
        self._server = grpc.aio.server(options=_OPTIONS, maximum_concurrent_rpcs=bounds.in_flight * 2)
        handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            name: grpc.stream_unary_rpc_method_handler(self._handler(name)) for name in calls.methods
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        self._health = _Health()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        names = (SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME)
        servicer = _Reflection(names, calls.admission)
        reflection_pb2_grpc.add_ServerReflectionServicer_to_server(servicer, self._server)
        self.port: int = self._server.add_secure_port(address, grpc.ssl_server_credentials([(key, chain)]))

    async def start(self) -> None:
        """Start to listen."""
        await self.set_ready(self._calls.core.serving is not None)
        await self._server.start()

    async def set_ready(self, ready: bool) -> None:
        """Tell the health service."""
        status = health_pb2.HealthCheckResponse
        for service in ("", SERVICE):
            await self._health.set(service, status.SERVING if ready else status.NOT_SERVING)

    async def stop(self, grace: float) -> None:
        """Take no more calls, finish those in flight within `grace` seconds."""
        await self._health.enter_graceful_shutdown()
        await self._server.stop(grace)

    def _handler(self, name: str) -> Any:
        async def handle(messages: AsyncIterator[bytes], context: Any) -> bytes:
            async def receive(method: Method) -> Any:
                return decode_message(method, await _only(messages))

            answer = await self._calls.run(name, "grpc", peer_key(context.peer()), receive)
            if isinstance(answer, WireError):
                await context.abort_with_status(rpc_status.to_status(status_message(answer)))
            assert isinstance(answer, Message)  # noqa: S101 - abort_with_status always raises
            return answer.SerializeToString()

        return handle


async def _only(messages: AsyncIterator[bytes]) -> bytes:
    """Return the one message of a unary call.

    Raises:
        FormatError: `request.malformed`, for none, more than one, or a peer that is too slow.
    """
    found: bytes | None = None
    try:
        async with asyncio.timeout(READ_SECONDS):
            async for message in messages:
                if found is not None:
                    raise FormatError(Code.REQUEST_MALFORMED, "more than one message")
                found = message
    except TimeoutError as error:
        raise FormatError(Code.REQUEST_MALFORMED, f"the message took longer than {READ_SECONDS} s") from error
    if found is None:
        raise FormatError(Code.REQUEST_MALFORMED, "no message")
    return found


class _Health(health.aio.HealthServicer):  # type: ignore[misc] # the package has no types
    """Answers `Check` only: a stream that stays open as long as a stranger likes would cost a place for ever."""

    async def Watch(self, request: Any, context: Any) -> None:  # noqa: N802 - the name of the rpc
        """Refuse; clients then poll, as the health protocol says."""
        del request
        await context.abort(grpc.StatusCode.UNIMPLEMENTED)


class _Reflection(reflection.aio.ReflectionServicer):  # type: ignore[misc] # the package has no types
    """Reflection within the budgets of everything else, and for no longer than a message may take."""

    def __init__(self, names: tuple[str, ...], admission: Admission) -> None:
        super().__init__(names)
        self._admission = admission

    async def ServerReflectionInfo(self, request_iterator: Any, context: Any) -> AsyncIterator[Any]:  # noqa: N802 - the name of the rpc
        """Answer questions about the service."""
        try:
            with self._admission.admit(peer_key(context.peer())):
                async with asyncio.timeout(READ_SECONDS):
                    async for answer in super().ServerReflectionInfo(request_iterator, context):
                        yield answer
        except UnavailableError:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED)
        except TimeoutError:
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED)
