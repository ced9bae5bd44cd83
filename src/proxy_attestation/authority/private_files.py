"""Files and directories that are the authority's alone: checked when read, written whole or not at all."""

import os
import stat
from pathlib import Path

from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError


def check_private(path: Path, *, directory: bool = False) -> None:
    """Check that a file or directory is ours alone.

    Raises:
        ConfigurationError: `authority.state`, when it is a link, of another owner, or open to others.
        OSError: when it cannot be looked at.
    """
    _check_mode(path, path.lstat(), directory=directory)


def read_private(path: Path, limit: int) -> bytes:
    """Read a file that must be ours alone; checked on the open descriptor, so that nobody can swap it in between.

    Raises:
        ConfigurationError: `authority.state`, as `check_private`, or when it is longer than `limit` bytes.
        OSError: when it cannot be read.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        _check_mode(path, os.fstat(descriptor), directory=False)
        data = file.read(limit + 1)
    if len(data) > limit:
        raise ConfigurationError(Code.AUTHORITY_STATE, f"{path}: longer than {limit} bytes")
    return data


def write_private(path: Path, data: bytes) -> None:
    """Write a file of mode 0600 so that after a crash it is there whole or not at all.

    Raises:
        OSError: when it cannot be written.
    """
    temporary = path.with_name(f".{path.name}.new")
    temporary.unlink(missing_ok=True)
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(descriptor)
    temporary.replace(path)
    sync_directory(path.parent)


def sync_directory(path: Path) -> None:
    """Make what was created or renamed in a directory survive a crash.

    Raises:
        OSError: when that cannot be done.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _check_mode(path: Path, status: os.stat_result, *, directory: bool) -> None:
    kind, name, mode = (stat.S_ISDIR, "directory", "0700") if directory else (stat.S_ISREG, "plain file", "0600")
    problem = None
    if not kind(status.st_mode):
        problem = f"not a {name}"
    elif status.st_uid != os.geteuid():
        problem = "belongs to another user"
    elif status.st_mode & 0o077:
        problem = f"open to others, must have mode {mode}"
    if problem is not None:
        raise ConfigurationError(Code.AUTHORITY_STATE, f"{path}: {problem}")
