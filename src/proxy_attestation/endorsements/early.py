"""What the coming TCB release would do to platforms that get certificates today, kept for who asks.

Written by the process that keeps collateral fresh, into `.early.json` beside the sets; read by `endorsements status`
and for the metrics. Nothing trusts it: it is a warning.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from proxy_attestation.endorsements.durable import read_bounded, replace
from proxy_attestation.endorsements.status import parse_stamp, stamp
from proxy_attestation.errors import ProxyAttestationError

FILE: Final = ".early.json"
REFUSED_NAMED_MAX: Final = 10
"""Platforms that are named; all are counted."""
_FILE_MAX: Final = 256 * 1024
_UNREADABLE: Final = (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, ProxyAttestationError)


@dataclass(frozen=True, slots=True)
class Early:
    """The outlook for one set's platforms.

    Attributes:
        at: when the coming release was fetched.
        number: its evaluation number.
        held: the evaluation number of the set that is in use.
        platforms: how many were seen and judged.
        refused: how many of them it would refuse: out of date, revoked, or of no known level.
        named: of those some, by the beginning of the SHA-256 of their PCK certificates, hex.
    """

    at: datetime
    number: int
    held: int
    platforms: int
    refused: int
    named: tuple[str, ...] = ()


def write_early(directory: Path, found: Mapping[str, Early]) -> None:
    """Write all outlooks, by the names of their sets.

    Raises:
        OSError: it cannot be written.
    """
    sets = {
        name: {
            "at": stamp(early.at),
            "number": early.number,
            "held": early.held,
            "platforms": early.platforms,
            "refused": early.refused,
            "named": list(early.named),
        }
        for name, early in sorted(found.items())
    }
    replace(directory / FILE, f"{json.dumps({'sets': sets}, indent=1)}\n".encode())


def read_early(directory: Path) -> dict[str, Early]:
    """Read them; what cannot be read is as if it had never been written."""
    try:
        sets = json.loads(read_bounded(directory / FILE, _FILE_MAX))["sets"]
        return {str(name): _early(value) for name, value in sets.items()}
    except _UNREADABLE:
        return {}


def _early(value: Mapping[str, object]) -> Early:
    at = parse_stamp(value["at"])
    numbers = [value[key] for key in ("number", "held", "platforms", "refused")]
    named = value["named"]
    if at is None or not isinstance(named, list) or not all(isinstance(item, str) for item in named):
        raise ValueError
    number, held, platforms, refused = (item if type(item) is int else -1 for item in numbers)
    if min(number, held, platforms, refused) < 0:
        raise ValueError
    return Early(at, number, held, platforms, refused, tuple(named))
