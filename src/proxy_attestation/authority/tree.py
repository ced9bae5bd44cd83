"""The Merkle tree over the entries: each transaction that appends also extends it and signs a checkpoint over all.

Before that it reads back what it builds on (`nodes.py` says how nodes are stored): as many entries and nodes as the
checkpoint counts that this process signed or verified last, that very checkpoint, and a frontier that has its root.
Where they differ (`ledger.inconsistent`), nothing is signed any more until the process is started again, and a start
looks at the same things and more.
"""

import sqlite3
from collections.abc import Sequence
from typing import Final, NamedTuple, NoReturn

from proxy_attestation.authority.keys import LogKey
from proxy_attestation.authority.nodes import SIGNED, WITNESSED, Nodes
from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError, FormatError, RefusedError, RequestError, UnavailableError
from proxy_attestation.formats.checkpoint import Checkpoint, open_checkpoint
from proxy_attestation.formats.merkle import Frontier, leaf_hash, node_hash
from proxy_attestation.formats.signed_note import KeyType, Note, Signature, Verifier, parse_vkey

START_ENTRIES: Final = 1 << 17
"""Entries, the newest, from which a start recomputes the root; the audit in the background reads all of them."""
WITNESSES_MAX: Final = 16

_AT_ONCE: Final = 4096

_STORED: Final = "SELECT (SELECT max(idx) FROM entry), (SELECT max(idx) FROM node)"
_NOTE: Final = "SELECT size, note FROM checkpoint WHERE name = ?"
_SET_NOTE: Final = (
    "INSERT INTO checkpoint VALUES (?, ?, ?)"
    " ON CONFLICT (name) DO UPDATE SET size = excluded.size, note = excluded.note"
)
_ENTRIES: Final = "SELECT entry, hashes FROM entry JOIN node USING (idx) WHERE idx >= ? AND idx < ? ORDER BY idx"


class Head(NamedTuple):
    """A checkpoint that we signed.

    Attributes:
        size: entries.
        root: 32 bytes.
        note: the signed note, with the cosignatures that came with it.
    """

    size: int
    root: bytes
    note: bytes


class Witnesses(NamedTuple):
    """Who must have cosigned a checkpoint before an answer rests on it.

    Attributes:
        quorum: how many of them; with 0 nobody waits.
        verifiers: of every witness.
    """

    quorum: int
    verifiers: tuple[Verifier, ...]


NO_WITNESSES: Final = Witnesses(0, ())


def read_witnesses(vkeys: Sequence[str], quorum: int) -> Witnesses:
    """Read the keys of witnesses, each a vkey of type 04 and another's.

    Raises:
        ConfigurationError: `configuration.malformed`, for anything else, and for more cosignatures than there are
            witnesses.
    """
    try:
        verifiers = tuple(dict.fromkeys(parse_vkey(vkey) for vkey in vkeys))
    except FormatError as error:
        raise ConfigurationError(Code.CONFIGURATION_MALFORMED, f"[[witness]]: vkey: {error.detail}") from error
    names = {verifier.name for verifier in verifiers}
    problem = None
    if any(verifier.type is not KeyType.COSIGNATURE for verifier in verifiers):
        problem = "[[witness]]: vkey: not a witness's (type 04)"
    elif not len(names) == len({verifier.public_key for verifier in verifiers}) == len(vkeys) <= WITNESSES_MAX:
        problem = f"[[witness]]: at most {WITNESSES_MAX}, and each name and key once"
    elif not 0 <= quorum <= len(verifiers):
        problem = f"witness_quorum: {quorum} of {len(verifiers)} witnesses"
    if problem is not None:
        raise ConfigurationError(Code.CONFIGURATION_MALFORMED, problem)
    return Witnesses(quorum, verifiers)


class Tree:
    """The tree of one open ledger. What SQLite raises is the callers' to translate.

    Args of `__init__`: the ledger's connection, its origin, the log's key.

    Attributes:
        log: the log's public key.
        signed: the newest checkpoint; None before the first entry.
        witnessed: the newest one with enough cosignatures, or None.
    """

    def __init__(self, connection: sqlite3.Connection, origin: str, key: LogKey) -> None:
        self.log = Verifier(origin, KeyType.ED25519, key.public_key)
        self.signed: Head | None = None
        self.witnessed: Head | None = None
        self._nodes = Nodes(connection)
        self._connection = connection
        self._key = key
        self._key_id = self.log.key_id
        self._witnesses = NO_WITNESSES
        self._broken = ""
        self._audit: _Audit | None = None

    @property
    def published(self) -> Head | None:
        """The newest checkpoint that answers may rest on: cosigned by enough witnesses, where any are required."""
        return self.witnessed if self._witnesses.quorum else self.signed

    def load(self, size: int) -> None:
        """Verify what is stored: signatures, frontier, and the root recomputed from the newest `START_ENTRIES` entries.

        Args:
            size: entries that are stored.

        Raises:
            UnavailableError: `ledger.inconsistent`.
        """
        self.signed, self.witnessed = self._stored(SIGNED), self._stored(WITNESSED)
        self.frontier(size)
        self._audit = _Audit(self._nodes.frontier(max(0, size - START_ENTRIES)))
        while not self.audit(_AT_ONCE):
            pass

    def frontier(self, size: int) -> Frontier:
        """Read back what the next entry builds on.

        Args:
            size: entries that the caller knows of.

        Raises:
            UnavailableError: `ledger.inconsistent`.
        """
        self._require()
        signed = self.signed
        last = self._connection.execute(_STORED).fetchone()
        note = self._connection.execute(_NOTE, (SIGNED,)).fetchone()
        expected: tuple[object, ...] = 0, (None, None), None
        if signed is not None:
            expected = signed.size, (signed.size - 1, signed.size - 1), (signed.size, signed.note)
        if (size, last, note) != expected:
            known = 0 if signed is None else signed.size
            self._stop(f"{known} entries are signed; the last stored have indexes {last}, or the checkpoint is another")
        try:
            found = self._nodes.frontier(size)
        except UnavailableError as error:
            self._stop(error.detail)
        if signed is not None and found.root != signed.root:
            self._stop("the stored frontier does not have the root of the newest checkpoint")
        return found

    def extend(self, frontier: Frontier, entries: Sequence[bytes]) -> Head:
        """Store the nodes of new entries and sign the checkpoint over all, inside their transaction.

        Args:
            frontier: as it was before them.
            entries: their bytes.

        Returns:
            The checkpoint, for `signed` once the transaction is committed.
        """
        rows = []
        for entry in entries:
            index = frontier.size
            frontier, made = frontier.append(leaf_hash(entry))
            rows.append((index, b"".join(digest for _, _, digest in made)))
        self._connection.executemany("INSERT INTO node VALUES (?, ?)", rows)
        text = Checkpoint(self.log.name, frontier.size, frontier.root).text
        note = Note(text, (Signature(self.log.name, self._key_id, self._key.sign(text.encode())),)).encode()
        self._connection.execute(_SET_NOTE, (SIGNED, frontier.size, note))
        return Head(frontier.size, frontier.root, note)

    def proof(self, index: int) -> bytes:
        """Return the tlog-proof of an entry under the published checkpoint; nothing where that does not cover it yet.

        Raises:
            UnavailableError: `ledger.inconsistent`.
        """
        self._require()
        head = self.published
        return self._nodes.proof(index, head.size, head.note) if head is not None and index < head.size else b""

    def require_witnesses(self, witnesses: Witnesses) -> None:
        """Publish only what so many witnesses have cosigned; what is stored counts if it satisfies that."""
        self._witnesses = witnesses
        if self.witnessed is not None and self._cosigned(self.witnessed.note) is None:
            self.witnessed = None

    def cosign(self, note: bytes) -> Head:
        """Take a checkpoint of ours with cosignatures of witnesses, inside a transaction.

        Returns:
            The newest cosigned checkpoint, for `witnessed` once the transaction is committed.

        Raises:
            RequestError: `ledger.cosignature`, when it is not one that we signed of this very tree, or too few of the
                cosignatures are good.
            UnavailableError: `ledger.inconsistent`.
        """
        self._require()
        head = self._cosigned(note)
        if head is None or self.signed is None or head.size > self.signed.size:
            raise RequestError(Code.LEDGER_COSIGNATURE, "not a checkpoint of this ledger with enough cosignatures")
        if self._nodes.frontier(head.size).root != head.root:
            self._stop(f"the log's key has signed another root for {head.size} entries")
        if self.witnessed is not None and head.size < self.witnessed.size:
            return self.witnessed
        self._connection.execute(_SET_NOTE, (WITNESSED, head.size, note))
        return head

    def audit(self, limit: int) -> bool:
        """Recompute the tree from at most `limit` stored entries more; tell whether that was the last of a round.

        Raises:
            UnavailableError: `ledger.inconsistent`; nothing is signed after that.
        """
        self._require()
        audit, signed = self._audit or _Audit(Frontier()), self.signed
        size = 0 if signed is None else signed.size
        end = min(audit.size + limit, size)
        rows = self._connection.execute(_ENTRIES, (audit.size, end)).fetchall()
        self._audit = audit
        if not audit.follows(rows) or audit.size < end:
            self._stop(f"the nodes stored with entry {audit.size} are not those of what is stored as entries")
        if audit.size < size:
            return False
        self._audit = None
        if signed is not None and audit.frontier.root != signed.root:
            self._stop("the root of the stored entries is not that of the newest checkpoint")
        return True

    def _cosigned(self, note: bytes) -> Head | None:
        """Read a checkpoint; None where it is not of this log, or too few witnesses have cosigned it."""
        try:
            checkpoint, _, others = open_checkpoint(note, self.log, self._witnesses.verifiers)
        except (FormatError, RefusedError):
            return None
        enough = len(others) >= max(self._witnesses.quorum, 1)
        return Head(checkpoint.size, checkpoint.root, note) if enough else None

    def _stored(self, name: str) -> Head | None:
        found = self._connection.execute(_NOTE, (name,)).fetchone()
        if found is None:
            return None
        size, note = found
        try:
            checkpoint, _, _ = open_checkpoint(note, self.log)
        except (FormatError, RefusedError) as error:
            self._stop(f"the stored checkpoint ({name}): {error}")
        if checkpoint.size != size:
            self._stop(f"the stored checkpoint ({name}) is over {checkpoint.size} entries, not {size}")
        return Head(size, checkpoint.root, note)

    def _require(self) -> None:
        if self._broken:
            raise UnavailableError(Code.LEDGER_INCONSISTENT, self._broken)

    def _stop(self, what: str) -> NoReturn:
        """Sign nothing any more."""
        self._broken = what
        raise UnavailableError(Code.LEDGER_INCONSISTENT, what)


class _Audit:
    """The tree as it is recomputed from what is stored. Arg of `__init__`: where it begins."""

    __slots__ = ("_nodes", "size")

    def __init__(self, frontier: Frontier) -> None:
        self.size = frontier.size
        self._nodes = list(frontier.nodes)

    @property
    def frontier(self) -> Frontier:
        """What was recomputed."""
        return Frontier(self.size, tuple(self._nodes))

    def follows(self, rows: Sequence[tuple[bytes, bytes]]) -> bool:
        """Take (entry, stored hashes) of the next entries; tell whether the hashes are theirs, up to the first not."""
        nodes, index = self._nodes, self.size
        for entry, hashes in rows:
            made = [digest := leaf_hash(entry)]
            rest = index
            while rest & 1:
                digest = node_hash(nodes.pop(), digest)
                made.append(digest)
                rest >>= 1
            if b"".join(made) != hashes:
                return False
            nodes.append(digest)
            index = self.size = index + 1
        return True
