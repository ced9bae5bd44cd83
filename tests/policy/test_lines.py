"""The locator finds every key of whatever TOML `tomllib` accepts."""

import tomllib

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy_attestation.policy.lines import line_of, locate
from proxy_attestation.policy.reader import Place

DOCUMENT = '''# a comment with [brackets] and "quotes
version = 1 # another = one
"quoted key" = 'literal # not a comment'
a.b."c.d" = """
not = a key
[[not.a.table]]
\\""" still inside """
date = 1979-05-27 07:32:00

[danger]
x = { y = 1, z = { w = "}" } }

[[workload]]
name = "one"
list = [ "]", # ]
  'two,', [3, 4],
  5,
]
  [workload.owner]
  shared = true

[[workload]]
name = "two"
after = """a""""
[[workload.part]]
[[workload.part]]
k = 1
'''
PLACES: list[tuple[Place, int]] = [
    (("version",), 2),
    (("quoted key",), 3),
    (("a",), 4),
    (("a", "b"), 4),
    (("a", "b", "c.d"), 4),
    (("date",), 8),
    (("danger",), 10),
    (("danger", "x"), 11),
    (("danger", "x", "z", "w"), 11),
    (("workload",), 13),
    (("workload", 0), 13),
    (("workload", 0, "name"), 14),
    (("workload", 0, "list"), 15),
    (("workload", 0, "list", 0), 15),
    (("workload", 0, "list", 1), 16),
    (("workload", 0, "list", 2, 1), 16),
    (("workload", 0, "list", 3), 17),
    (("workload", 0, "owner"), 19),
    (("workload", 0, "owner", "shared"), 20),
    (("workload", 1), 22),
    (("workload", 1, "name"), 23),
    (("workload", 1, "after"), 24),
    (("workload", 1, "part", 0), 25),
    (("workload", 1, "part", 1), 26),
    (("workload", 1, "part", 1, "k"), 27),
]


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_every_place_has_its_line(newline: str) -> None:
    text = DOCUMENT.replace("\n", newline)
    tomllib.loads(text)
    lines = locate(text)
    assert {place: lines.get(place) for place, _ in PLACES} == dict(PLACES)


def test_the_nearest_thing_around_stands_in_for_what_is_not_there() -> None:
    lines = locate(DOCUMENT)
    assert line_of(lines, ("workload", 1, "missing")) == 22
    assert line_of(lines, ("workload", 0, "list", 9)) == 15
    assert line_of(lines, ("nothing",)) == 1
    assert line_of(lines, ()) == 1


def places(value: object, place: Place = ()) -> list[Place]:
    here = [place] if place else []
    if isinstance(value, dict):
        return here + [found for key, item in value.items() for found in places(item, (*place, key))]
    if isinstance(value, list):
        return here + [found for index, item in enumerate(value) for found in places(item, (*place, index))]
    return here


PIECES = st.one_of(
    st.sampled_from(
        ["a", "b", '"k"', "'l'", ".", " ", " = ", "=", "\n", "[", "]", "[[", "]]", "{", "}", ",", "1", "1.5"]
    ),
    st.sampled_from(["true", '"x"', "'y'", '"""', "'''", "# c\n", '"#"', "'['", "\\", '"', "'", "é", '"\\""', "\r\n"]),
    st.sampled_from(["\t", '"""m\n"""', "'''n\n'''"]),
)
KEYS = st.sampled_from(["a", "b", "c", "d", '"e f"', "'g.h'", "a.b", "c . d", '"\\u0069"'])
ATOMS = st.sampled_from(
    ["1", '"]"', "'#'", '"""\n[x]\n"""', "'''a\nb'''", "2020-01-01", '"\\"="', "inf", '""', '""""""']
)
VALUES = st.recursive(
    ATOMS,
    lambda inner: (
        st.lists(inner, max_size=3).map(lambda items: f"[ # [\n{' ,'.join(items)}\n]")
        | st.lists(st.tuples(KEYS, inner), max_size=2).map(
            lambda items: f"{{{', '.join(f'{k} = {v}' for k, v in items)}}}"
        )
    ),
    max_leaves=5,
)
STATEMENTS = (
    st.tuples(KEYS, VALUES).map(lambda pair: f"{pair[0]} = {pair[1]}")
    | KEYS.map(lambda key: f"[{key}]")
    | KEYS.map(lambda key: f" [[ {key} ]] # x")
    | st.just("# [[x]]")
)


@settings(deadline=None, max_examples=200)
@given(text=st.lists(STATEMENTS, max_size=6).map("\n".join) | st.lists(PIECES, max_size=12).map("".join))
@example(text="[[a]]\n[[a.b]]\n[a.b.c]\nd.e = 1\n[[a.b]]\nd = [{f = 1}]\n[[a]]\nb = 2")
def test_any_valid_document_is_located_whole(text: str) -> None:
    try:
        document = tomllib.loads(text)
    except ValueError:
        return
    lines = locate(text)
    assert [place for place in places(document) if place not in lines] == []
    assert all(1 <= line <= text.count("\n") + 1 for line in lines.values())


@settings(deadline=None, max_examples=200)
@given(text=st.text(max_size=60) | st.lists(PIECES, max_size=12).map("".join))
def test_no_text_at_all_makes_it_fail_or_hang(text: str) -> None:
    assert all(line >= 1 for line in locate(text).values())
