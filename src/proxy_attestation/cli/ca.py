"""`ca`: list an authority's CAs, rotate the issuing CA, have another root succeed (docs/life.md)."""

import ssl
from datetime import UTC, datetime
from pathlib import Path

import click

from proxy_attestation.authority.life_operations import (
    CA_LIST,
    CA_ROTATE,
    CA_SUCCEED,
    CaEntry,
    CaList,
    No,
    Rotate,
    Succeed,
)
from proxy_attestation.cli.operator import operate, state_argument
from proxy_attestation.cli.output import json_option, print_json
from proxy_attestation.cli.whole_file import write_whole


@click.group("ca")
def command() -> None:
    """List an authority's CAs, rotate the issuing CA, have another root succeed.

    The running authority of STATE does it; where none runs, STATE is opened and closed again.
    """


@command.command("list")
@state_argument
@click.option("--out", metavar="FILE", type=click.Path(path_type=Path), help="Write every root there, PEM.")
@json_option
def list_(state: Path, *, out: Path | None, as_json: bool) -> None:
    """Show every CA that has not expired: its state, its dates, whether its key is there, its pin.

    \b
    Example:
      proxy-attestation ca list STATE --json
    """
    found = operate(state, CA_LIST, No())
    if out is not None:
        roots = [ssl.DER_cert_to_PEM_cert(ca.certificate) for ca in found.cas if ca.root]
        write_whole(out, "".join(roots).encode())
    _print(found, as_json=as_json)


@command.command()
@state_argument
@click.option("--now", is_flag=True, help="Have it sign at once, not in 7 days.")
@json_option
def rotate(state: Path, *, now: bool, as_json: bool) -> None:
    """Prepare the next issuing CA, or have it sign at once.

    The one before signs what challenges still name it for, for ten minutes; an hour later its key is destroyed.

    \b
    Example:
      proxy-attestation ca rotate STATE --now
    """
    _print(operate(state, CA_ROTATE, Rotate(now)), as_json=as_json)


@command.command()
@state_argument
@click.option("--activate", is_flag=True, help="Have the root that was made sign now, not 30 days after it was made.")
@json_option
def succeed(state: Path, *, activate: bool, as_json: bool) -> None:
    """Make the next root and certify it both ways, or have it sign.

    Clients that know only the old root accept the new one's certificates, and the other way round, until the old root
    expires.

    \b
    Example:
      proxy-attestation ca succeed STATE
      proxy-attestation ca succeed STATE --activate
    """
    _print(operate(state, CA_SUCCEED, Succeed(activate)), as_json=as_json)


def _print(found: CaList, *, as_json: bool) -> None:
    if as_json:
        print_json({"sequence": found.sequence, "cas": [_to_json(ca) for ca in found.cas]})
        return
    for ca in found.cas:
        name = f"root G{ca.number}" if ca.root else f"issuing CA {ca.number}"
        key = "key here" if ca.key else "no key"
        begin, end = _time(ca.not_before), _time(ca.not_after)
        click.echo(f"{name:<14} {ca.state:<8} {begin} to {end}, {key:<8} {ca.spki_sha256.hex()}")


def _to_json(ca: CaEntry) -> dict[str, object]:
    return {
        "kind": "root" if ca.root else "issuing",
        "number": ca.number,
        "state": ca.state,
        "not_before": _time(ca.not_before),
        "not_after": _time(ca.not_after),
        "key": ca.key,
        "pin": ca.spki_sha256.hex(),
        "pem": ssl.DER_cert_to_PEM_cert(ca.certificate),
    }


def _time(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
