"""The ledger and what must change with it in one transaction: one SQLite file, one writer, plain SQL.

WAL with synchronous=FULL: when `transaction` has ended, what it wrote survives a crash of the machine; when it has
not, nothing of it is there. Entries are only ever appended, with indexes 0, 1, 2 ...; the file itself refuses anything
else. Of the tables, `entry` is the ledger; `node` and `checkpoint` are the tree over it (`tree.py`), which every
transaction that appends extends and signs; `ca` lists the CA certificates whose events stand in it, and
`ledger_life.py` what else is known of their life and of revocations; `floor` has the oldest collateral that may be
used; `token_key` the keys of session tokens; `evidence` what the leaves rest on (`evidence_store.py`); `meta` single
values.
"""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

from proxy_attestation.authority.evidence_store import EvidenceStore
from proxy_attestation.authority.keys import LogKey
from proxy_attestation.authority.ledger_life import LifeTables
from proxy_attestation.authority.ledger_schema import APPLICATION_ID, SCHEMA, SCHEMA_VERSION
from proxy_attestation.authority.ledger_workers import WorkerTables
from proxy_attestation.authority.nodes import WITNESS_QUORUM
from proxy_attestation.authority.translated import TRANSLATED
from proxy_attestation.authority.tree import Tree, Witnesses
from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError, InternalError, UnavailableError
from proxy_attestation.formats.ledger_entry import EntryKind
from proxy_attestation.formats.merkle import Frontier

_BUSY_TIMEOUT_MS: Final = 5000


class Row(NamedTuple):
    """One entry to append, or one that was found. What a kind does not have is None.

    Attributes:
        kind: as in the entry.
        entry: the entry's bytes (`formats.ledger_entry`).
        tbs: the to-be-signed certificate.
        not_before: seconds since the epoch.
        not_after: seconds since the epoch.
        spki_sha256: 32 bytes, of the certified key.
        session_id: 16 bytes; no two entries have the same.
        request_sha256: 32 bytes.
        claims_set: as in the leaf.
    """

    kind: EntryKind
    entry: bytes
    tbs: bytes | None = None
    not_before: int | None = None
    not_after: int | None = None
    spki_sha256: bytes | None = None
    session_id: bytes | None = None
    request_sha256: bytes | None = None
    claims_set: bytes | None = None


# The columns of `entry` have the names of the fields.
_COLUMNS: Final = ", ".join(("idx", *Row._fields))
_INSERT: Final = "INSERT INTO entry (" + _COLUMNS + ") VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"  # noqa: S608 - constants
_BY_SESSION: Final = "SELECT " + _COLUMNS + " FROM entry WHERE session_id = ?"  # noqa: S608 - constants


class Ledger(LifeTables, WorkerTables):
    """An open ledger. Every method may raise `UnavailableError` (`authority.unavailable`) when SQLite cannot answer.

    Attributes:
        evidence: what is kept beside it.
    """

    def __init__(self, connection: sqlite3.Connection, size: int) -> None:
        self._connection = connection
        self.evidence = EvidenceStore(connection)
        self._size = size
        self._tree: Tree | None = None
        ((_, _, path),) = connection.execute("PRAGMA database_list").fetchall()
        self._places = (path, f"{path}-wal") if path else ()
        self._files = _files(self._places)
        self._frontier = Frontier()
        self._new: list[bytes] = []

    @classmethod
    def create(cls, path: Path | None) -> Self:
        """Make an empty ledger in an existing empty file of mode 0600, or in memory.

        Raises:
            UnavailableError: `authority.unavailable`.
        """
        with TRANSLATED:
            connection = _connect(path)
            connection.executescript(SCHEMA)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        return cls(connection, 0)

    @classmethod
    def open(cls, path: Path) -> Self:
        """Open a ledger.

        Raises:
            ConfigurationError: `authority.state`, when the file is no ledger of this version, or its indexes are not
                0 to n-1.
            UnavailableError: `authority.unavailable`.
        """
        with TRANSLATED:
            try:
                connection = _connect(path)
                (application,) = connection.execute("PRAGMA application_id").fetchone()
                (version,) = connection.execute("PRAGMA user_version").fetchone()
            except sqlite3.DatabaseError as error:
                if error.sqlite_errorcode != sqlite3.SQLITE_NOTADB:
                    raise
                raise ConfigurationError(Code.AUTHORITY_STATE, f"{path}: not a ledger") from error
            problem = None
            if (application, version) != (APPLICATION_ID, SCHEMA_VERSION):
                problem = f"not a ledger of version {SCHEMA_VERSION}"
            else:
                count, last = connection.execute("SELECT count(*), max(idx) FROM entry").fetchone()
                if last is None or last + 1 != count:
                    problem = f"{count} entries, the last has index {last}"
            if problem is not None:
                connection.close()
                raise ConfigurationError(Code.AUTHORITY_STATE, f"{path}: {problem}")
        return cls(connection, count)

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def sign_with(self, origin: str, key: LogKey) -> None:
        """Sign checkpoints from now on, having verified what is stored; before, nothing can be appended.

        Args:
            origin: the log's name.
            key: its key.

        Raises:
            ConfigurationError: `ledger.inconsistent`.
        """
        self._tree = Tree(self._connection, origin, key)
        try:
            with TRANSLATED:
                self._tree.load(self._size)
        except UnavailableError as error:
            if error.code is not Code.LEDGER_INCONSISTENT:
                raise
            raise ConfigurationError(error.code, error.detail) from error

    @property
    def tree(self) -> Tree:
        """The tree over the entries.

        Raises:
            InternalError: before `sign_with`.
        """
        if self._tree is None:
            raise InternalError("the ledger has no key to sign with")
        return self._tree

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit all that happens inside, or nothing of it; what was appended with its nodes and a signed checkpoint.

        Raises:
            UnavailableError: `authority.unavailable`, `ledger.inconsistent`; nothing was written, or into a file that
                is no longer in its place.
            InternalError: a constraint of the schema was violated; nothing was written.
        """
        size, kept = self._size, self.evidence.size
        self._check_files()
        with TRANSLATED:
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                head = self.tree.extend(self._frontier, self._new) if self._new else None
                self._connection.execute("COMMIT")
            except BaseException:
                self._size, self.evidence.size = size, kept
                if self._connection.in_transaction:
                    self._connection.execute("ROLLBACK")
                raise
            finally:
                self._new = []
            if head is not None:
                self.tree.signed = head
        self._check_files()

    def _check_files(self) -> None:
        """Check that the files in their places are those that were opened.

        SQLite goes on writing into a file that was deleted, or that another one has replaced: what was committed there
        stands in no ledger, and must not be answered.
        """
        if self._files != _files(self._places):
            raise UnavailableError(Code.AUTHORITY_UNAVAILABLE, "the ledger's files are not those that were opened")

    def append(self, rows: Sequence[Row]) -> int:
        """Append entries, inside a transaction; return the first one's index, from which the others count on."""
        first = self._size
        if not self._new:
            self._frontier = self.tree.frontier(first)
        self._connection.executemany(_INSERT, [(index, *row) for index, row in enumerate(rows, first)])
        self._new += [row.entry for row in rows]
        self._size += len(rows)
        return first

    def proof(self, index: int) -> bytes:
        """Return the tlog-proof of an entry; nothing while the published checkpoint does not cover it.

        Raises:
            UnavailableError: `ledger.inconsistent`.
        """
        with TRANSLATED:
            return self.tree.proof(index)

    def require_witnesses(self, witnesses: Witnesses) -> None:
        """Publish only what so many witnesses have cosigned."""
        with self.transaction():
            self.set_meta(WITNESS_QUORUM, bytes((witnesses.quorum,)))
        self.tree.require_witnesses(witnesses)

    def cosign(self, note: bytes) -> int:
        """Take a checkpoint with cosignatures; return how many entries are published then.

        Raises:
            RequestError: `ledger.cosignature`.
            UnavailableError: `ledger.inconsistent`.
        """
        with self.transaction():
            head = self.tree.cosign(note)
        self.tree.witnessed = head
        return head.size

    def audit(self, limit: int) -> bool:
        """Recompute the tree from at most `limit` stored entries more; see `Tree.audit`."""
        with TRANSLATED:
            return self.tree.audit(limit)

    def find_session(self, session_id: bytes) -> tuple[int, Row] | None:
        """Return the index and entry of a session that was used."""
        for index, kind, *rest in self._select(_BY_SESSION, session_id):
            return index, Row(EntryKind(kind), *rest)
        return None

    def size(self) -> int:
        """Return how many entries there are."""
        return self._size

    def entry(self, index: int) -> bytes | None:
        """Return the bytes of one entry."""
        return next((entry for (entry,) in self._select("SELECT entry FROM entry WHERE idx = ?", index)), None)

    def last_policy(self) -> bytes | None:
        """Return the bytes of the last entry about a policy."""
        query = "SELECT entry FROM entry WHERE kind = 2 ORDER BY idx DESC LIMIT 1"
        return next((entry for (entry,) in self._select(query)), None)

    def latest_time(self) -> int:
        """Return the latest time that the authority has seen signed: a notBefore, or an issue date of collateral."""
        ((entries, floors),) = self._select(
            "SELECT (SELECT max(not_before) FROM entry), (SELECT max(issue_date) FROM floor)"
        )
        return max(entries or 0, floors or 0)

    def meta(self, name: str) -> bytes | None:
        """Return a single value."""
        return next((value for (value,) in self._select("SELECT value FROM meta WHERE name = ?", name)), None)

    def set_meta(self, name: str, value: bytes) -> None:
        """Set a single value, inside a transaction."""
        self._connection.execute("INSERT OR REPLACE INTO meta (name, value) VALUES (?, ?)", (name, value))

    def cas(self) -> list[tuple[int, bytes]]:
        """Return (number, DER) of every CA certificate: 0 the root, from 1 the issuing CAs."""
        return self._select("SELECT number, certificate FROM ca ORDER BY number")

    def add_ca(self, number: int, index: int, certificate: bytes) -> None:
        """Record a CA certificate whose event is the entry `index`, inside a transaction."""
        self._connection.execute("INSERT INTO ca VALUES (?, ?, ?)", (number, index, certificate))

    def select(self, query: str, *values: object) -> list[Any]:
        """Return the rows of a query on a table that another module of the authority keeps here."""
        return self._select(query, *values)

    def change(self, query: str, *values: object) -> int:
        """Change such a table, inside a transaction; return how many rows were."""
        return self._connection.execute(query, values).rowcount

    def _select(self, query: str, *values: object) -> list[Any]:
        with TRANSLATED:
            return self._connection.execute(query, values).fetchall()


def _files(places: Sequence[str]) -> list[tuple[int, int] | None]:
    """Return device and inode of files, None for one that is not there."""
    found: list[tuple[int, int] | None] = []
    for place in places:
        try:
            status = Path(place).stat()
        except OSError:
            found.append(None)
        else:
            found.append((status.st_dev, status.st_ino))
    return found


def _connect(path: Path | None) -> sqlite3.Connection:
    # isolation_level=None: transactions begin and end where `transaction` says so.
    connection = sqlite3.connect(":memory:" if path is None else path, isolation_level=None)
    pragmas = (
        "journal_mode = WAL",
        "synchronous = FULL",
        "foreign_keys = ON",
        "trusted_schema = OFF",
        "secure_delete = ON",
        f"busy_timeout = {_BUSY_TIMEOUT_MS}",
    )
    try:
        for pragma in pragmas:
            connection.execute(f"PRAGMA {pragma}")
    except sqlite3.Error:
        connection.close()
        raise
    return connection
