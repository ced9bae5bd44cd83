"""How long to wait before trying again."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Backoff:
    """Doubling delays between two bounds, spread so that many loaders do not come back at the same moment.

    Attributes:
        first: seconds, before the first repetition.
        most: seconds.
        spread: the share of the delay by which it may be shorter or longer, 0 to 1.
    """

    first: float
    most: float
    spread: float = 0.2

    def delay(self, failures: int, chance: float) -> float:
        """Return the seconds to wait after so many failures in a row.

        Args:
            failures: at least 1.
            chance: a random number, 0 to 1.
        """
        plain = min(self.first * 2.0 ** min(failures - 1, 32), self.most)
        return plain * (1 + self.spread * (2 * chance - 1))
