"""`status`: what is in force in an authority."""

from datetime import UTC, datetime
from pathlib import Path

import click

from proxy_attestation.authority.operations import STATUS, CaStatus, Nothing
from proxy_attestation.cli.operator import operate, state_argument
from proxy_attestation.cli.output import json_option, print_json


@click.command("status")
@state_argument
@json_option
def command(state: Path, *, as_json: bool) -> int:
    """Show what is in force in the authority of STATE, whether `serve` runs on it or not.

    The running authority is asked through STATE/run/operator.sock; where none runs, STATE is opened, checked and
    closed again as at a start.

    \b
    Example:
      proxy-attestation status STATE --json
    """
    status = operate(state, STATUS, Nothing())
    if as_json:
        print_json(
            {
                "trust_domain": status.trust_domain,
                "simulated": status.simulated,
                "key_origin": status.key_origin,
                "policy_version": status.policy_version,
                "policy_digest": status.policy_digest.hex(),
                "dangers": list(status.dangers),
                "entries": status.entries,
                "ledger_key": status.ledger_key,
                "cas": [_ca_to_json(ca) for ca in status.cas],
                "time": _time(status.now),
            }
        )
        return 0
    click.echo(f"trust domain   {status.trust_domain}{' (SIMULATED)' if status.simulated else ''}")
    click.echo(f"keys           {status.key_origin}")
    click.echo(f"policy         version {status.policy_version}, digest {status.policy_digest.hex()}")
    click.echo(f"ledger         {status.entries} entries")
    click.echo(f"ledger key     {status.ledger_key}")
    for ca in status.cas:
        name = f"issuing CA {ca.number}" if ca.number else "root"
        state_of = "signs" if ca.signs else "signs no more"
        click.echo(f"{name:<14} {ca.spki_sha256.hex()} until {_time(ca.not_after)}, {state_of}")
    for danger in status.dangers:
        click.echo(f"DANGER         {danger}")
    return 0


def _ca_to_json(ca: CaStatus) -> dict[str, object]:
    return {
        "number": ca.number,
        "spki_sha256": ca.spki_sha256.hex(),
        "not_before": _time(ca.not_before),
        "not_after": _time(ca.not_after),
        "signs": ca.signs,
    }


def _time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")
