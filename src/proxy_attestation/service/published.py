"""The ledger as everybody may see it, read from its file by a connection that cannot write.

What is published is the newest signed checkpoint, or where witnesses are required the newest that enough of them have
cosigned, and no tile, entry or proof beyond it. Nothing here asks the authority: strangers cost it nothing.
"""

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import quote

from proxy_attestation.authority.bucket import Bucket
from proxy_attestation.authority.nodes import SIGNED, WITNESS_QUORUM, WITNESSED, Nodes
from proxy_attestation.authority.translated import TRANSLATED
from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError, RequestError, UnavailableError
from proxy_attestation.formats.tiles import TILE_LEVELS, TILE_WIDTH, Tile, encode_entries, parse_tile, tile_at

READS_RATE: Final = 200
"""Files and proofs a second that one worker reads for everybody; each costs it half a millisecond at most."""
READS_BURST: Final = 1000
CHECKPOINT_CACHE: Final = "max-age=1"
TILE_CACHE: Final = "max-age=31536000, immutable"

NOTE_KIND: Final = "text/plain; charset=utf-8"
TILE_KIND: Final = "application/octet-stream"
CHECKPOINT_PATH: Final = "/checkpoint"

_BUSY_MS: Final = 100
_NOTES: Final = "SELECT name, size, note FROM checkpoint"
_QUORUM: Final = f"SELECT value FROM meta WHERE name = '{WITNESS_QUORUM}'"  # noqa: S608 - a constant
_ENTRIES: Final = "SELECT entry FROM entry WHERE idx >= ? AND idx < ? ORDER BY idx"


class Published(NamedTuple):
    """A checkpoint.

    Attributes:
        size: entries.
        note: the signed note.
    """

    size: int
    note: bytes


class PublishedLedger:
    """Reads a ledger's file.

    Every method raises UnavailableError: `authority.unavailable` when it cannot be read, `ledger.inconsistent` when
    something is missing in it.

    Args of `__init__`: its path. It need not be there yet, and may be replaced by another file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._file = (0, 0)

    def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            self._connection.close()
        self._connection = None

    def signed(self) -> Published | None:
        """Return the newest checkpoint that the log signed, published or not; None before there is any."""
        return self._notes().get(SIGNED)

    def published(self) -> Published | None:
        """Return the checkpoint that is published; None before there is any."""
        notes, quorum = self._notes(), self._select(_QUORUM)
        signed, witnessed = notes.get(SIGNED), notes.get(WITNESSED)
        if quorum and quorum[0][0] != b"\0":
            return witnessed
        return witnessed if witnessed and signed and witnessed.size == signed.size else signed

    def tile(self, tile: Tile) -> bytes:
        """Return the file of a tile, or a bundle of entries, that a checkpoint covers."""
        first = tile.index * TILE_WIDTH
        if tile.level is not None:
            with TRANSLATED:
                return self._nodes().nodes(TILE_LEVELS * tile.level, first, tile.width)
        found = [entry for (entry,) in self._select(_ENTRIES, first, first + tile.width)]
        if len(found) != tile.width:
            raise UnavailableError(Code.LEDGER_INCONSISTENT, f"{tile.path}: {len(found)} entries are stored")
        return encode_entries(found)

    def proof(self, index: int, of: Published) -> bytes:
        """Return the tlog-proof of an entry that a checkpoint covers."""
        with TRANSLATED:
            return self._nodes().proof(index, of.size, of.note)

    def root(self, size: int) -> bytes:
        """Return the root over the first `size` entries, all of which exist."""
        with TRANSLATED:
            return self._nodes().frontier(size).root

    def consistency(self, before: int, size: int) -> tuple[bytes, ...]:
        """Return the proof that the tree of `size` entries continues that of the first `before`, 32 bytes a hash."""
        with TRANSLATED:
            return self._nodes().consistency(before, size)

    def _notes(self) -> dict[str, Published]:
        return {name: Published(size, note) for name, size, note in self._select(_NOTES)}

    def _select(self, query: str, *values: object) -> list[Any]:
        with TRANSLATED:
            return self._open().execute(query, values).fetchall()

    def _nodes(self) -> Nodes:
        return Nodes(self._open())

    def _open(self) -> sqlite3.Connection:
        try:
            status = self._path.stat()
        except OSError as error:
            raise UnavailableError(Code.AUTHORITY_UNAVAILABLE, f"{self._path}: {error.strerror}") from error
        file = (status.st_dev, status.st_ino)
        if self._connection is None or file != self._file:  # a restored ledger is another file
            self.close()
            uri = f"file:{quote(str(self._path.absolute()))}?mode=ro"
            self._connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False)
            self._connection.execute("PRAGMA query_only = ON")
            self._connection.execute("PRAGMA trusted_schema = OFF")
            self._connection.execute(f"PRAGMA busy_timeout = {_BUSY_MS}")
            self._file = file
        return self._connection


class File(NamedTuple):
    """A static file.

    Attributes:
        kind: the content type.
        cache: the cache-control.
        body: its bytes.
    """

    kind: str
    cache: str
    body: bytes


class LedgerFiles:
    """The published ledger as the files of C2SP tlog-tiles, and proofs out of it, at no more than `READS_RATE`.

    Args of `__init__`: what reads the ledger; monotonic seconds.
    """

    def __init__(self, ledger: PublishedLedger, clock: Callable[[], float] = time.monotonic) -> None:
        self._ledger, self._clock = ledger, clock
        self._reads = Bucket(READS_RATE, READS_BURST, clock())

    def file(self, path: str) -> File | None:
        """Return what stands at `/checkpoint`, `/tile/L/N[.p/W]` or `/tile/entries/N[.p/W]`; None where nothing does.

        Raises:
            UnavailableError: `limits.exhausted`, `authority.unavailable`, `ledger.inconsistent`.
        """
        tile = None
        if path != CHECKPOINT_PATH:
            try:
                tile = parse_tile(path.removeprefix("/"))
            except FormatError:
                return None
        head = self._head()
        if head is None:
            return None
        if tile is None:
            return File(NOTE_KIND, CHECKPOINT_CACHE, head.note)
        widest = tile_at(tile.level, tile.index, head.size)
        if widest is None or tile.width > widest.width:
            return None
        return File(TILE_KIND, TILE_CACHE, self._ledger.tile(tile))

    def proof(self, index: int) -> tuple[bytes, bytes]:
        """Return the tlog-proof of an entry, and the checkpoint in it.

        Raises:
            RequestError: `ledger.no_proof`, for an index that the published checkpoint does not cover.
            UnavailableError: as `file`.
        """
        head = self._head()
        if head is None or index >= head.size:
            raise RequestError(Code.LEDGER_NO_PROOF, f"entry {index}")
        return self._ledger.proof(index, head), head.note

    def _head(self) -> Published | None:
        if not self._reads.take(self._clock()):
            raise UnavailableError(Code.LIMITS_EXHAUSTED, f"more than {READS_RATE} reads of the ledger a second")
        return self._ledger.published()
