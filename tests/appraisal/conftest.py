"""A simulated vendor, whose quotes and collateral are judged under its own root."""

from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from proxy_attestation.appraisal.endorsements import DcapEndorsements
from proxy_attestation.appraisal.roots import Roots
from proxy_attestation.appraisal.snp_chain import ArkPins
from proxy_attestation.formats.snp_report import Product
from proxy_attestation_simulator.amd import AmdVendor
from proxy_attestation_simulator.intel import Vendor


@pytest.fixture(scope="session")
def now() -> datetime:
    return datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.fixture(scope="session")
def vendor(now: datetime) -> Vendor:
    return Vendor.create(now, secret=bytes(range(32)))


@pytest.fixture(scope="session")
def roots(vendor: Vendor) -> Roots:
    return Roots(frozenset({vendor.root_pin}))


@pytest.fixture(scope="session")
def endorsements(vendor: Vendor) -> Callable[..., DcapEndorsements]:
    """Make collateral: the arguments are those of `Vendor.endorsements`."""

    def make(tee: str = "sgx", **options: object) -> DcapEndorsements:
        return DcapEndorsements(**vendor.endorsements(tee, **options))  # type: ignore[arg-type]  # passed on as they are

    return make


@pytest.fixture(scope="session")
def amd(now: datetime) -> AmdVendor:
    return AmdVendor.fixed(now)


@pytest.fixture(scope="session")
def ark_pins(amd: AmdVendor) -> ArkPins:
    return {product: frozenset({amd.ark_pin(product)}) for product in Product}
