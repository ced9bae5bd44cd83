"""Reads the stored tree: whoever has the ledger's file open, the authority or a reader that cannot write.

Stored with an entry are the hashes of the subtrees that it completed, from its leaf upwards: node (level, n), the root
over the entries from n << level to before (n + 1) << level, stands in the row of the last of them, at octet 32 * level.
Every tile and every proof is read from such nodes; those at the right edge of a tree are computed from at most 63.
"""

import sqlite3
from typing import Final

from proxy_attestation.codes import Code
from proxy_attestation.errors import UnavailableError
from proxy_attestation.formats import merkle
from proxy_attestation.formats.tlog_proof import TlogProof

SIGNED: Final = "signed"
WITNESSED: Final = "witnessed"
WITNESS_QUORUM: Final = "witness_quorum"
"""The name of the single value that says how many witnesses must have cosigned what is published; 1 byte."""

_NODE: Final = "SELECT substr(hashes, ?, 32) FROM node WHERE idx = ?"
_ENTRY: Final = "SELECT entry FROM entry WHERE idx = ?"
_LEAVES: Final = "SELECT substr(hashes, 1, 32) FROM node WHERE idx >= ? AND idx < ? ORDER BY idx"


class Nodes:
    """Reads nodes. Args of `__init__`: a connection to the ledger's file. Its errors are the callers' to translate."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def node(self, level: int, index: int) -> bytes:
        """Return the root over the entries from index << level to before (index + 1) << level, all of which exist.

        Raises:
            UnavailableError: `ledger.inconsistent`, when it is not stored.
        """
        row = self._connection.execute(_NODE, (32 * level + 1, ((index + 1) << level) - 1)).fetchone()
        if row is None or len(row[0]) != merkle.HASH_LENGTH:
            raise UnavailableError(Code.LEDGER_INCONSISTENT, f"node {index} of level {level} is not stored")
        found: bytes = row[0]
        return found

    def nodes(self, level: int, first: int, count: int) -> bytes:
        """Return the hashes of some neighbours, one after the other.

        Raises:
            UnavailableError: `ledger.inconsistent`, when one is not stored.
        """
        if level:
            return b"".join(self.node(level, index) for index in range(first, first + count))
        rows = self._connection.execute(_LEAVES, (first, first + count)).fetchall()
        if len(rows) != count:
            raise UnavailableError(
                Code.LEDGER_INCONSISTENT, f"of leaves {first} and on, {count}, {len(rows)} are stored"
            )
        return b"".join(leaf for (leaf,) in rows)

    def frontier(self, size: int) -> merkle.Frontier:
        """Return the right edge of the tree over the first `size` entries.

        Raises:
            UnavailableError: `ledger.inconsistent`.
        """
        return merkle.read_frontier(self.node, size)

    def proof(self, index: int, size: int, note: bytes) -> bytes:
        """Return the tlog-proof of an entry under a checkpoint over `size` entries, of which it is one.

        The proof carries the entry as its `extra`, so that it can be verified without anything else.

        Raises:
            UnavailableError: `ledger.inconsistent`.
        """
        row = self._connection.execute(_ENTRY, (index,)).fetchone()
        if row is None:
            raise UnavailableError(Code.LEDGER_INCONSISTENT, f"entry {index} is not stored")
        return TlogProof(index, merkle.inclusion_proof(self.node, index, size), note, row[0]).encode()

    def consistency(self, before: int, size: int) -> tuple[bytes, ...]:
        """Return the proof that the tree over `size` entries continues that over the first `before`.

        Raises:
            RefusedError: `ledger.proof`, when there are not as many as `before`.
            UnavailableError: `ledger.inconsistent`.
        """
        return merkle.consistency_proof(self.node, before, size)
