"""`application = { index, sha256, paths }`: only named paths of exactly the index that was meant count."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy_attestation.formats.bounds import INDEX_MAX
from proxy_attestation.policy import load
from proxy_attestation.policy.load import PolicyFileError, load_policy_files, parse_policy

GOOD, OTHER = "aa" * 32, "bb" * 32
INDEX = f"{GOOD}  example.wat\n{OTHER}  tools/other.wat\n"


def sha256(text: str | bytes) -> str:
    return hashlib.sha256(text.encode() if isinstance(text, str) else text).hexdigest()


def application(index: str = "app.index", digest: str = sha256(INDEX), paths: str = '["example.wat"]') -> str:
    return f'{{ index = "{index}", sha256 = "{digest}", paths = {paths} }}'


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "app.index").write_text(INDEX)
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "app.index").write_text(INDEX)
    return tmp_path


def test_only_the_named_paths_count(render: Callable[..., str], base: Path) -> None:
    policy = parse_policy(render("sgx", {"application": application()}), base)
    assert policy.workloads["app"].application == (bytes.fromhex(GOOD),)
    both = application("below/app.index", paths='["tools/other.wat", "example.wat"]')
    policy = parse_policy(render("tdx", {"application": both}), base)
    assert policy.workloads["vm"].application == (bytes.fromhex(GOOD), bytes.fromhex(OTHER))


def test_the_very_bytes_that_a_policy_was_read_from_are_kept(render: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "app.index").write_text(INDEX)
    path = tmp_path / "next.toml"
    path.write_text(render("sgx", {"application": application("below/app.index")}))
    found = load_policy_files(path)
    assert found.files == {"policy.toml": path.read_bytes(), "below/app.index": INDEX.encode()}
    assert found.note is None
    path.with_name("next.toml.note").write_bytes(b"signatures")
    assert load_policy_files(path).note == b"signatures"


@pytest.mark.parametrize("name", ["policy.toml", "policy.toml.note"])
def test_a_policy_names_neither_itself_nor_its_signatures(
    name: str, render: Callable[..., str], tmp_path: Path
) -> None:
    path = tmp_path / "next.toml"
    (tmp_path / name).write_text(INDEX)
    path.write_text(render("sgx", {"application": application(name)}))
    with pytest.raises(PolicyFileError) as caught:
        load_policy_files(path)
    assert len(caught.value.problems) == 1


def test_what_a_policy_names_is_bounded_together(
    render: Callable[..., str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "policy.toml"
    (tmp_path / "app.index").write_text(INDEX)
    path.write_text(render("sgx", {"application": application()}))
    total = path.stat().st_size + len(INDEX)
    monkeypatch.setattr(load, "POLICY_TOTAL_MAX", total)
    assert load_policy_files(path).policy.version == 1
    monkeypatch.setattr(load, "POLICY_TOTAL_MAX", total - 1)
    with pytest.raises(PolicyFileError):
        load_policy_files(path)


@pytest.mark.parametrize(
    "value",
    [
        application("missing.index"),
        application("below"),
        application("../app.index"),
        application("/etc/passwd"),
        application("./app.index"),
        application("app.index\\u0000"),
        application(""),
        application(digest="00" * 32),
        application(digest="ab" * 32),
        application(digest="ab"),
        application(digest=sha256(INDEX).upper()),
        application(paths="[]"),
        application(paths='"example.wat"'),
        application(paths='["other.wat"]'),
        application(paths='["example.wat", "example.wat"]'),
        application(paths='["*"]'),
        f'{{ sha256 = "{sha256(INDEX)}", paths = ["example.wat"] }}',
        '{ index = "app.index", paths = ["example.wat"] }',
        f'{{ index = "app.index", sha256 = "{sha256(INDEX)}" }}',
        f'{{ index = "app.index", sha256 = "{sha256(INDEX)}", paths = ["example.wat"], kind = "wasm" }}',
        f'"{GOOD}"',
    ],
)
def test_each_wrong_application_is_one_problem_at_its_line(value: str, render: Callable[..., str], base: Path) -> None:
    text = render("sgx", {"application": value})
    with pytest.raises(PolicyFileError) as caught:
        parse_policy(text, base)
    line = next(number for number, line in enumerate(text.split("\n"), 1) if line.startswith("application ="))
    assert [problem.line for problem in caught.value.problems] == [line], caught.value.detail


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\n",
        f"{GOOD} example.wat\n".encode(),
        f"{GOOD}  example.wat\n{OTHER}  example.wat\n".encode(),
        f"{GOOD}  ../example.wat\n".encode(),
        b"#" * (INDEX_MAX + 1),
    ],
)
def test_an_index_that_is_none_is_refused_though_its_digest_fits(
    content: bytes, render: Callable[..., str], base: Path
) -> None:
    (base / "bad.index").write_bytes(content)
    with pytest.raises(PolicyFileError) as caught:
        parse_policy(render("sgx", {"application": application("bad.index", sha256(content))}), base)
    assert len(caught.value.problems) == 1
