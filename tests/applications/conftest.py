"""Wasm modules for every way in which a call can end, in text form."""

import pytest

IMPORTS = """
  (import "wasi_snapshot_preview1" "fd_read" (func $fd_read (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_write" (func $fd_write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "args_get" (func $args_get (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "environ_sizes_get" (func $environ (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "fd_prestat_get" (func $prestat (param i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "poll_oneoff" (func $poll (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 2)
  (func $send (param $fd i32) (param $at i32) (param $length i32) (result i32)
    (i32.store (i32.const 0) (local.get $at))
    (i32.store (i32.const 4) (local.get $length))
    (call $fd_write (local.get $fd) (i32.const 0) (i32.const 1) (i32.const 8)))
"""

BODIES = {
    # What stdin holds, up to 60000 bytes, goes to stdout.
    "echo": """
      (i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 60000))
      (loop $more
        (drop (call $fd_read (i32.const 0) (i32.const 0) (i32.const 1) (i32.const 8)))
        (if (i32.load (i32.const 8)) (then
          (drop (call $send (i32.const 1) (i32.const 1024) (i32.load (i32.const 8))))
          (i32.store (i32.const 0) (i32.const 1024)) (i32.store (i32.const 4) (i32.const 60000))
          (br $more))))""",
    # The first character of argv[2] is what to do: any request can be a different one.
    "obey": """
      (local $order i32)
      (drop (call $args_get (i32.const 64) (i32.const 1024)))
      (local.set $order (i32.load8_u (i32.load (i32.const 72))))
      (if (i32.eq (local.get $order) (i32.const 115)) (then (loop $spin (br $spin))))
      (if (i32.eq (local.get $order) (i32.const 116)) (then (unreachable)))
      (drop (call $send (i32.const 1) (i32.load (i32.const 72)) (i32.const 1)))""",
    "spin": "(loop $l (br $l))",
    "trap": "(unreachable)",
    "recurse": "(call $self)",
    "exit": "(call $exit (i32.const 5))",
    "exit_large": "(call $exit (i32.const 300))",
    "flood": "(loop $l (drop (call $send (i32.const 1) (i32.const 1024) (i32.const 60000))) (br $l))",
    "flood_once": "(drop (call $send (i32.const 1) (i32.const 1024) (i32.const 60000)))",
    "stderr": """
      (drop (call $send (i32.const 2) (i32.const 1024) (i32.const 4)))
      (drop (call $send (i32.const 2) (i32.const 1024) (i32.const 60000)))
      (drop (call $send (i32.const 1) (i32.const 1024) (i32.const 2)))""",
    # Grows until it may not, and answers with what memory.grow said last.
    "hog": """
      (loop $l (br_if $l (i32.ne (memory.grow (i32.const 16)) (i32.const -1))))
      (i32.store (i32.const 1024) (memory.size))
      (drop (call $send (i32.const 1) (i32.const 1024) (i32.const 4)))""",
    # One word each: number of environment variables, errno of the first descriptor after stderr, errno of a sleep.
    "surroundings": """
      (drop (call $environ (i32.const 1024) (i32.const 1028)))
      (i32.store (i32.const 1028) (call $prestat (i32.const 3) (i32.const 2048)))
      (i32.store (i32.const 1032) (call $poll (i32.const 2048) (i32.const 3072) (i32.const 1) (i32.const 4096)))
      (drop (call $send (i32.const 1) (i32.const 1024) (i32.const 12)))""",
    # A counter that would rise if instances were shared.
    "counter": """
      (i32.store (i32.const 2048) (i32.add (i32.load (i32.const 2048)) (i32.const 1)))
      (drop (call $send (i32.const 1) (i32.const 2048) (i32.const 4)))""",
}


def text_of(name: str) -> bytes:
    text = f"""(module {IMPORTS}
      (data (i32.const 1024) "oops")
      (func $self (call $self))
      (func (export "_start") {BODIES[name]}))"""
    return text.encode()


@pytest.fixture(scope="session")
def wat() -> dict[str, bytes]:
    """Module texts by name."""
    return {name: text_of(name) for name in BODIES}
