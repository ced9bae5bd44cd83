"""The Merkle tree of RFC 6962 section 2 (RFC 9162 section 2): hashes, roots, proofs and their verification.

A *node* is (level, index): the root of the 2^level leaves from index * 2^level on. Only such complete nodes are ever
stored; what hangs over the right edge is computed from them. Hashes are 32 bytes, SHA-256.
"""

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Final, NoReturn

from proxy_attestation.codes import Code
from proxy_attestation.errors import RefusedError

HASH_LENGTH: Final = 32
EMPTY_ROOT: Final = hashlib.sha256().digest()

ReadNode = Callable[[int, int], bytes]
"""Returns the hash of the complete node (level, index)."""


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of a leaf: SHA-256(00 || data)."""
    return hashlib.sha256(b"\0" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node: SHA-256(01 || left || right)."""
    return hashlib.sha256(b"\1" + left + right).digest()


@dataclass(frozen=True, slots=True)
class Frontier:
    """The right edge of a tree: all that it takes to append to it and to know its root.

    Attributes:
        size: leaves in the tree.
        nodes: the roots of the perfect subtrees that it falls into, largest first: one for each 1 bit of `size`.
    """

    size: int = 0
    nodes: tuple[bytes, ...] = ()

    @property
    def root(self) -> bytes:
        """The tree's root."""
        if not self.nodes:
            return EMPTY_ROOT
        root = self.nodes[-1]
        for left in self.nodes[-2::-1]:
            root = node_hash(left, root)
        return root

    def append(self, leaf: bytes) -> "tuple[Frontier, list[tuple[int, int, bytes]]]":
        """Return the frontier with one leaf more, and the nodes that this completes.

        Args:
            leaf: the leaf's hash, not its data.

        Returns:
            The frontier and (level, index, hash) of each new node, the leaf itself first.
        """
        nodes, made, level, index = list(self.nodes), [(0, self.size, leaf)], 0, self.size
        while index & 1:
            leaf = node_hash(nodes.pop(), leaf)
            level, index = level + 1, index >> 1
            made.append((level, index, leaf))
        return Frontier(self.size + 1, (*nodes, leaf)), made


def read_frontier(read: ReadNode, size: int) -> Frontier:
    """Return the frontier of the tree that the first `size` leaves make, out of stored nodes."""
    levels = [level for level in range(size.bit_length() - 1, -1, -1) if size >> level & 1]
    return Frontier(size, tuple(read(level, (size >> level) - 1) for level in levels))


def perfect_root(hashes: Sequence[bytes]) -> bytes:
    """Return the root over 2^n hashes of equal level."""
    while len(hashes) > 1:
        hashes = [node_hash(hashes[i], hashes[i + 1]) for i in range(0, len(hashes), 2)]
    return hashes[0]


def range_root(read: ReadNode, begin: int, end: int) -> bytes:
    """Return MTH(D[begin:end]) for a subtree that occurs in some tree, from at most 2 * 63 stored nodes.

    `begin` must be a multiple of the smallest power of two that is not below `end - begin`; `end` is above `begin`.
    """
    size = end - begin
    if size & (size - 1) == 0:
        level = size.bit_length() - 1
        return read(level, begin >> level)
    middle = begin + _split(size)
    return node_hash(range_root(read, begin, middle), range_root(read, middle, end))


def _split(size: int) -> int:
    """Return the largest power of two below `size`, which is at least 2."""
    return 1 << (size - 1).bit_length() - 1


def inclusion_proof(read: ReadNode, index: int, size: int) -> tuple[bytes, ...]:
    """Return PATH(index, D[0:size]) (RFC 6962, 2.1.1), the leaf's sibling first.

    Raises:
        RefusedError: `ledger.proof`, unless 0 <= index < size.
    """
    if not 0 <= index < size:
        _refuse(Code.LEDGER_PROOF, f"no leaf {index} in a tree of {size}")
    path, begin, end = [], 0, size
    while end - begin > 1:
        middle = begin + _split(end - begin)
        if index < middle:
            path.append(range_root(read, middle, end))
            end = middle
        else:
            path.append(range_root(read, begin, middle))
            begin = middle
    return tuple(reversed(path))


def consistency_proof(read: ReadNode, old: int, new: int) -> tuple[bytes, ...]:
    """Return PROOF(old, D[0:new]) (RFC 6962, 2.1.2); empty where one of them is empty or both are equal.

    Raises:
        RefusedError: `ledger.proof`, unless 0 <= old <= new.
    """
    if not 0 <= old <= new:
        _refuse(Code.LEDGER_PROOF, f"no way from a tree of {old} to one of {new}")
    if old in (0, new):
        return ()
    path, begin, end = [], 0, new
    while old < end:
        middle = begin + _split(end - begin)
        if old <= middle:
            path.append(range_root(read, middle, end))
            end = middle
        else:
            path.append(range_root(read, begin, middle))
            begin = middle
    if begin:  # otherwise the old tree is this very subtree, and its root is known to who verifies
        path.append(range_root(read, begin, end))
    return tuple(reversed(path))


def verify_inclusion(
    index: int, size: int, leaf: bytes, path: Iterable[bytes], root: bytes, *, code: Code = Code.LEDGER_PROOF
) -> None:
    """Check that a leaf's hash stands at `index` in the tree of `size` leaves with this root (RFC 9162, 2.1.3.2).

    Raises:
        RefusedError: with `code`.
    """
    if root_of_path(index, size, leaf, path, code) != root:
        _refuse(code, "the inclusion proof does not lead to the root")


def root_of_path(index: int, size: int, leaf: bytes, path: Iterable[bytes], code: Code = Code.LEDGER_PROOF) -> bytes:
    """Return the root of the tree of `size` leaves in which a leaf's hash stands at `index` under this proof.

    Raises:
        RefusedError: with `code`, for a proof of another length.
    """
    if not 0 <= index < size:
        _refuse(code, f"no leaf {index} in a tree of {size}")
    found, last, result = index, size - 1, leaf
    for sibling in path:
        if last == 0:
            _refuse(code, "an inclusion proof with too many hashes")
        if found & 1 or found == last:
            result = node_hash(sibling, result)
            while not found & 1 and found:
                found, last = found >> 1, last >> 1
        else:
            result = node_hash(result, sibling)
        found, last = found >> 1, last >> 1
    if last:
        _refuse(code, "an inclusion proof with too few hashes")
    return result


def verify_consistency(
    old: int, new: int, old_root: bytes, new_root: bytes, path: Sequence[bytes], *, code: Code = Code.LEDGER_PROOF
) -> None:
    """Check that the tree of `new` leaves begins with the whole tree of `old` leaves (RFC 9162, 2.1.4.2).

    Raises:
        RefusedError: with `code`.
    """
    if not 0 <= old <= new:
        _refuse(code, f"a tree of {new} cannot begin with one of {old}")
    if old in (0, new):
        if path or (old == new and old_root != new_root) or (old == 0 and old_root != EMPTY_ROOT):
            _refuse(code, "two trees of which one needs no proof, and yet differ or come with one")
        return
    hashes = [old_root, *path] if old & (old - 1) == 0 else list(path)
    if not path:
        _refuse(code, "an empty consistency proof")
    found, last = old - 1, new - 1
    while found & 1:
        found, last = found >> 1, last >> 1
    before = after = hashes[0]
    for sibling in hashes[1:]:
        if last == 0:
            _refuse(code, "a consistency proof with too many hashes")
        if found & 1 or found == last:
            before, after = node_hash(sibling, before), node_hash(sibling, after)
            while not found & 1 and found:
                found, last = found >> 1, last >> 1
        else:
            after = node_hash(after, sibling)
        found, last = found >> 1, last >> 1
    if last or before != old_root or after != new_root:
        _refuse(code, "the consistency proof does not lead to both roots")


def _refuse(code: Code, detail: str) -> NoReturn:
    raise RefusedError(code, detail)
