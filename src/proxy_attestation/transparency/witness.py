"""A witness (C2SP tlog-witness): co-signs a log's checkpoint where it continues all that was co-signed before.

What was co-signed last stands in SQLite, one row a log. The row is read, compared and replaced in one transaction that
is on the disk before the answer exists for anybody, so a witness that is killed at any point has never told of two
checkpoints that disagree. A folder whose database was lost is refused: a witness that has forgotten must not go on
under the same key.
"""

import sqlite3
from collections.abc import Callable, Iterable
from contextlib import closing
from http import HTTPStatus
from pathlib import Path
from typing import Final, NamedTuple

from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError, FormatError, RefusedError, UnavailableError
from proxy_attestation.formats.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint
from proxy_attestation.formats.merkle import EMPTY_ROOT, verify_consistency
from proxy_attestation.formats.signed_note import Note, Verifier, parse_note, sign_note
from proxy_attestation.transparency.files import make_folder, read_small, replace_file
from proxy_attestation.transparency.witness_protocol import (
    ADD_CHECKPOINT,
    SIZE_TYPE,
    monitoring_path,
    parse_add_checkpoint,
)

TEXT_TYPE: Final = "text/plain; charset=utf-8"
_DATABASE: Final = "witness.sqlite"
_KEY: Final = "vkey"
_BUSY_SECONDS: Final = 5.0
_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS seen (      -- the newest checkpoint that was co-signed, a log
    origin TEXT PRIMARY KEY,
    size INTEGER NOT NULL,
    root BLOB NOT NULL,
    note BLOB NOT NULL                 -- with the log's signature and ours
) STRICT;
CREATE TABLE IF NOT EXISTS conflict (  -- the first checkpoint that cannot be true beside the one that was seen, a log
    origin TEXT PRIMARY KEY,
    note BLOB NOT NULL
) STRICT;
"""


class Answer(NamedTuple):
    """What a witness answers.

    Attributes:
        status: HTTP.
        kind: content type.
        body: whole.
        news: what its operator should hear, or None.
    """

    status: HTTPStatus
    kind: str = TEXT_TYPE
    body: bytes = b""
    news: str | None = None


class Witness:
    """One witness of some logs.

    Args:
        state: a folder; made where there is none.
        key: the public half, a cosignature key.
        sign: the private half.
        logs: the keys of the logs that it co-signs.
        clock: seconds since the epoch.

    Raises:
        ConfigurationError: `configuration.malformed`, for a folder of another witness or without its database.
    """

    def __init__(
        self,
        state: Path,
        key: Verifier,
        sign: Callable[[bytes], bytes],
        logs: Iterable[Verifier],
        clock: Callable[[], int],
    ) -> None:
        self._key, self._sign, self._clock = key, sign, clock
        self._logs = {log.name: log for log in logs}
        self._paths = {monitoring_path(origin): origin for origin in self._logs}
        make_folder(state)
        self._database = state / _DATABASE
        known, ours = read_small(state / _KEY, 1024), f"{key}\n".encode()
        if known is None:
            self._create()
            replace_file(state / _KEY, ours)
        elif known != ours or not self._database.exists():
            detail = f"{state}: of another witness, or its database is lost; a witness that forgot takes a new key"
            raise ConfigurationError(Code.CONFIGURATION_MALFORMED, detail)

    def answer(self, method: str, path: str, body: bytes) -> Answer:
        """Answer one request.

        Args:
            method: GET or POST; anything else is 405.
            path: without the slash at its beginning.
            body: whole, at most `BODY_MAX` bytes.
        """
        if path == ADD_CHECKPOINT:
            return self.add_checkpoint(body) if method == "POST" else Answer(HTTPStatus.METHOD_NOT_ALLOWED)
        if path in self._paths and method in ("GET", "HEAD"):
            note = self._seen(self._paths[path])
            return Answer(HTTPStatus.NOT_FOUND) if note is None else Answer(HTTPStatus.OK, body=note)
        return Answer(HTTPStatus.NOT_FOUND)

    def add_checkpoint(self, body: bytes) -> Answer:
        """Answer `add-checkpoint`: 200 with a cosignature, or 400, 403, 404, 409, 422 as tlog-witness says.

        Raises:
            UnavailableError: `ledger.unreachable`, where the database fails; nothing was signed for anybody.
        """
        try:
            asked = parse_add_checkpoint(body)
            origin = parse_checkpoint(parse_note(asked.checkpoint).text).origin
        except FormatError as error:
            return Answer(HTTPStatus.BAD_REQUEST, body=f"{error}\n".encode())
        if origin not in self._logs:
            return Answer(HTTPStatus.NOT_FOUND)
        try:
            checkpoint, note, _ = open_checkpoint(asked.checkpoint, self._logs[origin])
        except RefusedError:
            return Answer(HTTPStatus.FORBIDDEN)
        if asked.old > checkpoint.size:
            return Answer(HTTPStatus.BAD_REQUEST)
        try:
            with closing(self._open()) as database:
                return self._advance(database, checkpoint, note, asked.old, asked.proof)
        except sqlite3.Error as error:
            raise UnavailableError(Code.LEDGER_UNREACHABLE, f"the witness's database: {error}") from error

    def _advance(
        self, database: sqlite3.Connection, checkpoint: Checkpoint, note: Note, old: int, proof: tuple[bytes, ...]
    ) -> Answer:
        origin = checkpoint.origin
        database.execute("BEGIN IMMEDIATE")
        row = database.execute("SELECT size, root FROM seen WHERE origin = ?", (origin,)).fetchone()
        size, root = (0, EMPTY_ROOT) if row is None else row
        if old != size:
            return Answer(HTTPStatus.CONFLICT, SIZE_TYPE, f"{size}\n".encode())
        if row is not None and checkpoint.size == size and checkpoint.root != root:
            return self._conflict(database, origin, note, size)
        try:
            verify_consistency(size, checkpoint.size, root, checkpoint.root, proof)
        except RefusedError as error:
            return Answer(HTTPStatus.UNPROCESSABLE_ENTITY, news=f"{origin}: {checkpoint.size}: {error}")
        log = self._logs[origin]
        ours = sign_note(note.text, self._key, self._sign, self._clock())
        theirs = tuple(one for one in note.signatures if (one.name, one.key_id) == (log.name, log.key_id))[:1]
        database.execute(
            "INSERT OR REPLACE INTO seen VALUES (?, ?, ?, ?)",
            (origin, checkpoint.size, checkpoint.root, Note(note.text, (*theirs, ours)).encode()),
        )
        database.execute("COMMIT")
        news = f"{origin}: co-signed {checkpoint.size}" if checkpoint.size > size or row is None else None
        return Answer(HTTPStatus.OK, body=str(ours).encode(), news=news)

    def _conflict(self, database: sqlite3.Connection, origin: str, note: Note, size: int) -> Answer:
        """Keep what the log signed: with the checkpoint that was seen it proves a fork."""
        database.execute("INSERT OR IGNORE INTO conflict VALUES (?, ?)", (origin, note.encode()))
        database.execute("COMMIT")
        news = f"{origin}: ledger.fork: two trees of {size} entries, both signed by the log"
        return Answer(HTTPStatus.CONFLICT, SIZE_TYPE, f"{size}\n".encode(), news)

    def _seen(self, origin: str) -> bytes | None:
        try:
            with closing(self._open()) as database:
                row = database.execute("SELECT note FROM seen WHERE origin = ?", (origin,)).fetchone()
        except sqlite3.Error as error:
            raise UnavailableError(Code.LEDGER_UNREACHABLE, f"the witness's database: {error}") from error
        return None if row is None else bytes(row[0])

    def _open(self) -> sqlite3.Connection:
        # Only an existing database: one that vanished while we ran must not come back empty.
        uri = f"{self._database.absolute().as_uri()}?mode=rw"
        database = sqlite3.connect(uri, uri=True, isolation_level=None, timeout=_BUSY_SECONDS)
        database.execute("PRAGMA synchronous = FULL")
        return database

    def _create(self) -> None:
        with closing(sqlite3.connect(self._database, isolation_level=None)) as database:
            database.execute("PRAGMA synchronous = FULL")
            database.executescript(f"BEGIN; {_SCHEMA} COMMIT;")
