"""Unix socket addresses of any length: the kernel takes 107 bytes, a state directory may lie deeper than that."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

_ADDRESS_MAX: Final = 107


@contextmanager
def unix_address(path: Path) -> Iterator[str]:
    """Give an address for `path` that fits, while the block runs: itself, or one through an open directory.

    Raises:
        OSError: when the directory cannot be opened.
    """
    if len(os.fsencode(path)) <= _ADDRESS_MAX:
        yield str(path)
        return
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)
