"""docs/threat-model.md: every trust sentence is tried, and every test that it names exists."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

PROJECT = Path(__file__).parents[2]
DOCUMENT = (PROJECT / "docs" / "threat-model.md").read_text()
SECTIONS: dict[str, str] = dict(re.findall(r"^### (T\d\. [^\n]+)\n(.*?)(?=^##)", DOCUMENT, re.DOTALL | re.MULTILINE))
ROWS = [
    (title, [cell.strip() for cell in line.strip("|").split("|")])
    for title, body in SECTIONS.items()
    for line in body.splitlines()
    if line.startswith("|") and not line.startswith("|---")
]
ATTACKS = [(title, cells) for title, cells in ROWS if cells[-1] != "tried by"]
NAMED = sorted({name for _, cells in ATTACKS for name in re.findall(r"`([^`]+)`", cells[-1])})

# Section 10 of the design, in its order, by words that the titles must keep.
SENTENCES = (
    "controls the network can stop issuance, and cannot obtain a certificate for a key outside an accepted TEE",
    "disk can destroy or roll back state (visible to a witness), not mint, and not loosen policy",
    "with measurement A gets no name of workload B, no second instance of an owned name, and no role of the proxy",
    "steals a leaf key has it until the leaf expires (24 h at most) and gets no renewal",
    "trusted for nothing that is not signed to a pinned root and newer than the floor",
)
# What must be tried at least, each by a row.
DEMANDED = (
    "stolen leaf key", "same image on another host", "clone: the same image, a fresh root", "evidence taken out",
    "proxy of another measurement", "relays evidence made for proxy A", "rolls the database back",
    "forges a checkpoint", "split view", "edits the policy", "signed by too few", "older policy",
)  # fmt: skip


@cache
def named_in(path: str) -> frozenset[str]:
    """Return the tests of a file: functions, and methods as Class::method."""
    tree = ast.parse((PROJECT / path).read_text())
    found = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
        elif isinstance(node, ast.ClassDef):
            found |= {f"{node.name}::{method.name}" for method in node.body if isinstance(method, ast.FunctionDef)}
    return frozenset(name for name in found if name.split("::")[-1].startswith("test_"))


@pytest.mark.parametrize("name", NAMED)
def test_a_test_that_it_names_exists(name: str) -> None:
    path, _, test = name.partition("::")
    assert path.startswith("tests/")
    assert test in named_in(path)


def test_every_attack_is_tried() -> None:
    assert len(ATTACKS) > 30
    for title, cells in ATTACKS:
        assert len(cells) == 3, (title, cells)
        assert re.fullmatch(r"`[^`]+`(, `[^`]+`)*", cells[-1]), (title, cells[0])


def test_every_trust_sentence_is_there() -> None:
    titles = list(SECTIONS)
    for number, words in enumerate(SENTENCES):
        assert words in titles[number]
    tried = {title for title, _ in ATTACKS}
    assert tried == set(titles)


@pytest.mark.parametrize("words", DEMANDED)
def test_what_must_be_tried_is(words: str) -> None:
    first = [f"{title} {cells[0]}" for title, cells in ATTACKS]
    assert any(words in one or all(word in one for word in words.split()) for one in first)
