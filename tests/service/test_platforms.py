"""A worker and VCEKs that did not come: asked for by chip and TCB, UNAVAILABLE until one is there, never a verdict."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from proxy_attestation.codes import Code
from proxy_attestation.endorsements.kds import parse_vcek
from proxy_attestation.endorsements.spool import PlatformSpool, VcekSpool
from proxy_attestation.errors import ProxyAttestationError, UnavailableError
from proxy_attestation.formats.dcap_quote import decode_quote
from proxy_attestation.formats.request import names_from
from proxy_attestation.formats.snp_report import SnpReport, decode_snp_report
from proxy_attestation.formats.tee import Tee
from proxy_attestation.service.core import Core
from proxy_attestation.service.platforms import Platforms
from proxy_attestation_simulator.amd import TABLE_GUIDS, AmdPlatform, AmdVendor, certificate_table
from proxy_attestation_simulator.amd_recipes import SnpEvidence
from proxy_attestation_simulator.intel import Vendor

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


@pytest.fixture
def amd() -> AmdVendor:
    return AmdVendor.fixed(NOW)


@pytest.fixture
def vceks(tmp_path: Path) -> VcekSpool:
    made = VcekSpool(tmp_path / "run", tmp_path / "endorsements")
    for product in ("Milan", "Genoa", "Turin"):
        made.open(product)
    return made


@pytest.fixture
def platforms(tmp_path: Path) -> Platforms:
    return Platforms(tmp_path / "run", tmp_path / "endorsements", lambda: 0.0)


def made(amd: AmdVendor, line: str = "Milan", kind: str = "VCEK", **options: Any) -> SnpEvidence:
    return amd.platform(line, kind).evidence(bytes(64), **options)


class Bare(AmdPlatform):
    """A machine whose evidence comes without certificates."""

    def evidence(self, report_data: bytes, **options: Any) -> SnpEvidence:
        return replace(super().evidence(report_data, **options), certificates=())


def report(evidence: SnpEvidence) -> SnpReport:
    return decode_snp_report(evidence.report)


@pytest.mark.parametrize("line", ["Milan", "Genoa", "Turin"])
def test_a_vcek_that_did_not_come_is_asked_for_and_then_used(
    platforms: Platforms, vceks: VcekSpool, amd: AmdVendor, line: str
) -> None:
    evidence = made(amd, line)
    given = evidence.certificates[1:]
    with pytest.raises(UnavailableError) as caught:
        platforms.certificates(report(evidence), given)
    assert caught.value.code is Code.ENDORSEMENTS_UNAVAILABLE
    ((_, text),) = vceks.wanted(line)
    request = parse_vcek(text, line)
    assert request.hwid == amd.platform(line).chip_id[: len(request.hwid)]
    vceks.keep(line, request, evidence.certificates[0])
    assert platforms.certificates(report(evidence), given) == (*given, evidence.certificates[0])


def test_the_tcb_counts(platforms: Platforms, vceks: VcekSpool, amd: AmdVendor) -> None:
    for tcb in (None, bytes(8)):
        evidence = amd.platform("Milan", tcb=tcb).evidence(bytes(64))
        with pytest.raises(UnavailableError):
            platforms.certificates(report(evidence), ())
    assert len(vceks.wanted("Milan")) == 2


def test_what_came_is_what_is_used(platforms: Platforms, vceks: VcekSpool, amd: AmdVendor) -> None:
    evidence = made(amd)
    assert platforms.certificates(report(evidence), evidence.certificates) == evidence.certificates
    table = certificate_table({TABLE_GUIDS["VCEK"]: evidence.certificates[0]})
    assert platforms.certificates(decode_snp_report(evidence.report + table), ()) == ()
    assert vceks.wanted("Milan") == []


@pytest.mark.parametrize(
    ("kind", "options"), [("VLEK", {}), ("VCEK", {"version": 2}), ("VCEK", {"fault": "masked-chip-id"})]
)
def test_what_nobody_can_ask_for_is_left_to_the_walk(
    platforms: Platforms, vceks: VcekSpool, amd: AmdVendor, kind: str, options: dict[str, Any]
) -> None:
    assert platforms.certificates(report(made(amd, kind=kind, **options)), ()) == ()
    assert vceks.wanted("Milan") == []


def test_where_nobody_fetches_the_walk_decides(platforms: Platforms, amd: AmdVendor) -> None:
    assert platforms.certificates(report(made(amd)), ()) == ()


def test_an_issuance_waits_and_then_goes_through(
    core: Core, attempt: Any, vceks: VcekSpool, platforms: Platforms, authority: Any
) -> None:
    one = attempt(Tee.SNP, workload="example-snp", names=names_from(dns=("snp.example.org",)))
    machine = one.platform
    bare = replace(one, platform=Bare(machine.vendor, machine.line, machine.kind, tcb=machine.tcb, seed=0))
    waiting = Core(authority, lambda: NOW, platforms=platforms)
    waiting.serving = core.serving

    def sign() -> object:
        return asyncio.run(waiting.get_signed_certificate(bare.message()))

    for _ in range(5):  # more often than a refusal could be tried
        with pytest.raises(ProxyAttestationError) as caught:
            sign()
        assert caught.value.code is Code.ENDORSEMENTS_UNAVAILABLE
    ((_, text),) = vceks.wanted("Milan")
    vceks.keep("Milan", parse_vcek(text, "Milan"), machine.evidence(bytes(64)).certificates[0])
    assert sign()


# Platforms that got a certificate.


def test_an_intel_platform_is_noted_once_an_hour(vendor: Vendor, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    spool, time = PlatformSpool(tmp_path / "run"), [0.0]
    spool.open()
    platforms = Platforms(tmp_path / "run", tmp_path / "endorsements", lambda: time[0])
    quote = decode_quote(vendor.platform("sgx").quote(bytes(64)))
    platforms.seen(quote, ())
    (path,) = spool.seen(0.0)
    assert path.read_bytes().startswith(b"-----BEGIN CERTIFICATE-----")
    path.unlink()
    platforms.seen(quote, ())
    assert spool.seen(0.0) == []
    time[0] = 3601.0
    platforms.seen(quote, ())
    assert spool.seen(0.0) == [path]


def test_other_platforms_and_directories_that_are_not_there_are_nothing(
    platforms: Platforms, amd: AmdVendor, vendor: Vendor, tmp_path: Path
) -> None:
    platforms.seen(report(made(amd)), ())
    platforms.seen(decode_quote(vendor.platform("sgx").quote(bytes(64))), ())
    assert not (tmp_path / "run").exists()
