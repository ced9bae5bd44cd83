"""What a source gave, verified: a set of collateral ready for the cache; and how two of them are compared."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol, TypeAlias

from proxy_attestation.codes import Code
from proxy_attestation.errors import ProxyAttestationError, RefusedError, UnavailableError

Window: TypeAlias = tuple[datetime, datetime]
"""From when to when one piece holds, UTC."""


@dataclass(frozen=True, slots=True)
class FetchedSet:
    """A verified set.

    Attributes:
        name: what it is for, and the beginning of its directory's name: `sgx-00906ed50000`, `snp-milan`.
        files: content by file name.
        numbers: what never goes back, by name: evaluation numbers, issue dates (seconds since the epoch), CRL numbers.
            The name of a CRL number names its issuer too, since every issuer counts for itself.
        half_life: when half of the life of the first piece is over, UTC.
        valid_until: the earliest end of any piece, UTC.
    """

    name: str
    files: Mapping[str, bytes]
    numbers: Mapping[str, int]
    half_life: datetime
    valid_until: datetime


class Target(Protocol):
    """Something to keep fresh."""

    @property
    def name(self) -> str:
        """What it is for, see `FetchedSet.name`."""


def half_life(windows: Sequence[Window]) -> datetime:
    """Return the earliest middle of any window."""
    return min(start + (end - start) / 2 for start, end in windows)


def check_not_older(name: str, new: Mapping[str, int], held: Mapping[str, int]) -> None:
    """Check that no number goes back.

    Args:
        name: for the message.
        new: of the set that came.
        held: of the set that the cache has, or of a floor; numbers that only one side has say nothing.

    Raises:
        UnavailableError: `endorsements.stale`.
    """
    for what in sorted(new.keys() & held.keys()):
        if new[what] < held[what]:
            raise UnavailableError(
                Code.ENDORSEMENTS_STALE, f"{name}: {what} is {new[what]}, and {held[what]} is already known"
            )


def stale(name: str, detail: str) -> UnavailableError:
    """Return the error for an answer that holds no more."""
    return UnavailableError(Code.ENDORSEMENTS_STALE, f"{name}: {detail}")


def rejected(name: str, detail: str) -> RefusedError:
    """Return the error for an answer that is not genuine, or not what was asked."""
    return RefusedError(Code.ENDORSEMENTS_REJECTED, f"{name}: {detail}")


def source(name: str, detail: str) -> UnavailableError:
    """Return the error for an answer that no such service gives."""
    return UnavailableError(Code.ENDORSEMENTS_SOURCE, f"{name}: {detail}")


def translated(name: str, error: ProxyAttestationError) -> ProxyAttestationError:
    """Return an appraisal's error about collateral as one about its source: out of date, nonsense, or rejected."""
    word = str(error.code).rpartition(".")[2]
    if word.endswith("expired"):
        return stale(name, str(error))
    return source(name, str(error)) if word == "endorsements_malformed" else rejected(name, str(error))
