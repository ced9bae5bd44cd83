"""`policy check`: what a policy file says, and what is wrong with it."""

from datetime import UTC, datetime
from pathlib import Path

import click

from proxy_attestation import __version__
from proxy_attestation.appraisal.roots import VENDOR_ROOTS
from proxy_attestation.cli.output import error_to_json, json_option, print_json
from proxy_attestation.cli.policies.describe import deny_lines, entry_lines, policy_json, short
from proxy_attestation.endorsements.load import load_roots
from proxy_attestation.policy.digest import policy_digest
from proxy_attestation.policy.load import PolicyFileError, load_policy
from proxy_attestation.policy.model import Policy
from proxy_attestation.policy.reference import require_current


@click.command("check")
@click.argument("file", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--roots",
    "root_files",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    multiple=True,
    help="A root certificate (DER or PEM) instead of the pinned vendors', as for a simulated authority; repeatable.",
)
@json_option
def check(file: Path, root_files: tuple[Path, ...], as_json: bool) -> int:
    """Read a policy FILE and the indexes it names, and say what it accepts.

    Everything that is wrong with it is printed at once, with line and fix, and the exit status is 4.

    The digest is that of an authority which has the given roots and has not seen any endorsements yet; a running one
    also has the floors of what it saw in its digest.
    """
    roots = load_roots(root_files) if root_files else VENDOR_ROOTS
    try:
        policy = load_policy(file)
    except PolicyFileError as error:
        if as_json:
            problems = [
                {"line": p.line, "code": str(p.code), "message": p.message, "fix": p.fix} for p in error.problems
            ]
            print_json({"error": {**error_to_json(error), "file": error.file, "problems": problems}})
        else:
            _print_problems(error)
        return error.exit_status
    require_current(policy, int(datetime.now(UTC).timestamp()))
    digest = policy_digest(policy, roots, {}, __version__)
    if as_json:
        print_json(policy_json(policy, digest))
    else:
        _print(policy, digest)
    return 0


def _print_problems(error: PolicyFileError) -> None:
    click.echo(f"error: {error.code}: {len(error.problems)} problem(s) in {error.file}", err=True)
    for problem in error.problems:
        click.echo(f"  line {problem.line}: {problem.message}", err=True)
        click.echo(f"    fix: {problem.fix}", err=True)


def _print(policy: Policy, digest: bytes) -> None:
    click.echo(f"policy version {policy.version} for {policy.trust_domain}")
    click.echo(f"lifetime {policy.min_lifetime} s to {policy.max_lifetime} s")
    for danger in policy.dangers:
        click.echo(click.style(f"DANGER {danger}", fg="red", bold=True))
    if not policy.dangers:
        click.echo("no danger is switched on")
    for key, values in deny_lines(policy).items():
        click.echo(f"deny {key}: {', '.join(values)}")
    for workload in policy.workloads.values():
        click.echo()
        for name, values in entry_lines(policy, workload).items():
            for value in values:
                click.echo(f"  {name:<17} {short(value)}" if name != "entry" else value)
                name = ""  # noqa: PLW2901 - the name stands beside its first value only
    click.echo()
    click.echo(f"policy digest {digest.hex()}")
