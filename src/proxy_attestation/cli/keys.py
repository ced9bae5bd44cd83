"""`keys`: hand an authority's keys over from one attested proxy to another (docs/keys.md)."""

from datetime import UTC, datetime
from pathlib import Path

import click

from proxy_attestation.appraisal.endorsements import DcapEndorsements, SnpEndorsements
from proxy_attestation.authority.keys_operations import KEYS_CHALLENGE, KEYS_HAND_OVER, Begin, HandOver
from proxy_attestation.cli.operator import operate, state_argument
from proxy_attestation.cli.output import json_option, print_json
from proxy_attestation.cli.receiving import FILE, asking_options, judged, judging_options, receive
from proxy_attestation.cli.whole_file import write_whole
from proxy_attestation.errors import UsageError
from proxy_attestation.formats.key_transfer import NONCE_BYTES, Purpose


@click.group("keys", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Hand an authority's keys over to another attested proxy, such as a newer one.

    \b
    A whole round (docs/keys.md); NEWSTATE is a copy of STATE on the new proxy:
      proxy-attestation keys challenge STATE
      proxy-attestation keys receive NEWSTATE --nonce HEX --tee sgx --request r --answer a     (waits)
      proxy-attestation keys hand-over STATE r --statement d.note --endorsements sets/ --out a
    """


@command.command("challenge")
@state_argument
@json_option
def challenge_command(state: Path, *, as_json: bool) -> None:
    """Print the nonce that the evidence of the asking proxy has to carry; only the last one counts, and once."""
    given = operate(state, KEYS_CHALLENGE, Begin())
    until = f"{datetime.fromtimestamp(given.until, UTC):%Y-%m-%dT%H:%M:%SZ}"
    if as_json:
        print_json({"nonce": given.nonce.hex(), "until": until})
        return
    click.echo(given.nonce.hex())
    click.echo(f"until {until}", err=True)


@command.command("receive")
@state_argument
@click.option("--nonce", required=True, metavar="HEX", help="What `keys challenge` printed.")
@click.option(
    "--answer", required=True, metavar="FILE", type=click.Path(path_type=Path), help="Where the answer will be."
)
@asking_options
@json_option
def receive_command(
    state: Path,
    *,
    nonce: str,
    answer: Path,
    tee: str,
    attester: str | None,
    request_file: Path,
    wait: int,
    as_json: bool,
) -> None:
    """Ask for the keys of the authority of STATE, wait for the answer, and put them in.

    STATE is a copy of the authority's; whatever is in its keys/ is replaced. This runs in the TEE of the new proxy.
    """
    try:
        given = bytes.fromhex(nonce)
    except ValueError:
        given = b""
    if len(given) != NONCE_BYTES:
        raise UsageError(f"--nonce: {NONCE_BYTES} bytes in hex")
    keys = receive(state, Purpose.HAND_OVER, given, (attester, tee), request_file, (answer,), wait)
    names = [key.name for key in keys]
    if as_json:
        print_json({"received": names})
    else:
        click.echo(f"received: {', '.join(names)}")


@command.command("hand-over")
@state_argument
@click.argument("request", type=FILE)
@judging_options
@click.option("--out", required=True, metavar="FILE", type=click.Path(path_type=Path), help="Where the answer goes.")
@json_option
def hand_over_command(
    state: Path, request: Path, *, statement: Path, endorsements: tuple[Path, ...], out: Path, as_json: bool
) -> None:
    """Give the keys of the authority of STATE to the proxy that made REQUEST, if its signers' statement names it.

    The authority judges, running or not. Stop it before the other one starts: two proxies with one key make two
    ledgers, and every monitor will call that a fork.
    """
    data, note, collateral = judged(request, statement, endorsements)
    intel = collateral if isinstance(collateral, DcapEndorsements) else None
    amd = collateral if isinstance(collateral, SnpEndorsements) else None
    given = operate(state, KEYS_HAND_OVER, HandOver(data, note, intel, amd))
    write_whole(out, given.bundle)
    if as_json:
        print_json({"handed_over": list(given.names), "out": str(out)})
    else:
        click.echo(f"handed over, in {out}: {', '.join(given.names)}")
