"""What one peer, and all peers together, may ask of one worker; docs/operations.md lists the bounds.

Nothing here waits: a call over a bound is answered at once with `limits.exhausted`. Every table is bounded.
"""

import ipaddress
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from proxy_attestation.codes import Code
from proxy_attestation.errors import RequestError, UnavailableError

PEERS_MAX: Final = 10_000
"""Peers remembered by a worker; the one not seen for longest is forgotten first."""
SESSIONS_MAX: Final = 10_000
"""Sessions with failed tries remembered by a worker."""
TRIES_MAX: Final = 3
"""Failed tries a session."""
RETRY_AFTER: Final = 1
"""Seconds after which a peer over a bound, or one that met something unavailable, should come back."""


@dataclass(frozen=True, slots=True)
class Bounds:
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


class Bucket:
    """A token bucket: `rate` tokens a second, at most `burst` kept."""

    __slots__ = ("_burst", "_level", "_rate", "_stamp")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate = rate
        self._burst = burst
        self._level = burst
        self._stamp = now

    def take(self, now: float) -> bool:
        """Take one token, if there is one; `now` is monotonic seconds."""
        self._level = min(self._burst, self._level + (now - self._stamp) * self._rate)
        self._stamp = now
        if self._level < 1:
            return False
        self._level -= 1
        return True


class _Peer:
    __slots__ = ("bucket", "in_flight")

    def __init__(self, bucket: Bucket) -> None:
        self.bucket = bucket
        self.in_flight = 0


class Admission:
    """Decides whether a call may start. One object a worker, shared by both fronts."""

    def __init__(self, bounds: Bounds, clock: Callable[[], float], peers_max: int = PEERS_MAX) -> None:
        self._bounds = bounds
        self._clock = clock
        self._peers_max = peers_max
        self._peers: OrderedDict[str, _Peer] = OrderedDict()
        self._in_flight = 0

    @property
    def in_flight(self) -> int:
        """How many calls have started and not ended."""
        return self._in_flight

    @contextmanager
    def admit(self, peer: str) -> Iterator[None]:
        """Hold a place for one call of `peer` (a `peer_key`).

        Raises:
            UnavailableError: `limits.exhausted`.
        """
        state = self._peer(peer)
        if not state.bucket.take(self._clock()):
            raise UnavailableError(Code.LIMITS_EXHAUSTED, "calls a second of one peer")
        if state.in_flight >= self._bounds.peer_in_flight:
            raise UnavailableError(Code.LIMITS_EXHAUSTED, "calls at once of one peer")
        if self._in_flight >= self._bounds.in_flight:
            raise UnavailableError(Code.LIMITS_EXHAUSTED, "calls at once of all peers")
        state.in_flight += 1
        self._in_flight += 1
        try:
            yield
        finally:
            state.in_flight -= 1
            self._in_flight -= 1

    def _peer(self, key: str) -> _Peer:
        state = self._peers.get(key)
        if state is None:
            state = _Peer(Bucket(self._bounds.peer_rate, self._bounds.peer_burst, self._clock()))
            self._peers[key] = state
            if len(self._peers) > self._peers_max:
                self._peers.popitem(last=False)
        else:
            self._peers.move_to_end(key)
        return state


class Tries:
    """Failed tries by session, so that nobody searches for what passes under one challenge."""

    def __init__(self, sessions_max: int = SESSIONS_MAX) -> None:
        self._sessions_max = sessions_max
        self._sessions: OrderedDict[bytes, tuple[int, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._sessions)

    def check(self, session_id: bytes, now: int) -> None:
        """Refuse a session that has failed too often.

        Raises:
            RequestError: `challenge.exhausted`.
        """
        failed, expires_at = self._sessions.get(session_id, (0, 0))
        if failed >= TRIES_MAX and now <= expires_at:
            raise RequestError(Code.CHALLENGE_EXHAUSTED, f"{failed} failed tries")

    def failed(self, session_id: bytes, expires_at: int, now: int) -> None:
        """Count one failed try; sessions that have expired are forgotten.

        Args:
            session_id: 16 bytes.
            expires_at: of the session's challenge, seconds since the epoch.
            now: seconds since the epoch.
        """
        count, _ = self._sessions.pop(session_id, (0, 0))
        while self._sessions:
            oldest = next(iter(self._sessions))
            if len(self._sessions) < self._sessions_max and self._sessions[oldest][1] >= now:
                break
            del self._sessions[oldest]
        self._sessions[session_id] = (count + 1, expires_at)


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
