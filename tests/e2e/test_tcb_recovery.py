"""A TCB recovery reaches a running fleet: one workload is told to renew and is refused, the other renews.

The proxy is `serve` with all its processes; the loaders are real ones in this process, so that their waits are short.
"""

import asyncio
import hashlib
import json
import ssl
from collections.abc import Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from command_line import REFUSED, call, call_json
from cryptography import x509
from workload import utc_now

from proxy_attestation.attester.model import InMemory
from proxy_attestation.formats.binder import Binding
from proxy_attestation.formats.evidence import Evidence
from proxy_attestation.formats.tee import Tee
from proxy_attestation.loader.config_file import parse_config
from proxy_attestation.loader.control import ask
from proxy_attestation.loader.proxy_client import Timing
from proxy_attestation.loader.report import LineReport
from proxy_attestation.loader.run import Loader
from proxy_attestation_simulator.harness import RunningProxy, default_policy, running_proxy
from proxy_attestation_simulator.intel import Vendor
from proxy_attestation_simulator.platform import Platform
from proxy_attestation_simulator.recipes import NEWEST, components

pytestmark = pytest.mark.e2e

HURRY: Final = 300
"""So many times shorter are the loaders' waits; the clock is the real one."""
SECONDS: Final = 60.0
EXAMPLE: Final = Path(__file__).parents[2] / "examples" / "example_application"


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[RunningProxy]:
    directory = tmp_path / "proxy"
    directory.mkdir()
    index = (EXAMPLE / "reproducibility_index").read_bytes()
    (directory / "reproducibility_index").write_bytes(index)
    digest = hashlib.sha256(index).hexdigest()
    application = f'application = {{ index = "reproducibility_index", sha256 = "{digest}", paths = ["example.wat"] }}'
    vendor = Vendor.create(utc_now())
    name = 'name = "example-app"\n'
    policy = default_policy(vendor).replace(name, f"{name}{application}\n")
    options = ("--peer-rate", "10000")
    with running_proxy(directory, vendor=vendor, policy=policy, arguments=options) as running:
        yield running


class OnPlatform(InMemory):
    """Evidence of one simulated machine."""

    tee = Tee.SGX

    def __init__(self, platform: Platform) -> None:
        self._platform = platform

    def attest(self, binding: Binding) -> Evidence:
        return Evidence(self.tee, self._platform.quote(binding.report_data))


@dataclass
class Running:
    """A loader and what it tells."""

    directory: Path
    platform: Platform
    events: list[dict[str, Any]] = field(default_factory=list)
    changed: asyncio.Condition = field(default_factory=asyncio.Condition)
    stop: asyncio.Event = field(default_factory=asyncio.Event)

    @asynccontextmanager
    async def run(self, proxy: RunningProxy) -> Any:
        text = f"""
proxy = "https://{proxy.connect}"
root_pin = "{proxy.root_pin}"
trust_domain = "example.org"
workload = "example-app"
tee = "sgx"
lifetime = "1h"
control = "load.sock"
[names]
dns = ["app.example.org"]
[[listener]]
address = "127.0.0.1:0"
protocol = "http"
[application]
kind = "wasm"
path = "{EXAMPLE / "example.wat"}"
"""
        self.directory.mkdir()
        self.config = parse_config(text.encode(), self.directory)
        timing = Timing(utc_now, lambda seconds: asyncio.sleep(seconds / HURRY))
        loader = Loader(self.config, OnPlatform(self.platform), LineReport(as_json=True, write=self._write), timing)
        task = asyncio.create_task(loader.run(self.stop, SECONDS))
        try:
            await self.wait_for("ready", task)
            yield self
        finally:
            self.stop.set()
            await task

    def _write(self, line: str) -> None:
        self.events.append(json.loads(line))
        self._told = asyncio.ensure_future(self._tell())

    async def _tell(self) -> None:
        async with self.changed:
            self.changed.notify_all()

    async def wait_for(self, name: str, task: "asyncio.Task[None] | None" = None) -> dict[str, Any]:
        """Return the first event of a name."""
        async with self.changed, asyncio.timeout(SECONDS):
            while not (found := [event for event in self.events if event["event"] == name]):
                assert task is None or not task.done()
                await self.changed.wait()
        return found[0]

    def names(self) -> list[str]:
        return [str(event["event"]) for event in self.events]

    def control(self, command: str) -> Awaitable[dict[str, Any]]:
        return asyncio.to_thread(ask, self.config.control, command, SECONDS)

    async def served(self, proxy: RunningProxy) -> int:
        """Return the serial number of the certificate that a client gets, after a request was answered."""
        port = (await self.wait_for("ready"))["listeners"][0]["port"]
        context = ssl.create_default_context(cafile=str(proxy.root_pem))
        async with httpx.AsyncClient(verify=context, trust_env=False) as client:
            request = client.build_request("GET", f"https://127.0.0.1:{port}/", headers={"host": "app.example.org"})
            request.extensions["sni_hostname"] = "app.example.org"
            answer = await client.send(request, stream=True)
            leaf = answer.extensions["network_stream"].get_extra_info("ssl_object").getpeercert(binary_form=True)
            assert (await answer.aread()).decode() == "Hello from attested code!"
            await answer.aclose()
        return x509.load_der_x509_certificate(leaf).serial_number


def run(scenario: Callable[[], Any]) -> None:
    asyncio.run(scenario())


def test_one_workloads_renewal_stops_and_the_others_goes_on(proxy: RunningProxy, tmp_path: Path) -> None:
    old = Running(tmp_path / "old", proxy.vendor.platform("sgx"))
    new = Running(tmp_path / "new", proxy.vendor.platform("sgx", svns=components(NEWEST + 1), seed=1))

    async def scenario() -> None:
        async with old.run(proxy), new.run(proxy):
            before = {one.directory.name: (await one.control("status"))["certificate"] for one in (old, new)}
            said = await asyncio.to_thread(call_json, "reappraise", proxy.state)
            assert (said["live"], said["accepted"]) == (2, 2)
            # The vendor's recovery arrives.
            proxy.write_endorsements("sgx", fault="tcb-recovery")
            proxy.reload()
            early = await old.wait_for("renew_early")
            assert early["codes"][0] == "sgx.tcb_status"
            assert early["serial"] == before["old"]["serial"]
            failed = await old.wait_for("failed")
            assert failed["error"]["code"] == "sgx.tcb_status"
            # What it has goes on; what it was told is on record.
            status = await old.control("status")
            assert status["certificate"] == before["old"]
            assert status["renewal_information"]["codes"][0] == "sgx.tcb_status"
            assert await old.served(proxy) == int(before["old"]["serial"], 16)
            shown = await asyncio.to_thread(call, "load", "status", "--control", old.config.control)
            assert "sgx.tcb_status" in shown.stdout
            # The other one was told nothing, and renews.
            assert "renew_early" not in new.names()
            renewed = await new.control("renew")
            assert renewed["certificate"]["serial"] != before["new"]["serial"]
            assert await new.served(proxy) == int(renewed["certificate"]["serial"], 16)
            said = await asyncio.to_thread(call_json, "reappraise", proxy.state, status=REFUSED)
            fallen = [row for row in said["certificates"] if row["verdict"] == "refused"]
            assert [row["serial"] for row in fallen] == [before["old"]["serial"]]
            assert fallen[0]["index"] == before["old"]["ledger_index"]

    run(scenario)
    events = [line for line in proxy.log_lines() if line.get("event") == "certificate would be refused"]
    assert [event["process"] for event in events] == ["reappraisal"]
    metrics = httpx.get(f"http://{proxy.admin}/metrics", trust_env=False).text
    name = 'proxy_attestation_reappraisal_certificates{code="sgx.tcb_status",verdict="refused"}'
    assert f"{name} 1.0" in metrics.splitlines()
