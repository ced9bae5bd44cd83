"""What a live proxy and the process that fetches do for each other: a VCEK that evidence lacks, and early warning."""

import json
import ssl
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from command_inside import call_json
from fake_vendors import FakeService, IntelAnswers, Reply, Request
from workload import Client, Workload, new_key, request_for

from proxy_attestation.codes import Code
from proxy_attestation.errors import ProxyAttestationError
from proxy_attestation.formats.request import names_from
from proxy_attestation.formats.tee import Tee
from proxy_attestation_simulator.amd import AmdPlatform, AmdVendor
from proxy_attestation_simulator.collateral import FMSPC
from proxy_attestation_simulator.harness import RunningProxy, default_policy, make_proxy
from proxy_attestation_simulator.intel import Vendor
from proxy_attestation_simulator.machines import LINE
from proxy_attestation_simulator.pins import policy_lines

pytestmark = pytest.mark.e2e

SECONDS = 60.0


def until(condition: Callable[[], bool], proxy: RunningProxy) -> None:
    """Go on asking until something is so."""
    end = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < end, proxy.log.read_text()[-4000:]


def logged(proxy: RunningProxy, event: str, **fields: object) -> list[dict[str, Any]]:
    wanted = {"event": event, "process": "endorsements", **fields}
    return [line for line in proxy.log_lines() if all(line.get(key) == value for key, value in wanted.items())]


# A VCEK that did not come.


@dataclass
class Chip:
    """A machine whose reports come without any certificate; what a `Workload` needs of a platform."""

    platform: AmdPlatform
    now: datetime
    tee: str = "snp"

    def quote(self, report_data: bytes, **options: Any) -> bytes:
        return self.platform.evidence(report_data, now=self.now, **options).report


class Kds:
    """AMD's service over the simulated vendor; it knows chips by their id and TCB."""

    def __init__(self, vendor: AmdVendor, now: datetime, *chips: Chip) -> None:
        self.vendor, self.now = vendor, now
        self.known = {
            chip.platform.chip_id.hex(): chip.platform.evidence(bytes(64), now=now).certificates[0] for chip in chips
        }
        self.asked: list[Request] = []

    def __call__(self, request: Request, number: int) -> Reply:
        del number
        what = request.path.rpartition("/")[2]
        if what == "cert_chain":
            ders = (self.vendor.authority(LINE, "ask"), self.vendor.authority(LINE, "ark"))
            return Reply(body="".join(map(ssl.DER_cert_to_PEM_cert, ders)).encode())
        if what == "crl":
            return Reply(body=self.vendor.platform(LINE).evidence(bytes(64), now=self.now).crls[0])
        self.asked.append(request)
        return Reply(body=self.known[what]) if what in self.known else Reply(404)


@pytest.fixture
def now() -> datetime:
    return datetime.now(UTC)


@pytest.fixture
def amd(now: datetime) -> AmdVendor:
    return AmdVendor.fixed(now)


@pytest.fixture
def chip(amd: AmdVendor, now: datetime) -> Chip:
    return Chip(amd.platform(LINE), now)


@pytest.fixture
def kds(amd: AmdVendor, now: datetime, chip: Chip) -> Kds:
    return Kds(amd, now, chip)


@pytest.fixture
def service(kds: Kds) -> Iterator[FakeService]:
    service = FakeService(kds)
    yield service
    service.close()


@pytest.fixture
def snp(tmp_path: Path, amd: AmdVendor, service: FakeService, chip: Chip) -> Iterator[RunningProxy]:
    """A proxy whose policy accepts the chip's guest, and whose endorsements come from the service."""
    measured = chip.platform.recipe(bytes(64)).report[0x90 : 0x90 + 48].hex()
    intel = Vendor.create(datetime.now(UTC))
    policy = default_policy(intel) + (
        f'\n[[workload]]\nname = "example-snp"\n{policy_lines("snp", {"measurement": measured})}'
        'dns = ["snp.example.org"]\nowner = { shared = true }\n'
    )
    made = make_proxy(tmp_path, vendor=intel, policy=policy, tees=(), arguments=("--peer-rate", "10000"))
    state = tmp_path / "with-amd"
    (tmp_path / "ark.der").write_bytes(amd.authority(LINE, "ark"))
    command = [*made.command, "init", str(state), "--trust-domain", "example.org", "--dns", "example.org"]
    command += ["--policy", str(tmp_path / "policy.toml"), "--simulated", str(tmp_path / "ark.der")]
    subprocess.run(command, check=True, capture_output=True, timeout=60)
    proxy = RunningProxy(tmp_path, state, intel, made.command, made.arguments)
    text = f'kds = "{service.url}"\nattempts = 1\n[[platform]]\ntee = "snp"\nproduct = "{LINE}"\n'
    (state / "endorsements.toml").write_text(text)
    proxy.start()
    until(lambda: bool(logged(proxy, "endorsements refreshed")), proxy)
    yield proxy
    if proxy.process is not None:
        proxy.stop()


def ask(proxy: RunningProxy, chip: Chip) -> Code | None:
    client = Client.connect(proxy.connect, proxy.root_pin)
    request = request_for(Tee.SNP, workload="example-snp", names=names_from(("snp.example.org",)))
    workload: Any = Workload(chip)  # type: ignore[arg-type] # a machine of another kind
    try:
        client.sign(workload.message(client.challenge(Tee.SNP), request, new_key()))
    except ProxyAttestationError as error:
        return error.code
    finally:
        client.close()
    return None


def test_a_vcek_that_did_not_come_is_fetched_and_kept(
    snp: RunningProxy, chip: Chip, kds: Kds, amd: AmdVendor, now: datetime
) -> None:
    codes: list[Code | None] = []

    def answered() -> bool:
        codes.append(ask(snp, chip))
        return codes[-1] is None

    until(answered, snp)
    assert set(codes[:-1]) == {Code.ENDORSEMENTS_UNAVAILABLE}
    (request,) = kds.asked
    assert request.path == f"/vcek/v1/{LINE}/{chip.platform.chip_id.hex()}"
    # After a restart it is there at once, and a vendor that has gone is nobody's outage.
    kds.known.clear()
    snp.restart()
    until(lambda: ask(snp, chip) is None, snp)
    assert len(kds.asked) == 1
    # A chip that AMD does not know: asked for once, and never a verdict.
    stranger = Chip(amd.platform(LINE, seed=7), now)
    assert ask(snp, stranger) is Code.ENDORSEMENTS_UNAVAILABLE
    until(lambda: bool(logged(snp, "VCEK not fetched", code="endorsements.unknown")), snp)
    assert ask(snp, stranger) is Code.ENDORSEMENTS_UNAVAILABLE
    wanted = snp.state / "run" / "wanted" / LINE.lower()
    until(lambda: not list(wanted.iterdir()), snp)
    assert len(kds.asked) == 2
    assert ask(snp, chip) is None


def test_a_vcek_of_another_chip_is_refused(snp: RunningProxy, chip: Chip, kds: Kds, amd: AmdVendor) -> None:
    other = amd.platform(LINE, seed=3).evidence(bytes(64), now=chip.now).certificates[0]
    kds.known[chip.platform.chip_id.hex()] = other
    assert ask(snp, chip) is Code.ENDORSEMENTS_UNAVAILABLE
    until(lambda: bool(logged(snp, "VCEK not fetched", code="endorsements.rejected")), snp)
    assert ask(snp, chip) is Code.ENDORSEMENTS_UNAVAILABLE


# Early warning.


def test_an_operator_is_warned_of_a_release_that_would_refuse_live_platforms(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    answers = IntelAnswers(Vendor.create(now), lambda: now)
    answers.releases["early"] = {"fault": "tcb-recovery"}
    pcs = FakeService(answers)
    proxy = make_proxy(tmp_path, vendor=answers.vendor, tees=(), arguments=("--peer-rate", "10000"))
    fmspc = FMSPC["sgx"].hex()
    name = f"sgx-{fmspc}"
    (proxy.state / "endorsements.toml").write_text(
        f'pcs = "{pcs.url}"\nroot_crl = "{pcs.url}/IntelSGXRootCA.der"\nattempts = 1\n'
        f'[[platform]]\ntee = "sgx"\nfmspc = "{fmspc}"\n'
    )
    proxy.start()
    try:
        until(lambda: bool(logged(proxy, "the coming TCB release would refuse nobody", set=name, platforms=0)), proxy)
        until(lambda: issued(proxy), proxy)
        until(lambda: bool(logged(proxy, "the coming TCB release would refuse", set=name, refused=1)), proxy)
        (line,) = logged(proxy, "the coming TCB release would refuse")
        assert (line["platforms"], line["number"]) == (1, line["held"] + 1)
        refused = f'proxy_attestation_endorsements_early_platforms{{set="{name}",verdict="refused"}} 1.0'
        # The log is written first, then the outlook's file, the metrics last.
        until(lambda: refused in httpx.get(f"http://{proxy.admin}/metrics", trust_env=False, timeout=30).text, proxy)
        (item,) = call_json("endorsements", "status", proxy.state)["sets"]
        assert (item["early"]["refused"], item["early"]["platforms"]) == (1, 1)
        assert item["early"]["named"] == line["named"]
        assert json.loads((proxy.state / "endorsements" / ".early.json").read_text())["sets"][name]["refused"] == 1
    finally:
        proxy.stop()
        pcs.close()


def issued(proxy: RunningProxy) -> bool:
    client = Client.connect(proxy.connect, proxy.root_pin)
    workload = Workload(proxy.vendor.platform("sgx"))
    try:
        client.sign(workload.message(client.challenge(), request_for(), new_key()))
    except ProxyAttestationError:
        return False
    finally:
        client.close()
    return True
