"""Sources: bounded, and every failure is one of ours."""

import ssl
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from proxy_attestation.codes import Code
from proxy_attestation.errors import UnavailableError
from proxy_attestation.transparency.source import WAITS, CopyingSource, DirectorySource, HttpSource


def web(handler: object, sleep: Callable[[float], object] = lambda _: None) -> HttpSource:
    source = HttpSource("https://log.example.org/a/", ssl.create_default_context(), "name.example.org", sleep)
    source._client = httpx.Client(transport=httpx.MockTransport(handler))  # type: ignore[arg-type] # as the tests give it
    return source


def test_a_directory(tmp_path: Path) -> None:
    (tmp_path / "tile").mkdir()
    (tmp_path / "checkpoint").write_bytes(b"12345")
    source = DirectorySource(tmp_path)
    assert source.read("checkpoint", 5) == b"12345"
    assert source.read("tile/0/000", 5) is None
    assert source.read("checkpoint/000", 5) is None
    for path, limit in (("checkpoint", 4), ("tile", 5)):
        with pytest.raises(UnavailableError) as caught:
            source.read(path, limit)
        assert caught.value.code is Code.LEDGER_UNREACHABLE


def test_a_server() -> None:
    asked: list[httpx.Request] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, content=b"12345")

    with web(handler) as source:
        assert source.read("tile/0/000", 5) == b"12345"
    assert str(asked[0].url) == "https://log.example.org/a/tile/0/000"
    assert asked[0].extensions["sni_hostname"] == "name.example.org"


@pytest.mark.parametrize("status", [404, 410])
def test_a_file_that_a_server_does_not_have(status: int) -> None:
    assert web(lambda _: httpx.Response(status)).read("checkpoint", 5) is None


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(500),
        httpx.Response(302, headers={"location": "https://other.example.org"}),
        httpx.Response(200, content=b"123456"),
        httpx.Response(200, headers={"content-encoding": "gzip"}, content=b""),
    ],
)
def test_answers_that_are_no_file(answer: httpx.Response) -> None:
    with pytest.raises(UnavailableError) as caught:
        web(lambda _: answer).read("checkpoint", 5)
    assert caught.value.code is Code.LEDGER_UNREACHABLE


def test_no_answer() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no", request=request)

    with pytest.raises(UnavailableError) as caught:
        web(handler).read("checkpoint", 5)
    assert caught.value.code is Code.LEDGER_UNREACHABLE


@pytest.mark.parametrize("status", [429, 503])
def test_a_server_that_is_busy_for_a_while(status: int) -> None:
    answers = [httpx.Response(status), httpx.Response(status, headers={"retry-after": "7"})]
    answers += [httpx.Response(status, headers={"retry-after": text}) for text in ("99999999", "soon")]
    answers.append(httpx.Response(200, content=b"12345"))
    waited: list[float] = []
    assert web(lambda _: answers.pop(0), waited.append).read("checkpoint", 5) == b"12345"
    assert waited == [1.0, 7, 30, 1.0]


def test_a_server_that_stays_busy() -> None:
    waited: list[float] = []
    with pytest.raises(UnavailableError) as caught:
        web(lambda _: httpx.Response(503), waited.append).read("checkpoint", 5)
    assert caught.value.code is Code.LEDGER_UNREACHABLE
    assert len(waited) == WAITS


def test_copies(tmp_path: Path) -> None:
    (tmp_path / "from" / "tile").mkdir(parents=True)
    (tmp_path / "from" / "checkpoint").write_bytes(b"old")
    (tmp_path / "from" / "tile" / "a").write_bytes(b"a")
    source = CopyingSource(DirectorySource(tmp_path / "from"), tmp_path / "to")
    assert [source.read(path, 5) for path in ("checkpoint", "tile/a", "tile/b")] == [b"old", b"a", None]
    assert not (tmp_path / "to" / "checkpoint").exists()
    source.finish(b"new")
    assert (tmp_path / "to" / "checkpoint").read_bytes() == b"new"
    assert [path.name for path in (tmp_path / "to" / "tile").iterdir()] == ["a"]
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UnavailableError) as caught:
        CopyingSource(DirectorySource(tmp_path / "from"), tmp_path / "file").read("tile/a", 5)
    assert caught.value.code is Code.LEDGER_UNREACHABLE
