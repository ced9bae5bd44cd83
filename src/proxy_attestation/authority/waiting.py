"""Answers that wait for witnesses: the certificate stands in the ledger, but too few have cosigned a checkpoint."""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Final, NamedTuple, TypeAlias

from proxy_attestation.authority.messages import Issued
from proxy_attestation.codes import Code
from proxy_attestation.errors import ProxyAttestationError, UnavailableError

WITNESS_SECONDS: Final = 2.0
"""How long an answer waits. The same call finds the certificate later."""

Tell: TypeAlias = Callable[[Issued | ProxyAttestationError], None]
"""Sends an answer."""


class _Waiter(NamedTuple):
    deadline: float
    issued: Issued
    tell: Tell


class Waiting:
    """Those who wait, in the order in which they came."""

    def __init__(self) -> None:
        self._waiters: deque[_Waiter] = deque()

    def __len__(self) -> int:
        return len(self._waiters)

    def add(self, issued: Issued, tell: Tell) -> None:
        """Tell the certificate once it has a proof, or `ledger.witness` after `WITNESS_SECONDS`."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + WITNESS_SECONDS
        if not self._waiters or self._waiters[-1].deadline != deadline:
            loop.call_at(deadline, self.give_up, deadline)
        self._waiters.append(_Waiter(deadline, issued, tell))

    def published(self, size: int, prove: Callable[[int], bytes]) -> None:
        """Answer all whose entry is among the first `size`; `prove` makes a proof for an index."""
        waiters, self._waiters = self._waiters, deque()
        for waiter in waiters:
            if waiter.issued.index >= size:
                self._waiters.append(waiter)
                continue
            try:
                waiter.tell(replace(waiter.issued, proof=prove(waiter.issued.index)))
            except ProxyAttestationError as error:
                waiter.tell(error)

    def give_up(self, deadline: float = float("inf")) -> None:
        """Let all whose time has come wait no longer."""
        while self._waiters and self._waiters[0].deadline <= deadline:
            waiter = self._waiters.popleft()
            waiter.tell(UnavailableError(Code.LEDGER_WITNESS, f"entry {waiter.issued.index}"))
