"""What workers leave for the process that fetches, and what that has for them, in small files.

::

    run/wanted/milan/vcek-<32 hex>                  a VCEK that evidence needs and did not bring: chip id and TCB
    endorsements/.vceks/milan/vcek-<32 hex>.der     what AMD answered, verified; kept over restarts
    run/platforms/sgx-<32 hex>.pem                  the PCK chain of an Intel platform that got a certificate

The hex digits are a digest of chip id and TCB, or of the PCK certificate. The process makes the directories of what it
fetches for: where one is absent, workers leave nothing there. A peer can make a worker ask for chips that do not exist,
so every directory is bounded, and what is one too many is not written.
"""

import os
import re
import secrets
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from proxy_attestation.endorsements.amd_checks import TCB_PARTS, VcekRequest
from proxy_attestation.endorsements.durable import read_bounded, replace
from proxy_attestation.errors import ProxyAttestationError
from proxy_attestation.formats.bounds import CERTIFICATE_MAX

WANTED: Final = "wanted"
PLATFORMS: Final = "platforms"
SPOOLS: Final = (WANTED, PLATFORMS)
"""Both in STATE/run; the supervisor removes them at every start."""
VCEKS: Final = ".vceks"
"""In STATE/endorsements; hidden, so that nobody takes it for a set."""
WANTED_MAX: Final = 64
"""VCEKs of one product that may be waited for."""
KEPT_MAX: Final = 4096
"""VCEKs of one product that are kept; the one that was not used for longest goes."""
PLATFORMS_MAX: Final = 1024
_WANTED_FILE_MAX: Final = 1024
_VCEK: Final = re.compile(r"vcek-[0-9a-f]{32}")
_PLATFORM: Final = re.compile(r"(?:sgx|tdx)-[0-9a-f]{32}\.pem")
_NEW: Final = ".new-"


class VcekSpool:
    """The VCEKs that are asked for and those that came.

    Args of `__init__`: STATE/run, STATE/endorsements.
    """

    def __init__(self, run: Path, endorsements: Path) -> None:
        self._wanted = run / WANTED
        self._kept = endorsements / VCEKS

    def open(self, product: str) -> None:
        """Say that VCEKs of a product are fetched.

        Raises:
            OSError: it cannot be said.
        """
        for directory in (self._wanted / product.lower(), self._kept / product.lower()):
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)

    def find(self, product: str, request: VcekRequest) -> bytes | None:
        """Return a VCEK (DER) that came, or None."""
        path = self._kept / product.lower() / request.file_name
        try:
            der = read_bounded(path, CERTIFICATE_MAX)
            os.utime(path)
        except (OSError, ProxyAttestationError):
            return None
        return der

    def ask(self, product: str, request: VcekRequest) -> bool:
        """Ask for a VCEK, unless as many as may be are waited for; return whether VCEKs of this product are fetched."""
        directory = self._wanted / product.lower()
        try:
            names = [path.name for path in directory.iterdir()]
            name = request.file_name.removesuffix(".der")
            if name not in names and len(names) < WANTED_MAX:
                text = f"{request.hwid.hex()}:" + ",".join(
                    f"{part}={request.tcb[part]}" for part in TCB_PARTS if part in request.tcb
                )
                _write(directory / name, text.encode())
        except OSError:
            return False
        return True

    def wanted(self, product: str) -> list[tuple[Path, str]]:
        """Return what is asked for, the oldest first: the file, and its text as `kds.parse_vcek` reads it."""
        found: list[tuple[float, Path, str]] = []
        for path in _entries(self._wanted / product.lower(), _VCEK):
            with suppress(OSError, ProxyAttestationError):
                text = read_bounded(path, _WANTED_FILE_MAX).decode("ascii", "replace")
                found.append((path.stat().st_mtime, path, text))
        return [(path, text) for _, path, text in sorted(found)]

    def done(self, path: Path) -> None:
        """Take a request away: it was served, or never will be."""
        with suppress(OSError):
            path.unlink(missing_ok=True)

    def keep(self, product: str, request: VcekRequest, der: bytes) -> None:
        """Keep a VCEK that was verified.

        Raises:
            OSError: it cannot be written.
        """
        directory = self._kept / product.lower()
        kept = list(_entries(directory, re.compile(rf"{_VCEK.pattern}\.der")))
        if len(kept) >= KEPT_MAX:
            min(kept, key=lambda path: path.stat().st_mtime).unlink(missing_ok=True)
        replace(directory / request.file_name, der)


class PlatformSpool:
    """The platforms that got a certificate. Args of `__init__`: STATE/run."""

    def __init__(self, run: Path) -> None:
        self._directory = run / PLATFORMS

    def open(self) -> None:
        """Say that somebody looks at platforms.

        Raises:
            OSError: it cannot be said.
        """
        self._directory.mkdir(mode=0o700, exist_ok=True)

    def note(self, name: str, pem: bytes) -> bool:
        """Note a platform, or that it is still there; return False where nobody looks, or there are too many."""
        path = self._directory / name
        try:
            if path.exists():
                os.utime(path)
                return True
            if sum(1 for _ in self._directory.iterdir()) >= PLATFORMS_MAX:
                return False
            _write(path, pem)
        except OSError:
            return False
        return True

    def seen(self, since: float) -> list[Path]:
        """Return the files of those that were noted since then (seconds since the epoch), sorted; forget the others."""
        found = []
        for path in _entries(self._directory, _PLATFORM):
            with suppress(OSError):
                if path.stat().st_mtime >= since:
                    found.append(path)
                else:
                    path.unlink()
        return sorted(found)


def _entries(directory: Path, pattern: re.Pattern[str]) -> Iterator[Path]:
    with suppress(OSError):
        yield from (path for path in list(directory.iterdir()) if pattern.fullmatch(path.name))


def _write(path: Path, data: bytes) -> None:
    """Write a file whole; not synced, since it does not outlive a restart."""
    temporary = path.with_name(f"{_NEW}{secrets.token_hex(8)}")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(data)
    temporary.rename(path)
