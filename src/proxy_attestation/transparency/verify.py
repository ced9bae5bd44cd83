"""Verifies a whole ledger: every entry, every tile, the root."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError, RefusedError
from proxy_attestation.formats.checkpoint import Checkpoint
from proxy_attestation.formats.ledger_entry import LedgerEntry, decode_entry
from proxy_attestation.formats.merkle import Frontier, leaf_hash
from proxy_attestation.formats.tiles import TILE_WIDTH, new_tiles
from proxy_attestation.transparency.reader import TreeReader
from proxy_attestation.transparency.source import Source

Progress = Callable[[int], object]
"""Called with how many more entries were read."""


@dataclass
class Counts:
    """What stands in a ledger.

    Attributes:
        kinds: entries by kind, in lower case.
        newest: the latest notBefore of any certificate, seconds since the epoch; None where there is none.
    """

    kinds: Counter[str] = field(default_factory=Counter)
    newest: int | None = None

    def add(self, entry: LedgerEntry) -> None:
        """Count an entry."""
        self.kinds[entry.kind.name.lower()] += 1
        if entry.not_before is not None:
            self.newest = max(entry.not_before, self.newest or 0)


def read_entries(
    reader: TreeReader, begin: int, end: int, progress: Progress = lambda _: None
) -> Iterator[tuple[int, bytes]]:
    """Yield (index, entry) of the entries from `begin` up to `end`, each authenticated; one bundle is held at a time.

    Raises:
        As `TreeReader.entries`.
    """
    for number in range(begin // TILE_WIDTH, -(-end // TILE_WIDTH)):
        first = number * TILE_WIDTH
        entries = reader.entries(number)
        for index in range(max(begin, first), min(end, first + len(entries))):
            yield index, entries[index - first]
        progress(len(entries))


def decode_logged(index: int, data: bytes) -> LedgerEntry:
    """Decode an entry of the ledger.

    Raises:
        FormatError: `ledger.malformed`, for an entry that no authority of this project writes.
    """
    try:
        return decode_entry(data)
    except FormatError as error:
        raise FormatError(Code.LEDGER_MALFORMED, f"entry {index}: {error.detail}") from error


def verify_ledger(source: Source, checkpoint: Checkpoint, progress: Progress = lambda _: None) -> Counts:
    """Check every file that a checkpoint covers, and compute its root again from the entries alone.

    Raises:
        RefusedError: `ledger.root`.
        FormatError: `ledger.malformed`.
        UnavailableError: `ledger.unreachable`.
    """
    reader = TreeReader(source, checkpoint)
    counts, frontier = Counts(), Frontier()
    for index, data in read_entries(reader, 0, checkpoint.size, progress):
        frontier, _ = frontier.append(leaf_hash(data))
        counts.add(decode_logged(index, data))
    # The bundles and the tiles of level 0 were read; a full one of a higher level was its children's parent.
    for tile in new_tiles(0, checkpoint.size):
        if tile.level:
            reader.tile(tile)
    if frontier.root != checkpoint.root:
        raise RefusedError(Code.LEDGER_ROOT, "the entries do not make the checkpoint's root")
    return counts
