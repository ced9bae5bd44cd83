"""Every client kind: a refused server gets no byte of the application, an accepted one does (so the test can fail)."""

import asyncio
import http.client
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from fake_servers import Serve
from mini_authority import MiniAuthority
from tls_clients import ALPN, CLIENTS, HOST, connect

from proxy_attestation.codes import Code
from proxy_attestation.errors import PeerError
from proxy_attestation.relying_party import AttestedContext, Expectation, attestation_error
from proxy_attestation.relying_party.httpx_adapter import attested_async_httpx_client, attested_httpx_client


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


@pytest.mark.parametrize("kind", CLIENTS)
def test_accepted_server_gets_the_request(
    kind: str, authority: MiniAuthority, context: AttestedContext, serve: Serve
) -> None:
    server = serve(authority.leaf(), alpn=ALPN)
    assert b"hello" in CLIENTS[kind](context, server.port)
    server.finish()
    assert len(server.received) > 0


@pytest.mark.parametrize("kind", CLIENTS)
def test_debug_enclave_gets_no_byte(
    kind: str, authority: MiniAuthority, context: AttestedContext, serve: Serve
) -> None:
    server = serve(authority.leaf(claims={"debug": True}), alpn=ALPN)
    with pytest.raises(Exception) as caught:
        CLIENTS[kind](context, server.port)
    error = attestation_error(caught.value)
    assert error is not None
    assert error.code is Code.PEER_CLAIMS_MISMATCH
    server.finish()
    assert server.connections == 1
    assert server.received == b""


@pytest.mark.parametrize("kind", CLIENTS)
def test_smuggled_root_gets_no_byte(
    kind: str, other_authority: MiniAuthority, context: AttestedContext, serve: Serve
) -> None:
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
    assert server.connections == 1
    assert server.received == b""


@pytest.mark.parametrize("kind", CLIENTS)
def test_other_root_gets_no_byte(
    kind: str, other_authority: MiniAuthority, context: AttestedContext, serve: Serve
) -> None:
    server = serve(other_authority.leaf(), alpn=ALPN)
    with pytest.raises(Exception) as caught:
        CLIENTS[kind](context, server.port)
    error = attestation_error(caught.value)
    assert error is not None
    assert error.code is Code.PEER_CHAIN
    server.finish()
    assert server.connections == 1
    assert server.received == b""


@pytest.mark.parametrize("debug", [False, True])
def test_connect_tunnel(
    debug: bool, authority: MiniAuthority, context: AttestedContext, serve: Serve, connect_proxy: ConnectProxy
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
    read: Callable[[ssl.SSLSocket], object], authority: MiniAuthority, context: AttestedContext, serve: Serve
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


def test_pools_check_every_connection(
    authority: MiniAuthority, context: AttestedContext, serve: Serve, tmp_path: Any
) -> None:
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


def test_the_one_line_for_httpx(authority: MiniAuthority, expectation: Expectation, serve: Serve) -> None:
    server = serve(authority.leaf(ip=()))
    url = f"https://{HOST}:{server.port}"
    with attested_httpx_client(
        expectation, [authority.root_der], server_name="app.example.org", base_url=url
    ) as client:
        assert client.get("/").content == b"hello"

    async def call() -> bytes:
        async with attested_async_httpx_client(
            expectation, [authority.root_der], server_name="app.example.org", base_url=url
        ) as client:
            return (await client.get("/")).content

    assert asyncio.run(call()) == b"hello"


def test_httpx_without_tls_is_refused(authority: MiniAuthority, expectation: Expectation) -> None:
    with socket.create_server((HOST, 0)) as plain:
        url = f"http://{HOST}:{plain.getsockname()[1]}/"
        with attested_httpx_client(expectation, [authority.root_der]) as client, pytest.raises(PeerError) as caught:
            client.get(url)
        assert caught.value.code is Code.PEER_CHAIN

        async def call() -> None:
            async with attested_async_httpx_client(expectation, [authority.root_der]) as client:
                await client.get(url)

        with pytest.raises(PeerError) as caught:
            asyncio.run(call())
        assert caught.value.code is Code.PEER_CHAIN
        plain.setblocking(False)
        with pytest.raises(BlockingIOError):
            plain.accept()
