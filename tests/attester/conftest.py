"""A simulated platform to make quotes with."""

from datetime import UTC, datetime

import pytest

from proxy_attestation_simulator.intel import Vendor
from proxy_attestation_simulator.platform import Platform


@pytest.fixture(scope="session")
def sgx_platform() -> Platform:
    return Vendor.create(datetime(2026, 11, 24, 12, tzinfo=UTC)).platform("sgx")
