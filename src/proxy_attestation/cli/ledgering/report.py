"""How the `ledger` commands show entries, checkpoints and alarms."""

import dataclasses
import sys
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import IntEnum
from typing import Any

import click

from proxy_attestation.explanations import EXPLANATIONS
from proxy_attestation.formats.bounds import TIME_MAX
from proxy_attestation.formats.checkpoint import Checkpoint
from proxy_attestation.formats.ledger_entry import LedgerEntry
from proxy_attestation.transparency.monitor import Alarm, Event, NewEntry

_TIMES = ("not_before", "not_after")


def time_text(seconds: int) -> str:
    """Return a time of day, UTC."""
    return f"{datetime.fromtimestamp(min(seconds, TIME_MAX), UTC):%Y-%m-%dT%H:%M:%SZ}"


def entry_to_json(index: int, entry: LedgerEntry) -> dict[str, object]:
    """Return the fields that an entry has: bytes in hex, times readable, members by name."""
    fields = {field.name: getattr(entry, field.name) for field in dataclasses.fields(entry)}
    shown = {name: _value(name, value) for name, value in fields.items() if value is not None and value != ()}
    return {"index": index, **shown}


def _value(name: str, value: object) -> Any:
    match value:
        case bytes():
            return value.hex()
        case tuple():
            return [_value(name, one) for one in value]
        case IntEnum():
            return value.name.lower()
        case int() if name in _TIMES:
            return time_text(value)
        case _:
            return value


def checkpoint_to_json(checkpoint: Checkpoint) -> dict[str, object]:
    """Return origin, size and root."""
    return {"origin": checkpoint.origin, "size": checkpoint.size, "root": b64encode(checkpoint.root).decode()}


def event_to_json(event: Event) -> dict[str, object]:
    """Return one thing that a monitor saw."""
    if isinstance(event, Alarm):
        explanation = EXPLANATIONS[event.code]
        about = {} if event.index is None else {"index": event.index}
        told = {"cause": explanation.cause, "fix": explanation.fix}
        return {"event": "alarm", "code": str(event.code), "detail": event.detail, **about, **told}
    if isinstance(event, NewEntry):
        return {"event": "entry", **entry_to_json(event.index, event.entry)}
    return {"event": "checkpoint", "old_size": event.old_size, **checkpoint_to_json(event.checkpoint)}


def event_line(event: Event) -> str:
    """Return the same for people, on one line."""
    if isinstance(event, Alarm):
        where = "" if event.index is None else f"entry {event.index}: "
        return f"ALARM {event.code}: {where}{event.detail}"
    if isinstance(event, NewEntry):
        fields = entry_to_json(event.index, event.entry)
        kind = fields.pop("kind")
        parts = " ".join(f"{name}={_text(value)}" for name, value in fields.items() if name != "index")
        return f"entry {event.index} {kind} {parts}"
    return f"checkpoint {event.checkpoint.size} entries, {event.checkpoint.size - event.old_size} new"


def _text(value: object) -> str:
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


@contextmanager
def progress(total: int) -> Iterator[Callable[[int], object]]:
    """Show a bar on standard error, where that is a terminal and there is much to do."""
    if total < 10_000 or not sys.stderr.isatty():
        yield lambda _: None
        return
    with click.progressbar(length=total, label="entries", file=sys.stderr) as shown:
        yield shown.update
