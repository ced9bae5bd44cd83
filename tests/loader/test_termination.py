"""Real TLS sockets with real clients: grpcio, httpx, curl, openssl, Python's ssl."""

import asyncio
import contextlib
import functools
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import grpc
import httpx
import pytest

from proxy_attestation.errors import UsageError
from proxy_attestation.formats.request import ApplicationKind
from proxy_attestation.loader.applications.address import AddressApplication
from proxy_attestation.loader.applications.model import CallResult, MessageApplication, Outcome
from proxy_attestation.loader.credential import Credential
from proxy_attestation.loader.endpoint import Endpoint
from proxy_attestation.loader.forward import ForwardSession
from proxy_attestation.loader.grpc_session import GrpcSession
from proxy_attestation.loader.http_session import HttpSession
from proxy_attestation.loader.limits import CONNECTIONS_MAX, Budget, SessionLimits
from proxy_attestation.loader.streams import Stream
from proxy_attestation.loader.termination import Listener, Session, peer_of
from proxy_attestation.loader.tls import OPEN_CONNECTION_GRACE, Protocol, ServerContexts

LIMITS: Final = SessionLimits()
ANY_PORT: Final = Endpoint(host="127.0.0.1", port=0)
METHOD: Final = "/pkg.Service/Echo"


class Echo:
    """Answers gRPC with the message, HTTP with the request it read."""

    kind: Final = ApplicationKind.WASM
    sha256: Final = None

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        self.waiting = asyncio.Event()

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def status(self) -> dict[str, object]:
        return {}

    async def call(self, arguments: tuple[str, ...], message: bytes, seconds: float) -> CallResult:
        assert seconds > 0
        self.waiting.set()
        await self.gate.wait()
        if arguments[0] == "grpc":
            code = 12 if arguments[1] != METHOD else 0
            return CallResult(Outcome.EXITED, code, message)
        head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(message)
        return CallResult(Outcome.EXITED, 0, head + message)


class Bench:
    """A listener with contexts whose clock is the machine's plus `ahead`."""

    def __init__(
        self,
        credential: Credential,
        protocol: Protocol,
        make: Callable[[Stream], Session],
        connections_max: int = CONNECTIONS_MAX,
    ) -> None:
        self.ahead = timedelta()
        self.notes: list[str] = []
        self.contexts = ServerContexts(None, self.now)
        self.contexts.install(credential)
        self.listener = Listener(
            ANY_PORT,
            protocol,
            self.contexts,
            make,
            limits=LIMITS,
            note=self.notes.append,
            connections_max=connections_max,
        )
        self.port = self.listener.endpoint.port

    def now(self) -> datetime:
        return datetime.now(UTC) + self.ahead


@contextlib.asynccontextmanager
async def listening(bench: Bench) -> AsyncIterator[Bench]:
    task = asyncio.create_task(bench.listener.run())
    try:
        yield bench
    finally:
        task.cancel()
        bench.listener.close_socket()
        await bench.listener.drain(2.0)
        await asyncio.gather(task, return_exceptions=True)
        assert bench.notes == []


def message_sessions(protocol: Protocol, application: MessageApplication) -> Callable[[Stream], Session]:
    budget = Budget()
    if protocol is Protocol.GRPC:
        return lambda stream: GrpcSession(stream, application, LIMITS, budget)
    return lambda stream: HttpSession(stream, application, LIMITS, budget)


def method(channel: grpc.aio.Channel, path: str = METHOD) -> Callable[..., Awaitable[bytes]]:
    """Return a unary call of bare messages."""
    call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(path)
    return call


def grpc_channel(port: int, root_pem: bytes) -> grpc.aio.Channel:
    return grpc.aio.secure_channel(f"localhost:{port}", grpc.ssl_channel_credentials(root_pem))


async def status_of(call: Awaitable[bytes]) -> grpc.StatusCode:
    """Return a call's status, and keep nothing that holds on to its channel."""
    try:
        await call
    except grpc.aio.AioRpcError as error:
        return error.code()
    return grpc.StatusCode.OK


def run(command: list[str]) -> "subprocess.CompletedProcess[bytes]":
    return subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=30, check=False)


def client_context(root_pem: bytes) -> ssl.SSLContext:
    context = ssl.create_default_context(cadata=root_pem.decode())
    assert isinstance(context, ssl.SSLContext)
    return context


async def presented_serial(port: int, root_pem: bytes) -> int:
    """Connect anew and return the serial number of the certificate that is presented."""

    def connect() -> int:
        with (
            socket.create_connection(("127.0.0.1", port), timeout=10) as plain,
            client_context(root_pem).wrap_socket(plain, server_hostname="localhost") as tls,
        ):
            found = tls.getpeercert()
            assert found is not None
            return int(str(found["serialNumber"]), 16)

    return await asyncio.to_thread(connect)


def test_grpcio_calls_several_at_once_and_large(authority: Any, make_credential: Callable[[], Credential]) -> None:
    async def scenario() -> None:
        bench = Bench(make_credential(), Protocol.GRPC, message_sessions(Protocol.GRPC, Echo()))
        async with listening(bench), grpc_channel(bench.port, authority.root_pem) as channel:
            call = method(channel)
            assert await call(b"") == b""
            # Larger than any HTTP/2 window at its start, both ways.
            bodies = [bytes([n]) * (n * 70_000) for n in range(20)]
            assert await asyncio.gather(*(call(body) for body in bodies)) == bodies

    asyncio.run(scenario())


def test_exit_code_is_the_grpc_status(authority: Any, make_credential: Callable[[], Credential]) -> None:
    async def scenario() -> None:
        bench = Bench(make_credential(), Protocol.GRPC, message_sessions(Protocol.GRPC, Echo()))
        async with listening(bench), grpc_channel(bench.port, authority.root_pem) as channel:
            assert await status_of(method(channel, "/pkg.Service/Other")(b"x")) is grpc.StatusCode.UNIMPLEMENTED

    asyncio.run(scenario())


def test_a_streaming_call_is_unimplemented(authority: Any, make_credential: Callable[[], Credential]) -> None:
    async def scenario() -> None:
        bench = Bench(make_credential(), Protocol.GRPC, message_sessions(Protocol.GRPC, Echo()))
        async with listening(bench), grpc_channel(bench.port, authority.root_pem) as channel:
            streaming: grpc.aio.StreamUnaryMultiCallable[bytes, bytes] = channel.stream_unary(METHOD)
            assert await status_of(streaming(iter([b"one", b"two"]))) is grpc.StatusCode.UNIMPLEMENTED

    asyncio.run(scenario())


def test_a_message_beyond_the_limit_is_refused_and_the_connection_lives(
    authority: Any, make_credential: Callable[[], Credential]
) -> None:
    async def scenario() -> None:
        bench = Bench(make_credential(), Protocol.GRPC, message_sessions(Protocol.GRPC, Echo()))
        async with listening(bench), grpc_channel(bench.port, authority.root_pem) as channel:
            call = method(channel)
            assert await status_of(call(bytes(LIMITS.message + 1))) is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert await call(b"small") == b"small"

    asyncio.run(scenario())


def test_a_deadline_ends_a_call_and_the_connection_lives(
    authority: Any, make_credential: Callable[[], Credential]
) -> None:
    async def scenario() -> None:
        application = Echo()
        bench = Bench(make_credential(), Protocol.GRPC, message_sessions(Protocol.GRPC, application))
        async with listening(bench), grpc_channel(bench.port, authority.root_pem) as channel:
            call = method(channel)
            application.gate.clear()
            assert await status_of(call(b"x", timeout=0.2)) is grpc.StatusCode.DEADLINE_EXCEEDED
            application.gate.set()
            assert await call(b"y") == b"y"

    asyncio.run(scenario())


def test_a_renewal_keeps_open_connections_and_serves_new_ones_with_the_new_certificate(
    authority: Any, make_credential: Callable[[], Credential]
) -> None:
    async def scenario() -> None:
        application = Echo()
        old, new = make_credential(), make_credential()
        bench = Bench(old, Protocol.GRPC, message_sessions(Protocol.GRPC, application))
        async with listening(bench), grpc_channel(bench.port, authority.root_pem) as channel:
            call = method(channel)
            assert await call(b"before") == b"before"
            assert await presented_serial(bench.port, authority.root_pem) == old.serial
            # A call is under way while the certificate changes.
            application.gate.clear()
            application.waiting.clear()
            running = asyncio.ensure_future(call(b"across"))
            await application.waiting.wait()
            bench.contexts.install(new)
            application.gate.set()
            assert await running == b"across"
            assert await call(b"after") == b"after"
            assert bench.listener.connections == 1  # the channel has not reconnected
            assert await presented_serial(bench.port, authority.root_pem) == new.serial

    asyncio.run(scenario())


def test_old_connections_end_five_minutes_after_their_certificate(
    authority: Any, make_credential: Callable[[], Credential]
) -> None:
    async def scenario() -> None:
        old = make_credential()
        bench = Bench(old, Protocol.GRPC, message_sessions(Protocol.GRPC, Echo()))
        async with listening(bench), grpc_channel(bench.port, authority.root_pem) as channel:
            call = method(channel)
            assert await call(b"x") == b"x"
            end = old.not_after + OPEN_CONNECTION_GRACE
            bench.listener.expire(end - timedelta(seconds=1))
            assert await call(b"x") == b"x"
            assert bench.listener.connections == 1
            task = next(iter(bench.listener._connections)).task
            assert task is not None
            bench.listener.expire(end)
            await task  # drained: GOAWAY, and the client closes
            assert bench.listener.connections == 0

    asyncio.run(scenario())


def test_an_idle_http_connection_ends_five_minutes_after_its_certificate(
    authority: Any, make_credential: Callable[[], Credential]
) -> None:
    async def scenario() -> None:
        old = make_credential()
        bench = Bench(old, Protocol.HTTP, message_sessions(Protocol.HTTP, Echo()))
        async with listening(bench):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", bench.port, ssl=client_context(authority.root_pem), server_hostname="localhost"
            )
            writer.write(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n")
            assert (await reader.readline()).startswith(b"HTTP/1.1 200")
            end = old.not_after + OPEN_CONNECTION_GRACE
            bench.listener.expire(end - timedelta(seconds=1))
            assert bench.listener.connections == 1
            bench.listener.expire(end)
            await reader.read()  # to its orderly end
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    asyncio.run(scenario())


def test_a_forwarded_connection_is_cut_when_it_does_not_end(
    authority: Any, make_credential: Callable[[], Credential]
) -> None:
    async def scenario() -> None:
        async with backend(_echo_until_eof) as application:
            old = make_credential()
            bench = Bench(old, Protocol.TCP, lambda stream: ForwardSession(stream, application, LIMITS))
            async with listening(bench):
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", bench.port, ssl=client_context(authority.root_pem), server_hostname="localhost"
                )
                writer.write(b"x")
                assert await reader.readexactly(1) == b"x"
                end = old.not_after + OPEN_CONNECTION_GRACE
                bench.listener.expire(end)
                bench.listener.expire(end + timedelta(seconds=60))
                assert await reader.read() == b""
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

    asyncio.run(scenario())


def test_without_a_valid_certificate_nobody_is_served(
    authority: Any, make_credential: Callable[[], Credential]
) -> None:
    async def scenario() -> None:
        bench = Bench(make_credential(), Protocol.HTTP, message_sessions(Protocol.HTTP, Echo()))
        bench.ahead = timedelta(hours=1)
        async with listening(bench):
            with pytest.raises(OSError):
                await presented_serial(bench.port, authority.root_pem)

    asyncio.run(scenario())


def test_httpx_keeps_a_connection_alive_over_requests(
    authority: Any, make_credential: Callable[[], Credential]
) -> None:
    async def scenario() -> None:
        bench = Bench(make_credential(), Protocol.HTTP, message_sessions(Protocol.HTTP, Echo()))
        async with (
            listening(bench),
            httpx.AsyncClient(verify=client_context(authority.root_pem), trust_env=False) as client,
        ):
            url = f"https://localhost:{bench.port}/path?query"
            for body in (b"", b"first", b"x" * 300_000):
                answer = await client.post(url, content=body)
                head, _, seen = answer.content.partition(b"\r\n\r\n")
                assert answer.status_code == 200
                assert answer.http_version == "HTTP/1.1"
                assert head.startswith(b"POST /path?query HTTP/1.1\r\n")
                assert b"content-length: %d" % len(body) in head
                assert b"connection" not in head
                assert seen == body
            assert bench.listener.connections == 1
            too_large = await client.post(url, content=bytes(LIMITS.message + 1))
            assert too_large.status_code == 413

    asyncio.run(scenario())


def test_curl_gets_an_answer(authority: Any, make_credential: Callable[[], Credential], tmp_path: Path) -> None:
    async def scenario() -> None:
        root = tmp_path / "root.pem"
        root.write_bytes(authority.root_pem)
        bench = Bench(make_credential(), Protocol.HTTP, message_sessions(Protocol.HTTP, Echo()))
        async with listening(bench):
            url = f"https://localhost:{bench.port}/hello"
            command = ["curl", "-sS", "--noproxy", "*", "--cacert", str(root), "--data", "body", url]
            done = await asyncio.to_thread(run, command)
            assert done.returncode == 0, done.stderr
            assert done.stdout.startswith(b"POST /hello HTTP/1.1\r\n")
            assert done.stdout.endswith(b"\r\n\r\nbody")

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("protocol", "chosen"),
    [(Protocol.GRPC, b"h2"), (Protocol.HTTP, b"http/1.1")],
)
def test_openssl_sees_tls_1_3_and_the_alpn_of_the_listener(
    authority: Any,
    make_credential: Callable[[], Credential],
    tmp_path: Path,
    protocol: Protocol,
    chosen: bytes,
) -> None:
    async def scenario() -> None:
        root = tmp_path / "root.pem"
        root.write_bytes(authority.root_pem)
        bench = Bench(make_credential(), protocol, message_sessions(protocol, Echo()))
        async with listening(bench):
            target = ["-connect", f"127.0.0.1:{bench.port}", "-servername", "localhost", "-CAfile", str(root)]
            command = ["openssl", "s_client", "-verify_return_error", "-alpn", "h2,http/1.1", *target]
            done = await asyncio.to_thread(run, command)
            seen = done.stdout + done.stderr
            assert b"New, TLSv1.3," in seen
            assert b"Verify return code: 0 (ok)" in seen
            assert b"ALPN protocol: " + chosen in seen
            older = await asyncio.to_thread(run, [*command, "-tls1_2"])
            assert older.returncode != 0

    asyncio.run(scenario())


class _Backend(AddressApplication):
    """An application on a real loopback socket."""


@contextlib.asynccontextmanager
async def backend(handle: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Any]) -> AsyncIterator[_Backend]:
    async def served(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handle(reader, writer)
        finally:
            writer.close()

    server = await asyncio.start_server(served, "127.0.0.1", 0)
    try:
        yield _Backend(Endpoint(host="127.0.0.1", port=server.sockets[0].getsockname()[1]))
    finally:
        server.close()


async def _echo_until_eof(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()


async def _answer_after_eof(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    received = await reader.read()
    writer.write(b"%d bytes" % len(received))
    await writer.drain()
    writer.write_eof()


def half_closing_client(port: int, root_pem: bytes, payload: bytes) -> bytes:
    """Send, send close_notify, and only then read: what asyncio's TLS cannot do."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = client_context(root_pem).wrap_bio(incoming, outgoing, server_hostname="localhost")
    received = b""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as plain:

        def step(action: Callable[[], Any]) -> Any:
            while True:
                try:
                    result = action()
                except ssl.SSLWantReadError:
                    plain.sendall(outgoing.read())
                    data = plain.recv(65536)
                    if data:
                        incoming.write(data)
                    else:
                        incoming.write_eof()
                else:
                    plain.sendall(outgoing.read())
                    return result

        step(tls.do_handshake)
        sent = 0
        while sent < len(payload):
            sent += step(functools.partial(tls.write, payload[sent : sent + 65536]))
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.unwrap()
        plain.sendall(outgoing.read())
        with contextlib.suppress(ssl.SSLZeroReturnError):
            while True:
                received += step(lambda: tls.read(65536))
    return received


def test_half_close_passes_through_in_both_directions(
    authority: Any, make_credential: Callable[[], Credential]
) -> None:
    async def scenario() -> None:
        async with backend(_answer_after_eof) as application:
            bench = Bench(make_credential(), Protocol.TCP, lambda stream: ForwardSession(stream, application, LIMITS))
            async with listening(bench):
                payload = bytes(3_000_000)
                answer = await asyncio.to_thread(half_closing_client, bench.port, authority.root_pem, payload)
                assert answer == b"3000000 bytes"

    asyncio.run(scenario())


def test_forwarded_bytes_arrive_whole_and_in_order(authority: Any, make_credential: Callable[[], Credential]) -> None:
    async def scenario() -> None:
        async with backend(_echo_until_eof) as application:
            bench = Bench(make_credential(), Protocol.TCP, lambda stream: ForwardSession(stream, application, LIMITS))
            async with listening(bench):
                reader, writer = await asyncio.open_connection(
                    "127.0.0.1", bench.port, ssl=client_context(authority.root_pem), server_hostname="localhost"
                )
                payload = bytes(range(256)) * 8192
                writer.write(payload)
                assert await reader.readexactly(len(payload)) == payload
                writer.close()
                await writer.wait_closed()

    asyncio.run(scenario())


def test_an_application_that_does_not_listen_closes_the_connection(
    authority: Any, make_credential: Callable[[], Credential], tmp_path: Path
) -> None:
    async def scenario() -> None:
        nobody = AddressApplication(Endpoint(path=tmp_path / "nobody.sock"))
        bench = Bench(make_credential(), Protocol.TCP, lambda stream: ForwardSession(stream, nobody, LIMITS))
        async with listening(bench):
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", bench.port, ssl=client_context(authority.root_pem), server_hostname="localhost"
            )
            with contextlib.suppress(OSError):
                assert await reader.read() == b""
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    asyncio.run(scenario())


def test_plaintext_on_the_tls_port_is_no_bug(make_credential: Callable[[], Credential]) -> None:
    async def scenario() -> None:
        bench = Bench(make_credential(), Protocol.HTTP, message_sessions(Protocol.HTTP, Echo()))
        async with listening(bench):
            reader, writer = await asyncio.open_connection("127.0.0.1", bench.port)
            writer.write(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            with contextlib.suppress(OSError):
                assert (await reader.read())[:1] in (b"", b"\x15")  # nothing, or an alert
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    asyncio.run(scenario())


def test_an_address_in_use_is_a_usage_error(make_credential: Callable[[], Credential]) -> None:
    async def scenario() -> None:
        make = message_sessions(Protocol.HTTP, Echo())
        bench = Bench(make_credential(), Protocol.HTTP, make)
        with pytest.raises(UsageError):
            Listener(
                bench.listener.endpoint, Protocol.HTTP, bench.contexts, make, limits=LIMITS, note=bench.notes.append
            )
        bench.listener.close_socket()

    asyncio.run(scenario())


def test_one_peer_gets_its_share_of_the_connections_and_no_more(
    authority: Any, make_credential: Callable[[], Credential]
) -> None:
    async def scenario() -> None:
        make = message_sessions(Protocol.HTTP, Echo())
        bench = Bench(make_credential(), Protocol.HTTP, make, connections_max=8)
        context = client_context(authority.root_pem)

        async def connect(address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
            return await asyncio.open_connection(
                "127.0.0.1", bench.port, ssl=context, server_hostname="localhost", local_addr=(address, 0)
            )

        async with listening(bench):
            kept = [await connect("127.0.0.1") for _ in range(2)]
            with pytest.raises(OSError):
                await connect("127.0.0.1")
            assert bench.listener.connections == 2
            kept.append(await connect("127.0.0.2"))  # another peer is not concerned
            # A connection that has ended makes room.
            tasks = [connection.task for connection in bench.listener._connections if connection.peer == "127.0.0.1"]
            kept[0][1].transport.abort()
            await asyncio.wait([task for task in tasks if task is not None], return_when=asyncio.FIRST_COMPLETED)
            kept.append(await connect("127.0.0.1"))
            for _, writer in kept:
                writer.transport.abort()
        assert bench.listener._peers == {}

    asyncio.run(scenario())


@pytest.mark.parametrize(
    ("host", "peer"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("2001:db8:0:1:2:3:4:5", "2001:db8:0:1::/64"),
        ("fe80::1", "fe80::1"),
        ("fe80::1%lo", "fe80::1%lo"),
    ],
)
def test_what_counts_as_one_peer(host: str, peer: str) -> None:
    assert peer_of(host) == peer
