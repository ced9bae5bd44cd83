"""One quote answers a batch of callers, of what the authority composed; nobody waits for ever, no worker orders any."""

import asyncio
import hashlib
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from proxy_attestation.authority import self_evidence
from proxy_attestation.authority.client import AuthorityClient
from proxy_attestation.authority.issue import Issuer
from proxy_attestation.authority.messages import Proven, Quote, Quoted, ToQuote
from proxy_attestation.authority.self_evidence import SelfEvidence
from proxy_attestation.authority.server import Server, bind
from proxy_attestation.codes import Code
from proxy_attestation.errors import ProxyAttestationError, RefusedError, RequestError, UnavailableError
from proxy_attestation.formats.bounds import ROOT_NONCES_MAX
from proxy_attestation.formats.merkle import leaf_hash, root_of_path
from proxy_attestation.formats.root_binder import bind_root
from proxy_attestation.formats.root_evidence import decode_root_evidence
from proxy_attestation.formats.tee import Tee

QUOTE = Quote(Tee.SGX, b"a quote", (b"a certificate",), b"a log")


class Bench:
    """A `SelfEvidence` with a clock and timers that a test moves."""

    def __init__(self, issuer: Issuer, *, attested: bool = True) -> None:
        self.now = 0.0
        self.timers: list[tuple[float, int, Callable[[], None]]] = []
        self.answers: dict[int, Proven | ProxyAttestationError] = {}
        self.orders: list[ToQuote | None] = []
        self.evidence = SelfEvidence(issuer.authority, self._later, lambda: self.now, attested=attested)

    def _later(self, seconds: float, call: Callable[[], None]) -> None:
        self.timers.append((self.now + seconds, len(self.timers), call))

    def move(self, seconds: float) -> None:
        """Move the clock, and run each timer at its time."""
        end = self.now + seconds
        while due := sorted((timer for timer in self.timers if timer[0] <= end), key=lambda timer: timer[:2]):
            self.timers.remove(due[0])
            self.now = due[0][0]
            due[0][2]()
        self.now = end

    def ask(self, number: int) -> None:
        self.evidence.ask(nonce(number), lambda answer: self.answers.__setitem__(number, answer))

    def wait_for_orders(self, made: Quoted | None = None) -> None:
        self.evidence.next(made, self.orders.append)

    def quoted(self) -> Quoted:
        order = self.orders[-1]
        assert order is not None
        return Quoted(order.number, QUOTE)

    def refusals(self) -> list[Code]:
        return [answer.code for answer in self.answers.values() if isinstance(answer, ProxyAttestationError)]


def nonce(number: int) -> bytes:
    return hashlib.sha256(str(number).encode()).digest()


@pytest.fixture
def bench(issuer: Issuer) -> Bench:
    return Bench(issuer)


def test_one_quote_answers_all_callers_of_a_batch(issuer: Issuer, bench: Bench) -> None:
    bench.wait_for_orders()
    for number in range(5):
        bench.ask(number)
    assert not bench.orders
    bench.move(self_evidence.GATHER_SECONDS)
    (order,) = bench.orders
    assert order is not None
    bench.wait_for_orders(bench.quoted())
    for number in range(5):
        answer = bench.answers[number]
        assert isinstance(answer, Proven)
        assert answer.info == issuer.hello()
        shown = decode_root_evidence(answer.evidence)
        assert (shown.tee, shown.evidence, shown.platform_certificates, shown.event_log) == QUOTE
        root = root_of_path(shown.path.index, shown.path.size, leaf_hash(nonce(number)), shown.path.hashes)
        wanted = bind_root(issuer.authority.root_facts(), root)
        assert order[1:] == (wanted.report_data, wanted.digest, wanted.nonce, wanted.spki)


def test_what_is_quoted_is_what_is_answered(issuer: Issuer) -> None:
    facts, info = issuer.authority.root_facts(), issuer.hello()
    assert hashlib.sha256(facts.issuing).digest() == info.ca_id
    assert facts.policy_digest == info.policy_digest
    assert (facts.ledger_key.decode(), facts.key_origin) == (info.ledger_key, info.key_origin)
    assert facts.root == issuer.authority.root.spki


def test_a_proxy_without_a_device_says_so_at_once(issuer: Issuer) -> None:
    bench = Bench(issuer, attested=False)
    bench.ask(1)
    assert bench.answers[1] == Proven(issuer.hello(), b"")


def test_callers_of_the_next_batch_wait_for_the_quote_before(bench: Bench) -> None:
    bench.wait_for_orders()
    bench.ask(1)
    bench.move(1)
    bench.ask(2)
    bench.move(1)
    assert len(bench.orders) == 1
    bench.wait_for_orders(bench.quoted())
    assert set(bench.answers) == {1}
    assert len(bench.orders) == 2
    bench.wait_for_orders(bench.quoted())
    assert set(bench.answers) == {1, 2}
    assert not bench.refusals()


def test_quotes_have_a_budget_and_batches_grow_meanwhile(bench: Bench) -> None:
    for number in range(100):  # ten callers a second
        bench.ask(number)
        if bench.orders and bench.orders[-1] is not None and bench.evidence._quoting is not None:
            bench.wait_for_orders(bench.quoted())
        elif bench.evidence._supervisor is None:
            bench.wait_for_orders()
        bench.move(0.1)
    quotes = [order for order in bench.orders if order is not None]
    assert len(quotes) <= self_evidence.QUOTE_BURST + 10 * self_evidence.QUOTE_RATE + 1
    assert not bench.refusals()


def test_a_caller_waits_no_longer_than_said(bench: Bench) -> None:
    bench.ask(1)  # the device never answers
    bench.move(self_evidence.WAIT_SECONDS)
    assert bench.refusals() == [Code.PROXY_EVIDENCE_BUSY]
    bench.wait_for_orders()
    assert not bench.orders


def test_a_quote_that_comes_too_late_answers_nobody(bench: Bench) -> None:
    bench.wait_for_orders()
    bench.ask(1)
    bench.move(self_evidence.WAIT_SECONDS)
    late = bench.quoted()
    bench.wait_for_orders(late)
    assert bench.refusals() == [Code.PROXY_EVIDENCE_BUSY]


def test_too_many_callers_are_told_to_come_back(bench: Bench) -> None:
    for number in range(ROOT_NONCES_MAX):
        bench.ask(number)
    with pytest.raises(UnavailableError) as caught:
        bench.ask(ROOT_NONCES_MAX)
    assert caught.value.code is Code.PROXY_EVIDENCE_BUSY


def test_a_quote_that_could_not_be_made(bench: Bench) -> None:
    bench.wait_for_orders()
    bench.ask(1)
    bench.move(1)
    bench.wait_for_orders(bench.quoted()._replace(quote=None))
    assert bench.refusals() == [Code.ATTESTER_UNAVAILABLE]


def test_a_quote_that_nobody_ordered_is_dropped(bench: Bench) -> None:
    bench.wait_for_orders()
    bench.ask(1)
    bench.move(1)
    bench.wait_for_orders(bench.quoted()._replace(number=12345))
    assert not bench.answers


def test_the_supervisor_is_told_that_there_is_nothing(bench: Bench) -> None:
    bench.wait_for_orders()
    bench.move(self_evidence.POLL_SECONDS)
    assert bench.orders == [None]
    bench.move(self_evidence.POLL_SECONDS)
    assert bench.orders == [None]


def test_over_the_sockets_only_the_supervisor_gets_orders(
    issuer: Issuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(self_evidence, "GATHER_SECONDS", 0.0)

    async def main() -> None:
        server = Server(issuer, attested=True)
        listening = await server.listen(bind(tmp_path / "authority.sock"))
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setblocking(False)
        await server.adopt(theirs, lambda: None)
        supervisor = await AuthorityClient.adopt(ours)
        worker = await AuthorityClient.connect(tmp_path / "authority.sock")
        for refused in (worker.next_quote(None), supervisor.evidence(bytes(32))):
            with pytest.raises(RefusedError) as caught:
                await refused
            assert caught.value.code is Code.AUTHORITY_CALLER
        ordered = asyncio.create_task(supervisor.next_quote(None))
        asked = asyncio.create_task(worker.evidence(nonce(1)))
        order = await ordered
        assert order is not None
        waiting = asyncio.create_task(supervisor.next_quote(Quoted(order.number, QUOTE)))
        proven = await asked
        assert decode_root_evidence(proven.evidence).evidence == QUOTE.evidence
        assert proven.info == issuer.hello()
        waiting.cancel()
        await worker.close()
        listening.close()
        await server.drain()

    asyncio.run(main())


def test_a_quote_of_the_proxy_is_no_evidence_for_a_certificate(issuer: Issuer, world: Any) -> None:
    """The other way round is `tests/relying_party/test_proxy_evidence.py`."""
    order = world.order(issuer.hello())
    root = bind_root(issuer.authority.root_facts(), nonce(1)).slots(Tee.SGX)
    (answer,) = issuer.issue_batch([replace(order, claims=replace(order.claims, bound=root))])
    assert isinstance(answer, RequestError)
    assert answer.code is Code.BINDER_MISMATCH
