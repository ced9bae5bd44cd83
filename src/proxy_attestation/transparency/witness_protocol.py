"""The bodies of C2SP tlog-witness: what a log posts to `add-checkpoint`, and where a witness shows what it signed."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError
from proxy_attestation.formats.bounds import NOTE_MAX
from proxy_attestation.formats.checkpoint import parse_decimal
from proxy_attestation.formats.tlog_proof import hash_lines, parse_hashes

ADD_CHECKPOINT: Final = "add-checkpoint"
SIZE_TYPE: Final = "text/x.tlog.size"
BODY_MAX: Final = NOTE_MAX + 4096
"""Bytes of a body: a note, 63 hashes of 45 bytes and a line."""
_CODE: Final = Code.LEDGER_MALFORMED


@dataclass(frozen=True, slots=True)
class AddCheckpoint:
    """What a log asks of a witness.

    Attributes:
        old: the size that the witness is thought to have seen.
        proof: of consistency, from `old` to the checkpoint; empty where `old` is 0.
        checkpoint: the signed note's bytes.
    """

    old: int
    proof: tuple[bytes, ...]
    checkpoint: bytes

    def encode(self) -> bytes:
        """Return the body."""
        return "\n".join((f"old {self.old}", *hash_lines(self.proof), "", "")).encode() + self.checkpoint


def parse_add_checkpoint(body: bytes) -> AddCheckpoint:
    """Read a body.

    Raises:
        FormatError: `ledger.malformed`.
    """
    if len(body) > BODY_MAX:
        raise FormatError(_CODE, f"a body of {len(body)} bytes, at most {BODY_MAX} allowed")
    head, blank, checkpoint = body.partition(b"\n\n")
    try:
        first, *lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError as error:
        raise FormatError(_CODE, "not the lines of a request") from error
    if not blank or not first.startswith("old "):
        raise FormatError(_CODE, "no line with the old size, or no empty line before the checkpoint")
    return AddCheckpoint(parse_decimal(first.removeprefix("old "), _CODE), parse_hashes(lines, _CODE), checkpoint)


def parse_size(body: bytes) -> int:
    """Read the size that a witness answers with 409.

    Raises:
        FormatError: `ledger.malformed`.
    """
    text = body.decode("ascii", "replace")
    if not text.endswith("\n"):
        raise FormatError(_CODE, "not a size")
    return parse_decimal(text[:-1], _CODE)


def monitoring_path(origin: str) -> str:
    """Return where a witness shows the newest checkpoint of a log: hex of SHA-256 of its origin, and `checkpoint`."""
    return f"{hashlib.sha256(origin.encode()).hexdigest()}/checkpoint"


def body_parts(old: int, proof: Sequence[bytes], checkpoint: bytes) -> bytes:
    """Return the body for these parts."""
    return AddCheckpoint(old, tuple(proof), checkpoint).encode()
