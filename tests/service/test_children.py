"""Children of the supervisor: ready, restarted, replaced, given up; and none outlives the supervisor."""

import asyncio
import os
import select
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from proxy_attestation.errors import InternalError
from proxy_attestation.service import children
from proxy_attestation.service.children import ChildEndedError, Command, Keeper

pytestmark = pytest.mark.e2e

# A child: appends its process id to a file, does as its file of orders says, exits when its standard input ends.
CHILD = """
import os, signal, sys
pids, orders = sys.argv[1:]
with open(pids, "a") as file:
    file.write(f"{os.getpid()}\\n")
with open(orders) as file:
    order = file.read().split()
if order[0] == "fail":
    sys.exit(int(order[1]))
if order[0] == "stubborn":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
else:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
print("ready", flush=True)
sys.stdin.read()
"""


class Nursery:
    """Makes keepers of fake children and knows what they did."""

    def __init__(self, directory: Path) -> None:
        self.orders = directory / "orders"
        self.pids = directory / "pids"
        self.ended = 0
        (directory / "fake_child.py").write_text(CHILD)
        self.order("serve")
        self.pids.touch()

    def order(self, text: str) -> None:
        self.orders.write_text(text)

    def started(self) -> list[int]:
        return [int(line) for line in self.pids.read_text().split()]

    def command(self) -> Command:
        return Command(["fake_child", str(self.pids), str(self.orders)], self._ended)

    def _ended(self) -> None:
        self.ended += 1


@pytest.fixture
def nursery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Nursery:
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setattr(children, "BACKOFF_SECONDS", (0.001, 0.002))
    return Nursery(tmp_path)


def run(test: Awaitable[None]) -> None:
    async def main() -> None:
        async with asyncio.timeout(60):
            await test

    asyncio.run(main())


def kill(keeper: Keeper) -> None:
    assert keeper.child is not None
    keeper.child.signal(signal.SIGKILL)


def test_a_child_that_dies_is_started_again(nursery: Nursery) -> None:
    async def test() -> None:
        keeper = Keeper("child", nursery.command)
        await keeper.start()
        watching = asyncio.ensure_future(keeper.watch())
        for _ in range(3):
            before = keeper.child
            kill(keeper)
            while keeper.child is before or not keeper.running:
                await asyncio.wait((watching,), timeout=0.01)
        await keeper.stop()
        await watching
        assert len(nursery.started()) == 4
        assert nursery.ended == 4

    run(test())


def test_a_replaced_child_goes_when_its_successor_is_ready(nursery: Nursery) -> None:
    async def test() -> None:
        keeper = Keeper("child", nursery.command)
        await keeper.start()
        watching = asyncio.ensure_future(keeper.watch())
        before = keeper.child
        assert before is not None
        await keeper.replace()
        assert await before.wait() == 0
        assert keeper.child is not before
        assert keeper.running
        await keeper.stop()
        await watching
        assert len(nursery.started()) == 2

    run(test())


def test_a_child_that_dies_while_it_is_replaced_is_not_replaced_twice(nursery: Nursery) -> None:
    async def test() -> None:
        keeper = Keeper("child", nursery.command)
        await keeper.start()
        watching = asyncio.ensure_future(keeper.watch())
        replacing = asyncio.ensure_future(keeper.replace())
        await asyncio.sleep(0)  # it holds the lock
        kill(keeper)
        await replacing
        assert keeper.running
        await keeper.stop()
        await watching
        assert len(nursery.started()) == 2

    run(test())


def test_a_successor_that_does_not_start_leaves_the_child(nursery: Nursery) -> None:
    async def test() -> None:
        keeper = Keeper("child", nursery.command)
        await keeper.start()
        before = keeper.child
        nursery.order("fail 1")
        with pytest.raises(ChildEndedError):
            await keeper.replace()
        assert keeper.child is before
        assert keeper.running
        await keeper.stop()

    run(test())


@pytest.mark.parametrize("status", [2, 3, 4])
def test_a_first_start_that_is_hopeless_is_tried_once(nursery: Nursery, status: int) -> None:
    nursery.order(f"fail {status}")

    async def test() -> None:
        with pytest.raises(ChildEndedError) as caught:
            await Keeper("child", nursery.command).start()
        assert caught.value.status == status
        assert len(nursery.started()) == 1

    run(test())


def test_a_child_that_never_starts_is_given_up(nursery: Nursery) -> None:
    nursery.order("fail 5")

    async def test() -> None:
        with pytest.raises(InternalError):
            await Keeper("child", nursery.command).start()
        assert len(nursery.started()) == children.FAILURES_MAX
        assert nursery.ended == children.FAILURES_MAX

    run(test())


def test_a_child_that_cannot_be_restarted_is_given_up(nursery: Nursery) -> None:
    async def test() -> None:
        keeper = Keeper("child", nursery.command)
        await keeper.start()
        nursery.order("fail 4")
        kill(keeper)
        with pytest.raises(InternalError):
            await keeper.watch()
        assert len(nursery.started()) == 1 + children.FAILURES_MAX

    run(test())


def test_a_patient_keeper_tries_once_and_goes_on_for_ever(nursery: Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "PATIENT_SECONDS", 0.01)
    nursery.order("fail 5")

    async def test() -> None:
        keeper = Keeper("child", nursery.command, patient=True)
        await keeper.start()
        assert (len(nursery.started()), keeper.running) == (1, False)
        watching = asyncio.ensure_future(keeper.watch())
        while len(nursery.started()) < children.FAILURES_MAX + 2:
            await asyncio.wait((watching,), timeout=0.01)
        nursery.order("serve")
        while not keeper.running:
            await asyncio.wait((watching,), timeout=0.01)
        kill(keeper)
        before = len(nursery.started())
        while len(nursery.started()) == before or not keeper.running:
            await asyncio.wait((watching,), timeout=0.01)
        await keeper.stop()
        await watching
        assert nursery.ended == len(nursery.started())

    run(test())


@pytest.mark.parametrize("status", [2, 3, 4])
def test_a_patient_keeper_too_is_not_started_with_what_cannot_be_used(nursery: Nursery, status: int) -> None:
    nursery.order(f"fail {status}")

    async def test() -> None:
        with pytest.raises(ChildEndedError) as caught:
            await Keeper("child", nursery.command, patient=True).start()
        assert caught.value.status == status

    run(test())


def test_a_child_that_does_not_become_ready_in_time_is_killed(
    nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(children, "START_SECONDS", 0.0)
    monkeypatch.setattr(children, "FAILURES_MAX", 2)

    async def test() -> None:
        with pytest.raises(InternalError):
            await Keeper("child", nursery.command).start()
        assert nursery.ended == 2

    run(test())


def test_a_child_that_ignores_sigterm_is_killed(nursery: Nursery, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(children, "STOP_SECONDS", 0.05)
    nursery.order("stubborn")

    async def test() -> None:
        keeper = Keeper("child", nursery.command)
        await keeper.start()
        child = keeper.child
        assert child is not None
        await keeper.stop()
        assert await child.wait() == -signal.SIGKILL

    run(test())


SUPERVISOR = """
import asyncio, sys
from proxy_attestation.service.children import Command, Keeper
async def main():
    keeper = Keeper("child", lambda: Command(["fake_child", *sys.argv[1:]]))
    await keeper.start()
    print(keeper.child.process.pid, flush=True)
    await keeper.watch()
asyncio.run(main())
"""


def test_no_child_outlives_its_supervisor(nursery: Nursery) -> None:
    nursery.order("stubborn")
    command = [sys.executable, "-c", SUPERVISOR, str(nursery.pids), str(nursery.orders)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as supervisor:
        assert supervisor.stdout is not None
        child = os.pidfd_open(int(supervisor.stdout.readline()))
        supervisor.kill()
    try:
        ended: Callable[..., tuple[list[int], list[int], list[int]]] = select.select
        assert ended([child], [], [], 30)[0] == [child]
    finally:
        os.close(child)
