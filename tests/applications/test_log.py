"""What an application writes to its standard error, in the loader's log."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_attestation.loader.applications.log import application_lines


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", []),
        (b"one", ["one"]),
        (b"one\ntwo\n", ["one", "two"]),
        (b"one\n\ntwo", ["one", "", "two"]),
        (b"one\rready: forged", ["one\\rready: forged"]),
        ("one\u2028two\x85three".encode(), ["one\\u2028two\\x85three"]),
        (b"\x1b[2J\0", ["\\x1b[2J\\x00"]),
        (b"\xff", ["\\xff"]),
        ("d\u00e9j\u00e0 vu".encode(), ["d\u00e9j\u00e0 vu"]),
    ],
)
def test_lines_are_told_apart_and_escaped(data: bytes, lines: list[str]) -> None:
    assert application_lines(data) == ["application: " + line for line in lines]


def test_lines_are_bounded() -> None:
    assert application_lines(b"x" * 4096) == ["application: " + "x" * 1024]
    assert application_lines(b"\0" * 4096) == ["application: " + "\\x00" * 256]
    many = application_lines(b"x\n" * 150)
    assert many == ["application: x"] * 100 + ["application: (50 more lines)"]


@settings(deadline=None, max_examples=200)
@given(st.binary(max_size=4096))
def test_any_bytes_become_printable_prefixed_lines(data: bytes) -> None:
    lines = application_lines(data)
    assert len(lines) <= 101
    for line in lines:
        assert line.startswith("application: ")
        assert line.isprintable()
        assert len(line) <= len("application: ") + 1024
