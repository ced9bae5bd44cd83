"""A floor rises only to a set of collateral that the authority has verified itself."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from proxy_attestation.appraisal.endorsements import DcapEndorsements, Floor
from proxy_attestation.appraisal.kinds import verify_endorsements
from proxy_attestation.authority import issue as module
from proxy_attestation.authority.issue import Issuer
from proxy_attestation.codes import Code
from proxy_attestation.errors import UnavailableError
from proxy_attestation.formats.tee import Tee

FMSPC = bytes.fromhex("00606a000000")
Collateral = Callable[..., DcapEndorsements]


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[DcapEndorsements]:
    """The sets that were verified, whether they were good or not."""
    sets: list[DcapEndorsements] = []

    def counted(endorsements: DcapEndorsements, *arguments: Any) -> Any:
        sets.append(endorsements)
        return verify_endorsements(endorsements, *arguments)

    monkeypatch.setattr(module, "verify_endorsements", counted)
    return sets


def refused(issuer: Issuer, endorsements: DcapEndorsements, code: Code = Code.ENDORSEMENTS_UNAVAILABLE) -> None:
    before = issuer.hello()
    with pytest.raises(UnavailableError) as caught:
        issuer.raise_floor(endorsements)
    assert caught.value.code is code
    assert issuer.hello() == before


@pytest.mark.parametrize("tee", [Tee.SGX, Tee.TDX])
def test_the_numbers_are_the_documents_own(issuer: Issuer, collateral: Collateral, clock: Any, tee: Tee) -> None:
    floor = issuer.raise_floor(collateral(str(tee)))
    assert floor == Floor(19, int(clock().timestamp()) - 3600, 9, 9)
    assert issuer.authority.floors[tee, FMSPC] == floor
    assert issuer.authority.ledger.floors()[tee, FMSPC] == floor


@pytest.mark.parametrize(
    "fault",
    ["tcb-info-signature", "qe-identity-signature", "expired-crl", "tcb-info-not-yet-valid", "tcb-signer-signature"],
)
def test_a_set_that_does_not_verify_raises_nothing(issuer: Issuer, collateral: Collateral, fault: str) -> None:
    refused(issuer, collateral(fault=fault))


@pytest.mark.parametrize("piece", ["tcb_info", "qe_identity", "pck_crl", "root_ca_crl", "tcb_info_issuer_chain"])
def test_a_set_with_one_changed_piece_raises_nothing(issuer: Issuer, collateral: Collateral, piece: str) -> None:
    good = collateral()
    data = bytearray(getattr(good, piece))
    data[len(data) // 2] ^= 1
    refused(issuer, replace(good, **{piece: bytes(data)}))


def test_another_vendor_s_set_raises_nothing(issuer: Issuer, vendor: Any, clock: Any) -> None:
    refused(issuer, DcapEndorsements(**vendor.stranger.endorsements("sgx", clock(), evaluation_number=1 << 31)))


@pytest.mark.parametrize("days", [-2, 400])
def test_the_authority_s_own_clock_counts(issuer: Issuer, collateral: Collateral, clock: Any, days: int) -> None:
    good = collateral()
    clock.move(days=days)
    if days < 0:  # before all that the ledger has seen
        with pytest.raises(UnavailableError) as caught:
            issuer.raise_floor(good)
        assert caught.value.code is Code.AUTHORITY_CLOCK
    else:
        refused(issuer, good)


def test_a_set_below_the_floor_is_refused(issuer: Issuer, collateral: Collateral) -> None:
    refused(issuer, collateral(evaluation_number=17))
    refused(issuer, collateral(crl_number=6))


def test_a_set_is_verified_once(
    issuer: Issuer, collateral: Collateral, verified: list[DcapEndorsements], clock: Any
) -> None:
    first, other = collateral(), collateral("tdx")
    assert issuer.raise_floor(first) == issuer.raise_floor(first)
    issuer.raise_floor(other)
    issuer.raise_floor(first)
    assert verified == [first, other]
    clock.move(days=1)
    newer = collateral(evaluation_number=20)
    issuer.raise_floor(newer)
    refused(issuer, first)
    assert verified == [first, other, newer]


def test_a_set_that_failed_is_verified_again(
    issuer: Issuer, collateral: Collateral, verified: list[DcapEndorsements]
) -> None:
    bad = collateral(fault="expired-crl")
    refused(issuer, bad)
    refused(issuer, bad)
    assert verified == [bad, bad]


def test_what_is_remembered_is_bounded(
    issuer: Issuer, collateral: Collateral, verified: list[DcapEndorsements], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FLOORS_MAX", 2)
    sets = [collateral(evaluation_number=number) for number in (19, 20, 21)]
    for endorsements in sets:
        issuer.raise_floor(endorsements)
    refused(issuer, sets[1])
    assert verified == sets
    refused(issuer, sets[0])
    assert verified == [*sets, sets[0]]
    assert len(issuer._verified) == 2
