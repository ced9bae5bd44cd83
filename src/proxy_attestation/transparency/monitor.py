"""Follows a ledger: every new entry is read and authenticated, and whatever must not be is an alarm.

One look, in order:

1. The newest checkpoint, signed by the log and its quorum of witnesses.
2. Not smaller than the last one that was seen (`ledger.rollback`), and not another tree of the same size.
3. Its tree begins with the whole tree that was seen last (`ledger.fork`): the new tree's own hashes, authenticated up
   to its signed root, give another root for that size, so the two signed checkpoints prove the fork.
4. Each new entry, held against what is expected.
5. The newest time in it: of a cosignature, or of a certificate's notBefore among the last entries (`ledger.stale`).
6. The checkpoint is kept, unless 1 to 3 gave an alarm.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError, RefusedError
from proxy_attestation.formats.bounds import NOTE_MAX
from proxy_attestation.formats.checkpoint import Checkpoint, open_checkpoint
from proxy_attestation.formats.ledger_entry import EntryKind, LedgerEntry
from proxy_attestation.formats.signed_note import Note, Verifier
from proxy_attestation.formats.tiles import TILE_WIDTH
from proxy_attestation.formats.tlog_policy import TlogPolicy
from proxy_attestation.transparency.files import read_small, replace_file
from proxy_attestation.transparency.reader import TreeReader, read_checkpoint
from proxy_attestation.transparency.source import Source
from proxy_attestation.transparency.verify import Progress, decode_logged, read_entries

LAST: Final = "checkpoint"
_EVIDENCE_MAX: Final = 16
"""Forks whose checkpoints are kept as files."""


@dataclass(frozen=True, slots=True)
class Expected:
    """What is held against entries. An empty set expects nothing in particular.

    Attributes:
        measurements: every measurement of a leaf must be among these.
        policies: every policy digest must be among these.
        max_age: seconds after which a ledger without news is stale; None: never.
    """

    measurements: frozenset[bytes] = frozenset()
    policies: frozenset[bytes] = frozenset()
    max_age: int | None = None


@dataclass(frozen=True, slots=True)
class Alarm:
    """Something that must not be.

    Attributes:
        code: which.
        detail: readable.
        index: of the entry, where it is about one.
    """

    code: Code
    detail: str
    index: int | None = None


@dataclass(frozen=True, slots=True)
class NewEntry:
    """An entry that was not there at the last look."""

    index: int
    entry: LedgerEntry


@dataclass(frozen=True, slots=True)
class NewCheckpoint:
    """A checkpoint that agrees with all that was seen before."""

    old_size: int
    checkpoint: Checkpoint


Event = Alarm | NewEntry | NewCheckpoint


class Monitor:
    """Follows one log. What it has seen last stands in a folder, and survives it.

    Args:
        log: the log's key.
        policy: whose cosignatures it must have.
        state: an existing folder.
        expected: what entries must be.
        clock: seconds since the epoch.
    """

    def __init__(
        self, log: Verifier, policy: TlogPolicy, state: Path, expected: Expected, clock: Callable[[], int]
    ) -> None:
        self._log, self._policy, self._state = log, policy, state
        self._expected, self._clock = expected, clock

    def look(self, source: Source, progress: Progress = lambda _: None) -> Iterator[Event]:
        """Look once. Exhaust the iterator: what was seen is kept at its end.

        Raises:
            UnavailableError: `ledger.unreachable`; nothing is kept.
            ConfigurationError: `configuration.malformed`, for a folder that cannot be used.
        """
        last = self._last()
        note = None
        try:
            checkpoint, note = read_checkpoint(source, self._log, self._policy)
            reader = self._compare(last, checkpoint, source)
            begin = 0 if last is None else last[0].size
            for index, data in read_entries(reader, begin, checkpoint.size, progress):
                yield from self._entry(index, data)
            yield from self._age(reader, checkpoint, note)
        except (RefusedError, FormatError) as error:
            if error.code is Code.LEDGER_FORK and last is not None and note is not None:
                self._keep_evidence(last[1], note.encode())
            yield Alarm(error.code, error.detail)
            return
        if last is None or checkpoint.size > last[0].size:
            yield NewCheckpoint(begin, checkpoint)
        replace_file(self._state / LAST, note.encode())

    def _last(self) -> tuple[Checkpoint, bytes] | None:
        data = read_small(self._state / LAST, NOTE_MAX)
        return None if data is None else (open_checkpoint(data, self._log)[0], data)

    @staticmethod
    def _compare(last: tuple[Checkpoint, bytes] | None, checkpoint: Checkpoint, source: Source) -> TreeReader:
        """Return the new tree, which continues the last one."""
        seen = None if last is None else last[0]
        if seen is not None and checkpoint.size < seen.size:
            raise RefusedError(Code.LEDGER_ROLLBACK, f"a tree of {checkpoint.size} where there was one of {seen.size}")
        if seen is not None and checkpoint.size == seen.size and checkpoint.root != seen.root:
            raise RefusedError(Code.LEDGER_FORK, f"another tree of {checkpoint.size} entries")
        reader = TreeReader(source, checkpoint)
        if seen is not None and reader.root(seen.size) != seen.root:
            raise RefusedError(Code.LEDGER_FORK, f"not the {seen.size} entries that were there before")
        return reader

    def _entry(self, index: int, data: bytes) -> Iterator[Event]:
        try:
            entry = decode_logged(index, data)
        except FormatError as error:
            yield Alarm(error.code, error.detail, index)
            return
        if entry.kind is not EntryKind.PROXY_TLS:
            yield NewEntry(index, entry)
        for name, found, expected in (
            ("measurement", set(entry.measurements), self._expected.measurements),
            ("policy digest", {entry.policy_digest} - {None}, self._expected.policies),
        ):
            if expected and not found <= expected:
                unknown = ", ".join(sorted(one.hex() for one in found - expected if one is not None))
                yield Alarm(Code.LEDGER_UNEXPECTED, f"{name} {unknown}", index)

    def _age(self, reader: TreeReader, checkpoint: Checkpoint, note: Note) -> Iterator[Alarm]:
        if self._expected.max_age is None:
            return
        witnesses = {(key.name, key.key_id) for key in self._policy.verifiers}
        times = [signed.time for signed in note.signatures if (signed.name, signed.key_id) in witnesses]
        begin = max(0, checkpoint.size - TILE_WIDTH)
        for index, data in read_entries(reader, begin, checkpoint.size):
            try:
                entry = decode_logged(index, data)
            except FormatError:
                continue  # said when it was new
            if entry.not_before is not None:
                times.append(entry.not_before)
        age = self._clock() - max(times, default=0)
        if not times or age > self._expected.max_age:
            yield Alarm(Code.LEDGER_STALE, f"nothing newer than {age} s" if times else "nothing in it has a time")

    def _keep_evidence(self, seen: bytes, shown: bytes) -> None:
        """Keep the two signed checkpoints that cannot both be true, for whoever is to be shown them."""
        path = self._state / f"fork-{hashlib.sha256(shown).hexdigest()[:16]}.txt"
        if not path.exists() and len(list(self._state.glob("fork-*"))) < _EVIDENCE_MAX:
            replace_file(path, seen + b"\n" + shown)
