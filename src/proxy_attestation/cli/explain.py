"""`explain`: what a code means, and how to mend what it names."""

import difflib

import click

from proxy_attestation.cli.output import json_option, print_json
from proxy_attestation.codes import Code
from proxy_attestation.errors import UsageError
from proxy_attestation.explanations import EXPLANATIONS

_NEAREST = 3


@click.command("explain")
@click.argument("code", required=False)
@click.option("--list", "list_all", is_flag=True, help="Explain every code.")
@json_option
def command(code: str | None, list_all: bool, as_json: bool) -> None:
    """Say what a CODE means and how to mend it.

    Every refusal, error and mismatch of every command, and of the proxy's answers, carries one stable code, such as
    `sgx.debug`. The part before the dot names who refuses: a TEE's appraisal (sgx, tdx), the policy, the challenge,
    the relying party (peer) and so on. A code keeps its spelling and its meaning once it has been released.

    \b
    Examples:
      proxy-attestation explain sgx.debug
      proxy-attestation explain --list
      proxy-attestation explain --list --json

    \b
    Exit status:
      0  explained
      2  no such code (the nearest ones are named), or neither a code nor --list was given
    """
    if list_all == (code is not None):
        raise UsageError("give a code, or --list for all of them")
    codes = list(Code) if code is None else [_find(code)]
    if as_json:
        rows = [_to_json(item) for item in codes]
        print_json({"codes": rows} if list_all else rows[0])
        return
    for number, item in enumerate(codes):
        if number:
            click.echo()
        click.echo(f"{item}\n  cause: {EXPLANATIONS[item].cause}\n  fix:   {EXPLANATIONS[item].fix}")


def _find(text: str) -> Code:
    name = text.strip().lower()
    try:
        return Code(name)
    except ValueError:
        # A word alone, such as `debug`, is closest to the codes that end in it.
        ending = [str(code) for code in Code if code.partition(".")[2] == name][:_NEAREST]
        near = ending or difflib.get_close_matches(name, [str(code) for code in Code], n=_NEAREST, cutoff=0.5)
        hint = f"; did you mean {', '.join(near)}?" if near else "; `explain --list` prints every code"
        raise UsageError(f"no code {text!r}{hint}") from None


def _to_json(code: Code) -> dict[str, object]:
    return {"code": str(code), "cause": EXPLANATIONS[code].cause, "fix": EXPLANATIONS[code].fix}
