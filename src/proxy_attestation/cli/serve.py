"""`serve`: run the proxy."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Final

import click

from proxy_attestation import log
from proxy_attestation.cli.endorsing.names import CONFIG, REFRESH_MODULE, SERVE_CONFIG
from proxy_attestation.cli.output import json_option, print_json
from proxy_attestation.errors import UsageError
from proxy_attestation.service.config import DEFAULTS, load_config
from proxy_attestation.service.supervisor import Quoter, Refresh, Started, Supervisor

QUOTER_MODULE: Final = "proxy_attestation.cli.quoting"
_TSM: Final = "configfs-tsm"
_SIMULATOR: Final = "simulator"
_QUOTERS: Final = {
    "gramine": ("sgx",),
    _TSM: ("tdx", "snp"),
    "nsm": ("nitro",),
    _SIMULATOR: ("sgx", "tdx", "snp", "nitro"),
}
"""Attesters with the kinds of evidence that they make. A TPM's needs a credential that only its verifier can make."""
_DESCRIPTOR_DIGITS: Final = 7

WITNESSING_MODULE = "proxy_attestation.cli.ledgering.witnessing"
REAPPRAISAL_MODULE = "proxy_attestation.reappraisal.process"
"""Judges again what was issued; started by name, so that this process loads nothing of it."""


@click.command("serve")
@click.argument("state", type=click.Path(exists=True, file_okay=False, path_type=Path))
@click.option("--grpc", metavar="ADDRESS:PORT", help=f"gRPC front.  [default: {DEFAULTS['grpc']}]")
@click.option("--connect", metavar="ADDRESS:PORT", help=f"Connect front.  [default: {DEFAULTS['connect']}]")
@click.option("--admin", metavar="ADDRESS:PORT", help=f"Metrics and health.  [default: {DEFAULTS['admin']}]")
@click.option("--workers", type=int, metavar="N", help="Processes facing the network.  [default: one a core]")
@click.option(
    "--tls-name", multiple=True, metavar="NAME", help="Name of the proxy's TLS certificate, beside its addresses."
)
@click.option("--in-flight", type=int, metavar="N", help=f"Calls at once a worker.  [default: {DEFAULTS['in_flight']}]")
@click.option(
    "--peer-rate", type=int, metavar="N", help=f"Calls a second a peer and worker.  [default: {DEFAULTS['peer_rate']}]"
)
@click.option(
    "--endorsements",
    "refresh_file",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="What to keep fresh, and where to ask.  [default: STATE/endorsements.toml]",
)
@click.option(
    "--attester",
    metavar="SPEC",
    help="Have the proxy itself quoted: `gramine`, `configfs-tsm`, `nsm` or `simulator:DESCRIPTOR`.  [default: off]",
)
@click.option(
    "--attester-tee", metavar="TEE", help="Kind of evidence, where SPEC makes several: `tdx` or `snp` of configfs-tsm."
)
@json_option
def command(state: Path, *, refresh_file: Path | None, as_json: bool, **flags: object) -> int:
    """Run the proxy of an authority that `init` made in STATE.

    The first lines say what is served and what is dangerous about it; then `ready`. The log goes to standard error,
    one JSON object a line. Port 0 lets the system choose; STATE/run/ports.json says what it chose.

    \b
    Keys of STATE/serve.toml are the options' names with an underscore; options win. A table [endorsements] there,
    STATE/endorsements.toml or --endorsements has `serve` keep vendors' collateral fresh, as `endorsements watch` does.

    \b
    SIGTERM drains and ends; SIGHUP reads policy, endorsements and what to keep fresh again;
    SIGUSR1 replaces the TLS certificate and the workers, one by one.

    \b
    Example:
      proxy-attestation serve STATE --workers 2 --tls-name proxy.example.org
    """
    config = load_config(state, flags)
    log.configure("supervisor")
    state = state.resolve()
    refresh = _refresh(state, refresh_file, in_serve_toml=config.endorsements)
    beside = {"reappraisal": (REAPPRAISAL_MODULE, str(state))}
    if config.witness:
        beside["witnesses"] = (WITNESSING_MODULE, str(state))
    quoter = quoter_for(config.attester, config.attester_tee)
    return asyncio.run(Supervisor(state, config, _printer(as_json), refresh, beside, quoter=quoter).run())


def quoter_for(spec: str, tee: str) -> Quoter | None:
    """Return what has the proxy itself quoted; None where nothing is to.

    Args:
        spec: as `select_attester` takes it; empty for none.
        tee: the kind of evidence; empty for the one that `spec` makes.

    Raises:
        UsageError: for a spec or kind that cannot be, and where they do not go together.
    """
    if not spec:
        if tee:
            raise UsageError("--attester-tee goes with --attester")
        return None
    name, _, rest = spec.partition(":")
    kinds = _QUOTERS.get(name)
    if kinds is None or (rest != "") is not (name == _SIMULATOR) or not rest.isascii() or (rest and not rest.isdigit()):
        raise UsageError(f"--attester {spec!r}: one of {', '.join(_QUOTERS)}, the last with :DESCRIPTOR")
    if tee not in ("", *kinds) or (not tee and name == _TSM):
        raise UsageError(f"--attester {spec} makes evidence of kind {' or '.join(kinds)}: name it with --attester-tee")
    descriptors = (int(rest),) if rest and len(rest) < _DESCRIPTOR_DIGITS else ()
    return Quoter((QUOTER_MODULE, spec, tee or kinds[0]), descriptors)


def _refresh(state: Path, file: Path | None, *, in_serve_toml: bool) -> Refresh | None:
    """Return what keeps collateral fresh. It reads its own configuration: this process loads no HTTP client for it."""
    if file is not None:
        return Refresh(str(file), (REFRESH_MODULE, str(state), str(file.resolve())))
    path = state / SERVE_CONFIG if in_serve_toml else state / CONFIG
    return Refresh(str(path), (REFRESH_MODULE, str(state))) if in_serve_toml or path.exists() else None


def _printer(as_json: bool) -> Callable[[Started], None]:
    return _print_json if as_json else _print_lines


def _print_json(started: Started) -> None:
    info = started.info
    print_json(
        {
            "ready": True,
            "trust_domain": info.trust_domain,
            "root_pin": started.root_pin.hex(),
            "simulated": info.simulated,
            "key_origin": info.key_origin,
            "dangers": list(info.dangers),
            "policy_digest": info.policy_digest.hex(),
            "ledger_key": info.ledger_key,
            "grpc": str(started.grpc),
            "connect": str(started.connect),
            "admin": str(started.admin),
            "workers": started.workers,
            "endorsements": started.endorsements or None,
            "attester": started.attester or None,
            "deployment_statement": bool(info.deployment_statement),
        }
    )


def _print_lines(started: Started) -> None:
    info = started.info
    click.echo(f"trust domain   {info.trust_domain}")
    click.echo(f"root pin       {started.root_pin.hex()}")
    click.echo(f"policy digest  {info.policy_digest.hex()}")
    click.echo(f"ledger key     {info.ledger_key}")
    click.echo(f"gRPC           {started.grpc}")
    click.echo(f"Connect        https://{started.connect}")
    click.echo(f"admin          http://{started.admin}")
    click.echo(f"workers        {started.workers}")
    kept = f"kept fresh, as {started.endorsements} says" if started.endorsements else "not refreshed: none configured"
    click.echo(f"endorsements   {kept}")
    stated = "with" if info.deployment_statement else "without"
    shown = f"of itself, by {started.attester}" if started.attester else "none of itself"
    click.echo(f"evidence       {shown}; {stated} a deployment statement")
    for warning in warnings(started):
        click.echo(f"WARNING        {warning}")
    click.echo("ready")


def warnings(started: Started) -> list[str]:
    """Return everything about a proxy that its operator must not overlook."""
    info = started.info
    found = []
    if info.simulated:
        found.append("SIMULATED: takes evidence from a simulator; nothing real may trust this root")
    if info.key_origin == "file":
        found.append("FILE KEYS: whoever can read or edit the disk can mint certificates")
    return found + [f"DANGER: {danger}" for danger in info.dangers]
