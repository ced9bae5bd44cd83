"""The gRPC channel against a real grpcio server: calls, refusals with their cause, and nothing left behind."""

import socket
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import grpc
import pytest
from mini_authority import MiniAuthority

from proxy_attestation.codes import Code
from proxy_attestation.errors import PeerError, UnavailableError, UsageError
from proxy_attestation.relying_party import AttestedContext
from proxy_attestation.relying_party.grpc_channel import attested_channel

METHOD = "/test.Echo/Call"


@dataclass
class EchoServer:
    """A server and what reached it."""

    port: int = 0
    requests: list[bytes] = field(default_factory=list)
    metadata: list[dict[str, str]] = field(default_factory=list)

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"


@pytest.fixture
def grpc_server() -> Iterator[Callable[[Any], EchoServer]]:
    servers: list[grpc.Server] = []

    def start(leaf: Any) -> EchoServer:
        echo = EchoServer()

        def call(request: bytes, context: grpc.ServicerContext) -> bytes:
            echo.requests.append(request)
            echo.metadata.append({key: str(value) for key, value in context.invocation_metadata()})
            if request == b"deny":
                context.abort(grpc.StatusCode.PERMISSION_DENIED, "no")
            return request

        def stream(requests: Iterator[bytes], _context: grpc.ServicerContext) -> Iterator[bytes]:
            yield from requests

        handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
            "Call": grpc.unary_unary_rpc_method_handler(call),
            "Stream": grpc.stream_stream_rpc_method_handler(stream),
            "Down": grpc.unary_stream_rpc_method_handler(lambda request, _: iter([request, request])),
            "Up": grpc.stream_unary_rpc_method_handler(lambda requests, _: b"".join(requests)),
        }
        server = grpc.server(ThreadPoolExecutor(2))
        server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler("test.Echo", handlers)])
        credentials = grpc.ssl_server_credentials([(leaf.key_pem, leaf.chain_pem)])
        echo.port = server.add_secure_port("127.0.0.1:0", credentials)
        server.start()
        servers.append(server)
        return echo

    yield start
    for server in servers:
        server.stop(None).wait(30)


@pytest.fixture(autouse=True)
def temporary(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A directory for sockets, with a short name (pytest's own are too long), which must be empty again at the end."""
    directory = Path(tempfile.mkdtemp(prefix="pa-"))
    monkeypatch.setattr(tempfile, "tempdir", str(directory))
    yield directory
    directory.rmdir()


def test_calls_of_every_kind(
    authority: MiniAuthority, context: AttestedContext, grpc_server: Any, temporary: Path
) -> None:
    server = grpc_server(authority.leaf())
    with attested_channel(server.target, context) as channel:
        assert channel.unary_unary(METHOD)(b"hello", timeout=30) == b"hello"
        assert list(channel.stream_stream("/test.Echo/Stream")(iter([b"a", b"b"]), timeout=30)) == [b"a", b"b"]
        assert list(channel.unary_stream("/test.Echo/Down")(b"a", timeout=30)) == [b"a", b"a"]
        assert channel.stream_unary("/test.Echo/Up")(iter([b"a", b"b"]), timeout=30) == b"ab"
        assert channel.attestation_error is None
        (directory,) = temporary.iterdir()
        assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert server.requests == [b"hello"]
    # Nothing stays: no socket, no directory, no thread.
    assert list(temporary.iterdir()) == []
    assert [thread for thread in threading.enumerate() if thread.name == "attested-channel"] == []


def test_large_messages_come_through(authority: MiniAuthority, context: AttestedContext, grpc_server: Any) -> None:
    server = grpc_server(authority.leaf())
    payload = bytes(range(256)) * 8192
    with attested_channel(server.target, context) as channel:
        assert channel.unary_unary(METHOD)(payload, timeout=60) == payload


def test_call_credentials_and_options(authority: MiniAuthority, context: AttestedContext, grpc_server: Any) -> None:
    server = grpc_server(authority.leaf())
    token = grpc.access_token_call_credentials("secret")
    options = [("grpc.primary_user_agent", "test")]
    with attested_channel(server.target, context, options=options, call_credentials=token) as channel:
        channel.unary_unary(METHOD)(b"hello", timeout=30)
    assert server.metadata[0]["authorization"] == "Bearer secret"
    assert server.metadata[0]["user-agent"].startswith("test ")


def test_interceptors_work_on_it(authority: MiniAuthority, context: AttestedContext, grpc_server: Any) -> None:
    class Count(grpc.UnaryUnaryClientInterceptor):
        calls = 0

        def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
            self.calls += 1
            return continuation(details, request)

    server = grpc_server(authority.leaf())
    count = Count()
    with attested_channel(server.target, context) as channel:
        call: Any = grpc.intercept_channel(channel, count).unary_unary(METHOD)
        assert call(b"hello", timeout=30) == b"hello"
    assert count.calls == 1


REFUSED: dict[str, tuple[dict[str, Any], Code]] = {
    "debug": ({"claims": {"debug": True}}, Code.PEER_CLAIMS_MISMATCH),
    "no claims": ({"without_claims": True}, Code.PEER_CLAIMS_MISSING),
    "other name": ({"ip": ("127.0.0.2",)}, Code.PEER_NAME),
}


@pytest.mark.parametrize("fault", REFUSED)
def test_a_refused_server_gets_no_call_and_the_reason_comes_back(
    fault: str, authority: MiniAuthority, context: AttestedContext, grpc_server: Any
) -> None:
    changes, code = REFUSED[fault]
    server = grpc_server(authority.leaf(**changes))
    with pytest.raises(PeerError) as caught, attested_channel(server.target, context) as channel:
        channel.unary_unary(METHOD)(b"hello", timeout=30)
    assert caught.value.code is code
    assert isinstance(caught.value.__cause__, grpc.RpcError)
    assert server.requests == []


def test_a_block_that_handles_the_call_finds_the_reason(
    authority: MiniAuthority, context: AttestedContext, grpc_server: Any
) -> None:
    server = grpc_server(authority.leaf(claims={"debug": True}))
    with attested_channel(server.target, context) as channel:
        with pytest.raises(grpc.RpcError) as caught:
            channel.unary_unary(METHOD)(b"hello", timeout=30)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        error = channel.attestation_error
        assert isinstance(error, PeerError)
        assert error.code is Code.PEER_CLAIMS_MISMATCH
    assert server.requests == []


def test_the_servers_own_status_is_left_alone(
    authority: MiniAuthority, context: AttestedContext, grpc_server: Any
) -> None:
    server = grpc_server(authority.leaf())
    with pytest.raises(grpc.RpcError) as caught, attested_channel(server.target, context) as channel:
        channel.unary_unary(METHOD)(b"deny", timeout=30)
    assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_nobody_there_is_unavailable(context: AttestedContext) -> None:
    with socket.socket() as reserved:
        reserved.bind(("127.0.0.1", 0))
        target = f"127.0.0.1:{reserved.getsockname()[1]}"
        with pytest.raises(UnavailableError) as caught, attested_channel(target, context) as channel:
            channel.unary_unary(METHOD)(b"hello", timeout=30)
    assert caught.value.code is Code.PEER_UNREACHABLE


def test_a_socket_that_cannot_be_made_is_unavailable(
    context: AttestedContext, monkeypatch: pytest.MonkeyPatch, temporary: Path
) -> None:
    # A Unix socket's path has at most 107 bytes.
    deep = temporary / ("d" * 120)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with pytest.raises(UnavailableError) as caught, attested_channel("127.0.0.1:1", context):
        pytest.fail("there is no channel")
    assert caught.value.code is Code.PEER_UNREACHABLE
    deep.rmdir()


@pytest.mark.parametrize(
    "target", ["", "host", ":1", "host:", "host:x", "host:65536", "::1:1", "host:-1", "host:\N{FULLWIDTH DIGIT ONE}"]
)
def test_targets_of_another_form_are_refused(target: str, context: AttestedContext) -> None:
    with pytest.raises(UsageError), attested_channel(target, context):
        pytest.fail("there is no channel")
