"""Small files that must last: read within a bound, replaced whole and synced."""

import os
import secrets
from pathlib import Path

from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError, UnavailableError


def read_small(path: Path, limit: int) -> bytes | None:
    """Return a file's content, or None where there is none.

    Raises:
        ConfigurationError: `configuration.malformed`, where it cannot be read or is larger than `limit` bytes.
    """
    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise ConfigurationError(Code.CONFIGURATION_MALFORMED, f"{path}: {error.strerror or error}") from error
    if len(data) > limit:
        raise ConfigurationError(Code.CONFIGURATION_MALFORMED, f"{path}: larger than {limit} bytes")
    return data


def replace_file(path: Path, data: bytes) -> None:
    """Put a synced file in the place of another, whole or not at all.

    Raises:
        UnavailableError: `ledger.unreachable`, where that fails.
    """
    temporary = path.with_name(f".new-{secrets.token_hex(8)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(path)
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise UnavailableError(Code.LEDGER_UNREACHABLE, f"{path}: {error.strerror or error}") from error


def make_folder(path: Path) -> None:
    """Make a folder that nobody else may read, unless it is there.

    Raises:
        ConfigurationError: `configuration.malformed`.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(Code.CONFIGURATION_MALFORMED, f"{path}: {error.strerror or error}") from error
