"""Ledgers of authorities in memory, closed when a test ends."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from proxy_attestation.authority import ledger


@contextmanager
def closing_ledgers(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Close every ledger that is opened inside: Python 3.13 warns of those that nobody closed."""
    opened: list[sqlite3.Connection] = []
    connect = ledger._connect

    def remembered(path: Path | None) -> sqlite3.Connection:
        opened.append(connect(path))
        return opened[-1]

    monkeypatch.setattr(ledger, "_connect", remembered)
    yield
    for connection in opened:
        connection.close()
