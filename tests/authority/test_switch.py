"""Whoever changes what is in force hears of it when every worker works with that, or is cut off."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any

import pytest

from proxy_attestation.authority import operations, watchers
from proxy_attestation.authority.client import AuthorityClient
from proxy_attestation.authority.issue import Issuer
from proxy_attestation.authority.operation import Operation
from proxy_attestation.authority.operations import STATUS, Nothing
from proxy_attestation.authority.server import OPERATOR_CALLS, Server, bind
from proxy_attestation.codes import Code
from proxy_attestation.errors import RefusedError, UnavailableError
from proxy_attestation.formats.arrays import Size

_Count = Annotated[int, Size(0, 1 << 32)]


def _change(issuer: Issuer, _: Nothing) -> int:
    with issuer.authority._change():
        pass
    return issuer.authority.generation


CHANGE = Operation[Nothing, int]("change", Nothing, _Count, _change)


class Bench:
    """A server, a worker and an operator."""

    def __init__(self, server: Server, worker: AuthorityClient, operator: AuthorityClient) -> None:
        self.server, self.worker, self.operator = server, worker, operator


@pytest.fixture
def run(
    issuer: Issuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Callable[[Bench], Awaitable[None]]], None]:
    monkeypatch.setattr(operations, "OPERATIONS", {"change": CHANGE, "status": STATUS})

    def start(test: Callable[[Bench], Awaitable[None]]) -> None:
        async def main() -> None:
            server = Server(issuer)
            workers = await server.listen(bind(tmp_path / "workers"))
            operators = await server.listen(bind(tmp_path / "operators"), OPERATOR_CALLS)
            worker = await AuthorityClient.connect(tmp_path / "workers", call_timeout=20)
            operator = await AuthorityClient.connect(tmp_path / "operators", call_timeout=20)
            try:
                async with asyncio.timeout(30):
                    await test(Bench(server, worker, operator))
            finally:
                workers.close()
                operators.close()
                await server.drain()
                for client in (worker, operator):
                    await client.close()

        asyncio.run(main())

    return start


def test_a_change_is_told_to_whoever_watches(run: Any) -> None:
    async def test(bench: Bench) -> None:
        generation = (await bench.worker.hello()).generation
        watching = asyncio.ensure_future(bench.worker.watch(generation))
        changing = asyncio.ensure_future(bench.operator.operate(CHANGE, Nothing()))
        assert await watching == generation + 1
        # The worker has not said that it works with it.
        assert not changing.done()
        again = asyncio.ensure_future(bench.worker.watch(generation + 1))
        assert await changing == generation + 1
        assert not again.done()
        again.cancel()

    run(test)


def test_who_watches_under_an_old_generation_is_told_at_once(run: Any, issuer: Issuer) -> None:
    async def test(bench: Bench) -> None:
        generation = issuer.authority.generation
        assert await bench.worker.watch(generation - 1) == generation

    run(test)


def test_a_worker_between_its_question_and_its_watch_is_waited_for(run: Any) -> None:
    async def test(bench: Bench) -> None:
        info = await bench.worker.hello()
        changing = asyncio.ensure_future(bench.operator.operate(CHANGE, Nothing()))
        # It was told of the generation before, so its watch is answered: the change has happened, and was not answered.
        assert await bench.worker.watch(info.generation) == info.generation + 1
        assert not changing.done()
        last = asyncio.ensure_future(bench.worker.watch(info.generation + 1))
        await changing
        last.cancel()

    run(test)


def test_a_worker_that_does_not_follow_is_cut_off(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    genuine = watchers.Watchers.switched
    monkeypatch.setattr(watchers.Watchers, "switched", lambda self: genuine(self, 0.05))

    async def test(bench: Bench) -> None:
        generation = (await bench.worker.hello()).generation
        assert await bench.operator.operate(CHANGE, Nothing()) == generation + 1
        await bench.worker.lost()
        with pytest.raises(UnavailableError) as caught:
            await bench.worker.hello()
        assert caught.value.code is Code.AUTHORITY_UNAVAILABLE

    run(test)


def test_a_worker_that_goes_is_not_waited_for(run: Any) -> None:
    async def test(bench: Bench) -> None:
        generation = (await bench.worker.hello()).generation
        changing = asyncio.ensure_future(bench.operator.operate(CHANGE, Nothing()))
        await bench.worker.close()
        assert await changing == generation + 1

    run(test)


def test_what_changes_nothing_waits_for_nobody(run: Any) -> None:
    async def test(bench: Bench) -> None:
        await bench.worker.hello()  # and never watches
        assert (await bench.operator.operate(STATUS, Nothing())).policy_version == 7

    run(test)


def test_a_server_that_ends_answers_whoever_waits(run: Any) -> None:
    async def test(bench: Bench) -> None:
        generation = (await bench.worker.hello()).generation
        changing = asyncio.ensure_future(bench.operator.operate(CHANGE, Nothing()))
        assert await bench.worker.watch(generation) == generation + 1
        assert not changing.done()
        await bench.server.drain()
        assert await changing == generation + 1

    run(test)


def test_only_a_worker_may_watch(run: Any) -> None:
    async def test(bench: Bench) -> None:
        with pytest.raises(RefusedError) as caught:
            await bench.operator.watch(0)
        assert caught.value.code is Code.AUTHORITY_CALLER

    run(test)
