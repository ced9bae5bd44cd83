"""Tiles (C2SP tlog-tiles): the log's tree and entries as static files of 256 each.

A tile of level L holds the nodes of tree level 8 * L; its file is the hashes one after the other. An entry bundle is,
for each entry, two bytes of length (big-endian) and the entry. The last file of a level is partial: less than 256 wide.
"""

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError
from proxy_attestation.formats.binary import Reader
from proxy_attestation.formats.bounds import LEDGER_ENTRY_MAX
from proxy_attestation.formats.merkle import HASH_LENGTH, ReadNode, perfect_root

TILE_WIDTH: Final = 256
TILE_LEVELS: Final = 8
"""Levels of the tree that one tile stands for."""
_HIGHEST: Final = 7
"""The level of the tile that holds the root's children in a tree of 2^63 leaves."""
BUNDLE_MAX: Final = TILE_WIDTH * (2 + LEDGER_ENTRY_MAX)
_PATH: Final = re.compile(
    r"tile/(entries|0|[1-7])/((?:x[0-9]{3}/){0,6}[0-9]{3})(?:\.p/([1-9][0-9]?|1[0-9]{2}|2[0-4][0-9]|25[0-5]))?"
)


@dataclass(frozen=True, slots=True)
class Tile:
    """Which file.

    Attributes:
        level: of a tile, 0 to 7; None for a bundle of entries.
        index: the file's number in its level.
        width: hashes or entries in it, 1 to 256.
    """

    level: int | None
    index: int
    width: int = TILE_WIDTH

    @property
    def path(self) -> str:
        """The file's path, relative to the log."""
        groups = [f"{self.index % 1000:03}"]
        rest = self.index // 1000
        while rest:
            groups.append(f"x{rest % 1000:03}")
            rest //= 1000
        partial = "" if self.width == TILE_WIDTH else f".p/{self.width}"
        return f"tile/{'entries' if self.level is None else self.level}/{'/'.join(reversed(groups))}{partial}"


ReadTile = Callable[[Tile], Sequence[bytes]]
"""Returns the hashes of a tile."""


def parse_tile(path: str) -> Tile:
    """Read a path; the reverse of `Tile.path`.

    Raises:
        FormatError: `ledger.malformed`, for any other path, also for a second spelling of a tile's.
    """
    match = _PATH.fullmatch(path)
    if match:
        level = None if match[1] == "entries" else int(match[1])
        tile = Tile(level, int(match[2].replace("x", "").replace("/", "")), int(match[3] or TILE_WIDTH))
        if tile.path == path:
            return tile
    raise FormatError(Code.LEDGER_MALFORMED, "not the path of a tile")


def tile_at(level: int | None, index: int, size: int) -> Tile | None:
    """Return the widest tile with this number that a tree of `size` leaves has, or None where it has none."""
    width = (size >> TILE_LEVELS * (level or 0)) - index * TILE_WIDTH
    return Tile(level, index, min(width, TILE_WIDTH)) if width > 0 else None


def new_tiles(old: int, new: int) -> Iterator[Tile]:
    """Yield each file that a tree of `new` leaves has and one of `old` leaves lacks: entries, then hashes bottom-up."""
    for level in (None, *range(_HIGHEST + 1)):
        before, after = (size >> TILE_LEVELS * (level or 0) for size in (old, new))
        for index in range(before // TILE_WIDTH, -(-after // TILE_WIDTH) if after > before else 0):
            yield Tile(level, index, min(after - index * TILE_WIDTH, TILE_WIDTH))


def node_place(level: int, index: int, size: int) -> tuple[Tile, int, int]:
    """Say where a complete node of a tree stands: (tile, first hash in it, number of hashes below it)."""
    below = level % TILE_LEVELS
    first = index << below
    tile = tile_at(level // TILE_LEVELS, first // TILE_WIDTH, size)
    if tile is None or first % TILE_WIDTH + (1 << below) > tile.width:
        raise FormatError(Code.LEDGER_MALFORMED, f"no node {level}/{index} in a tree of {size}")
    return tile, first % TILE_WIDTH, 1 << below


def node_reader(read: ReadTile, size: int) -> ReadNode:
    """Return what reads the nodes of a tree of `size` leaves out of its tiles."""

    def node(level: int, index: int) -> bytes:
        tile, first, count = node_place(level, index, size)
        return perfect_root(read(tile)[first : first + count])

    return node


def decode_tile(data: bytes, width: int) -> tuple[bytes, ...]:
    """Return the hashes of a tile.

    Raises:
        FormatError: `ledger.malformed`, unless there are exactly `width` of them.
    """
    if len(data) != width * HASH_LENGTH:
        raise FormatError(Code.LEDGER_MALFORMED, f"a tile of {len(data)} bytes, not of {width} hashes")
    return tuple(data[i : i + HASH_LENGTH] for i in range(0, len(data), HASH_LENGTH))


def encode_entries(entries: Iterable[bytes]) -> bytes:
    """Return the bundle of at most 256 entries, each of at most 65535 bytes."""
    return b"".join(len(entry).to_bytes(2, "big") + entry for entry in entries)


def decode_entries(data: bytes, width: int) -> tuple[bytes, ...]:
    """Return the entries of a bundle.

    Raises:
        FormatError: `ledger.malformed`, unless there are exactly `width` of them, of at most 4 KiB each.
    """
    reader = Reader(data, Code.LEDGER_MALFORMED)
    entries = tuple(reader.sized(LEDGER_ENTRY_MAX) for _ in range(width))
    reader.end()
    return entries
