"""`policy sign`: one signer's signature on a policy."""

from pathlib import Path

import click

from proxy_attestation.cli.output import json_option, print_json
from proxy_attestation.cli.policies.describe import deny_lines
from proxy_attestation.cli.signing import add_signature, read_private_key, signer
from proxy_attestation.policy.load import PolicyFiles, load_policy_files, note_path

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command("sign")
@click.argument("file", type=_FILE)
@click.option("--key", "key_file", required=True, type=_FILE, metavar="KEY.pem", help="Your private key, Ed25519.")
@click.option("--name", required=True, help="Your name, as the authority was told it at `init --signer NAME=...`.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="NOTE",
    help="Where the signatures go (default: FILE.note, beside the policy).",
)
@json_option
def sign(file: Path, *, key_file: Path, name: str, out: Path | None, as_json: bool) -> int:
    """Sign the policy FILE and the files that it names; signatures of others over the very same files are kept.

    What is signed is shown: read it, and what `policy check` and `policy diff` say, before your signature leaves your
    hands. It is over the bytes of the files, the version and the trust domain, so any edit makes it void.

    \b
    Example:
      openssl genpkey -algorithm ed25519 -out alice.pem
      openssl pkey -in alice.pem -pubout -out alice.pub.pem
      proxy-attestation policy sign policy.toml --key alice.pem --name alice
    """
    found, key = load_policy_files(file), read_private_key(key_file)
    verifier = signer(name, key.public_key())
    path = out or note_path(file)
    names, dropped = add_signature(found.text, path, verifier, key)
    if as_json:
        print_json(
            {
                "note": str(path),
                "text": found.text,
                "version": found.policy.version,
                "trust_domain": found.policy.trust_domain,
                "dangers": list(found.policy.dangers),
                "signer": str(verifier),
                "signatures": list(names),
                "dropped": list(dropped),
            }
        )
        return 0
    _print(found)
    for other in dropped:
        click.echo(f"dropped        {other}'s signature, which was over something else")
    click.echo(f"signed by      {', '.join(names)}")
    click.echo(f"your key       {verifier}")
    click.echo(f"signatures     {path}")
    return 0


def _print(found: PolicyFiles) -> None:
    policy = found.policy
    click.echo("what is signed:")
    for line in found.text.splitlines():
        click.echo(f"  {line}")
    click.echo(f"entries        {', '.join(policy.workloads)}")
    for danger in policy.dangers:
        click.echo(click.style(f"DANGER         {danger}", fg="red", bold=True))
    for key, values in deny_lines(policy).items():
        click.echo(f"deny           {key}: {', '.join(values)}")
