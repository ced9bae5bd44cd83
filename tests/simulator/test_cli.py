"""The commands beside `run`, in process."""

import json
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from proxy_attestation_simulator.amd_faults import SNP_FAULTS
from proxy_attestation_simulator.aws_faults import NITRO_FAULTS
from proxy_attestation_simulator.cli import group
from proxy_attestation_simulator.collateral_faults import COLLATERAL_FAULTS
from proxy_attestation_simulator.documents import split_document
from proxy_attestation_simulator.errors import SimulatorError
from proxy_attestation_simulator.files import FILE_NAMES
from proxy_attestation_simulator.intel import Vendor
from proxy_attestation_simulator.measure import measure_command
from proxy_attestation_simulator.quote_faults import QUOTE_FAULTS


def _call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(group, [str(argument) for argument in arguments])


def _read(directory: Path) -> Mapping[str, bytes]:
    return {piece: (directory / name).read_bytes() for piece, name in FILE_NAMES.items()}


def _tcb_info(directory: Path) -> dict[str, object]:
    inner: dict[str, object] = json.loads(split_document(_read(directory)["tcb_info"])[0])
    return inner


@pytest.fixture
def made(tmp_path: Path) -> Path:
    result = _call("vendor", tmp_path / "D")
    assert result.exit_code == 0, result.output
    return tmp_path / "D"


def test_vendor_writes_a_vendor_and_its_collateral(made: Path) -> None:
    vendor = Vendor.load(made)
    for tee in ("sgx", "tdx"):
        assert dict(_read(made / "endorsements" / tee)) == vendor.endorsements(tee)
    assert sorted(path.name for path in made.iterdir()) == ["endorsements", "root.der", "root.pem", "vendor.json"]


def test_vendor_prints_what_init_and_policies_need(tmp_path: Path) -> None:
    result = _call("vendor", tmp_path)
    vendor = Vendor.load(tmp_path)
    assert vendor.root_pin.hex() in result.output
    assert vendor.mr_signer.hex() in result.output
    assert vendor.secret.hex() not in result.output


def test_vendor_never_overwrites_one(made: Path) -> None:
    before = (made / "vendor.json").read_bytes()
    result = _call("vendor", made)
    assert isinstance(result.exception, SimulatorError)
    assert (made / "vendor.json").read_bytes() == before


def test_collateral_takes_numbers_and_faults(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ("--evaluation-number", "18", "--fmspc", "0123456789ab", "--fault", "level-status=OutOfDate")
    assert _call("collateral", made, out, *options).exit_code == 0
    for tee in ("sgx", "tdx"):
        info = _tcb_info(out / tee)
        assert info["tcbEvaluationDataNumber"] == 18
        assert info["fmspc"] == "0123456789AB"
        levels = info["tcbLevels"]
        assert isinstance(levels, list)
        assert levels[0]["tcbStatus"] == "OutOfDate"


def test_collateral_can_be_for_one_tee_and_lack_a_piece(made: Path, tmp_path: Path) -> None:
    assert _call("collateral", made, tmp_path / "out", "--tee", "tdx", "--fault", "missing=pck_crl").exit_code == 0
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["tdx"]
    assert not (tmp_path / "out" / "tdx" / "pck_crl.der").exists()


@pytest.mark.parametrize(
    "options", [("--fault", "debug"), ("--fault", "nothing"), ("--fmspc", "00"), ("--fmspc", "zz" * 6)]
)
def test_collateral_that_cannot_be_is_refused_and_nothing_written(
    made: Path, tmp_path: Path, options: tuple[str, str]
) -> None:
    result = _call("collateral", made, tmp_path / "out", *options)
    assert isinstance(result.exception, SimulatorError)
    assert not (tmp_path / "out").exists()


def test_measure_prints_lines_for_a_policy(made: Path) -> None:
    measurement = measure_command([])
    sgx = tomllib.loads(_call("measure", "--tee", "sgx", "--dir", made).output)
    assert sgx == {
        "tee": "sgx",
        "mr_enclave": [measurement.mr_enclave.hex()],
        "mr_signer": [Vendor.load(made).mr_signer.hex()],
    }
    tdx = tomllib.loads(_call("measure", "--tee", "tdx").output)
    body = Vendor.load(made).platform("tdx").quote(bytes(64))[48:]
    assert tdx["tee"] == "tdx"
    assert tdx["mr_td"] == [measurement.mr_td.hex()]
    for number in range(4):
        at = 328 + 48 * number
        assert tdx[f"rtmr{number}"] == [body[at : at + 48].hex()]
    assert tdx["mr_config_id"] == [body[184:232].hex()]
    assert (tdx["td_attributes"], tdx["xfam"]) == (body[120:128].hex(), body[128:136].hex())
    assert tdx["td_attributes_mask"] == tdx["xfam_mask"] == "ff" * 8


def test_measure_prints_one_value_the_index_or_json() -> None:
    measurement = measure_command([])
    assert _call("measure", "--claim", "mr_enclave").output == measurement.mr_enclave.hex() + "\n"
    assert _call("measure", "--claim", "mr_td").output == measurement.mr_td.hex() + "\n"
    assert _call("measure", "--index").output == measurement.index
    printed = json.loads(_call("measure", "--json").output)
    assert printed["sgx"]["mr_enclave"] == measurement.mr_enclave.hex()
    assert printed["sgx"]["isv_prod_id"] == 1
    assert printed["tdx"]["mr_td"] == measurement.mr_td.hex()
    assert "mr_signer" not in printed["sgx"]
    assert isinstance(_call("measure", "--claim", "nothing").exception, SimulatorError)


def test_faults_lists_each_with_its_code_and_its_tees() -> None:
    listed = json.loads(_call("faults", "--json").output)
    registries = {"run": (QUOTE_FAULTS, SNP_FAULTS, NITRO_FAULTS), "collateral": (COLLATERAL_FAULTS,)}
    expected = [
        (command, fault.name, list(fault.tees))
        for command, kinds in registries.items()
        for registry in kinds
        for fault in registry.values()
    ]
    assert [(fault["command"], fault["name"], fault["tees"]) for fault in listed] == expected
    text = _call("faults").output
    sections: dict[tuple[str, tuple[str, ...]], str] = {}
    for section in text.split("--fault NAME[=VALUE], for ")[1:]:
        tees, _, body = section.partition("\n")
        # The word before the split is the command, the last of the section before.
        before = text[: text.index(section)].rsplit(" --fault", 1)[0].rsplit("\n", 1)[-1]
        sections[before, tuple(tees.split(" and "))] = body
    for fault in listed:
        lines = sections[fault["command"], tuple(fault["tees"])].splitlines()
        place = lines.index(f"  {fault['usage']}")
        assert lines[place + 1].endswith(f" -> {fault['provokes']}")


@pytest.mark.parametrize("command", ["vendor", "collateral", "measure", "run", "faults"])
def test_every_command_has_help(command: str) -> None:
    result = _call(command, "--help")
    assert result.exit_code == 0
    assert "Usage:" in result.output
