"""The keys that people sign notes with: Ed25519, as `openssl genpkey -algorithm ed25519` makes them."""

from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes, PublicKeyTypes
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from proxy_attestation.cli.whole_file import write_whole
from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError, FormatError, UsageError
from proxy_attestation.formats.bounds import NOTE_MAX
from proxy_attestation.formats.signed_note import KeyType, Note, Verifier, parse_note, sign_note
from proxy_attestation.policy.load import read_bounded

_KEY_FILE_MAX = 16 * 1024


def read_any_private_key(path: Path) -> PrivateKeyTypes:
    """Read a private key of any kind: PKCS#8 PEM, not encrypted.

    Raises:
        ConfigurationError: `configuration.malformed`.
    """
    try:
        return load_pem_private_key(_read(path), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _malformed(path, "no unencrypted PKCS#8 key in PEM") from error


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """Read an Ed25519 private key: PKCS#8 PEM, not encrypted.

    Raises:
        ConfigurationError: `configuration.malformed`.
    """
    key = read_any_private_key(path)
    if not isinstance(key, Ed25519PrivateKey):
        raise _malformed(path, "no Ed25519 key: make one with `openssl genpkey -algorithm ed25519`")
    return key


def read_any_public_key(path: Path) -> PublicKeyTypes:
    """Read a public key of any kind: SubjectPublicKeyInfo in PEM, as `openssl pkey -pubout` writes it.

    Raises:
        ConfigurationError: `configuration.malformed`.
    """
    try:
        return load_pem_public_key(_read(path))
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _malformed(path, "no public key in PEM") from error


def read_public_key(path: Path) -> Ed25519PublicKey:
    """Read an Ed25519 public key in PEM.

    Raises:
        ConfigurationError: `configuration.malformed`.
    """
    key = read_any_public_key(path)
    if not isinstance(key, Ed25519PublicKey):
        raise _malformed(path, "no Ed25519 key")
    return key


def read_custodian(path: Path) -> bytes:
    """Read a custodian's public key, X25519 in PEM; return its 32 bytes.

    Raises:
        ConfigurationError: `configuration.malformed`.
    """
    key = read_any_public_key(path)
    if not isinstance(key, X25519PublicKey):
        raise _malformed(path, "no X25519 key: make one with `openssl genpkey -algorithm x25519`")
    return key.public_bytes_raw()


def read_custodian_key(path: Path) -> X25519PrivateKey:
    """Read a custodian's private key: X25519, PKCS#8 PEM, not encrypted.

    Raises:
        ConfigurationError: `configuration.malformed`.
    """
    key = read_any_private_key(path)
    if not isinstance(key, X25519PrivateKey):
        raise _malformed(path, "no X25519 key")
    return key


def read_public_half(path: Path) -> Ed25519PublicKey:
    """Read an Ed25519 public key, or that of a private key.

    Raises:
        ConfigurationError: `configuration.malformed`.
    """
    return read_public_key(path) if b"PUBLIC KEY" in _read(path) else read_private_key(path).public_key()


def signer(name: str, key: Ed25519PublicKey, kind: KeyType = KeyType.ED25519) -> Verifier:
    """Return the key under the name that its signatures carry.

    Raises:
        UsageError: for a name that cannot be.
    """
    try:
        return Verifier(name, kind, key.public_bytes_raw())
    except FormatError as error:
        raise UsageError(f"{name!r}: {error.detail}") from error


def with_signature(note: Note, verifier: Verifier, key: Ed25519PrivateKey) -> Note:
    """Sign a note's text; the signatures of others stay, an earlier one of the same key goes.

    Raises:
        FormatError: `note.malformed`, where no note can hold that, such as one signature too many.
    """
    signature = sign_note(note.text, verifier, key.sign)
    pair = (signature.name, signature.key_id)
    others = tuple(one for one in note.signatures if (one.name, one.key_id) != pair)
    # What is written is what a reader takes.
    return parse_note(Note(note.text, (*others, signature)).encode())


def add_signature(
    text: str, path: Path, verifier: Verifier, key: Ed25519PrivateKey
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Sign a text, and write the note to a file, with the signatures that it had over the same text.

    Args:
        text: ends with a newline.
        path: of the note; what it held over another text is replaced.
        verifier: the public half.
        key: the private half.

    Returns:
        The names of the keys that signed, the new one last; and of those whose signatures were over another text.

    Raises:
        ConfigurationError: `note.malformed`, where the file is there and is no note.
        FormatError: `note.malformed`, where no note can hold the text, or one signature more.
        UsageError: where the file cannot be written.
    """
    old = _read_note(path)
    dropped = () if old is None or old.text == text else tuple(one.name for one in old.signatures)
    note = with_signature(Note(text, ()) if old is None or dropped else old, verifier, key)
    write_whole(path, note.encode())
    return tuple(one.name for one in note.signatures), dropped


def _read_note(path: Path) -> Note | None:
    if not path.exists():
        return None
    try:
        return parse_note(read_bounded(path, NOTE_MAX))
    except (OSError, ValueError) as error:
        raise ConfigurationError(Code.NOTE_MALFORMED, f"{path}: {error}") from error
    except FormatError as error:
        raise ConfigurationError(error.code, f"{path}: {error.detail}") from error


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            data = file.read(_KEY_FILE_MAX + 1)
    except OSError as error:
        raise _malformed(path, str(error.strerror)) from error
    if len(data) > _KEY_FILE_MAX:
        raise _malformed(path, f"longer than {_KEY_FILE_MAX} bytes")
    return data


def _malformed(path: Path, what: str) -> ConfigurationError:
    return ConfigurationError(Code.CONFIGURATION_MALFORMED, f"{path}: {what}")
