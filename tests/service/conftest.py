"""A core over a fake authority, with real simulated quotes and the real appraisal."""

import asyncio
import contextlib
import functools
import hashlib
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias, cast

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from ledgers import signing

from proxy_attestation.appraisal.endorsements import DcapEndorsements, Floor, SnpEndorsements
from proxy_attestation.appraisal.kinds import Appraiser, Endorsements, verify_endorsements
from proxy_attestation.appraisal.roots import same_for_all
from proxy_attestation.authority.ledger import Ledger
from proxy_attestation.authority.messages import AuthorityInfo, Issued, IssueOrder, Proven, TokenKey
from proxy_attestation.errors import ProxyAttestationError
from proxy_attestation.formats import binder
from proxy_attestation.formats.csr import build_csr, spki_of
from proxy_attestation.formats.ear import AFFIRMING, LeafClaims, encode_claims_set
from proxy_attestation.formats.evidence import Evidence, encode_evidence
from proxy_attestation.formats.request import (
    ApplicationKind,
    KeyOrigin,
    Names,
    Request,
    RuntimeClaims,
    encode_request,
    names_from,
)
from proxy_attestation.formats.tee import Tee
from proxy_attestation.service.calls import Calls
from proxy_attestation.service.config import Address
from proxy_attestation.service.connect_front import ConnectFront
from proxy_attestation.service.core import Core, Serving
from proxy_attestation.service.grpc_front import GrpcFront
from proxy_attestation.service.limits import Admission, Bounds
from proxy_attestation.service.metrics import Metrics
from proxy_attestation.service.published import LedgerFiles, PublishedLedger
from proxy_attestation.service.worker import http_server
from proxy_attestation.v1 import proxy_attestation_pb2 as pb
from proxy_attestation_simulator.amd import AmdPlatform, AmdVendor
from proxy_attestation_simulator.aws import Aws, Enclave
from proxy_attestation_simulator.harness import RunningProxy, running_proxy
from proxy_attestation_simulator.intel import Vendor
from proxy_attestation_simulator.platform import Platform
from proxy_attestation_simulator.tpm import TpmVendor
from proxy_attestation_simulator.tpm_machine import TpmMachine

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
Machine: TypeAlias = Platform | AmdPlatform | Enclave | TpmMachine
TPM_VENDOR = TpmVendor.create(NOW)


@dataclass
class Clock:
    """A clock that stands still until it is moved."""

    now: datetime = NOW

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


def self_signed() -> bytes:
    """Return a certificate that only has to be one."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test root")])
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, NOW, NOW + timedelta(days=365))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


@dataclass
class FakeAuthority:
    """Issues whatever it is asked for, or raises `error`; keeps the orders."""

    info: AuthorityInfo
    clock: Clock
    orders: list[IssueOrder] = field(default_factory=list)
    error: Exception | None = None
    before_issue: Callable[[], object] | None = None
    floors: dict[tuple[Tee, bytes], Floor] = field(default_factory=dict)

    async def hello(self) -> AuthorityInfo:
        return self.info

    async def denied(self) -> bytes:
        return b"denied"

    async def issue(self, order: IssueOrder) -> Issued:
        self.orders.append(order)
        if self.before_issue is not None:
            waiting = self.before_issue()
            if hasattr(waiting, "__await__"):
                await waiting
        if self.error is not None:
            raise self.error
        start = int(NOW.timestamp())
        return Issued(
            chain=(b"leaf", self.info.issuing[0]),
            index=41,
            not_before=start,
            not_after=start + 3600,
            claims_set=encode_claims_set(leaf_claims(order, start)),
            generation=self.info.generation,
        )

    async def raise_floor(self, endorsements: Endorsements) -> Floor:
        if isinstance(self.error, ProxyAttestationError):
            raise self.error
        found = verify_endorsements(endorsements, same_for_all(self.info.anchors), self.clock.now)
        self.floors[found.tee, found.platform] = found.floor
        return found.floor

    async def evidence(self, nonce: bytes) -> Proven:
        if isinstance(self.error, ProxyAttestationError):
            raise self.error
        return Proven(replace(self.info, generation=self.info.generation + 1), b"evidence over " + nonce)


def leaf_claims(order: IssueOrder, start: int) -> LeafClaims:
    claims = order.claims
    return LeafClaims(
        issued_at=start,
        expires_at=start + 3600,
        nonce=bytes(32),
        build="test",
        tee=claims.tee,
        status=AFFIRMING,
        vector=((0, 2),),
        policy_digest=order.policy_digest,
        spki=order.spki,
        anchor=claims.anchor,
        key_origin=KeyOrigin.TEE,
        measurements=(("mr_enclave", b"\x07" * 32),),
        signer=None,
        product_id=None,
        svn=3,
        debug=False,
        tcb_status=None if claims.tcb is None else claims.tcb.status,
        tcb_date=None if claims.tcb is None else start,
        tcb_evaluation_number=None if claims.tcb is None else claims.tcb.evaluation_number,
        advisories=("INTEL-SA-00615",),
        application_sha256=None,
        owner="shared",
        evidence_sha256=claims.evidence_sha256,
        ledger_origin="example.org/ledger",
        simulated=True,
    )


@dataclass(frozen=True)
class Attempt:
    """One issuance as a loader prepares it; `replace` makes exactly one thing wrong."""

    session: pb.GetChallengeResponse
    platform: Machine
    tee: Tee = Tee.SGX
    request_tee: Tee | None = None
    names: Names = field(default_factory=lambda: names_from(dns=("app.example.org",)))
    key: ec.EllipticCurvePrivateKey = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    event_log: bytes | None = None
    report_data: Callable[[bytes], bytes] = lambda data: data
    quote_options: dict[str, object] = field(default_factory=dict)
    workload: str = "example-app"

    @property
    def request(self) -> bytes:
        origin = KeyOrigin.TPM if isinstance(self.platform, TpmMachine) else KeyOrigin.TEE
        runtime = RuntimeClaims(ApplicationKind.NONE, None, origin)
        return encode_request(Request(self.workload, self.request_tee or self.tee, self.names, 3600, runtime))

    @property
    def binding(self) -> binder.Binding:
        return binder.bind(
            ca_id=self.session.ca_id,
            session_id=self.session.session_id,
            nonce=self.session.nonce,
            spki=spki_of(self.key.public_key()),
            request=self.request,
        )

    @property
    def binder(self) -> bytes:
        return self.binding.report_data

    @property
    def quote(self) -> bytes:
        return self.attested()[0]

    def attested(self) -> tuple[bytes, tuple[bytes, ...]]:
        """Return evidence over the report data, and the certificates that come with it."""
        binding, options = self.binding, cast("dict[str, Any]", self.quote_options)
        if isinstance(self.platform, TpmMachine):
            changed = replace(self.platform, recipe=replace(self.platform.recipe, **options))
            tpm = changed.attest(self.report_data(binding.digest))
            return tpm.evidence, tpm.certificates
        data = self.report_data(binding.report_data)
        if isinstance(self.platform, Enclave):
            slots: dict[str, Any] = {"nonce": self.session.nonce, "public_key": spki_of(self.key.public_key())}
            return self.platform.document(user_data=data, now=NOW, **slots, **options), ()
        if isinstance(self.platform, AmdPlatform):
            made = self.platform.evidence(data, now=NOW, **options)
            return made.report, made.certificates
        return self.platform.quote(data, **options), ()

    @property
    def record(self) -> bytes:
        log = hashlib.sha256(self.event_log).digest() if self.event_log is not None else None
        return encode_evidence(Evidence(self.tee, *self.attested(), log))

    def message(self) -> pb.GetSignedCertificateRequest:
        message = pb.GetSignedCertificateRequest(
            session_token=self.session.session_token,
            request=self.request,
            csr=build_csr(self.key, self.record),
        )
        if self.event_log is not None:
            message.parts.add(name="event_log", content=self.event_log)
        return message


@pytest.fixture(scope="session")
def vendor() -> Vendor:
    return Vendor.create(NOW, secret=b"service tests: a secret of 32 B.")


@pytest.fixture(scope="session")
def machines(vendor: Vendor) -> Mapping[Tee, Machine]:
    """Return a machine of each kind."""
    amd, aws = AmdVendor.fixed(NOW), Aws.create(NOW, secret=bytes(32))
    return {
        Tee.SGX: vendor.platform("sgx"),
        Tee.TDX: vendor.platform("tdx"),
        Tee.SNP: amd.platform("Milan"),
        Tee.NITRO: aws.enclave(),
        Tee.TPM: TpmMachine(TPM_VENDOR),
    }


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def info(vendor: Vendor) -> AuthorityInfo:
    root = self_signed()
    return AuthorityInfo(
        generation=1,
        trust_domain="example.org",
        simulated=True,
        key_origin="file",
        anchors=(vendor.root_pin,),
        tpm_roots=(TPM_VENDOR.pin,),
        token_keys=(TokenKey(b"\0\0\0\1", b"k" * 32, int(NOW.timestamp()) + 86_400),),
        ca_id=b"\x0c" * 32,
        bundle_sequence=1,
        cross=(),
        deny_sequence=1,
        roots=(root,),
        issuing=(root,),
        policy_digest=b"\x0d" * 32,
        dangers=("first_use",),
        floors=(),
    )


@pytest.fixture
def authority(info: AuthorityInfo, clock: Clock) -> FakeAuthority:
    return FakeAuthority(info, clock)


@pytest.fixture(scope="session")
def appraiser(vendor: Vendor, machines: Mapping[Tee, Machine]) -> Callable[[], Appraiser]:
    guest, enclave = machines[Tee.SNP], machines[Tee.NITRO]
    assert isinstance(guest, AmdPlatform)
    assert isinstance(enclave, Enclave)
    vendors = same_for_all({vendor.root_pin, guest.vendor.ark_pin("Milan"), enclave.vendor.root_pin})
    roots = replace(vendors, tpm=frozenset({TPM_VENDOR.pin}))
    made = guest.evidence(bytes(64), now=NOW)
    given: list[Endorsements] = [DcapEndorsements(**vendor.endorsements(tee, NOW)) for tee in ("sgx", "tdx")]
    given.append(SnpEndorsements(made.certificates[1:], made.crls))
    sets = [verify_endorsements(one, roots, NOW) for one in given]
    return lambda: Appraiser(roots, {(one.tee, one.platform): one for one in sets})


@pytest.fixture
def core(authority: FakeAuthority, clock: Clock, info: AuthorityInfo, appraiser: Callable[[], Appraiser]) -> Core:
    core = Core(authority, clock)
    core.serving = Serving(info, appraiser())
    return core


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[Ledger]:
    """A ledger without entries, as its authority has it open."""
    path = tmp_path / "ledger.sqlite"
    path.touch(0o600)
    with closing(signing(Ledger.create(path))) as ledger:
        yield ledger


@pytest.fixture
def reader(writer: Ledger, tmp_path: Path) -> Iterator[PublishedLedger]:
    """What reads it."""
    del writer
    with closing(PublishedLedger(tmp_path / "ledger.sqlite")) as ledger:
        yield ledger


@pytest.fixture
def files(reader: PublishedLedger, core: Core) -> LedgerFiles:
    """What serves it."""
    core.ledger = LedgerFiles(reader, lambda: 0.0)
    return core.ledger


@pytest.fixture
def calls(core: Core) -> Calls:
    return Calls(core, Admission(Bounds(), lambda: 0.0), Metrics())


@pytest.fixture
def attempt(core: Core, machines: Mapping[Tee, Machine]) -> Callable[..., "Attempt"]:
    """Return what asks for a challenge and prepares an attempt under it."""

    def prepare(tee: Tee = Tee.SGX, **changes: object) -> Attempt:
        asked, machine = pb.GetChallengeRequest(tee=str(tee)), machines[tee]
        if not isinstance(machine, TpmMachine):
            session = asyncio.run(core.get_challenge(asked))
            return replace(Attempt(session, machine, tee), **changes)  # type: ignore[arg-type] # by name
        asked.ek_certificate, *issuers = machine.certificates
        asked.ek_issuers.extend(issuers)
        asked.ak_public = machine.ak_public
        session = asyncio.run(core.get_challenge(asked))
        # As if the nonce had come in clear: what the machine found in the credential.
        session.nonce = machine.activate(session.credential_blob) or b""
        return replace(Attempt(session, machine, tee, key=machine.key), **changes)  # type: ignore[arg-type] # by name

    return prepare


@pytest.fixture
def named_csr() -> Callable[[ec.EllipticCurvePrivateKey, list[str]], bytes]:
    """Return what makes a CSR that asks for DNS names and carries no evidence."""

    def make(key: ec.EllipticCurvePrivateKey, dns: list[str]) -> bytes:
        names = x509.SubjectAlternativeName([x509.DNSName(name) for name in dns])
        builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
        return builder.add_extension(names, critical=False).sign(key, hashes.SHA256()).public_bytes(Encoding.DER)

    return make


@dataclass(frozen=True)
class Servers:
    """Both fronts over real sockets, in this process."""

    grpc: str
    connect: str
    certificate: Path
    stop: Callable[[], object]


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return the paths of a key and a self-signed certificate for 127.0.0.1."""
    directory = tmp_path_factory.mktemp("tls")
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "127.0.0.1")])
    start = datetime.now(UTC) - timedelta(days=1)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 1, start, start + timedelta(days=3))
    names = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    certificate = builder.add_extension(names, critical=False).sign(key, hashes.SHA256())
    (directory / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    (directory / "cert.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
    return directory / "key.pem", directory / "cert.pem"


@pytest.fixture
def servers(calls: Calls, tls: tuple[Path, Path]) -> Iterator[Servers]:
    """Start both fronts in a thread of their own."""
    key, certificate = tls
    started: Future[Servers] = Future()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        grpc_front = GrpcFront(calls, Bounds(), "127.0.0.1:0", key.read_bytes(), certificate.read_bytes())
        with socket.socket() as placeholder:
            placeholder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            placeholder.bind(("127.0.0.1", 0))
            address = Address("127.0.0.1", placeholder.getsockname()[1])
            front = ConnectFront(calls)
            server = http_server(front, address, key, certificate)
            await grpc_front.start()
            serving = asyncio.ensure_future(server.serve())
            await front.listening.wait()
            ask_to_stop = functools.partial(loop.call_soon_threadsafe, stop.set)
            started.set_result(Servers(f"127.0.0.1:{grpc_front.port}", f"https://{address}", certificate, ask_to_stop))
            await stop.wait()
            server.stop()  # type: ignore[no-untyped-call] # granian has no annotation here
            await asyncio.gather(grpc_front.stop(5), serving)

    def main() -> None:
        try:
            loop.run_until_complete(serve())
        except BaseException as error:  # noqa: BLE001 - told to the test that waits
            started.set_exception(error)
        finally:
            loop.close()

    thread = threading.Thread(target=main)
    thread.start()
    servers = started.result(timeout=30)
    try:
        yield servers
    finally:
        with contextlib.suppress(RuntimeError):  # the loop has ended where a test stopped it
            servers.stop()
        thread.join(timeout=30)


class Caller:
    """Calls a running proxy's Connect front as a loader would, over HTTP/1.1, a new connection each time."""

    def __init__(self, proxy: RunningProxy) -> None:
        self.proxy = proxy
        self.context = ssl.create_default_context(cafile=str(proxy.root_pem))

    def post(self, method: str, message: Any) -> httpx.Response:
        with httpx.Client(verify=self.context, timeout=30) as http:
            return http.post(
                f"https://{self.proxy.connect}/proxy_attestation.v1.ProxyAttestation/{method}",
                content=message.SerializeToString(),
                headers={"content-type": "application/proto"},
            )

    def get(self, path: str) -> httpx.Response:
        with httpx.Client(verify=self.context, timeout=30) as http:
            return http.get(f"https://{self.proxy.connect}{path}")

    def attempt(self, tee: Tee = Tee.SGX, **changes: Any) -> Attempt:
        answer = self.post("GetChallenge", pb.GetChallengeRequest(tee=str(tee)))
        assert answer.status_code == 200, answer.text
        session = pb.GetChallengeResponse.FromString(answer.content)
        values = {"names": names_from(), "tee": tee, **changes}
        return Attempt(session, self.proxy.vendor.platform(str(tee)), **values)

    def sign(self, message: pb.GetSignedCertificateRequest) -> pb.GetSignedCertificateResponse:
        answer = self.post("GetSignedCertificate", message)
        assert answer.status_code == 200, answer.text
        return pb.GetSignedCertificateResponse.FromString(answer.content)

    def refusal(self, message: pb.GetSignedCertificateRequest) -> str:
        answer = self.post("GetSignedCertificate", message)
        assert answer.status_code != 200
        reason = answer.json()["details"][0]["debug"]["reason"]
        assert isinstance(reason, str)
        return reason

    def code(self, method: str, message: Any) -> str:
        """Return `ok`, or the code of what was answered, or `unreachable`."""
        try:
            answer = self.post(method, message)
        except (httpx.TransportError, ssl.SSLError):
            return "unreachable"
        return "ok" if answer.status_code == 200 else str(answer.json()["details"][0]["debug"]["reason"])

    def until(self, condition: Callable[[], bool], seconds: float = 60) -> None:
        """Ask again and again until something has happened."""
        deadline = time.monotonic() + seconds
        while not condition():
            assert time.monotonic() < deadline, "it did not happen in time"

    def until_signed(self, message: pb.GetSignedCertificateRequest) -> pb.GetSignedCertificateResponse:
        """Repeat one call as a loader does, while nothing but unavailability is answered."""
        signed: list[pb.GetSignedCertificateResponse] = []

        def tried() -> bool:
            try:
                answer = self.post("GetSignedCertificate", message)
            except (httpx.TransportError, ssl.SSLError):
                return False
            if answer.status_code == 503:
                return False
            assert answer.status_code == 200, answer.text
            signed.append(pb.GetSignedCertificateResponse.FromString(answer.content))
            return True

        self.until(tried)
        return signed[0]


@pytest.fixture(scope="session")
def caller() -> Callable[[RunningProxy], Caller]:
    """Return what makes a caller of a proxy."""
    return Caller


@pytest.fixture(scope="session")
def shared_proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningProxy]:
    """Return one proxy with two workers for all tests that leave it as they found it."""
    with running_proxy(tmp_path_factory.mktemp("proxy"), workers=2) as proxy:
        yield proxy
