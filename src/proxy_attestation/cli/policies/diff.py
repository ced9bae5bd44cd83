"""`policy diff`: what changes from one policy to another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from proxy_attestation.authority.policy_directory import PolicyDirectory
from proxy_attestation.cli.output import json_option, print_json
from proxy_attestation.cli.policies.describe import deny_lines, entry_lines, short
from proxy_attestation.errors import RefusedError, UsageError
from proxy_attestation.policy.load import load_policy
from proxy_attestation.policy.model import Policy

_SAID_ELSEWHERE = "entry"


@dataclass(frozen=True, slots=True)
class Change:
    """What one key lost and gained, each in its order."""

    removed: tuple[str, ...]
    added: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class PolicyDifference:
    """Everything that differs.

    Attributes:
        whole: keys of the whole file.
        dangers: lines of `[danger]`.
        deny: by key of `[deny]`.
        added: names of entries that only the new one has.
        removed: likewise, the old one.
        changed: entries of both, and what changed in each, by key.
    """

    whole: Mapping[str, Change]
    dangers: Change
    deny: Mapping[str, Change]
    added: tuple[str, ...]
    removed: tuple[str, ...]
    changed: Mapping[str, Mapping[str, Change]]

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        nothing = Change((), ())
        return not (self.whole or self.deny or self.added or self.removed or self.changed) and self.dangers == nothing


def compare_policies(before: Policy, after: Policy) -> PolicyDifference:
    """Compare two policies, indexes resolved; the version counts as any other key."""
    old, new = before.workloads, after.workloads
    changed = {
        name: changes
        for name in old
        if name in new and (changes := _changes(entry_lines(before, old[name]), entry_lines(after, new[name])))
    }
    return PolicyDifference(
        whole=_changes(_whole(before), _whole(after)),
        dangers=_change(before.dangers, after.dangers),
        deny=_changes(deny_lines(before), deny_lines(after)),
        added=tuple(name for name in new if name not in old),
        removed=tuple(name for name in old if name not in new),
        changed=changed,
    )


def _whole(policy: Policy) -> dict[str, list[str]]:
    names = ("version", "trust_domain", "min_lifetime", "max_lifetime")
    return {name: [str(getattr(policy, name))] for name in names}


def _changes(before: Mapping[str, Sequence[str]], after: Mapping[str, Sequence[str]]) -> dict[str, Change]:
    found = {key: _change(before.get(key, ()), after.get(key, ())) for key in dict.fromkeys((*before, *after))}
    return {key: change for key, change in found.items() if change != Change((), ())}


def _change(before: Sequence[str], after: Sequence[str]) -> Change:
    removed = tuple(value for value in before if value not in after)
    return Change(removed, tuple(value for value in after if value not in before))


@click.command("diff")
@click.argument("old", metavar="A")
@click.argument("new", metavar="B")
@click.option(
    "--state",
    type=click.Path(exists=True, file_okay=False, path_type=Path),
    help="The authority whose versions A and B may name, by their numbers.",
)
@json_option
def diff(old: str, new: str, *, state: Path | None, as_json: bool) -> int:
    """Show what changes from policy A to policy B; each is a file, or with --state the number of a kept version.

    \b
    One line for each value that goes (-) or comes (+), under the entry that it belongs to:
      entries that are new or gone; each pin, name, owner, TCB word; dangers; what is denied.

    \b
    Exit status: 0 nothing differs; 3 something does; 4 one of them is no good policy.

    \b
    Examples:
      proxy-attestation policy diff STATE/policy.toml new/policy.toml
      proxy-attestation policy diff 7 8 --state STATE --json
    """
    before, after = (_read(given, state) for given in (old, new))
    difference = compare_policies(before, after)
    if as_json:
        print_json(_to_json(difference))
    else:
        _print(difference, before, after)
    return 0 if difference.same else RefusedError.exit_status


def _read(given: str, state: Path | None) -> Policy:
    path = Path(given)
    if state is not None and given.isascii() and given.isdigit():
        return PolicyDirectory(state).version(int(given)).policy
    if not path.is_file():
        raise UsageError(f"{given!r} is no file" + ("; a version takes --state" if state is None else ""))
    return load_policy(path)


def _print(difference: PolicyDifference, before: Policy, after: Policy) -> None:
    _print_changes("", difference.whole)
    _print_changes("[danger] ", {"": difference.dangers}, strong=True)
    _print_changes("[deny] ", difference.deny)
    for sign, names, policy in (("-", difference.removed, before), ("+", difference.added, after)):
        for name in names:
            click.echo(f"{sign} entry {name}")
            for key, values in entry_lines(policy, policy.workloads[name]).items():
                if key != _SAID_ELSEWHERE:
                    click.echo(f"{sign}   {key} {', '.join(map(short, values))}")
    for name, changes in difference.changed.items():
        click.echo(f"entry {name}")
        _print_changes("  ", changes)
    if difference.same:
        click.echo("nothing differs")


def _print_changes(before: str, changes: Mapping[str, Change], *, strong: bool = False) -> None:
    for key, change in changes.items():
        for sign, values in (("-", change.removed), ("+", change.added)):
            for value in values:
                line = f"{sign} {before}{key}{' ' if key else ''}{short(value)}"
                click.echo(click.style(line, fg="red", bold=True) if strong and sign == "+" else line)


def _to_json(difference: PolicyDifference) -> dict[str, object]:
    def changes(found: Mapping[str, Change]) -> dict[str, object]:
        return {key: {"removed": list(one.removed), "added": list(one.added)} for key, one in found.items()}

    return {
        "same": difference.same,
        "whole": changes(difference.whole),
        "dangers": changes({"": difference.dangers})[""],
        "deny": changes(difference.deny),
        "added": list(difference.added),
        "removed": list(difference.removed),
        "changed": {name: changes(found) for name, found in difference.changed.items()},
    }
