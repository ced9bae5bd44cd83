"""Trees: the vectors of RFC 6962's reference code, every proof up to 70 leaves, and every wrong proof refused."""

from base64 import b64decode

import pytest
from logs import TestLog, tree_root

from proxy_attestation.codes import Code
from proxy_attestation.errors import RefusedError
from proxy_attestation.formats.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_proof,
    inclusion_proof,
    leaf_hash,
    node_hash,
    perfect_root,
    read_frontier,
    verify_consistency,
    verify_inclusion,
)

N = 70
LEAVES = [bytes.fromhex(text) for text in (
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
)]  # fmt: skip
ROOTS = (
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
)


@pytest.fixture(scope="module")
def log() -> TestLog:
    return TestLog().add(b"%d" % number for number in range(N))


def test_the_vectors() -> None:
    assert b64decode("47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=") == EMPTY_ROOT == Frontier().root
    for count, root in enumerate(ROOTS, start=1):
        assert TestLog().add(LEAVES[:count]).frontier.root.hex() == root


def test_roots_and_frontiers_of_every_size(log: TestLog) -> None:
    frontier = Frontier()
    for size in range(N + 1):
        assert read_frontier(log.node, size) == frontier
        assert frontier.root == tree_root(log.entries[:size])
        if size < N:
            frontier, made = frontier.append(leaf_hash(log.entries[size]))
            assert all(log.node(level, index) == one for level, index, one in made)


def test_a_perfect_tree_s_root(log: TestLog) -> None:
    assert perfect_root([log.node(0, i) for i in range(64)]) == log.node(6, 0) == log.root(64)
    assert perfect_root([b"x" * 32]) == b"x" * 32


@pytest.mark.exhaustive
def test_every_inclusion_proof(log: TestLog) -> None:
    for size in range(1, N + 1):
        root = log.root(size)
        for index in range(size):
            path = inclusion_proof(log.node, index, size)
            assert len(path) <= 7
            verify_inclusion(index, size, leaf_hash(log.entries[index]), path, root)


@pytest.mark.exhaustive
def test_every_consistency_proof(log: TestLog) -> None:
    roots = [log.root(size) for size in range(N + 1)]
    for new in range(N + 1):
        for old in range(new + 1):
            path = consistency_proof(log.node, old, new)
            assert len(path) <= 8
            verify_consistency(old, new, roots[old], roots[new], path)


def refused(old: int, new: int, roots: tuple[bytes, bytes], path: tuple[bytes, ...]) -> None:
    with pytest.raises(RefusedError) as caught:
        verify_consistency(old, new, *roots, path)
    assert caught.value.code is Code.LEDGER_PROOF


@pytest.mark.exhaustive
def test_no_other_leaf_index_root_or_path_is_included(log: TestLog) -> None:
    def no(index: int, size: int, leaf: bytes, path: tuple[bytes, ...], root: bytes) -> None:
        with pytest.raises(RefusedError) as caught:
            verify_inclusion(index, size, leaf, path, root)
        assert caught.value.code is Code.LEDGER_PROOF

    for size in (1, 2, 3, 7, 8, 13, 64, N):
        root = log.root(size)
        for index in range(size):
            leaf, path = log.node(0, index), inclusion_proof(log.node, index, size)
            no(index, size, leaf_hash(b"other"), path, root)
            no(index, size, leaf, path, bytes(32))
            no(index, size, leaf, (*path, bytes(32)), root)
            no(index, size, leaf, (bytes(32), *path), root)
            no(size, size, leaf, path, root)
            no(-1, size, leaf, path, root)
            for other in range(size):
                if other != index:
                    no(other, size, leaf, path, root)
            for place in range(len(path)):
                no(index, size, leaf, path[:place] + path[place + 1 :], root)
                no(index, size, leaf, (*path[:place], bytes(32), *path[place + 1 :]), root)


@pytest.mark.exhaustive
def test_no_other_size_root_or_path_is_consistent(log: TestLog) -> None:
    for new in (1, 2, 3, 7, 8, 13, 64, N):
        for old in range(new + 1):
            roots = (log.root(old), log.root(new))
            path = consistency_proof(log.node, old, new)
            refused(old, new, (bytes(32), roots[1]), path)
            refused(old, new, roots, (*path, bytes(32)))
            refused(old, new, roots, (bytes(32), *path))
            refused(new + 1, new, roots, path)
            refused(-1, new, roots, path)
            if old:
                refused(old, new, (roots[0], bytes(32)), path)
            for place in range(len(path)):
                refused(old, new, roots, path[:place] + path[place + 1 :])
                refused(old, new, roots, (*path[:place], bytes(32), *path[place + 1 :]))


def test_an_empty_tree_has_one_root(log: TestLog) -> None:
    verify_consistency(0, 5, EMPTY_ROOT, log.root(5), ())
    refused(0, 5, (bytes(32), log.root(5)), ())
    refused(5, 5, (log.root(5), log.root(6)), ())


def test_a_proof_of_the_past_does_not_hold_for_another_past(log: TestLog) -> None:
    other = TestLog().add([b"other", *log.entries[1:]])
    for old in range(1, N):
        refused(old, N, (log.root(old), other.root(N)), consistency_proof(other.node, old, N))


@pytest.mark.parametrize(("index", "size"), [(0, 0), (5, 5), (-1, 5)])
def test_no_proof_is_made_of_what_is_not_there(log: TestLog, index: int, size: int) -> None:
    with pytest.raises(RefusedError) as caught:
        inclusion_proof(log.node, index, size)
    assert caught.value.code is Code.LEDGER_PROOF


@pytest.mark.parametrize(("old", "new"), [(6, 5), (-1, 5)])
def test_no_consistency_with_a_smaller_tree(log: TestLog, old: int, new: int) -> None:
    with pytest.raises(RefusedError) as caught:
        consistency_proof(log.node, old, new)
    assert caught.value.code is Code.LEDGER_PROOF


def test_the_caller_may_name_the_code() -> None:
    with pytest.raises(RefusedError) as caught:
        verify_inclusion(0, 2, bytes(32), (), bytes(32), code=Code.BINDER_MISMATCH)
    assert caught.value.code is Code.BINDER_MISMATCH


def test_leaves_and_nodes_never_have_the_same_hash() -> None:
    assert leaf_hash(bytes(64)) != node_hash(bytes(32), bytes(32))
