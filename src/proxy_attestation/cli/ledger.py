"""`ledger`: verify, watch and witness a proxy's ledger with nothing but its public files."""

import contextlib
import hashlib
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Final

import click
from cryptography import x509

from proxy_attestation.cli.ledgering.export import export_command
from proxy_attestation.cli.ledgering.options import (
    DIGEST,
    FILE,
    load_witness_policy,
    log_options,
    open_source,
    read_file,
)
from proxy_attestation.cli.ledgering.report import (
    checkpoint_to_json,
    entry_to_json,
    event_line,
    event_to_json,
    progress,
    time_text,
)
from proxy_attestation.cli.ledgering.witness import vkey_command, witness_command
from proxy_attestation.cli.output import error_to_json, json_option, print_error, print_json
from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError, RefusedError, UnavailableError, UsageError
from proxy_attestation.formats.bounds import CERTIFICATE_MAX, LEDGER_ENTRY_MAX
from proxy_attestation.formats.checkpoint import Checkpoint, open_checkpoint
from proxy_attestation.formats.merkle import leaf_hash
from proxy_attestation.formats.pem import CERTIFICATE, decode_pem, is_pem
from proxy_attestation.formats.signed_note import Verifier
from proxy_attestation.formats.tiles import TILE_WIDTH
from proxy_attestation.formats.tlog_policy import TlogPolicy
from proxy_attestation.formats.tlog_proof import TLOG_PROOF_MAX, TlogProof, parse_tlog_proof, verify_tlog_proof
from proxy_attestation.transparency.files import make_folder
from proxy_attestation.transparency.monitor import Alarm, Expected, Monitor
from proxy_attestation.transparency.reader import TreeReader, read_checkpoint
from proxy_attestation.transparency.source import CopyingSource, Source
from proxy_attestation.transparency.verify import Counts, decode_logged, verify_ledger

EXIT_REFUSED: Final = 3
_DAY: Final = 86_400


def _now() -> int:
    return int(time.time())


@click.group("ledger")
def command() -> None:
    """Verify, watch and witness a proxy's ledger, with nothing but its public files.

    LOCATION is a directory with the ledger's files, or the https URL that they are served under. See docs/ledger.md.
    """


@command.command("verify", short_help="Check a ledger, or that an entry stands in it.")
@click.argument("location", metavar="[LOCATION]", required=False)
@log_options
@click.option("--proof", "proof_file", metavar="FILE", type=FILE, help="A .tlog-proof; without LOCATION, off line.")
@click.option("--entry", "entry_file", metavar="FILE", type=FILE, help="Its entry.  [default: the one in LOCATION]")
@click.option("--certificate", "certificate_file", metavar="FILE", type=FILE, help="The entry must be this one's.")
@click.option("--copy", metavar="DIR", type=click.Path(path_type=Path), help="Keep the files that were read there.")
@click.option("--full/--quick", default=True, help="Read every entry and tile (the default), or the tree's edge only.")
@json_option
def verify(
    location: str | None,
    *,
    key: Verifier,
    policy_file: Path | None,
    root: Path | None,
    server_name: str | None,
    proof_file: Path | None,
    entry_file: Path | None,
    certificate_file: Path | None,
    copy: Path | None,
    full: bool,
    as_json: bool,
) -> None:
    """Check the ledger at LOCATION: signature and cosignatures, every entry and tile, the root.

    With --proof: check that one entry stands in the ledger. Without LOCATION that takes no network; with it, the ledger
    must also continue the tree that the proof was made in.

    \b
    Examples:
      proxy-attestation ledger verify https://proxy.example.org:7444 --root root.pem --key VKEY
      proxy-attestation ledger verify --key VKEY --proof leaf.tlog-proof --certificate leaf.pem
    """
    if location is None and proof_file is None:
        raise UsageError("LOCATION or --proof is needed")
    if proof_file is None and (entry_file or certificate_file):
        raise UsageError("--entry and --certificate go with --proof")
    policy = load_witness_policy(policy_file, key)
    proof = None if proof_file is None else parse_tlog_proof(read_file(proof_file, TLOG_PROOF_MAX))
    entry = None if entry_file is None else read_file(entry_file, LEDGER_ENTRY_MAX)
    if entry is None and proof is not None:
        entry = proof.extra
    result: dict[str, object] = {"verdict": "good"}
    if location is not None:
        with contextlib.ExitStack() as stack:
            source = open_source(stack, location, root, server_name)
            kept = None if copy is None else CopyingSource(source, copy)
            checkpoint, note = read_checkpoint(kept or source, key, policy)
            if proof is not None:
                entry = _continued(
                    TreeReader(kept or source, checkpoint), checkpoint, proof, entry, key=key, policy=policy
                )
            counts = _whole(kept or source, checkpoint, full=full)
            if kept is not None:
                kept.finish(note.encode())
        result |= checkpoint_to_json(checkpoint)
        if counts is not None:
            newest = None if counts.newest is None else time_text(counts.newest)
            result |= {"entries": dict(counts.kinds), "newest": newest}
    if proof is not None:
        if entry is None:
            raise UsageError("the proof carries no entry: LOCATION or --entry is needed")
        result["proof"] = _proven(proof, entry, certificate_file, key, policy)
    if as_json:
        print_json(result)
        return
    for name, value in result.items():
        click.echo(f"{name:<10}{_line(value)}")


def _line(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_line(one)}" for name, one in value.items())
    return str(value)


def _whole(source: Source, checkpoint: Checkpoint, *, full: bool) -> Counts | None:
    if not full:
        TreeReader(source, checkpoint)
        return None
    with progress(checkpoint.size) as step:
        return verify_ledger(source, checkpoint, step)


def _continued(
    reader: TreeReader, newest: Checkpoint, proof: TlogProof, entry: bytes | None, *, key: Verifier, policy: TlogPolicy
) -> bytes:
    """Check that a ledger goes on from the tree of a proof; return the proof's entry, its own where none was given."""
    proven, _, signed = open_checkpoint(proof.checkpoint, key, policy.verifiers)
    policy.require(signed)
    if proven.size > newest.size:
        raise RefusedError(Code.LEDGER_ROLLBACK, f"a tree of {newest.size}, and the proof's has {proven.size}")
    if reader.root(proven.size) != proven.root:
        raise RefusedError(Code.LEDGER_FORK, "the ledger does not continue the tree of the proof")
    if entry is not None:
        return entry
    if proof.index >= newest.size:
        raise RefusedError(Code.LEDGER_PROOF, f"no entry {proof.index} in a ledger of {newest.size}")
    return reader.entries(proof.index // TILE_WIDTH)[proof.index % TILE_WIDTH]


def _proven(
    proof: TlogProof, data: bytes, certificate_file: Path | None, key: Verifier, policy: TlogPolicy
) -> dict[str, object]:
    """Check that an entry stands in the tree of a proof, and is that of a certificate; return it for printing."""
    checkpoint = verify_tlog_proof(proof, leaf_hash(data), key, policy)
    entry = decode_logged(proof.index, data)
    if certificate_file is not None and entry.tbs_sha256 != _tbs_digest(certificate_file):
        raise RefusedError(Code.LEDGER_PROOF, "the entry is that of another certificate")
    return {**entry_to_json(proof.index, entry), "tree": checkpoint_to_json(checkpoint)}


def _tbs_digest(path: Path) -> bytes:
    code = Code.LEDGER_MALFORMED
    data = read_file(path, 8 * CERTIFICATE_MAX)
    if is_pem(data):
        data = decode_pem(data, CERTIFICATE, code, count=8, limit=CERTIFICATE_MAX)[0]
    try:
        return hashlib.sha256(x509.load_der_x509_certificate(data).tbs_certificate_bytes).digest()
    except (ValueError, TypeError) as error:
        raise FormatError(code, f"{path}: not a certificate") from error


@command.command("monitor", short_help="Follow a ledger and raise alarms.")
@click.argument("location")
@log_options
@click.option("--state", required=True, metavar="DIR", type=click.Path(path_type=Path), help="What was seen last.")
@click.option("--interval", type=click.IntRange(1, _DAY), default=60, show_default=True, help="Seconds between looks.")
@click.option("--once", is_flag=True, help="Look once; exit 3 on an alarm.")
@click.option("--expect-measurement", "measurements", metavar="HEX", multiple=True, type=DIGEST, help="Repeatable.")
@click.option("--expect-policy", "policies", metavar="HEX", multiple=True, type=DIGEST, help="Repeatable.")
@click.option(
    "--max-age",
    type=click.IntRange(0),
    default=26 * 3600,
    show_default=True,
    metavar="SECONDS",
    help="A ledger without news for longer is stale; 0: never.",
)
@json_option
def monitor(
    location: str,
    *,
    key: Verifier,
    policy_file: Path | None,
    root: Path | None,
    server_name: str | None,
    state: Path,
    interval: int,
    once: bool,
    measurements: tuple[bytes, ...],
    policies: tuple[bytes, ...],
    max_age: int,
    as_json: bool,
) -> int:
    """Follow the ledger at LOCATION: print new entries, alarm on what must not be.

    Alarms: a fork, a smaller tree (a restored snapshot), no news for too long, files that do not fit the checkpoint,
    missing cosignatures; with --expect-measurement or --expect-policy an entry with any other. Leaves, policies, CA
    events, ownership and revocations are printed; the proxy's own TLS certificates are only checked.

    A proxy renews its own certificate every 16 hours, so its ledger never goes without news for longer. With --json,
    one object a line.

    \b
    Example:
      proxy-attestation ledger monitor https://proxy.example.org:7444 --root root.pem --key VKEY --state seen
    """
    policy = load_witness_policy(policy_file, key)
    make_folder(state)
    expected = Expected(frozenset(measurements), frozenset(policies), max_age or None)
    watcher = Monitor(key, policy, state, expected, _now)
    with contextlib.ExitStack() as stack:
        source = open_source(stack, location, root, server_name)
        if once:
            return _look(watcher, source, as_json=as_json)
        # What was seen is replaced whole, so ending anywhere is as good as ending between two looks.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        while True:
            try:
                _look(watcher, source, as_json=as_json)
            except UnavailableError as error:
                if as_json:
                    print_json({"event": "unavailable", **error_to_json(error)})
                else:
                    print_error(error)
            threading.Event().wait(interval)


def _look(watcher: Monitor, source: Source, *, as_json: bool) -> int:
    status = 0
    for event in watcher.look(source):
        status = EXIT_REFUSED if isinstance(event, Alarm) else status
        if as_json:
            print_json(event_to_json(event))
        else:
            click.echo(event_line(event), err=isinstance(event, Alarm))
    sys.stdout.flush()
    return status


command.add_command(witness_command)
command.add_command(export_command)
command.add_command(vkey_command)
