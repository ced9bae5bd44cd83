"""Checkpoints (C2SP tlog-checkpoint v1.0.0): what a log signs over its tree, as a signed note.

::

    <origin: the log's name, equal to its key's>
    <leaves in the tree, decimal>
    <base64 of the root, 32 bytes>
    <further lines, which we never write and never read>
"""

import re
from base64 import b64encode
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError, RefusedError
from proxy_attestation.formats.bounds import NOTE_NAME_MAX, TREE_SIZE_MAX
from proxy_attestation.formats.merkle import HASH_LENGTH
from proxy_attestation.formats.signed_note import Note, Verifier, parse_note, verify_note
from proxy_attestation.formats.values import as_base64

_DECIMAL: Final = re.compile("0|[1-9][0-9]{0,18}")
_EXTENSIONS_MAX: Final = 16


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A tree that a log vouches for.

    Attributes:
        origin: the log's name.
        size: leaves, 0 to 2^63 - 1.
        root: 32 bytes.
        extensions: further lines, without newlines; what they mean is not known here.
    """

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """What is signed."""
        return "\n".join((self.origin, str(self.size), b64encode(self.root).decode(), *self.extensions, ""))


def parse_decimal(text: str, code: Code, maximum: int = TREE_SIZE_MAX) -> int:
    """Return an integer from 0 to `maximum`, written without sign, leading zeros or anything else.

    Raises:
        FormatError: with `code`.
    """
    if not _DECIMAL.fullmatch(text) or int(text) > maximum:
        raise FormatError(code, f"not a decimal number of at most {maximum}")
    return int(text)


def parse_checkpoint(text: str) -> Checkpoint:
    """Read a checkpoint's text, signed or not.

    Raises:
        FormatError: `ledger.malformed`.
    """
    code = Code.LEDGER_MALFORMED
    lines = text.split("\n")
    if len(lines) < 4 or lines.pop() or not all(lines) or len(lines) > 3 + _EXTENSIONS_MAX:
        raise FormatError(code, "a checkpoint has a line each of origin, size and root, and no empty one")
    if len(lines[0].encode(errors="replace")) > NOTE_NAME_MAX:
        raise FormatError(code, "a checkpoint with too long an origin")
    root = as_base64(lines[2], code, HASH_LENGTH)
    return Checkpoint(lines[0], parse_decimal(lines[1], code), root, tuple(lines[3:]))


def open_checkpoint(
    data: bytes, log: Verifier, others: Iterable[Verifier] = ()
) -> tuple[Checkpoint, Note, frozenset[Verifier]]:
    """Read a signed checkpoint and check that the log signed it.

    Args:
        data: the note.
        log: the log's key; its name is the log's origin.
        others: keys of witnesses.

    Returns:
        The checkpoint, its note, and which of `others` signed it too.

    Raises:
        FormatError: `note.malformed` or `ledger.malformed`.
        RefusedError: `note.signature`, where a signature of a known key is not good; `ledger.checkpoint`, where it is
            not this log's.
    """
    note = parse_note(data)
    good = verify_note(note, (log, *others))
    checkpoint = parse_checkpoint(note.text)
    if log not in good or checkpoint.origin != log.name:
        raise RefusedError(Code.LEDGER_CHECKPOINT, f"a checkpoint that is not of the log {log.name}")
    return checkpoint, note, frozenset(good) - {log}
