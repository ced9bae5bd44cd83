"""What a leaf and its ledger entry say of the appraisal."""

from dataclasses import replace
from typing import Any

import pytest

from proxy_attestation.authority.leaf import body_measurements, code_measurements, tier, trust_vector
from proxy_attestation.formats.pins import PINS
from proxy_attestation.relying_party.expectation import MEASUREMENTS


def test_up_to_date_is_affirming(world: Any) -> None:
    vector = trust_vector(world.claims())
    assert vector == ((0, 2), (1, 2), (2, 3), (4, 2), (5, 2))
    assert tier(vector) == 2


@pytest.mark.parametrize("status", ["SWHardeningNeeded", "ConfigurationNeeded", "OutOfDate"])
def test_any_other_status_that_was_accepted_is_a_warning_on_the_hardware(world: Any, status: str) -> None:
    claims = world.claims()
    vector = trust_vector(replace(claims, tcb=replace(claims.tcb, status=status)))
    assert vector == ((0, 2), (1, 2), (2, 3), (4, 32), (5, 2))
    assert tier(vector) == 32


def test_debug_is_contraindicated(world: Any) -> None:
    vector = trust_vector(replace(world.claims(), debug=True))
    assert vector == ((0, 2), (1, 96), (2, 3), (4, 2), (5, 96))
    assert tier(vector) == 96


@pytest.mark.parametrize("kind", ["sgx", "tdx"])
def test_everything_that_can_be_pinned_is_in_the_leaf(world: Any, kind: str) -> None:
    claims = world.claims() if kind == "sgx" else world.td_claims()
    measurements = dict(body_measurements(claims))
    assert list(measurements) == sorted(measurements)
    assert MEASUREMENTS[claims.tee].keys() <= measurements.keys()
    in_fields_of_their_own = {"mr_signer", "isv_prod_id", "isv_svn"}
    assert {key.claim for key in PINS[claims.tee].values()} - in_fields_of_their_own <= measurements.keys()
    for name, value in measurements.items():
        found = getattr(claims.body, name)
        assert value == (found.to_bytes(2, "big") if name == "config_svn" else found)


def test_no_value_of_the_platform_is_in_the_leaf(world: Any) -> None:
    """CPUSVN and TEE_TCB_SVN tell machines apart; their judgement is the TCB status."""
    assert "cpu_svn" not in dict(body_measurements(world.claims()))
    assert not {"tee_tcb_svn", "tee_tcb_svn_2"} & dict(body_measurements(world.td_claims())).keys()


def test_a_tdx_1_0_body_has_no_service_td(world: Any) -> None:
    claims = world.td_claims()
    claims = replace(claims, body=replace(claims.body, mr_service_td=None, tee_tcb_svn_2=None))
    assert "mr_service_td" not in dict(body_measurements(claims))


def test_the_ledger_lists_the_code(world: Any) -> None:
    assert code_measurements(world.claims()) == (b"\xe1" * 32,)
    assert code_measurements(world.td_claims()) == (
        b"\xd1" * 48,
        bytes(48),
        b"\x01" * 48,
        b"\x02" * 48,
        b"\x03" * 48,
    )
