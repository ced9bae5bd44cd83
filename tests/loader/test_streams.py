"""Streams over socket pairs: half-close, truncation, backpressure, aborts."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from proxy_attestation.loader.credential import Credential
from proxy_attestation.loader.forward import forward
from proxy_attestation.loader.streams import SocketStream, TlsStream
from proxy_attestation.loader.tls import Protocol, ServerContexts

HANDSHAKE_S: Final = 10.0
IDLE_S: Final = 900.0


class ClientTls:
    """The client's end of TLS over a stream, as awkward as a test wants it."""

    def __init__(self, inner: SocketStream, root_pem: bytes) -> None:
        context = ssl.create_default_context(cadata=root_pem.decode())
        self.inner = inner
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")

    async def do(self, action: Callable[[], Any]) -> Any:
        while True:
            try:
                result = action()
            except ssl.SSLWantReadError:
                await self.inner.write(self.outgoing.read())
                data = await self.inner.read()
                if data:
                    self.incoming.write(data)
                else:
                    self.incoming.write_eof()
            else:
                await self.inner.write(self.outgoing.read())
                return result

    async def handshake(self) -> None:
        await self.do(self.tls.do_handshake)

    async def write(self, data: bytes) -> None:
        await self.do(lambda: self.tls.write(data))

    async def read(self) -> bytes:
        data = b""
        with contextlib.suppress(ssl.SSLZeroReturnError):
            data = await self.do(lambda: self.tls.read(65536))
        return bytes(data)

    async def write_eof(self) -> None:
        with contextlib.suppress(ssl.SSLWantReadError):
            self.tls.unwrap()
        await self.inner.write(self.outgoing.read())


class Pair:
    def __init__(self, credential: Credential, root_pem: bytes) -> None:
        contexts = ServerContexts(None, lambda: credential.not_before)
        contexts.install(credential)
        served = contexts.current(Protocol.TCP)
        assert served is not None
        ours, theirs = socket.socketpair()
        self.server = TlsStream(SocketStream(ours), served.context)
        self.client = ClientTls(SocketStream(theirs), root_pem)

    async def start(self) -> None:
        await asyncio.gather(self.server.handshake(HANDSHAKE_S), self.client.handshake())

    async def end(self) -> None:
        self.server.abort()
        self.client.inner.abort()
        await asyncio.gather(self.server.close(), self.client.inner.close())


Scenario = Callable[[Pair], Any]
Play = Callable[[Scenario], None]


@pytest.fixture
def play(authority: Any, make_credential: Callable[[], Credential]) -> Play:
    """Runs a scenario with a connected pair."""

    def run(scenario: Scenario) -> None:
        async def whole() -> None:
            pair = Pair(make_credential(), authority.root_pem)
            try:
                await pair.start()
                await scenario(pair)
            finally:
                await pair.end()

        asyncio.run(whole())

    return run


def test_bytes_go_both_ways(play: Play) -> None:
    async def scenario(pair: Pair) -> None:
        await pair.client.write(b"question")
        assert await pair.server.read() == b"question"
        await pair.server.write(b"answer")
        assert await pair.client.read() == b"answer"

    play(scenario)


def test_a_read_gives_no_more_than_its_limit(play: Play) -> None:
    async def scenario(pair: Pair) -> None:
        await pair.client.write(b"abcdef")
        assert [await pair.server.read(2) for _ in range(3)] == [b"ab", b"cd", b"ef"]

    play(scenario)


def test_after_the_clients_end_the_server_still_answers(play: Play) -> None:
    async def scenario(pair: Pair) -> None:
        await pair.client.write(b"all")
        await pair.client.write_eof()
        assert await pair.server.read() == b"all"
        assert await pair.server.read() == b""
        assert await pair.server.read() == b""
        await pair.server.write(b"answer")
        await pair.server.write_eof()
        assert await pair.client.read() == b"answer"
        assert await pair.client.read() == b""

    play(scenario)


def test_after_the_servers_end_the_client_still_speaks(play: Play) -> None:
    async def scenario(pair: Pair) -> None:
        # Some of it has arrived, and been decrypted in part, when the server finishes.
        await pair.client.write(b"early " * 10)
        assert await pair.server.read(6) == b"early "
        await pair.server.write_eof()
        await pair.server.write_eof()
        assert await pair.client.read() == b""
        await pair.client.write(b"late")
        received = b""
        while len(received) < 58:
            received += await pair.server.read(7)
        assert received == b"early " * 9 + b"late"
        await pair.client.write_eof()
        assert await pair.server.read() == b""

    play(scenario)


def test_a_cut_is_not_an_end(play: Play) -> None:
    async def scenario(pair: Pair) -> None:
        await pair.client.write(b"half of it")
        await pair.client.inner.write_eof()  # FIN without close_notify
        assert await pair.server.read() == b"half of it"
        with pytest.raises(ssl.SSLError):  # in newer versions of Python its subclass SSLEOFError
            await pair.server.read()

    play(scenario)


def test_garbage_in_the_middle_breaks_the_connection(play: Play) -> None:
    async def scenario(pair: Pair) -> None:
        await pair.client.inner.write(b"\x17\x03\x03\x00\x05abcde")
        with pytest.raises(ssl.SSLError):
            await pair.server.read()

    play(scenario)


def test_a_writer_waits_for_a_reader(play: Play) -> None:
    async def scenario(pair: Pair) -> None:
        writing = asyncio.create_task(pair.server.write(bytes(20_000_000)))
        done, _ = await asyncio.wait((writing,), timeout=0.2)
        assert not done
        received = 0
        while received < 20_000_000:
            received += len(await pair.client.read())
        await writing

    play(scenario)


def test_a_cancelled_write_breaks_the_connection(play: Play) -> None:
    async def scenario(pair: Pair) -> None:
        writing = asyncio.create_task(pair.server.write(bytes(20_000_000)))
        await asyncio.wait((writing,), timeout=0.1)
        writing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await writing
        with pytest.raises(OSError):
            await pair.server.read()
            await pair.server.write(b"x")

    play(scenario)


def test_an_abort_wakes_a_reader(play: Play) -> None:
    async def scenario(pair: Pair) -> None:
        reading = asyncio.create_task(pair.server.read())
        await asyncio.sleep(0)
        pair.server.abort()
        with pytest.raises(OSError):
            await reading

    play(scenario)


def test_a_handshake_has_an_end(authority: Any, make_credential: Callable[[], Credential]) -> None:
    async def scenario() -> None:
        pair = Pair(make_credential(), authority.root_pem)
        with pytest.raises(TimeoutError):
            await pair.server.handshake(0.05)
        await pair.end()

    asyncio.run(scenario())


def test_close_reads_what_is_left_so_that_the_answer_arrives() -> None:
    async def scenario() -> None:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = socket.create_connection(listener.getsockname())
            accepted, _ = listener.accept()
        server, peer = SocketStream(accepted), SocketStream(client)
        await peer.write(bytes(100_000))  # nobody will read this
        await server.write(b"answer")
        closing = asyncio.create_task(server.close())
        received = b""
        while piece := await peer.read():
            received += piece
        assert received == b"answer"
        await peer.close()
        await closing

    asyncio.run(scenario())


def test_forwarding_carries_half_closes_and_cuts() -> None:
    async def scenario(*, cut: bool) -> None:
        one, left = (SocketStream(end) for end in socket.socketpair())
        other, right = (SocketStream(end) for end in socket.socketpair())
        carrying = asyncio.create_task(forward(left, right, IDLE_S))
        await one.write(b"there")
        assert await other.read() == b"there"
        if cut:
            left.abort()
            right.abort()
            await asyncio.wait((carrying,))
        else:
            await one.write_eof()
            assert await other.read() == b""
            await other.write(b"back")
            await other.write_eof()
            assert await one.read() == b"back"
            assert await one.read() == b""
            await carrying
        for stream in (one, left, other, right):
            await stream.close()

    for cut in (False, True):
        asyncio.run(scenario(cut=cut))


def test_a_break_on_one_side_breaks_the_other() -> None:
    class Broken(SocketStream):
        async def read(self, limit: int = 65536) -> bytes:
            raise ConnectionResetError(f"no {limit} bytes")

    async def scenario() -> None:
        one, left = (SocketStream(end) for end in socket.socketpair())
        ends = socket.socketpair()
        other, right = SocketStream(ends[0]), Broken(ends[1])
        with pytest.raises(ConnectionResetError):
            await forward(left, right, IDLE_S)
        assert await one.read() == b""
        for stream in (one, left, other, right):
            await stream.close()

    asyncio.run(scenario())


def test_no_key_file_is_left_open(make_credential: Callable[[], Credential]) -> None:
    contexts = ServerContexts(None, lambda: make_credential().not_before)
    contexts.install(make_credential())
    links = [str(path.readlink()) for path in Path("/proc/self/fd").iterdir() if path.is_symlink()]
    assert not [link for link in links if "memfd:key" in link]
