"""A vendor, a time, and the oracle that judges what the vendor's platforms make."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime

import dcap_qvl
import pytest

from proxy_attestation_simulator.documents import quote_collateral
from proxy_attestation_simulator.intel import Vendor

Judge = Callable[[bytes, Mapping[str, bytes]], str]


@pytest.fixture(scope="session")
def now() -> datetime:
    return datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.fixture(scope="session")
def vendor(now: datetime) -> Vendor:
    return Vendor.create(now, secret=bytes(range(32)))


@pytest.fixture(scope="session")
def judge(vendor: Vendor, now: datetime) -> Judge:
    """Return what dcap-qvl makes of a quote under the vendor's root: its status, or `refused: ` and its reason."""

    def verdict(quote: bytes, pieces: Mapping[str, bytes]) -> str:
        collateral = dcap_qvl.QuoteCollateralV3(**quote_collateral(pieces))
        try:
            report = dcap_qvl.verify_with_root_ca(quote, collateral, vendor.root_der, int(now.timestamp()))
        except ValueError as error:
            return f"refused: {error}"
        status: str = report.status
        return status

    return verdict
