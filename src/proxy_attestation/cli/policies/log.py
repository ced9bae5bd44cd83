"""`policy log`: the policies that were in force, as the ledger has them."""

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import click

from proxy_attestation.authority import state as layout
from proxy_attestation.authority.policy_directory import PolicyDirectory
from proxy_attestation.authority.private_files import read_private
from proxy_attestation.authority.settings import SETTINGS_MAX, Settings, decode_settings
from proxy_attestation.cli.operator import state_argument
from proxy_attestation.cli.output import json_option, print_json
from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError
from proxy_attestation.formats.ledger_entry import LedgerEntry, decode_entry
from proxy_attestation.reappraisal.ledger_view import LedgerView


@dataclass(frozen=True, slots=True)
class Version:
    """A version of the policy, from the entry that put it in force to the next version's.

    Attributes:
        index: of the first entry.
        entry: the first entry.
        digest: 32 bytes, of the last entry: floors and software are in it too.
        kept: whether its very files are still in STATE.
        signers: who signed them; None where the files are gone, or not signed as this authority demands.
    """

    index: int
    entry: LedgerEntry
    digest: bytes
    kept: bool
    signers: tuple[str, ...] | None


@click.command("log")
@state_argument
@json_option
def log(state: Path, *, as_json: bool) -> int:
    """List the policies that were in force in the authority of STATE, the newest last; `serve` may run or not.

    Version, time, digest and what was signed stand in the ledger. Who signed is read from the files that are kept in
    STATE/policies, checked against the ledger and the authority's signers.

    \b
    Example:
      proxy-attestation policy log STATE --json
    """
    settings = _settings(state)
    with LedgerView.open(state / layout.LEDGER) as view:
        versions = read_log(view.policies(), PolicyDirectory(state), settings)
    if as_json:
        print_json({"signers": list(map(str, settings.signers)), "threshold": settings.threshold,
                    "versions": [_to_json(version) for version in versions]})  # fmt: skip
        return 0
    for version in versions:
        click.echo(f"version {version.entry.policy_version}, in force from {_time(version)}, entry {version.index}")
        click.echo(f"  digest     {version.digest.hex()}")
        click.echo(f"  signed     SHA-256 {(version.entry.policy_text_sha256 or b'').hex()}")
        if version.signers is None:
            who = "not known: its files are gone or changed" if not version.kept else "not by enough of the signers"
        else:
            who = ", ".join(version.signers) or "nobody: this authority has no signers"
        click.echo(f"  signed by  {who}")
    return 0


def read_log(
    entries: Iterable[tuple[int, bytes]], directory: PolicyDirectory, settings: Settings
) -> tuple[Version, ...]:
    """Return every version that was in force, in order.

    Args:
        entries: (index, bytes) of the ledger's entries about policies, in order.
        directory: where files of versions are kept.
        settings: of the authority.

    Raises:
        FormatError: `authority.state`, for an entry that is none.
    """
    found: list[tuple[int, LedgerEntry, bytes]] = []
    for index, data in entries:
        entry = decode_entry(data)
        said = (entry.policy_version, entry.policy_text_sha256)
        if found and (found[-1][1].policy_version, found[-1][1].policy_text_sha256) == said:
            first = found.pop()
            found.append((first[0], first[1], entry.policy_digest or b""))
        else:
            found.append((index, entry, entry.policy_digest or b""))
    return tuple(Version(index, entry, digest, *_kept(entry, directory, settings)) for index, entry, digest in found)


def _kept(entry: LedgerEntry, directory: PolicyDirectory, settings: Settings) -> tuple[bool, tuple[str, ...] | None]:
    try:
        files = directory.version(entry.policy_version or 0)
    except ConfigurationError:
        return False, None
    if hashlib.sha256(files.text.encode()).digest() != entry.policy_text_sha256:
        return False, None
    try:
        return True, settings.check_signatures(files)
    except ConfigurationError:
        return True, None


def _settings(state: Path) -> Settings:
    try:
        return decode_settings(read_private(state / layout.SETTINGS, SETTINGS_MAX))
    except OSError as error:
        raise ConfigurationError(Code.AUTHORITY_STATE, f"{error.filename}: {error.strerror}") from error


def _time(version: Version) -> str:
    return datetime.fromtimestamp(version.entry.policy_time or 0, UTC).isoformat().replace("+00:00", "Z")


def _to_json(version: Version) -> dict[str, object]:
    return {
        "version": version.entry.policy_version,
        "time": _time(version),
        "policy_digest": version.digest.hex(),
        "text_sha256": (version.entry.policy_text_sha256 or b"").hex(),
        "index": version.index,
        "kept": version.kept,
        "signers": None if version.signers is None else list(version.signers),
    }
