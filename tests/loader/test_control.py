"""The control socket of a running loader."""

import asyncio
import contextlib
import socket
import stat
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import pytest

from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError, UnavailableError
from proxy_attestation.loader.control import ControlSocket, ask

STATUS: Final = {"ok": True, "state": "serving"}


async def status() -> dict[str, Any]:
    return dict(STATUS)


@contextlib.asynccontextmanager
async def serving(path: Path) -> AsyncIterator[ControlSocket]:
    control = ControlSocket(path, {"status": status})
    await control.start()
    try:
        yield control
    finally:
        await control.close()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def exists(path: Path) -> bool:
    return path.exists()


def exchange(path: Path, data: bytes) -> bytes:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(10)
        connection.connect(str(path))
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        received = b""
        with contextlib.suppress(ConnectionError):
            while piece := connection.recv(65536):
                received += piece
    return received


def test_a_command_is_answered(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "run" / "load.sock"
        async with serving(path):
            assert mode(path) == 0o600
            assert mode(path.parent) == 0o700
            assert await asyncio.to_thread(ask, path, "status", 10.0) == STATUS
            # Several on one connection, too.
            lines = await asyncio.to_thread(exchange, path, b'{"command": "status"}\n' * 3)
            assert lines.count(b"serving") == 3
        assert not exists(path)

    asyncio.run(scenario())


@pytest.mark.parametrize(
    "line",
    [
        b"\n",
        b"status\n",
        b"[]\n",
        b'{"command": "stop"}\n',
        b'{"command": ["status"]}\n',
        b'{"command": "status", "more": 1}\n',
        b"[" * 3000 + b"\n",
        b"\xff\n",
    ],
)
def test_other_lines_are_usage_errors(tmp_path: Path, line: bytes) -> None:
    async def scenario() -> None:
        path = tmp_path / "load.sock"
        async with serving(path):
            answer = await asyncio.to_thread(exchange, path, line)
            assert b'"ok": false' in answer
            assert b'"code": "usage"' in answer

    asyncio.run(scenario())


@pytest.mark.parametrize("data", [b"", b"no end of line", b"x" * 100_000])
def test_things_that_are_no_line_end_the_connection(tmp_path: Path, data: bytes) -> None:
    async def scenario() -> None:
        path = tmp_path / "load.sock"
        async with serving(path):
            with contextlib.suppress(BrokenPipeError):
                assert await asyncio.to_thread(exchange, path, data) == b""
            assert await asyncio.to_thread(ask, path, "status", 10.0) == STATUS

    asyncio.run(scenario())


def test_a_socket_that_a_dead_loader_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "load.sock"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))

    async def scenario() -> None:
        async with serving(path):
            assert await asyncio.to_thread(ask, path, "status", 10.0) == STATUS

    asyncio.run(scenario())


def test_a_running_loader_is_not_pushed_aside(tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "load.sock"
        async with serving(path):
            with pytest.raises(ConfigurationError) as refused:
                ControlSocket(path, {})
            assert refused.value.code is Code.CONFIGURATION_MALFORMED
            assert await asyncio.to_thread(ask, path, "status", 10.0) == STATUS

    asyncio.run(scenario())


def test_paths_that_cannot_be_had(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for path in (tmp_path / "file", tmp_path / "file" / "load.sock", tmp_path / ("x" * 200), tmp_path):
        with pytest.raises(ConfigurationError) as refused:
            ControlSocket(path, {})
        assert refused.value.code is Code.CONFIGURATION_MALFORMED
    assert (tmp_path / "file").is_file()


def test_nobody_answering_is_unavailable(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError) as absent:
        ask(tmp_path / "load.sock", "status", 1.0)
    assert absent.value.code is Code.LOADER_UNREACHABLE


@pytest.mark.parametrize("answer", [b"", b"no json\n", b"[]\n"])
def test_nonsense_for_an_answer_is_unavailable(tmp_path: Path, answer: bytes) -> None:
    async def scenario() -> None:
        async def handle(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write(answer)
            writer.close()

        server = await asyncio.start_unix_server(handle, tmp_path / "load.sock")
        with pytest.raises(UnavailableError) as refused:
            await asyncio.to_thread(ask, tmp_path / "load.sock", "status", 10.0)
        assert refused.value.code is Code.LOADER_UNREACHABLE
        server.close()

    asyncio.run(scenario())
