"""WASI's `fd_read` and `fd_write` over bytes in memory, in the calling thread.

wasmtime's own standard streams take files for stdin, and hand stdout to threads of their own which must not outlive the
interpreter. These two functions are all that an application needs of them (WASI preview 1, witx), and a file it could
open does not exist.

An exception out of a host function may surface in another thread's call (wasmtime keeps one for the whole process), so
nothing here raises: what is wrong comes back as an errno.
"""

import contextlib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import wasmtime

WASI: Final = "wasi_snapshot_preview1"
# WASI preview 1, witx errno.
ERRNO_SUCCESS: Final = 0
ERRNO_BADF: Final = 8
ERRNO_FAULT: Final = 21
ERRNO_INVAL: Final = 28
ERRNO_IO: Final = 29
ERRNO_NOTSUP: Final = 58
_VECTORS_MAX: Final = 1024
_U32: Final = 0xFFFFFFFF


class Sink:
    """Takes a stream up to a limit; beyond it every write fails, and the call counts as overrun."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._content = bytearray()
        self.overrun = False

    def write(self, piece: bytes | bytearray) -> bool:
        """Take a piece whole, or not at all."""
        if len(self._content) + len(piece) > self._limit:
            self.overrun = True
            return False
        self._content += piece
        return True

    def content(self) -> bytes:
        """Return everything that was taken."""
        return bytes(self._content)


@dataclass(slots=True)
class Streams:
    """The standard streams of one call.

    Attributes:
        message: stdin.
        output: stdout.
        errors: stderr.
        position: how much of stdin has been read.
    """

    message: bytes
    output: Sink
    errors: Sink
    position: int = 0


class _FaultError(Exception):
    """An address that is not in the instance's memory."""


class Stdio:
    """The two functions, defined once for a linker; each thread's call brings its own streams."""

    def __init__(self) -> None:
        self._current = threading.local()

    def define(self, linker: wasmtime.Linker) -> None:
        """Define both functions, in place of those of `define_wasi`."""
        number = wasmtime.ValType.i32()
        kind = wasmtime.FuncType([number] * 4, [number])
        linker.define_func(WASI, "fd_read", kind, self._fd_read, access_caller=True)
        linker.define_func(WASI, "fd_write", kind, self._fd_write, access_caller=True)

    @contextlib.contextmanager
    def use(self, streams: Streams) -> Iterator[None]:
        """Give the calls that this thread makes meanwhile their streams."""
        self._current.streams = streams
        try:
            yield
        finally:
            del self._current.streams

    def _fd_read(self, caller: wasmtime.Caller, descriptor: int, vectors: int, count: int, result: int) -> int:
        streams: Streams = self._current.streams
        if descriptor != 0:
            return ERRNO_BADF
        try:
            memory = _Memory(caller)
            total = 0
            for address, length in memory.vectors(vectors, count):
                piece = streams.message[streams.position : streams.position + length]
                memory.write(address, piece)
                streams.position += len(piece)
                total += len(piece)
                if len(piece) < length:
                    break
            memory.write(result & _U32, total.to_bytes(4, "little"))
        except _FaultError:
            return ERRNO_FAULT
        except ValueError:
            return ERRNO_INVAL
        return ERRNO_SUCCESS

    def _fd_write(self, caller: wasmtime.Caller, descriptor: int, vectors: int, count: int, result: int) -> int:
        streams: Streams = self._current.streams
        sink = {1: streams.output, 2: streams.errors}.get(descriptor)
        if sink is None:
            return ERRNO_BADF
        try:
            memory = _Memory(caller)
            total = 0
            for address, length in memory.vectors(vectors, count):
                if not sink.write(memory.read(address, length)):
                    return ERRNO_IO
                total += length
            memory.write(result & _U32, total.to_bytes(4, "little"))
        except _FaultError:
            return ERRNO_FAULT
        except ValueError:
            return ERRNO_INVAL
        return ERRNO_SUCCESS


class _Memory:
    """The caller's exported memory, with every address checked."""

    def __init__(self, caller: wasmtime.Caller) -> None:
        memory = caller.get("memory")
        if not isinstance(memory, wasmtime.Memory):
            raise _FaultError
        self._caller = caller
        self._memory = memory

    def read(self, address: int, length: int) -> bytearray:
        self._check(address, length)
        return self._memory.read(self._caller, address, address + length)

    def write(self, address: int, data: bytes) -> None:
        self._check(address, len(data))
        if data:
            self._memory.write(self._caller, data, address)

    def vectors(self, address: int, count: int) -> list[tuple[int, int]]:
        """Return (address, length) of an array of iovec: two u32, little-endian.

        Raises:
            ValueError: for more than anybody needs.
        """
        if not 0 <= count <= _VECTORS_MAX:
            raise ValueError("too many vectors")
        raw = bytes(self.read(address & _U32, 8 * count))
        numbers = [int.from_bytes(raw[at : at + 4], "little") for at in range(0, len(raw), 4)]
        return list(zip(numbers[::2], numbers[1::2], strict=True))

    def _check(self, address: int, length: int) -> None:
        if address + length > self._memory.data_len(self._caller):
            raise _FaultError
