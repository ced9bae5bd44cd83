"""Which workers work with what is in force, so that whoever changed it can wait until all of them do.

A worker says with HELLO that it works with an authority, and then keeps one WATCH call open: the generation that it
works with by now, answered with the authority's as soon as that is another. So a worker that watches under a generation
answers nobody under an older one any more.
"""

import asyncio
from collections.abc import Callable
from typing import Final, Protocol

from proxy_attestation import log
from proxy_attestation.authority import wire

SWITCH_SECONDS: Final = 5.0
"""How long a worker may take to work with what is new; it is then cut off, and serves nothing until it has asked."""


class Peer(Protocol):
    """A worker's connection."""

    def send(self, frame: bytes) -> None:
        """Write a frame."""

    def abort(self) -> None:
        """End the connection now."""


class Watchers:
    """The workers of one server. Args of `__init__`: what returns the authority's generation."""

    def __init__(self, generation: Callable[[], int]) -> None:
        self._generation = generation
        self._open: dict[Peer, tuple[int, int] | None] = {}
        self._moved = asyncio.Event()

    def told(self, peer: Peer) -> None:
        """Note that a worker was told what is in force, and does not work with it yet."""
        self._open.setdefault(peer, None)

    def watch(self, peer: Peer, call_id: int, generation: int) -> None:
        """Take a worker's call: it works with `generation`."""
        self._open[peer] = call_id, generation
        self._moved.set()
        self.tell()

    def forget(self, peer: Peer) -> None:
        """Forget a worker whose connection has ended."""
        self._open.pop(peer, None)
        self._moved.set()

    def tell(self) -> None:
        """Answer every worker that works with another generation than there is."""
        now = self._generation()
        for peer, watched in self._open.items():
            if watched is not None and watched[1] != now:
                self._open[peer] = None
                peer.send(wire.encode_answer(watched[0], now))

    async def switched(self, seconds: float = SWITCH_SECONDS) -> None:
        """Wait until every worker works with what is in force now; cut off those that take longer."""
        wanted = self._generation()
        try:
            async with asyncio.timeout(seconds):
                while self._behind(wanted):
                    self._moved.clear()
                    await self._moved.wait()
        except TimeoutError:
            for peer in self._behind(wanted):
                log.warning("worker cut off: it does not take what is in force", generation=wanted)
                self.forget(peer)
                peer.abort()

    def _behind(self, wanted: int) -> list[Peer]:
        return [peer for peer, watched in self._open.items() if watched is None or watched[1] < wanted]
