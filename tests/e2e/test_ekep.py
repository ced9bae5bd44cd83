"""EKEP for real: `serve`, the `ekep` front attested by the simulator, and an enrolment inside the attested channel."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest

from proxy_attestation.appraisal.claims import Claims
from proxy_attestation.appraisal.endorsements import DcapEndorsements
from proxy_attestation.appraisal.kinds import Appraiser, Beside, ParsedOrTpm, verify_endorsements
from proxy_attestation.appraisal.roots import same_for_all
from proxy_attestation.attester.model import InMemory
from proxy_attestation.codes import Code
from proxy_attestation.ekep.client import EkepChannel, open_channel
from proxy_attestation.ekep.evidence import EvidenceAssertions
from proxy_attestation.ekep.frames import HandshakeAborted
from proxy_attestation.ekep.v1 import ekep_pb2 as pb
from proxy_attestation.ekep.v1 import ekep_pb2_grpc
from proxy_attestation.errors import PeerError, ProxyAttestationError, RefusedError
from proxy_attestation.formats.binder import Binding
from proxy_attestation.formats.evidence import Evidence
from proxy_attestation.formats.request import ApplicationKind, names_from
from proxy_attestation.formats.tee import Tee
from proxy_attestation.loader.enroll import Wanted, enroll
from proxy_attestation.loader.ownership import OwnerConfig, Ownership
from proxy_attestation.loader.proxy_client import Timing
from proxy_attestation.loader.report import LineReport
from proxy_attestation.v1 import proxy_attestation_pb2 as v1
from proxy_attestation_simulator.harness import RunningProxy, running_proxy
from proxy_attestation_simulator.intel import Vendor

pytestmark = pytest.mark.e2e
SIMULATOR = str(Path(sys.executable).parent / "proxy-attestation-simulator")
PROGRAM = "from proxy_attestation.cli.main import main; main()"
WANTED = Wanted("example-app", names_from(("app.example.org",)), 3600, ApplicationKind.NONE, None)


class OnPlatform(InMemory):
    """A simulated platform as the machine that this process runs on."""

    tee = Tee.SGX

    def __init__(self, vendor: Vendor, fault: str | tuple[str, ...] = ()) -> None:
        self._platform = vendor.platform("sgx")
        self._fault = fault

    def attest(self, binding: Binding) -> Evidence:
        return Evidence(self.tee, self._platform.quote(binding.report_data, fault=self._fault))


@dataclass
class World:
    proxy: RunningProxy
    address: str

    def side(self, attester: OnPlatform | None = None, judge: Any = lambda _: None) -> EvidenceAssertions:
        """A client's assertions, which appraises with the vendor's collateral of now."""
        vendor = self.proxy.vendor
        roots, now = same_for_all(frozenset({vendor.root_pin})), datetime.now(UTC)
        found = verify_endorsements(DcapEndorsements(**vendor.endorsements("sgx", now)), roots, now)
        appraiser = Appraiser(roots, {(found.tee, found.platform): found})

        def appraise(evidence: ParsedOrTpm, certificates: tuple[bytes, ...], beside: Beside) -> Claims:
            return appraiser.appraise(evidence, certificates, datetime.now(UTC), beside)[0]

        return EvidenceAssertions(attester or OnPlatform(vendor), (Tee.SGX,), appraise, judge)

    def inside(self, work: Callable[[EkepChannel], Any], side: EvidenceAssertions | None = None, pin: str = "") -> Any:
        """Do something on a channel."""

        async def run() -> Any:
            root_pin = bytes.fromhex(pin or self.proxy.root_pin)
            async with open_channel(self.address, root_pin, lambda: side or self.side()) as channel:
                return await work(channel)

        return asyncio.run(run())


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with running_proxy(tmp_path_factory.mktemp("proxy")) as proxy:
        command = [
            SIMULATOR, "run", "--dir", str(proxy.directory / "vendor"), "--",
            sys.executable, "-c", PROGRAM, "ekep", str(proxy.state), "--attester", "simulator:{fd}", "--tee", "sgx",
            "--listen", "127.0.0.1:0", "--json",
        ]  # fmt: skip
        with (Path(proxy.directory) / "ekep.log").open("wb") as log:
            front = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log)
        assert front.stdout is not None
        try:
            yield World(proxy, json.loads(front.stdout.readline())["ekep"])
        finally:
            front.terminate()
            front.wait(30)
            front.stdout.close()


def refused(work: Callable[[], object]) -> ProxyAttestationError:
    with pytest.raises(ProxyAttestationError) as caught:
        work()
    return caught.value


def test_an_enrolment_inside_the_channel(world: World) -> None:
    side = world.side()

    async def work(channel: EkepChannel) -> Any:
        timing = Timing(lambda: datetime.now(UTC))
        ownership = Ownership(OwnerConfig(), LineReport(as_json=True))
        return await enroll(channel, OnPlatform(world.proxy.vendor), WANTED, timing, ownership)

    credential = world.inside(work, side)

    assert len(credential.chain) == 2
    # The peer's evidence was accepted before anything was called.
    assert side.claims is not None
    assert side.claims.tee is Tee.SGX


def test_verdicts_come_through_as_they_were_made(world: World) -> None:
    async def work(channel: EkepChannel) -> Any:
        request = v1.GetSignedCertificateRequest(session_token=b"none")
        return await channel.get_signed_certificate(request, datetime.now(UTC))

    error = refused(lambda: world.inside(work))

    assert isinstance(error, RefusedError)
    assert error.code is Code.CHALLENGE_INVALID


def test_another_proxy_s_pin(world: World) -> None:
    error = refused(lambda: world.inside(lambda _: pytest.fail("not reached"), pin="ab" * 32))

    assert isinstance(error, PeerError)
    assert error.code is Code.PEER_ROOT_PIN


def test_a_client_in_debug_mode(world: World) -> None:
    side = world.side(OnPlatform(world.proxy.vendor, fault="debug"))
    error = refused(lambda: world.inside(lambda _: pytest.fail("not reached"), side))

    assert isinstance(error, HandshakeAborted)
    assert (error.code, error.by_peer) == (Code.EKEP_BAD_ASSERTION, True)


def test_a_front_that_the_client_does_not_accept(world: World) -> None:
    def judge(_: Claims) -> None:
        raise RefusedError(Code.POLICY_MEASUREMENT, "another proxy was expected")

    side = world.side(judge=judge)
    error = refused(lambda: world.inside(lambda _: pytest.fail("not reached"), side))

    assert isinstance(error, HandshakeAborted)
    assert (error.code, error.by_peer) == (Code.EKEP_BAD_ASSERTION, False)


def test_a_method_that_is_nobody_s(world: World) -> None:
    async def work(channel: EkepChannel) -> Any:
        return await channel.call("DropTables", v1.GetChallengeRequest(), v1.GetChallengeResponse)

    assert refused(lambda: world.inside(work)).code is Code.PROXY_PROTOCOL


def test_whoever_speaks_something_else_is_told_and_left(world: World) -> None:
    async def run() -> Any:
        async with grpc.aio.insecure_channel(world.address) as channel:
            stream: Any = ekep_pb2_grpc.EkepStub(channel).Channel()  # type: ignore[no-untyped-call] # generated
            await stream.write(pb.Frame(data=b"GET / HTTP/1.1"))
            frame = await stream.read()
            return frame.data, await stream.read() is grpc.aio.EOF

    data, ended = asyncio.run(run())

    assert (data[4:8], pb.Abort.FromString(data[8:]).code, ended) == ((100).to_bytes(4, "little"), 1, True)
