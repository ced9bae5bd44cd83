"""A real proxy over real sockets, and a workload that can do every step right or wrong."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from workload import Client, Workload

from proxy_attestation_simulator.harness import RunningProxy, running_proxy


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningProxy]:
    # Tests hurry: no budget of theirs may be what refuses them.
    limits = ("--peer-rate", "10000", "--in-flight", "1000")
    with running_proxy(tmp_path_factory.mktemp("proxy"), workers=2, arguments=limits) as running:
        yield running


@pytest.fixture
def client(proxy: RunningProxy) -> Iterator[Client]:
    connected = Client.connect(proxy.connect, proxy.root_pin)
    yield connected
    connected.close()


@pytest.fixture
def workload(proxy: RunningProxy) -> Workload:
    return Workload(proxy.vendor.platform("sgx"))


@pytest.fixture
def log_texts(proxy: RunningProxy) -> Path:
    return proxy.log
