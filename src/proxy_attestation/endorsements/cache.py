"""A directory of verified sets, which `load_endorsements` and a worker read as it is.

::

    sgx-00906ed50000-5f1c0e8a9b3d/      one set: name, then the beginning of the digest of its content
        tcb_info.json ...               its files
        .set.json                       its numbers, when to refresh it, until when it holds
    .state.json                         by name: when it last succeeded and failed, and with which code
    .lock                               held while one process changes the directory

A set is written into a hidden directory, every file and the directory synced, then renamed to its name; only then are
older sets of the same name hidden and removed. A reader sees the old set, both, or the new one, each of them whole.
Directories of other names are never touched: they are what an operator put there by hand.

Who can write this directory can withhold and delay, not forge: readers verify every set, and never below their floors.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Final

from proxy_attestation.codes import Code
from proxy_attestation.endorsements.durable import create, read_bounded, replace, sync, unavailable
from proxy_attestation.endorsements.fetched import FetchedSet
from proxy_attestation.endorsements.status import Status, parse_stamp, stamp, status_from_plain, status_to_plain
from proxy_attestation.errors import FormatError, ProxyAttestationError, UnavailableError
from proxy_attestation.formats.bounds import COLLATERAL_DOCUMENT_MAX

SETS_MAX: Final = 100
"""Sets in one directory: with seven files each they stay within what one call of `load_endorsements` reads."""
SET_FILES_MAX: Final = 80
SET_MAX: Final = 4 * 1024 * 1024
TOTAL_MAX: Final = 48 * 1024 * 1024
NUMBERS_MAX: Final = 16
_RECORD_MAX: Final = 64 * 1024
_STATE_MAX: Final = 1024 * 1024
NAME: Final = re.compile(r"(?:sgx|tdx)-[0-9a-f]{12}|snp-(?:milan|genoa|turin)")
_DIRECTORY: Final = re.compile(rf"({NAME.pattern})-[0-9a-f]{{12}}")
_FILE: Final = re.compile(r"[a-z0-9_-]{1,64}\.(?:json|pem|der)")
_RECORD: Final = ".set.json"
_STATE: Final = ".state.json"
_LOCK: Final = ".lock"
_DIGEST_LABEL: Final = b"proxy-attestation/endorsement-set/v1\0"


@dataclass(frozen=True, slots=True)
class HeldSet:
    """A set in the cache.

    Attributes:
        name: what it is for.
        directory: where it is.
        numbers: what never goes back.
        half_life: when it is to be refreshed, UTC.
        valid_until: UTC.
    """

    name: str
    directory: Path
    numbers: Mapping[str, int]
    half_life: datetime
    valid_until: datetime

    def files(self) -> dict[str, bytes]:
        """Read its files.

        Raises:
            FormatError: `endorsements.malformed`, for more or larger files than a set has.
            UnavailableError: `endorsements.unavailable`.
        """
        found: dict[str, bytes] = {}
        size = 0
        try:
            for path in sorted(self.directory.iterdir()):
                if not _FILE.fullmatch(path.name):
                    continue
                found[path.name] = read_bounded(path, COLLATERAL_DOCUMENT_MAX)
                size += len(found[path.name])
                if len(found) > SET_FILES_MAX or size > SET_MAX:
                    raise FormatError(Code.ENDORSEMENTS_MALFORMED, f"{self.directory}: too large for a set")
        except OSError as error:
            raise unavailable(self.directory, error) from error
        return found


class Cache:
    """The directory.

    Args:
        directory: made, with mode 0700, when something is stored.
    """

    def __init__(self, directory: Path) -> None:
        self.directory: Final = directory

    def held(self) -> dict[str, HeldSet]:
        """Return the set of each name; of two of one name the one that holds longer. Unreadable ones do not count.

        Raises:
            UnavailableError: `endorsements.unavailable`, for a directory that cannot be read.
        """
        found: dict[str, HeldSet] = {}
        for path in self._directories():
            item = _held(path)
            if item is not None and (item.name not in found or item.valid_until > found[item.name].valid_until):
                found[item.name] = item
        return found

    def store(self, fetched: FetchedSet) -> bool:
        """Put a set into the directory in place of older ones of its name; tell whether it is new.

        Raises:
            UnavailableError: `limits.exhausted`, when there are too many sets or bytes; `endorsements.unavailable`,
                when it cannot be written. The old set is still there.
        """
        directory = self.directory / f"{fetched.name}-{_digest(fetched.files)[:12]}"
        size = sum(map(len, fetched.files.values()))
        try:
            with self._locked():
                others = [path for path in self._directories() if not path.name.startswith(f"{fetched.name}-")]
                total = size + sum(file.stat().st_size for path in others for file in path.iterdir())
                too_large = size > SET_MAX or len(fetched.files) > SET_FILES_MAX or len(fetched.numbers) > NUMBERS_MAX
                if len(others) >= SETS_MAX or total > TOTAL_MAX or too_large:
                    raise UnavailableError(Code.LIMITS_EXHAUSTED, f"{self.directory}: too many sets, or too large")
                new = _held(directory) is None
                if new:
                    self._write(directory, fetched)
                self._remove_others(directory, fetched.name)
        except OSError as error:
            raise unavailable(self.directory, error) from error
        return new

    def statuses(self) -> dict[str, Status]:
        """Return how refreshing went, by name. What cannot be read is as if it had never been tried."""
        try:
            values = json.loads(read_bounded(self.directory / _STATE, _STATE_MAX))
            return {str(name): status_from_plain(value) for name, value in values["names"].items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, ProxyAttestationError):
            return {}

    def succeeded(self, name: str, source: str, now: datetime) -> None:
        """Note that a name was refreshed.

        Raises:
            UnavailableError: `endorsements.unavailable`.
        """
        self._note(name, Status(source=source, success=now))

    def failed(self, name: str, source: str, now: datetime, error: ProxyAttestationError) -> None:
        """Note that a name could not be refreshed.

        Raises:
            UnavailableError: `endorsements.unavailable`.
        """
        old = self.statuses().get(name, Status())
        status = Status(source, old.success, now, str(error.code), error.detail[:500], old.failures + 1)
        self._note(name, status)

    def _note(self, name: str, status: Status) -> None:
        try:
            with self._locked():
                names = {**self.statuses(), name: status}
                text = json.dumps(
                    {"names": {key: status_to_plain(value) for key, value in sorted(names.items())}}, indent=1
                )
                replace(self.directory / _STATE, f"{text}\n".encode())
        except OSError as error:
            raise unavailable(self.directory, error) from error

    def _directories(self) -> list[Path]:
        try:
            return sorted(path for path in self.directory.iterdir() if _DIRECTORY.fullmatch(path.name))
        except FileNotFoundError:
            return []
        except OSError as error:
            raise unavailable(self.directory, error) from error

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self.directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield
        finally:
            os.close(descriptor)

    def _write(self, directory: Path, fetched: FetchedSet) -> None:
        for left in self.directory.glob(".new-*"):  # of a process that died: the lock is ours
            if left.is_dir():
                shutil.rmtree(left, ignore_errors=True)
            else:
                left.unlink(missing_ok=True)
        temporary = self.directory / f".new-{secrets.token_hex(8)}"
        temporary.mkdir(mode=0o700)
        try:
            for name, data in fetched.files.items():
                create(temporary / name, data)
            record = {
                "numbers": dict(sorted(fetched.numbers.items())),
                "half_life": stamp(fetched.half_life),
                "valid_until": stamp(fetched.valid_until),
            }
            create(temporary / _RECORD, f"{json.dumps(record, indent=1)}\n".encode())
            sync(temporary)
            if directory.exists():  # ours by its name, and without a record that can be read
                self._hide(directory)
            temporary.rename(directory)
        except OSError:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        sync(self.directory)

    def _remove_others(self, kept: Path, name: str) -> None:
        for path in self._directories():
            if path != kept and path.name.startswith(f"{name}-"):
                self._hide(path)
        for left in self.directory.glob(".old-*"):
            shutil.rmtree(left, ignore_errors=True)

    def _hide(self, path: Path) -> None:
        """Take a set away from readers at once: removing its files one by one would show them half of it."""
        path.rename(self.directory / f".old-{secrets.token_hex(8)}")


def _held(directory: Path) -> HeldSet | None:
    match = _DIRECTORY.fullmatch(directory.name)
    try:
        value = json.loads(read_bounded(directory / _RECORD, _RECORD_MAX))
        numbers = {str(name): number for name, number in value["numbers"].items() if type(number) is int}
        half_life, valid_until = parse_stamp(value["half_life"]), parse_stamp(value["valid_until"])
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError, ProxyAttestationError):
        return None
    if match is None or half_life is None or valid_until is None:
        return None
    return HeldSet(match[1], directory, numbers, half_life, valid_until)


def _digest(files: Mapping[str, bytes]) -> str:
    """SHA-256 over the label and, sorted by name, each name and content behind its u32 big-endian length; hex."""
    digest = hashlib.sha256(_DIGEST_LABEL)
    for name in sorted(files):
        for part in (name.encode(), files[name]):
            digest.update(len(part).to_bytes(4) + part)
    return digest.hexdigest()


def set_digest(files: Mapping[str, bytes]) -> str:
    """Return the digest of a set's files, 64 hex digits; the first 12 are in its directory's name."""
    return _digest(files)


def is_file_name(name: str) -> bool:
    """Tell whether a file of a set may be called so."""
    return _FILE.fullmatch(name) is not None
