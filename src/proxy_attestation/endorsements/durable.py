"""Files that last: read within a bound, written whole and synced."""

import os
import secrets
from pathlib import Path

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError, UnavailableError


def read_bounded(path: Path, limit: int) -> bytes:
    """Return a file's content.

    Raises:
        FormatError: `endorsements.malformed` for more than `limit` bytes.
        OSError: where it cannot be read.
    """
    with path.open("rb") as file:
        data = file.read(limit + 1)
    if len(data) > limit:
        raise FormatError(Code.ENDORSEMENTS_MALFORMED, f"{path}: larger than {limit} bytes")
    return data


def create(path: Path, data: bytes) -> None:
    """Make a file that nobody else may read, and sync it; OSError where there is one."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def replace(path: Path, data: bytes) -> None:
    """Put a synced file in the place of another, whole; OSError where that fails."""
    temporary = path.with_name(f".new-{secrets.token_hex(8)}.json")
    try:
        create(temporary, data)
        temporary.rename(path)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


def sync(directory: Path) -> None:
    """Sync a directory, so that names in it last."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def unavailable(path: Path, error: OSError) -> UnavailableError:
    """Return our error for one of the system."""
    return UnavailableError(Code.ENDORSEMENTS_UNAVAILABLE, f"{path}: {error.strerror or error}")
