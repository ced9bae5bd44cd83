"""The `proxy-attestation` command: a group whose commands are loaded when they are called."""

import importlib
import sys
from typing import Final

import click

from proxy_attestation import __version__
from proxy_attestation.cli.output import run

# Name, module under proxy_attestation.cli (each has a click command named `command`), one line for --help.
COMMANDS: Final[dict[str, tuple[str, str]]] = {
    "init": ("init", "Make an authority in an empty directory."),
    "serve": ("serve", "Run the proxy."),
    "status": ("status", "Show what is in force in an authority, running or not."),
    "ca": ("ca", "List an authority's CAs, rotate the issuing CA, make a new root."),
    "revoke": ("revoke", "Revoke certificates of an authority."),
    "load": ("load", "Attest, get a certificate, terminate TLS for an application, renew."),
    "root": ("root", "Fetch a proxy's root and check it against a pin."),
    "deployment": ("deployment", "Make, sign and install the statement that names a proxy's root and measurement."),
    "keys": ("keys", "Hand an authority's keys over to another attested proxy."),
    "recover": ("recover", "Bring an authority's keys back with the shares of its custodians."),
    "connect": ("connect", "Forward a local port to an attested server."),
    "verify": ("verify", "Check one attested server and report."),
    "appraise": ("appraise", "Give a verdict on evidence, off line."),
    "inspect": ("inspect", "Show what is in a certificate, quote or request."),
    "explain": ("explain", "Say what a code means and how to mend it."),
    "endorsements": ("endorsements", "Fetch vendors' collateral, keep it fresh, carry it over an air gap."),
    "reappraise": ("reappraise", "Judge every live certificate again, by what is in force now."),
    "owner": ("owner", "Who holds the names of owned entries: list, release, tokens, grants."),
    "policy": ("policy", "Check, sign, apply and compare policies; say who would fall out."),
    "reference": ("reference", "Sign reference values, or import them from CoRIM."),
    "index": ("index", "List files with their digests, show what changed, or measure a released file."),
    "ledger": ("ledger", "Verify, watch and witness a proxy's ledger."),
    "ekep": ("ekep", "Serve EKEP, a mutually attested handshake, beside `serve`."),
    "completion": ("completion", "Print the completion script of a shell."),
}


class LazyGroup(click.Group):
    """Imports a command's module only when the command is used, so that each starts fast and loads little."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the commands in the order of the table."""
        del ctx
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return one command, or None if there is no such command."""
        del ctx
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"proxy_attestation.cli.{COMMANDS[cmd_name][0]}")
        command = module.command
        assert isinstance(command, click.Command)  # noqa: S101 - a wrong entry in the table above is a bug of ours
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the table without importing anything."""
        del ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="proxy-attestation")
def group() -> None:
    """A certificate authority that signs only for attested code.

    \b
    Exit status of every command:
      0   good
      3   refused (a wrong pin too)
      2   usage
      4   malformed input (a malformed policy too)
      5   something of ours or of a vendor's is unavailable
      70  a bug of ours
    """


def main() -> None:
    """Run the command line and exit with its status."""
    sys.exit(run(group))
