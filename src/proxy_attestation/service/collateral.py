"""The collateral that a worker appraises with: read from STATE/endorsements, verified here, never older than the floor.

Every set is loaded and verified by itself: a broken one is logged with its code and disturbs no other. Of the sets of
one TEE and FMSPC that are valid now and not below the floor, the one with the highest numbers is used, after the
authority has raised the floor to it. What is missing or expired is UNAVAILABLE, never a verdict on somebody's evidence.
"""

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass
from datetime import datetime
from pathlib import Path
from typing import Final, TypeAlias

from proxy_attestation import log
from proxy_attestation.appraisal.endorsements import Floor, SnpEndorsements
from proxy_attestation.appraisal.kinds import Collateral, Endorsements, verify_endorsements
from proxy_attestation.appraisal.roots import Roots
from proxy_attestation.codes import Code
from proxy_attestation.endorsements.amd_lists import choose_lists
from proxy_attestation.endorsements.detect_snp import snp_sets
from proxy_attestation.endorsements.load import load_material
from proxy_attestation.errors import ProxyAttestationError, UnavailableError
from proxy_attestation.formats.tee import Tee
from proxy_attestation.service.core import AuthorityPort

FILES_MAX: Final = 4096
"""Files in STATE/endorsements that a worker looks at."""
RETRY_SECONDS: Final = 60
"""How often sets that could not be used are tried again."""

Key: TypeAlias = tuple[Tee, bytes]
"""A TEE, and what its floor is kept for: an FMSPC, or a processor line."""
Stamp: TypeAlias = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Loaded:
    """What one look into the directory gave.

    Attributes:
        sets: the sets that were read.
        errors: (path, error) of what could not be read.
    """

    sets: tuple[Endorsements, ...]
    errors: tuple[tuple[Path, ProxyAttestationError], ...]


def stamp(directory: Path) -> Stamp:
    """Return what changes whenever a file below `directory` does, hidden ones aside: path, inode, size and time."""
    found: list[tuple[str, int, int, int]] = []
    pending = [str(directory)]
    while pending and len(found) < FILES_MAX:
        try:
            with os.scandir(pending.pop()) as entries:
                for entry in entries:
                    if entry.name.startswith("."):
                        continue  # how refreshing went, and what else is no set
                    if entry.is_dir():
                        pending.append(entry.path)
                    else:
                        status = entry.stat()
                        found.append((entry.path, status.st_ino, status.st_size, status.st_mtime_ns))
        except OSError:
            continue  # gone while we looked: the next look shows it
    return tuple(sorted(found))


def load_sets(directory: Path) -> Loaded:
    """Read every set: each sub-directory by itself; the files beside them together or, if that fails, one by one."""
    try:
        entries = sorted(entry for entry in directory.iterdir() if not entry.name.startswith("."))
    except OSError as error:
        return Loaded((), ((directory, UnavailableError(Code.ENDORSEMENTS_UNAVAILABLE, str(error))),))
    sets: list[Endorsements] = []
    errors: list[tuple[Path, ProxyAttestationError]] = []
    files = [entry for entry in entries if not entry.is_dir()]
    groups = [[entry] for entry in entries if entry.is_dir()]
    if files:
        try:
            sets += _sets(files)
        except ProxyAttestationError:
            groups += [[entry] for entry in files]
    for group in groups:
        try:
            sets += _sets(group)
        except ProxyAttestationError as error:
            errors.append((group[0], error))
    return Loaded(tuple(sets), tuple(errors))


def _sets(paths: Sequence[Path]) -> tuple[Endorsements, ...]:
    material = load_material(paths)
    return (*material.dcap, *snp_sets(material.amd))


def choose(candidates: Iterable[Collateral], floors: Mapping[Key, Floor], now: datetime) -> dict[Key, Collateral]:
    """Choose for each TEE and FMSPC the newest set that is valid at `now` and not below its floor."""
    chosen: dict[Key, Collateral] = {}
    for candidate in candidates:
        key = (candidate.tee, candidate.platform)
        if candidate.valid_until <= now or candidate.below(floors.get(key, Floor())):
            continue
        current = chosen.get(key)
        if current is None or astuple(candidate.floor) > astuple(current.floor):
            chosen[key] = candidate
    return chosen


class CollateralStore:
    """The collateral in use, kept as the directory, the clock and the floors say.

    Attributes:
        in_use: by TEE and FMSPC.
    """

    def __init__(self, directory: Path, authority: AuthorityPort, clock: Callable[[], datetime]) -> None:
        self.in_use: Mapping[Key, Collateral] = {}
        self._directory = directory
        self._authority = authority
        self._clock = clock
        self._stamp: Stamp | None = None
        self._roots: Roots | None = None
        self._loaded = Loaded((), ())
        self._verified: dict[Endorsements, Collateral] = {}
        self._unusable: dict[object, str] = {}
        self._due: datetime | None = None

    def due(self) -> bool:
        """Tell whether `update` has something to do: files changed, a set expired, or one is to be tried again."""
        now = self._clock()
        expired = any(collateral.valid_until <= now for collateral in self.in_use.values())
        return expired or (self._due is not None and now >= self._due) or stamp(self._directory) != self._stamp

    async def update(self, roots: Roots, floors: Mapping[Key, Floor]) -> bool:
        """Bring `in_use` up to date; return whether it changed.

        Args:
            roots: the authority's anchors.
            floors: as the authority told them last.

        Raises:
            UnavailableError: `authority.unavailable`, and then nothing has changed.
        """
        now = self._clock()
        if roots != self._roots:
            self._verified.clear()
            self._roots = roots
        before = stamp(self._directory)
        if before != self._stamp:
            self._loaded = await asyncio.to_thread(load_sets, self._directory)
            self._stamp = before
        self._verified, broken = await asyncio.to_thread(verify_sets, self._loaded, self._verified, roots, now)
        chosen = choose(self._verified.values(), floors, now)
        for one in self._verified.values():
            key = one.tee, one.platform
            if key not in chosen and one.below(floors.get(key, Floor())):
                broken[one.digest] = f"{one.tee} {one.platform.hex()}: below the floor"
        documents = {collateral.digest: endorsements for endorsements, collateral in self._verified.items()}
        usable: dict[Key, Collateral] = {}
        for key, collateral in chosen.items():
            problem = None
            if collateral.floor != floors.get(key, Floor()):
                problem = await self._raise_floor(key, collateral, documents[collateral.digest])
            if problem is None:
                usable[key] = collateral
            else:
                broken[collateral.digest] = problem
        self._report(broken)
        self._due = datetime.fromtimestamp(now.timestamp() + RETRY_SECONDS, now.tzinfo) if broken else None
        changed = usable != self.in_use
        self.in_use = usable
        return changed

    async def _raise_floor(self, key: Key, collateral: Collateral, endorsements: Endorsements) -> str | None:
        """Have the floor raised to a set before it is used; return what keeps it from being used, if anything does."""
        tee, fmspc = key
        try:
            raised = await self._authority.raise_floor(endorsements)
        except ProxyAttestationError as error:
            if error.code is Code.AUTHORITY_UNAVAILABLE:
                raise
            return f"{tee} {fmspc.hex()}: {error}"
        return f"{tee} {fmspc.hex()}: below the floor" if collateral.below(raised) else None

    def _report(self, broken: dict[object, str]) -> None:
        for what, problem in broken.items():
            if self._unusable.get(what) != problem:
                log.warning("collateral not usable", problem=problem)
        self._unusable = broken


def verify_sets(
    loaded: Loaded, known: Mapping[Endorsements, Collateral], roots: Roots, now: datetime
) -> tuple[dict[Endorsements, Collateral], dict[object, str]]:
    """Verify what was loaded, each set by itself.

    Args:
        loaded: what `load_sets` gave.
        known: sets that were verified under the same roots; none of them is verified again.
        roots: the authority's anchors.
        now: aware, UTC.

    Returns:
        The verified sets, and what is wrong with each that is not.
    """
    verified: dict[Endorsements, Collateral] = {}
    broken: dict[object, str] = {path: f"{path.name}: {error}" for path, error in loaded.errors}
    for endorsements in loaded.sets:
        chosen: Endorsements = endorsements
        if isinstance(endorsements, SnpEndorsements):
            chosen, left_out = choose_lists(endorsements, now)
            broken.update(left_out.items())
        try:
            verified[chosen] = known.get(chosen) or verify_endorsements(chosen, roots, now)
        except ProxyAttestationError as error:
            broken[chosen] = str(error)
    return verified, broken
