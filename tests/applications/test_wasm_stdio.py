"""`fd_read` and `fd_write` at their edges; each module exits with the errno that it got."""

from typing import Any, Final

import pytest

from proxy_attestation.loader.applications.frames import Setup
from proxy_attestation.loader.applications.model import CallResult, Outcome
from proxy_attestation.loader.wasm_engine import Engine
from proxy_attestation.loader.wasm_stdio import (
    ERRNO_BADF,
    ERRNO_FAULT,
    ERRNO_INVAL,
    ERRNO_IO,
    ERRNO_SUCCESS,
    Sink,
)

PAGE: Final = 65536
MODULE: Final = """(module
  (import "wasi_snapshot_preview1" "{function}" (func $call (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "{memory}") 1)
  {data}
  (func (export "_start")
    (call $exit (call $call (i32.const {descriptor}) (i32.const {vectors}) (i32.const {count}) (i32.const {result})))))
"""
# Two vectors at 0: "ab" at 100, "cde" at 200.
TWO: Final = (
    r'(data (i32.const 0) "\64\00\00\00\02\00\00\00\c8\00\00\00\03\00\00\00")'
    ' (data (i32.const 100) "ab") (data (i32.const 200) "cde")'
)


def vector(address: int, length: int) -> str:
    raw = address.to_bytes(4, "little") + length.to_bytes(4, "little")
    return '(data (i32.const 0) "' + "".join("\\" + f"{byte:02x}" for byte in raw) + '")'


def run(function: str, message: bytes = b"", **values: Any) -> CallResult:
    plain = {"data": TWO, "descriptor": 1, "vectors": 0, "count": 2, "result": 1000, "memory": "memory", "limit": 100}
    given = {**plain, **values}
    text = MODULE.format(function=function, **given)
    return Engine(Setup(text.encode(), 1 << 30, PAGE, given["limit"], 1)).call((), message, 20.0)[0]


def test_several_vectors_are_written_in_their_order() -> None:
    assert run("fd_write") == CallResult(Outcome.EXITED, ERRNO_SUCCESS, b"abcde")


@pytest.mark.parametrize(
    ("message", "output"), [(b"12345678", b"12345"), (b"123", b"123de"), (b"1", b"1bcde"), (b"", b"abcde")]
)
def test_several_vectors_are_read_into(message: bytes, output: bytes) -> None:
    text = f"""(module
      (import "wasi_snapshot_preview1" "fd_read" (func $read (param i32 i32 i32 i32) (result i32)))
      (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
      (memory (export "memory") 1) {TWO}
      (func (export "_start")
        (drop (call $read (i32.const 0) (i32.const 0) (i32.const 2) (i32.const 1000)))
        (drop (call $write (i32.const 1) (i32.const 0) (i32.const 2) (i32.const 1000)))))"""
    result = Engine(Setup(text.encode(), 1 << 30, PAGE, 100, 1)).call((), message, 20.0)[0]
    assert result == CallResult(Outcome.EXITED, 0, output)


@pytest.mark.parametrize(
    ("function", "descriptor"), [("fd_write", 0), ("fd_write", 3), ("fd_write", -1), ("fd_read", 1), ("fd_read", 4)]
)
def test_descriptors_that_are_not_open(function: str, descriptor: int) -> None:
    assert run(function, descriptor=descriptor).exit_code == ERRNO_BADF


@pytest.mark.parametrize(
    "values",
    [
        {"vectors": PAGE - 8},  # the second vector lies beyond
        {"vectors": -1},
        {"result": PAGE - 3},
        {"result": -1},
        {"data": vector(PAGE - 1, 2), "count": 1},
        {"data": vector(0xFFFFFFFF, 0xFFFFFFFF), "count": 1},
        {"data": vector(0, PAGE + 1), "count": 1},
    ],
)
@pytest.mark.parametrize(("function", "descriptor"), [("fd_write", 1), ("fd_read", 0)])
def test_addresses_beyond_the_memory(function: str, descriptor: int, values: dict[str, Any]) -> None:
    result = run(function, bytes(2 * PAGE), limit=4 * PAGE, descriptor=descriptor, **values)
    assert result.exit_code == ERRNO_FAULT


@pytest.mark.parametrize(("function", "descriptor"), [("fd_write", 1), ("fd_read", 0)])
def test_edges_of_the_memory_are_inside(function: str, descriptor: int) -> None:
    values = {"data": vector(PAGE - 2, 2), "count": 1, "result": PAGE - 4}
    assert run(function, b"xy", descriptor=descriptor, **values).exit_code == ERRNO_SUCCESS
    empty = {"data": vector(PAGE, 0), "count": 1}
    assert run(function, b"xy", descriptor=descriptor, **empty).exit_code == ERRNO_SUCCESS
    assert run(function, b"xy", descriptor=descriptor, count=0).exit_code == ERRNO_SUCCESS


@pytest.mark.parametrize("count", [-1, 1025, 0x7FFFFFFF])
def test_more_vectors_than_anybody_needs(count: int) -> None:
    assert run("fd_write", count=count).exit_code == ERRNO_INVAL


def test_a_module_without_a_memory_named_memory() -> None:
    # wasmtime's own proc_exit cannot do without it either.
    assert run("fd_write", memory="other") == CallResult(Outcome.TRAPPED)


def test_a_full_sink_fails_the_write_and_marks_the_call() -> None:
    assert run("fd_write", limit=5).output == b"abcde"
    assert run("fd_write", limit=4) == CallResult(Outcome.OUTPUT)
    sink = Sink(3)
    assert sink.write(b"abc")
    assert not sink.write(b"d")
    assert (sink.content(), sink.overrun) == (b"abc", True)
    assert ERRNO_IO == 29
