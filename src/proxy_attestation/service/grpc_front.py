"""The gRPC front: grpc.aio with health and reflection, over the same `Calls` as the Connect front.

Messages reach us as bytes and are decoded by `calls.decode_message`, so that a malformed one gets our code and not
grpcio's text. TLS 1.3 where the client can, 1.2 otherwise: grpcio cannot refuse 1.2.
"""

from typing import Any, Final

import grpc
from google.protobuf.message import Message
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from grpc_status import rpc_status

from proxy_attestation.formats.bounds import MESSAGE_MAX
from proxy_attestation.service.calls import SERVICE, Calls, Method, decode_message
from proxy_attestation.service.errors_wire import WireError, status_message
from proxy_attestation.service.limits import Bounds, peer_key

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
            name: grpc.unary_unary_rpc_method_handler(self._handler(name)) for name in calls.methods
        }
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        self._health = health.aio.HealthServicer()
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server)
        credentials = grpc.ssl_server_credentials([(key, chain)])
        self.port: int = self._server.add_secure_port(address, credentials)

    async def start(self) -> None:
        """Start to listen."""
        await self.set_ready(self._calls.ready)
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
        async def handle(data: bytes, context: Any) -> bytes:
            async def receive(method: Method) -> Any:
                return decode_message(method, data)

            answer = await self._calls.run(name, "grpc", peer_key(context.peer()), receive)
            if isinstance(answer, WireError):
                await context.abort_with_status(rpc_status.to_status(status_message(answer)))
            assert isinstance(answer, Message)  # noqa: S101 - abort_with_status always raises
            return answer.SerializeToString()

        return handle
