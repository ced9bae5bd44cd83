"""`endorsements forecast`: which platforms a coming TCB recovery would refuse."""

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from proxy_attestation.cli.endorsing.config import NOTHING, load_config
from proxy_attestation.cli.endorsing.options import (
    FILE,
    Place,
    SourceOptions,
    anchors,
    getter_of,
    roots_option,
    source_options,
    sources_of,
)
from proxy_attestation.cli.evidence_file import from_text, read_input
from proxy_attestation.cli.output import json_option, print_json
from proxy_attestation.endorsements.cache import Cache
from proxy_attestation.endorsements.forecast import Outlook, Platform, judge, outlook_to_json, read_platform
from proxy_attestation.endorsements.http import utc_now
from proxy_attestation.endorsements.pcs import IntelTarget, pieces_of
from proxy_attestation.endorsements.refresh import Sources
from proxy_attestation.formats.bounds import QUOTE_MAX
from proxy_attestation.formats.pem import is_pem
from proxy_attestation.formats.tee import Tee

EXIT_REFUSED = 3


@click.command("forecast", short_help="Say whom a coming TCB release would refuse.")
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=FILE)
@click.option(
    "--tee",
    type=click.Choice([str(Tee.SGX), str(Tee.TDX)]),
    default="sgx",
    help="Of a PCK certificate.  [default: sgx]",
)
@source_options
@roots_option
@json_option
def forecast_command(
    files: tuple[Path, ...], *, tee: str, roots: tuple[Path, ...], as_json: bool, **options: object
) -> int:
    """Say which platforms the coming TCB release would refuse: warning months ahead of a TCB recovery.

    Each FILE is a quote (raw, hex or base64) or a PCK certificate (PEM or DER) of a platform. Fetches both releases of
    Intel's collateral for its family, `standard` and `early`, verifies both, keeps neither, and judges the platform by
    each. A PCK certificate alone is judged by its SVNs, without quoting enclave and TDX module.

    \b
    JSON: {"platforms": [{"file", "tee", "fmspc", "standard": OUTLOOK, "early": OUTLOOK}]}
          OUTLOOK: {"status" | null, "code" | null, "detail", "evaluation_number", "advisories": [...]}

    \b
    Example:
      proxy-attestation endorsements forecast quotes/*.bin --pccs https://localhost:8081

    \b
    Exit status:
      0   no platform would be out of date, revoked or refused
      2   usage
      3   at least one would; or collateral was rejected
      4   a FILE is neither a quote nor a PCK certificate
      5   a source is unavailable
    """
    source = SourceOptions(**{name: options[name] for name in SourceOptions.__annotations__})  # type: ignore[typeddict-item] # click checked the types
    platforms = [_platform(file, Tee(tee)) for file in files]
    config = NOTHING if source["config_file"] is None else load_config(source["config_file"])
    place = Place(Cache(Path()), *anchors(roots), config)
    outlooks = asyncio.run(_judge(place, source, platforms))
    items = [
        {
            "file": platform.label,
            "tee": str(platform.tee),
            "fmspc": platform.fmspc.hex(),
            **{release: outlook_to_json(outlook) for release, outlook in judged.items()},
        }
        for platform, judged in zip(platforms, outlooks, strict=True)
    ]
    if as_json:
        print_json({"platforms": items})
    else:
        for item in items:
            click.echo(_line(item))
    return EXIT_REFUSED if any(judged["early"].code is not None for judged in outlooks) else 0


def _platform(file: Path, tee: Tee) -> Platform:
    data = read_input(str(file), 2 * QUOTE_MAX)
    return read_platform(str(file), data if is_pem(data) else from_text(data), tee)


async def _judge(place: Place, options: SourceOptions, platforms: list[Platform]) -> list[Mapping[str, Outlook]]:
    outlooks: list[Mapping[str, Outlook]] = []
    sets: dict[IntelTarget, Mapping[str, bytes]] = {}
    async with getter_of(place.config, options) as getter:
        sources = sources_of(getter, place, options)
        for platform in platforms:
            judged = {}
            for release in ("standard", "early"):
                target = IntelTarget(platform.tee, platform.fmspc, platform.ca, release)
                if target not in sets:
                    click.echo(f"{target.name}: asking {sources.of(target)} for the {release} release", err=True)
                    sets[target] = await _fetch(sources, target)
                judged[release] = judge(platform, pieces_of(sets[target]), place.roots, utc_now())
            outlooks.append(judged)
    return outlooks


async def _fetch(sources: Sources, target: IntelTarget) -> Mapping[str, bytes]:
    return (await sources.fetch(target, utc_now(), None)).files


def _line(item: Mapping[str, Any]) -> str:
    words = {
        release: f"{item[release]['status'] or item[release]['code']} ({item[release]['evaluation_number']})"
        for release in ("standard", "early")
    }
    warning = "  WOULD BE REFUSED" if item["early"]["code"] else ""
    return f"{item['file']}  {item['tee']} {item['fmspc']}  {words['standard']} -> {words['early']}{warning}"
