"""`ledger export`: complete at any moment, only ever growing, and of one ledger."""

from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from ledgers import LOG_KEY, ORIGIN, FixedLogKey, signing

from proxy_attestation.authority.ledger import Ledger, Row
from proxy_attestation.authority.tree import Witnesses
from proxy_attestation.cli.ledger import command
from proxy_attestation.cli.ledgering import export as module
from proxy_attestation.cli.ledgering.export import export
from proxy_attestation.codes import Code
from proxy_attestation.errors import ProxyAttestationError
from proxy_attestation.formats.checkpoint import open_checkpoint
from proxy_attestation.formats.ledger_entry import EntryKind
from proxy_attestation.formats.merkle import read_frontier
from proxy_attestation.formats.signed_note import KeyType, Verifier
from proxy_attestation.formats.tiles import decode_tile, new_tiles, node_reader
from proxy_attestation.service.published import PublishedLedger

LOG = Verifier(ORIGIN, KeyType.ED25519, LOG_KEY.public_key)


def grow(ledger: Ledger, count: int, word: str = "entry") -> None:
    with ledger.transaction():
        first = ledger.size()
        ledger.append([Row(EntryKind.POLICY, f"{word} {index}".encode()) for index in range(first, first + count)])


def check(directory: Path) -> int:
    """Recompute the root from the files that the checkpoint needs; return its size."""
    told = open_checkpoint((directory / "checkpoint").read_bytes(), LOG)[0]
    assert all((directory / tile.path).exists() for tile in new_tiles(0, told.size))
    read = node_reader(lambda tile: decode_tile((directory / tile.path).read_bytes(), tile.width), told.size)
    assert read_frontier(read, told.size).root == told.root
    return told.size


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "www" / "ledger"


def test_it_follows_the_ledger(writer: Ledger, reader: PublishedLedger, out: Path) -> None:
    for count in (1, 254, 1, 1, 300, 66_000):
        grow(writer, count)
        size, written = export(reader, out)
        assert size == writer.size() == check(out)
        assert written
    assert export(reader, out) == (writer.size(), 0)
    assert not list(out.glob("tile/0/000.p")), "partial files go once the full one is there"
    assert (out / "checkpoint").stat().st_mode & 0o777 == 0o644


def test_killed_before_the_checkpoint_the_old_one_still_holds(
    writer: Ledger, reader: PublishedLedger, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    grow(writer, 200)
    export(reader, out)
    grow(writer, 700)
    write, left = module._write, [2]

    def dying(path: Path, data: bytes) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        write(path, data)

    monkeypatch.setattr(module, "_write", dying)
    with pytest.raises(KeyboardInterrupt):
        export(reader, out)
    assert check(out) == 200
    monkeypatch.undo()
    export(reader, out)
    assert check(out) == 900


def refused(action: Callable[[], Any]) -> Code:
    with pytest.raises(ProxyAttestationError) as caught:
        action()
    return caught.value.code


def test_another_ledger_than_the_one_that_is_there(
    writer: Ledger, reader: PublishedLedger, out: Path, tmp_path: Path
) -> None:
    grow(writer, 10)
    export(reader, out)
    for name, count, word, key, code in (
        ("shorter", 9, "entry", LOG_KEY, Code.LEDGER_ROLLBACK),
        ("other", 12, "other", LOG_KEY, Code.LEDGER_FORK),
    ):
        path = tmp_path / f"{name}.sqlite"
        path.touch(0o600)
        with closing(signing(Ledger.create(path))) as ledger, closing(PublishedLedger(path)) as another:
            grow(ledger, count, word)
            assert refused(lambda: export(another, out)) is code
        del key
    path = tmp_path / "origin.sqlite"
    path.touch(0o600)
    with closing(Ledger.create(path)) as ledger, closing(PublishedLedger(path)) as another:
        ledger.sign_with("example.org/other", FixedLogKey())
        grow(ledger, 10)
        assert refused(lambda: export(another, out)) is Code.LEDGER_FORK
    assert check(out) == 10


def test_what_witnesses_have_not_cosigned_stays(writer: Ledger, reader: PublishedLedger, out: Path) -> None:
    grow(writer, 10)
    writer.require_witnesses(Witnesses(1, ()))
    assert refused(lambda: export(reader, out)) is Code.LEDGER_WITNESS
    assert not out.exists()


def test_a_checkpoint_there_that_is_none(writer: Ledger, reader: PublishedLedger, out: Path) -> None:
    grow(writer, 10)
    export(reader, out)
    (out / "checkpoint").write_bytes(b"no note")
    assert refused(lambda: export(reader, out)) is Code.NOTE_MALFORMED


def test_the_command_also_where_no_authority_runs(writer: Ledger, tmp_path: Path, out: Path) -> None:
    grow(writer, 10)
    writer.close()
    done = CliRunner().invoke(command, ["export", str(tmp_path), str(out)], standalone_mode=False)
    assert done.exception is None, done.output
    assert check(out) == 10
