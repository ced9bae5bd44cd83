"""A module in its own process: restarts, isolation, limits; and how the host process is set up."""

import asyncio
import contextlib
import hashlib
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest

from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError
from proxy_attestation.loader.applications.frames import MODULE_MAX
from proxy_attestation.loader.applications.model import CallResult, Outcome
from proxy_attestation.loader.applications.wasm import WasmApplication, WasmLimits
from proxy_attestation.loader.backoff import Backoff

QUICK: Final = Backoff(first=0.01, most=0.1)
LIMITS: Final = WasmLimits(seconds=20.0, threads=3)


@contextlib.asynccontextmanager
async def started(
    path: Path, content: bytes, limits: WasmLimits = LIMITS, notes: list[str] | None = None
) -> AsyncIterator[WasmApplication]:
    _write(path, content)
    application = WasmApplication(path, limits, (notes if notes is not None else []).append, QUICK)
    await application.start()
    try:
        yield application
    finally:
        await application.stop()


def _write(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def alive(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


def pid_of(application: WasmApplication) -> int:
    pid = application.status()["pid"]
    assert isinstance(pid, int)
    return pid


def test_calls_are_answered_and_the_digest_is_that_of_the_file(wat: dict[str, bytes], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with started(tmp_path / "a.wat", wat["echo"]) as application:
            assert application.sha256 == hashlib.sha256(wat["echo"]).digest()
            message = bytes(1_000_000)
            assert await application.call(("grpc", "/a.B/C"), message, 20.0) == CallResult(Outcome.EXITED, 0, message)

    asyncio.run(scenario())


def test_what_runs_is_what_was_read_even_after_the_file_changed(wat: dict[str, bytes], tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "a.wat"
        async with started(path, wat["echo"]) as application:
            path.write_bytes(wat["exit"])
            os.kill(pid_of(application), signal.SIGKILL)
            while application.status()["restarts"] != 1:
                result = await application.call(("grpc", "/a.B/C"), b"x", 20.0)
            result = await application.call(("grpc", "/a.B/C"), b"x", 20.0)
            assert result == CallResult(Outcome.EXITED, 0, b"x")
            assert application.sha256 == hashlib.sha256(wat["echo"]).digest()

    asyncio.run(scenario())


def test_one_call_never_touches_another(wat: dict[str, bytes], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with started(tmp_path / "a.wat", wat["obey"]) as application:
            host = pid_of(application)

            async def call(order: str) -> CallResult:
                return await application.call(("grpc", order), b"", 0.3 if order == "s" else 20.0)

            results = await asyncio.gather(*(call(order) for order in "asattb"))
            assert results == [
                CallResult(Outcome.EXITED, 0, b"a"),
                CallResult(Outcome.TIME),
                CallResult(Outcome.EXITED, 0, b"a"),
                CallResult(Outcome.TRAPPED),
                CallResult(Outcome.TRAPPED),
                CallResult(Outcome.EXITED, 0, b"b"),
            ]
            assert pid_of(application) == host

    asyncio.run(scenario())


def test_the_files_own_limit_wins_over_a_patient_caller(wat: dict[str, bytes], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with started(tmp_path / "a.wat", wat["spin"], WasmLimits(seconds=0.1)) as application:
            assert await application.call(("grpc", "/a.B/C"), b"", 1000.0) == CallResult(Outcome.TIME)

    asyncio.run(scenario())


def test_calls_that_wait_their_turn_lose_time(wat: dict[str, bytes], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with started(tmp_path / "a.wat", wat["spin"], WasmLimits(seconds=0.2, threads=1)) as application:
            calls = (application.call(("grpc", "/a.B/C"), b"", 0.2) for _ in range(3))
            assert await asyncio.gather(*calls) == [CallResult(Outcome.TIME)] * 3
            assert application.status()["restarts"] == 0

    asyncio.run(scenario())


def test_an_impatient_call_that_waits_its_turn_ends_no_other(tmp_path: Path) -> None:
    spin = b'(module (memory (export "memory") 1) (func (export "_start") (loop $again (br $again))))'

    async def scenario() -> None:
        limits = WasmLimits(fuel=1 << 60, seconds=60.0, threads=1)
        async with started(tmp_path / "a.wat", spin, limits) as application:
            host = pid_of(application)
            # Longer than the impatient call's time and the grace that a host is given together.
            slow = asyncio.create_task(application.call(("grpc", "/a.B/C"), b"", 4.0))
            await asyncio.sleep(0)
            assert (await application.call(("grpc", "/a.B/C"), b"", 0.001)).outcome is Outcome.TIME
            assert (await slow).outcome is Outcome.TIME
            assert pid_of(application) == host

    asyncio.run(scenario())


def test_a_thread_is_free_again_when_its_caller_has_gone(wat: dict[str, bytes], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with started(tmp_path / "a.wat", wat["echo"], WasmLimits(seconds=20.0, threads=1)) as application:
            for _ in range(3):
                gone = asyncio.create_task(application.call(("grpc", "/a.B/C"), b"x", 20.0))
                await asyncio.sleep(0)
                gone.cancel()
            assert (await application.call(("grpc", "/a.B/C"), b"y", 20.0)).output == b"y"

    asyncio.run(scenario())


def test_a_call_beyond_those_that_may_wait_is_refused(wat: dict[str, bytes], tmp_path: Path) -> None:
    async def scenario() -> None:
        path = tmp_path / "a.wat"
        _write(path, wat["obey"])
        limits = WasmLimits(seconds=20.0, threads=1)
        application = WasmApplication(path, limits, lambda _: None, QUICK, waiting_max=1)
        await application.start()
        try:
            running = asyncio.create_task(application.call(("grpc", "s"), b"", 0.5))
            waiting = asyncio.create_task(application.call(("grpc", "a"), b"", 20.0))
            await asyncio.sleep(0)
            assert await application.call(("grpc", "b"), b"", 20.0) == CallResult(Outcome.REFUSED)
            assert await running == CallResult(Outcome.TIME)
            assert (await waiting).output == b"a"
            assert (await application.call(("grpc", "b"), b"", 20.0)).output == b"b"
            assert application.status()["restarts"] == 0
        finally:
            await application.stop()

    asyncio.run(scenario())


def test_a_cancelled_call_ends_when_the_host_has_answered_or_at_once_where_it_only_waited(
    wat: dict[str, bytes], tmp_path: Path
) -> None:
    async def scenario() -> None:
        async with started(tmp_path / "a.wat", wat["echo"], WasmLimits(seconds=60.0, threads=1)) as application:
            host = pid_of(application)
            os.kill(host, signal.SIGSTOP)
            try:
                sent = asyncio.create_task(application.call(("grpc", "/a.B/C"), bytes(1_000_000), 60.0))
                queued = asyncio.create_task(application.call(("grpc", "/a.B/C"), b"x", 60.0))
                await asyncio.sleep(0)
                for task in (sent, queued):
                    task.cancel()
                await asyncio.wait((queued,))
                for _ in range(10):
                    await asyncio.sleep(0)
                    sent.cancel()
                assert not sent.done()
            finally:
                os.kill(host, signal.SIGCONT)
            await asyncio.wait((sent,))
            assert sent.cancelled()
            assert queued.cancelled()
            assert (await application.call(("grpc", "/a.B/C"), b"y", 20.0)).output == b"y"
            assert pid_of(application) == host

    asyncio.run(scenario())


def test_a_killed_host_loses_its_calls_and_is_replaced(wat: dict[str, bytes], tmp_path: Path) -> None:
    async def scenario() -> None:
        notes: list[str] = []
        async with started(tmp_path / "a.wat", wat["obey"], notes=notes) as application:
            host = pid_of(application)
            running = asyncio.ensure_future(application.call(("grpc", "s"), b"", 20.0))
            assert (await application.call(("grpc", "a"), b"", 20.0)).output == b"a"
            os.kill(host, signal.SIGKILL)
            assert await running == CallResult(Outcome.LOST)
            # A call may still find the dead host, or waits for the next one.
            while (await application.call(("grpc", "a"), b"", 20.0)).outcome is Outcome.LOST:
                pass
            assert pid_of(application) != host
            assert application.status()["restarts"] == 1
            assert notes

    asyncio.run(scenario())


def test_a_stuck_host_is_killed(wat: dict[str, bytes], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with started(tmp_path / "a.wat", wat["obey"]) as application:
            host = pid_of(application)
            os.kill(host, signal.SIGSTOP)
            assert await application.call(("grpc", "a"), b"", 0.1) == CallResult(Outcome.LOST)
            while (await application.call(("grpc", "a"), b"", 20.0)).outcome is Outcome.LOST:
                pass
            assert pid_of(application) != host

    asyncio.run(scenario())


def test_what_the_application_writes_to_stderr_is_noted(wat: dict[str, bytes], tmp_path: Path) -> None:
    async def scenario() -> None:
        notes: list[str] = []
        async with started(tmp_path / "a.wat", wat["stderr"], notes=notes) as application:
            await application.call(("grpc", "/a.B/C"), b"", 20.0)
        assert any("oops" in note for note in notes)

    asyncio.run(scenario())


def test_the_host_has_no_environment_no_descriptors_and_no_privileges(wat: dict[str, bytes], tmp_path: Path) -> None:
    async def scenario() -> None:
        secret = os.open(tmp_path, os.O_RDONLY)
        os.set_inheritable(secret, True)
        try:
            async with started(tmp_path / "a.wat", wat["echo"]) as application:
                process = Path(f"/proc/{pid_of(application)}")
                fields = dict(
                    line.split(":\t", 1) for line in (process / "status").read_text().splitlines() if ":\t" in line
                )
                assert fields["NoNewPrivs"] == "1"
                assert (process / "environ").read_bytes() == b""
                if os.geteuid() == 0:
                    assert fields["Uid"].split() == ["65534"] * 4
                    assert fields["Gid"].split() == ["65534"] * 4
                    assert fields["Groups"].strip() == ""
                    assert application.status()["other_user"] is True
                    links = [str(link.readlink()) for link in (process / "fd").iterdir()]
                    assert str(tmp_path) not in links
                    assert sum(link.startswith("socket:") for link in links) == 1
                limits = (process / "limits").read_text()
                core = next(line for line in limits.splitlines() if line.startswith("Max core file size"))
                assert core.split()[4:6] == ["0", "0"]
        finally:
            os.close(secret)

    asyncio.run(scenario())


def test_stopping_ends_the_process(wat: dict[str, bytes], tmp_path: Path) -> None:
    async def scenario() -> None:
        async with started(tmp_path / "a.wat", wat["spin"]) as application:
            host = pid_of(application)
            running = asyncio.ensure_future(application.call(("grpc", "/a.B/C"), b"", 20.0))
            await asyncio.sleep(0)
        assert await running == CallResult(Outcome.LOST)
        assert not alive(host)
        assert await application.call(("grpc", "/a.B/C"), b"", 0.01) == CallResult(Outcome.LOST)

    asyncio.run(scenario())


@pytest.mark.parametrize("content", [b"no module", b"(module)", b"\0asm\1\0\0\0\xff"])
def test_a_file_that_is_no_application_refuses_the_start(content: bytes, tmp_path: Path) -> None:
    async def scenario() -> None:
        with pytest.raises(ConfigurationError) as refused:
            async with started(tmp_path / "a.wat", content):
                pass
        assert refused.value.code is Code.APPLICATION_FAILED

    asyncio.run(scenario())


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    empty, large = tmp_path / "empty.wasm", tmp_path / "large.wasm"
    empty.touch()
    with large.open("wb") as file:
        file.truncate(MODULE_MAX + 1)
    for path in (tmp_path / "absent.wasm", tmp_path, empty, large):
        with pytest.raises(ConfigurationError) as refused:
            WasmApplication(path, LIMITS, lambda _: None)
        assert refused.value.code is Code.APPLICATION_FAILED
