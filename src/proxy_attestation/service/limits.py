"""What one peer, and all peers together, may ask of one worker; docs/operations.md lists the bounds.

Nothing here waits: a call over a bound is answered at once with `limits.exhausted`. Every table is bounded.
"""

import ipaddress
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from proxy_attestation.authority.bucket import Bucket
from proxy_attestation.authority.token import CHALLENGE_LIFETIME
from proxy_attestation.codes import Code
from proxy_attestation.errors import RequestError, UnavailableError

PEERS_MAX: Final = 10_000
"""Peers remembered by a worker; the one not seen for longest is forgotten first."""
TRIES_MAX: Final = 3
"""Failed tries a session."""
COUNTERS: Final = 1 << 22
"""Counters of failed tries, of one byte each, for the sessions that expire in the same two minutes."""
RETRY_AFTER: Final = 1
"""Seconds after which a peer over a bound, or one that met something unavailable, should come back."""


class Bounds(NamedTuple):
    """The bounds of one worker.

    Attributes:
        in_flight: calls at once, from all peers.
        peer_in_flight: calls at once from one peer.
        peer_rate: calls a second that one peer may make in the long run.
        peer_burst: calls that one peer may make at once after a pause.
    """

    in_flight: int = 512
    peer_in_flight: int = 256
    peer_rate: int = 500
    peer_burst: int = 1000


class _Peer(Bucket):
    __slots__ = ("in_flight",)

    def __init__(self, rate: float, burst: float, now: float) -> None:
        super().__init__(rate, burst, now)
        self.in_flight = 0


class Admission:
    """Decides whether a call may start. One object a worker, shared by both fronts.

    Attributes:
        in_flight: how many calls have started and not ended.
    """

    def __init__(self, bounds: Bounds, clock: Callable[[], float], peers_max: int = PEERS_MAX) -> None:
        self.in_flight = 0
        self._bounds, self._clock, self._peers_max = bounds, clock, peers_max
        self._peers: OrderedDict[str, _Peer] = OrderedDict()

    @contextmanager
    def admit(self, peer: str) -> Iterator[None]:
        """Hold a place for one call of `peer` (a `peer_key`).

        Raises:
            UnavailableError: `limits.exhausted`.
        """
        state = self._peer(peer)
        if not state.take(self._clock()):
            raise UnavailableError(Code.LIMITS_EXHAUSTED, "calls a second of one peer")
        if state.in_flight >= self._bounds.peer_in_flight:
            raise UnavailableError(Code.LIMITS_EXHAUSTED, "calls at once of one peer")
        if self.in_flight >= self._bounds.in_flight:
            raise UnavailableError(Code.LIMITS_EXHAUSTED, "calls at once of all peers")
        state.in_flight += 1
        self.in_flight += 1
        try:
            yield
        finally:
            state.in_flight -= 1
            self.in_flight -= 1

    def _peer(self, key: str) -> _Peer:
        state = self._peers.get(key)
        if state is None:
            state = self._peers[key] = _Peer(self._bounds.peer_rate, self._bounds.peer_burst, self._clock())
            if len(self._peers) > self._peers_max:
                self._peers.popitem(last=False)
        else:
            self._peers.move_to_end(key)
        return state


class Tries:
    """Failed tries by session, so that nobody searches for what passes under one challenge.

    Counters, not a list of sessions: what is counted is never forgotten before its session has expired, however many
    sessions fail, and the memory is bounded. A session counts in the slot that its (random, authenticated) id says.
    Two sessions in one slot share their tries; who is refused for another's failures takes a new challenge, and so a
    new slot. Sessions that expire in the same two minutes share a table; no more than two tables are ever needed.
    """

    def __init__(self, counters: int = COUNTERS) -> None:
        self._counters = counters
        self._tables = [(0, bytearray(counters)), (0, bytearray(counters))]

    def check(self, session_id: bytes, now: int) -> None:
        """Refuse a session that has failed too often.

        Args:
            session_id: 16 bytes.
            now: seconds since the epoch.

        Raises:
            RequestError: `challenge.exhausted`.
        """
        slot = int.from_bytes(session_id, "big") % self._counters
        for period, table in self._tables:
            if period >= now // CHALLENGE_LIFETIME and table[slot] >= TRIES_MAX:
                raise RequestError(Code.CHALLENGE_EXHAUSTED, f"{TRIES_MAX} failed tries")

    def failed(self, session_id: bytes, expires_at: int) -> None:
        """Count one failed try; a table whose sessions have all expired makes way for the next.

        Args:
            session_id: 16 bytes.
            expires_at: of the session's challenge, seconds since the epoch, and no more than a challenge's life ahead.
        """
        slot = int.from_bytes(session_id, "big") % self._counters
        period = expires_at // CHALLENGE_LIFETIME
        known, table = self._tables[period % 2]
        if period > known:
            table = bytearray(self._counters)
            self._tables[period % 2] = period, table
        table[slot] = min(table[slot] + 1, TRIES_MAX)


def peer_key(address: str) -> str:
    """Return what a peer's budget is kept under: its IPv4 address, the /64 of its IPv6 address, or `other`.

    Args:
        address: `ADDRESS:PORT` with brackets around IPv6, or gRPC's spelling (`ipv4:...`, `ipv6:%5B...%5D:PORT`).
    """
    text = address.removeprefix("ipv4:").removeprefix("ipv6:").replace("%5B", "[").replace("%5D", "]")
    host = text.rpartition(":")[0].strip("[]").partition("%")[0]
    if host.count(".") == 3 and ":" not in host:
        return host
    try:
        parsed = ipaddress.ip_address(host)
    except ValueError:
        return "other"
    if isinstance(parsed, ipaddress.IPv6Address):
        mapped = parsed.ipv4_mapped
        return str(mapped) if mapped is not None else str(ipaddress.ip_network((parsed, 64), strict=False))
    return str(parsed)
