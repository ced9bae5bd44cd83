"""Proofs that need no network (C2SP tlog-proof): where an entry stands, and a checkpoint that covers it.

::

    c2sp.org/tlog-proof@v1
    [extra <base64>]
    index <decimal>
    <base64 of a hash, the leaf's sibling first>
    ...
    <empty line>
    <the signed checkpoint, byte for byte>
"""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError
from proxy_attestation.formats.bounds import NOTE_MAX
from proxy_attestation.formats.checkpoint import Checkpoint, open_checkpoint, parse_decimal
from proxy_attestation.formats.merkle import HASH_LENGTH, verify_inclusion
from proxy_attestation.formats.signed_note import Verifier
from proxy_attestation.formats.tlog_policy import TlogPolicy
from proxy_attestation.formats.values import as_base64

_CODE: Final = Code.LEDGER_MALFORMED
_FIRST: Final = "c2sp.org/tlog-proof@v1"
PATH_MAX: Final = 63
"""Hashes of a proof in a tree of at most 2^63 - 1 leaves."""
EXTRA_MAX: Final = 4096
TLOG_PROOF_MAX: Final = NOTE_MAX + 16 * 1024
"""Bytes of a whole proof."""


@dataclass(frozen=True, slots=True)
class TlogProof:
    """A proof as it is written; nothing is said of it yet.

    Attributes:
        index: of the leaf.
        path: hashes, the leaf's sibling first.
        checkpoint: the signed note's bytes.
        extra: what nothing vouches for, at most 4096 bytes; None where there is no such line.
    """

    index: int
    path: tuple[bytes, ...]
    checkpoint: bytes
    extra: bytes | None = None

    def encode(self) -> bytes:
        """Return the proof's bytes."""
        extra = [] if self.extra is None else [f"extra {b64encode(self.extra).decode()}"]
        lines = (_FIRST, *extra, f"index {self.index}", *hash_lines(self.path), "", "")
        return "\n".join(lines).encode() + self.checkpoint


def hash_lines(path: Sequence[bytes]) -> tuple[str, ...]:
    """Return hashes in base64."""
    return tuple(b64encode(one).decode() for one in path)


def parse_hashes(lines: Sequence[str], code: Code) -> tuple[bytes, ...]:
    """Read at most 63 hashes in base64.

    Raises:
        FormatError: with `code`.
    """
    if len(lines) > PATH_MAX:
        raise FormatError(code, f"a proof of {len(lines)} hashes, at most {PATH_MAX} allowed")
    return tuple(as_base64(line, code, HASH_LENGTH) for line in lines)


def parse_tlog_proof(data: bytes) -> TlogProof:
    """Read a proof.

    Raises:
        FormatError: `ledger.malformed`.
    """
    if len(data) > TLOG_PROOF_MAX:
        raise FormatError(_CODE, f"a proof of {len(data)} bytes, at most {TLOG_PROOF_MAX} allowed")
    head, blank, checkpoint = data.partition(b"\n\n")
    try:
        first, *lines = head.decode("ascii").split("\n")
    except UnicodeDecodeError as error:
        raise FormatError(_CODE, "not the lines of a proof") from error
    if not blank or first != _FIRST:
        raise FormatError(_CODE, f"a proof begins with {_FIRST} and has an empty line before its checkpoint")
    extra = None
    if lines and lines[0].startswith("extra "):
        extra = as_base64(lines.pop(0).removeprefix("extra "), _CODE, 0, EXTRA_MAX)
    if not lines or not lines[0].startswith("index "):
        raise FormatError(_CODE, "a proof without index")
    index = parse_decimal(lines[0].removeprefix("index "), _CODE)
    return TlogProof(index, parse_hashes(lines[1:], _CODE), checkpoint, extra)


def verify_tlog_proof(
    proof: TlogProof,
    leaf: bytes,
    log: Verifier,
    policy: TlogPolicy = TlogPolicy(),  # noqa: B008 - immutable
) -> Checkpoint:
    """Check that a leaf's hash stands in the log, under a checkpoint with enough cosignatures.

    Raises:
        FormatError, RefusedError: as `open_checkpoint`.
        RefusedError: `ledger.witnesses`, or `ledger.proof`, where it does not lead to the checkpoint's root.
    """
    checkpoint, _, signed = open_checkpoint(proof.checkpoint, log, policy.verifiers)
    policy.require(signed)
    verify_inclusion(proof.index, checkpoint.size, leaf, proof.path, checkpoint.root)
    return checkpoint
