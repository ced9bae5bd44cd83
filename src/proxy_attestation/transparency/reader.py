"""Reads a tree out of its files so that every hash and entry that is returned is one that the checkpoint's root covers.

How a file is authenticated:

1. The last, partial tile of each level together hold the tree's right edge; they must make the checkpoint's root.
2. A full tile's root must be the hash that its parent tile, authenticated before, has for it.
3. The leaf hashes of a bundle's entries must be the hashes of its level-0 tile.

At most `TILES_KEPT` full tiles are held, and those of the edge (one a level), however large the tree is.
"""

from collections import OrderedDict
from typing import Final

from proxy_attestation.codes import Code
from proxy_attestation.errors import RefusedError, UnavailableError
from proxy_attestation.formats.bounds import NOTE_MAX
from proxy_attestation.formats.checkpoint import Checkpoint, open_checkpoint
from proxy_attestation.formats.merkle import HASH_LENGTH, ReadNode, leaf_hash, perfect_root, read_frontier
from proxy_attestation.formats.signed_note import Note, Verifier
from proxy_attestation.formats.tiles import (
    BUNDLE_MAX,
    TILE_LEVELS,
    TILE_WIDTH,
    Tile,
    decode_entries,
    decode_tile,
    node_reader,
    tile_at,
)
from proxy_attestation.formats.tlog_policy import TlogPolicy
from proxy_attestation.transparency.source import Source

TILES_KEPT: Final = 64


def read_checkpoint(source: Source, log: Verifier, policy: TlogPolicy) -> tuple[Checkpoint, Note]:
    """Read the newest checkpoint, signed by the log and by a quorum of its witnesses.

    Raises:
        FormatError, RefusedError: as `open_checkpoint` and `TlogPolicy.require`.
        UnavailableError: `ledger.unreachable`.
    """
    data = source.read("checkpoint", NOTE_MAX)
    if data is None:
        raise UnavailableError(Code.LEDGER_UNREACHABLE, "there is no checkpoint")
    checkpoint, note, signed = open_checkpoint(data, log, policy.verifiers)
    policy.require(signed)
    return checkpoint, note


class TreeReader:
    """The tree of one checkpoint.

    Raises:
        RefusedError: `ledger.root`, where the tiles of the right edge do not make the checkpoint's root.
        FormatError: `ledger.malformed`.
        UnavailableError: `ledger.unreachable`, also for a file that is not there.
    """

    def __init__(self, source: Source, checkpoint: Checkpoint) -> None:
        self._source, self._size = source, checkpoint.size
        self._kept: OrderedDict[Tile, tuple[bytes, ...]] = OrderedDict()
        last = (tile_at(level, self._size >> TILE_LEVELS * (level + 1), self._size) for level in range(TILE_LEVELS))
        self._edge = {tile: self._read(tile) for tile in last if tile is not None}
        if self.root(self._size) != checkpoint.root:
            raise RefusedError(Code.LEDGER_ROOT, "the tiles do not make the checkpoint's root")

    @property
    def node(self) -> ReadNode:
        """Reads a complete node of the tree; raises as the class and as `node_place`."""
        return node_reader(self.tile, self._size)

    def root(self, size: int) -> bytes:
        """Return the root that the first `size` leaves of this tree have."""
        return read_frontier(self.node, size).root

    def tile(self, tile: Tile) -> tuple[bytes, ...]:
        """Return the hashes of a tile of this tree.

        Raises:
            RefusedError: `ledger.root`, for a tile that is not part of it.
        """
        hashes = self._edge.get(tile) or self._kept.get(tile)
        if hashes is None:
            hashes = self._read(tile)
            parent = tile_at((tile.level or 0) + 1, tile.index // TILE_WIDTH, self._size)
            if parent is None or perfect_root(hashes) != self.tile(parent)[tile.index % TILE_WIDTH]:
                raise RefusedError(Code.LEDGER_ROOT, f"{tile.path} is not part of the tree")
            self._kept[tile] = hashes
            if len(self._kept) > TILES_KEPT:
                self._kept.popitem(last=False)
        elif tile in self._kept:
            self._kept.move_to_end(tile)
        return hashes

    def entries(self, index: int) -> tuple[bytes, ...]:
        """Return the entries of one bundle: those from 256 * index on.

        Raises:
            RefusedError: `ledger.root`, for entries that are not in the tree.
        """
        bundle = tile_at(None, index, self._size)
        leaves = tile_at(0, index, self._size)
        assert bundle is not None and leaves is not None  # noqa: S101 - the caller counts within the tree
        entries = decode_entries(self._file(bundle, BUNDLE_MAX), bundle.width)
        if tuple(map(leaf_hash, entries)) != self.tile(leaves):
            raise RefusedError(Code.LEDGER_ROOT, f"{bundle.path}: entries that are not in the tree")
        return entries

    def _read(self, tile: Tile) -> tuple[bytes, ...]:
        return decode_tile(self._file(tile, TILE_WIDTH * HASH_LENGTH), tile.width)

    def _file(self, tile: Tile, limit: int) -> bytes:
        """Read a file; where a log that has grown no longer keeps the partial one, the beginning of the full one."""
        data = self._source.read(tile.path, limit)
        if data is None and tile.width < TILE_WIDTH:
            data = self._source.read(Tile(tile.level, tile.index).path, limit)
            if data is not None and tile.level is not None:
                data = data[: tile.width * HASH_LENGTH]
            elif data is not None:
                data = first_entries(data, tile.width)
        if data is None:
            raise UnavailableError(Code.LEDGER_UNREACHABLE, f"{tile.path}: there is no such file")
        return data


def first_entries(data: bytes, count: int) -> bytes:
    """Return the bundle of the first `count` entries of a bundle; all of it where it has no more."""
    end = 0
    for _ in range(count):
        end += 2 + int.from_bytes(data[end : end + 2], "big")
    return data[:end]
