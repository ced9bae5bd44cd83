"""Signs notes with people's keys: PKCS#8 PEM files of Ed25519, as `openssl genpkey -algorithm ed25519` writes them."""

from dataclasses import replace
from pathlib import Path
from typing import Final

import click
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from proxy_attestation.cli.whole_file import write_whole
from proxy_attestation.errors import FormatError, UsageError
from proxy_attestation.formats.bounds import NOTE_MAX
from proxy_attestation.formats.signed_note import KeyType, Note, Verifier, parse_note, sign_note

KEY_MAX: Final = 16 * 1024


def read_signer(path: Path, name: str) -> tuple[Verifier, Ed25519PrivateKey]:
    """Read a private key; return its public half under a name, as notes have it, and the key.

    A key that is encrypted asks for its passphrase on the terminal.

    Raises:
        UsageError: for a file that is no such key, or a name that no note can hold.
    """
    data = read_bounded(path, KEY_MAX)
    try:
        key = _load(data, path)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise UsageError(f"{path}: no private key in PEM, or another passphrase") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise UsageError(f"{path}: not an Ed25519 key; make one with `openssl genpkey -algorithm ed25519`")
    public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
    try:
        return Verifier(name, KeyType.ED25519, public), key
    except FormatError as error:
        raise UsageError(f"--name {name!r}: {error.detail}") from error


def add_signature(text: str, path: Path, verifier: Verifier, key: Ed25519PrivateKey) -> tuple[str, ...]:
    """Sign a text, and write the note to a file, with the signatures that it had over the same text.

    Args:
        text: ends with a newline.
        path: of the note; what it held over another text is replaced.
        verifier: the public half.
        key: the private half.

    Returns:
        The names of the keys that signed, the new one last.

    Raises:
        FormatError: `note.malformed`, where the file is there and is no note, or no note can hold the text.
        UsageError: where the file cannot be read or written.
    """
    signature = sign_note(text, verifier, key.sign)
    note = Note(text, ())
    if path.exists():
        old = parse_note(read_bounded(path, NOTE_MAX))
        pair = (signature.name, signature.key_id)
        kept = tuple(one for one in old.signatures if (one.name, one.key_id) != pair)
        note = replace(note, signatures=kept if old.text == text else ())
    note = replace(note, signatures=(*note.signatures, signature))
    # What is written is what a reader takes.
    write_whole(path, parse_note(note.encode()).encode())
    return tuple(one.name for one in note.signatures)


def read_bounded(path: Path, limit: int) -> bytes:
    """Read a file of at most so many bytes.

    Raises:
        UsageError: where it cannot be read, or is longer.
    """
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror}") from error
    if len(data) > limit:
        raise UsageError(f"{path}: longer than {limit} bytes")
    return data


def _load(data: bytes, path: Path) -> object:
    try:
        return load_pem_private_key(data, None)
    except TypeError:
        # It is encrypted.
        passphrase = click.prompt(f"Passphrase of {path}", hide_input=True, err=True)
        return load_pem_private_key(data, str(passphrase).encode())
