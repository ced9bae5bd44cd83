"""`endorsements`: vendors' collateral, fetched, kept fresh, carried to where no vendor can be reached."""

import asyncio
import signal
from datetime import datetime
from pathlib import Path

import click

from proxy_attestation.cli.endorsing.bundles import export_command, import_command
from proxy_attestation.cli.endorsing.forecast import forecast_command
from proxy_attestation.cli.endorsing.options import (
    PLACE,
    Place,
    SourceOptions,
    TargetOptions,
    getter_of,
    place_of,
    roots_option,
    source_options,
    sources_of,
    target_options,
    targets_of,
    worst,
)
from proxy_attestation.cli.endorsing.pck import pck_command
from proxy_attestation.cli.endorsing.report import outcome_lines, outcome_to_json, status_lines, status_to_json, times
from proxy_attestation.cli.output import json_option, print_json
from proxy_attestation.endorsements.early import read_early
from proxy_attestation.endorsements.http import utc_now
from proxy_attestation.endorsements.refresh import Outcome, Refresher, Target

EXIT_UNAVAILABLE = 5


@click.group("endorsements")
def command() -> None:
    """Fetch vendors' collateral, keep it fresh, carry it over an air gap.

    Everything is asked for at URLs that the operator configured and at no other, verified to the pinned roots before it
    is kept, and never older than what is kept already. What cannot be refreshed stays until it expires.

    A directory is either an authority's STATE (then its endorsements/ is meant, and its anchors count) or any other,
    which `appraise --endorsements` reads too. An `endorsements.toml` (STATE/endorsements.toml, or --config) says where
    to ask and for which platforms; options win. See docs/endorsements.md.
    """


@command.command("fetch", short_help="Ask the vendors now, verify, keep.")
@click.argument("place", metavar="STATE|DIR", type=PLACE)
@target_options
@source_options
@roots_option
@json_option
def fetch(place: Path, *, roots: tuple[Path, ...], as_json: bool, **options: object) -> int:
    """Fetch what the options or endorsements.toml name, now, and keep it in STATE/endorsements or DIR.

    Intel: TCB info, QE identity, PCK CRL and root CRL with their chains, for each --tee and --fmspc. AMD: the chain
    and CRL of VCEKs, with --vlek those of VLEKs too, for each --product. One that fails does not keep the others from
    being fetched, and what was there stays.

    \b
    JSON: {"sets": [{"name", "source", "result": "new" | "unchanged" | "failed", "valid_until", "refresh_at",
           "numbers": {...}, "error": {"code", "detail", "cause", "fix"} | null}]}

    \b
    Examples:
      proxy-attestation endorsements fetch STATE --tee sgx --tee tdx --fmspc 00806F050000
      proxy-attestation endorsements fetch sets/ --tee sgx --fmspc 00A067110000 --ca processor
      proxy-attestation endorsements fetch STATE --pccs https://localhost:8081 --ca-file pccs.pem
      proxy-attestation endorsements fetch sets/ --tee snp --product Genoa --vlek

    \b
    Exit status:
      0   everything was fetched
      2   usage
      3   at least one answer was rejected: not genuine, or not what was asked
      4   a malformed configuration
      5   at least one source was unavailable, stale, or made no sense
    """
    source, target = _split(options)
    found = place_of(place, roots, source["config_file"])
    targets = targets_of(found.config, target)
    outcomes = asyncio.run(_fetch(found, source, targets))
    if as_json:
        print_json({"sets": [outcome_to_json(outcome) for outcome in outcomes]})
    else:
        for outcome in outcomes:
            for line in outcome_lines(outcome):
                click.echo(line)
    return worst([outcome.error for outcome in outcomes if outcome.error is not None])


@command.command("watch", short_help="Keep sets fresh, in the foreground.")
@click.argument("place", metavar="STATE|DIR", type=PLACE)
@target_options
@source_options
@roots_option
@json_option
def watch(place: Path, *, roots: tuple[Path, ...], as_json: bool, **options: object) -> int:
    """Keep STATE/endorsements or DIR fresh, in the foreground, until SIGTERM or SIGINT.

    Takes the same options as `fetch`. Each set is refreshed at half of its life, up to a tenth earlier by chance; after
    a failure again after a minute, doubling up to an hour. A running `serve` takes up a new set within a second. One
    line for each refresh on standard output; with --json one object for each, as in `fetch`, with "next".

    \b
    Example:
      proxy-attestation endorsements watch STATE --config endorsements.toml

    \b
    Exit status:
      0   told to stop
      2   usage
      4   a malformed configuration
      5   the directory cannot be written
    """
    source, target = _split(options)
    found = place_of(place, roots, source["config_file"])
    asyncio.run(_watch(found, source, targets_of(found.config, target), as_json=as_json))
    return 0


@command.command("status", short_help="Say what there is, and what last failed.")
@click.argument("place", metavar="STATE|DIR", type=PLACE)
@json_option
def status(place: Path, *, as_json: bool) -> int:
    """Say which sets `fetch`, `watch` and `import` keep in STATE or DIR, until when they hold, and what last failed.

    \b
    JSON: {"sets": [{"name", "state": "fresh" | "due" | "expired" | "missing", "valid_until", "refresh_at", "numbers",
           "source", "last_success", "last_error": {"at", "code", "detail", "failures"} | null,
           "early": {"at", "evaluation_number", "platforms", "refused", "named": [...]} | null}]}

    \b
    Exit status:
      0   every set holds now
      2   usage
      5   at least one set is expired or missing, or the directory cannot be read
    """
    cache = place_of(place, ()).cache
    items = status_to_json(cache.held(), cache.statuses(), read_early(cache.directory), utc_now())
    if as_json:
        print_json({"sets": items})
    else:
        for line in status_lines(items):
            click.echo(line)
    return EXIT_UNAVAILABLE if any(item["state"] in ("expired", "missing") for item in items) else 0


for _command in (export_command, import_command, forecast_command, pck_command):
    command.add_command(_command)


def _split(options: dict[str, object]) -> tuple[SourceOptions, TargetOptions]:
    """Return the options of `source_options` and those of `target_options`."""
    source = {name: options[name] for name in SourceOptions.__annotations__}
    target = {name: options[name] for name in TargetOptions.__annotations__}
    return SourceOptions(**source), TargetOptions(**target)  # type: ignore[typeddict-item] # click checked the types


async def _fetch(place: Place, options: SourceOptions, targets: tuple[Target, ...]) -> list[Outcome]:
    outcomes = []
    async with getter_of(place.config, options) as getter:
        sources = sources_of(getter, place, options)
        refresher = Refresher(place.cache, sources)
        for target in targets:
            click.echo(f"{target.name}: asking {sources.of(target)}", err=True)
            outcomes.append(await refresher.refresh(target))
    return outcomes


async def _watch(place: Place, options: SourceOptions, targets: tuple[Target, ...], *, as_json: bool) -> None:
    def report(outcome: Outcome, due: datetime) -> None:
        if as_json:
            print_json({**outcome_to_json(outcome), "next": times(due)})
        else:
            for line in outcome_lines(outcome):
                click.echo(f"{line}; next at {times(due)}")

    async def wait(seconds: float) -> bool:
        await asyncio.sleep(seconds)
        return False

    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - asyncio.run runs us as one
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, task.cancel)
    try:
        async with getter_of(place.config, options) as getter:
            sources = sources_of(getter, place, options)
            click.echo(f"watching {len(targets)} sets in {place.cache.directory}", err=True)
            await Refresher(place.cache, sources).watch(targets, wait, report)
    except asyncio.CancelledError:
        click.echo("stopped", err=True)
