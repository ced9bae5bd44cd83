"""The TPM path through real `serve` and `load`: swtpm, an EK certificate of a local CA, a key that stays in the TPM.

What a workload does is done by `load`. What a thief would do is done step by step, with TPMs of his own.
"""

import json
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from swtpm_marks import needs_manager, needs_swtpm
from workload import Client

from proxy_attestation.attester.resident_key import ResidentKey
from proxy_attestation.attester.tpm import TpmDevice
from proxy_attestation.codes import Code
from proxy_attestation.errors import ProxyAttestationError, UnavailableError
from proxy_attestation.formats.binder import bind
from proxy_attestation.formats.csr import build_csr, load_subject_key, spki_of
from proxy_attestation.formats.evidence import Evidence, encode_evidence
from proxy_attestation.formats.request import (
    ApplicationKind,
    KeyOrigin,
    Request,
    RuntimeClaims,
    encode_request,
    names_from,
)
from proxy_attestation.formats.tee import Tee
from proxy_attestation.v1 import proxy_attestation_pb2 as pb
from proxy_attestation_simulator.harness import RunningProxy, running_proxy
from proxy_attestation_simulator.swtpm import Managed, Manufacturer, Swtpm, measure, register
from proxy_attestation_simulator.tpm import SoftwareTpm, TpmVendor
from proxy_attestation_simulator.tpm_machine import TpmMachine

PROXY: Final = str(Path(sys.executable).parent / "proxy-attestation")
BOOTED: Final = {0: b"firmware", 4: b"boot loader"}
DNS: Final = "machine.example.org"
PCRS: Final = {"sha256": range(8)}

pytestmark = [*needs_swtpm, needs_manager, pytest.mark.slow]


@pytest.fixture(autouse=True)
def silent_tss(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TSS2_LOG", "all+none")


@pytest.fixture(scope="module")
def manufacturer(tmp_path_factory: pytest.TempPathFactory) -> Manufacturer:
    return Manufacturer(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def boot(manufacturer: Manufacturer) -> Iterator[Callable[[], Swtpm]]:
    """Makes a machine with a TPM, and starts it."""
    with ExitStack() as stack:

        def make() -> Swtpm:
            tpm = manufacturer.make()
            stack.callback(tpm.stop)
            for index, what in BOOTED.items():
                measure(tpm.tcti, index, what)
            return tpm

        yield make


@pytest.fixture(scope="module")
def tpm(boot: Callable[[], Swtpm]) -> Swtpm:
    """A machine whose TPM has one client at a time: the tests."""
    return boot()


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory, manufacturer: Manufacturer, tpm: Swtpm) -> Iterator[RunningProxy]:  # noqa: ARG001 - the CA exists once it made a TPM
    (pin,) = manufacturer.roots.pins
    pins = f'ek_root = ["{pin.hex()}"]\n' + "".join(f'pcr{i} = ["{register(w)}"]\n' for i, w in BOOTED.items())
    entries = "".join(
        f'\n[[workload]]\nname = "{name}"\ntee = "tpm"\n{pins}dns = ["{DNS}"]\nowner = {{ shared = true }}\n'
        for name in ("example-machine", "example-soft")
    )
    policy = f'version = 1\ntrust_domain = "example.org"\n{entries}\n[danger]\nsoftware_keys = ["example-soft"]\n'
    directory = tmp_path_factory.mktemp("proxy")
    with running_proxy(directory, policy=policy, real=True, tees=(), arguments=("--peer-rate", "10000")) as running:
        yield running


@dataclass
class Machine:
    """A machine on which `load` runs."""

    managed: Managed
    directory: Path
    proxy: RunningProxy
    issuers: tuple[Path, ...]

    def write(self, workload: str = "example-machine", more: str = "") -> Path:
        path = self.directory / "app.toml"
        files = json.dumps([str(path) for path in self.issuers])
        path.write_text(
            f'proxy = "https://{self.proxy.connect}"\nroot_pin = "{self.proxy.root_pin}"\n'
            f'trust_domain = "example.org"\nworkload = "{workload}"\ntee = "tpm"\nlifetime = "1h"\n'
            f'attester = "tpm:{self.managed.tcti}"\ncontrol = "load.sock"\n'
            f'[names]\ndns = ["{DNS}"]\n[tpm]\nek_issuers = {files}\n{more}'
            '[[listener]]\naddress = "127.0.0.1:0"\nprotocol = "grpc"\n'
            '[[listener]]\naddress = "127.0.0.1:0"\nprotocol = "http"\n'
            '[application]\nkind = "address"\nconnect = "unix:app.sock"\n'
        )
        return path

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [PROXY, *arguments], capture_output=True, text=True, check=False, timeout=60, cwd=self.directory,
            env=os.environ | self.managed.environment,
        )  # fmt: skip

    def load(self, stack: ExitStack, config: Path) -> "Loaded":
        log = stack.enter_context((self.directory / "load.log").open("w"))
        process = subprocess.Popen(
            [PROXY, "load", str(config), "--json", "--wait", "10"], stdout=subprocess.PIPE, stderr=log, text=True,
            cwd=self.directory, env=os.environ | self.managed.environment,
        )  # fmt: skip
        stack.enter_context(process)
        stack.callback(process.terminate)
        assert process.stdout is not None
        event: dict[str, Any] = {}
        for line in process.stdout:
            event = json.loads(line)
            if event.get("event") == "ready":
                return Loaded(self, config, {one["protocol"]: one for one in event["listeners"]})
        raise AssertionError(f"{event}\n{Path(log.name).read_text()}")

    def refused(self, config: Path) -> str:
        """Start a loader that is refused its first certificate; return the code."""
        done = self.run("load", str(config), "--json", "--wait", "10")
        assert done.returncode == 3, done.stdout + done.stderr
        return str(json.loads(done.stdout.splitlines()[-1])["error"]["code"])

    def extend(self, index: int, what: bytes) -> None:
        code = f"from proxy_attestation_simulator import swtpm; swtpm.measure({self.managed.tcti!r}, {index}, {what!r})"
        subprocess.run([sys.executable, "-c", code], check=True, timeout=60, env=os.environ | self.managed.environment)


@dataclass
class Loaded:
    machine: Machine
    config: Path
    listeners: dict[str, Any]

    def renew(self) -> "tuple[int, dict[str, Any]]":
        done = self.machine.run("load", "renew", "--now", str(self.config), "--json")
        return done.returncode, json.loads(done.stdout or done.stderr)

    def leaf(self) -> bytes:
        """Shake hands with both listeners, as ordinary clients do, and return the leaf."""
        found = set()
        for protocol, alpn in (("grpc", "h2"), ("http", "http/1.1")):
            context = ssl.create_default_context(cafile=str(self.machine.proxy.root_pem))
            context.set_alpn_protocols([alpn])
            port = self.listeners[protocol]["port"]
            with context.wrap_socket(_dial(port), server_hostname=DNS) as connection:
                assert connection.selected_alpn_protocol() == alpn
                found.add(connection.getpeercert(binary_form=True) or b"")
        (leaf,) = found
        return leaf

    def claims(self, more: str = "", status: int = 0) -> dict[str, Any]:
        """Verify the listener as a relying party does, and return what the leaf says; none where it is refused."""
        root = str(self.machine.proxy.root_pem)
        expectation = self.machine.directory / "expect.toml"
        expectation.write_text(f'trust_domain = "example.org"\nname = "{self.workload}"\ntee = "tpm"\n{more}')
        address = self.listeners["http"]["address"]
        done = self.machine.run(
            "verify", address, "--root", root, "--expect", str(expectation), "--server-name", DNS, "--json"
        )
        assert done.returncode == status, done.stdout + done.stderr
        peer: dict[str, Any] = json.loads(done.stdout)["peer"] if status == 0 else {}
        return peer

    @property
    def workload(self) -> str:
        return next(line.split('"')[1] for line in self.config.read_text().splitlines() if line.startswith("workload"))


def _dial(port: int) -> Any:
    return socket.create_connection(("127.0.0.1", port), timeout=20)


@pytest.fixture
def machine(
    boot: Callable[[], Swtpm], proxy: RunningProxy, manufacturer: Manufacturer, tmp_path: Path
) -> Iterator[Machine]:
    with boot().managed() as managed:
        yield Machine(managed, tmp_path, proxy, manufacturer.issuer_files)


def test_enrolment_renewal_and_a_changed_register(machine: Machine) -> None:
    with ExitStack() as stack:
        loaded = machine.load(stack, machine.write())
        first = loaded.leaf()
        claims = loaded.claims()
        assert (claims["tee"], claims["key_origin"], claims["simulated"]) == ("tpm", "tpm", False)
        assert claims["measurements"]["pcr4"] == register(BOOTED[4])
        serials = set()
        for _ in range(6):
            status, answer = loaded.renew()
            assert status == 0
            serials.add(answer["certificate"]["serial"])
        assert len(serials) == 6
        renewed = loaded.leaf()
        assert renewed != first
        # The machine boots on: what it attests from now on is not what the policy pins.
        machine.extend(4, b"something else")
        status, answer = loaded.renew()
        assert (status, answer["error"]["code"]) == (3, str(Code.POLICY_MEASUREMENT))
        assert loaded.leaf() == renewed


def test_another_machine_is_refused(machine: Machine) -> None:
    machine.extend(0, b"other firmware")
    assert machine.refused(machine.write()) == str(Code.POLICY_MEASUREMENT)


def test_a_software_key_needs_both_switches_and_the_leaf_says_so(machine: Machine) -> None:
    danger = "[danger]\nsoftware_key = true\n"
    # The loader's alone: the policy refuses.
    assert machine.refused(machine.write("example-machine", danger)) == str(Code.POLICY_KEY_ORIGIN)
    with ExitStack() as stack:
        # The policy's alone: the key is in the TPM.
        loaded = machine.load(stack, machine.write("example-soft"))
        assert loaded.claims()["key_origin"] == "tpm"
    with ExitStack() as stack:
        loaded = machine.load(stack, machine.write("example-soft", danger))
        loaded.claims(status=3)  # a relying party has to name it too
        assert loaded.claims('key_origins = ["software"]\n')["key_origin"] == "software"
        loaded.leaf()
        assert "software_key" in (machine.directory / "load.log").read_text()


class Thief:
    """Whoever talks to the proxy with TPMs in hand; each step can be done with another one's parts."""

    def __init__(self, client: Client, issuers: tuple[bytes, ...]) -> None:
        self.client = client
        self.issuers = issuers

    def challenge(self, device: TpmDevice, ak_public: bytes | None = None) -> pb.GetChallengeResponse:
        request = pb.GetChallengeRequest(
            tee="tpm",
            ek_certificate=device.certificates[0],
            ak_public=device.ak_public if ak_public is None else ak_public,
            ek_issuers=self.issuers,
        )
        answer: pb.GetChallengeResponse = self.client.call("GetChallenge", request, pb.GetChallengeResponse)
        return answer

    def message(
        self,
        challenge: pb.GetChallengeResponse,
        nonce: bytes,
        key: ec.EllipticCurvePrivateKey,
        make: Callable[[bytes], bytes],
        certificate: bytes,
        *,
        origin: KeyOrigin = KeyOrigin.TPM,
        workload: str = "example-machine",
    ) -> pb.GetSignedCertificateRequest:
        """Build the call around evidence that `make` makes of the binder's digest."""
        runtime = RuntimeClaims(ApplicationKind.NONE, None, origin)
        request = encode_request(Request(workload, Tee.TPM, names_from((DNS,)), 3600, runtime))
        bound = bind(
            ca_id=challenge.ca_id,
            session_id=challenge.session_id,
            nonce=nonce,
            spki=spki_of(key.public_key()),
            request=request,
        )
        evidence = Evidence(Tee.TPM, make(bound.digest), (certificate, *self.issuers))
        csr = build_csr(key, encode_evidence(evidence))
        return pb.GetSignedCertificateRequest(session_token=challenge.session_token, request=request, csr=csr)

    def refused(self, message: pb.GetSignedCertificateRequest) -> Code:
        with pytest.raises(ProxyAttestationError) as refused:
            self.client.sign(message)
        return refused.value.code


@pytest.fixture
def thief(proxy: RunningProxy, manufacturer: Manufacturer) -> Iterator[Thief]:
    client = Client.connect(proxy.connect, proxy.root_pin)
    yield Thief(client, manufacturer.roots.issuers)
    client.close()


def resident(device: TpmDevice) -> ResidentKey:
    return ResidentKey(load_subject_key(device.make_key()), device.sign)


def test_the_steps_done_rightly_give_a_certificate(thief: Thief, tpm: Swtpm) -> None:
    with tpm.device() as device:
        challenge = thief.challenge(device)
        assert challenge.nonce == b""
        nonce, key = device.activate(challenge.credential_blob), resident(device)
        make = partial(device.attest, pcrs=PCRS)
        message = thief.message(challenge, nonce, key, make, device.certificates[0])
        assert len(thief.client.sign(message).chain) == 2


def test_a_cloned_ak_is_refused(thief: Thief, tpm: Swtpm, boot: Callable[[], Swtpm]) -> None:
    """What one TPM's AK shows to the world is worth nothing beside another TPM."""
    with tpm.device() as genuine, boot().device() as other:
        # Neither the thief's EK with the genuine AK, nor the genuine pair, is a credential that he can open.
        for challenge in (thief.challenge(other, genuine.ak_public), thief.challenge(genuine)):
            with pytest.raises(UnavailableError):
                other.activate(challenge.credential_blob)
        # A session of his own pair, for evidence of the genuine AK.
        challenge = thief.challenge(other)
        nonce, key = other.activate(challenge.credential_blob), resident(genuine)
        make = partial(genuine.attest, pcrs=PCRS)
        assert thief.refused(thief.message(challenge, nonce, key, make, other.certificates[0])) is Code.TPM_AK_NAME
        # A session of the genuine pair whose nonce he does not know.
        challenge = thief.challenge(genuine)
        wrong = thief.message(challenge, bytes(32), key, make, genuine.certificates[0])
        assert thief.refused(wrong) is Code.BINDER_MISMATCH


def test_a_software_key_posing_as_ak_is_refused(thief: Thief, tpm: Swtpm) -> None:
    software = SoftwareTpm()
    # The key that its evidence certifies.
    own = TpmMachine(TpmVendor.create(datetime.now(UTC))).key
    assert spki_of(own.public_key()) == software.spki
    with tpm.device() as device:
        # Its public area says restricted and fixedTPM, but no TPM has it: the secret stays closed.
        challenge = thief.challenge(device, software.ak_public)
        with pytest.raises(UnavailableError):
            device.activate(challenge.credential_blob)
        certificate = device.certificates[0]
        guess = thief.message(challenge, bytes(32), own, software.evidence, certificate)
        assert thief.refused(guess) is Code.BINDER_MISMATCH
        # Under the session of the TPM's own AK.
        challenge = thief.challenge(device)
        nonce = device.activate(challenge.credential_blob)
        posing = thief.message(challenge, nonce, own, software.evidence, certificate)
        assert thief.refused(posing) is Code.TPM_AK_NAME


def test_a_replayed_quote_is_refused(thief: Thief, tpm: Swtpm) -> None:
    """An old quote is genuine for ever; what it is bound to is the old challenge."""
    with tpm.device() as device:
        certificate, key = device.certificates[0], resident(device)
        make = partial(device.attest, pcrs=PCRS)
        challenge = thief.challenge(device)
        old: list[bytes] = []

        def kept(digest: bytes) -> bytes:
            old.append(make(digest))
            return old[0]

        thief.client.sign(thief.message(challenge, device.activate(challenge.credential_blob), key, kept, certificate))
        challenge = thief.challenge(device)
        nonce = device.activate(challenge.credential_blob)
        replayed = thief.message(challenge, nonce, key, lambda _: old[0], certificate)
        assert thief.refused(replayed) is Code.BINDER_MISMATCH


def test_a_software_key_that_is_said_to_be_the_tpms_is_refused(thief: Thief, tpm: Swtpm) -> None:
    with tpm.device() as device:
        challenge = thief.challenge(device)
        nonce, key = device.activate(challenge.credential_blob), ec.generate_private_key(ec.SECP256R1())
        make = partial(device.attest, pcrs=PCRS)  # no key was made, so none is certified
        certificate = device.certificates[0]
        assert thief.refused(thief.message(challenge, nonce, key, make, certificate)) is Code.TPM_SOFTWARE_KEY
