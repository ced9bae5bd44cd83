"""What `reappraise` and `policy what-if` have in common: progress, the table, JSON, the exit status."""

import contextlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

import click

from proxy_attestation.cli.output import print_json
from proxy_attestation.errors import RefusedError, UnavailableError
from proxy_attestation.reappraisal.judge import Outcome
from proxy_attestation.reappraisal.survey import Finding, Survey

_STEP = 50


def gather(survey: Survey, *, quiet: bool) -> list[Finding]:
    """Judge all; show how far it is on standard error, where that is a terminal and there is much to do."""
    found: list[Finding] = []
    with _progress(survey.live, quiet=quiet or survey.live < 2 * _STEP) as step:
        for one in survey.findings:
            found.append(one)
            if not len(found) % _STEP:
                step(_STEP)
    return found


@contextlib.contextmanager
def _progress(length: int, *, quiet: bool) -> Iterator[Callable[[int], None]]:
    if quiet or not sys.stderr.isatty():
        yield lambda _: None
        return
    with click.progressbar(length=length, label="certificates", file=sys.stderr) as bar:
        yield bar.update


def status(findings: list[Finding]) -> int:
    """Return the exit status: 3 where some would fall, 5 where some could not be judged and none fell, or 0."""
    outcomes = {one.outcome for one in findings}
    if Outcome.REFUSED in outcomes:
        return RefusedError.exit_status
    return UnavailableError.exit_status if Outcome.UNAVAILABLE in outcomes else 0


def report_json(survey: Survey, findings: list[Finding], at: datetime, rows: list[Finding]) -> None:
    """Print one JSON object: counts of all, the rows that are of interest."""
    print_json(
        {
            "at": time_text(int(at.timestamp())),
            "policy_version": survey.policy_version,
            **counts(findings),
            "collateral_problems": list(survey.problems),
            "certificates": [row_json(one) for one in rows],
        }
    )


def report_lines(survey: Survey, findings: list[Finding], rows: list[Finding]) -> None:
    """Print a table of rows, then the counts of all."""
    table = [("INDEX", "WORKLOAD", "NAMES", "EXPIRES", "VERDICT", "CODES")]
    for one in rows:
        names = ", ".join(one.names) or f"sha256:{one.names_sha256.hex()[:16]}"
        codes = ", ".join(map(str, one.codes)) or "-"
        table.append((str(one.index), one.workload or "?", names, time_text(one.not_after), one.outcome, codes))
    if rows:
        widths = [max(len(row[column]) for row in table) for column in range(5)]
        for row in table:
            cells = [cell.ljust(width) for cell, width in zip(row[:5], widths, strict=True)]
            click.echo("  ".join([*cells, row[5]]))
    for problem in survey.problems:
        click.echo(f"WARNING  collateral not used: {problem}", err=True)
    numbers = counts(findings)
    click.echo(
        f"{numbers['live']} live, by policy version {survey.policy_version}: {numbers['accepted']} accepted,"
        f" {numbers['refused']} refused, {numbers['unavailable']} not judged"
    )


def counts(findings: list[Finding]) -> dict[str, int]:
    """Return how many there are, and of each verdict."""
    found = Counter(one.outcome for one in findings)
    return {"live": len(findings), **{str(outcome): found[outcome] for outcome in Outcome}}


def row_json(one: Finding) -> dict[str, object]:
    """Return a certificate as a JSON object."""
    return {
        "index": one.index,
        "serial": one.serial,
        "certificate_id": one.certificate_id,
        "workload": one.workload or None,
        "names": list(one.names),
        "names_sha256": one.names_sha256.hex(),
        "expires": time_text(one.not_after),
        "verdict": str(one.outcome),
        "codes": [str(code) for code in one.codes],
        "detail": one.detail,
        "renew_now": [str(code) for code in one.early],
    }


def time_text(seconds: int) -> str:
    """Return a time as RFC 3339 in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
