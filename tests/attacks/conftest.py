"""A proxy in this process, STATE on disk, with two workloads of one kind that are told apart by measurement alone."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from issuing import Issuing, issuing
from two_workloads import MR_OTHER, NOW, Measured, policy_of
from workload import Workload

from proxy_attestation.errors import ProxyAttestationError


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Issuing]:
    with issuing(tmp_path, NOW) as made:
        made.apply(policy_of(made.vendor, version=2))
        yield made


@pytest.fixture
def app(proxy: Issuing) -> Workload:
    """What the entry `example-app` measures."""
    return Workload(proxy.vendor.platform("sgx"))


@pytest.fixture
def other(proxy: Issuing) -> Workload:
    """What the entry `other-app` measures, on the same machine."""
    return Workload(Measured(proxy.vendor.platform("sgx"), MR_OTHER))  # type: ignore[arg-type] # it quotes as one


@pytest.fixture
def refusal() -> Callable[[Callable[[], object]], ProxyAttestationError]:
    """Return what a call is refused with."""

    def call(act: Callable[[], object]) -> ProxyAttestationError:
        with pytest.raises(ProxyAttestationError) as caught:
            act()
        return caught.value

    return call
