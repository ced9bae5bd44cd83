import socket
from pathlib import Path
from typing import Final, cast

import pytest

from proxy_attestation.attester.gramine import GramineAttester
from proxy_attestation.attester.nsm import NsmAttester
from proxy_attestation.attester.select import Machine, select_attester
from proxy_attestation.attester.simulator import SimulatorAttester
from proxy_attestation.codes import Code
from proxy_attestation.errors import UnavailableError, UsageError
from proxy_attestation.formats.tee import Tee

NITRO: Final = Tee.NITRO
SNP: Final = cast(Tee, "snp")


@pytest.fixture
def bare(tmp_path: Path) -> Machine:
    """A machine without any TEE."""
    return Machine(tmp_path / "attestation", tmp_path / "report", tmp_path / "nsm", tmp_path / "tpmrm0")


@pytest.fixture
def gramine(bare: Machine) -> Machine:
    """Gramine's directory as far as selection looks at it."""
    bare.gramine.mkdir()
    (bare.gramine / "attestation_type").write_bytes(b"dcap")
    return bare


@pytest.fixture
def nitro(bare: Machine) -> Machine:
    bare.nsm.touch()
    return bare


def unavailable(spec: str | None, tee: Tee, machine: Machine) -> str:
    with pytest.raises(UnavailableError) as refused:
        select_attester(spec, tee, machine)
    assert refused.value.code is Code.ATTESTER_UNAVAILABLE
    return refused.value.detail


def test_gramine_is_found_where_its_files_are(gramine: Machine) -> None:
    for spec in (None, "gramine"):
        assert isinstance(select_attester(spec, Tee.SGX, gramine), GramineAttester)


def test_the_nitro_secure_module_is_found_where_its_device_is(nitro: Machine) -> None:
    for spec in (None, "nsm"):
        assert isinstance(select_attester(spec, NITRO, nitro), NsmAttester)


def test_configfs_is_found_where_its_directory_is(bare: Machine) -> None:
    # A plain directory makes requests without files: it is asked, and has no provider.
    bare.configfs_tsm.mkdir()
    for spec in (None, "configfs-tsm"):
        for tee in (Tee.TDX, SNP):
            assert "provider" in unavailable(spec, tee, bare)
    assert list(bare.configfs_tsm.iterdir()) == []


@pytest.mark.parametrize("spec", [None, "gramine", "configfs-tsm", "nsm"])
@pytest.mark.parametrize("tee", [Tee.SGX, Tee.TDX, SNP, NITRO], ids=str)
def test_nothing_stands_in_for_a_missing_tee(bare: Machine, spec: str | None, tee: Tee) -> None:
    unavailable(spec, tee, bare)


@pytest.mark.parametrize("spec", ["configfs-tsm", "nsm"])
def test_what_is_chosen_and_absent_is_not_replaced_by_what_is_there(gramine: Machine, spec: str) -> None:
    for tee in (Tee.SGX, Tee.TDX, NITRO):
        unavailable(spec, tee, gramine)


def test_of_several_the_one_is_taken_that_makes_what_is_asked_for(gramine: Machine) -> None:
    gramine.nsm.touch()
    gramine.tpm.touch()
    for spec in (None, "gramine"):
        assert isinstance(select_attester(spec, Tee.SGX, gramine), GramineAttester)
    for spec in (None, "nsm"):
        assert isinstance(select_attester(spec, NITRO, gramine), NsmAttester)
    # A TPM stands in for nothing else.
    unavailable(None, Tee.TDX, gramine)
    unavailable("tpm", Tee.SGX, gramine)
    unavailable("tpm:mssim", Tee.SGX, gramine)


def test_a_tpm_that_is_none_is_not_replaced_by_anything(gramine: Machine) -> None:
    unavailable(None, Tee.TPM, gramine)
    gramine.tpm.touch()
    for spec in (None, "tpm", f"tpm:device:{gramine.tpm}", "tpm:device:/nonexistent", "tpm:", "tpm:no such thing"):
        unavailable(spec, Tee.TPM, gramine)


def test_gramine_without_dcap_is_not_replaced_by_anything(gramine: Machine) -> None:
    (gramine.gramine / "attestation_type").write_bytes(b"none")
    unavailable(None, Tee.SGX, gramine)


@pytest.mark.parametrize("tee", [Tee.TDX, SNP, NITRO], ids=str)
def test_gramine_makes_sgx_quotes_only(gramine: Machine, tee: Tee) -> None:
    unavailable(None, tee, gramine)
    unavailable("gramine", tee, gramine)


@pytest.mark.parametrize("tee", [Tee.SGX, Tee.TDX, SNP], ids=str)
def test_the_module_makes_nitro_documents_only(nitro: Machine, tee: Tee) -> None:
    unavailable(None, tee, nitro)
    unavailable("nsm", tee, nitro)


@pytest.mark.parametrize("tee", list(Tee))
def test_the_simulator_is_used_where_it_is_named_and_only_there(gramine: Machine, tee: Tee) -> None:
    ours, theirs = socket.socketpair()
    attester = select_attester(f"simulator:{theirs.detach()}", tee, gramine)
    assert isinstance(attester, SimulatorAttester)
    assert attester.tee is tee
    attester.close()
    ours.close()


@pytest.mark.parametrize(
    "spec",
    ["", "simulator", "simulator:", "simulator:x", "simulator:-1", "simulator:\uff11", "simulator:99999999", "tpm2"],
)
def test_other_specs_are_refused(gramine: Machine, spec: str) -> None:
    with pytest.raises(UsageError):
        select_attester(spec, Tee.SGX, gramine)
