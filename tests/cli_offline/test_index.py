"""`index` prints what `sha256sum` prints, refuses what it cannot hold, and shows what changed."""

import hashlib
import os
import shutil
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from proxy_attestation.formats.bounds import INDEX_FILES_MAX

Cli = Callable[..., Any]
Write = Callable[[Path, Mapping[str, bytes]], Path]
FILES = {"b.txt": b"two", "a b.txt": b"one", "é.wat": b"(module)", "Z": b""}


def _line(path: str, data: bytes) -> str:
    return f"{hashlib.sha256(data).hexdigest()}  {path}\n"


@pytest.fixture
def tree(tmp_path: Path, write: Write) -> Path:
    write(tmp_path / "lib" / "deep", {"x": b"x"})
    return write(tmp_path, FILES)


def test_lines_are_sorted_by_path_as_bytes(cli: Cli, tree: Path) -> None:
    ran = cli("index", "-C", tree, ".")
    expected = {**FILES, "lib/deep/x": b"x"}
    assert ran.status == 0
    assert ran.out == "".join(_line(path, expected[path]) for path in sorted(expected, key=str.encode))


def test_the_current_directory_is_the_default_and_paths_are_printed_as_given(
    cli: Cli, tree: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tree)
    assert cli("index", "lib/", "b.txt").out == _line("b.txt", b"two") + _line("lib/deep/x", b"x")
    assert cli("index", "b.txt", "b.txt").out == _line("b.txt", b"two")


@pytest.mark.skipif(shutil.which("sha256sum") is None, reason="no sha256sum on this machine")
def test_sha256sum_reads_the_lines(cli: Cli, tree: Path) -> None:
    text = cli("index", "-C", tree, ".").out
    done = subprocess.run(
        ["sha256sum", "--check", "--strict"], input=text.encode(), cwd=tree, capture_output=True, check=False
    )
    assert (done.returncode, done.stdout.count(b": OK\n")) == (0, 5)


def test_json(cli: Cli, tree: Path) -> None:
    files = cli("index", "-C", tree, "Z", "--json").json["files"]
    assert files == [{"sha256": hashlib.sha256(b"").hexdigest(), "path": "Z"}]


def test_a_difference_exits_3_and_its_absence_0(cli: Cli, tree: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    old = tmp_path_factory.mktemp("old") / "index"
    old.write_text(cli("index", "-C", tree, ".").out)
    same = cli("index", "-C", tree, ".", "--diff", old)
    assert (same.status, same.out) == (0, "")
    assert cli("index", "-C", tree, ".", "--diff", old, "--json").json == {
        "same": True, "added": [], "removed": [], "changed": [],
    }  # fmt: skip

    (tree / "b.txt").write_bytes(b"changed")
    (tree / "Z").unlink()
    (tree / "new").write_bytes(b"new")
    ran = cli("index", "-C", tree, ".", "--diff", old)
    assert ran.status == 3
    digest = {name: hashlib.sha256(data).hexdigest() for name, data in (("old", b"two"), ("new", b"changed"))}
    assert ran.out == (f"- {_line('Z', b'')}~ {digest['old']} {digest['new']}  b.txt\n+ {_line('new', b'new')}")
    result = cli("index", "-C", tree, ".", "--diff", old, "--json")
    assert (result.status, result.json["same"]) == (3, False)
    assert [line["path"] for line in result.json["added"]] == ["new"]
    assert [line["path"] for line in result.json["removed"]] == ["Z"]
    assert result.json["changed"] == [{"path": "b.txt", "old_sha256": digest["old"], "new_sha256": digest["new"]}]


@pytest.mark.parametrize("content", [b"", b"no index\n", b"\xff\xfe", b"ab  x\n"])
def test_an_old_index_that_is_none_is_malformed(cli: Cli, tree: Path, tmp_path: Path, content: bytes) -> None:
    old = tmp_path / "old"
    old.write_bytes(content)
    ran = cli("index", "-C", tree, "b.txt", "--diff", old, "--json")
    assert (ran.status, ran.json["error"]["code"]) == (4, "policy.malformed")


@pytest.mark.parametrize("path", ["/etc/hostname", "../x", "lib/../b.txt", "lib//deep", "absent", "", "/"])
def test_paths_that_cannot_be_used_are_usage_errors(cli: Cli, tree: Path, path: str) -> None:
    ran = cli("index", "-C", tree, path)
    assert (ran.status, ran.out) == (2, "")


def test_an_empty_directory_has_no_index(cli: Cli, tmp_path: Path) -> None:
    assert cli("index", "-C", tmp_path, ".").status == 2
    assert cli("index").status == 2


@pytest.mark.parametrize("name", ["new\nline", "back\\slash", "escape\x1b[31m", "not-utf8-\udcff"])
def test_names_that_an_index_cannot_hold_are_refused(cli: Cli, tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"")
    ran = cli("index", "-C", tmp_path, ".", "--json")
    assert (ran.status, ran.json["error"]["code"]) == (4, "policy.malformed")


def test_links_to_files_are_followed_and_to_directories_refused(cli: Cli, tree: Path) -> None:
    (tree / "link").symlink_to("b.txt")
    assert _line("link", b"two") in cli("index", "-C", tree, ".").out
    (tree / "loop").symlink_to(".")
    assert cli("index", "-C", tree, ".").status == 4


def test_pipes_are_refused_and_not_read(cli: Cli, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert cli("index", "-C", tmp_path, ".").status == 4


def test_the_number_of_files_is_bounded(cli: Cli, tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert INDEX_FILES_MAX == 100_000
    monkeypatch.setattr("proxy_attestation.cli.index.INDEX_FILES_MAX", 4)
    assert cli("index", "-C", tree, ".").status == 4
    monkeypatch.setattr("proxy_attestation.cli.index.INDEX_FILES_MAX", 5)
    assert cli("index", "-C", tree, ".").status == 0
