"""A small transparency log for tests: keys, tree, checkpoints and files. It can lie, as real ones must not."""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from proxy_attestation.formats import merkle, tiles
from proxy_attestation.formats.checkpoint import Checkpoint
from proxy_attestation.formats.signed_note import KeyType, Note, Signature, Verifier, sign_note
from proxy_attestation.formats.tlog_proof import TlogProof

ORIGIN: Final = "log.example.org/issuance"


class TestKey:
    """An Ed25519 key that signs notes, the same for the same name."""

    __test__ = False

    def __init__(self, name: str = ORIGIN, kind: KeyType = KeyType.ED25519, secret: str = "") -> None:
        self.private = Ed25519PrivateKey.from_private_bytes(hashlib.sha256(f"{name} {secret}".encode()).digest())
        self.verifier = Verifier(name, kind, self.private.public_key().public_bytes_raw())

    def sign(self, text: str, time: int = 0) -> Signature:
        """Sign a text."""
        return sign_note(text, self.verifier, self.private.sign, time)


def witness_key(name: str = "witness.example.org", secret: str = "") -> TestKey:
    """Return a key of cosignatures."""
    return TestKey(name, KeyType.COSIGNATURE, secret)


def signed(text: str, *keys: TestKey, time: int = 1) -> bytes:
    """Return a note."""
    return Note(text, tuple(key.sign(text, time) for key in keys)).encode()


@dataclass
class TestLog:
    """A log in memory, and what it writes."""

    __test__ = False

    key: TestKey = field(default_factory=TestKey)
    entries: list[bytes] = field(default_factory=list)
    frontier: merkle.Frontier = field(default_factory=merkle.Frontier)
    nodes: dict[tuple[int, int], bytes] = field(default_factory=dict)
    written: int = 0

    def add(self, entries: Iterable[bytes]) -> "TestLog":
        """Append entries."""
        for entry in entries:
            self.entries.append(entry)
            self.frontier, made = self.frontier.append(merkle.leaf_hash(entry))
            self.nodes.update({(level, index): one for level, index, one in made})
        return self

    def node(self, level: int, index: int) -> bytes:
        """Read a node."""
        return self.nodes[level, index]

    def root(self, size: int) -> bytes:
        """Return the root of the first `size` entries."""
        return merkle.read_frontier(self.node, size).root

    def checkpoint(self, size: int | None = None, *witnesses: TestKey, time: int = 1) -> bytes:
        """Return a signed checkpoint."""
        count = len(self.entries) if size is None else size
        return signed(Checkpoint(self.key.verifier.name, count, self.root(count)).text, self.key, *witnesses, time=time)

    def proof(self, index: int, size: int | None = None) -> TlogProof:
        """Return the proof of an entry."""
        count = len(self.entries) if size is None else size
        return TlogProof(index, merkle.inclusion_proof(self.node, index, count), self.checkpoint(count))

    def tile(self, tile: tiles.Tile) -> bytes:
        """Return the content of a file."""
        span = range(tile.index * 256, tile.index * 256 + tile.width)
        if tile.level is None:
            return tiles.encode_entries(self.entries[i] for i in span)
        return b"".join(self.nodes[8 * tile.level, i] for i in span)

    def write(self, folder: Path, *witnesses: TestKey, time: int = 1) -> Path:
        """Write the files that are new, then the checkpoint."""
        self.write_tiles(folder)
        return publish(folder, self.checkpoint(None, *witnesses, time=time))

    def write_tiles(self, folder: Path) -> None:
        """Write the files that are new, but for the checkpoint."""
        for tile in tiles.new_tiles(self.written, len(self.entries)):
            path = folder / tile.path
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(self.tile(tile))
        folder.mkdir(exist_ok=True)
        self.written = len(self.entries)


def publish(folder: Path, checkpoint: bytes) -> Path:
    """Put a checkpoint in the place of the one that was there, whole: somebody may be reading."""
    (folder / "checkpoint.new").write_bytes(checkpoint)
    (folder / "checkpoint.new").replace(folder / "checkpoint")
    return folder


def tree_root(leaves: Sequence[bytes]) -> bytes:
    """Return MTH(D[n]) as RFC 6962 section 2.1 writes it, by other code than ours."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return hashlib.sha256(b"\1" + tree_root(leaves[:k]) + tree_root(leaves[k:])).digest()
