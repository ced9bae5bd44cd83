"""Every byte of reports and of their certificates and lists, flipped by a bit, and every reserved bit: all refused."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import pytest

from proxy_attestation.appraisal.endorsements import SnpEndorsements
from proxy_attestation.appraisal.snp import SnpResult, appraise_snp
from proxy_attestation.appraisal.snp_chain import ArkPins
from proxy_attestation.codes import Code
from proxy_attestation.errors import ProxyAttestationError
from proxy_attestation_simulator.amd import AmdVendor
from proxy_attestation_simulator.amd_recipes import SnpEvidence

pytestmark = pytest.mark.exhaustive

REPORT_DATA = bytes(range(64))
# What is always zero, and what is zero before a version; and what is zero behind R and S.
RESERVED = [*range(0x4C, 0x50), *range(0x18B, 0x1A0), 0x1EB, 0x1EF, *range(0x208, 0x2A0), *range(0x330, 0x4A0)]
RESERVED_BEFORE = {3: range(0x188, 0x18B), 5: range(0x1F8, 0x208)}


@pytest.fixture(scope="module")
def evidence(amd: AmdVendor) -> SnpEvidence:
    return amd.platform("Turin").evidence(REPORT_DATA)


@pytest.fixture(scope="module")
def judge(ark_pins: ArkPins, now: datetime) -> Callable[[SnpEvidence], SnpResult]:
    def judge(evidence: SnpEvidence) -> SnpResult:
        endorsements = SnpEndorsements(evidence.certificates, evidence.crls)
        return appraise_snp(evidence.report, endorsements, ark_pins, None, now, crl_required=True)

    return judge


def _flipped(data: bytes, offset: int, mask: int) -> bytes:
    return data[:offset] + bytes([data[offset] ^ mask]) + data[offset + 1 :]


def _code(judge: Callable[[SnpEvidence], SnpResult], evidence: SnpEvidence) -> Code:
    with pytest.raises(ProxyAttestationError) as caught:
        judge(evidence)
    return caught.value.code


@pytest.mark.parametrize(
    ("line", "kind", "version"),
    [("Milan", "VCEK", 2), ("Milan", "VLEK", 2), ("Genoa", "VCEK", 3), ("Turin", "VCEK", 4), ("Turin", "VCEK", 5)],
)
def test_every_byte_of_the_report(
    line: str, kind: str, version: int, judge: Callable[[SnpEvidence], SnpResult], amd: AmdVendor
) -> None:
    good = amd.platform(line, kind).evidence(REPORT_DATA, version=version)
    judge(good)
    for offset in range(len(good.report)):
        # The signed part and R, S: one bit a byte, walking through all eight; the rest is reserved and has its test.
        changed = replace(good, report=_flipped(good.report, offset, 1 << offset % 8))
        assert _code(judge, changed).startswith("snp.")


def test_a_bit_that_nothing_looks_at_fails_the_signature(
    judge: Callable[[SnpEvidence], SnpResult], evidence: SnpEvidence
) -> None:
    for offset in (0x004, 0x010, 0x020, 0x050, 0x08F, 0x090, 0x0C0, 0x0E0, 0x110, 0x140, 0x160, 0x1E8, 0x1F8, 0x200):
        assert _code(judge, replace(evidence, report=_flipped(evidence.report, offset, 0x80))) == Code.SNP_SIGNATURE


@pytest.mark.parametrize("version", [2, 3, 4, 5])
def test_every_reserved_bit(version: int, judge: Callable[[SnpEvidence], SnpResult], amd: AmdVendor) -> None:
    platform = amd.platform("Milan")
    good = platform.evidence(REPORT_DATA, version=version)
    judge(good)
    reserved = RESERVED + [offset for since, part in RESERVED_BEFORE.items() if version < since for offset in part]
    for offset in reserved:
        for bit in range(8):
            assert _code(judge, replace(good, report=_flipped(good.report, offset, 1 << bit))) == Code.SNP_MALFORMED


@pytest.mark.parametrize("bit", range(5, 32))
def test_every_reserved_bit_of_key_info(
    bit: int, judge: Callable[[SnpEvidence], SnpResult], evidence: SnpEvidence
) -> None:
    report = _flipped(evidence.report, 0x48 + bit // 8, 1 << bit % 8)
    assert _code(judge, replace(evidence, report=report)) == Code.SNP_MALFORMED


@pytest.mark.parametrize("index", [0, 1, 2])
def test_every_byte_of_every_certificate(
    index: int, judge: Callable[[SnpEvidence], SnpResult], evidence: SnpEvidence
) -> None:
    der = evidence.certificates[index]
    for offset in range(len(der)):
        certificates = list(evidence.certificates)
        certificates[index] = _flipped(der, offset, 0x01)
        assert _code(judge, replace(evidence, certificates=tuple(certificates))).startswith("snp.")


def test_every_byte_of_the_list(judge: Callable[[SnpEvidence], SnpResult], evidence: SnpEvidence) -> None:
    (crl,) = evidence.crls
    for offset in range(len(crl)):
        # A list with another issuer is no list of this ARK, and one is required.
        code = _code(judge, replace(evidence, crls=(_flipped(crl, offset, 0x01),)))
        assert code in (Code.SNP_CRL, Code.SNP_CRL_MISSING, Code.SNP_CRL_EXPIRED)
