"""The forwarder: half-closed local connections, bounds, orderly ends, refusals."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from mini_authority import MiniAuthority

from proxy_attestation.codes import Code
from proxy_attestation.errors import ProxyAttestationError, UnavailableError, UsageError
from proxy_attestation.relying_party import AttestedContext, forwarder
from proxy_attestation.relying_party.forwarder import Forwarder, Target, split_target

HOST = "127.0.0.1"
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def run(
    test: Callable[[int], Awaitable[None]],
    handler: Handler,
    server_context: ssl.SSLContext,
    context: AttestedContext,
    errors: list[ProxyAttestationError],
) -> None:
    """Run a test with the local port of a forwarder to a TLS server with this handler; no error may go unseen."""

    async def main() -> None:
        unhandled: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, details: unhandled.append(details))
        server = await asyncio.start_server(handler, HOST, 0, ssl=server_context)
        target = Target(HOST, server.sockets[0].getsockname()[1], context)
        forward = Forwarder(target, on_failure=errors.append)
        try:
            async with asyncio.timeout(60):
                await test(await forward.listen_tcp(HOST, 0))
        finally:
            await forward.close()
            server.close()
        assert unhandled == []

    asyncio.run(main())


async def echo_at_the_end(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    data = await reader.readexactly(5)
    writer.write(data)
    await writer.drain()
    writer.close()


async def close(writer: asyncio.StreamWriter) -> None:
    writer.close()
    await writer.wait_closed()


def test_forwards_both_ways_and_ends_with_the_server(
    authority: MiniAuthority, context: AttestedContext, tmp_path: Path
) -> None:
    async def test(port: int) -> None:
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(b"hello")
        assert await reader.read() == b"hello"
        await close(writer)

    errors: list[ProxyAttestationError] = []
    run(test, echo_at_the_end, authority.leaf().server_context(tmp_path), context, errors)
    assert errors == []


def test_waits_for_the_answer_after_the_local_last_byte(
    authority: MiniAuthority, context: AttestedContext, tmp_path: Path
) -> None:
    async def test(port: int) -> None:
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(b"hello")
        writer.write_eof()
        assert await reader.read() == b"hello"
        await close(writer)

    run(test, echo_at_the_end, authority.leaf().server_context(tmp_path), context, [])


def test_gives_up_on_a_server_that_stays_silent_after_it(
    authority: MiniAuthority, context: AttestedContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarder, "DRAIN_TIMEOUT", 0.1)
    ended = asyncio.Event()

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        ended.set()
        writer.close()

    async def test(port: int) -> None:
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write_eof()
        assert await reader.read() == b""
        await ended.wait()
        await close(writer)

    run(test, silent, authority.leaf().server_context(tmp_path), context, [])


def test_much_data_arrives_whole(authority: MiniAuthority, context: AttestedContext, tmp_path: Path) -> None:
    payload = bytes(range(256)) * 16384

    async def send(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(payload)
        await writer.drain()
        writer.close()

    async def test(port: int) -> None:
        reader, writer = await asyncio.open_connection(HOST, port)
        assert await reader.read() == payload
        await close(writer)

    run(test, send, authority.leaf().server_context(tmp_path), context, [])


def test_the_last_bytes_reach_a_slow_reader(authority: MiniAuthority, context: AttestedContext, tmp_path: Path) -> None:
    # Small buffers, so that what the server said last is still the forwarder's when the server has gone.
    payload = bytes(range(256)) * 160

    async def main() -> None:
        gone = asyncio.Event()

        async def send(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(payload)
            await close(writer)
            gone.set()

        server = await asyncio.start_server(send, HOST, 0, ssl=authority.leaf().server_context(tmp_path))
        target = Target(HOST, server.sockets[0].getsockname()[1], context)
        forward = Forwarder(target, on_failure=lambda error: pytest.fail(str(error)))
        port = await forward.listen_tcp(HOST, 0)
        assert forward._server is not None
        # Accepted sockets take it over from their listener.
        forward._server.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        raw = socket.socket()
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(raw, (HOST, port))
        await gone.wait()
        received = b""
        while data := await loop.sock_recv(raw, 1024):
            received += data
        assert received == payload
        raw.close()
        await forward.close()
        server.close()

    asyncio.run(main())


def test_a_refused_server_closes_the_local_connection(
    authority: MiniAuthority, context: AttestedContext, tmp_path: Path
) -> None:
    reached: list[bytes] = []

    async def record(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        reached.append(await reader.read(5))
        writer.close()

    async def test(port: int) -> None:
        for _ in range(2):
            reader, writer = await asyncio.open_connection(HOST, port)
            writer.write(b"hello")
            # What was written and not read may turn the close into a reset.
            with contextlib.suppress(ConnectionResetError):
                assert await reader.read() == b""
            writer.transport.abort()

    errors: list[ProxyAttestationError] = []
    leaf = authority.leaf(claims={"debug": True})
    run(test, record, leaf.server_context(tmp_path), context, errors)
    assert [error.code for error in errors] == [Code.PEER_CLAIMS_MISMATCH] * 2
    assert reached == []


def test_connections_beyond_the_bound_are_closed(
    authority: MiniAuthority, context: AttestedContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forwarder, "CONNECTIONS_MAX", 1)

    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        await reader.read()
        writer.close()

    async def test(port: int) -> None:
        reader, writer = await asyncio.open_connection(HOST, port)
        assert await reader.readexactly(5) == b"hello"
        second, second_writer = await asyncio.open_connection(HOST, port)
        assert await second.read() == b""
        second_writer.transport.abort()
        writer.transport.abort()

    run(test, greet, authority.leaf().server_context(tmp_path), context, [])


def test_closing_ends_open_connections(authority: MiniAuthority, context: AttestedContext, tmp_path: Path) -> None:
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"hello")
        await reader.read()
        writer.close()

    async def main() -> None:
        server = await asyncio.start_server(greet, HOST, 0, ssl=authority.leaf().server_context(tmp_path))
        target = Target(HOST, server.sockets[0].getsockname()[1], context)
        forward = Forwarder(target, on_failure=lambda error: pytest.fail(str(error)))
        port = await forward.listen_tcp(HOST, 0)
        reader, writer = await asyncio.open_connection(HOST, port)
        assert await reader.readexactly(5) == b"hello"
        await forward.close()
        assert await reader.read() == b""
        writer.transport.abort()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(HOST, port)
        server.close()

    asyncio.run(main())


def test_an_address_that_is_taken_is_unavailable(context: AttestedContext) -> None:
    async def main() -> None:
        first = Forwarder(Target(HOST, 1, context), on_failure=lambda error: pytest.fail(str(error)))
        port = await first.listen_tcp(HOST, 0)
        second = Forwarder(Target(HOST, 1, context), on_failure=lambda error: pytest.fail(str(error)))
        with pytest.raises(UnavailableError) as caught:
            await second.listen_tcp(HOST, port)
        assert caught.value.code is Code.PEER_UNREACHABLE
        await first.close()

    asyncio.run(main())


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("example.org:443", "example.org", 443), ("127.0.0.1:0", "127.0.0.1", 0), ("[::1]:65535", "::1", 65535)],
)
def test_splits_targets(text: str, host: str, port: int) -> None:
    assert split_target(text) == (host, port)


@pytest.mark.parametrize("text", ["", ":", "a", "a:", ":1", "a:b", "a:65536", "a:000001", "::1:1", "[::1]", "a:-1"])
def test_refuses_other_targets(text: str) -> None:
    with pytest.raises(UsageError):
        split_target(text)
