"""Workers and the authority over a real socket in one loop: batches, bounds, hostile peers, the end."""

import asyncio
import os
import socket
import stat
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import pytest

from proxy_attestation.appraisal.endorsements import Floor
from proxy_attestation.authority import server as server_module
from proxy_attestation.authority import wire
from proxy_attestation.authority.client import AuthorityClient
from proxy_attestation.authority.issue import Issuer
from proxy_attestation.authority.messages import Issued, IssueOrder
from proxy_attestation.authority.server import BATCH_MAX, TLS_LEAF_BURST, Server, bind
from proxy_attestation.authority.wire import Method
from proxy_attestation.codes import Code
from proxy_attestation.errors import (
    InternalError,
    PolicyError,
    ProxyAttestationError,
    RefusedError,
    RequestError,
    UnavailableError,
)
from proxy_attestation.formats.bounds import COLLATERAL_SET_MAX
from proxy_attestation.formats.request import names_from

_T = TypeVar("_T")


@asynccontextmanager
async def serving(issuer: Issuer, path: Path, **changes: Any) -> AsyncIterator[Server]:
    server = Server(issuer, **changes)
    listening = await server.listen(bind(path))
    try:
        yield server
    finally:
        listening.close()
        await server.drain()


def run(issuer: Issuer, path: Path, work: Callable[[AuthorityClient], Awaitable[_T]], **changes: Any) -> _T:
    """Do some work with one client of a server, as a worker."""

    async def main() -> _T:
        async with serving(issuer, path, **changes):
            client = await AuthorityClient.connect(path)
            try:
                return await work(client)
            finally:
                await client.close()

    return asyncio.run(main())


async def supervising(server: Server, gone: Callable[[], None] = lambda: None) -> AuthorityClient:
    """Return a client at the end of a server's supervisor connection."""
    ours, theirs = socket.socketpair()
    for end in (ours, theirs):
        end.setblocking(False)
    await server.adopt(theirs, gone)
    return await AuthorityClient.adopt(ours)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "authority.sock"


@pytest.fixture
def batches(issuer: Issuer, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the batches that the issuer was given."""
    sizes: list[int] = []
    issue = issuer.issue_batch

    def counted(orders: list[IssueOrder]) -> list[Issued | ProxyAttestationError]:
        sizes.append(len(orders))
        return issue(orders)

    monkeypatch.setattr(issuer, "issue_batch", counted)
    return sizes


def test_every_call(issuer: Issuer, world: Any, path: Path, collateral: Any, clock: Any) -> None:
    async def work(client: AuthorityClient) -> None:
        info = await client.hello()
        assert info == issuer.hello()
        order = world.order(info)
        issued = await client.issue(order)
        assert issued == await client.issue(order)
        assert issued.generation == info.generation
        higher = Floor(19, int(clock().timestamp()) - 3600, 9, 9)
        assert await client.raise_floor(collateral()) == higher
        assert (await client.hello()).generation > info.generation

    run(issuer, path, work)


def test_errors_arrive_as_they_were_decided(issuer: Issuer, world: Any, path: Path, collateral: Any) -> None:
    async def work(client: AuthorityClient) -> None:
        info = await client.hello()
        evil = world.order(info, request=world.request(names=names_from(("evil.example.org",))))
        with pytest.raises(PolicyError) as policy:
            await client.issue(evil)
        assert [(m.code, m.actual) for m in policy.value.mismatches] == [(Code.POLICY_NAME, "evil.example.org")]
        with pytest.raises(RequestError) as request:
            await client.issue(replace(evil, token=b""))
        assert request.value.code is Code.CHALLENGE_INVALID
        with pytest.raises(UnavailableError) as floor:
            await client.raise_floor(collateral(evaluation_number=17))
        assert floor.value.code is Code.ENDORSEMENTS_UNAVAILABLE
        with pytest.raises(UnavailableError) as size:
            await client.raise_floor(replace(collateral(), root_ca_crl=bytes(COLLATERAL_SET_MAX)))
        assert size.value.code is Code.ENDORSEMENTS_UNAVAILABLE

    run(issuer, path, work)


class TestSupervisor:
    """What only the supervisor may ask for, and only so often."""

    def test_its_connection_gives_the_proxy_s_own_certificate(self, issuer: Issuer, world: Any) -> None:
        async def main() -> None:
            client = await supervising(Server(issuer))
            assert await client.hello() == issuer.hello()
            assert len(await client.tls_leaf(world.spki)) == 2
            with pytest.raises(RequestError) as key:
                await client.tls_leaf(b"no key")
            assert key.value.code is Code.CSR_KEY
            await client.close()

        asyncio.run(main())

    def test_a_worker_is_refused_it(self, issuer: Issuer, world: Any, path: Path) -> None:
        async def work(client: AuthorityClient) -> None:
            size = issuer.authority.ledger.size()
            with pytest.raises(RefusedError) as caught:
                await client.tls_leaf(world.spki)
            assert caught.value.code is Code.AUTHORITY_CALLER
            assert issuer.authority.ledger.size() == size
            await client.hello()

        run(issuer, path, work)

    def test_a_worker_s_calls_are_refused_to_it(self, issuer: Issuer, world: Any, collateral: Any) -> None:
        async def main() -> None:
            client = await supervising(Server(issuer))
            info = await client.hello()
            for call in (client.issue(world.order(info)), client.raise_floor(collateral())):
                with pytest.raises(RefusedError) as caught:
                    await call
                assert caught.value.code is Code.AUTHORITY_CALLER
            await client.close()

        asyncio.run(main())

    def test_certificates_are_bounded_by_rate(self, issuer: Issuer, world: Any) -> None:
        now = 1000.0

        async def main() -> None:
            nonlocal now
            client = await supervising(Server(issuer, clock=lambda: now))
            for _ in range(TLS_LEAF_BURST):
                await client.tls_leaf(world.spki)
            size = issuer.authority.ledger.size()
            for later, allowed in ((0, False), (59, False), (1.1, True), (1, False)):
                now += later
                if allowed:
                    await client.tls_leaf(world.spki)
                else:
                    with pytest.raises(UnavailableError) as caught:
                        await client.tls_leaf(world.spki)
                    assert caught.value.code is Code.LIMITS_EXHAUSTED
            assert issuer.authority.ledger.size() == size + 1
            await client.close()

        asyncio.run(main())

    def test_its_end_is_told(self, issuer: Issuer) -> None:
        async def main() -> None:
            ended = asyncio.Event()
            client = await supervising(Server(issuer), ended.set)
            await client.hello()
            assert not ended.is_set()
            await client.close()
            await ended.wait()

        asyncio.run(main())


def test_what_is_pending_is_one_batch(issuer: Issuer, world: Any, path: Path, batches: list[int]) -> None:
    async def main() -> list[Issued]:
        async with serving(issuer, path):
            clients = [await AuthorityClient.connect(path) for _ in range(4)]
            info = await clients[0].hello()
            issued = await asyncio.gather(*(client.issue(world.order(info)) for client in clients for _ in range(20)))
            for client in clients:
                await client.close()
            return issued

    issued = asyncio.run(main())
    assert len({one.index for one in issued}) == 80
    assert sum(batches) == 80
    assert len(batches) < 10


def test_a_batch_is_bounded(issuer: Issuer, world: Any, path: Path, batches: list[int]) -> None:
    async def work(client: AuthorityClient) -> list[Any]:
        info = await client.hello()
        bad = replace(world.order(info), token=b"")
        calls = (client.issue(bad) for _ in range(2 * BATCH_MAX + 1))
        return list(await asyncio.gather(*calls, return_exceptions=True))

    outcomes = run(issuer, path, work)
    assert {type(outcome) for outcome in outcomes} == {RequestError}
    assert max(batches) <= BATCH_MAX


def test_the_queue_is_bounded(issuer: Issuer, world: Any, path: Path) -> None:
    async def work(client: AuthorityClient) -> list[Any]:
        info = await client.hello()
        calls = (client.issue(world.order(info)) for _ in range(20))
        return list(await asyncio.gather(*calls, return_exceptions=True))

    outcomes = run(issuer, path, work, queue_max=5)
    refused = [outcome for outcome in outcomes if isinstance(outcome, UnavailableError)]
    assert len(refused) == 15
    assert {error.code for error in refused} == {Code.LIMITS_EXHAUSTED}


def test_connections_are_bounded(issuer: Issuer, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "CONNECTIONS_MAX", 1)

    async def work(client: AuthorityClient) -> None:
        second = await AuthorityClient.connect(path)
        with pytest.raises(UnavailableError):
            await second.hello()
        await second.lost()
        assert not second.connected
        await client.hello()

    run(issuer, path, work)


def test_another_user_is_cut_off(issuer: Issuer, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)

    async def work(client: AuthorityClient) -> None:
        with pytest.raises(UnavailableError) as caught:
            await client.hello()
        assert caught.value.code is Code.AUTHORITY_UNAVAILABLE

    run(issuer, path, work)


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff\xff\xff",
        b"\0\0\0\0",
        b"\0\0\0\x04junk",
        b"GET / HTTP/1.1\r\n\r\n",
        wire.encode_answer(1, None),
    ],
)
def test_who_does_not_speak_our_frames_is_cut_off_and_nobody_else(issuer: Issuer, path: Path, data: bytes) -> None:
    async def work(client: AuthorityClient) -> None:
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(data)
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        await client.hello()

    run(issuer, path, work)


@pytest.mark.parametrize("method", [Method.ISSUE, Method.RAISE_FLOOR, Method.TLS_LEAF])
def test_a_body_of_another_form_is_answered(issuer: Issuer, path: Path, method: Method) -> None:
    async def main() -> None:
        async with serving(issuer, path) as server:
            supervisor = method is Method.TLS_LEAF
            client = await supervising(server) if supervisor else await AuthorityClient.connect(path)
            with pytest.raises(InternalError):
                await client._call(method, ["nonsense"], lambda value: value)
            await client.hello()
            await client.close()

    asyncio.run(main())


def test_a_bug_is_answered_and_the_authority_goes_on(
    issuer: Issuer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise KeyError("secret")

    async def work(client: AuthorityClient) -> None:
        monkeypatch.setattr(issuer, "hello", broken)
        with pytest.raises(InternalError) as caught:
            await client.hello()
        assert "secret" not in caught.value.detail
        monkeypatch.undo()
        await client.hello()

    run(issuer, path, work)


def test_what_is_queued_is_answered_before_the_end(
    issuer: Issuer, world: Any, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> list[Any]:
        server = Server(issuer)
        listening = await server.listen(bind(path))
        client = await AuthorityClient.connect(path)
        info = await client.hello()
        calls = [asyncio.ensure_future(client.issue(world.order(info))) for _ in range(10)]
        queued = asyncio.Event()
        enqueue = server._enqueue

        def noted(*arguments: Any) -> None:
            enqueue(*arguments)
            queued.set()

        # To end it just after the first order has come.
        monkeypatch.setattr(server, "_enqueue", noted)
        await queued.wait()
        listening.close()
        await server.drain()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        with pytest.raises(UnavailableError):
            await AuthorityClient.connect(path)
        await client.close()
        return list(outcomes)

    outcomes = asyncio.run(main())
    issued = [outcome for outcome in outcomes if isinstance(outcome, Issued)]
    assert issued
    assert len(issued) == sum(1 for index in range(issuer.authority.ledger.size()) if _is_leaf(issuer, index))
    assert {outcome.code for outcome in outcomes if isinstance(outcome, UnavailableError)} <= {
        Code.AUTHORITY_UNAVAILABLE
    }


def _is_leaf(issuer: Issuer, index: int) -> bool:
    from proxy_attestation.formats.ledger_entry import EntryKind, decode_entry  # noqa: PLC0415 - only here

    entry = issuer.authority.ledger.entry(index)
    return entry is not None and decode_entry(entry).kind is EntryKind.LEAF


def test_a_peer_that_does_not_read_cannot_hold_up_the_end(
    issuer: Issuer, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "DRAIN_SECONDS", 0.05)

    async def main() -> None:
        async with serving(issuer, path):
            sock = socket.socket(socket.AF_UNIX)
            sock.setblocking(False)
            await asyncio.get_running_loop().sock_connect(sock, str(path))
            hello = wire.encode_call(1, Method.HELLO, None)
            try:
                # Until the authority reads no more from somebody who does not read its answers.
                for _ in range(100_000):
                    sock.send(hello)
                    await asyncio.sleep(0)
            except BlockingIOError:
                pass
            else:
                pytest.fail("the authority took calls without end")
        sock.close()

    asyncio.run(main())


class TestClient:
    """What a worker notices."""

    def test_nobody_listens(self, path: Path) -> None:
        with pytest.raises(UnavailableError) as caught:
            asyncio.run(AuthorityClient.connect(path))
        assert caught.value.code is Code.AUTHORITY_UNAVAILABLE

    def test_an_authority_that_ends(self, issuer: Issuer, path: Path) -> None:
        async def main() -> None:
            async with serving(issuer, path):
                client = await AuthorityClient.connect(path)
                await client.hello()
                before = client.connected
            await client.lost()
            assert (before, client.connected) == (True, False)
            with pytest.raises(UnavailableError):
                await client.hello()
            await client.close()

        asyncio.run(main())

    def test_after_close_there_are_no_calls(self, issuer: Issuer, path: Path) -> None:
        async def work(client: AuthorityClient) -> None:
            await client.close()
            with pytest.raises(UnavailableError):
                await client.hello()

        run(issuer, path, work)

    async def _silent(self, path: Path, answer: bytes | None, call_timeout: float) -> ProxyAttestationError:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.read(4)
            if answer is not None:
                writer.write(answer)
            await reader.read()
            writer.close()

        server = await asyncio.start_unix_server(serve, path)
        client = await AuthorityClient.connect(path, call_timeout=call_timeout)
        try:
            with pytest.raises(ProxyAttestationError) as caught:
                await client.hello()
        finally:
            await client.close()
            server.close()
        return caught.value

    def test_no_answer_in_time(self, path: Path) -> None:
        error = asyncio.run(self._silent(path, None, 0.05))
        assert isinstance(error, UnavailableError)
        assert error.code is Code.AUTHORITY_UNAVAILABLE

    @pytest.mark.parametrize("answer", [b"\xff\xff\xff\xff", b"\0\0\0\x01\x00", wire.encode_answer(1, [1, 2])])
    def test_an_answer_of_another_form(self, path: Path, answer: bytes) -> None:
        assert isinstance(asyncio.run(self._silent(path, answer, 10)), InternalError)

    def test_answers_to_nobody_are_passed_over(self, path: Path) -> None:
        error = asyncio.run(self._silent(path, wire.encode_answer(99, None), 0.05))
        assert isinstance(error, UnavailableError)

    def test_a_call_that_does_not_fit_is_our_bug(self, issuer: Issuer, world: Any, path: Path) -> None:
        async def work(client: AuthorityClient) -> None:
            order = world.order(await client.hello())
            with pytest.raises(InternalError):
                await client.issue(replace(order, request=b"x" * (1 << 20)))
            await client.issue(order)

        run(issuer, path, work)


class TestBind:
    """The socket file."""

    def test_it_is_ours_alone(self, path: Path) -> None:
        mask = os.umask(0)
        try:
            bind(path).close()
        finally:
            os.umask(mask)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600

    def test_one_that_is_left_over_is_replaced(self, issuer: Issuer, path: Path) -> None:
        bind(path).close()
        assert path.is_socket()

        async def work(client: AuthorityClient) -> None:
            await client.hello()

        run(issuer, path, work)

    def test_another_file_is_not(self, path: Path) -> None:
        path.write_text("mine")
        with pytest.raises(UnavailableError) as caught:
            bind(path)
        assert caught.value.code is Code.AUTHORITY_UNAVAILABLE
        assert path.read_text() == "mine"

    def test_a_path_longer_than_an_address(self, issuer: Issuer, tmp_path: Path) -> None:
        deep = tmp_path / ("d" * 100) / ("e" * 100)
        deep.mkdir(parents=True)

        async def work(client: AuthorityClient) -> None:
            await client.hello()

        run(issuer, deep / "authority.sock", work)
