"""`appraise` on an Azure vTPM: both layers by the collateral beside the evidence; one thing wrong at a time."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from proxy_attestation_simulator.amd import AmdVendor
from proxy_attestation_simulator.azure import SNP, TDX, make_azure
from proxy_attestation_simulator.intel import Vendor
from proxy_attestation_simulator.tpm import TpmVendor

AT = "2026-11-24T00:00:00Z"
NOW = datetime(2026, 11, 24, tzinfo=UTC)
SUFFIX = {"tcb_info": "json", "qe_identity": "json", "pck_crl": "der", "root_ca_crl": "der"}


@cache
def ak() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(65537, 2048)


@dataclass
class Machine:
    """An Azure VM with TDX: what it sends, and what stands beside."""

    vendor: Vendor
    folder: Path
    cli: Callable[..., Any]
    write: Callable[[Path, Mapping[str, bytes]], Path]
    fault: str = ""
    body_type: int = 2
    collateral_fault: str = ""
    parts: dict[int, Any] = field(default_factory=dict)

    def files(self) -> dict[str, bytes]:
        made = self.vendor.endorsements("tdx", fault=self.collateral_fault)
        return {f"{name}.{SUFFIX.get(name, 'pem')}": piece for name, piece in made.items() if piece}

    def appraise(self, *options: str | Path, files: Mapping[str, bytes] | None = None) -> Any:
        platform = self.vendor.platform("tdx")
        made = make_azure(
            TpmVendor.create(NOW),
            TDX,
            lambda data: platform.quote(data, version=5, body_type=self.body_type, fault=self.fault),
            ak=ak(),
            parts=self.parts,
        )
        beside = self.write(self.folder / "tdx", self.files() if files is None else files)
        self.write(self.folder, {"evidence": made.evidence, "root.der": self.vendor.root_der})
        given = [self.folder / "evidence", "--endorsements", beside, "--roots", self.folder / "root.der"]
        return self.cli("appraise", *given, "--at", AT, *options, "--json")


@pytest.fixture
def machine(vendor: Vendor, tmp_path: Path, cli: Any, write: Any) -> Machine:
    return Machine(vendor, tmp_path, cli, write)


def _is(ran: Any, status: int, code: str | None) -> dict[str, Any]:
    assert (ran.status, ran.json["code"]) == (status, code), ran.out
    found: dict[str, Any] = ran.json
    return found


@pytest.mark.parametrize("body_type", [2, 3])
def test_both_layers_of_a_td(machine: Machine, body_type: int) -> None:
    machine.body_type = body_type
    claims = _is(machine.appraise(), 0, None)["claims"]
    assert (claims["tee"], claims["ak_trust"], claims["hcl"]["report_type"]) == ("tpm", "hardware", "TDX")
    hardware = claims["hardware"]
    assert (hardware["tee"], hardware["tcb_status"], hardware["debug"]) == ("tdx", "UpToDate", False)


def test_a_bundle_and_single_files_serve_as_well(machine: Machine) -> None:
    text = {name: piece.decode(errors="replace") for name, piece in machine.vendor.endorsements("tdx").items()}
    text |= {name: machine.vendor.endorsements("tdx")[name].hex() for name in ("pck_crl", "root_ca_crl")}
    text = {name: value for name, value in text.items() if value}
    _is(machine.appraise(files={"bundle.json": json.dumps(text).encode()}), 0, None)
    folder = machine.write(machine.folder / "single", machine.files())
    single = [option for path in sorted(folder.iterdir()) for option in ("--endorsements", path)]
    _is(machine.appraise(*single, files={}), 0, None)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("tampered", "tdx.signature"),
        ("pck-signature", "tdx.chain"),
        ("wrong-root", "tdx.root"),
        ("bad-qe-identity", "tdx.qe_identity"),
        ("no-tcb-level", "tdx.tcb_not_supported"),
        ("stale", "tpm.hcl_report_data"),
        ("debug", "tdx.debug"),
        ("old-tcb", "tdx.tcb_status"),
        ("service-td", "tdx.service_td"),
    ],
)
def test_a_hardware_layer_with_one_fault(machine: Machine, fault: str, code: str) -> None:
    machine.fault, machine.body_type = fault, 3
    _is(machine.appraise(), 3, code)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("tcb-info-signature", "tdx.tcb_info_signature"),
        ("missing=qe_identity", "tdx.endorsements_missing"),
        ("revoked-pck", "tdx.revoked"),
    ],
)
def test_collateral_with_one_fault(machine: Machine, fault: str, code: str) -> None:
    machine.collateral_fault = fault
    _is(machine.appraise(), 3, code)


def test_what_was_loosened_is_for_the_hardware_too(machine: Machine) -> None:
    machine.fault = "debug"
    _is(machine.appraise("--allow-debug"), 0, None)
    machine.fault = "old-tcb"
    _is(machine.appraise("--allow-tcb", "OutOfDate"), 0, None)


def test_without_collateral_or_quote_nothing_is_accepted(machine: Machine) -> None:
    _is(machine.appraise(files={}), 3, "tdx.endorsements_missing")
    machine.parts = {9: None}
    _is(machine.appraise(), 3, "tpm.hcl_layer")


def test_sgx_collateral_does_not_serve(machine: Machine) -> None:
    files = {
        f"{name}.{SUFFIX.get(name, 'pem')}": piece
        for name, piece in machine.vendor.endorsements("sgx").items()
        if piece
    }
    _is(machine.appraise(files=files), 3, "tdx.tcb_info_mismatch")


def test_both_layers_of_an_snp_guest(tmp_path: Path, cli: Any, write: Any) -> None:
    amd = AmdVendor.fixed(NOW)
    platform = amd.platform("Milan")

    def report(fault: str) -> Callable[[bytes], bytes]:
        return lambda data: platform.evidence(data, fault=fault).report

    for fault, status, code in (("", 0, None), ("debug", 3, "snp.debug"), ("other-key", 3, "snp.signature")):
        made = make_azure(TpmVendor.create(NOW), SNP, report(fault), ak=ak())
        good = platform.evidence(bytes(64))
        names = ("vek.der", "issuer.der", "ark.der")
        beside = write(tmp_path / f"amd{fault}", dict(zip(names, good.certificates, strict=True)))
        write(tmp_path, {"evidence": made.evidence, "root.der": amd.authority("Milan", "ark")})
        ran = cli(
            "appraise", tmp_path / "evidence", "--endorsements", beside, "--roots", tmp_path / "root.der",
            "--at", AT, "--json",
        )  # fmt: skip
        found = _is(ran, status, code)
        assert code is not None or found["claims"]["hardware"]["tee"] == "snp"
