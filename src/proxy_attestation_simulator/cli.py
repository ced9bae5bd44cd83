"""The `proxy-attestation-simulator` command."""

import json
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from proxy_attestation_simulator import __version__
from proxy_attestation_simulator.amd_faults import SNP_FAULTS
from proxy_attestation_simulator.aws_faults import NITRO_FAULTS
from proxy_attestation_simulator.collateral import Options
from proxy_attestation_simulator.collateral_faults import COLLATERAL_FAULTS
from proxy_attestation_simulator.errors import SimulatorError
from proxy_attestation_simulator.faults import Registry
from proxy_attestation_simulator.files import write_endorsements
from proxy_attestation_simulator.intel import Vendor
from proxy_attestation_simulator.machines import TEES, measured, quoting, save_others
from proxy_attestation_simulator.measure import measure_command
from proxy_attestation_simulator.pins import claims_of, policy_lines
from proxy_attestation_simulator.platform import Platform
from proxy_attestation_simulator.quote_faults import QUOTE_FAULTS
from proxy_attestation_simulator.quoting import Quote
from proxy_attestation_simulator.runner import run as run_program

_TEES: Final = ("sgx", "tdx")
"""Those with collateral of Intel's."""
_EXIT_USAGE: Final = 2
_EXIT_INTERRUPTED: Final = 130
_R = TypeVar("_R")
_DIRECTORY: Final = click.Path(file_okay=False, path_type=Path)
_EXISTING: Final = click.Path(exists=True, file_okay=False, path_type=Path)
_COMMAND_FOLLOWS: Final = {"allow_interspersed_args": False}
_FAULT_HELP: Final = "NAME or NAME=VALUE, see the command `faults`. May be given several times; applied in order."


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="proxy-attestation-simulator")
def group() -> None:
    """Simulated TEEs and a simulated vendor for Proxy Attestation. Proves nothing; for tests and demonstrations.

    A vendor is a root, PCK CAs, and signed collateral, in Intel's real formats. `run` starts a program as a simulated
    SGX or TDX platform of that vendor would: it measures the program, and gives it a socket on which it can ask for
    quotes. Only an authority that was made with `init --simulated D/root.der` accepts them.

    \b
    A whole round:
      proxy-attestation-simulator vendor D
      proxy-attestation-simulator measure -- proxy-attestation load app.toml    (into the policy)
      proxy-attestation init STATE --simulated D/root.der --policy policy.toml ...
      cp -r D/endorsements/. STATE/endorsements/
      proxy-attestation-simulator run --dir D -- proxy-attestation load app.toml --attester simulator:{fd}

    \b
    Exit status: 0 good, 2 usage or anything that cannot be done; `run`: that of the program.
    """  # noqa: D301 - click needs a real backspace before text that it must not wrap


@group.command()
@click.argument("directory", metavar="D", type=_DIRECTORY)
@click.option("--all", "every", is_flag=True, help="Make vendors of SEV-SNP machines and Nitro enclaves too (seconds).")
def vendor(directory: Path, *, every: bool) -> None:
    """Make a vendor in the directory D.

    \b
    Writes:
      D/root.der, D/root.pem         its root, for `proxy-attestation init --simulated`
      D/endorsements/{sgx,tdx}/      collateral for `--endorsements` and for STATE/endorsements
      D/vendor.json                  its secret; whoever has it can make quotes that the root vouches for

    \b
    With --all also:
      D/amd-ark-milan.der, D/aws-root.der    further roots: give `init` one --simulated for each
      D/endorsements/snp/                    AMD's certificates and revocation list
    """  # noqa: D301 - click needs a real backspace before text that it must not wrap
    if (directory / "vendor.json").exists():
        raise SimulatorError(f"{directory} holds a vendor already; write newer collateral with `collateral`")
    now = datetime.now(UTC)
    made = Vendor.create(now)
    made.save(directory)
    for tee in _TEES:
        write_endorsements(made.endorsements(tee, now), directory / "endorsements" / tee)
    click.echo(f"root          {directory / 'root.der'}")
    click.echo(f"root pin      {made.root_pin.hex()}")
    click.echo(f"mr_signer     {made.mr_signer.hex()}")
    click.echo(f"endorsements  {directory / 'endorsements'}")
    for name, path in (save_others(directory, now) if every else {}).items():
        click.echo(f"{name} root      {path}")


@group.command()
@click.argument("directory", metavar="D", type=_EXISTING)
@click.argument("out", metavar="OUT", type=_DIRECTORY)
@click.option("--tee", "tees", type=click.Choice(_TEES), multiple=True, help="Only for this TEE; both by default.")
@click.option("--evaluation-number", type=click.IntRange(0, 2**32 - 1), help="tcbEvaluationDataNumber [default: 17].")
@click.option("--crl-number", type=click.IntRange(0, 2**32 - 1), help="Number of both CRLs [default: 3].")
@click.option("--ca", type=click.Choice(("platform", "processor")), help="Whose PCK CRL [default: platform].")
@click.option("--fmspc", metavar="HEX", help="FMSPC, 12 hex digits [default: that of the simulated platforms].")
@click.option("--fault", "faults", metavar="NAME[=VALUE]", multiple=True, help=_FAULT_HELP)
def collateral(
    *,
    directory: Path,
    out: Path,
    tees: tuple[str, ...],
    evaluation_number: int | None,
    crl_number: int | None,
    ca: str | None,
    fmspc: str | None,
    faults: tuple[str, ...],
) -> None:
    """Write collateral of the vendor in D, issued now, into OUT/sgx and OUT/tdx.

    Each file is replaced as a whole, so OUT may be a directory that a running proxy reads. What the names mean:
    tcb_info.json and qe_identity.json are signed documents, *_issuer_chain.pem their chains, *.der the CRLs.

    \b
    Examples:
      ... collateral D STATE/endorsements                                  the same, issued now
      ... collateral D STATE/endorsements --evaluation-number 18           newer
      ... collateral D STATE/endorsements --fault tcb-recovery             newer; today's platforms are out of date
      ... collateral D X --tee sgx --fault expired-crl                     for `appraise --endorsements X/sgx`
    """  # noqa: D301 - click needs a real backspace before text that it must not wrap
    made = Vendor.load(directory)
    options = Options()
    if evaluation_number is not None:
        options["evaluation_number"] = evaluation_number
    if crl_number is not None:
        options["crl_number"] = crl_number
    if ca is not None:
        options["ca"] = ca
    if fmspc is not None:
        options["fmspc"] = _hex(fmspc, 6)
    now = datetime.now(UTC)
    for tee in tees or _TEES:
        write_endorsements(made.endorsements(tee, now, fault=faults, **options), out / tee)
        click.echo(f"{tee}  {out / tee}")


@group.command(context_settings=_COMMAND_FOLLOWS)
@click.option("--dir", "directory", metavar="D", type=_EXISTING, help="The vendor, for mr_signer.")
@click.option("--tee", type=click.Choice(TEES), help="Only for this TEE; all by default.")
@click.option("--claim", metavar="NAME", help="Print this one value and nothing else, such as mr_enclave or mr_td.")
@click.option("--index", "show_index", is_flag=True, help="Print the lines whose digest the measurement is.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object: tee -> claim -> value.")
@click.argument("command", metavar="[-- COMMAND...]", nargs=-1, type=click.UNPROCESSED)
def measure(
    *,
    directory: Path | None,
    tee: str | None,
    claim: str | None,
    show_index: bool,
    as_json: bool,
    command: tuple[str, ...],
) -> None:
    """Print what `run -- COMMAND` would measure, as lines for a policy's `[[workload]]`.

    Measured are the files of the `proxy_attestation` package that COMMAND's interpreter imports, and nothing else: not
    the command line, the application or its parameters. Without COMMAND it is the interpreter that runs this.

    \b
    Examples:
      ... measure --tee sgx -- proxy-attestation load app.toml
      ... measure --claim mr_enclave
      ... measure --index > before; ...; ... measure --index | diff before -
    """  # noqa: D301 - click needs a real backspace before text that it must not wrap
    measurement = measure_command(command)
    if show_index:
        click.echo(measurement.index, nl=False)
        return
    signer = None if directory is None else Vendor.load(directory).mr_signer
    wanted = TEES if tee is None else (tee,)
    claims = {name: claims_of(name, measurement, signer) for name in wanted}
    if claim is not None:
        click.echo(_one_claim(claims, claim))
    elif as_json:
        click.echo(json.dumps(claims))
    else:
        for name in wanted:
            click.echo(policy_lines(name, claims[name]), nl=False)


@group.command(context_settings=_COMMAND_FOLLOWS)
@click.option(
    "--dir", "directory", metavar="D", type=_EXISTING, required=True, help="The vendor that made the platform."
)
@click.option("--tee", type=click.Choice(TEES), default="sgx", show_default=True, help="What the platform is.")
@click.option("--quote-version", type=click.IntRange(3, 5), help="3 (SGX's default), 4 (TDX's default) or 5.")
@click.option("--body-type", type=click.IntRange(1, 3), help="Of a v5 TDX quote: 2 is TDX 1.0, 3 TDX 1.5 (default).")
@click.option("--seed", default="0", show_default=True, help="Tells machines of the vendor apart.")
@click.option("--fault", "faults", metavar="NAME[=VALUE]", multiple=True, help=_FAULT_HELP)
@click.argument("command", metavar="-- COMMAND...", nargs=-1, type=click.UNPROCESSED, required=True)
def run(
    *,
    directory: Path,
    tee: str,
    quote_version: int | None,
    body_type: int | None,
    seed: str,
    faults: tuple[str, ...],
    command: tuple[str, ...],
) -> int:
    """Run COMMAND on a simulated platform.

    Measures COMMAND (see `measure`), starts it with a quoting socket that only it inherits, serves quotes until it
    ends, and exits with its status. `{fd}` in COMMAND becomes the socket's descriptor number. SIGTERM, SIGINT, SIGHUP,
    SIGQUIT, SIGUSR1 and SIGUSR2 are forwarded.

    On the socket: u32 big-endian length, then CBOR; {1: report data of 64 bytes} is answered with {1: quote}, or with
    {2: text}; for Nitro {2: nonce, 3: public key} stand beside the report data. Requests may be sent one after the
    other; answers come in their order.

    \b
    Examples:
      ... run --dir D -- proxy-attestation load app.toml --attester simulator:{fd}
      ... run --dir D --tee tdx --quote-version 5 --fault debug -- proxy-attestation load app.toml ...
    """  # noqa: D301 - click needs a real backspace before text that it must not wrap
    measurement = measure_command(command)
    name, value = measured(tee, measurement)
    if tee not in _TEES and (quote_version is not None or body_type is not None):
        raise SimulatorError("--quote-version and --body-type are for SGX and TDX")
    quote = (
        quoting(tee, directory, measurement, seed, faults)
        if tee not in _TEES
        else _intel(
            Vendor.load(directory).platform(tee, seed=seed),
            {"version": quote_version, "body_type": body_type, "fault": faults, name: value},
        )
    )
    quote(bytes(64), b"", b"")  # a fault or version that cannot be is said before the program starts
    suffix = f", faults: {', '.join(faults)}" if faults else ""
    click.echo(f"SIMULATED {tee} platform, {name} {value.hex()}{suffix}", err=True)
    return run_program(command, quote)


def _intel(platform: Platform, options: dict[str, Any]) -> Quote:
    return lambda report_data, _nonce, _key: platform.quote(report_data, **options)


@group.command("faults")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def list_faults(as_json: bool) -> None:
    """List the faults: of evidence (for `run`) and of collateral (for `collateral`), each with the code it provokes.

    They are grouped by the TEEs that they are for. One name can be another fault for another TEE.
    """
    kinds = {
        "run": [*_describe(QUOTE_FAULTS), *_describe(SNP_FAULTS), *_describe(NITRO_FAULTS)],
        "collateral": _describe(COLLATERAL_FAULTS),
    }
    if as_json:
        click.echo(json.dumps([{"command": kind, **fault} for kind, faults in kinds.items() for fault in faults]))
        return
    for kind, faults in kinds.items():
        for tees in dict.fromkeys(tuple(fault["tees"]) for fault in faults):
            click.echo(f"{kind} --fault NAME[=VALUE], for {' and '.join(tees)}")
            for fault in faults:
                if tuple(fault["tees"]) == tees:
                    click.echo(f"  {fault['usage']}\n      {fault['doc']} -> {fault['provokes']}")


def _describe(registry: Registry[_R]) -> list[dict[str, str | list[str]]]:
    return [
        {
            "name": fault.name,
            "usage": fault.usage,
            "doc": fault.doc,
            "provokes": ", ".join(fault.codes()),
            "tees": list(fault.tees),
        }
        for fault in registry.values()
    ]


def _one_claim(claims: Mapping[str, Mapping[str, str | int]], name: str) -> str | int:
    for values in claims.values():
        if name in values:
            return values[name]
    known = sorted({known for values in claims.values() for known in values})
    raise SimulatorError(f"there is no claim {name!r} here; there are {', '.join(known)}")


def _hex(text: str, size: int) -> bytes:
    try:
        value = bytes.fromhex(text)
    except ValueError:
        value = b""
    if len(value) != size:
        raise SimulatorError(f"{text!r} is not {2 * size} hex digits")
    return value


def main() -> None:
    """Run the command line and exit with its status."""
    sys.exit(_main())


def _main() -> int:
    try:
        result = group.main(standalone_mode=False)
    except click.exceptions.Exit as done:
        return done.exit_code
    except click.ClickException as error:
        error.show()
        return _EXIT_USAGE
    except click.Abort:
        return _EXIT_INTERRUPTED
    except (SimulatorError, OSError) as error:
        click.echo(f"error: {error}", err=True)
        return _EXIT_USAGE
    return result if isinstance(result, int) else 0
