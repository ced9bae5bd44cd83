"""The link to the authority: up, down, up again; news are noticed; a replaced policy does not fail a call."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from proxy_attestation.appraisal.endorsements import DcapEndorsements, Floor
from proxy_attestation.authority.messages import AuthorityInfo, Issued, IssueOrder
from proxy_attestation.codes import Code
from proxy_attestation.errors import ProxyAttestationError, RequestError, UnavailableError
from proxy_attestation.service import link
from proxy_attestation.service.link import AuthorityLink

ISSUED = Issued((b"leaf", b"ca"), 1, 0, 3600, b"", 1)


class FakeConnection:
    def __init__(self, info: AuthorityInfo) -> None:
        self.info = info
        self.broken = asyncio.Event()
        self.closed = False
        self.watched: asyncio.Queue[int] = asyncio.Queue()
        self.moved = asyncio.Event()
        self.orders: list[IssueOrder] = []
        self.error: ProxyAttestationError | None = None

    async def hello(self) -> AuthorityInfo:
        return self.info

    async def denied(self) -> bytes:
        return b"denied"

    async def watch(self, generation: int) -> int:
        self.watched.put_nowait(generation)
        await self.moved.wait()
        self.moved.clear()
        return self.info.generation

    async def issue(self, order: IssueOrder) -> Issued:
        self.orders.append(order)
        if self.error is not None:
            raise self.error
        if order.policy_digest != self.info.policy_digest:
            raise UnavailableError(Code.POLICY_STALE)
        return replace(ISSUED, generation=self.info.generation)

    async def raise_floor(self, endorsements: DcapEndorsements) -> Floor:
        del endorsements
        return Floor()

    async def lost(self) -> None:
        await self.broken.wait()

    async def close(self) -> None:
        self.closed = True


class Bench:
    """A link, the connections it may get, and the news it tells."""

    def __init__(self, info: AuthorityInfo) -> None:
        self.connections = [FakeConnection(info)]
        self.news: asyncio.Queue[AuthorityInfo | None] = asyncio.Queue()
        self.refusals = 0
        self.link = AuthorityLink(Path("/socket"), self.connect)

    async def connect(self, path: Path) -> Any:  # a connection, as far as the link is concerned
        assert path == Path("/socket")
        if self.refusals:
            self.refusals -= 1
            raise UnavailableError(Code.AUTHORITY_UNAVAILABLE, "no socket")
        return self.connections[-1]


@pytest.fixture
def run(info: AuthorityInfo, monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[[Bench], Awaitable[None]]], None]:
    """Return what runs a test beside a link; waits between tries are made short."""
    monkeypatch.setattr(link, "BACKOFF_SECONDS", (0.001, 0.002))

    def start(test: Callable[[Bench], Awaitable[None]]) -> None:
        async def main() -> None:
            bench = Bench(info)
            running = asyncio.ensure_future(bench.link.run(bench.news.put))
            try:
                async with asyncio.timeout(20):
                    await test(bench)
            finally:
                running.cancel()

        asyncio.run(main())

    return start


def order(info: AuthorityInfo) -> Any:
    claims: Any = None  # the link does not look at them
    return IssueOrder(b"token", b"request", b"spki", claims, Floor(), info.policy_digest)


def test_the_first_news_is_the_hello(run: Any, info: AuthorityInfo) -> None:
    async def test(bench: Bench) -> None:
        assert await bench.news.get() == info
        assert await bench.link.hello() == info
        assert (await bench.link.issue(order(info))).index == 1

    run(test)


def test_without_a_connection_everything_is_unavailable(info: AuthorityInfo) -> None:
    async def main() -> None:
        away = Bench(info).link
        for call in (away.hello(), away.issue(order(info)), away.raise_floor(DcapEndorsements())):
            with pytest.raises(UnavailableError) as caught:
                await call
            assert caught.value.code is Code.AUTHORITY_UNAVAILABLE

    asyncio.run(main())


def test_a_connection_that_breaks_is_made_anew(run: Any, info: AuthorityInfo) -> None:
    async def test(bench: Bench) -> None:
        await bench.news.get()
        first = bench.connections[-1]
        bench.connections.append(FakeConnection(replace(info, policy_digest=b"\x0e" * 32)))
        bench.refusals = 3
        first.broken.set()
        assert await bench.news.get() is None
        assert first.closed
        news = await bench.news.get()
        assert news is not None
        assert news.policy_digest == b"\x0e" * 32  # told again although the generation is the same
        assert bench.refusals == 0

    run(test)


def test_a_newer_generation_in_an_answer_is_asked_about(run: Any, info: AuthorityInfo) -> None:
    async def test(bench: Bench) -> None:
        await bench.news.get()
        newer = replace(info, generation=2)
        bench.connections[-1].info = newer
        await bench.link.issue(order(info))
        assert await bench.news.get() == newer

    run(test)


@pytest.mark.parametrize("code", [Code.CHALLENGE_CA, Code.ENDORSEMENTS_UNAVAILABLE])
def test_a_refusal_that_may_rest_on_old_news_is_asked_about(run: Any, info: AuthorityInfo, code: Code) -> None:
    async def test(bench: Bench) -> None:
        await bench.news.get()
        newer = replace(info, generation=2)
        bench.connections[-1].info = newer
        bench.connections[-1].error = RequestError(code)
        with pytest.raises(RequestError):
            await bench.link.issue(order(info))
        assert await bench.news.get() == newer

    run(test)


def test_an_order_under_a_replaced_policy_is_sent_again(run: Any, info: AuthorityInfo) -> None:
    async def test(bench: Bench) -> None:
        await bench.news.get()
        connection = bench.connections[-1]
        connection.info = replace(info, generation=2, policy_digest=b"\x0e" * 32)
        assert (await bench.link.issue(order(info))).index == 1
        assert [sent.policy_digest for sent in connection.orders] == [info.policy_digest, b"\x0e" * 32]
        assert await bench.news.get() == connection.info

    run(test)


def test_an_order_that_stays_stale_is_refused_once(run: Any, info: AuthorityInfo) -> None:
    async def test(bench: Bench) -> None:
        await bench.news.get()
        bench.connections[-1].error = UnavailableError(Code.POLICY_STALE)
        with pytest.raises(UnavailableError) as caught:
            await bench.link.issue(order(info))
        assert caught.value.code is Code.POLICY_STALE
        assert len(bench.connections[-1].orders) == 1

    run(test)


def test_refresh_asks_now(run: Any, info: AuthorityInfo) -> None:
    async def test(bench: Bench) -> None:
        await bench.news.get()
        bench.connections[-1].info = replace(info, generation=5)
        bench.link.refresh()
        news = await bench.news.get()
        assert news is not None
        assert news.generation == 5

    run(test)


def test_it_watches_only_once_the_news_is_taken(run: Any, info: AuthorityInfo) -> None:
    async def test(bench: Bench) -> None:
        (connection,) = bench.connections
        assert await bench.news.get() == info
        assert await connection.watched.get() == info.generation
        connection.info = replace(info, generation=info.generation + 1)
        connection.moved.set()
        assert await bench.news.get() == connection.info
        assert await connection.watched.get() == info.generation + 1
        assert connection.watched.empty()

    run(test)
