"""`load`: attest, get a certificate, terminate TLS for an application, renew. `load status` and `load renew --now`."""

import asyncio
import signal
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click

from proxy_attestation.cli.output import json_option, print_json
from proxy_attestation.codes import Code
from proxy_attestation.errors import (
    FormatError,
    InternalError,
    ProxyAttestationError,
    RefusedError,
    UnavailableError,
    UsageError,
)

_STATUS_S: Final = 10.0
_RENEW_S: Final = 300.0


class DefaultRun(click.Group):
    """A group where `load FILE` means `load run FILE`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Take the first argument for a file unless it names a command."""
        return super().resolve_command(ctx, args if args[0] in self.commands else ["run", *args])

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Leave options in front of the file to `run`: the group itself has none but --help."""
        if args and args[0].startswith("-") and args[0] not in ("-h", "--help"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


@click.group("load", cls=DefaultRun, context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Attest, get a certificate, terminate TLS for an application, renew.

    \b
      proxy-attestation load app.toml                    run
      proxy-attestation load status app.toml             ask a running loader how it is
      proxy-attestation load renew --now app.toml        have it get a new certificate now

    A file whose name is a command's is written with its path: `load ./status`. docs/loader.md describes the file.
    """


@command.command("run")
@click.argument("file", type=click.Path(path_type=Path))
@click.option(
    "--attester",
    metavar="SPEC",
    help="`gramine`, `configfs-tsm`, `nsm`, `tpm`, `tpm:TCTI` or `simulator:DESCRIPTOR`. Default: what the file says, "
    "else what this machine has for the kind of evidence that the file asks for.",
)
@click.option(
    "--wait",
    "wait_seconds",
    type=click.FloatRange(0, 86400),
    default=30.0,
    show_default=True,
    help="Seconds to try for the first certificate while proxy or attester are unavailable.",
)
@json_option
def run_command(file: Path, attester: str | None, wait_seconds: float, as_json: bool) -> None:
    """Run until SIGTERM or SIGINT, then end in order.

    With --json each event is one JSON object on a line of its own; `"event": "ready"` names the listeners.
    """
    from proxy_attestation import hardening  # noqa: PLC0415 - `load status` needs none of these
    from proxy_attestation.attester.select import select_attester  # noqa: PLC0415 - as above
    from proxy_attestation.formats.request import KeyOrigin  # noqa: PLC0415 - as above
    from proxy_attestation.loader.config_file import load_config  # noqa: PLC0415 - as above
    from proxy_attestation.loader.proxy_client import Timing  # noqa: PLC0415 - as above
    from proxy_attestation.loader.report import LineReport  # noqa: PLC0415 - as above
    from proxy_attestation.loader.run import Loader  # noqa: PLC0415 - as above

    report = LineReport(as_json=as_json)
    if not hardening.forbid_dumps():
        report.note("warning: this system cannot forbid core dumps and debuggers for this process")
    config = load_config(file)
    source = select_attester(config.attester if attester is None else attester, config.tee, tpm=config.tpm)
    if source.key_origin is KeyOrigin.SOFTWARE:
        report.note("warning: software_key: the certificate's key is in this machine's memory, not in its TPM")

    async def main() -> None:
        stop = asyncio.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        loader = Loader(config, source, report, Timing(lambda: datetime.now(UTC)))
        await loader.run(stop, wait_seconds)
        report.event("stopped", "stopped")

    asyncio.run(main())


@command.command("status")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--control", type=click.Path(path_type=Path), help="The control socket, instead of FILE.")
@json_option
def status_command(file: Path | None, control: Path | None, as_json: bool) -> None:
    """Ask a running loader how it is. FILE is its configuration."""
    answer = _ask(file, control, "status", _STATUS_S)
    if as_json:
        print_json(answer)
        return
    certificate = answer.get("certificate") or {}
    application = answer.get("application") or {}
    attempt = answer.get("last_attempt") or {}
    click.echo(f"state:        {answer.get('state')}")
    click.echo(f"workload:     {answer.get('workload')} at {answer.get('proxy')}")
    click.echo(f"certificate:  {certificate.get('serial', 'none')} until {certificate.get('not_after', '-')}")
    click.echo(f"next attempt: {answer.get('next_attempt_at') or '-'}")
    information = answer.get("renewal_information") or {}
    if information.get("renew_now"):
        why = ", ".join(information.get("codes") or ()) or "no reason given"
        click.echo(f"renewal:      the proxy asked for it at {information.get('asked_at')}: {why}")
    if attempt.get("error"):
        click.echo(f"last failure: {attempt['error']['code']} at {attempt.get('at')}")
    click.echo(f"application:  {application.get('kind')}, {application.get('restarts', 0)} restarts")
    for listener in answer.get("listeners") or ():
        click.echo(
            f"listener:     {listener['address']} ({listener['protocol']}), {listener['connections']} connections"
        )


@command.command("renew")
@click.argument("file", type=click.Path(path_type=Path), required=False)
@click.option("--now", is_flag=True, help="Say that it is meant: the loader renews by itself when it is time.")
@click.option("--control", type=click.Path(path_type=Path), help="The control socket, instead of FILE.")
@json_option
def renew_command(file: Path | None, now: bool, control: Path | None, as_json: bool) -> None:
    """Have a running loader get a new certificate. FILE is its configuration."""
    if not now:
        raise UsageError("renewal happens by itself; write `load renew --now` to have one now")
    answer = _ask(file, control, "renew", _RENEW_S)
    if as_json:
        print_json(answer)
    else:
        certificate = answer.get("certificate") or {}
        click.echo(f"renewed: certificate {certificate.get('serial')} until {certificate.get('not_after')}")


def _ask(file: Path | None, control: Path | None, name: str, seconds: float) -> dict[str, Any]:
    from proxy_attestation.loader.control import ask  # noqa: PLC0415 - loaded with the command that needs it

    if (file is None) is (control is None):
        raise UsageError("name the loader's file, or its socket with --control")
    if file is not None:
        from proxy_attestation.loader.config_file import load_config  # noqa: PLC0415 - with --control nothing needs it

        control = load_config(file).control
    assert control is not None  # noqa: S101 - one of the two was given, see above
    answer = ask(control, name, seconds)
    if answer.get("ok") is not True:
        raise _error(answer.get("error"))
    return answer


def _error(value: object) -> ProxyAttestationError:
    """Return the error that a loader reports, with the exit status that it would have had there."""
    error = value if isinstance(value, dict) else {}
    try:
        code = Code(str(error.get("code")))
    except ValueError:
        return InternalError("the loader reports an error that this version does not know")
    detail = str(error.get("detail", ""))
    classes: dict[object, type[RefusedError | FormatError | UnavailableError]] = {
        RefusedError.exit_status: RefusedError,
        FormatError.exit_status: FormatError,
        UnavailableError.exit_status: UnavailableError,
    }
    made = classes.get(error.get("exit_status"))
    return made(code, detail) if made is not None else InternalError(f"{code}: {detail}")
