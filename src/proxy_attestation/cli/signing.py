"""What people sign: the keys that they keep in files, and their lines under a text."""

from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError, FormatError, UsageError
from proxy_attestation.formats.bounds import NOTE_MAX
from proxy_attestation.formats.signed_note import KeyType, Note, Verifier, parse_note, sign_note

_KEY_MAX: Final = 4096


def load_signer(path: Path, name: str) -> tuple[Verifier, Ed25519PrivateKey]:
    """Read a private key and give it its name.

    Args:
        path: PKCS#8, PEM, Ed25519, without a pass phrase, as `openssl genpkey -algorithm ed25519` writes it.
        name: of the key; no white space, no plus sign.

    Raises:
        UsageError: where the file cannot be read, or for a name that cannot be.
        ConfigurationError: `configuration.malformed`, for another kind of key.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_KEY_MAX + 1)
    except OSError as error:
        raise UsageError(f"{path}: cannot be read: {error.strerror or error}") from error
    try:
        key = load_pem_private_key(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise ConfigurationError(Code.CONFIGURATION_MALFORMED, f"{path}: not a private key in PEM") from error
    if not isinstance(key, Ed25519PrivateKey):
        raise ConfigurationError(Code.CONFIGURATION_MALFORMED, f"{path}: not an Ed25519 key")
    try:
        public = key.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)
        return Verifier(name, KeyType.ED25519, public), key
    except FormatError as error:
        raise UsageError(f"--name {name!r}: {error.detail}") from error


def sign_data(data: bytes, path: Path, name: str) -> Note:
    """Sign a text, or add a signature to a note; an earlier one of the same key is replaced.

    Args:
        data: a text that ends with a newline, or a note.
        path: of the private key.
        name: of the key.

    Raises:
        FormatError: `note.malformed`.
        UsageError, ConfigurationError: as `load_signer`.
    """
    verifier, key = load_signer(path, name)
    if len(data) > NOTE_MAX:
        raise FormatError(Code.NOTE_MALFORMED, f"more than {NOTE_MAX} bytes")
    try:
        note = parse_note(data) if b"\n\n" in data else Note(data.decode(), ())
    except UnicodeDecodeError as error:
        raise FormatError(Code.NOTE_MALFORMED, "not UTF-8") from error
    pair = (verifier.name, verifier.key_id)
    others = tuple(one for one in note.signatures if (one.name, one.key_id) != pair)
    return Note(note.text, (*others, sign_note(note.text, verifier, key.sign)))
