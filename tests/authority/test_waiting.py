"""Who waits for witnesses is answered when they have cosigned, or told that they have not; nobody is forgotten."""

import asyncio
from functools import partial

import pytest

from proxy_attestation.authority import waiting
from proxy_attestation.authority.messages import Issued
from proxy_attestation.authority.waiting import Waiting
from proxy_attestation.codes import Code
from proxy_attestation.errors import ProxyAttestationError, UnavailableError

Told = list[tuple[str, bytes | Code]]


def issued(index: int) -> Issued:
    return Issued((b"leaf", b"ca"), index, 1, 2, b"claims", 1)


def tell(told: Told, name: str, outcome: Issued | ProxyAttestationError) -> None:
    told.append((name, outcome.proof if isinstance(outcome, Issued) else outcome.code))


def prove(index: int) -> bytes:
    return b"proof %d" % index


def test_those_whose_entry_is_covered_are_answered_and_the_others_wait_on() -> None:
    async def run() -> Told:
        told: Told = []
        waiters = Waiting()
        for name, index in (("a", 5), ("b", 6), ("an old one again", 2), ("c", 7)):
            waiters.add(issued(index), partial(tell, told, name))
        waiters.published(6, prove)
        assert len(waiters) == 2
        waiters.published(6, prove)
        waiters.published(8, prove)
        assert not len(waiters)
        return told

    assert asyncio.run(run()) == [
        ("a", b"proof 5"), ("an old one again", b"proof 2"), ("b", b"proof 6"), ("c", b"proof 7"),
    ]  # fmt: skip


def test_after_their_time_all_who_are_left_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(waiting, "WITNESS_SECONDS", 0.0)

    async def run() -> Told:
        told: Told = []
        waiters = Waiting()
        for name, index in (("a", 5), ("b", 9), ("an old one again", 2)):
            waiters.add(issued(index), partial(tell, told, name))
        waiters.published(3, prove)  # the last that came is answered, and must not take the others' timer with it
        done = asyncio.Event()
        asyncio.get_running_loop().call_later(0.05, done.set)
        await done.wait()
        assert not len(waiters)
        return told

    assert asyncio.run(run()) == [
        ("an old one again", b"proof 2"), ("a", Code.LEDGER_WITNESS), ("b", Code.LEDGER_WITNESS),
    ]  # fmt: skip


def test_who_came_later_waits_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    async def run() -> Told:
        told: Told = []
        waiters = Waiting()
        waiters.add(issued(1), partial(tell, told, "a"))
        monkeypatch.setattr(waiting, "WITNESS_SECONDS", 60.0)
        waiters.add(issued(2), partial(tell, told, "b"))
        waiters.give_up(waiters._waiters[0].deadline)
        assert [waiter.issued.index for waiter in waiters._waiters] == [2]
        waiters.give_up()
        return told

    assert asyncio.run(run()) == [("a", Code.LEDGER_WITNESS), ("b", Code.LEDGER_WITNESS)]


def test_a_proof_that_cannot_be_made_is_told_as_its_error() -> None:
    def broken(index: int) -> bytes:
        raise UnavailableError(Code.LEDGER_INCONSISTENT, str(index))

    async def run() -> Told:
        told: Told = []
        waiters = Waiting()
        for name, index in (("a", 1), ("b", 2)):
            waiters.add(issued(index), partial(tell, told, name))
        waiters.published(9, broken)
        return told

    assert asyncio.run(run()) == [("a", Code.LEDGER_INCONSISTENT), ("b", Code.LEDGER_INCONSISTENT)]
