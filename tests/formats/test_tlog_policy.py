"""Witness policies: quorums of witnesses and groups, and what is refused at reading."""

import itertools

import pytest
from logs import TestKey, witness_key

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError, RefusedError
from proxy_attestation.formats.tlog_policy import TlogPolicy, parse_tlog_policy

LOG = TestKey().verifier
W = [witness_key(f"w{i}.example.org").verifier for i in range(4)]
LINES = f"""# Who watches
log {LOG} https://log.example.org/

witness a {W[0]}
witness b\t{W[1]}   https://b.example.org/
witness c {W[2]}
witness d {W[3]}
"""


def test_a_policy() -> None:
    policy = parse_tlog_policy(LINES + "group x 2 a b c\ngroup y any x d\nquorum y\n")
    assert [(party.key, party.url) for party in policy.logs] == [(LOG, "https://log.example.org/")]
    assert policy.witnesses[1][1].url == "https://b.example.org/"
    assert policy.verifiers == tuple(W)
    good = [set(s) for n in range(5) for s in itertools.combinations(W, n) if policy.satisfied(frozenset(s))]
    assert all(W[3] in signed or len(signed & set(W[:3])) >= 2 for signed in good)
    assert len(good) == 12


@pytest.mark.parametrize(("quorum", "enough"), [("any", 1), ("all", 3), ("1", 1), ("2", 2), ("3", 3)])
def test_thresholds(quorum: str, enough: int) -> None:
    policy = parse_tlog_policy(f"{LINES}group x {quorum} a b c\nquorum x")
    for count in range(4):
        assert policy.satisfied(frozenset(W[:count])) == (count >= enough)


def test_a_witness_as_the_quorum() -> None:
    policy = parse_tlog_policy(LINES + "quorum b\n")
    assert policy.satisfied(frozenset({W[1]}))
    assert not policy.satisfied(frozenset({W[0], W[2], W[3], LOG}))


def test_no_quorum_demands_nobody() -> None:
    parse_tlog_policy("quorum none").require(frozenset())
    TlogPolicy().require(frozenset())


def test_a_quorum_that_is_not_reached() -> None:
    with pytest.raises(RefusedError) as caught:
        parse_tlog_policy(LINES + "quorum a\n").require(frozenset({W[1]}))
    assert caught.value.code is Code.LEDGER_WITNESSES


@pytest.mark.parametrize(
    "text",
    [
        "",
        LINES,
        LINES + "quorum",
        LINES + "quorum e",
        LINES + "quorum a b",
        LINES + "quorum a\nquorum a",
        LINES + "quorum none\nquorum none",
        LINES + "quorums a",
        LINES + "Quorum a",
        LINES + "group x any\nquorum x",
        LINES + "group x 0 a\nquorum x",
        LINES + "group x 2 a\nquorum x",
        LINES + "group x -1 a\nquorum x",
        LINES + "group x some a b\nquorum x",
        LINES + "group x any a a\nquorum x",
        LINES + "group x any a\ngroup y any a\nquorum x",
        LINES + "group x any y\ngroup y any a\nquorum x",
        LINES + "group x any x\nquorum x",
        LINES + "group x any none\nquorum x",
        LINES + "group a any b\nquorum a",
        LINES + "group none any b\nquorum none",
        LINES + f"witness a {witness_key('e').verifier}\nquorum a",
        LINES + f"witness none {witness_key('e').verifier}\nquorum none",
        LINES + f"witness e {W[0]}\nquorum e",
        LINES + f"witness e {LOG}\nquorum e",
        LINES + f"witness e {witness_key('e').verifier} https://e.example.org/ more\nquorum e",
        LINES + f"log {LOG}\nquorum a",
        LINES + "log nothing\nquorum a",
        LINES + "log\nquorum a",
        LINES + "quorum a\r\n",
        LINES + "quorum a\n# comment\r\n",
        LINES + f"log {W[0]}\nquorum a",
        LINES + "quorum a # comment",
        LINES + "quorum a" + "\n" * 1024,
        LINES + "quorum a\n#" + "x" * 65536,
        "".join(f"witness w{i} {witness_key(f'k{i}').verifier}\n" for i in range(33)) + "quorum w0",
    ],
)
def test_malformed_policies(text: str) -> None:
    with pytest.raises(FormatError) as caught:
        parse_tlog_policy(text)
    assert caught.value.code is Code.LEDGER_MALFORMED


def test_as_many_witnesses_as_the_specification_asks_for() -> None:
    text = "".join(f"witness w{i} {witness_key(f'k{i}').verifier}\n" for i in range(32)) + "quorum w0"
    assert len(parse_tlog_policy(text).witnesses) == 32
