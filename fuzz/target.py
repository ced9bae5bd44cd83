"""What a harness is."""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Target:
    """One harness.

    Attributes:
        parse: takes any bytes; what it returns does not matter.
        max_len: the longest input that is tried.
        seeds: what to begin with, for those that `seeds.py` does not know.
    """

    parse: Callable[[bytes], object]
    max_len: int = 4096
    seeds: Callable[[], list[bytes]] | None = None
