"""Checkpoints: one spelling; signed by the log and of the log."""

from base64 import b64encode

import pytest
from logs import ORIGIN, TestKey, TestLog, signed, witness_key

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError, RefusedError
from proxy_attestation.formats.checkpoint import Checkpoint, open_checkpoint, parse_checkpoint

ROOT = b64encode(bytes(range(32))).decode()
LOG = TestLog().add([b"a", b"b"])
KEY = LOG.key.verifier


def test_a_checkpoint() -> None:
    text = f"{ORIGIN}\n1234\n{ROOT}\n"
    checkpoint = parse_checkpoint(text)
    assert checkpoint == Checkpoint(ORIGIN, 1234, bytes(range(32)))
    assert checkpoint.text == text


def test_further_lines_are_kept_for_who_signs_them() -> None:
    text = f"{ORIGIN}\n0\n{ROOT}\none\ntwo\n"
    assert parse_checkpoint(text).extensions == ("one", "two")
    assert parse_checkpoint(text).text == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        f"{ORIGIN}\n1\n",
        f"{ORIGIN}\n1\n{ROOT}",
        f"\n1\n{ROOT}\n",
        f"{'a' * 256}\n1\n{ROOT}\n",
        f"{ORIGIN}\n\n{ROOT}\n",
        f"{ORIGIN}\n01\n{ROOT}\n",
        f"{ORIGIN}\n-1\n{ROOT}\n",
        f"{ORIGIN}\n+1\n{ROOT}\n",
        f"{ORIGIN}\n1 \n{ROOT}\n",
        f"{ORIGIN}\n0x1\n{ROOT}\n",
        f"{ORIGIN}\n\u0661\n{ROOT}\n",
        f"{ORIGIN}\n{2**63}\n{ROOT}\n",
        f"{ORIGIN}\n1\n{ROOT[:-4]}\n",
        f"{ORIGIN}\n1\n{ROOT[:-1]}\n",
        f"{ORIGIN}\n1\n{ROOT} \n",
        f"{ORIGIN}\n1\n{b64encode(bytes(33)).decode()}\n",
        f"{ORIGIN}\n1\n{ROOT}\n\n",
        f"{ORIGIN}\n1\n{ROOT}\na\n\nb\n",
        f"{ORIGIN}\n1\n{ROOT}\n" + "a\n" * 17,
    ],
)
def test_malformed_checkpoints(text: str) -> None:
    with pytest.raises(FormatError) as caught:
        parse_checkpoint(text)
    assert caught.value.code is Code.LEDGER_MALFORMED


def test_the_largest_tree() -> None:
    assert parse_checkpoint(f"{ORIGIN}\n{2**63 - 1}\n{ROOT}\n").size == 2**63 - 1


def test_opening_one() -> None:
    checkpoint, note, signers = open_checkpoint(LOG.checkpoint(), KEY)
    assert (checkpoint.size, checkpoint.root, signers) == (2, LOG.root(2), frozenset())
    assert note.encode() == LOG.checkpoint()


def test_who_co_signed() -> None:
    witnesses = [witness_key("w1"), witness_key("w2")]
    keys = [witness.verifier for witness in (*witnesses, witness_key("w3"))]
    assert open_checkpoint(LOG.checkpoint(None, *witnesses), KEY, keys)[2] == {keys[0], keys[1]}


def code_of(data: bytes, *others: TestKey) -> Code:
    with pytest.raises(RefusedError) as caught:
        open_checkpoint(data, KEY, [other.verifier for other in others])
    return caught.value.code


def test_one_that_the_log_did_not_sign() -> None:
    assert code_of(TestLog(TestKey(secret="another")).checkpoint()) is Code.NOTE_SIGNATURE


def test_one_that_only_a_witness_signed() -> None:
    text = Checkpoint(ORIGIN, 2, LOG.root(2)).text
    assert code_of(signed(text, witness_key()), witness_key()) is Code.LEDGER_CHECKPOINT


def test_one_of_another_origin_under_the_log_s_key() -> None:
    assert code_of(signed(Checkpoint("other", 2, LOG.root(2)).text, LOG.key)) is Code.LEDGER_CHECKPOINT


def test_something_else_that_the_log_signed() -> None:
    with pytest.raises(FormatError) as caught:
        open_checkpoint(signed("A text.\n", LOG.key), KEY)
    assert caught.value.code is Code.LEDGER_MALFORMED
