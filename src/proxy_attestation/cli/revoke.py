"""`revoke`: certificates that shall count no more (docs/life.md)."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import click

from proxy_attestation.authority.life_operations import REVOKE, Revoke
from proxy_attestation.cli.operator import operate, state_argument
from proxy_attestation.cli.output import json_option, print_json
from proxy_attestation.errors import UsageError
from proxy_attestation.formats.ledger_entry import CrlReason

_REASONS: Final = {reason.name.lower().replace("_", "-"): reason for reason in CrlReason}
_LENGTHS: Final = {"serial": 20, "spki": 32}


@click.command("revoke")
@state_argument
@click.option("--serial", metavar="HEX", help="The serial number of one certificate.")
@click.option("--spki", metavar="HEX", help="SHA-256 of a key: every certificate of it; a retired issuing CA's too.")
@click.option("--index", metavar="N", type=click.IntRange(0, (1 << 56) - 1), help="The ledger index of a certificate.")
@click.option("--entry", metavar="NAME", help="Every live certificate of this workload entry of the policy.")
@click.option("--reason", required=True, type=click.Choice(sorted(_REASONS)), help="Why (RFC 5280, 5.3.1).")
@json_option
def command(
    state: Path,
    *,
    serial: str | None,
    spki: str | None,
    index: int | None,
    entry: str | None,
    reason: str,
    as_json: bool,
) -> None:
    """Revoke certificates that the authority of STATE issued and that have not expired.

    They stand in the ledger, in the deny list that our clients read, and get no renewal. Clients that speak plain TLS
    do not see it: for them a certificate ends when it expires.

    \b
    Example:
      proxy-attestation revoke STATE --entry example-app --reason key-compromise
    """
    given: dict[str, str | None] = {"serial": serial, "spki": spki, "entry": entry}
    given["index"] = None if index is None else str(index)
    chosen = [(by, text) for by, text in given.items() if text is not None]
    if len(chosen) != 1:
        raise UsageError("one of --serial, --spki, --index and --entry")
    found = operate(state, REVOKE, Revoke(chosen[0][0], _value(*chosen[0]), _REASONS[reason]))
    if as_json:
        print_json(
            {
                "deny_list": found.sequence,
                "revoked": [
                    {
                        "index": one.index,
                        "serial" if len(one.what) == _LENGTHS["serial"] else "spki": one.what.hex(),
                        "not_after": _time(one.not_after),
                    }
                    for one in found.revoked
                ],
            }
        )
        return
    for one in found.revoked:
        kind = "serial" if len(one.what) == _LENGTHS["serial"] else "spki"
        click.echo(f"revoked {kind} {one.what.hex()}, until {_time(one.not_after)}, entry {one.index}")
    click.echo(f"deny list {found.sequence}")


def _value(by: str, text: str) -> bytes:
    if by == "index":
        return int(text).to_bytes(8, "big")
    if by == "entry":
        return text.encode()
    length = _LENGTHS[by]
    try:
        # Programs show serial numbers without leading zeros, and digests with colons.
        value = bytes.fromhex(text.replace(":", "").rjust(2 * length, "0") if by == "serial" else text)
    except ValueError:
        value = b""
    if len(value) != length:
        raise UsageError(f"--{by}: {2 * length} hex digits were expected")
    return value


def _time(seconds: int) -> str:
    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"
