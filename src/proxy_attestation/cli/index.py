"""`index`: the digests of files, as `sha256sum` prints them, what changed since an older index, and measurements."""

import hashlib
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from proxy_attestation.cli.measure import measure, measure_options, refuse_others, show
from proxy_attestation.cli.output import json_option, print_json
from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError, UsageError
from proxy_attestation.formats.bounds import INDEX_FILES_MAX, INDEX_MAX
from proxy_attestation.formats.index import (
    IndexDifference,
    IndexLine,
    compare_indexes,
    format_index,
    parse_index,
    path_fault,
)
from proxy_attestation.formats.tee import Tee

EXIT_DIFFERENT = 3


@click.command("index")
@click.argument("paths", metavar="PATH...", nargs=-1, required=True)
@click.option(
    "-C",
    "--directory",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    default=Path(),
    help="Read every PATH relative to this directory, as `make -C` and `git -C` do.",
)
@click.option(
    "--diff",
    "old",
    metavar="OLD",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Print what changed since this older index, instead of the index.",
)
@measure_options
@json_option
def command(
    paths: tuple[str, ...],
    directory: Path,
    old: Path | None,
    kind: str | None,
    as_json: bool,
    **options: Any,
) -> int:
    """List files with their SHA-256, show what changed, or compute what a TEE will measure.

    Each line is what `sha256sum` prints: 64 hex digits, two spaces, the path. Lines are sorted by path as bytes.
    Directories are walked to their end. A policy takes such a file: `application = { index = FILE, sha256 = ...,
    paths = ["example.wat"] }`, and the digest of a Wasm module is the one printed here.

    PATH is relative and has no `..`; it is printed as given. What an index cannot hold is refused by name: a name
    with a backslash or a control character, a symbolic link to a directory, a device, more than 100,000 files.

    \b
    With --diff OLD, one line for each difference:
      + <digest>  <path>                 the file is new
      - <digest>  <path>                 the file is gone
      ~ <old digest> <digest>  <path>    the file has another content

    \b
    With --measure, the reference values of the one PATH, as text, --json, a policy's entry (--toml) or a file to sign
    (--values PRODUCT); docs/reference-values.md:
      sgx    SIGSTRUCT: Gramine's APPLICATION.sig
      tdx    event log (CCEL) of a TD
      snp    OVMF, with --vcpus, --vcpu-type and what else it starts with; needs the extra `measure`
      nitro  enclave image: what `nitro-cli build-enclave` writes
      tpm    event log of a machine, with --bank

    \b
    Examples:
      proxy-attestation index example.wat > reproducibility_index
      proxy-attestation index -C build example.wat lib > reproducibility_index
      sha256sum --check reproducibility_index
      proxy-attestation index example.wat --diff reproducibility_index
      proxy-attestation index --measure nitro application.eif --toml

    \b
    Exit status:
      0  the index was printed; with --diff: nothing differs
      3  with --diff: something differs
      2  a PATH cannot be used or read
      4  OLD is not an index, an index cannot hold a name that was found, or PATH is not what --measure takes
      5  --measure snp: the package that computes it is not installed
    """
    if kind is not None:
        if old is not None or len(paths) != 1:
            raise UsageError("--measure takes one PATH, and no --diff")
        return show(measure(Tee(kind), directory / paths[0], options), options, as_json=as_json)
    refuse_others(None)
    lines = tuple(_lines(paths, directory))
    if not lines:
        raise UsageError("no file under " + ", ".join(paths))
    if old is None:
        if as_json:
            print_json({"files": [_line_to_json(line) for line in lines]})
        else:
            click.echo(format_index(lines), nl=False)
        return 0
    difference = compare_indexes(_read_index(old), lines)
    if as_json:
        print_json(_difference_to_json(difference))
    else:
        _print_difference(difference)
    return 0 if difference.same else EXIT_DIFFERENT


def _lines(paths: tuple[str, ...], directory: Path) -> Iterator[IndexLine]:
    found: dict[str, Path] = {}
    for given in paths:
        here = given in (".", "./")
        name = "" if here else given.rstrip("/") or given
        fault = None if here else path_fault(name)
        if fault is not None:
            raise UsageError(f"{given!r}: {fault}; give paths relative to --directory")
        for path, file in _files(name, directory / name):
            found[path] = file
            if len(found) > INDEX_FILES_MAX:
                raise FormatError(Code.POLICY_MALFORMED, f"more than {INDEX_FILES_MAX} files")
    for path in sorted(found, key=str.encode):
        yield IndexLine(_digest(found[path]), path)


def _files(name: str, path: Path) -> Iterator[tuple[str, Path]]:
    """Yield (the path that is printed, the file) for a file, or for every file under a directory."""
    waiting = [(name, path)]
    while waiting:
        name, path = waiting.pop()
        fault = path_fault(name) if name else None
        if fault is not None:
            raise FormatError(Code.POLICY_MALFORMED, f"{name!r}: {fault}")
        try:
            mode = path.stat().st_mode
            if stat.S_ISREG(mode):
                yield name, path
            elif not stat.S_ISDIR(mode):
                raise FormatError(Code.POLICY_MALFORMED, f"{name!r}: neither a file nor a directory")
            elif path.is_symlink():
                raise FormatError(Code.POLICY_MALFORMED, f"{name!r}: a symbolic link to a directory")
            else:
                waiting.extend((f"{name}/{entry.name}" if name else entry.name, entry) for entry in path.iterdir())
        except OSError as error:
            raise UsageError(f"{str(path)!r}: {error.strerror}") from error


def _digest(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise UsageError(f"{str(path)!r}: {error.strerror}") from error


def _read_index(path: Path) -> tuple[IndexLine, ...]:
    try:
        with path.open("rb") as file:
            # A character is at most four bytes; parse_index bounds the characters.
            data = file.read(4 * INDEX_MAX + 1)
    except OSError as error:
        raise UsageError(f"{str(path)!r}: {error.strerror}") from error
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        raise FormatError(Code.POLICY_MALFORMED, f"{str(path)!r}: not UTF-8") from error
    return parse_index(text, Code.POLICY_MALFORMED)


def _line_to_json(line: IndexLine) -> dict[str, object]:
    return {"sha256": line.sha256.hex(), "path": line.path}


def _difference_to_json(difference: IndexDifference) -> dict[str, object]:
    return {
        "same": difference.same,
        "added": [_line_to_json(line) for line in difference.added],
        "removed": [_line_to_json(line) for line in difference.removed],
        "changed": [
            {"path": new.path, "old_sha256": old.sha256.hex(), "new_sha256": new.sha256.hex()}
            for old, new in difference.changed
        ],
    }


def _print_difference(difference: IndexDifference) -> None:
    rows = [(line.path, f"+ {line.sha256.hex()}  {line.path}") for line in difference.added]
    rows += [(line.path, f"- {line.sha256.hex()}  {line.path}") for line in difference.removed]
    rows += [(new.path, f"~ {old.sha256.hex()} {new.sha256.hex()}  {new.path}") for old, new in difference.changed]
    for _, row in sorted(rows):
        click.echo(row)
