"""`deployment`: the statement by which its signers say which root, ledger and code are their proxy's."""

import tomllib
from pathlib import Path

import click

from proxy_attestation.authority.deployment_operations import DEPLOYMENT_ABOUT, DEPLOYMENT_INSTALL, Ask, Install
from proxy_attestation.cli.operator import operate, state_argument
from proxy_attestation.cli.output import json_option, print_json
from proxy_attestation.cli.signing import read_private_key, signer, with_signature
from proxy_attestation.cli.whole_file import write_whole
from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError, UsageError
from proxy_attestation.formats.bounds import DEPLOYMENT_NOTE_MAX, EXPECTATION_FILE_MAX
from proxy_attestation.formats.deployment import (
    FIELDS,
    Pin,
    encode_deployment,
    make_deployment,
    parse_deployment,
    parse_pin,
)
from proxy_attestation.formats.signed_note import Note, parse_note
from proxy_attestation.formats.tee import Tee

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.group("deployment", context_settings={"help_option_names": ["-h", "--help"]})
def command() -> None:
    """Make, sign and install the statement that names a proxy's root, ledger key and measurements.

    \b
    A whole round, by the operator and two signers (docs/proxy-evidence.md):
      proxy-attestation deployment statement STATE --expect measured.toml > d.txt
      proxy-attestation deployment sign d.txt --key alice.pem --name alice --out d.note
      proxy-attestation deployment sign d.note --key bob.pem --name bob --out d.note
      proxy-attestation deployment install STATE d.note
    """


@command.command("statement")
@state_argument
@click.option("--pin", "pins", metavar='"TEE FIELD HEX"', multiple=True, help="An accepted measurement of the proxy.")
@click.option(
    "--expect",
    "files",
    metavar="FILE",
    type=_FILE,
    multiple=True,
    help="TOML with `tee` and measurements in a policy's words; what a statement can pin of it is taken.",
)
def statement_command(state: Path, *, pins: tuple[str, ...], files: tuple[Path, ...]) -> None:
    """Print the statement for the authority of STATE: the text to sign.

    An upgrade is a statement that names both measurements, the old and the new one.

    \b
    Example:
      proxy-attestation deployment statement STATE --pin "sgx mr_enclave HEX" > d.txt
    """
    found = [parse_pin(pin) for pin in pins] + [pin for path in files for pin in _pins(path)]
    if not found:
        raise UsageError("a measurement of the proxy is needed: --pin or --expect")
    about = operate(state, DEPLOYMENT_ABOUT, Ask())
    made = make_deployment(about.trust_domain, about.root_spki_sha256, about.ledger_key, found)
    click.echo(encode_deployment(made).decode(), nl=False)


@command.command("sign")
@click.argument("file", type=_FILE)
@click.option("--key", required=True, metavar="PEM", type=_FILE, help="Ed25519, PKCS#8.")
@click.option("--name", required=True, metavar="NAME", help="Of the key, as the vkey has it.")
@click.option("--out", metavar="FILE", type=click.Path(path_type=Path), help="Write the note there, not to stdout.")
def sign_command(file: Path, *, key: Path, name: str, out: Path | None) -> None:
    """Sign FILE, a statement or a note with signatures of others; prints the note with yours.

    What you sign is shown on standard error, and your key as relying parties write it into `signers`.
    """
    data = _read(file, DEPLOYMENT_NOTE_MAX)
    note = parse_note(data) if b"\n\n" in data else Note(data.decode("ascii", "replace"), ())
    parse_deployment(note.text.encode())
    private = read_private_key(key)
    verifier = signer(name, private.public_key())
    note = with_signature(note, verifier, private)
    click.echo(note.text, err=True, nl=False)
    click.echo(f"signed as {verifier}", err=True)
    if out is None:
        click.echo(note.encode().decode(), nl=False)
    else:
        write_whole(out, note.encode())


@command.command("vkey")
@click.option("--key", required=True, metavar="PEM", type=_FILE, help="Ed25519, PKCS#8.")
@click.option("--name", required=True, metavar="NAME", help="Of the key.")
def vkey_command(*, key: Path, name: str) -> None:
    """Print the public half of a signer's key, as `signers` takes it."""
    click.echo(str(signer(name, read_private_key(key).public_key())))


@command.command("install")
@state_argument
@click.argument("note", type=_FILE)
@json_option
def install_command(state: Path, note: Path, *, as_json: bool) -> None:
    """Put NOTE in force in the authority of STATE, whether `serve` runs on it or not.

    It must be about this authority's trust domain, root and ledger key; where `init` was given signers, enough of them
    must have signed; and no entry of the policy may accept what it names.
    """
    data = _read(note, DEPLOYMENT_NOTE_MAX)
    about = operate(state, DEPLOYMENT_INSTALL, Install(data))
    found = parse_note(data)
    pins = parse_deployment(found.text.encode()).pins
    if as_json:
        print_json({"installed": True, "root": about.root_spki_sha256.hex(), "pins": len(pins)})
        return
    click.echo(f"installed: {len(pins)} measurements for the root {about.root_spki_sha256.hex()}")
    click.echo(f"signed by: {', '.join(signature.name for signature in found.signatures)}")


def _pins(path: Path) -> list[Pin]:
    """Read what a statement can pin of a file that has a policy's words."""
    try:
        table = tomllib.loads(_read(path, EXPECTATION_FILE_MAX).decode())
        tee = Tee(str(table.get("tee")))
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(Code.CONFIGURATION_MALFORMED, f"{path}: {error}") from error
    found = []
    for field in FIELDS[tee]:
        values = table.get(field, [])
        if not isinstance(values, list):
            raise ConfigurationError(Code.CONFIGURATION_MALFORMED, f"{path}: {field}: a list was expected")
        found += [parse_pin(f"{tee} {field} {value}") for value in values]
    return found


def _read(path: Path, limit: int) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
    if len(data) > limit:
        raise ConfigurationError(Code.CONFIGURATION_MALFORMED, f"{path}: more than {limit} bytes")
    return data
