"""`verify`: connect to one attested server, check it, report."""

from datetime import UTC, datetime
from pathlib import Path

import click

from proxy_attestation.cli.output import error_to_json, json_option, print_json
from proxy_attestation.cli.peer_options import peer_context, peer_options
from proxy_attestation.errors import InternalError, PeerError, UsageError
from proxy_attestation.explanations import EXPLANATIONS
from proxy_attestation.relying_party.check import Peer
from proxy_attestation.relying_party.connection import open_connection
from proxy_attestation.relying_party.forwarder import split_target


@click.command("verify")
@click.argument("target", metavar="HOST:PORT")
@peer_options
@click.option("--timeout", default=10.0, show_default=True, type=click.FloatRange(0.1, 300), help="Seconds a step.")
@json_option
def command(
    *,
    target: str,
    root: str,
    pin: str | None,
    expect_file: Path,
    server_name: str | None,
    deny_list: str | None,
    timeout: float,
    as_json: bool,
) -> int:
    """Check the attested server at HOST:PORT and report what it is.

    Exit status 0: it is what the expectation says. 3: it is not, with every difference.
    """
    host, port = split_target(target)
    if port == 0:
        raise UsageError("port 0 is nobody's")
    context = peer_context(root, pin, expect_file, server_name, deny_list)
    try:
        with open_connection(host, port, context, timeout=timeout) as connection:
            peer = connection.attested_peer
    except PeerError as error:
        _report_refused(target, error, as_json=as_json)
        return error.exit_status
    if not isinstance(peer, Peer):
        raise InternalError("an attested context accepted something else than an attested peer")
    if as_json:
        print_json({"verdict": "accepted", "peer": peer_to_json(peer)})
    else:
        click.echo(f"{target}: accepted")
        lines = _lines(peer)
        width = max(len(name) for name, _ in lines)
        for name, value in lines:
            click.echo(f"  {name:<{width}}  {value}")
    return 0


def _report_refused(target: str, error: PeerError, *, as_json: bool) -> None:
    if as_json:
        print_json({"verdict": "refused", "mismatches": [], **error_to_json(error)})
        return
    click.echo(f"{target}: refused, {error.code}")
    if error.mismatches:
        for mismatch in error.mismatches:
            click.echo(f"  {mismatch.code} {mismatch.field}: expected {mismatch.expected}, found {mismatch.actual}")
    else:
        click.echo(f"  {error.detail}")
    click.echo(f"  cause: {EXPLANATIONS[error.code].cause}")
    click.echo(f"  fix:   {EXPLANATIONS[error.code].fix}")


def _time(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


def _lines(peer: Peer) -> list[tuple[str, str]]:
    claims = peer.claims
    lines = [
        ("workload", peer.spiffe_id),
        ("names", ", ".join(peer.names.readable())),
        ("valid", f"{_time(peer.not_before)} to {_time(peer.not_after)}"),
        ("tee", f"{claims.tee}{', DEBUG' if claims.debug else ''}{', SIMULATED' if claims.simulated else ''}"),
    ]
    lines += [(name, value.hex()) for name, value in claims.measurements]
    if claims.signer is not None:
        lines.append(("mr_signer", claims.signer.hex()))
    if claims.product_id is not None and claims.svn is not None:
        lines.append(("product", f"isv_prod_id {claims.product_id}, isv_svn {claims.svn}"))
    if claims.tcb_date is not None:
        # The format allows years that datetime does not know; a level cannot be younger than its use.
        date = datetime.fromtimestamp(min(claims.tcb_date, claims.issued_at), UTC)
        lines += [
            ("tcb", f"{claims.tcb_status} of {date:%Y-%m-%d}, evaluation {claims.tcb_evaluation_number}"),
            ("advisories", ", ".join(claims.advisories) or "none"),
        ]
    lines += [
        ("application", "no claim" if claims.application_sha256 is None else claims.application_sha256.hex()),
        ("key", f"made in: {claims.key_origin.name.lower()}"),
        ("owner", claims.owner),
        ("policy", claims.policy_digest.hex()),
        ("evidence", claims.evidence_sha256.hex()),
        ("vendor root", claims.anchor.hex()),
        ("ledger", claims.ledger_origin),
    ]
    return lines


def peer_to_json(peer: Peer) -> dict[str, object]:
    """Return an accepted peer as JSON values: bytes in hex, times in RFC 3339."""
    claims = peer.claims
    return {
        "spiffe_id": peer.spiffe_id,
        "workload": peer.workload,
        "dns": list(peer.names.dns),
        "names": list(peer.names.readable()),
        "not_before": _time(peer.not_before),
        "not_after": _time(peer.not_after),
        "tee": str(claims.tee),
        "measurements": {name: value.hex() for name, value in claims.measurements},
        "mr_signer": None if claims.signer is None else claims.signer.hex(),
        "isv_prod_id": claims.product_id,
        "isv_svn": claims.svn,
        "debug": claims.debug,
        "simulated": claims.simulated,
        "tcb_status": claims.tcb_status,
        "tcb_evaluation_data_number": claims.tcb_evaluation_number,
        "advisory_ids": list(claims.advisories),
        "application_sha256": None if claims.application_sha256 is None else claims.application_sha256.hex(),
        "key_origin": claims.key_origin.name.lower(),
        "owner": claims.owner,
        "policy_digest": claims.policy_digest.hex(),
        "evidence_sha256": claims.evidence_sha256.hex(),
        "anchor_spki_sha256": claims.anchor.hex(),
        "ledger_origin": claims.ledger_origin,
        "proxy_version": claims.build,
    }
