"""`completion`: the script that makes a shell complete our commands."""

import click
from click.shell_completion import get_completion_class

from proxy_attestation.errors import UsageError


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def command(shell: str) -> None:
    """Print the completion script of a shell.

    \b
    For bash, put this in ~/.bashrc:
      eval "$(proxy-attestation completion bash)"
    """
    from proxy_attestation.cli.main import group  # noqa: PLC0415 - main imports this module lazily, not the reverse

    completion = get_completion_class(shell)
    if completion is None:
        raise UsageError(f"no completion for {shell}")
    click.echo(completion(group, {}, "proxy-attestation", "_PROXY_ATTESTATION_COMPLETE").source())
