"""Writes a file whole or not at all."""

import os
import tempfile
from pathlib import Path

from proxy_attestation.errors import UsageError


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that everybody may read, or leave what was there: half a root would lock every client out.

    Raises:
        UsageError: where it cannot be written.
    """
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        temporary = Path(name)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(data)
            temporary.chmod(0o644)
            temporary.replace(path)
        except OSError:
            temporary.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise UsageError(f"{path}: cannot be written: {error.strerror or error}") from error
