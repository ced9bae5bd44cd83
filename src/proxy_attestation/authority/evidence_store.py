"""The evidence behind each leaf, kept beside the ledger until a week after the leaf has expired, for re-appraisal.

Opaque here: no byte of it is parsed in the process that holds the keys. It may go at any time without harm to issuing:
all of it together is bounded, and beyond the bound the oldest goes, what has expired first.
"""

import sqlite3
from collections.abc import Iterable
from itertools import chain
from typing import Final, NamedTuple

from proxy_attestation import log
from proxy_attestation.formats.bounds import EVIDENCE_STORE_MAX

KEPT_AFTER_EXPIRY: Final = 7 * 24 * 3600
"""Seconds after notAfter for which evidence is kept."""
FORGET_AT_ONCE: Final = 500
"""Rows that one call of `forget` takes out: the authority answers nobody meanwhile."""
_SLACK: Final = 512
"""Room made beyond what is needed, as a share of the bound, so that not each order has to make some."""

_INSERT: Final = "INSERT INTO evidence VALUES (?, ?, ?, ?, ?, ?)"
_SIZE: Final = "SELECT coalesce(sum(size), 0) FROM evidence"
# Both are read from the front of an index or of the table, as far as needed: neither sorts or sees a row's blobs.
_EXPIRED: Final = "SELECT idx, size FROM evidence WHERE not_after <= ? ORDER BY not_after LIMIT ?"
_LIVE: Final = "SELECT idx, size FROM evidence WHERE not_after > ? ORDER BY idx"
_DELETE: Final = "DELETE FROM evidence WHERE idx = ?"


class Kept(NamedTuple):
    """What is kept for one leaf.

    Attributes:
        entry: the index of the leaf's entry.
        not_after: of the leaf, seconds since the epoch.
        request: the request's exact bytes.
        spki: DER of the certified key.
        evidence: see `formats.kept_evidence`; at most `KEPT_EVIDENCE_MAX` bytes.
    """

    entry: int
    not_after: int
    request: bytes
    spki: bytes
    evidence: bytes


class EvidenceStore:
    """The table `evidence` on the ledger's connection; every method is called inside a transaction of the ledger's.

    Attributes:
        size: bytes that are kept.
        evicted: rows that went before their time since this was opened.
    """

    def __init__(self, connection: sqlite3.Connection, maximum: int = EVIDENCE_STORE_MAX) -> None:
        self.evicted = 0
        self.maximum = maximum
        self._connection = connection
        self.size: int = connection.execute(_SIZE).fetchone()[0]

    def keep(self, rows: Iterable[Kept], now: int) -> None:
        """Keep evidence, and make room for it where there is none."""
        values = [(*row[:2], len(row.request) + len(row.spki) + len(row.evidence), *row[2:]) for row in rows]
        self._connection.executemany(_INSERT, values)
        self.size += sum(value[2] for value in values)
        if self.size > self.maximum:
            self._evict(now)

    def due(self, now: int) -> bool:
        """Tell whether `forget` has something to do."""
        return bool(self._connection.execute(_EXPIRED, (now - KEPT_AFTER_EXPIRY, 1)).fetchone())

    def forget(self, now: int) -> None:
        """Take out what is past its time, at most `FORGET_AT_ONCE` rows."""
        self._delete(self._connection.execute(_EXPIRED, (now - KEPT_AFTER_EXPIRY, FORGET_AT_ONCE)).fetchall())

    def _evict(self, now: int) -> None:
        excess, found = self.size - self.maximum + self.maximum // _SLACK, []
        expired, live = self._connection.execute(_EXPIRED, (now, -1)), self._connection.execute(_LIVE, (now,))
        for index, size in chain(expired, live):
            found.append((index, size))
            excess -= size
            if excess <= 0:
                break
        expired.close()
        live.close()
        self._delete(found)
        self.evicted += len(found)
        log.warning("evidence evicted", rows=len(found), evicted=self.evicted, maximum=self.maximum)

    def _delete(self, found: list[tuple[int, int]]) -> None:
        self._connection.executemany(_DELETE, [(index,) for index, _ in found])
        self.size -= sum(size for _, size in found)
