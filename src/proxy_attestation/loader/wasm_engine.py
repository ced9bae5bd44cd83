"""One module under wasmtime: an instance a call, with fuel, time, memory and output limits, and nothing else to reach.

An application is a WASI command (preview 1): argv, stdin, stdout, stderr, clocks, random numbers. The environment is
empty and no directory is preopened. Three functions of WASI are our own: `fd_read` and `fd_write` (`wasm_stdio.py`),
and `poll_oneoff`, which refuses, because a call asleep inside the host could not be interrupted by its time limit.
"""

import contextlib
import threading
from collections.abc import Iterator
from typing import Final

import wasmtime

from proxy_attestation.loader.applications.frames import STDERR_MAX, Setup
from proxy_attestation.loader.applications.model import CallResult, Outcome
from proxy_attestation.loader.wasm_stdio import ERRNO_NOTSUP, WASI, Sink, Stdio, Streams

ARGV0: Final = "app"
TICK_S: Final = 0.01
_MAGIC: Final = b"\0asm"
_TABLE_ELEMENTS: Final = 1 << 20
_TABLES: Final = 16


class ModuleError(Exception):
    """The module cannot run here; the text says why."""


class Engine:
    """Compiles the module once and runs calls, several at a time from several threads."""

    def __init__(self, setup: Setup) -> None:
        """Compile.

        Raises:
            ModuleError: for bytes that are no module, or one that is no WASI command.
        """
        config = wasmtime.Config()
        config.consume_fuel = True
        config.epoch_interruption = True
        # Shared memory brings waits that no time limit ends; the others are not stable yet.
        config.wasm_threads = False
        config.wasm_memory64 = False
        self._setup = setup
        self._engine = wasmtime.Engine(config)
        self._ticker = _Ticker(self._engine)
        try:
            binary = setup.module if setup.module.startswith(_MAGIC) else bytes(wasmtime.wat2wasm(setup.module))
            module = wasmtime.Module(self._engine, binary)
            linker = wasmtime.Linker(self._engine)
            linker.define_wasi()
            linker.allow_shadowing = True
            self._stdio = Stdio()
            self._stdio.define(linker)
            number = wasmtime.ValType.i32()
            four_to_one = wasmtime.FuncType([number] * 4, [number])
            linker.define_func(WASI, "poll_oneoff", four_to_one, lambda *_: ERRNO_NOTSUP)
            self._instance = linker.instantiate_pre(module)
        except wasmtime.WasmtimeError as error:
            raise ModuleError(str(error).splitlines()[0][:512]) from error
        if not any(export.name == "_start" and isinstance(export.type, wasmtime.FuncType) for export in module.exports):
            raise ModuleError("the module exports no function _start: it is no WASI command")

    def call(self, arguments: tuple[str, ...], message: bytes, seconds: float) -> tuple[CallResult, bytes]:
        """Run one instance to its end.

        Args:
            arguments: argv after the program's name.
            message: stdin.
            seconds: its time limit.

        Returns:
            The result, and the beginning of what it wrote to stderr.
        """
        streams = Streams(message, Sink(self._setup.output), Sink(STDERR_MAX))
        store = wasmtime.Store(self._engine)
        try:
            store.set_limits(self._setup.memory, _TABLE_ELEMENTS, 1, _TABLES, 1)
            store.set_fuel(self._setup.fuel)
            wasi = wasmtime.WasiConfig()
            wasi.argv = [ARGV0, *arguments]
            wasi.env = []
            store.set_wasi(wasi)
            with self._stdio.use(streams), self._ticker.running():
                store.set_epoch_deadline(int(seconds / TICK_S) + 1)
                outcome, code = self._run(store)
        finally:
            store.close()
        errors = streams.errors.content()
        if streams.output.overrun:
            return CallResult(Outcome.OUTPUT), errors
        if outcome is not Outcome.EXITED:
            return CallResult(outcome), errors
        return CallResult(outcome, code, streams.output.content()), errors

    def _run(self, store: wasmtime.Store) -> tuple[Outcome, int]:
        try:
            start = self._instance.instantiate(store).exports(store)["_start"]
            if isinstance(start, wasmtime.Func):
                start(store)
        except wasmtime.ExitTrap as trap:
            return Outcome.EXITED, trap.code & 0xFFFFFFFF
        except wasmtime.Trap as trap:
            if trap.trap_code is wasmtime.TrapCode.INTERRUPT:
                return Outcome.TIME, 0
            if trap.trap_code is wasmtime.TrapCode.OUT_OF_FUEL:
                return Outcome.FUEL, 0
            return Outcome.TRAPPED, 0
        except wasmtime.WasmtimeError:
            return Outcome.TRAPPED, 0
        return Outcome.EXITED, 0


class _Ticker:
    """Advances the engine's epoch while calls run, and sleeps while none does."""

    def __init__(self, engine: wasmtime.Engine) -> None:
        self._engine = engine
        self._active = 0
        self._changed = threading.Condition()
        threading.Thread(target=self._tick, daemon=True, name="epoch").start()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        with self._changed:
            self._active += 1
            self._changed.notify()
        try:
            yield
        finally:
            with self._changed:
                self._active -= 1

    def _tick(self) -> None:
        pause = threading.Event()
        while True:
            with self._changed:
                while not self._active:
                    self._changed.wait()
            pause.wait(TICK_S)
            self._engine.increment_epoch()
