"""Tiles: paths with one spelling, which files a tree has, what stands in them."""

import pytest
from logs import TestLog

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError
from proxy_attestation.formats.bounds import LEDGER_ENTRY_MAX
from proxy_attestation.formats.merkle import inclusion_proof
from proxy_attestation.formats.tiles import (
    Tile,
    decode_entries,
    decode_tile,
    encode_entries,
    new_tiles,
    node_place,
    node_reader,
    parse_tile,
    tile_at,
)

PATHS = [
    (Tile(0, 0), "tile/0/000"),
    (Tile(0, 1234067), "tile/0/x001/x234/067"),
    (Tile(7, 999, 1), "tile/7/999.p/1"),
    (Tile(None, 1000, 255), "tile/entries/x001/000.p/255"),
    (Tile(None, 2**55 - 1), "tile/entries/x036/x028/x797/x018/x963/967"),
]


@pytest.mark.parametrize(("tile", "path"), PATHS, ids=str)
def test_paths(tile: Tile, path: str) -> None:
    assert tile.path == path
    assert parse_tile(path) == tile


@pytest.mark.parametrize(
    "path",
    [
        "", "checkpoint", "tile/0/0", "tile/0/0000", "tile/00/000", "tile/8/000", "tile/-1/000",
        "tile/entries/x000/001", "tile/0/000/", "/tile/0/000", "tile/0/000.p/0", "tile/0/000.p/256", "tile/0/000.p/01",
        "tile/0/000.p/",
        "tile/0/001/000", "tile/0/x001/x000", "tile/0/x0001/000", "tile/0/../000", "tile/0/000\n",
        "tile/0/\u0661\u0661\u0661",
        "tile/0/x001/x001/x001/x001/x001/x001/x001/000", "tile/entries/000.p/1/", "tile/data/000",
    ],
)  # fmt: skip
def test_what_is_no_path(path: str) -> None:
    with pytest.raises(FormatError) as caught:
        parse_tile(path)
    assert caught.value.code is Code.LEDGER_MALFORMED


def files(size: int) -> dict[int | None, list[Tile]]:
    found: dict[int | None, list[Tile]] = {}
    for tile in new_tiles(0, size):
        found.setdefault(tile.level, []).append(tile)
    return found


def test_the_files_of_70000_leaves() -> None:
    found = files(70000)
    assert list(found) == [None, 0, 1, 2]
    assert len(found[0]) == len(found[None]) == 274
    assert found[0][-1] == Tile(0, 273, 112)
    assert [tile.width for tile in found[1]] == [256, 17]
    assert found[2] == [Tile(2, 0, 1)]


def test_the_files_of_256_leaves() -> None:
    assert files(256) == {None: [Tile(None, 0)], 0: [Tile(0, 0)], 1: [Tile(1, 0, 1)]}
    assert files(0) == {}


def test_the_files_that_a_growing_tree_adds() -> None:
    assert list(new_tiles(255, 257)) == [
        Tile(None, 0), Tile(None, 1, 1), Tile(0, 0), Tile(0, 1, 1), Tile(1, 0, 1),
    ]  # fmt: skip
    assert list(new_tiles(256, 257)) == [Tile(None, 1, 1), Tile(0, 1, 1)]
    assert list(new_tiles(5, 5)) == []


@pytest.mark.exhaustive
def test_growing_by_steps_adds_what_one_step_adds() -> None:
    end = 1000
    for step in (1, 7, 255, 256, 300):
        stepped = {tile for old in range(0, end, step) for tile in new_tiles(old, min(old + step, end))}
        assert stepped >= set(new_tiles(0, end))


@pytest.mark.parametrize("size", [1, 255, 256, 257, 600])
def test_proofs_out_of_tiles_are_those_out_of_nodes(size: int) -> None:
    log = TestLog().add(b"%d" % number for number in range(size))
    read = node_reader(lambda tile: decode_tile(log.tile(tile), tile.width), size)
    for index in {0, 1, size // 2, size - 1} & set(range(size)):
        assert inclusion_proof(read, index, size) == inclusion_proof(log.node, index, size)


def test_where_nodes_stand() -> None:
    assert node_place(0, 300, 301) == (Tile(0, 1, 45), 44, 1)
    assert node_place(3, 32, 264) == (Tile(0, 1, 8), 0, 8)
    assert node_place(8, 0, 256) == (Tile(1, 0, 1), 0, 1)
    for level, index, size in ((0, 1, 1), (1, 0, 1), (8, 0, 255), (3, 32, 263)):
        with pytest.raises(FormatError) as caught:
            node_place(level, index, size)
        assert caught.value.code is Code.LEDGER_MALFORMED


def test_the_widest_tile() -> None:
    assert tile_at(0, 0, 5) == Tile(0, 0, 5)
    assert tile_at(None, 1, 700) == Tile(None, 1)
    assert tile_at(1, 0, 255) is None
    assert tile_at(0, 1, 256) is None


def test_bundles() -> None:
    entries = (b"", b"a", b"b" * LEDGER_ENTRY_MAX)
    data = encode_entries(entries)
    assert decode_entries(data, 3) == entries
    for bad, width in (
        (data, 2), (data, 4), (data + b"\0", 3), (data[:-1], 3), (b"", 1), (b"\0", 1),
        (encode_entries([b"b" * (LEDGER_ENTRY_MAX + 1)]), 1),
    ):  # fmt: skip
        with pytest.raises(FormatError) as caught:
            decode_entries(bad, width)
        assert caught.value.code is Code.LEDGER_MALFORMED


def test_tiles_are_exactly_as_wide_as_they_say() -> None:
    assert decode_tile(bytes(64), 2) == (bytes(32), bytes(32))
    for length, width in ((0, 1), (63, 2), (65, 2), (64, 1)):
        with pytest.raises(FormatError) as caught:
            decode_tile(bytes(length), width)
        assert caught.value.code is Code.LEDGER_MALFORMED
