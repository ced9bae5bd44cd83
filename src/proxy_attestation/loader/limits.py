"""What sessions and connections may use at most. Everything that waits has an end, everything that grows a bound."""

from dataclasses import dataclass
from typing import Final

MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class SessionLimits:
    """Bounds of the terminated protocols; the defaults serve small services.

    Attributes:
        message: bytes of one request or reply body.
        streams: concurrent HTTP/2 streams of one connection.
        headers: bytes of one header section.
        handshake_s: for the TLS handshake.
        request_s: from a request's first byte to its last.
        write_s: for the peer to take what is written.
        idle_s: between two requests of one connection.
        answer_s: for the application, however long the caller would wait.
    """

    message: int = 4 * MIB
    streams: int = 100
    headers: int = 16 * 1024
    handshake_s: float = 10.0
    request_s: float = 60.0
    write_s: float = 60.0
    idle_s: float = 900.0
    answer_s: float = 10.0


class Budget:
    """Bytes of request bodies that all connections together may hold."""

    def __init__(self, limit: int = 256 * MIB) -> None:
        self._left = limit

    @property
    def left(self) -> int:
        """Bytes that can still be taken."""
        return self._left

    def take(self, count: int) -> bool:
        """Take `count` bytes, or none and return False."""
        if count > self._left:
            return False
        self._left -= count
        return True

    def give(self, count: int) -> None:
        """Return bytes that were taken."""
        self._left += count
