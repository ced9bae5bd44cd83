"""Collateral that changes while the proxy runs: newer is used at once, older never again, not even after a restart."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from workload import Client, Workload, new_key, request_for

from proxy_attestation.codes import Code
from proxy_attestation.errors import ProxyAttestationError
from proxy_attestation_simulator.harness import RunningProxy, running_proxy

pytestmark = pytest.mark.e2e

TRIES = 400


@pytest.fixture
def own_proxy(tmp_path: Path) -> Iterator[RunningProxy]:
    with running_proxy(tmp_path, arguments=("--peer-rate", "10000")) as proxy:
        yield proxy


def outcome(client: Client, workload: Workload) -> Code | None:
    """Ask for one certificate; return the code of the refusal, or None."""
    try:
        client.sign(workload.message(client.challenge(), request_for(), new_key()))
    except ProxyAttestationError as error:
        return error.code
    return None


def verdict_once_it_changes(client: Client, workload: Workload) -> Code:
    """Ask until there is a refusal: the worker takes new collateral between two of our calls.

    A call that falls between the raised floor and the new collateral is unavailable, which is no verdict.
    """
    for _ in range(TRIES):
        found = outcome(client, workload)
        if found not in (None, Code.ENDORSEMENTS_UNAVAILABLE):
            return found
    raise AssertionError(f"no refusal in {TRIES} tries")


def test_a_tcb_recovery_during_the_run_stops_the_next_renewal(own_proxy: RunningProxy) -> None:
    client = Client.connect(own_proxy.connect, own_proxy.root_pin)
    workload = Workload(own_proxy.vendor.platform("sgx"))
    assert outcome(client, workload) is None
    own_proxy.write_endorsements("sgx", fault="tcb-recovery")
    own_proxy.reload()
    assert verdict_once_it_changes(client, workload) is Code.SGX_TCB_STATUS
    client.close()


def test_older_collateral_is_never_used_again(own_proxy: RunningProxy) -> None:
    client = Client.connect(own_proxy.connect, own_proxy.root_pin)
    workload = Workload(own_proxy.vendor.platform("sgx"))
    own_proxy.write_endorsements("sgx", fault="tcb-recovery")
    own_proxy.reload()
    assert verdict_once_it_changes(client, workload) is Code.SGX_TCB_STATUS
    client.close()
    own_proxy.write_endorsements("sgx", evaluation_number=17)
    own_proxy.restart()
    client = Client.connect(own_proxy.connect, own_proxy.root_pin)
    assert outcome(client, workload) is Code.ENDORSEMENTS_UNAVAILABLE
    client.close()


def test_expired_collateral_is_no_verdict(tmp_path: Path) -> None:
    with running_proxy(tmp_path, tees=("tdx",)) as proxy:
        old = datetime.now(UTC) - timedelta(days=2)
        proxy.write_endorsements("sgx", issue_date=old, next_update=old + timedelta(days=1))
        proxy.restart()
        client = Client.connect(proxy.connect, proxy.root_pin)
        assert outcome(client, Workload(proxy.vendor.platform("sgx"))) is Code.ENDORSEMENTS_UNAVAILABLE
        client.close()
