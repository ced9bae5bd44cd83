"""`policy`: what a policy file says, and what is wrong with it."""

import hashlib
from datetime import UTC, datetime
from pathlib import Path

import click

from proxy_attestation import __version__
from proxy_attestation.appraisal.roots import VENDOR_ROOTS
from proxy_attestation.cli.output import error_to_json, json_option, print_json
from proxy_attestation.cli.whatif import what_if
from proxy_attestation.endorsements.load import load_roots
from proxy_attestation.policy.digest import policy_digest
from proxy_attestation.policy.load import PolicyFileError, load_policy
from proxy_attestation.policy.model import OwnerKind, Policy, Workload
from proxy_attestation.policy.names import spiffe_id
from proxy_attestation.policy.ownership import launch_data
from proxy_attestation.policy.pins import pins_readable


@click.group("policy")
def command() -> None:
    """Check a policy."""


command.add_command(what_if)


@command.command("check")
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
        policy = load_policy(file, int(datetime.now(UTC).timestamp()))
    except PolicyFileError as error:
        if as_json:
            problems = [
                {"line": p.line, "code": str(p.code), "message": p.message, "fix": p.fix} for p in error.problems
            ]
            print_json({"error": {**error_to_json(error), "file": error.file, "problems": problems}})
        else:
            _print_problems(error)
        return error.exit_status
    digest = policy_digest(policy, roots, {}, __version__)
    if as_json:
        print_json(_to_json(policy, digest))
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
    for workload in policy.workloads.values():
        click.echo()
        for name, values in _workload_lines(policy, workload).items():
            for value in values:
                click.echo(f"  {name:<17} {_short(value)}" if name != "entry" else value)
                name = ""  # noqa: PLW2901 - the name stands beside its first value only
    click.echo()
    click.echo(f"policy digest {digest.hex()}")


def _short(value: str) -> str:
    return f"all zero ({len(value) // 2} bytes)" if len(value) > 16 and not value.strip("0") else value


def _workload_lines(policy: Policy, workload: Workload) -> dict[str, list[str]]:
    names = [spiffe_id(policy.trust_domain, workload.name), *workload.names.readable()]
    return {
        "entry": [f"{workload.name} ({workload.tee})"],
        "names": names,
        "owner": _owner_lines(workload),
        **{name: list(values) for name, values in pins_readable(workload.tee, workload.pins).items()},
        "debug": ["ALLOWED" if workload.allow_debug else "refused"],
        "tcb": list(workload.tcb),
        "advisories": list(workload.advisories) or ["none"],
        "application": [digest.hex() for digest in workload.application] or ["no claim"],
        "key_origins": [origin.name.lower() for origin in workload.key_origins],
        "max_lifetime": [f"{workload.max_lifetime} s"],
    }


def _owner_lines(workload: Workload) -> list[str]:
    owner = workload.owner
    if owner.kind is OwnerKind.CHIP_IDS:
        return [f"{owner.kind}: one of {len(owner.chips)} machines at a time"]
    if owner.kind is OwnerKind.TENANT_KEY:
        value = launch_data(workload.tee, owner.key).hex()
        return [f"{owner.kind} {hashlib.sha256(owner.key).hexdigest()}", f"{owner.place} {value}"]
    return [str(owner.kind)]


def _to_json(policy: Policy, digest: bytes) -> dict[str, object]:
    return {
        "version": policy.version,
        "trust_domain": policy.trust_domain,
        "min_lifetime": policy.min_lifetime,
        "max_lifetime": policy.max_lifetime,
        "dangers": list(policy.dangers),
        "policy_digest": digest.hex(),
        "workloads": [_workload_to_json(policy, workload) for workload in policy.workloads.values()],
    }


def _workload_to_json(policy: Policy, workload: Workload) -> dict[str, object]:
    return {
        "name": workload.name,
        "tee": str(workload.tee),
        "spiffe_id": spiffe_id(policy.trust_domain, workload.name),
        "names": list(workload.names.readable()),
        "owner": str(workload.owner.kind),
        "pins": {name: list(values) for name, values in pins_readable(workload.tee, workload.pins).items()},
        "allow_debug": workload.allow_debug,
        "tcb": list(workload.tcb),
        "advisories": list(workload.advisories),
        "application": [digest.hex() for digest in workload.application],
        "key_origins": [origin.name.lower() for origin in workload.key_origins],
        "max_lifetime": workload.max_lifetime,
    }
