"""Every hash and entry out of a ledger's files is authenticated, whichever file was changed, cut or taken away."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ledger_entries import leaf
from logs import TestKey, TestLog, witness_key

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError, ProxyAttestationError, RefusedError, UnavailableError
from proxy_attestation.formats.tiles import BUNDLE_MAX, encode_entries, new_tiles
from proxy_attestation.formats.tlog_policy import TlogPolicy, parse_tlog_policy
from proxy_attestation.transparency.reader import TILES_KEPT, TreeReader, first_entries, read_checkpoint
from proxy_attestation.transparency.verify import read_entries, verify_ledger

LogOf = Callable[[int], TestLog]
SourceOf = Callable[[TestLog], Any]


def verified(source: Any, log: TestLog) -> Any:
    checkpoint, _ = read_checkpoint(source, log.key.verifier, TlogPolicy())
    return verify_ledger(source, checkpoint)


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 600])
def test_a_good_ledger(log_of: LogOf, source_of: SourceOf, size: int) -> None:
    log = log_of(size)
    counts = verified(source_of(log), log)
    assert counts.kinds == ({"leaf": size} if size else {})
    assert counts.newest == (999 + size if size else None)


def test_every_file_is_read(log_of: LogOf, source_of: SourceOf) -> None:
    log = log_of(600)
    source = source_of(log)
    verified(source, log)
    assert set(source.paths) == {"checkpoint", *(tile.path for tile in new_tiles(0, 600))}


@pytest.mark.exhaustive
def test_no_file_may_be_changed_cut_or_absent(log_of: LogOf, source_of: SourceOf) -> None:
    log = log_of(600)
    source = source_of(log)
    for tile in new_tiles(0, 600):
        data = log.tile(tile)
        for place in (0, 1, 31, len(data) // 2, len(data) - 1):
            changed = bytearray(data)
            changed[place] ^= 1
            source.instead = {tile.path: bytes(changed)}
            with pytest.raises((RefusedError, FormatError)) as caught:
                verified(source, log)
            assert caught.value.code in (Code.LEDGER_ROOT, Code.LEDGER_MALFORMED)
        for cut in (b"", data[:-1], data + b"\0"):
            source.instead = {tile.path: cut}
            with pytest.raises(FormatError) as malformed:
                verified(source, log)
            assert malformed.value.code is Code.LEDGER_MALFORMED
        source.instead = {tile.path: None}
        with pytest.raises(UnavailableError) as absent:
            verified(source, log)
        assert absent.value.code is Code.LEDGER_UNREACHABLE


def test_another_tree_under_this_log_s_files(log_of: LogOf, source_of: SourceOf) -> None:
    log = log_of(300)
    source = source_of(log)
    other = TestLog(log.key).add([*log.entries[:-1], leaf(999)])
    source.instead = {"checkpoint": other.checkpoint()}
    with pytest.raises(RefusedError) as caught:
        verified(source, log)
    assert caught.value.code is Code.LEDGER_ROOT


def test_an_entry_that_no_authority_writes(source_of: SourceOf) -> None:
    log = TestLog().add([leaf(1), b"something"])
    with pytest.raises(FormatError) as caught:
        verified(source_of(log), log)
    assert caught.value.code is Code.LEDGER_MALFORMED


@pytest.mark.parametrize("size", [1, 5, 300, 511])
def test_partial_files_that_a_grown_log_no_longer_keeps(
    log_of: LogOf, source_of: SourceOf, tmp_path: Path, size: int
) -> None:
    log = log_of(size)
    source_of(log)
    source = source_of(log.add(leaf(number) for number in range(size, 600)))
    for path in ("tile/0/000.p", "tile/0/001.p", "tile/entries/000.p", "tile/entries/001.p"):
        if size // 256 == int(path[-3]):  # the file that has become full since
            shutil.rmtree(tmp_path / "log" / path)
    source.instead = {"checkpoint": log.checkpoint(size)}
    assert verified(source, log).kinds == {"leaf": size}
    assert any(".p/" in path for path in source.paths)


def test_roots_of_smaller_trees_and_entries_from_anywhere(log_of: LogOf, source_of: SourceOf) -> None:
    log = log_of(600)
    checkpoint, _ = read_checkpoint(source_of(log), log.key.verifier, TlogPolicy())
    reader = TreeReader(source_of(log), checkpoint)
    assert all(reader.root(size) == log.root(size) for size in range(0, 601, 7))
    assert list(read_entries(reader, 250, 530)) == [(i, log.entries[i]) for i in range(250, 530)]
    assert list(read_entries(reader, 600, 600)) == []


@pytest.mark.slow
def test_few_tiles_are_held(source_of: SourceOf) -> None:
    log = TestLog().add(b"%d" % number for number in range(256 * (TILES_KEPT + 10) + 3))
    source = source_of(log)
    checkpoint, _ = read_checkpoint(source, log.key.verifier, TlogPolicy())
    reader = TreeReader(source, checkpoint)
    for _ in read_entries(reader, 0, checkpoint.size):
        assert len(reader._kept) <= TILES_KEPT
    # Read again after it was let go, and authenticated again.
    first = "tile/0/000"
    assert source.paths.count(first) == 1
    source.instead = {first: bytes(8192)}
    with pytest.raises(RefusedError):
        reader.entries(0)


def test_the_checkpoint_s_own_faults(log_of: LogOf, source_of: SourceOf) -> None:
    log, source = log_of(3), source_of(log_of(3))

    def code(data: bytes | None, policy: TlogPolicy = TlogPolicy()) -> Code:  # noqa: B008 - immutable
        source.instead = {"checkpoint": data}
        with pytest.raises(ProxyAttestationError) as caught:
            read_checkpoint(source, log.key.verifier, policy)
        return caught.value.code

    assert code(None) is Code.LEDGER_UNREACHABLE
    assert code(b"no checkpoint") is Code.NOTE_MALFORMED
    assert code(TestLog(TestKey(secret="another")).checkpoint()) is Code.NOTE_SIGNATURE
    policy = parse_tlog_policy(f"witness w {witness_key().verifier}\nquorum w\n")
    assert code(log.checkpoint(), policy) is Code.LEDGER_WITNESSES
    source.instead = {"checkpoint": log.checkpoint(None, witness_key())}
    assert read_checkpoint(source, log.key.verifier, policy)[0].size == 3


def test_the_beginning_of_a_bundle() -> None:
    entries = [b"a", b"", b"ccc"]
    assert [first_entries(encode_entries(entries), n) for n in range(4)] == [
        encode_entries(entries[:n]) for n in range(4)
    ]
    assert len(first_entries(b"\xff\xff" * (BUNDLE_MAX // 2), 256)) <= BUNDLE_MAX
