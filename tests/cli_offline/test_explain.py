"""Every code is explained, once, in one line each; `explain` prints that."""

from collections.abc import Callable
from typing import Any

import pytest

from proxy_attestation.codes import Code
from proxy_attestation.explanations import EXPLANATIONS

Cli = Callable[..., Any]
LINE_MAX = 160


def test_every_code_is_explained_and_nothing_else() -> None:
    assert set(EXPLANATIONS) == set(Code)


@pytest.mark.parametrize("code", Code, ids=str)
def test_cause_and_fix_are_one_sentence_line_each(code: Code) -> None:
    for line in (EXPLANATIONS[code].cause, EXPLANATIONS[code].fix):
        assert line.endswith(".")
        assert line[0].isupper() or line[0] == "`"
        assert line == " ".join(line.split())
        assert len(line) <= LINE_MAX
        assert line.isascii()
        assert not any(mark in line for mark in ("TODO", "not yet described", "{", "}", "%s"))


def test_no_line_stands_twice() -> None:
    lines = [line for item in EXPLANATIONS.values() for line in (item.cause, item.fix)]
    assert len(set(lines)) == len(lines)


def test_one_code(cli: Cli) -> None:
    ran = cli("explain", "sgx.debug")
    assert ran.status == 0
    assert ran.out.splitlines() == [
        "sgx.debug",
        f"  cause: {EXPLANATIONS[Code.SGX_DEBUG].cause}",
        f"  fix:   {EXPLANATIONS[Code.SGX_DEBUG].fix}",
    ]
    assert cli("explain", " SGX.Debug ").out == ran.out


def test_one_code_as_json(cli: Cli) -> None:
    explanation = EXPLANATIONS[Code.POLICY_NAME]
    assert cli("explain", "policy.name", "--json").json == {
        "code": "policy.name",
        "cause": explanation.cause,
        "fix": explanation.fix,
    }


def test_all_codes(cli: Cli) -> None:
    rows = cli("explain", "--list", "--json").json["codes"]
    assert [row["code"] for row in rows] == [str(code) for code in Code]
    text = cli("explain", "--list").out
    assert all(f"{code}\n" in text for code in Code)


@pytest.mark.parametrize(
    ("given", "near"), [("sgxdebug", "sgx.debug"), ("debug", "tdx.debug"), ("policy.mesurement", "policy.measurement")]
)
def test_an_unknown_code_names_the_nearest(cli: Cli, given: str, near: str) -> None:
    ran = cli("explain", given)
    assert (ran.status, ran.out) == (2, "")
    assert near in ran.err


@pytest.mark.parametrize("arguments", [(), ("sgx.debug", "--list"), ("zzzzzzzz",), ("",)])
def test_what_cannot_be_obeyed_is_a_usage_error(cli: Cli, arguments: tuple[str, ...]) -> None:
    assert cli("explain", *arguments).status == 2
