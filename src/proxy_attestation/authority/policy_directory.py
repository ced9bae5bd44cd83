"""The policy files of an authority's directory: those in force, and each version that was, whole.

::

    policy.toml, policy.toml.note, and what the policy names     read at a start and at SIGHUP
    policies/<version>/                                          the same files of each version, the newest ones
    policies/next                                                a version that is just being put in place
    policies/staged-<16 hex digits>/                             one that somebody wants put in force

Each write is whole or not there after a crash. `policies/next` makes one of many: once it is written, whoever reads the
policy next copies the rest of that version into place first, so that nobody ever sees files of two versions.
"""

import re
import secrets
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from proxy_attestation.authority.private_files import sync_directory, write_private
from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError, UnavailableError
from proxy_attestation.formats.bounds import NOTE_MAX
from proxy_attestation.formats.policy_note import NOTE_SUFFIX, POLICY_FILE
from proxy_attestation.policy.load import PolicyFiles, load_policy_files, note_path, read_bounded

POLICIES: Final = "policies"
VERSIONS_MAX: Final = 50
"""Versions that are kept."""

_NEXT: Final = "next"
_RESERVED: Final = frozenset(
    {"authority.toml", "root.pem", "keys", "anchors", "endorsements", "run", "serve.toml", POLICIES}
)
_LEDGER: Final = "ledger"
_VERSION: Final = re.compile(r"[1-9][0-9]{0,9}\Z")
_STAGED: Final = re.compile(r"staged-[0-9a-f]{16}\Z")


def check_names(files: Mapping[str, bytes]) -> None:
    """Check that the files of a policy can be copied into an authority's directory.

    Raises:
        ConfigurationError: `policy.malformed`, for a name that the directory uses itself.
    """
    for name in files:
        first = name.split("/")[0]
        if first in _RESERVED or first.startswith((_LEDGER, ".")):
            detail = f"{name!r}: it is copied into STATE, which has something else there; give it another name"
            raise ConfigurationError(Code.POLICY_MALFORMED, detail)


class PolicyDirectory:
    """The policy files of one directory. One process at a time, but for `stage`."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._kept = state / POLICIES

    def read(self) -> PolicyFiles:
        """Read what is in place, having finished what a crash interrupted.

        Raises:
            ConfigurationError: `policy.malformed`.
            UnavailableError: `authority.unavailable`, when something cannot be written.
        """
        try:
            self._finish()
        except OSError as error:
            raise _unavailable(error) from error
        return load_policy_files(self._state / POLICY_FILE)

    def version(self, number: int) -> PolicyFiles:
        """Read a version that is kept.

        Raises:
            ConfigurationError: `policy.malformed`, also where it is not kept.
        """
        return load_policy_files(self._kept / str(number) / POLICY_FILE)

    def stage(self, found: PolicyFiles) -> str:
        """Lay a policy where the authority can read it; return the name that `staged` knows it by.

        Raises:
            ConfigurationError: `policy.malformed`, see `check_names`.
            UnavailableError: `authority.unavailable`, when it cannot be written.
        """
        check_names(found.files)
        name = f"staged-{secrets.token_hex(8)}"
        try:
            self._kept.mkdir(mode=0o700, exist_ok=True)
            write_policy(self._kept / name, found)
        except OSError as error:
            raise _unavailable(error) from error
        return name

    def staged(self, name: str) -> PolicyFiles:
        """Read a policy that was staged.

        Raises:
            ConfigurationError: `policy.malformed`.
        """
        if _STAGED.match(name) is None:
            raise ConfigurationError(Code.POLICY_MALFORMED, f"{name!r} was not staged")
        return load_policy_files(self._kept / name / POLICY_FILE)

    def discard(self, name: str) -> None:
        """Remove what was staged."""
        shutil.rmtree(self._kept / name, ignore_errors=True)

    def keep(self, found: PolicyFiles) -> None:
        """Keep a version that comes into force, and forget the oldest; what is kept of it already stays.

        Raises:
            UnavailableError: `authority.unavailable`, when it cannot be written.
        """
        path = self._kept / str(found.policy.version)
        try:
            self._kept.mkdir(mode=0o700, exist_ok=True)
            if not self._holds(path, found):
                new = self._kept / f".{path.name}.new"
                shutil.rmtree(new, ignore_errors=True)
                write_policy(new, found)
                shutil.rmtree(path, ignore_errors=True)
                new.rename(path)
                sync_directory(self._kept)
            versions = sorted((int(one.name) for one in self._kept.iterdir() if _VERSION.match(one.name)), reverse=True)
            for number in versions[VERSIONS_MAX:]:
                shutil.rmtree(self._kept / str(number), ignore_errors=True)
        except OSError as error:
            raise _unavailable(error) from error

    def install(self, version: int) -> None:
        """Put a version that is kept in place.

        Raises:
            UnavailableError: `authority.unavailable`, when something cannot be written; if that was after the first
                write, the next reader finishes it.
        """
        try:
            write_private(self._kept / _NEXT, f"{version}\n".encode())
            self._finish()
        except OSError as error:
            raise _unavailable(error) from error

    def _finish(self) -> None:
        marker = self._kept / _NEXT
        try:
            text = read_bounded(marker, 16).decode()
        except (FileNotFoundError, NotADirectoryError):
            return
        except ValueError as error:
            raise ConfigurationError(Code.POLICY_MALFORMED, f"{marker}: not a version") from error
        if _VERSION.match(text.rstrip("\n")) is None:
            raise ConfigurationError(Code.POLICY_MALFORMED, f"{marker}: not a version")
        found = self.version(int(text))
        check_names(found.files)
        write_policy(self._state, found)
        marker.unlink()
        sync_directory(self._kept)

    def _holds(self, path: Path, found: PolicyFiles) -> bool:
        try:
            note = note_path(path / POLICY_FILE)
            held = read_bounded(note, NOTE_MAX) if note.exists() else None
            same = all(read_bounded(path / name, len(content)) == content for name, content in found.files.items())
        except (OSError, ValueError):
            return False
        return same and held == found.note


def write_policy(directory: Path, found: PolicyFiles) -> None:
    """Write the files of a policy, the signatures last; where it has none, none are left.

    Raises:
        OSError: when something cannot be written.
    """
    directory.mkdir(mode=0o700, exist_ok=True)
    note = POLICY_FILE + NOTE_SUFFIX
    for name, content in (*found.files.items(), *([] if found.note is None else [(note, found.note)])):
        path = directory / name
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        write_private(path, content)
    if found.note is None:
        (directory / note).unlink(missing_ok=True)
    sync_directory(directory)


def _unavailable(error: OSError) -> UnavailableError:
    return UnavailableError(Code.AUTHORITY_UNAVAILABLE, f"{error.filename}: {error.strerror}")
