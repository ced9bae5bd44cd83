"""A token bucket: how often something may happen, in the long run and at once. The clock is the caller's."""


class Bucket:
    """`rate` tokens a second, at most `burst` kept; full at `now`, which is monotonic seconds here and below."""

    __slots__ = ("_burst", "_level", "_rate", "_stamp")

    def __init__(self, rate: float, burst: float, now: float) -> None:
        self._rate, self._burst, self._level, self._stamp = rate, burst, burst, now

    def take(self, now: float) -> bool:
        """Take one token, if there is one."""
        self._level = min(self._burst, self._level + (now - self._stamp) * self._rate)
        self._stamp = now
        if self._level < 1:
            return False
        self._level -= 1
        return True
