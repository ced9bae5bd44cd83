"""Every fault of the simulated SEV-SNP machines, one at a time, on each processor line and with either kind of key."""

from dataclasses import dataclass
from datetime import datetime

import pytest

from proxy_attestation.appraisal.endorsements import SnpEndorsements
from proxy_attestation.appraisal.snp import SnpRefusedError, SnpResult, appraise_snp
from proxy_attestation.appraisal.snp_chain import ArkPins, SnpFloor
from proxy_attestation.codes import Code
from proxy_attestation.errors import ProxyAttestationError
from proxy_attestation.formats.snp_report import Product
from proxy_attestation_simulator.amd import CRL_NUMBER, AmdVendor
from proxy_attestation_simulator.amd_faults import SNP_FAULTS
from proxy_attestation_simulator.amd_recipes import SnpEvidence

REPORT_DATA = bytes(range(64))
ACCEPTED = "accepted"
# What the registry calls by the code of a later judge is genuine, and accepted here.
_LATER = ("accepted", "binder.", "policy.", "debug", "migration_agent", "tcb_status")
# The values to try, where a fault takes one; otherwise its default.
_VALUES = {
    "truncated": ["1", "512", "1183", "1184"],
    "trailing": ["ff", "00", "00" * 23, "01" * 24],
    "version": ["0", "1", "6", "4294967295"],
    "signature-algorithm": ["0", "2", "256"],
    "signing-key": ["2", "3", "4", "5", "6", "7"],
    "policy-reserved": ["17", *(str(bit) for bit in range(26, 64))],
    "platform-info-reserved": ["6", *(str(bit) for bit in range(8, 64))],
    "vek-without": ["structVersion", "productName", "snpSPL", "ucodeSPL"],
    "vek-old-tcb": ["blSPL", "snpSPL", "ucodeSPL"],
    "vek-struct-version": ["2", "255"],
    "tcb-reserved": ["reported", "current", "committed", "launch"],
    "vmpl": ["0", "1", "2", "3"],
}
# Faults of something that only one kind of key has.
_VCEK_ONLY = {"other-chip", "hw-id-octet-string", "vek-chip-id-length"}


@dataclass(frozen=True)
class Case:
    """One fault on one machine."""

    line: str
    kind: str
    fault: str
    code: str

    @property
    def id(self) -> str:
        return f"{self.line}-{self.kind}-{self.fault}"


def _cases() -> list[Case]:
    cases = []
    for fault in SNP_FAULTS.values():
        code = ACCEPTED if fault.code.startswith(_LATER) else f"snp.{fault.code}"
        for line, kind in (
            ("Milan", "VCEK"),
            ("Genoa", "VCEK"),
            ("Turin", "VCEK"),
            ("Milan", "VLEK"),
            ("Turin", "VLEK"),
        ):
            if kind == "VLEK" and fault.name in _VCEK_ONLY:
                continue
            # Every value once, the default everywhere.
            values = _VALUES.get(fault.name, [fault.default]) if (line, kind) == ("Milan", "VCEK") else [fault.default]
            cases += [
                Case(line, kind, f"{fault.name}={value}" if fault.value else fault.name, code) for value in values
            ]
    return cases


def judge(
    evidence: SnpEvidence, roots: ArkPins, now: datetime, floor: SnpFloor | None = None, *, crl_required: bool = True
) -> SnpResult:
    endorsements = SnpEndorsements(evidence.certificates, evidence.crls)
    return appraise_snp(evidence.report, endorsements, roots, floor, now, crl_required=crl_required)


@pytest.mark.parametrize("case", _cases(), ids=lambda case: case.id)
def test_fault(case: Case, amd: AmdVendor, ark_pins: ArkPins, now: datetime) -> None:
    platform = amd.platform(case.line, case.kind)
    evidence = platform.evidence(REPORT_DATA, fault=case.fault)
    floor = SnpFloor(CRL_NUMBER, int(now.timestamp()) - 86400)
    if case.code == ACCEPTED:
        result = judge(evidence, ark_pins, now, floor)
        assert result.body.product == case.line
        return
    with pytest.raises(ProxyAttestationError) as caught:
        judge(evidence, ark_pins, now, floor)
    assert caught.value.code == case.code
    # Nothing is shown of a report whose signature does not fit.
    later = ("tcb", "chain", "root", "expired", "revoked", "crl", "crl_expired", "crl_missing", "endorsements_floor")
    if isinstance(caught.value, SnpRefusedError):
        assert case.code.removeprefix("snp.") in (*later, "endorsements_missing")
        assert caught.value.body.product == case.line


def test_every_code_of_the_walk_is_provoked() -> None:
    walk = {code for code in Code if code.startswith("snp.")}
    assert {code for fault in SNP_FAULTS.values() for code in fault.codes()} >= walk


@pytest.mark.parametrize("version", [2, 3, 4, 5])
@pytest.mark.parametrize("kind", ["VCEK", "VLEK"])
@pytest.mark.parametrize("line", list(Product))
def test_good_evidence(  # noqa: PLR0917 - fixtures
    line: Product, kind: str, version: int, amd: AmdVendor, ark_pins: ArkPins, now: datetime
) -> None:
    platform = amd.platform(line, kind)
    result = judge(platform.evidence(REPORT_DATA, version=version), ark_pins, now)
    body = result.body
    assert result.bound == (REPORT_DATA,) == (body.report_data,)
    assert (body.version, body.product, body.signing_key, body.vmpl) == (version, line, kind, 0)
    assert body.csp_id == (None if kind == "VCEK" else "CN=simulated.example")
    assert (result.instance_id is None) is (kind == "VLEK")
    assert result.anchor == amd.ark_pin(line)
    assert result.floor == SnpFloor(CRL_NUMBER, int(now.timestamp()) - 86400)
    assert (body.cpuid_fam_mod_step is None) is (version < 3)
    assert (body.launch_mit_vector is None) is (body.current_mit_vector is None) is (version < 5)
    assert not body.debug
    assert not body.migrate_ma
