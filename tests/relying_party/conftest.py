"""The tests' authority, what to expect of its leaves, and servers that present them."""

import ssl
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fake_servers import Answer, CountingServer, FakeFront, Serve, StartFront
from mini_authority import APPLICATION, MR_ENCLAVE, TRUST_DOMAIN, WORKLOAD, Leaf, MiniAuthority

from proxy_attestation.formats.tee import Tee
from proxy_attestation.relying_party import AttestedContext, Expectation


@pytest.fixture
def now() -> datetime:
    """The time of the tests: now, in whole seconds, because OpenSSL knows no other."""
    return datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def authority(now: datetime) -> MiniAuthority:
    return MiniAuthority(now)


@pytest.fixture
def other_authority(now: datetime) -> MiniAuthority:
    """Another authority of the same names."""
    return MiniAuthority(now)


@pytest.fixture
def expectation() -> Expectation:
    """What every default leaf of `MiniAuthority` is."""
    return Expectation(
        trust_domain=TRUST_DOMAIN,
        workload=WORKLOAD,
        tee=Tee.SGX,
        measurements=(("mr_enclave", (MR_ENCLAVE,)),),
        application=(APPLICATION,),
    )


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Start servers that present a leaf."""
    servers: list[CountingServer] = []

    def start(leaf: Leaf, *, alpn: Sequence[str] = ()) -> CountingServer:
        server = CountingServer(leaf.server_context(tmp_path, alpn=alpn))
        servers.append(server)
        return server

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def context(authority: MiniAuthority, expectation: Expectation) -> AttestedContext:
    return AttestedContext(expectation, [authority.root_der])


@pytest.fixture
def front(tmp_path: Path) -> Iterator[StartFront]:
    """Start Connect fronts that present one leaf after the other, the last for ever."""
    fronts: list[FakeFront] = []

    def start(answer: Answer, *leaves: Leaf, version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3) -> FakeFront:
        contexts = [leaf.server_context(tmp_path) for leaf in leaves]
        for context in contexts:
            context.minimum_version = context.maximum_version = version
        fronts.append(FakeFront(contexts, answer))
        return fronts[-1]

    yield start
    for started in fronts:
        started.close()


@pytest.fixture
def root_file(authority: MiniAuthority, tmp_path: Path) -> Path:
    path = tmp_path / "root.pem"
    path.write_text(ssl.DER_cert_to_PEM_cert(authority.root_der))
    return path


@pytest.fixture
def expect_file(tmp_path: Path) -> Path:
    path = tmp_path / "expectation.toml"
    path.write_text(
        'trust_domain = "example.org"\nworkload = "example-app"\ntee = "sgx"\n'
        f'mr_enclave = ["{MR_ENCLAVE.hex()}"]\napplication_sha256 = ["{APPLICATION.hex()}"]\n'
    )
    return path


@pytest.fixture
def options(root_file: Path, expect_file: Path) -> tuple[str | Path, ...]:
    """What `verify` and `connect` are told of the default leaf."""
    return ("--root", root_file, "--expect", expect_file)
