"""`endorsements pck`: a platform's PCK certificate."""

import asyncio
from dataclasses import replace
from pathlib import Path

import click

from proxy_attestation.appraisal.pck_chain import PckChain
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
from proxy_attestation.cli.evidence_file import read_input
from proxy_attestation.cli.output import json_option, print_json
from proxy_attestation.endorsements.cache import Cache
from proxy_attestation.endorsements.http import utc_now
from proxy_attestation.endorsements.pcs import PckRequest, fetch_pck
from proxy_attestation.errors import UsageError

_API_KEY_MAX = 256


@click.command("pck", short_help="Fetch the PCK certificate of a platform.")
@click.option("--encrypted-ppid", required=True, metavar="HEX", help="256 or 384 bytes.")
@click.option("--cpu-svn", required=True, metavar="HEX", help="16 bytes.")
@click.option("--pce-svn", required=True, metavar="HEX", help="2 bytes, little-endian.")
@click.option("--pce-id", required=True, metavar="HEX", help="2 bytes, little-endian.")
@click.option("--qe-id", metavar="HEX", default="", help="16 bytes; a PCCS needs it.")
@click.option("--api-key-file", metavar="FILE", type=FILE, help="Holds the subscription key that PCS asks for.")
@source_options
@roots_option
@json_option
def pck_command(
    *,
    encrypted_ppid: str,
    cpu_svn: str,
    pce_svn: str,
    pce_id: str,
    qe_id: str,
    api_key_file: Path | None,
    roots: tuple[Path, ...],
    as_json: bool,
    **options: object,
) -> None:
    """Fetch a platform's PCK certificate for one TCB level, verify its chain, print it in PEM, leaf first.

    The arguments are those that Intel's PCK ID retrieval tool prints on the platform. Evidence with certification data
    of types 1 to 3 needs such a chain beside it.

    \b
    JSON: {"chain_pem", "fmspc", "pce_id", "pce_svn", "cpu_svn", "components": [...], "valid_until"}

    \b
    Exit status:
      0   good
      2   usage
      3   the certificate was rejected
      5   the source is unavailable, or knows no such platform
    """
    source = SourceOptions(**{name: options[name] for name in SourceOptions.__annotations__})  # type: ignore[typeddict-item] # click checked the types
    request = PckRequest(
        _hex("--encrypted-ppid", encrypted_ppid, 256, 384),
        _hex("--cpu-svn", cpu_svn, 16),
        _hex("--pce-svn", pce_svn, 2),
        _hex("--pce-id", pce_id, 2),
        _hex("--qe-id", qe_id, 0, 16),
    )
    api_key = "" if api_key_file is None else read_input(str(api_key_file), _API_KEY_MAX).decode("ascii", "replace")
    if not api_key.strip().isprintable() or len(api_key) > _API_KEY_MAX or not api_key.isascii():
        raise UsageError("--api-key-file: a key of printable characters was expected")
    config = NOTHING if source["config_file"] is None else load_config(source["config_file"])
    place = Place(Cache(Path()), *anchors(roots), config)
    pem, chain = asyncio.run(_fetch(place, source, request, api_key.strip()))
    if not as_json:
        click.echo(pem.decode(), nl=False)
        return
    extension = chain.extension
    print_json(
        {
            "chain_pem": pem.decode(),
            "fmspc": extension.fmspc.hex(),
            "pce_id": extension.pce_id.hex(),
            "pce_svn": extension.pce_svn,
            "cpu_svn": extension.cpu_svn.hex(),
            "components": list(extension.components),
            "valid_until": f"{chain.valid_until:%Y-%m-%dT%H:%M:%SZ}",
        }
    )


async def _fetch(place: Place, options: SourceOptions, request: PckRequest, api_key: str) -> tuple[bytes, PckChain]:
    async with getter_of(place.config, options) as getter:
        service = replace(sources_of(getter, place, options).intel, api_key=api_key)
        return await fetch_pck(service, request, place.roots, utc_now())


def _hex(option: str, text: str, *lengths: int) -> bytes:
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) not in lengths or len(text) != 2 * len(value):
        raise UsageError(f"{option}: {' or '.join(str(length) for length in lengths)} bytes in hex were expected")
    return value
