"""Indexes: one spelling, every fault refused, any text gives lines or our error."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError
from proxy_attestation.formats import bounds
from proxy_attestation.formats.index import IndexLine, compare_indexes, format_index, parse_index, path_fault

DIGEST = "ab" * 32
LINE = f"{DIGEST}  lib/example.wat\n"


def _lines(text: str) -> tuple[IndexLine, ...]:
    return parse_index(text, Code.CONFIGURATION_MALFORMED)


def test_a_line() -> None:
    assert _lines(LINE) == (IndexLine(bytes.fromhex(DIGEST), "lib/example.wat"),)
    assert _lines(LINE.removesuffix("\n")) == _lines(LINE)
    assert format_index(_lines(LINE)) == LINE


def test_lines_come_sorted_by_path_as_bytes() -> None:
    text = "".join(f"{DIGEST}  {path}\n" for path in ("é", "b", "a b", "Z"))
    assert [line.path for line in _lines(text)] == ["Z", "a b", "b", "é"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        LINE + "\n",
        "\n" + LINE,
        LINE + LINE,
        f"{DIGEST.upper()}  x\n",
        f"{DIGEST[:-1]}  x\n",
        f"{DIGEST}0  x\n",
        f"{DIGEST} x\n",
        f"{DIGEST} *x\n",
        f"{DIGEST}\tx\n",
        f"{DIGEST}  \n",
        f"{DIGEST}\n",
        f"\\{DIGEST}  a\\\\b\n",
        f"{DIGEST}  a\\b\n",
        f"{DIGEST}  x\r\n",
        f"{DIGEST}  /etc/passwd\n",
        f"{DIGEST}  ../x\n",
        f"{DIGEST}  a/../x\n",
        f"{DIGEST}  ./x\n",
        f"{DIGEST}  a//x\n",
        f"{DIGEST}  a/\n",
        f"{DIGEST}  \udcff\n",
        f"{DIGEST}  x\0y\n",
        f"{DIGEST}  x\x85y\n",
        f"{DIGEST}  {'x' * (bounds.INDEX_PATH_MAX + 1)}\n",
    ],
)
def test_one_fault_refuses_the_index_with_the_callers_code(text: str) -> None:
    with pytest.raises(FormatError) as caught:
        _lines(text)
    assert caught.value.code is Code.CONFIGURATION_MALFORMED


def test_too_many_lines_and_too_much_text(monkeypatch: pytest.MonkeyPatch) -> None:
    two = LINE + f"{DIGEST}  other\n"
    monkeypatch.setattr("proxy_attestation.formats.index.INDEX_FILES_MAX", 1)
    with pytest.raises(FormatError):
        _lines(two)
    monkeypatch.setattr("proxy_attestation.formats.index.INDEX_FILES_MAX", 2)
    assert len(_lines(two)) == 2
    monkeypatch.setattr("proxy_attestation.formats.index.INDEX_MAX", len(two) - 1)
    with pytest.raises(FormatError):
        _lines(two)


@pytest.mark.parametrize("paths", [("x", "x"), ("../x",), ("a\nb",)])
def test_what_no_index_can_hold_is_not_written(paths: tuple[str, ...]) -> None:
    with pytest.raises(FormatError):
        format_index(IndexLine(bytes(32), path) for path in paths)


def test_comparison() -> None:
    old = (IndexLine(b"1" * 32, "gone"), IndexLine(b"2" * 32, "kept"), IndexLine(b"3" * 32, "moved"))
    new = (IndexLine(b"2" * 32, "kept"), IndexLine(b"4" * 32, "moved"), IndexLine(b"5" * 32, "new"))
    difference = compare_indexes(old, new)
    assert difference.added == (new[2],)
    assert difference.removed == (old[0],)
    assert difference.changed == ((old[2], new[1]),)
    assert not difference.same
    assert compare_indexes(old, reversed(old)).same


@settings(deadline=None, max_examples=200)
@given(st.text() | st.text(alphabet="ab01 ./\\\n*", max_size=200))
def test_any_text_gives_lines_or_our_error(text: str) -> None:
    try:
        lines = _lines(text)
    except FormatError as error:
        assert error.code is Code.CONFIGURATION_MALFORMED
    else:
        assert _lines(format_index(lines)) == lines


@settings(deadline=None, max_examples=200)
@given(
    st.dictionaries(
        st.text(min_size=1).filter(lambda path: path_fault(path) is None), st.binary(min_size=32, max_size=32)
    )
)
def test_what_is_written_is_read_back(files: dict[str, bytes]) -> None:
    lines = [IndexLine(digest, path) for path, digest in files.items()]
    text = format_index(lines)
    if lines:
        assert {line.path: line.sha256 for line in _lines(text)} == files
    else:
        assert text == ""
