"""A secret sealed to a TPM: swtpm, through the TSS."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from key_checks import refused
from swtpm_marks import needs_swtpm

from proxy_attestation.authority import key_stores
from proxy_attestation.authority import state as layout
from proxy_attestation.authority.init import init_state
from proxy_attestation.codes import Code
from proxy_attestation.sealing.tpm import TpmSecret
from proxy_attestation_simulator.swtpm import Manufacturer, Swtpm, measure

SECRET = bytes(range(32))

pytestmark = needs_swtpm


@pytest.fixture(autouse=True)
def silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TSS2_LOG", "all+none")


@pytest.fixture(scope="module")
def manufacturer(tmp_path_factory: pytest.TempPathFactory) -> Manufacturer:
    return Manufacturer(tmp_path_factory.mktemp("tpm"))


@pytest.fixture
def tpm(manufacturer: Manufacturer) -> Iterator[Swtpm]:
    made = manufacturer.make()
    yield made
    made.stop()


def test_it_gives_back_what_it_sealed(tpm: Swtpm) -> None:
    blob = TpmSecret((0, 7), tpm.tcti).seal(SECRET)
    assert TpmSecret((0, 7), tpm.tcti).unseal(blob) == SECRET
    assert SECRET not in blob


def test_not_once_a_register_has_moved(tpm: Swtpm) -> None:
    secret = TpmSecret((0, 7), tpm.tcti)
    blob = secret.seal(SECRET)
    measure(tpm.tcti, 7, b"another boot")
    assert refused(lambda: secret.unseal(blob)) is Code.KEYS_SEALED


def test_a_register_that_was_not_chosen_does_not_count(tpm: Swtpm) -> None:
    secret = TpmSecret((0, 7), tpm.tcti)
    blob = secret.seal(SECRET)
    measure(tpm.tcti, 8, b"something else")
    assert secret.unseal(blob) == SECRET


def test_not_under_other_registers(tpm: Swtpm) -> None:
    blob = TpmSecret((0, 7), tpm.tcti).seal(SECRET)
    assert refused(lambda: TpmSecret((0,), tpm.tcti).unseal(blob)) is Code.KEYS_SEALED


def test_not_another_tpm(tpm: Swtpm, manufacturer: Manufacturer) -> None:
    other = manufacturer.make()
    try:
        blob = TpmSecret((0, 7), other.tcti).seal(SECRET)
    finally:
        other.stop()
    assert refused(lambda: TpmSecret((0, 7), tpm.tcti).unseal(blob)) is Code.KEYS_SEALED


@pytest.fixture
def chosen(tpm: Swtpm, monkeypatch: pytest.MonkeyPatch) -> Swtpm:
    """The TPM that authorities are sealed to."""
    monkeypatch.setenv(key_stores.TPM_TCTI_VARIABLE, tpm.tcti)
    return tpm


def test_an_authority_sealed_to_it(
    chosen: Swtpm, tmp_path: Path, policy_file: Path, vendor_root: bytes, clock: Any
) -> None:
    state = tmp_path / "state"
    init_state(
        state, trust_domain="example.org", dns=["example.org"], policy=policy_file,
        simulated_roots=[vendor_root], now=clock(), keys="tpm:0,7",
    )  # fmt: skip
    authority = layout.open_authority(state, clock)
    assert authority.info().key_origin == "tee"
    authority.ledger.close()

    measure(chosen.tcti, 7, b"another boot")
    assert refused(lambda: layout.open_authority(state, clock)) is Code.KEYS_SEALED
