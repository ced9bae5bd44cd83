"""Keys in escrow: each sealed to the recovery key when it is made, so that custodians can bring it back together.

::

    recovery/NAME.share         0600: a share of the recovery key, sealed to the custodian NAME
    recovery/escrow/KEY.hpke    0600: a private key of the authority, sealed to the recovery key

Nothing here can be opened by the proxy: the recovery key's private half was split at `init` and forgotten.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Final

from proxy_attestation.authority.keys import Escrow
from proxy_attestation.authority.private_files import read_private, write_private
from proxy_attestation.authority.settings import Settings
from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError, UnavailableError
from proxy_attestation.formats.bounds import TRANSFERRED_KEY_MAX, TRANSFERRED_KEYS_MAX
from proxy_attestation.formats.key_transfer import HPKE_OVERHEAD, TransferredKey, escrow_info, seal_to

_DIRECTORY: Final = "escrow"
_SUFFIX: Final = ".hpke"


def make_escrow(settings: Settings, directory: Path) -> Escrow | None:
    """Begin the escrow of a new authority; None where it has no custodians.

    Raises:
        OSError: when a directory cannot be made.
    """
    if settings.recovery is not None:
        for path in (directory, directory / _DIRECTORY):
            path.mkdir(mode=0o700)
    return escrow_of(settings, directory)


def escrow_of(settings: Settings, directory: Path) -> Escrow | None:
    """Return the escrow of an authority; None where it has no custodians."""
    if settings.recovery is None:
        return None
    public_key = settings.recovery.public_key

    def keep(name: str, pkcs8: bytes | None) -> None:
        path = directory / _DIRECTORY / f"{name}{_SUFFIX}"
        try:
            if pkcs8 is None:
                path.unlink(missing_ok=True)
            else:
                write_private(path, seal_to(public_key, pkcs8, escrow_info(name)))
        except OSError as error:
            raise UnavailableError(Code.AUTHORITY_UNAVAILABLE, f"{path}: {error.strerror}") from error

    return keep


def read_escrow(directory: Path, unseal: Callable[[bytes, bytes], bytes]) -> tuple[TransferredKey, ...]:
    """Open every key in escrow.

    Args:
        directory: recovery/ of STATE.
        unseal: given what is sealed and its info, returns what is inside.

    Raises:
        ConfigurationError: `authority.state`, when the files cannot be read.
        RefusedError: whatever `unseal` refuses with.
    """
    try:
        names = sorted(path.name for path in (directory / _DIRECTORY).iterdir() if not path.name.startswith("."))
        if not 0 < len(names) <= TRANSFERRED_KEYS_MAX or not all(name.endswith(_SUFFIX) for name in names):
            raise ConfigurationError(Code.AUTHORITY_STATE, f"{directory}: no keys in escrow, too many, or other files")
        keys = []
        for name in sorted(name.removesuffix(_SUFFIX) for name in names):
            sealed = read_private(directory / _DIRECTORY / f"{name}{_SUFFIX}", TRANSFERRED_KEY_MAX + HPKE_OVERHEAD)
            keys.append(TransferredKey(name, unseal(sealed, escrow_info(name))))
    except OSError as error:
        raise ConfigurationError(Code.AUTHORITY_STATE, f"{error.filename}: {error.strerror}") from error
    return tuple(keys)


def share_path(directory: Path, custodian: str) -> Path:
    """Return where a custodian's share is."""
    return directory / f"{custodian}.share"
