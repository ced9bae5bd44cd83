"""Every client kind: a refused server gets no byte of the application, an accepted one does (so the test can fail)."""

import asyncio
import http.client
import io
import socket
import ssl
import threading
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from proxy_attestation.codes import Code
from proxy_attestation.relying_party import AttestedContext, Expectation, attestation_error
from proxy_attestation.relying_party.httpx_adapter import AttestedAsyncTransport, AttestedTransport

HOST = "127.0.0.1"
REQUEST = b"GET / HTTP/1.1\r\nhost: app.example.org\r\n\r\n"
Client = Callable[[ssl.SSLContext, int], bytes]


def connect(port: int) -> socket.socket:
    return socket.create_connection((HOST, port), 30)


def read_all(connection: Any) -> bytes:
    # The server keeps the connection for another request: read the answer, not to the end.
    answer = b""
    while not answer.endswith(b"hello") and (data := connection.recv(65536)):
        answer += data
    return answer


def ssl_socket(context: ssl.SSLContext, port: int) -> bytes:
    with connect(port) as raw, context.wrap_socket(raw, server_hostname=HOST) as connection:
        connection.sendall(REQUEST)
        return read_all(connection)


def wrapped_before_connect(context: ssl.SSLContext, port: int) -> bytes:
    with socket.socket() as raw, context.wrap_socket(raw, server_hostname=HOST) as connection:
        connection.settimeout(30)
        connection.connect((HOST, port))
        connection.sendall(REQUEST)
        return read_all(connection)


def lazy(use: Callable[[ssl.SSLSocket], object]) -> Client:
    """A socket whose handshake OpenSSL would do by itself, inside the first read or write."""

    def client(context: ssl.SSLContext, port: int) -> bytes:
        with (
            connect(port) as raw,
            context.wrap_socket(raw, server_hostname=HOST, do_handshake_on_connect=False) as connection,
        ):
            use(connection)
            return read_all(connection)

    return client


def write_through_makefile(connection: ssl.SSLSocket) -> None:
    with connection.makefile("wb") as file:
        file.write(REQUEST)


def after_a_refused_first_try(connection: ssl.SSLSocket) -> None:
    try:
        connection.sendall(REQUEST)
    except ssl.SSLCertVerificationError:
        # The handshake is complete now as far as OpenSSL knows; the second try must not slip through.
        connection.sendall(REQUEST)


def memory_bio(*, shake_hands: bool) -> Client:
    def client(context: ssl.SSLContext, port: int) -> bytes:
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = context.wrap_bio(incoming, outgoing, server_hostname=HOST)
        with connect(port) as raw:

            def drive(step: Callable[[], Any]) -> Any:
                while True:
                    try:
                        result = step()
                    except ssl.SSLWantReadError:
                        raw.sendall(outgoing.read())
                        incoming.write(raw.recv(65536))
                    else:
                        raw.sendall(outgoing.read())
                        return result

            if shake_hands:
                drive(tls.do_handshake)
            drive(lambda: tls.write(REQUEST))
            result = drive(lambda: tls.read(65536))
            assert isinstance(result, bytes)
            return result

    return client


def http_client(context: ssl.SSLContext, port: int) -> bytes:
    connection = http.client.HTTPSConnection(HOST, port, context=context, timeout=30)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read()
    finally:
        connection.close()


def urllib_client(context: ssl.SSLContext, port: int) -> bytes:
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context))
    with opener.open(f"https://{HOST}:{port}/", timeout=30) as response:
        result = response.read()
    assert isinstance(result, bytes)
    return result


def httpx_client(context: ssl.SSLContext, port: int) -> bytes:
    with httpx.Client(verify=context, trust_env=False) as client:
        return client.get(f"https://{HOST}:{port}/").content


def httpx_async(context: ssl.SSLContext, port: int) -> bytes:
    async def call() -> bytes:
        async with httpx.AsyncClient(verify=context, trust_env=False) as client:
            return (await client.get(f"https://{HOST}:{port}/")).content

    return run(call())


def httpx_h2(context: ssl.SSLContext, port: int) -> bytes:
    with httpx.Client(verify=context, trust_env=False, http2=True) as client:
        response = client.get(f"https://{HOST}:{port}/")
    assert response.http_version == "HTTP/2"
    return response.content


def httpx_h2_async(context: ssl.SSLContext, port: int) -> bytes:
    async def call() -> bytes:
        async with httpx.AsyncClient(verify=context, trust_env=False, http2=True) as client:
            response = await client.get(f"https://{HOST}:{port}/")
        assert response.http_version == "HTTP/2"
        return response.content

    return run(call())


def our_transport(context: ssl.SSLContext, port: int) -> bytes:
    assert isinstance(context, AttestedContext)
    with httpx.Client(transport=AttestedTransport(context)) as client:
        return client.get(f"https://{HOST}:{port}/").content


def our_async_transport(context: ssl.SSLContext, port: int) -> bytes:
    assert isinstance(context, AttestedContext)
    transport = AttestedAsyncTransport(context)

    async def call() -> bytes:
        async with httpx.AsyncClient(transport=transport) as client:
            return (await client.get(f"https://{HOST}:{port}/")).content

    return run(call())


def asyncio_open_connection(context: ssl.SSLContext, port: int) -> bytes:
    async def call() -> bytes:
        reader, writer = await asyncio.open_connection(HOST, port, ssl=context)
        return await ask(reader, writer)

    return run(call())


def asyncio_start_tls(context: ssl.SSLContext, port: int) -> bytes:
    async def call() -> bytes:
        reader, writer = await asyncio.open_connection(HOST, port)
        try:
            await writer.start_tls(context, server_hostname=HOST)
        except BaseException:
            writer.transport.abort()
            raise
        return await ask(reader, writer)

    return run(call())


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    writer.write(REQUEST)
    reply = await reader.read(65536)
    writer.close()
    await writer.wait_closed()
    return reply


def run(call: Any) -> bytes:
    """Run a coroutine; whatever asyncio would only log (a fatal transport error) fails the test."""
    unhandled: list[dict[str, Any]] = []

    async def main() -> bytes:
        asyncio.get_running_loop().set_exception_handler(lambda _, details: unhandled.append(details))
        result = await call
        assert isinstance(result, bytes)
        return result

    try:
        return asyncio.run(main())
    finally:
        assert unhandled == []


@dataclass
class ConnectProxy:
    """An HTTP proxy that knows CONNECT, for one connection."""

    port: int


@pytest.fixture
def connect_proxy() -> Iterator[ConnectProxy]:
    listener = socket.create_server((HOST, 0))

    def splice(source: socket.socket, sink: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                sink.sendall(data)
            sink.shutdown(socket.SHUT_WR)
        except OSError:
            return

    def serve() -> None:
        client, _ = listener.accept()
        with client, client.makefile("rb") as lines:
            target = lines.readline().split()[1].decode()
            while lines.readline() not in (b"\r\n", b""):
                pass
            host, _, port = target.rpartition(":")
            with socket.create_connection((host, int(port)), 30) as upstream:
                client.sendall(b"HTTP/1.1 200 Connected\r\n\r\n")
                back = threading.Thread(target=splice, args=(upstream, client), daemon=True)
                back.start()
                splice(client, upstream)
                back.join(30)

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    yield ConnectProxy(listener.getsockname()[1])
    thread.join(30)
    listener.close()
    assert not thread.is_alive()


CLIENTS: dict[str, Client] = {
    "ssl socket": ssl_socket,
    "socket wrapped before connect": wrapped_before_connect,
    "lazy send": lazy(lambda connection: connection.send(REQUEST)),
    "lazy sendall": lazy(lambda connection: connection.sendall(REQUEST)),
    "lazy write": lazy(lambda connection: connection.write(REQUEST)),
    "lazy sendfile": lazy(lambda connection: connection.sendfile(io.BytesIO(REQUEST))),
    "lazy makefile": lazy(write_through_makefile),
    "lazy, tried again after the refusal": lazy(after_a_refused_first_try),
    "memory bio": memory_bio(shake_hands=True),
    "memory bio, lazy": memory_bio(shake_hands=False),
    "http.client": http_client,
    "urllib": urllib_client,
    "httpx": httpx_client,
    "httpx async": httpx_async,
    "httpx h2": httpx_h2,
    "httpx h2 async": httpx_h2_async,
    "AttestedTransport": our_transport,
    "AttestedAsyncTransport": our_async_transport,
    "asyncio open_connection": asyncio_open_connection,
    "asyncio start_tls": asyncio_start_tls,
}
ALPN = ("h2", "http/1.1")
# Over memory buffers the refusal comes before the client's Finished has left them: the server never ends its handshake.
HELD_BACK = {
    "memory bio", "memory bio, lazy", "httpx async", "httpx h2 async", "AttestedAsyncTransport",
    "asyncio open_connection", "asyncio start_tls",
}  # fmt: skip


@pytest.fixture
def context(authority: Any, expectation: Expectation) -> AttestedContext:
    return AttestedContext(expectation, [authority.root_der])


@pytest.mark.parametrize("kind", CLIENTS)
def test_accepted_server_gets_the_request(kind: str, authority: Any, context: AttestedContext, serve: Any) -> None:
    server = serve(authority.leaf(), alpn=ALPN)
    assert b"hello" in CLIENTS[kind](context, server.port)
    server.finish()
    assert len(server.received) > 0


@pytest.mark.parametrize("kind", CLIENTS)
def test_debug_enclave_gets_no_byte(kind: str, authority: Any, context: AttestedContext, serve: Any) -> None:
    server = serve(authority.leaf(claims={"debug": True}), alpn=ALPN)
    with pytest.raises(Exception) as caught:
        CLIENTS[kind](context, server.port)
    error = attestation_error(caught.value)
    assert error is not None
    assert error.code is Code.PEER_CLAIMS_MISMATCH
    server.finish()
    assert server.handshakes == (0 if kind in HELD_BACK else 1)
    assert server.received == b""


@pytest.mark.parametrize("kind", CLIENTS)
def test_smuggled_root_gets_no_byte(kind: str, other_authority: Any, context: AttestedContext, serve: Any) -> None:
    # Past the seal, by the base class: now OpenSSL accepts the other authority's chain, and our check alone does not.
    ssl.SSLContext.load_verify_locations(context, cadata=other_authority.root_der)
    assert len(context.get_ca_certs()) == 2
    server = serve(other_authority.leaf(), alpn=ALPN)
    with pytest.raises(Exception) as caught:
        CLIENTS[kind](context, server.port)
    error = attestation_error(caught.value)
    assert error is not None
    assert error.code is Code.PEER_CHAIN
    server.finish()
    assert server.handshakes == (0 if kind in HELD_BACK else 1)
    assert server.received == b""


@pytest.mark.parametrize("kind", CLIENTS)
def test_other_root_gets_no_byte(kind: str, other_authority: Any, context: AttestedContext, serve: Any) -> None:
    server = serve(other_authority.leaf(), alpn=ALPN)
    with pytest.raises(Exception) as caught:
        CLIENTS[kind](context, server.port)
    error = attestation_error(caught.value)
    assert error is not None
    assert error.code is Code.PEER_CHAIN
    server.finish()
    assert server.received == b""


@pytest.mark.parametrize("debug", [False, True])
def test_connect_tunnel(
    debug: bool, authority: Any, context: AttestedContext, serve: Any, connect_proxy: ConnectProxy
) -> None:
    server = serve(authority.leaf(claims={"debug": debug}))
    connection = http.client.HTTPSConnection(HOST, connect_proxy.port, context=context, timeout=30)
    connection.set_tunnel(HOST, server.port)
    try:
        if debug:
            with pytest.raises(ssl.SSLCertVerificationError) as caught:
                connection.request("GET", "/")
            error = attestation_error(caught.value)
            assert error is not None
            assert error.code is Code.PEER_CLAIMS_MISMATCH
        else:
            connection.request("GET", "/")
            assert connection.getresponse().read() == b"hello"
    finally:
        connection.close()
    server.finish()
    assert (server.received == b"") is debug


@pytest.mark.parametrize(
    "read",
    [
        lambda connection: connection.recv(1),
        lambda connection: connection.recv_into(bytearray(1)),
        lambda connection: connection.read(1),
        lambda connection: connection.makefile("rb").read(1),
        lambda connection: connection.unwrap(),
    ],
)
def test_reads_are_refused_too(
    read: Callable[[ssl.SSLSocket], object], authority: Any, context: AttestedContext, serve: Any
) -> None:
    server = serve(authority.leaf(claims={"debug": True}))
    with (
        connect(server.port) as raw,
        context.wrap_socket(raw, server_hostname=HOST, do_handshake_on_connect=False) as connection,
    ):
        for _ in range(2):
            with pytest.raises(ssl.SSLCertVerificationError) as caught:
                read(connection)
            assert getattr(caught.value, "code", None) is Code.PEER_CLAIMS_MISMATCH
        assert connection.attested_peer is None


def test_pools_check_every_connection(authority: Any, context: AttestedContext, serve: Any, tmp_path: Any) -> None:
    server = serve(authority.leaf())
    with httpx.Client(verify=context, trust_env=False) as client:
        # The server closes after each reply, so that the pool has to connect again.
        assert client.get(f"https://{HOST}:{server.port}/").content == b"hello"
        received = server.received
        server.use(authority.leaf(claims={"debug": True}).server_context(tmp_path))
        with pytest.raises(httpx.ConnectError) as caught:
            client.get(f"https://{HOST}:{server.port}/")
    error = attestation_error(caught.value)
    assert error is not None
    assert error.code is Code.PEER_CLAIMS_MISMATCH
    server.finish()
    assert server.received == received
