"""docs/proxy-evidence.md says what the code does; its commands run in `tests/e2e/test_proxy_evidence.py`."""

import re
from pathlib import Path

import pytest

from proxy_attestation.authority import self_evidence
from proxy_attestation.cli.serve import _QUOTERS
from proxy_attestation.codes import Code
from proxy_attestation.formats.bounds import ROOT_NONCES_MAX
from proxy_attestation.formats.deployment import HEADER, REQUIRED
from proxy_attestation.formats.root_binder import LABEL, RootFacts, bind_root
from proxy_attestation.formats.root_evidence import MEDIA_TYPE
from proxy_attestation.formats.tee import Tee
from proxy_attestation.relying_party.proxy_expectation import _OWN, KEY_ORIGINS

DOCUMENT = (Path(__file__).parents[2] / "docs" / "proxy-evidence.md").read_text()
LIMITS = (Path(__file__).parents[2] / "docs" / "limits.md").read_text()


@pytest.mark.parametrize("code", [code for code in Code if code.name.startswith("PROXY_")])
def test_every_code_is_explained(code: Code) -> None:
    others = {Code.PROXY_UNREACHABLE, Code.PROXY_PROTOCOL}
    assert (f"`{code}`" in DOCUMENT) is (code not in others)


@pytest.mark.parametrize(
    "word", [*_OWN, *KEY_ORIGINS, *_QUOTERS, MEDIA_TYPE, HEADER, *REQUIRED[Tee.SGX], *REQUIRED[Tee.SNP]]
)
def test_every_word_is_there(word: str) -> None:
    assert word in DOCUMENT


def test_the_example_is_computed() -> None:
    facts = RootFacts(b"r" * 91, b"i" * 91, b"\x07" * 32, b"log+key", "tee")
    digest = bind_root(facts, b"\x03" * 32).report_data.hex()
    (shown,) = re.findall(r"^SHA-512\(B\)\n([0-9a-f\n]+)```", DOCUMENT, re.MULTILINE)
    assert shown.replace("\n", "") == digest
    assert LABEL[:-1].decode() in DOCUMENT


def test_the_bounds_are_those_of_the_code() -> None:
    assert (self_evidence.GATHER_SECONDS, self_evidence.QUOTE_RATE, self_evidence.QUOTE_BURST) == (0.2, 0.5, 4)
    assert (self_evidence.WAIT_SECONDS, ROOT_NONCES_MAX) == (8, 256)
    for text in ("0.2 seconds", "one in two seconds, four at once", "256 of", "8 seconds"):
        assert text in DOCUMENT
    assert "| 1 in 2 s, 4 at once after a pause |" in LIMITS
