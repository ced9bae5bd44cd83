"""The control socket: `load status` and `load renew --now` ask a running loader through it.

A Unix stream socket of mode 0600, for this user and root only. One JSON object a line goes in, one comes out:
``{"command": "status"}`` or ``{"command": "renew"}``; the answer has `ok`, and `error` where it is false.
"""

import asyncio
import contextlib
import json
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError, UnavailableError

Answer = dict[str, Any]
Command = Callable[[], Awaitable[Answer]]

_LINE_MAX: Final = 4096
ANSWER_MAX: Final = 1 << 20
_READ_S: Final = 5.0


class ControlSocket:
    """Answers commands until closed."""

    def __init__(self, path: Path, commands: dict[str, Command]) -> None:
        """Bind.

        Raises:
            ConfigurationError: `configuration.malformed`, where another loader answers, or the path cannot be had.
        """
        self._path = path
        self._commands = commands
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            _remove_stale(path)
            # Nobody can connect before listen(), which comes after the change of mode.
            self._socket.bind(str(path))
            path.chmod(0o600)
        except OSError as error:
            self._socket.close()
            raise ConfigurationError(
                Code.CONFIGURATION_MALFORMED, f"control socket {path}: {error.strerror or error}"
            ) from error
        except ConfigurationError:
            self._socket.close()
            raise

    async def start(self) -> None:
        """Listen."""
        self._server = await asyncio.start_unix_server(self._connected, sock=self._socket, limit=_LINE_MAX)

    async def close(self) -> None:
        """Stop, and remove the socket's file."""
        if self._server is not None:
            self._server.close()
        else:
            self._socket.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        with contextlib.suppress(OSError):
            self._path.unlink()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is not None:
            self._tasks.add(task)
        try:
            if _is_ours(writer):
                while (answer := await self._answer(reader)) is not None:
                    writer.write(json.dumps(answer).encode() + b"\n")
                    await writer.drain()
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()
            if task is not None:
                self._tasks.discard(task)

    async def _answer(self, reader: asyncio.StreamReader) -> Answer | None:
        try:
            async with asyncio.timeout(_READ_S):
                line = await reader.readline()
        except (ValueError, TimeoutError):
            return None
        if not line.endswith(b"\n"):
            return None
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            request = None
        name = request.get("command") if isinstance(request, dict) and len(request) == 1 else None
        command = self._commands.get(name) if isinstance(name, str) else None
        if command is None:
            return {"ok": False, "error": {"code": str(Code.USAGE), "detail": "unknown command"}}
        return await command()


def ask(path: Path, command: str, timeout: float) -> Answer:
    """Ask a running loader; blocks.

    Args:
        path: of its control socket.
        command: `status` or `renew`.
        timeout: seconds.

    Raises:
        UnavailableError: `loader.unreachable`, where no loader answers.
    """
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(timeout)
            connection.connect(str(path))
            connection.sendall(json.dumps({"command": command}).encode() + b"\n")
            data = b""
            while not data.endswith(b"\n") and len(data) <= ANSWER_MAX:
                piece = connection.recv(65536)
                if not piece:
                    break
                data += piece
        answer = json.loads(data)
    except (OSError, ValueError) as error:
        raise UnavailableError(Code.LOADER_UNREACHABLE, f"no loader answers on {path}: {error}") from error
    if not isinstance(answer, dict):
        raise UnavailableError(Code.LOADER_UNREACHABLE, f"no loader answers on {path}")
    return answer


def _remove_stale(path: Path) -> None:
    """Remove the socket of a loader that has died; refuse where one lives, or where something else lies."""
    if not path.is_socket():
        return  # absent; or a file, on which bind fails
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(1.0)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise ConfigurationError(Code.CONFIGURATION_MALFORMED, f"control socket {path}: another loader is running")


def _is_ours(writer: asyncio.StreamWriter) -> bool:
    """Tell whether the peer is this user or root (unix(7), SO_PEERCRED: pid, uid, gid)."""
    connection: socket.socket = writer.get_extra_info("socket")
    credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    _, user, _ = struct.unpack("3i", credentials)
    return user in (0, os.geteuid())
