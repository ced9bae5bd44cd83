"""A Wasm module, run by a host process of its own.

The bytes of the file are read once: what is hashed for the application claim is what the host is given, now and at
every restart. The host has no key and no quoting device. When it dies, calls under way are lost, and a new one starts.
"""

import asyncio
import contextlib
import hashlib
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError, UnavailableError
from proxy_attestation.formats.request import ApplicationKind
from proxy_attestation.loader.applications import frames
from proxy_attestation.loader.applications.host import WasmHost
from proxy_attestation.loader.applications.model import CallResult, Outcome
from proxy_attestation.loader.backoff import Backoff
from proxy_attestation.loader.limits import MIB, WAITING_CALLS_MAX

_RESTART: Final = Backoff(first=0.1, most=10.0)
_STABLE_S: Final = 60.0


@dataclass(frozen=True, slots=True)
class WasmLimits:
    """Bounds of one call.

    Attributes:
        fuel: about the number of instructions.
        memory: bytes.
        seconds: wall-clock time.
        output: bytes of stdout.
        threads: calls at one time.
    """

    fuel: int = 5_000_000_000
    memory: int = 64 * MIB
    seconds: float = 10.0
    output: int = 4 * MIB
    threads: int = 4


class WasmApplication:
    """A module and its host."""

    kind: Final = ApplicationKind.WASM

    def __init__(
        self,
        path: Path,
        limits: WasmLimits,
        note: Callable[[str], None],
        restart: Backoff = _RESTART,
        waiting_max: int = WAITING_CALLS_MAX,
    ) -> None:
        """Read the module.

        Args:
            path: a .wat or .wasm file.
            limits: bounds of one call.
            note: takes one line for the operator.
            restart: delays between restarts of the host.
            waiting_max: calls that may wait for their turn; one more is refused.

        Raises:
            ConfigurationError: `application.failed`, where the file cannot be read or is too large.
        """
        try:
            with path.open("rb") as file:
                self._module = file.read(frames.MODULE_MAX + 1)
        except OSError as error:
            raise ConfigurationError(Code.APPLICATION_FAILED, f"{path}: {error.strerror}") from error
        if not 0 < len(self._module) <= frames.MODULE_MAX:
            raise ConfigurationError(Code.APPLICATION_FAILED, f"{path}: 1 to {frames.MODULE_MAX} bytes were expected")
        self.sha256: Final = hashlib.sha256(self._module).digest()
        self._path = path
        self._limits = limits
        self._note = note
        self._restart = restart
        self._calls_max = limits.threads + waiting_max
        self._calls = 0
        self._host: WasmHost | None = None
        self._ready = asyncio.Event()
        self._supervisor: asyncio.Task[None] | None = None
        self._restarts = 0

    async def start(self) -> None:
        """Start the host and have the module compiled."""
        self._host = await self._spawn()
        self._ready.set()
        self._supervisor = asyncio.create_task(self._supervise(self._host))

    async def stop(self) -> None:
        """End the host."""
        if self._supervisor is not None:
            self._supervisor.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._supervisor
            self._supervisor = None
        self._ready.clear()
        if self._host is not None:
            await self._host.end()
            self._host = None

    async def call(self, arguments: tuple[str, ...], message: bytes, seconds: float) -> CallResult:
        """Run one instance; waits for its turn, and for a host that is just being restarted."""
        if self._calls >= self._calls_max:
            return CallResult(Outcome.REFUSED)
        self._calls += 1
        try:
            return await self._call(arguments, message, seconds)
        finally:
            self._calls -= 1

    async def _call(self, arguments: tuple[str, ...], message: bytes, seconds: float) -> CallResult:
        loop = asyncio.get_running_loop()
        end = loop.time() + min(seconds, self._limits.seconds)
        try:
            async with asyncio.timeout_at(end):
                host = await self._living_host()
        except TimeoutError:
            return CallResult(Outcome.LOST)
        return await host.call(arguments, message, end - loop.time())

    async def _living_host(self) -> WasmHost:
        while True:
            await self._ready.wait()
            if self._host is not None and not self._host.ended.is_set():
                return self._host
            # It has just died, and its supervisor has not run yet.
            self._ready.clear()

    def status(self) -> dict[str, object]:
        """Return file, digest, process and restarts."""
        return {
            "kind": "wasm",
            "path": str(self._path),
            "sha256": self.sha256.hex(),
            "pid": self._host.pid if self._host is not None else None,
            "other_user": self._host.other_user if self._host is not None else None,
            "restarts": self._restarts,
        }

    async def _spawn(self) -> WasmHost:
        limits = self._limits
        setup = frames.Setup(self._module, limits.fuel, limits.memory, limits.output, limits.threads)
        return await WasmHost.start(setup, self._note)

    async def _supervise(self, host: WasmHost) -> None:
        loop = asyncio.get_running_loop()
        failures = 0
        while True:
            started = loop.time()
            await host.ended.wait()
            self._ready.clear()
            await host.end()
            failures = 1 if loop.time() - started >= _STABLE_S else failures + 1
            while True:
                self._note("application: the Wasm host ended, starting another")
                await asyncio.sleep(self._restart.delay(failures, random.random()))  # noqa: S311 - spreads load only
                try:
                    host = await self._spawn()
                    break
                except (ConfigurationError, UnavailableError) as error:
                    self._note(f"application: {error}")
                    failures += 1
            self._host = host
            self._restarts += 1
            self._ready.set()
