"""`application = { index, sha256, paths }`: only named paths of exactly the index that was meant count."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pytest

from proxy_attestation.formats.bounds import INDEX_MAX
from proxy_attestation.policy.load import PolicyFileError, index_files, parse_policy

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


def test_the_indexes_of_a_policy_can_be_listed(render: Callable[..., str]) -> None:
    assert index_files(render("sgx", {"application": application("below/app.index")})) == ("below/app.index",)
    assert index_files(render()) == ()


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
