"""The proxy's evidence of itself: nonces of callers are gathered, and one quote answers all of a batch.

What is quoted is composed here, of what is in force here, and goes out on the supervisor's connection alone: a worker
that was taken over gets evidence over its nonce and nothing else of its choice. The supervisor has the quote made by a
process that holds the device; meanwhile nothing here waits, and the bytes that come back are passed on unread.

A caller waits `GATHER_SECONDS` for others, then for a token of the bucket (`QUOTE_RATE`), then for the quote, and no
longer than `WAIT_SECONDS` in all; beyond that, and beyond `ROOT_NONCES_MAX` callers, it is `proxy.evidence_busy`.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, TypeAlias

from proxy_attestation.authority.authority import Authority
from proxy_attestation.authority.bucket import Bucket
from proxy_attestation.authority.messages import Proven, Quoted, ToQuote
from proxy_attestation.codes import Code
from proxy_attestation.errors import ProxyAttestationError, UnavailableError
from proxy_attestation.formats.bounds import ROOT_NONCES_MAX
from proxy_attestation.formats.merkle import inclusion_proof, leaf_hash, perfect_root, range_root
from proxy_attestation.formats.root_binder import bind_root
from proxy_attestation.formats.root_evidence import NoncePath, RootEvidence, encode_root_evidence

GATHER_SECONDS: Final = 0.2
"""How long the first caller of a batch waits for others."""
QUOTE_RATE: Final = 1 / 2
"""Quotes a second, in the long run. A TPM makes about one; a hypervisor may throttle a guest that asks for more."""
QUOTE_BURST: Final = 4
"""Quotes at once, after a pause."""
WAIT_SECONDS: Final = 8.0
"""How long a caller waits; a worker gives up after `client.CALL_TIMEOUT`."""
POLL_SECONDS: Final = 5.0
"""After which the supervisor, which waits for something to quote, is told that there is nothing."""

Reply: TypeAlias = Callable[[Proven | ProxyAttestationError], None]
Order: TypeAlias = Callable[[ToQuote | None], None]
Later: TypeAlias = Callable[[float, Callable[[], None]], object]


@dataclass(slots=True, eq=False)
class _Batch:
    """Callers with their nonces, while they wait; in the order of the tree's leaves."""

    callers: list[tuple[bytes, Reply]]
    number: int = 0
    info: Proven | None = None


class SelfEvidence:
    """Batches of callers. One a server; `later` calls a function after so many seconds, `clock` is monotonic."""

    def __init__(self, authority: Authority, later: Later, clock: Callable[[], float], *, attested: bool) -> None:
        """Begin without callers; `attested` tells whether the supervisor has a device to quote with."""
        self._authority, self._later, self._clock, self._attested = authority, later, clock, attested
        self._bucket = Bucket(QUOTE_RATE, QUOTE_BURST, clock())
        self._gathering: _Batch | None = None
        self._due: _Batch | None = None
        self._quoting: _Batch | None = None
        self._supervisor: Order | None = None

    def ask(self, nonce: bytes, reply: Reply) -> None:
        """Take a caller; `reply` is called once: with evidence, or empty evidence where the proxy has none.

        Args:
            nonce: the caller's, 32 bytes.
            reply: takes the answer or an UnavailableError: `proxy.evidence_busy`, `attester.unavailable`.

        Raises:
            UnavailableError: `proxy.evidence_busy`, when too many wait.
        """
        if not self._attested:
            reply(Proven(self._authority.info(), b""))
            return
        batch = self._gathering
        if batch is None:
            batch = self._gathering = _Batch([])
            self._later(GATHER_SECONDS, lambda: self._gathered(batch))
            self._later(WAIT_SECONDS, lambda: self._fail(batch, Code.PROXY_EVIDENCE_BUSY, "the budget of quotes"))
        if len(batch.callers) >= ROOT_NONCES_MAX:
            raise UnavailableError(Code.PROXY_EVIDENCE_BUSY, f"{ROOT_NONCES_MAX} callers wait")
        batch.callers.append((nonce, reply))

    def next(self, made: Quoted | None, order: Order) -> None:
        """Take what the supervisor had quoted, and give it the next thing to quote when there is one."""
        if made is not None:
            self._made(made)
        self._supervisor = order
        self._later(POLL_SECONDS, lambda: self._poll(order))
        self._start()

    def _gathered(self, batch: _Batch) -> None:
        if self._gathering is not batch:
            return
        if self._due is not None or not self._bucket.take(self._clock()):
            # The one before has not been given out, or there is no token: more callers may come to this one.
            self._later(GATHER_SECONDS, lambda: self._gathered(batch))
            return
        self._due, self._gathering = batch, None
        self._start()

    def _start(self) -> None:
        batch, supervisor = self._due, self._supervisor
        if batch is None or supervisor is None:
            return
        self._due, self._supervisor = None, None
        facts, info = self._authority.root_facts(), self._authority.info()
        leaves = [leaf_hash(nonce) for nonce, _ in batch.callers]
        binding = bind_root(facts, range_root(_reader(leaves), 0, len(leaves)))
        batch.number, batch.info = int.from_bytes(os.urandom(7), "big"), Proven(info, b"")
        self._quoting = batch
        supervisor(ToQuote(batch.number, binding.report_data, binding.digest, binding.nonce, binding.spki))

    def _made(self, made: Quoted) -> None:
        batch = self._quoting
        if batch is None or batch.number != made.number or batch.info is None:
            return  # it was given up, or asked for by the authority that ran before this one
        self._quoting = None
        quote = made.quote
        if quote is None:
            self._fail(batch, Code.ATTESTER_UNAVAILABLE, "no quote of the proxy itself could be made")
            return
        read, size = _reader([leaf_hash(nonce) for nonce, _ in batch.callers]), len(batch.callers)
        for index, (_, reply) in enumerate(batch.callers):
            path = NoncePath(index, size, inclusion_proof(read, index, size))
            evidence = RootEvidence(quote.tee, quote.evidence, path, quote.certificates, quote.event_log)
            reply(Proven(batch.info.info, encode_root_evidence(evidence)))
        batch.callers = []

    def _fail(self, batch: _Batch, code: Code, detail: str) -> None:
        callers, batch.callers = batch.callers, []
        for name in ("_gathering", "_due", "_quoting"):
            if getattr(self, name) is batch:
                setattr(self, name, None)
        for _, reply in callers:
            reply(UnavailableError(code, detail))

    def _poll(self, order: Order) -> None:
        if self._supervisor is order:
            self._supervisor = None
            order(None)


def _reader(leaves: list[bytes]) -> Callable[[int, int], bytes]:
    """Return what reads nodes over the hashes of leaves."""
    return lambda level, index: perfect_root(leaves[index << level : (index + 1) << level])
