"""`endorsements export` and `endorsements import`: sets in one file, over an air gap."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import click

from proxy_attestation.cli.endorsing.options import FILE, PLACE, Place, place_of, roots_option, worst
from proxy_attestation.cli.endorsing.report import outcome_lines, outcome_to_json, times
from proxy_attestation.cli.evidence_file import parse_time, read_input
from proxy_attestation.cli.output import json_option, print_json
from proxy_attestation.cli.whole_file import write_whole
from proxy_attestation.codes import Code
from proxy_attestation.endorsements.bundle import BUNDLE_MAX, decode_bundle, encode_bundle
from proxy_attestation.endorsements.cache import set_digest
from proxy_attestation.endorsements.fetched import FetchedSet
from proxy_attestation.endorsements.http import utc_now
from proxy_attestation.endorsements.kds import PRODUCTS, AmdTarget, check_amd
from proxy_attestation.endorsements.pcs import IntelTarget, check_intel, pieces_of
from proxy_attestation.endorsements.peek import peek_crl
from proxy_attestation.endorsements.refresh import Outcome
from proxy_attestation.errors import ProxyAttestationError, UnavailableError
from proxy_attestation.formats.tee import Tee


@click.command("export", short_help="Write every set into one file.")
@click.argument("place", metavar="STATE|DIR", type=PLACE)
@click.argument("file", metavar="FILE", type=click.Path(dir_okay=False, path_type=Path))
@json_option
def export_command(place: Path, file: Path, *, as_json: bool) -> int:
    """Write every set that `fetch`, `watch` or `import` keep in STATE or DIR into FILE, one JSON object.

    The same sets give the same bytes: FILE can be compared, signed or put under version control.

    \b
    JSON: {"file", "sets": [{"name", "sha256", "valid_until"}]}

    \b
    Example, from a machine that reaches the vendors to one that does not:
      proxy-attestation endorsements fetch sets/ --tee tdx --fmspc 00806F050000
      proxy-attestation endorsements export sets/ sets.json
      proxy-attestation endorsements import sets.json STATE

    \b
    Exit status:
      0   written
      2   usage, or FILE cannot be written
      5   there is no set, or one cannot be read
    """
    cache = place_of(place, ()).cache
    held = cache.held()
    if not held:
        raise UnavailableError(Code.ENDORSEMENTS_UNAVAILABLE, f"{cache.directory}: no set was fetched or imported")
    sets = {name: item.files() for name, item in held.items()}
    write_whole(file, encode_bundle(sets))
    items = [
        {"name": name, "sha256": set_digest(sets[name]), "valid_until": times(held[name].valid_until)}
        for name in sorted(sets)
    ]
    if as_json:
        print_json({"file": str(file), "sets": items})
    else:
        for item in items:
            click.echo(f"{item['name']}  {item['sha256']}  until {item['valid_until']}")
    return 0


@click.command("import", short_help="Verify and keep the sets of such a file.")
@click.argument("file", metavar="FILE", type=FILE)
@click.argument("place", metavar="STATE|DIR", type=PLACE)
@roots_option
@click.option("--at", metavar="RFC3339", help="The time to judge at. Default: now.")
@json_option
def import_command(file: Path, place: Path, *, roots: tuple[Path, ...], at: str | None, as_json: bool) -> int:
    """Verify the sets in FILE, which `export` wrote, and keep them in STATE/endorsements or DIR.

    FILE is trusted for nothing: each set must verify to the pinned roots, hold now, be what its name says, and not be
    older than what is there. One that is refused does not keep the others out.

    \b
    JSON: as `fetch`; "source" is FILE

    \b
    Exit status:
      0   every set is kept
      2   usage
      3   at least one set was rejected
      4   FILE is no such bundle
      5   at least one set is expired, or older than what is there
    """
    found = place_of(place, roots)
    now = utc_now() if at is None else parse_time(at)
    sets = decode_bundle(read_input(str(file), BUNDLE_MAX))
    outcomes = [_import(found, str(file), name, files, now) for name, files in sets.items()]
    if as_json:
        print_json({"sets": [outcome_to_json(outcome) for outcome in outcomes]})
    else:
        for outcome in outcomes:
            for line in outcome_lines(outcome):
                click.echo(line)
    return worst([outcome.error for outcome in outcomes if outcome.error is not None])


def _import(place: Place, source: str, name: str, files: Mapping[str, bytes], now: datetime) -> Outcome:
    try:
        item = place.cache.held().get(name)
        fetched = _check(place, name, files, now, {} if item is None else item.numbers)
        new = place.cache.store(fetched)
    except ProxyAttestationError as error:
        return Outcome(name, source, error=error)
    place.cache.succeeded(name, source, now)
    return Outcome(name, source, fetched, new)


def _check(place: Place, name: str, files: Mapping[str, bytes], now: datetime, held: Mapping[str, int]) -> FetchedSet:
    tee, _, rest = name.partition("-")
    if tee == "snp":
        product = next(item for item in PRODUCTS if item.lower() == rest)
        target = AmdTarget(product, vlek="vlek_cert_chain.pem" in files)
        return check_amd(files, target, place.pins, now, held=held)
    pieces = pieces_of(files)
    issuer = peek_crl(pieces.pck_crl or b"")[0]
    ca = "platform" if "Platform" in issuer else "processor"
    return check_intel(pieces, IntelTarget(Tee(tee), bytes.fromhex(rest), ca), place.roots, now, held)
