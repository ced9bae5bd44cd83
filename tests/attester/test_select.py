import socket
from pathlib import Path

import pytest

from proxy_attestation.attester.gramine import GramineAttester
from proxy_attestation.attester.select import select_attester
from proxy_attestation.attester.simulator import SimulatorAttester
from proxy_attestation.codes import Code
from proxy_attestation.errors import UnavailableError, UsageError
from proxy_attestation.formats.tee import Tee


@pytest.fixture
def device(tmp_path: Path) -> Path:
    """Gramine's directory as far as selection looks at it."""
    directory = tmp_path / "attestation"
    directory.mkdir()
    (directory / "attestation_type").write_bytes(b"dcap")
    return directory


def test_gramine_is_found_where_its_files_are(device: Path) -> None:
    assert isinstance(select_attester(None, Tee.SGX, device), GramineAttester)
    assert isinstance(select_attester("gramine", Tee.SGX, device), GramineAttester)


def test_nothing_stands_in_for_a_missing_tee(tmp_path: Path) -> None:
    for spec in (None, "gramine"):
        with pytest.raises(UnavailableError) as refused:
            select_attester(spec, Tee.SGX, tmp_path / "absent")
        assert refused.value.code is Code.ATTESTER_UNAVAILABLE


def test_gramine_without_dcap_is_not_replaced_by_anything(device: Path) -> None:
    (device / "attestation_type").write_bytes(b"none")
    with pytest.raises(UnavailableError) as refused:
        select_attester(None, Tee.SGX, device)
    assert refused.value.code is Code.ATTESTER_UNAVAILABLE


def test_gramine_makes_no_tdx_quotes(device: Path) -> None:
    with pytest.raises(UnavailableError) as refused:
        select_attester(None, Tee.TDX, device)
    assert refused.value.code is Code.ATTESTER_UNAVAILABLE


@pytest.mark.parametrize("tee", list(Tee))
def test_the_simulator_is_used_where_it_is_named_and_only_there(device: Path, tee: Tee) -> None:
    ours, theirs = socket.socketpair()
    attester = select_attester(f"simulator:{theirs.detach()}", tee, device)
    assert isinstance(attester, SimulatorAttester)
    assert attester.tee is tee
    attester.close()
    ours.close()


@pytest.mark.parametrize(
    "spec",
    ["", "simulator", "simulator:", "simulator:x", "simulator:-1", "simulator:\uff11", "simulator:99999999", "nsm"],
)
def test_other_specs_are_refused(device: Path, spec: str) -> None:
    with pytest.raises(UsageError):
        select_attester(spec, Tee.SGX, device)
