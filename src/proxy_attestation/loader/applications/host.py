"""One Wasm host process, and the calls that it runs, as the loader sees them."""

import asyncio
import contextlib
import socket
import subprocess
import sys
from collections.abc import Callable
from typing import Final, Self

from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError, FormatError, UnavailableError
from proxy_attestation.loader.applications import frames
from proxy_attestation.loader.applications.log import application_lines
from proxy_attestation.loader.applications.model import CallResult, Outcome
from proxy_attestation.loader.streams import SocketStream

_START_S: Final = 120.0
"""Compiling a module of the largest size takes long."""
_GRACE_S: Final = 2.0


class WasmHost:
    """One host process and the calls that it runs."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        stream: SocketStream,
        note: Callable[[str], None],
        threads: int,
    ) -> None:
        self.pid: Final = process.pid
        self.ended: Final = asyncio.Event()
        self.other_user = False
        self._process = process
        self._stream = stream
        self._note = note
        self._sending = asyncio.Lock()
        # Calls wait here and not in the host: whose time passes before a thread is free has not been near it.
        self._free = asyncio.Semaphore(threads)
        self._calls: dict[int, asyncio.Future[CallResult]] = {}
        self._next_id = 0
        self._reader: asyncio.Task[None] | None = None

    @classmethod
    async def start(cls, setup: frames.Setup, note: Callable[[str], None]) -> Self:
        """Start a process and have it compile the module.

        Raises:
            ConfigurationError: `application.failed`, where the module cannot run.
            UnavailableError: `application.failed`, where the process does not start.
        """
        ours, theirs = socket.socketpair()
        try:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-I",
                "-m",
                "proxy_attestation.loader.wasm_host",
                str(theirs.fileno()),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=2,
                env={},
                pass_fds=(theirs.fileno(),),
                start_new_session=True,
            )
        except OSError as error:
            ours.close()
            raise UnavailableError(Code.APPLICATION_FAILED, f"no Wasm host: {error.strerror}") from error
        finally:
            theirs.close()
        host = cls(process, SocketStream(ours), note, setup.threads)
        try:
            async with asyncio.timeout(_START_S):
                await host._stream.write(frames.frame(frames.encode_setup(setup)))
                ready = frames.decode_ready(await host._receive())
        except (OSError, TimeoutError, FormatError) as error:
            await host.end()
            raise UnavailableError(Code.APPLICATION_FAILED, f"the Wasm host did not start: {error}") from error
        except BaseException:
            await host.end()
            raise
        if ready.error:
            await host.end()
            raise ConfigurationError(Code.APPLICATION_FAILED, f"not a module that runs here: {ready.error}")
        host.other_user = ready.other_user
        host._reader = asyncio.create_task(host._read())
        return host

    async def call(self, arguments: tuple[str, ...], message: bytes, seconds: float) -> CallResult:
        """Run one instance when a thread of the host is free.

        The thread is this call's until the host answers, and so long the call lasts, even when it is cancelled: the
        message is on its way. A host that does not answer in time is killed, for it enforces the limit itself and must
        be stuck.
        """
        loop = asyncio.get_running_loop()
        end = loop.time() + seconds
        try:
            async with asyncio.timeout_at(end):
                await self._free.acquire()
        except TimeoutError:
            return CallResult(Outcome.TIME)
        if self.ended.is_set():
            self._free.release()
            return CallResult(Outcome.LOST)
        left = end - loop.time()
        if left <= 0:
            self._free.release()
            return CallResult(Outcome.TIME)
        call_id, self._next_id = self._next_id, self._next_id + 1
        body = frames.encode_call(frames.Call(call_id, arguments, message, max(1, int(left * 1000))))
        future: asyncio.Future[CallResult] = loop.create_future()
        stuck = loop.call_later(left + _GRACE_S, self._kill)
        self._calls[call_id] = future
        # A task of its own: half a frame would put every later call out of step. A send that fails kills the host,
        # and then the reader ends the wait for the answer.
        sending = asyncio.create_task(self._send(body))
        cancelled = False
        while not (sending.done() and future.done()):
            try:
                await asyncio.wait((sending, future))
            except asyncio.CancelledError:
                cancelled = True
        stuck.cancel()
        del self._calls[call_id]
        self._free.release()
        if cancelled:
            raise asyncio.CancelledError
        return future.result()

    async def end(self) -> None:
        """Kill the process and wait for it."""
        self._kill()
        await self._process.wait()
        if self._reader is not None:
            await self._reader
        await self._stream.close()

    def _kill(self) -> None:
        self._stream.abort()
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()

    async def _send(self, body: bytes) -> None:
        async with self._sending:
            try:
                await self._stream.write(frames.frame(body))
            except OSError:
                self._kill()  # the reader notices, and tells every call

    async def _read(self) -> None:
        try:
            while True:
                done = frames.decode_done(await self._receive())
                for line in application_lines(done.stderr):
                    self._note(line)
                future = self._calls.get(done.call_id)
                if future is not None and not future.done():
                    future.set_result(done.result)
        except (OSError, FormatError):
            pass  # gone, or not to be trusted any more
        finally:
            self._kill()
            self.ended.set()
            for future in list(self._calls.values()):
                if not future.done():
                    future.set_result(CallResult(Outcome.LOST))

    async def _receive(self) -> bytes:
        prefix = await self._exactly(4)
        return await self._exactly(frames.frame_length(prefix))

    async def _exactly(self, count: int) -> bytes:
        data = bytearray()
        while len(data) < count:
            piece = await self._stream.read(min(count - len(data), 1 << 20))
            if not piece:
                raise ConnectionResetError("the Wasm host closed its socket")
            data += piece
        return bytes(data)
