"""What the ledger's file remembers of the life of certificates: which CA is active, further roots, what is revoked."""

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from proxy_attestation.formats.ledger_entry import EntryKind, LedgerEntry, decode_entry

_LIVE: Final = "SELECT idx, entry FROM entry WHERE kind IN (1, 3, 5) AND not_after > ?"
"""Certificates: leaves, CAs, the proxy's own."""


@dataclass(frozen=True, slots=True)
class Live:
    """A certificate in the ledger that has not expired.

    Attributes:
        index: of its entry.
        kind: a leaf, a CA, or the proxy's own.
        serial: 20 bytes, big-endian.
        spki_sha256: 32 bytes.
        not_after: seconds since the epoch.
    """

    index: int
    kind: EntryKind
    serial: bytes
    spki_sha256: bytes
    not_after: int


class Denial(NamedTuple):
    """One thing that is revoked and has not expired.

    Attributes:
        serial: 20 bytes, or None where every certificate of the key is meant.
        spki_sha256: 32 bytes.
        not_after: seconds since the epoch; after that nothing is left to deny.
    """

    serial: bytes | None
    spki_sha256: bytes
    not_after: int


class LifeTables(ABC):
    """The part of `ledger.Ledger` that is about life. What writes is called inside a transaction."""

    _connection: sqlite3.Connection

    @abstractmethod
    def _select(self, query: str, *values: object) -> list[Any]: ...

    def activations(self) -> dict[int, int]:
        """Return from when each CA signs, seconds since the epoch; one that is prepared is not among them."""
        return dict(self._select("SELECT number, at FROM activation"))

    def activate(self, number: int, at: int) -> None:
        """Record that a CA signs from now on."""
        self._connection.execute("INSERT INTO activation VALUES (?, ?)", (number, at))

    def roots(self) -> list[tuple[int, bytes, bytes, bytes]]:
        """Return (generation, certificate, forward, back) of each root after the first, in DER, the oldest first."""
        return self._select("SELECT generation, certificate, forward, back FROM root ORDER BY generation")

    def add_root(self, generation: int, certificate: bytes, forward: bytes, back: bytes) -> None:
        """Record a root whose events are in the ledger."""
        self._connection.execute("INSERT INTO root VALUES (?, ?, ?, ?)", (generation, certificate, forward, back))

    def is_revoked(self, spki_sha256: bytes) -> bool:
        """Tell whether a key, or a certificate of it, was ever revoked."""
        return bool(self._select("SELECT 1 FROM revoked WHERE spki_sha256 = ? LIMIT 1", spki_sha256))

    def revocation(self, serial: bytes | None, spki_sha256: bytes) -> int | None:
        """Return the index of the entry that revoked exactly this, or None."""
        query = "SELECT idx FROM revoked WHERE serial IS ? AND spki_sha256 = ?"
        return next((index for (index,) in self._select(query, serial, spki_sha256)), None)

    def add_revocation(self, index: int, denial: Denial) -> None:
        """Record what the entry `index` revoked."""
        values = (index, denial.serial, denial.spki_sha256, denial.not_after)
        self._connection.execute("INSERT INTO revoked VALUES (?, ?, ?, ?)", values)

    def denials(self, now: int) -> list[Denial]:
        """Return what is revoked and has not expired, in order of revocation."""
        query = "SELECT serial, spki_sha256, not_after FROM revoked WHERE not_after > ? ORDER BY idx"
        return [Denial(*row) for row in self._select(query, now)]

    def live_at(self, index: int, now: int) -> list[Live]:
        """Return the certificate whose entry has this index, if it is one that has not expired."""
        return list(self._live(" AND idx = ?", now, index))

    def live_of_key(self, spki_sha256: bytes, now: int) -> list[Live]:
        """Return the certificates of a key that have not expired."""
        return list(self._live(" AND spki_sha256 = ?", now, spki_sha256))

    def live_with_serial(self, serial: bytes, now: int) -> list[Live]:
        """Return the certificate with a serial number, if it has not expired. Looks through all that have not."""
        # Serial numbers have 159 random bits: that one occurs in another entry does not happen, and is found out.
        found = self._live(" AND instr(entry, ?) > 0", now, serial)
        return [live for live in found if live.serial == serial]

    def live_with_name(self, uri: bytes, now: int) -> list[Live]:
        """Return the leaves whose to-be-signed bytes hold an element, of which the URI name is meant (DER)."""
        return [live for live in self._live(" AND instr(tbs, ?) > 0", now, uri) if live.kind is EntryKind.LEAF]

    def _live(self, condition: str, now: int, *values: object) -> Iterator[Live]:
        for index, data in self._select(_LIVE + condition, now, *values):
            entry = decode_entry(data)
            yield Live(index, entry.kind, *_certificate(entry))


def _certificate(entry: LedgerEntry) -> tuple[bytes, bytes, int]:
    # Entries of these kinds have all three: the decoder refuses one that has not.
    return entry.serial or b"", entry.spki_sha256 or b"", entry.not_after or 0
