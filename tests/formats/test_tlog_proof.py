"""Offline proofs: one spelling; leaf, path, log and witnesses each checked."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from logs import TestKey, TestLog, witness_key

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError, ProxyAttestationError, RefusedError
from proxy_attestation.formats.merkle import leaf_hash
from proxy_attestation.formats.tlog_policy import parse_tlog_policy
from proxy_attestation.formats.tlog_proof import TLOG_PROOF_MAX, TlogProof, parse_tlog_proof, verify_tlog_proof

LOG = TestLog().add(b"%d" % number for number in range(10))
KEY = LOG.key.verifier
LEAF = leaf_hash(b"3")
PROOF = LOG.proof(3)
TEXT = PROOF.encode().decode()
HASH = TEXT.split("\n")[2]
POLICY = parse_tlog_policy(f"witness w {witness_key().verifier}\nquorum w\n")


def test_a_proof() -> None:
    assert TEXT.startswith(f"c2sp.org/tlog-proof@v1\nindex 3\n{HASH}\n")
    assert parse_tlog_proof(PROOF.encode()) == PROOF
    assert verify_tlog_proof(PROOF, LEAF, KEY).size == 10


def test_extra_is_carried() -> None:
    for extra in (b"", b"anything", bytes(4096)):
        proof = replace(PROOF, extra=extra)
        assert parse_tlog_proof(proof.encode()) == proof
        verify_tlog_proof(proof, LEAF, KEY)


def test_a_tree_of_one() -> None:
    log = TestLog().add([b"only"])
    proof = parse_tlog_proof(log.proof(0).encode())
    assert proof.path == ()
    verify_tlog_proof(proof, leaf_hash(b"only"), KEY)


@pytest.mark.parametrize(
    "text",
    [
        "",
        TEXT.replace("@v1", "@v2"),
        TEXT.replace("c2sp", " c2sp"),
        TEXT.replace("index 3\n", ""),
        TEXT.replace("index 3", "index 03"),
        TEXT.replace("index 3", "index  3"),
        TEXT.replace("index 3", "Index 3"),
        TEXT.replace("index 3", f"index {2**63}"),
        TEXT.replace("index 3\n", "index 3\nextra AAAA\n"),
        TEXT.replace("index 3\n", "extra AAAA\nextra AAAA\nindex 3\n"),
        TEXT.replace("index 3\n", "extra AAA\nindex 3\n"),
        TEXT.replace("index 3\n", "extra\nindex 3\n"),
        TEXT.replace(HASH, HASH + " "),
        TEXT.replace(HASH, HASH[4:]),
        TEXT.replace(HASH, HASH[:-1]),
        TEXT.replace(HASH + "\n", (HASH + "\n") * 61),
        TEXT.replace(HASH, HASH + "\r"),
        TEXT.replace(HASH, "\xe9"),
        TEXT.split("\n\n", maxsplit=1)[0],
        "x" * (TLOG_PROOF_MAX + 1),
    ],
)
def test_malformed_proofs(text: str) -> None:
    with pytest.raises(FormatError) as caught:
        parse_tlog_proof(text.encode())
    assert caught.value.code is Code.LEDGER_MALFORMED


def code_of(proof: TlogProof, leaf: bytes = LEAF) -> Code:
    with pytest.raises(RefusedError) as caught:
        verify_tlog_proof(proof, leaf, KEY)
    return caught.value.code


def test_another_leaf_index_or_path() -> None:
    assert code_of(PROOF, leaf_hash(b"4")) is Code.LEDGER_PROOF
    assert code_of(replace(PROOF, index=4)) is Code.LEDGER_PROOF
    assert code_of(replace(PROOF, index=10)) is Code.LEDGER_PROOF
    assert code_of(replace(PROOF, path=PROOF.path[:-1])) is Code.LEDGER_PROOF
    assert code_of(replace(PROOF, path=PROOF.path[::-1])) is Code.LEDGER_PROOF


def test_another_checkpoint() -> None:
    assert code_of(replace(PROOF, checkpoint=LOG.checkpoint(9))) is Code.LEDGER_PROOF
    other = TestLog(TestKey(secret="another")).add(LOG.entries)
    assert code_of(replace(PROOF, checkpoint=other.checkpoint())) is Code.NOTE_SIGNATURE


def test_witnesses_that_are_demanded() -> None:
    with pytest.raises(RefusedError) as caught:
        verify_tlog_proof(PROOF, LEAF, KEY, POLICY)
    assert caught.value.code is Code.LEDGER_WITNESSES
    seen = replace(PROOF, checkpoint=LOG.checkpoint(None, witness_key()))
    assert verify_tlog_proof(seen, LEAF, KEY, POLICY).size == 10


@settings(deadline=None)
@given(st.binary(max_size=200) | st.text().map(lambda t: TEXT.replace("index 3", t).encode("utf-8", "replace")))
def test_any_bytes_give_a_proof_or_our_error(data: bytes) -> None:
    try:
        proof = parse_tlog_proof(data)
    except ProxyAttestationError:
        return
    assert proof.encode() == data
