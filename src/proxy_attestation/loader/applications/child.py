"""A child process that listens for plaintext on loopback or a Unix socket.

It starts with an empty environment, no descriptor but /dev/null and stderr twice, a session of its own, no way to new
privileges, and dies with the loader. It is not confined beyond that yet, so it carries no application claim: it may
reach the quoting device.
"""

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError, UnavailableError
from proxy_attestation.formats.request import ApplicationKind
from proxy_attestation.loader import child_exec
from proxy_attestation.loader.backoff import Backoff
from proxy_attestation.loader.endpoint import Endpoint
from proxy_attestation.loader.streams import Stream

CONNECT_PLACEHOLDER: Final = "{connect}"
_RESTART: Final = Backoff(first=0.2, most=30.0)
_START_S: Final = 30.0
_POLL_S: Final = 0.02
_STABLE_S: Final = 60.0
_STOP_S: Final = 10.0


class ChildApplication:
    """A program that the loader starts, restarts and ends."""

    kind: Final = ApplicationKind.CHILD
    sha256: Final = None

    def __init__(
        self,
        command: tuple[str, ...],
        endpoint: Endpoint,
        owner: tuple[int, int] | None,
        note: Callable[[str], None],
        *,
        start_seconds: float = _START_S,
        restart: Backoff = _RESTART,
    ) -> None:
        """Start nothing yet.

        Args:
            command: program (an absolute path) and arguments; `{connect}` in an argument becomes the endpoint.
            endpoint: where the program listens.
            owner: user and group number to run as, or None for the loader's own.
            note: takes one line for the operator.
            start_seconds: how long the program may take until it listens.
            restart: delays between restarts.
        """
        self._command = tuple(part.replace(CONNECT_PLACEHOLDER, str(endpoint)) for part in command)
        self._endpoint = endpoint
        self._owner = owner
        self._note = note
        self._start_seconds = start_seconds
        self._restart = restart
        self._process: asyncio.subprocess.Process | None = None
        self._supervisor: asyncio.Task[None] | None = None
        self._restarts = 0

    async def start(self) -> None:
        """Start the program and wait until it listens."""
        if not _is_program(self._command[0]):
            raise ConfigurationError(Code.APPLICATION_FAILED, f"{self._command[0]} is not a program")
        process = await self._spawn()
        try:
            async with asyncio.timeout(self._start_seconds):
                while process.returncode is None:
                    if await self._listens():
                        break
                    await asyncio.sleep(_POLL_S)
        except TimeoutError as error:
            await self.stop()
            raise UnavailableError(
                Code.APPLICATION_FAILED, f"{self._command[0]} does not listen on {self._endpoint}"
            ) from error
        if process.returncode is not None:
            await self.stop()
            raise UnavailableError(Code.APPLICATION_FAILED, f"{self._command[0]} ended with {process.returncode}")
        self._supervisor = asyncio.create_task(self._supervise(process))

    async def stop(self) -> None:
        """Ask the program to end, then end it and what it started."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._supervisor
            self._supervisor = None
        process, self._process = self._process, None
        if process is None:
            return
        self._signal(process, signal.SIGTERM)
        try:
            async with asyncio.timeout(_STOP_S):
                await process.wait()
        except TimeoutError:
            pass
        self._signal(process, signal.SIGKILL)
        await process.wait()

    def status(self) -> dict[str, object]:
        """Return command, address, process and restarts."""
        return {
            "kind": "child",
            "command": list(self._command),
            "address": str(self._endpoint),
            "pid": self._process.pid if self._process is not None else None,
            "restarts": self._restarts,
        }

    async def connect(self) -> Stream:
        """Connect to the program."""
        return await self._endpoint.connect()

    async def _listens(self) -> bool:
        try:
            stream = await self._endpoint.connect()
        except OSError:
            return False
        stream.abort()
        await stream.close()
        return True

    async def _spawn(self) -> asyncio.subprocess.Process:
        if self._endpoint.path is not None:
            # Where an earlier run left its socket's file, most programs cannot bind.
            with contextlib.suppress(OSError):
                self._endpoint.path.unlink()
        user, group = (str(number) for number in self._owner) if self._owner else ("-", "-")
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-I",
            "-S",
            str(Path(child_exec.__file__)),
            str(os.getpid()),
            user,
            group,
            *self._command,
            stdin=subprocess.DEVNULL,
            stdout=2,  # the loader's stdout is for its own lines
            stderr=2,
            env={},
            start_new_session=True,
        )
        self._process = process
        return process

    async def _supervise(self, process: asyncio.subprocess.Process) -> None:
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            started = loop.time()
            code = await process.wait()
            self._signal(process, signal.SIGKILL)  # what it started and left behind
            failures = 1 if loop.time() - started >= _STABLE_S else failures + 1
            delay = self._restart.delay(failures, random.random())  # noqa: S311 - spreads load, guards nothing
            self._note(f"application: {self._command[0]} ended with {code}, restarting in {delay:.1f} s")
            await asyncio.sleep(delay)
            process = await self._spawn()
            self._restarts += 1

    @staticmethod
    def _signal(process: asyncio.subprocess.Process, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, number)


def _is_program(path: str) -> bool:
    return Path(path).is_file() and os.access(path, os.X_OK)
