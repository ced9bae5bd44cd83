"""`recover`: bring an authority's keys back, with the shares of its custodians (docs/keys.md)."""

import os
from datetime import UTC, datetime
from pathlib import Path

import click

from proxy_attestation.authority.settings import SETTINGS_MAX
from proxy_attestation.cli.operator import state_argument
from proxy_attestation.cli.output import json_option, print_json
from proxy_attestation.cli.receiving import FILE, asking_options, judged, judging_options, read_file, receive
from proxy_attestation.cli.signing import read_custodian_key
from proxy_attestation.cli.whole_file import write_whole
from proxy_attestation.formats.key_transfer import HPKE_OVERHEAD, NONCE_BYTES, Purpose
from proxy_attestation.recovery.custodian import approve
from proxy_attestation.recovery.shares import SHARE_MAX


@click.group("recover", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Bring an authority's keys back after its disk or TEE was lost; takes custodians (`init --custodian`).

    \b
    A whole round (docs/keys.md); NEWSTATE is a backup of STATE on the new proxy:
      proxy-attestation recover receive NEWSTATE --tee sgx --request r --approval a1 --approval a2     (waits)
      proxy-attestation recover approve r --share alice.share --key alice.pem --statement d.note \\
          --authority authority.toml --endorsements sets/ --out a1
    """


@command.command("receive")
@state_argument
@click.option(
    "--approval", "approvals", required=True, multiple=True, metavar="FILE", type=click.Path(path_type=Path),
    help="Where a custodian's approval will be; repeat it for as many as it takes.",
)  # fmt: skip
@asking_options
@json_option
def receive_command(
    state: Path,
    *,
    approvals: tuple[Path, ...],
    tee: str,
    attester: str | None,
    request_file: Path,
    wait: int,
    as_json: bool,
) -> None:
    """Ask the custodians of the authority of STATE, wait for their approvals, and put its keys in.

    STATE is a backup of the authority's, with its recovery/escrow; whatever is in its keys/ is replaced. This runs in
    the TEE of the new proxy.
    """
    nonce = os.urandom(NONCE_BYTES)
    keys = receive(state, Purpose.RECOVERY, nonce, (attester, tee), request_file, approvals, wait)
    names = [key.name for key in keys]
    if as_json:
        print_json({"recovered": names})
    else:
        click.echo(f"recovered: {', '.join(names)}")


@command.command("approve")
@click.argument("request", type=FILE)
@click.option("--share", required=True, metavar="FILE", type=FILE, help="Your share, from STATE/recovery.")
@click.option("--key", required=True, metavar="PEM", type=FILE, help="Your key: X25519, PKCS#8.")
@click.option("--authority", required=True, metavar="FILE", type=FILE, help="The authority's authority.toml.")
@judging_options
@click.option("--tcb", multiple=True, metavar="STATUS", help="Accept this state of the platform; default: UpToDate.")
@click.option("--out", required=True, metavar="FILE", type=click.Path(path_type=Path), help="Where the approval goes.")
@json_option
def approve_command(
    request: Path,
    *,
    share: Path,
    key: Path,
    authority: Path,
    statement: Path,
    endorsements: tuple[Path, ...],
    tcb: tuple[str, ...],
    out: Path,
    as_json: bool,
) -> None:
    """Give your share to the proxy that made REQUEST, if its evidence is genuine and the statement names it.

    Runs on your own machine: nobody else's check stands in for yours. Before that, ask the people who run the proxy
    whether and why they recover it.
    """
    data, note, collateral = judged(request, statement, endorsements)
    made = approve(
        data,
        note,
        read_file(authority, SETTINGS_MAX),
        read_file(share, SHARE_MAX + HPKE_OVERHEAD),
        read_custodian_key(key),
        collateral,
        datetime.now(UTC),
        frozenset(tcb) or None,
    )
    write_whole(out, made.sealed)
    if as_json:
        print_json({"approved": str(made.claims.tee), "custodian": made.custodian, "out": str(out)})
    else:
        click.echo(
            f"approved by {made.custodian}, in {out}: a proxy in {made.claims.tee}, genuine, named by the signers"
        )
