"""wasmtime itself, in this process: every way in which a call can end."""

from concurrent.futures import ThreadPoolExecutor
from typing import Final

import pytest
import wasmtime

from proxy_attestation.loader.applications.frames import STDERR_MAX, Setup
from proxy_attestation.loader.applications.model import CallResult, Outcome
from proxy_attestation.loader.wasm_engine import Engine, ModuleError

MEMORY: Final = 1 << 20
OUTPUT: Final = 100_000
ARGUMENTS: Final = ("grpc", "/pkg.Service/Method")


def engine(module: bytes, *, fuel: int = 1 << 40) -> Engine:
    return Engine(Setup(module, fuel, MEMORY, OUTPUT, 4))


def run(module: bytes, message: bytes = b"", *, seconds: float = 20.0, fuel: int = 1 << 40) -> CallResult:
    return engine(module, fuel=fuel).call(ARGUMENTS, message, seconds)[0]


def test_stdin_and_stdout(wat: dict[str, bytes]) -> None:
    message = bytes(range(256)) * 300
    assert run(wat["echo"], message) == CallResult(Outcome.EXITED, 0, message)
    assert run(wat["echo"], b"") == CallResult(Outcome.EXITED, 0, b"")


def test_binary_form_does_the_same_as_text(wat: dict[str, bytes]) -> None:
    assert run(bytes(wasmtime.wat2wasm(wat["echo"])), b"x").output == b"x"


@pytest.mark.parametrize(("name", "code"), [("exit", 5), ("exit_large", 300)])
def test_exit_codes(wat: dict[str, bytes], name: str, code: int) -> None:
    result = run(wat[name])
    # wasmtime lets WASI's exit codes up to 125 pass and traps on larger ones.
    assert result in (CallResult(Outcome.EXITED, code), CallResult(Outcome.TRAPPED))
    assert (result.outcome is Outcome.EXITED) is (code < 126)


@pytest.mark.parametrize("name", ["trap", "recurse"])
def test_traps(wat: dict[str, bytes], name: str) -> None:
    assert run(wat[name]) == CallResult(Outcome.TRAPPED)


def test_a_spin_ends_at_its_time(wat: dict[str, bytes]) -> None:
    assert run(wat["spin"], seconds=0.1) == CallResult(Outcome.TIME)


def test_a_spin_ends_with_its_fuel(wat: dict[str, bytes]) -> None:
    assert run(wat["spin"], fuel=100_000) == CallResult(Outcome.FUEL)


def test_memory_ends_at_its_limit(wat: dict[str, bytes]) -> None:
    result = run(wat["hog"])
    pages = int.from_bytes(result.output, "little")
    assert result.outcome is Outcome.EXITED
    assert MEMORY - 16 * 65536 < pages * 65536 <= MEMORY


def test_a_module_that_begins_beyond_its_memory_traps() -> None:
    large = b'(module (memory (export "memory") 17) (func (export "_start")))'
    assert run(large) == CallResult(Outcome.TRAPPED)


def test_a_flood_of_output_is_cut_off(wat: dict[str, bytes]) -> None:
    assert run(wat["flood"], seconds=0.1) == CallResult(Outcome.OUTPUT)


def test_output_up_to_the_limit_passes(wat: dict[str, bytes]) -> None:
    assert len(run(wat["flood_once"]).output) == 60_000
    module = Engine(Setup(wat["flood_once"], 1 << 40, MEMORY, 59_999, 1))
    assert module.call(ARGUMENTS, b"", 20.0)[0] == CallResult(Outcome.OUTPUT)


def test_stderr_is_kept_up_to_a_limit_and_harms_nothing(wat: dict[str, bytes]) -> None:
    result, errors = engine(wat["stderr"]).call(ARGUMENTS, b"", 20.0)
    assert result == CallResult(Outcome.EXITED, 0, b"oo")
    assert errors.startswith(b"oops")
    assert len(errors) <= STDERR_MAX


def test_there_is_no_environment_no_directory_and_no_sleep(wat: dict[str, bytes]) -> None:
    output = run(wat["surroundings"]).output
    variables, prestat, poll = (int.from_bytes(output[n : n + 4], "little") for n in (0, 4, 8))
    assert variables == 0
    assert prestat == 8  # badf
    assert poll == 58  # notsup


def test_instances_share_nothing(wat: dict[str, bytes]) -> None:
    counting = engine(wat["counter"])
    for _ in range(3):
        assert counting.call(ARGUMENTS, b"", 20.0)[0].output == b"\1\0\0\0"


def test_calls_at_one_time_do_not_touch_each_other(wat: dict[str, bytes]) -> None:
    obeying = engine(wat["obey"])
    orders = ["a", "s", "t", "b"] * 3

    def one(order: str) -> CallResult:
        return obeying.call(("grpc", order), b"", 0.2 if order == "s" else 20.0)[0]

    with ThreadPoolExecutor(4) as pool:
        results = list(pool.map(one, orders))
    expected = {
        "a": CallResult(Outcome.EXITED, 0, b"a"),
        "b": CallResult(Outcome.EXITED, 0, b"b"),
        "s": CallResult(Outcome.TIME),
        "t": CallResult(Outcome.TRAPPED),
    }
    assert results == [expected[order] for order in orders]


@pytest.mark.parametrize(
    "module",
    [
        b"not a module",
        b"\0asm\1\0\0\0\xff",
        b"(module)",
        b'(module (global (export "_start") i32 (i32.const 0)))',
        b'(module (import "env" "f" (func)) (func (export "_start")))',
        b'(module (import "wasi_snapshot_preview1" "thread-spawn" (func)) (func (export "_start")))',
        b'(module (memory (export "memory") 1 1 shared) (func (export "_start")))',
        b'(module (memory i64 1) (func (export "_start")))',
        b"\xff\xfe",
    ],
)
def test_files_that_are_no_application(module: bytes) -> None:
    with pytest.raises(ModuleError):
        engine(module)
