"""`reference`: reference values that are signed by people, and imported from CoRIM."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from proxy_attestation.cli.measure import form_options, show
from proxy_attestation.cli.output import json_option, print_json
from proxy_attestation.cli.signing import add_signature, read_private_key, signer
from proxy_attestation.errors import UsageError
from proxy_attestation.formats.bounds import REFERENCE_VALUES_MAX
from proxy_attestation.formats.tee import Tee
from proxy_attestation.policy.load import read_bounded
from proxy_attestation.policy.reference import check_values, note_file, parse_values, signed_text
from proxy_attestation.reference.corim import PublicKey, decode_corim
from proxy_attestation.reference.corim_cbor import CORIM_MAX
from proxy_attestation.reference.corim_values import values_of
from proxy_attestation.reference.measured import to_json

KEY_MAX = 16 * 1024
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.group("reference")
def command() -> None:
    """Sign reference values, or import them from CoRIM; docs/reference-values.md."""


@command.command("sign")
@click.argument("file", type=_FILE)
@click.option("--key", "key_file", type=_FILE, required=True, help="Ed25519 private key, PKCS#8 PEM.")
@click.option("--name", required=True, help="The key's name in signatures, such as release.example.org.")
@json_option
def sign(file: Path, key_file: Path, name: str, as_json: bool) -> int:
    """Sign a FILE of reference values: write FILE.note, or add a signature to it.

    Only a file that an entry of its TEE could take is signed. Signatures over another content of FILE are left out.
    The key is printed as a policy names it among `signers`.

    \b
    Examples:
      openssl genpkey -algorithm ed25519 -out release.pem
      proxy-attestation index --measure nitro example.eif --values example > values.toml
      proxy-attestation reference sign values.toml --key release.pem --name release.example.org
    """
    content = _read(file, REFERENCE_VALUES_MAX)
    parsed = parse_values(content)
    check_values(parsed)
    key = read_private_key(key_file)
    verifier = signer(name, key.public_key())
    note = file.with_name(note_file(file.name))
    text = signed_text(parsed.product, parsed.version, content, file.name)
    signers, _ = add_signature(text, note, verifier, key)
    if as_json:
        print_json({"note": str(note), "signer": str(verifier), "signed_by": list(signers), "text": text})
    else:
        click.echo(f"{note}: {parsed.product} version {parsed.version} ({parsed.tee}), signed by {', '.join(signers)}")
        click.echo(f"signer {verifier}")
    return 0


@command.command("import")
@click.argument("file", type=_FILE)
@click.option("--tee", type=click.Choice([str(tee) for tee in Tee]), help="What the environment's class means.")
@click.option("--key", "key_files", type=_FILE, multiple=True, help="PEM public key that may have signed; repeatable.")
@click.option("--danger-unsigned", is_flag=True, help="Take a manifest that nobody signed.")
@form_options
@json_option
def import_corim(
    file: Path, tee: str | None, key_files: tuple[Path, ...], danger_unsigned: bool, as_json: bool, **options: Any
) -> int:
    """Read the reference values of a CoRIM: its reference triples, each as an entry of its own.

    The manifest is signed (COSE_Sign1 with ES256, ES384 or EdDSA) by one of the keys. What no pin can express is
    refused, never left out: docs/reference-values.md has the table.

    \b
    Examples:
      proxy-attestation reference import vendor.corim --key vendor.pem --toml
      proxy-attestation reference import vendor.corim --key vendor.pem --tee tdx --values firmware > values.toml
    """
    keys = [_public_key(path) for path in key_files]
    corim = decode_corim(_read(file, CORIM_MAX), keys, datetime.now(UTC), unsigned=danger_unsigned)
    found = values_of(corim, None if tee is None else Tee(tee), file.name)
    if as_json and not options["toml"] and options["product"] is None:
        print_json({"profile": corim.profile, "signed": corim.signed, "values": [to_json(each) for each in found]})
        return 0
    if options["product"] is not None and len(found) != 1:
        raise UsageError(f"--values takes one triple, and this manifest has {len(found)}: use --toml")
    for each in found:
        show(each, options, as_json=as_json)
    return 0


def _read(path: Path, limit: int) -> bytes:
    try:
        return read_bounded(path, limit)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise UsageError(f"{path}: {reason}") from error


def _public_key(path: Path) -> PublicKey:
    try:
        key = load_pem_public_key(_read(path, KEY_MAX))
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{path}: no public key in PEM") from error
    if not isinstance(key, EllipticCurvePublicKey | Ed25519PublicKey):
        raise UsageError(f"{path}: not a P-256, P-384 or Ed25519 key")
    return key
