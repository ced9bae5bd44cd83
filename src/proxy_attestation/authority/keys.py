"""Where the authority's private keys are, and the one thing that is done with them. CA keys: P-256; the log's: Ed25519.

Whoever can read a key file that is not sealed can mint certificates. A file that others could read is
therefore refused, not repaired. `key_stores.py` has the other places for keys.
"""

from collections.abc import Callable, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Final, Protocol, TypeAlias

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes

from proxy_attestation.authority.private_files import check_private, read_private, write_private
from proxy_attestation.authority.seal import Seal
from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError, FormatError, RefusedError, UnavailableError
from proxy_attestation.formats.csr import spki_of
from proxy_attestation.formats.key_transfer import TransferredKey

KEY_FILE_MAX: Final = 4096
ROOT_NUMBER: Final = 0
_BINDING: Final = "authority.sealed"
_SUFFIX: Final = ".key"
_SEALED: Final = ".sealed"

Escrow: TypeAlias = Callable[[str, bytes | None], None]
"""Keeps the PKCS#8 (DER) of a key for recovery, before the key is used; None of one that is destroyed. `escrow.py`."""

LOG_NAME: Final = "log"
"""What the log's key is called, beside `root` and `issuing-N`."""

# RFC 6979: the same bytes get the same signature, so a repeated call gets the same certificate and not only the same
# to-be-signed bytes.
_ECDSA: Final = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)


class Signer(Protocol):
    """A private key that signs to-be-signed bytes and does nothing else."""

    @property
    def spki(self) -> bytes:
        """DER of the SubjectPublicKeyInfo, P-256."""

    def sign(self, tbs: bytes) -> bytes:
        """Return the DER of an ecdsa-with-SHA256 signature."""


class SoftwareSigner:
    """A private key in this process."""

    __slots__ = ("_key", "spki")

    def __init__(self, key: ec.EllipticCurvePrivateKey) -> None:
        self._key = key
        self.spki = spki_of(key.public_key())

    def sign(self, tbs: bytes) -> bytes:
        """Return the DER of an ecdsa-with-SHA256 signature."""
        return self._key.sign(tbs, _ECDSA)


class LogKey(Protocol):
    """The ledger's private key, which signs checkpoints, and one label for `ownership.owner_key`, which tells nobody.

    The same bytes get the same signature.
    """

    @property
    def public_key(self) -> bytes:
        """32 bytes (RFC 8032)."""

    def sign(self, text: bytes) -> bytes:
        """Return an Ed25519 signature, 64 bytes."""


class SoftwareLogKey:
    """The ledger's key in this process."""

    __slots__ = ("_key", "public_key")

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public_key = key.public_key().public_bytes_raw()

    def sign(self, text: bytes) -> bytes:
        """Return an Ed25519 signature, 64 bytes."""
        return self._key.sign(text)


class KeyStore(Protocol):
    """Makes and finds keys by number: from 1 the issuing CAs', a root's is 1 - generation; and the log's."""

    @property
    def origin(self) -> str:
        """`file`, `pkcs11` or `tee`."""

    def load(self, number: int) -> Signer:
        """Return a key."""

    def make(self, number: int) -> Signer:
        """Make the key of a CA that stands in no ledger yet; one of a start that failed is replaced."""

    def destroy(self, number: int) -> None:
        """Destroy the key of a retired issuing CA; nothing happens where it is gone."""

    def bind(self, settings: bytes) -> None:
        """Note what the authority is, where the keys are: the bytes of authority.toml, once, at `init`."""

    def check(self, settings: bytes) -> None:
        """Check that the authority is what was noted."""

    def load_log(self) -> LogKey:
        """Return the log's key."""

    def make_log(self) -> LogKey:
        """Make the log's key, before there is any entry."""

    def take(self) -> tuple[TransferredKey, ...]:
        """Return every private key, by name, for one who may have them.

        Raises:
            RefusedError: `keys.token`, where they cannot be taken out.
        """


class FileKeys:
    """Keys as PKCS#8 files (PEM), mode 0600, in a directory of mode 0700: as they are, or sealed to a TEE."""

    def __init__(self, directory: Path, seal: Seal | None = None, escrow: Escrow | None = None) -> None:
        """Use a directory.

        Args:
            directory: where the files are.
            seal: opens and seals them; None for files that whoever can read them can use.
            escrow: where keys that are made are kept for recovery; None for nowhere.
        """
        self._directory = directory
        self._seal = seal
        self._escrow = escrow

    @property
    def origin(self) -> str:
        """`tee` where the files are sealed, `file` where not."""
        return "file" if self._seal is None else "tee"

    def load(self, number: int) -> Signer:
        """Return a key.

        Raises:
            ConfigurationError: `authority.state`; `keys.sealed`, when it was sealed for something else.
        """
        path = self._path(number)
        key = self._read(path)
        if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
            raise ConfigurationError(Code.AUTHORITY_STATE, f"{path}: not a P-256 key")
        return SoftwareSigner(key)

    def make(self, number: int) -> Signer:
        """Make a key.

        Raises:
            UnavailableError: `authority.unavailable`, when it cannot be written.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        self._make(key_name(number), key)
        return SoftwareSigner(key)

    def destroy(self, number: int) -> None:
        """Remove the file, and what is in escrow. What the disk keeps of it is beyond us."""
        self._path(number).unlink(missing_ok=True)
        if self._escrow is not None:
            self._escrow(key_name(number), None)

    def load_log(self) -> LogKey:
        """Return the log's key.

        Raises:
            ConfigurationError: `authority.state`.
        """
        path = self._file(LOG_NAME)
        key = self._read(path)
        if not isinstance(key, Ed25519PrivateKey):
            raise ConfigurationError(Code.AUTHORITY_STATE, f"{path}: not an Ed25519 key")
        return SoftwareLogKey(key)

    def make_log(self) -> LogKey:
        """Make the log's key.

        Raises:
            UnavailableError: `authority.unavailable`, when it cannot be written.
        """
        key = Ed25519PrivateKey.generate()
        self._make(LOG_NAME, key)
        return SoftwareLogKey(key)

    def take(self) -> tuple[TransferredKey, ...]:
        """Return every private key, by name.

        Raises:
            ConfigurationError: `authority.state`; `keys.sealed`.
        """
        files = (path for path in self._directory.iterdir() if not path.name.startswith("."))
        names = sorted({name for path in files if (name := self._name_of(path)) is not None})
        return tuple(TransferredKey(name, _pkcs8(self._read(self._file(name)))) for name in names)

    def give(self, keys: Sequence[TransferredKey]) -> None:
        """Write keys that came from elsewhere; whether they are this authority's is another's to check.

        Raises:
            FormatError: `keys.transfer_malformed`, for what is no key of an authority.
            UnavailableError: `authority.unavailable`, when it cannot be written.
        """
        for name, pkcs8 in keys:
            try:
                key = serialization.load_der_private_key(pkcs8, password=None)
            except (ValueError, TypeError, UnsupportedAlgorithm) as error:
                raise FormatError(Code.KEYS_TRANSFER_MALFORMED, f"{name}: not a PKCS#8 key") from error
            if not isinstance(key, Ed25519PrivateKey if name == LOG_NAME else ec.EllipticCurvePrivateKey):
                raise FormatError(Code.KEYS_TRANSFER_MALFORMED, f"{name}: a key of another kind")
            self._write(self._file(name), key)

    def _name_of(self, path: Path) -> str | None:
        end = _SUFFIX + ("" if self._seal is None else _SEALED)
        return path.name.removesuffix(end) if path.name.endswith(end) else None

    def _make(self, name: str, key: ec.EllipticCurvePrivateKey | Ed25519PrivateKey) -> None:
        """Write a new key, in escrow first: none is ever used that could not be recovered."""
        if self._escrow is not None:
            self._escrow(name, _pkcs8(key))
        self._write(self._file(name), key)

    def _read(self, path: Path) -> PrivateKeyTypes:
        try:
            check_private(self._directory, directory=True)
            data = read_private(path, KEY_FILE_MAX)
            pem = data if self._seal is None else self._seal.unwrap(path.name, data)
            return serialization.load_pem_private_key(pem, password=None)
        except OSError as error:
            raise ConfigurationError(Code.AUTHORITY_STATE, f"{path}: {error.strerror}") from error
        except (ValueError, TypeError) as error:
            raise ConfigurationError(Code.AUTHORITY_STATE, f"{path}: not an unencrypted PKCS#8 key") from error

    def _write(self, path: Path, key: PrivateKeyTypes) -> None:
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        try:
            write_private(path, pem if self._seal is None else self._seal.wrap(path.name, pem))
        except OSError as error:
            raise UnavailableError(Code.AUTHORITY_UNAVAILABLE, f"{path}: {error}") from error

    def bind(self, settings: bytes) -> None:
        """Seal the digest of authority.toml. Keys that are files in clear can vouch for nothing.

        Raises:
            OSError: when it cannot be written.
        """
        if self._seal is not None:
            write_private(self._directory / _BINDING, self._seal.wrap(_BINDING, sha256(settings).digest()))

    def check(self, settings: bytes) -> None:
        """Check that authority.toml is what was sealed: whoever writes the disk can change the file and the ledger.

        Raises:
            ConfigurationError: `keys.sealed`, when it is not; `authority.state`, when nothing was.
        """
        if self._seal is None:
            return
        path = self._directory / _BINDING
        try:
            sealed = read_private(path, KEY_FILE_MAX)
        except OSError as error:
            raise ConfigurationError(Code.AUTHORITY_STATE, f"{path}: {error.strerror}") from error
        if self._seal.unwrap(_BINDING, sealed) != sha256(settings).digest():
            raise ConfigurationError(Code.KEYS_SEALED, "authority.toml is not the one that was sealed with the keys")

    def _path(self, number: int) -> Path:
        return self._file(key_name(number))

    def _file(self, name: str) -> Path:
        return self._directory / f"{name}{_SUFFIX}{'' if self._seal is None else _SEALED}"


class MemoryKeys:
    """Keys that end with the process: for benchmarks and tests of an authority without a directory."""

    origin = "file"

    def __init__(self) -> None:
        self._keys: dict[int, Signer] = {}
        self._log: list[LogKey] = []

    def load(self, number: int) -> Signer:
        """Return a key."""
        return self._keys[number]

    def make(self, number: int) -> Signer:
        """Make a key."""
        self._keys[number] = SoftwareSigner(ec.generate_private_key(ec.SECP256R1()))
        return self._keys[number]

    def destroy(self, number: int) -> None:
        """Forget a key."""
        self._keys.pop(number, None)

    def bind(self, settings: bytes) -> None:
        """Note nothing: there is no file that somebody could change."""

    def check(self, settings: bytes) -> None:
        """Check nothing, likewise."""

    def load_log(self) -> LogKey:
        """Return the log's key."""
        return self._log[0]

    def make_log(self) -> LogKey:
        """Make the log's key."""
        self._log = [SoftwareLogKey(Ed25519PrivateKey.generate())]
        return self._log[0]

    def take(self) -> tuple[TransferredKey, ...]:
        """Refuse."""
        raise RefusedError(Code.KEYS_TOKEN, "keys that end with their process")


def _pkcs8(key: PrivateKeyTypes) -> bytes:
    der, form = serialization.Encoding.DER, serialization.PrivateFormat.PKCS8
    return key.private_bytes(der, form, serialization.NoEncryption())


def key_name(number: int) -> str:
    """Return what the key of a CA is called: `root`, `root-gN` of a later root, or `issuing-N`."""
    root = "root" if number == ROOT_NUMBER else f"root-g{1 - number}"
    return root if number <= ROOT_NUMBER else f"issuing-{number}"
