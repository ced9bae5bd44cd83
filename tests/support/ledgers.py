"""Ledgers of authorities in memory, closed when a test ends."""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

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


class FixedLogKey:
    """The key of a log in a test."""

    def __init__(self, secret: bytes = b"\x10" * 32) -> None:
        self._key = Ed25519PrivateKey.from_private_bytes(secret)
        self.public_key = self._key.public_key().public_bytes_raw()

    def sign(self, text: bytes) -> bytes:
        return self._key.sign(text)


ORIGIN = "example.org/issuance/test"
LOG_KEY = FixedLogKey()


def signing(opened: ledger.Ledger) -> ledger.Ledger:
    """Give a ledger what it signs with."""
    opened.sign_with(ORIGIN, LOG_KEY)
    return opened
