"""Vendors' collateral that is not signed to a pinned root, or is older than what was used: it is worth nothing."""

from typing import Any

import pytest
from issuing import Issuing
from workload import Workload

from proxy_attestation.codes import Code
from proxy_attestation.errors import UnavailableError
from proxy_attestation_simulator.files import write_endorsements
from proxy_attestation_simulator.intel import Vendor
from proxy_attestation_simulator.recipes import NEWEST, components

UNSIGNED = (
    "tcb-info-signature", "tcb-info-signer", "qe-identity-signature", "qe-identity-signer", "crl-signature",
    "root-crl-signature", "tcb-signer-signature", "wrong-root",
)  # fmt: skip
OLDER = ("older-evaluation", "older-issue-date", "older-crl", "older-root-crl")


def replace_sets(proxy: Issuing, vendor: Vendor | None = None, **options: Any) -> None:
    """Whoever brings collateral brings another set; the one before is gone."""
    target = proxy.state / "endorsements" / "sgx"
    for file in sorted(target.rglob("*")):
        if file.is_file():
            file.unlink()
    write_endorsements((vendor or proxy.vendor).endorsements("sgx", proxy.now, **options), target)
    proxy.refresh()


def used(proxy: Issuing) -> int:
    (floor,) = [one.floor for one in proxy.issuer.hello().floors if str(one.tee) == "sgx"]
    return floor.evaluation_number


@pytest.mark.parametrize("fault", UNSIGNED)
def test_what_is_not_signed_to_a_pinned_root(proxy: Issuing, app: Workload, refusal: Any, fault: str) -> None:
    """It raises no floor and gives no verdict: nobody is locked out for longer than it lies there."""
    proxy.issue(app)
    before = proxy.issuer.hello().floors
    replace_sets(proxy, fault=fault)
    assert refusal(lambda: proxy.issue(app)).code is Code.ENDORSEMENTS_UNAVAILABLE
    assert proxy.issuer.hello().floors == before
    replace_sets(proxy)
    proxy.issue(app)


def test_another_vendor_of_the_same_name(proxy: Issuing, app: Workload, refusal: Any) -> None:
    stranger = Vendor.create(proxy.now, secret=b"another vendor: secret of 32 B..")
    replace_sets(proxy, stranger)
    assert refusal(lambda: proxy.issue(app)).code is Code.ENDORSEMENTS_UNAVAILABLE
    replace_sets(proxy)
    assert refusal(lambda: proxy.issue(Workload(stranger.platform("sgx")))).code is Code.SGX_ROOT


@pytest.mark.parametrize("fault", OLDER)
def test_what_is_older_than_what_was_used(proxy: Issuing, app: Workload, refusal: Any, fault: str) -> None:
    replace_sets(proxy, evaluation_number=40, crl_number=9)
    proxy.issue(app)
    replace_sets(proxy, evaluation_number=40, crl_number=9, fault=fault)
    assert refusal(lambda: proxy.issue(app)).code is Code.ENDORSEMENTS_UNAVAILABLE


def test_what_is_older_stays_refused_over_a_restart(proxy: Issuing, app: Workload, refusal: Any) -> None:
    """A TCB recovery cannot be taken back by whoever brings the collateral."""
    new = Workload(proxy.vendor.platform("sgx", svns=components(NEWEST + 1), seed=1))
    replace_sets(proxy, fault="tcb-recovery")
    assert used(proxy) > 0
    proxy.issue(new)
    assert refusal(lambda: proxy.issue(app)).code is Code.SGX_TCB_STATUS
    for _ in range(2):
        replace_sets(proxy)
        assert refusal(lambda: proxy.issue(app)).code is Code.ENDORSEMENTS_UNAVAILABLE
        proxy.close()
        proxy.open()


def test_vendors_may_be_away_as_long_as_collateral_lasts(proxy: Issuing, app: Workload, refusal: Any) -> None:
    proxy.issue(app)
    proxy.move(days=2)
    proxy.issuer.authority.maintain()
    proxy.refresh()
    proxy.issue(app)
    proxy.move(days=60)
    proxy.issuer.authority.maintain()
    proxy.refresh()
    error = refusal(lambda: proxy.issue(app))
    assert isinstance(error, UnavailableError)
    assert error.code is Code.ENDORSEMENTS_UNAVAILABLE
