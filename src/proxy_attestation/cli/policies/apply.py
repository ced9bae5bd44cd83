"""`policy apply`: put another policy in force."""

from datetime import UTC, datetime
from pathlib import Path

import click

from proxy_attestation.authority.policy_directory import PolicyDirectory
from proxy_attestation.authority.policy_operations import APPLY_POLICY, Staged
from proxy_attestation.cli.operator import operate, state_argument
from proxy_attestation.cli.output import json_option, print_json
from proxy_attestation.policy.load import load_policy_files
from proxy_attestation.policy.reference import require_current


@click.command("apply")
@state_argument
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@json_option
def apply(state: Path, file: Path, *, as_json: bool) -> int:
    """Put the policy FILE in force in the authority of STATE, running or not; nothing restarts.

    Its signatures (FILE.note) are checked where the authority has signers, its version must be higher than every one
    before, and it must be for this authority. The files and signatures are copied into STATE; a crash leaves the old
    ones or the new ones whole. When the command ends, no worker answers under the policy that was in force before.

    \b
    Exit status: 0 it is in force; 4 it was refused (`policy.unsigned`, `policy.signature`, `policy.stale`,
    `policy.malformed`), and the old one is in force; 5 the authority did not answer: ask `status`.

    \b
    Example:
      proxy-attestation policy apply STATE new/policy.toml
    """
    directory = PolicyDirectory(state)
    found = load_policy_files(file)
    require_current(found.policy, int(datetime.now(UTC).timestamp()))
    name = directory.stage(found)
    try:
        applied = operate(state, APPLY_POLICY, Staged(name))
    finally:
        directory.discard(name)
    if as_json:
        print_json(
            {
                "changed": applied.changed,
                "version": applied.version,
                "policy_digest": applied.digest.hex(),
                "signers": list(applied.signers),
            }
        )
        return 0
    click.echo(f"policy         version {applied.version}, {'now in force' if applied.changed else 'in force before'}")
    click.echo(f"digest         {applied.digest.hex()}")
    click.echo(f"signed by      {', '.join(applied.signers) or 'nobody: this authority has no signers'}")
    return 0
