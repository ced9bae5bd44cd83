"""A whole loader in this process: real sockets, a real Wasm host, a proxy in memory."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

import grpc
import httpx
import pytest

from proxy_attestation.codes import Code
from proxy_attestation.errors import (
    ConfigurationError,
    ProxyAttestationError,
    RefusedError,
    RequestError,
    UnavailableError,
    UsageError,
)
from proxy_attestation.loader.assemble import make_application
from proxy_attestation.loader.config import LoaderConfig
from proxy_attestation.loader.config_file import parse_config
from proxy_attestation.loader.control import ask
from proxy_attestation.loader.enroll import Wanted
from proxy_attestation.loader.proxy_client import ProxyAddress, Timing
from proxy_attestation.loader.report import LineReport
from proxy_attestation.loader.run import Loader
from proxy_attestation.v1 import proxy_attestation_pb2 as v1

EXAMPLE: Final = Path(__file__).parents[2] / "examples" / "example_application" / "example.wat"
METHOD: Final = "/proxy_attestation.example.v1.ExampleApplication/GetExampleMessage"
REPLY: Final = b"\n\x19Hello from attested code!"


def configuration(base: Path, **changes: str) -> LoaderConfig:
    parts = {
        "application": f'kind = "wasm"\npath = "{EXAMPLE}"',
        "listeners": '[[listener]]\naddress = "127.0.0.1:0"\nprotocol = "grpc"\n'
        '[[listener]]\naddress = "127.0.0.1:0"\nprotocol = "http"\n',
        **changes,
    }
    text = f"""
proxy = "https://127.0.0.1:1"
root_pin = "{"ab" * 32}"
trust_domain = "example.org"
workload = "example-app"
tee = "sgx"
lifetime = "1h"
control = "run/load.sock"
ports_file = "run/ports.json"
[names]
dns = ["localhost"]
{parts["listeners"]}
[application]
{parts["application"]}
"""
    return parse_config(text.encode(), base)


@dataclass
class Bench:
    config: LoaderConfig
    proxy: Any
    attester: Any
    connect_errors: list[ProxyAttestationError] = field(default_factory=list)
    events: list[dict[str, Any]] = field(default_factory=list)
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    failed: asyncio.Event = field(default_factory=asyncio.Event)
    renewed: asyncio.Event = field(default_factory=asyncio.Event)
    stop: asyncio.Event = field(default_factory=asyncio.Event)
    slept: list[float] = field(default_factory=list)
    ahead: timedelta = timedelta()
    chance: float = 0.5
    let_pass: set[float] = field(default_factory=set)

    def loader(self) -> Loader:
        report = LineReport(as_json=True, write=self._write)
        timing = Timing(lambda: self.proxy.now + self.ahead, self._sleep, lambda: self.chance)
        return Loader(self.config, self.attester, report, timing, self._connect)

    async def _connect(self, address: ProxyAddress, timing: Timing) -> Any:
        assert address == self.config.proxy
        assert timing.clock() == self.proxy.now + self.ahead
        if self.connect_errors:
            raise self.connect_errors.pop(0)
        return self.proxy

    async def _sleep(self, seconds: float) -> None:
        """Retries come at once; what waits for a renewal waits for ever."""
        self.slept.append(seconds)
        if seconds > 4.0 and seconds not in self.let_pass:
            await asyncio.Event().wait()
        self.ahead += timedelta(seconds=seconds)

    def _write(self, line: str) -> None:
        event = json.loads(line)
        self.events.append(event)
        if event["event"] == "ready":
            self.ready.set()
        if event["event"] == "failed":
            self.failed.set()
        if event["event"] == "renewed":
            self.renewed.set()

    def names(self) -> list[str]:
        return [str(event["event"]) for event in self.events]

    def port(self, protocol: str) -> int:
        listeners = next(event for event in self.events if event["event"] == "ready")["listeners"]
        return int(next(listener["port"] for listener in listeners if listener["protocol"] == protocol))


@pytest.fixture
def bench(
    tmp_path: Path, make_proxy: Callable[[Wanted], Any], make_attester: Callable[[], Any]
) -> Callable[..., Bench]:
    """Makes a bench from changes to the configuration."""

    def make(**changes: str) -> Bench:
        config = configuration(tmp_path, **changes)
        application = make_application(config.application, lambda _: None)
        wanted = Wanted(config.workload, config.names, config.lifetime, application.kind, application.sha256)
        return Bench(config, make_proxy(wanted), make_attester())

    return make


@contextlib.asynccontextmanager
async def running(bench: Bench) -> AsyncIterator[Bench]:
    task = asyncio.create_task(bench.loader().run(bench.stop, 30.0))
    ready = asyncio.create_task(bench.ready.wait())
    await asyncio.wait((task, ready), return_when=asyncio.FIRST_COMPLETED)
    ready.cancel()
    try:
        if task.done():
            task.result()
        yield bench
    finally:
        bench.stop.set()
        await task


def text(path: Path) -> str:
    return path.read_text()


def exists(path: Path) -> bool:
    return path.exists()


async def control(bench: Bench, command: str) -> dict[str, Any]:
    return await asyncio.to_thread(ask, bench.config.control, command, 30.0)


def test_it_attests_serves_renews_and_ends(bench: Callable[..., Bench], authority: Any) -> None:
    async def scenario() -> None:
        async with running(bench()) as run:
            assert run.names() == ["attesting", "certificate", "ready"]
            assert run.config.ports_file is not None
            ports = json.loads(text(run.config.ports_file))
            assert [listener["port"] for listener in ports["listeners"]] == [run.port("grpc"), run.port("http")]
            credentials = grpc.ssl_channel_credentials(authority.root_pem)
            async with grpc.aio.secure_channel(f"localhost:{run.port('grpc')}", credentials) as channel:
                call: grpc.aio.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)
                assert await call(b"") == REPLY
                status = await control(run, "status")
                assert status["state"] == "serving"
                assert status["last_attempt"]["error"] is None
                before = status["certificate"]["serial"]
                renewed = await control(run, "renew")
                assert renewed["ok"] is True
                assert renewed["certificate"]["serial"] != before
                assert await call(b"") == REPLY
                status = await control(run, "status")
                assert status["certificate"]["serial"] == renewed["certificate"]["serial"]
                assert status["listeners"][0]["connections"] == 1  # the channel is the same
            context = ssl.create_default_context(cadata=authority.root_pem.decode())
            async with httpx.AsyncClient(verify=context, trust_env=False) as client:
                answer = await client.get(f"https://localhost:{run.port('http')}/")
                assert answer.text == "Hello from attested code!"
            assert len(run.attester.seen) == 2  # fresh evidence each time
        assert run.names() == ["attesting", "certificate", "ready", "renewed"]
        assert not exists(run.config.control)
        assert not exists(run.config.ports_file)

    asyncio.run(scenario())


def test_the_proxy_asks_for_a_renewal_and_gets_it(bench: Callable[..., Bench]) -> None:
    async def scenario() -> None:
        made = bench()
        made.chance, made.let_pass = 0.75, {66.0}  # the first question's minute, a tenth later
        made.proxy.news = v1.GetRenewalInformationResponse(
            renewal=v1.RenewalInformation(start=1, end=2), codes=["sgx.tcb_status"], retry_after=7200
        )
        async with running(made) as run:
            await run.renewed.wait()
            status = await control(run, "status")
        assert run.names() == ["attesting", "certificate", "ready", "renew_early", "renewed"]
        early, renewed = run.events[3:]
        assert early["codes"] == ["sgx.tcb_status"]
        assert early["serial"] != renewed["certificate"]["serial"]
        information = status["renewal_information"]
        assert (information["renew_now"], information["codes"]) == (True, ["sgx.tcb_status"])
        assert (information["serial"], information["error"]) == (early["serial"], None)
        assert len(run.proxy.questions) == 1
        assert 7200 * 1.1 in run.slept

    asyncio.run(scenario())


def test_a_refused_renewal_is_told_and_the_old_certificate_stays(bench: Callable[..., Bench], authority: Any) -> None:
    def refuse(_: Any) -> None:
        raise RefusedError(Code.SGX_TCB_STATUS)

    async def scenario() -> None:
        async with running(bench()) as run:
            serial = (await control(run, "status"))["certificate"]["serial"]
            run.proxy.answer = refuse
            answer = await control(run, "renew")
            assert answer["ok"] is False
            assert (answer["error"]["code"], answer["error"]["exit_status"]) == ("sgx.tcb_status", 3)
            status = await control(run, "status")
            assert status["state"] in ("holding", "renewing")  # it tries again by itself
            assert status["last_attempt"]["error"]["code"] == "sgx.tcb_status"
            assert status["certificate"]["serial"] == serial
            context = ssl.create_default_context(cadata=authority.root_pem.decode())
            async with httpx.AsyncClient(verify=context, trust_env=False) as client:
                assert (await client.get(f"https://localhost:{run.port('http')}/")).status_code == 200
            failed = next(event for event in run.events if event["event"] == "failed")
            assert failed["error"]["code"] == "sgx.tcb_status"

    asyncio.run(scenario())


@pytest.mark.parametrize("code", [Code.SGX_DEBUG, Code.POLICY_NAME, Code.POLICY_APPLICATION])
def test_a_verdict_on_the_first_request_ends_the_start(bench: Callable[..., Bench], code: Code) -> None:
    def refuse(_: Any) -> None:
        raise RefusedError(code)

    async def scenario() -> None:
        run = bench()
        run.proxy.answer = refuse
        with pytest.raises(RefusedError) as refused:
            await run.loader().run(run.stop, 30.0)
        assert refused.value.code is code
        assert run.names() == ["attesting"]
        assert not exists(run.config.control)

    asyncio.run(scenario())


def test_a_proxy_that_comes_later_is_waited_for(bench: Callable[..., Bench]) -> None:
    async def scenario() -> None:
        made = bench()
        made.connect_errors = [UnavailableError(Code.PROXY_UNREACHABLE)]
        async with running(made) as run:
            assert run.names() == ["attesting", "failed", "certificate", "ready"]

    asyncio.run(scenario())


def test_a_proxy_that_does_not_come_is_unavailable(bench: Callable[..., Bench]) -> None:
    async def scenario() -> None:
        run = bench()
        run.connect_errors = [UnavailableError(Code.PROXY_UNREACHABLE) for _ in range(100)]
        with pytest.raises(UnavailableError) as refused:
            await run.loader().run(run.stop, 0.3)
        assert refused.value.code is Code.PROXY_UNREACHABLE

    asyncio.run(scenario())


def test_stopping_while_it_still_waits_is_an_orderly_end(bench: Callable[..., Bench]) -> None:
    async def scenario() -> None:
        run = bench()
        run.connect_errors = [UnavailableError(Code.PROXY_UNREACHABLE) for _ in range(100)]
        task = asyncio.create_task(run.loader().run(run.stop, 1000.0))
        await run.failed.wait()
        run.stop.set()
        await task

    asyncio.run(scenario())


def test_a_bug_in_the_renewal_ends_the_loader(bench: Callable[..., Bench]) -> None:
    def bug(_: Any) -> None:
        raise ZeroDivisionError

    async def scenario() -> None:
        made = bench()
        task = asyncio.create_task(made.loader().run(made.stop, 30.0))
        await made.ready.wait()
        made.proxy.answer = bug
        asking = asyncio.create_task(control(made, "renew"))
        with pytest.raises(ZeroDivisionError):
            await task
        await asyncio.gather(asking, return_exceptions=True)

    asyncio.run(scenario())


def test_what_cannot_work_fails_before_anything_is_attested(bench: Callable[..., Bench], tmp_path: Path) -> None:
    module = tmp_path / "bad.wat"
    module.write_text("(module)")

    async def scenario() -> None:
        run = bench(application=f'kind = "wasm"\npath = "{module}"')
        with pytest.raises(ConfigurationError) as refused:
            await run.loader().run(run.stop, 30.0)
        assert refused.value.code is Code.APPLICATION_FAILED
        assert run.attester.seen == []
        async with running(bench()) as other:
            taken = f'[[listener]]\naddress = "127.0.0.1:{other.port("grpc")}"\nprotocol = "grpc"\n'
            with pytest.raises(UsageError):
                bench(listeners=taken).loader()
            with pytest.raises(ConfigurationError):
                bench().loader()  # the control socket is the other one's
        with pytest.raises(ConfigurationError):
            bench(application='kind = "child"\ncommand = ["/bin/true"]\nconnect = "unix:a"\nuser = "no-such-user"')

    asyncio.run(scenario())


def test_an_address_behind_a_tcp_listener(bench: Callable[..., Bench], authority: Any, tmp_path: Path) -> None:
    async def scenario() -> None:
        async def shout(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            writer.write((await reader.readline()).upper())
            writer.close()

        server = await asyncio.start_unix_server(shout, tmp_path / "app.sock")
        made = bench(
            application='kind = "address"\nconnect = "unix:app.sock"',
            listeners='[[listener]]\naddress = "127.0.0.1:0"\nprotocol = "tcp"\n',
        )
        async with running(made) as run:
            context = ssl.create_default_context(cadata=authority.root_pem.decode())
            reader, writer = await asyncio.open_connection(
                "127.0.0.1", run.port("tcp"), ssl=context, server_hostname="localhost"
            )
            writer.write(b"hello\n")
            assert await reader.readline() == b"HELLO\n"
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        server.close()

    asyncio.run(scenario())


def test_the_first_lines_for_people(
    bench: Callable[..., Bench], real_now: datetime, capsys: pytest.CaptureFixture[str]
) -> None:
    async def scenario() -> None:
        run = bench()
        timing = Timing(lambda: real_now, run._sleep, lambda: 0.5)
        loader = Loader(run.config, run.attester, LineReport(as_json=False), timing, _give(run.proxy))
        task = asyncio.create_task(loader.run(run.stop, 30.0))
        printed = ""
        while "ready: listening on 127.0.0.1:" not in printed:
            await asyncio.sleep(0.01)
            printed += capsys.readouterr().out
        run.stop.set()
        await task
        assert printed.startswith("attesting as example-app (sgx)\n")
        assert "until " in printed
        assert "SIMULATED" in printed

    asyncio.run(scenario())


def _give(proxy: Any) -> Callable[[ProxyAddress, Timing], Any]:
    async def connect(_: ProxyAddress, __: Timing) -> Any:
        return proxy

    return connect


def test_a_revoked_certificate_shows_in_the_status(bench: Callable[..., Bench]) -> None:
    async def scenario() -> None:
        async with running(bench()) as run:
            assert (await control(run, "status"))["revoked"] is False
            run.connect_errors.append(RequestError(Code.CERTIFICATE_REVOKED))
            answer = await control(run, "renew")
            assert answer["error"]["code"] == "certificate.revoked"
            assert (await control(run, "status"))["revoked"] is True

    asyncio.run(scenario())
