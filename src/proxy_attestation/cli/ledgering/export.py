"""`ledger export`: the published ledger as files, for any web server."""

import shutil
from pathlib import Path
from typing import Final

import click

from proxy_attestation.authority.state import LEDGER
from proxy_attestation.cli.output import json_option, print_json
from proxy_attestation.codes import Code
from proxy_attestation.errors import RefusedError, UnavailableError
from proxy_attestation.formats.bounds import NOTE_MAX
from proxy_attestation.formats.checkpoint import Checkpoint, parse_checkpoint
from proxy_attestation.formats.signed_note import parse_note
from proxy_attestation.formats.tiles import TILE_WIDTH, new_tiles
from proxy_attestation.service.published import PublishedLedger
from proxy_attestation.transparency.files import read_small, replace_file

CHECKPOINT: Final = "checkpoint"


@click.command("export", short_help="Write a ledger as static files.")
@click.argument("state", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.argument("directory", metavar="DIR", type=click.Path(file_okay=False, path_type=Path))
@json_option
def export_command(state: Path, directory: Path, *, as_json: bool) -> None:
    """Write what is published of the ledger in STATE to DIR, as C2SP tlog-tiles: entries, tiles, then the checkpoint.

    Run it again and again: it writes what is new since the checkpoint in DIR. Every file is synced before the
    checkpoint is, so that whoever reads DIR, at any moment, finds all that its checkpoint covers. It needs nothing of a
    running authority but its file, and cannot write that. A ledger that does not continue what DIR has is refused.

    \b
    Example:
      proxy-attestation ledger export /var/lib/proxy /var/www/ledger
    """
    ledger = PublishedLedger(state / LEDGER)
    try:
        size, files = export(ledger, directory)
    finally:
        ledger.close()
    if as_json:
        print_json({"size": size, "files": files})
    else:
        click.echo(f"{size} entries published, {files} files written")


def export(ledger: PublishedLedger, directory: Path) -> tuple[int, int]:
    """Write what is new; return how many entries are published then, and how many files were written.

    Raises:
        RefusedError: `ledger.rollback`, when DIR has more entries; `ledger.fork`, when it has others.
        FormatError: `note.malformed`, `ledger.malformed`, for a checkpoint in DIR that is none.
        ConfigurationError: `configuration.malformed`, when that cannot be read.
        UnavailableError: `authority.unavailable`, `ledger.inconsistent`; `ledger.unreachable`, when DIR cannot be
            written.
    """
    head = ledger.published()
    if head is None:
        raise UnavailableError(Code.LEDGER_WITNESS, "nothing is published yet")
    new = parse_checkpoint(parse_note(head.note).text)
    before = read_small(directory / CHECKPOINT, NOTE_MAX)
    old = None if before is None else parse_checkpoint(parse_note(before).text)
    if old is not None:
        _check_continues(ledger, old, new)
    old_size = 0 if old is None else old.size
    tiles = list(new_tiles(old_size, new.size))
    for tile in tiles:
        _write(directory / tile.path, ledger.tile(tile))
    if before != head.note:
        _write(directory / CHECKPOINT, head.note)
    for tile in tiles:
        if tile.width == TILE_WIDTH:
            # Whoever reads by an older checkpoint takes the full one instead (tlog-tiles, "Partial tiles").
            shutil.rmtree(directory / f"{tile.path}.p", ignore_errors=True)
    return new.size, len(tiles) + (before != head.note)


def _check_continues(ledger: PublishedLedger, old: Checkpoint, new: Checkpoint) -> None:
    if old.size > new.size:
        raise RefusedError(Code.LEDGER_ROLLBACK, f"{old.size} entries were exported, {new.size} are published")
    if old.origin != new.origin or (old.size and ledger.root(old.size) != old.root):
        raise RefusedError(Code.LEDGER_FORK, f"what was exported is no beginning of {new.origin}")


def _write(path: Path, data: bytes) -> None:
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        replace_file(path, data)
        path.chmod(0o644)
    except OSError as error:
        raise UnavailableError(Code.LEDGER_UNREACHABLE, f"{path}: {error.strerror or error}") from error
