"""The hot path: what it remembers, what it never does, and that time passes for what it remembers too."""

import hashlib
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from judged import tcb_of

from proxy_attestation.appraisal.dcap import DcapAppraiser, appraise
from proxy_attestation.appraisal.dcap_collateral import DcapCollateral, verify_collateral
from proxy_attestation.appraisal.endorsements import DcapEndorsements
from proxy_attestation.appraisal.pck_chain import find_chain
from proxy_attestation.appraisal.refusal import EvidenceRefusedError
from proxy_attestation.appraisal.roots import Roots
from proxy_attestation.appraisal.x509_chain import verifies_raw
from proxy_attestation.codes import Code
from proxy_attestation.errors import AppraisalError, FormatError, UnavailableError
from proxy_attestation.formats.dcap_quote import Quote, decode_quote
from proxy_attestation.formats.tee import DCAP, Tee
from proxy_attestation_simulator.intel import Vendor

_REPORT_DATA = bytes(range(64))
_SECOND = timedelta(seconds=1)


def _collateral(endorsements: DcapEndorsements, roots: Roots, now: datetime) -> dict[tuple[Tee, bytes], DcapCollateral]:
    collateral = verify_collateral(endorsements, roots, now)
    return {(collateral.tee, collateral.fmspc): collateral}


@pytest.fixture
def appraiser(endorsements: Callable[..., DcapEndorsements], roots: Roots, now: datetime) -> DcapAppraiser:
    sets = _collateral(endorsements("sgx"), roots, now) | _collateral(endorsements("tdx"), roots, now)
    return DcapAppraiser(roots, sets)


@pytest.mark.parametrize("tee", DCAP)
def test_claims_and_floor(
    tee: Tee,
    appraiser: DcapAppraiser,
    *,
    endorsements: Callable[..., DcapEndorsements],
    vendor: Vendor,
    roots: Roots,
    now: datetime,
) -> None:
    platform = vendor.platform(tee)
    quote = platform.quote(_REPORT_DATA)
    claims, floor = appraiser.appraise(quote, (), now)
    assert claims == appraise(quote, endorsements(tee), roots, None, now)
    assert floor == verify_collateral(endorsements(tee), roots, now).floor
    assert (claims.tee, claims.bound[0], claims.anchor) == (tee, _REPORT_DATA, vendor.root_pin)
    assert claims.evidence_sha256 == hashlib.sha256(quote).digest()
    assert claims.valid_until == now + timedelta(days=29)
    name = platform.pck.ppid + platform.pck.platform_instance_id
    assert claims.instance_id == hashlib.sha256(b"proxy-attestation/instance/v1\0" + name).digest()
    assert appraiser.appraise(decode_quote(quote), (), now) == (claims, floor)


def test_one_signature_is_verified_for_a_known_platform(
    appraiser: DcapAppraiser, vendor: Vendor, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    appraiser.appraise(vendor.platform().quote(_REPORT_DATA), (), now)
    verified: list[bytes] = []

    def counted(key: ec.EllipticCurvePublicKey, signature: bytes, data: bytes) -> bool:
        verified.append(data)
        return verifies_raw(key, signature, data)

    monkeypatch.setattr("proxy_attestation.appraisal.dcap_steps.verifies_raw", counted)
    other = vendor.platform().quote(bytes(64), mr_enclave=b"\1" * 32)
    claims, _ = appraiser.appraise(other, (), now)
    assert verified == [decode_quote(other).signed]
    assert claims.bound[0] == bytes(64)


@pytest.mark.parametrize("tee", DCAP)
@pytest.mark.parametrize(
    ("fault", "suffix"),
    [
        ("tampered", "signature"),
        ("wrong-key", "signature"),
        ("swapped-key", "qe_report_data"),
        ("qe-report-data", "qe_report_data"),
        ("qe-report-signature", "qe_report_signature"),
        ("wrong-root", "root"),
    ],
)
def test_a_known_platform_gets_no_credit(
    tee: Tee, fault: str, suffix: str, *, appraiser: DcapAppraiser, vendor: Vendor, now: datetime
) -> None:
    platform = vendor.platform(tee)
    appraiser.appraise(platform.quote(_REPORT_DATA), (), now)
    for _ in range(2):
        with pytest.raises(AppraisalError) as caught:
            appraiser.appraise(platform.quote(_REPORT_DATA, fault=fault), (), now)
        assert caught.value.code == f"{tee}.{suffix}"
    assert appraiser.appraise(platform.quote(_REPORT_DATA), (), now)[0].bound[0] == _REPORT_DATA


def test_one_td_module_does_not_vouch_for_another(appraiser: DcapAppraiser, vendor: Vendor, now: datetime) -> None:
    platform = vendor.platform("tdx")
    assert tcb_of(appraiser.appraise(platform.quote(_REPORT_DATA), (), now)[0]).status == "UpToDate"
    old = platform.quote(_REPORT_DATA, fault="module-out-of-date")
    assert tcb_of(appraiser.appraise(old, (), now)[0]).status == "OutOfDate"
    relaunch = platform.quote(_REPORT_DATA, fault="relaunch-advised")
    assert tcb_of(appraiser.appraise(relaunch, (), now)[0]).status == "TDRelaunchAdvised"
    for fault in ("module-identity", "seam-attributes"):
        with pytest.raises(AppraisalError) as caught:
            appraiser.appraise(platform.quote(_REPORT_DATA, fault=fault), (), now)
        assert caught.value.code is Code.TDX_MODULE_IDENTITY


def test_time_passes_for_what_is_remembered(appraiser: DcapAppraiser, vendor: Vendor, now: datetime) -> None:
    quote = vendor.platform().quote(_REPORT_DATA)
    claims, _ = appraiser.appraise(quote, (), now)
    assert appraiser.appraise(quote, (), claims.valid_until)[0] == claims
    for moment in (claims.valid_until + _SECOND, now - timedelta(days=1) - _SECOND):
        with pytest.raises(UnavailableError) as late:
            appraiser.appraise(quote, (), moment)
        assert late.value.code is Code.ENDORSEMENTS_UNAVAILABLE
    for years in (8, -1):
        with pytest.raises(AppraisalError) as caught:
            appraiser.appraise(quote, (), now + timedelta(days=years * 365))
        assert caught.value.code is Code.SGX_EXPIRED
    assert appraiser.appraise(quote, (), now)[0] == claims


def test_without_collateral_a_genuine_platform_is_no_verdict(
    endorsements: Callable[..., DcapEndorsements], vendor: Vendor, roots: Roots, now: datetime
) -> None:
    quote = vendor.platform().quote(_REPORT_DATA)
    other = vendor.platform(fmspc=b"other!").quote(_REPORT_DATA)
    sgx = DcapAppraiser(roots, _collateral(endorsements("sgx"), roots, now))
    cases = [(DcapAppraiser(roots, {}), quote), (sgx, other), (sgx, vendor.platform("tdx").quote(_REPORT_DATA))]
    bare = vendor.platform().quote(_REPORT_DATA, fault="missing-root")
    for appraiser, evidence in [*cases, (DcapAppraiser(roots, {}), bare)]:
        with pytest.raises(UnavailableError) as caught:
            appraiser.appraise(evidence, (), now)
        assert caught.value.code is Code.ENDORSEMENTS_UNAVAILABLE
    tampered = vendor.platform(fmspc=b"other!").quote(_REPORT_DATA, fault="tampered")
    with pytest.raises(AppraisalError) as refused:
        sgx.appraise(tampered, (), now)
    assert refused.value.code is Code.SGX_SIGNATURE


@pytest.mark.parametrize("kind", ["1", "2", "3", "7"])
def test_a_peer_may_send_its_chain_beside_the_quote(
    kind: str, appraiser: DcapAppraiser, vendor: Vendor, now: datetime
) -> None:
    platform = vendor.platform()
    quote = platform.quote(_REPORT_DATA, fault=f"cert-type={kind}")
    expected = appraiser.appraise(platform.quote(_REPORT_DATA), (), now)[0]
    for chain in (platform.certificates, platform.certificates[:2], platform.certificates[:1]):
        assert appraiser.appraise(quote, chain, now)[0].tcb == expected.tcb
    for _ in range(2):
        with pytest.raises(EvidenceRefusedError) as caught:
            appraiser.appraise(quote, (), now)
        assert caught.value.code is Code.SGX_ENDORSEMENTS_MISSING
    with pytest.raises(AppraisalError) as foreign:
        appraiser.appraise(quote, vendor.platform(seed=1).certificates, now)
    assert foreign.value.code is Code.SGX_QE_REPORT_SIGNATURE
    with pytest.raises(FormatError) as many:
        appraiser.appraise(quote, platform.certificates * 2, now)
    assert many.value.code is Code.SGX_CHAIN


def test_a_bounded_number_is_remembered(
    appraiser: DcapAppraiser, vendor: Vendor, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy_attestation.appraisal.dcap.REMEMBERED_MAX", 2)
    verified: list[bytes] = []

    def counted(quote: Quote, *others: Any) -> tuple[bytes, ...]:
        verified.append(quote.data)
        return find_chain(quote, *others)

    monkeypatch.setattr("proxy_attestation.appraisal.dcap.find_chain", counted)
    quotes = [vendor.platform(seed=seed).quote(_REPORT_DATA) for seed in range(3)]
    for quote in (quotes[0], quotes[1], quotes[0], quotes[2], quotes[0], quotes[1]):
        appraiser.appraise(quote, (), now)
    # The third pushes out the second, which was used longest ago, and so the second comes anew.
    assert verified == [quotes[0], quotes[1], quotes[2], quotes[1]]


def test_a_platform_is_remembered_once_it_signed(
    appraiser: DcapAppraiser, vendor: Vendor, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    read: list[bytes] = []

    def counted(quote: Quote, *others: Any) -> tuple[bytes, ...]:
        read.append(quote.data)
        return find_chain(quote, *others)

    monkeypatch.setattr("proxy_attestation.appraisal.dcap.find_chain", counted)
    good = vendor.platform().quote(_REPORT_DATA)
    # Anybody can put new report data into a quote that he has seen, and white space into its chain.
    bad = bytearray(good)
    bad[48 + 320] ^= 1
    for _ in range(2):
        with pytest.raises(AppraisalError) as caught:
            appraiser.appraise(bytes(bad), (), now)
        assert caught.value.code is Code.SGX_SIGNATURE
    for _ in range(2):
        appraiser.appraise(good, (), now)
    assert read == [bytes(bad), bytes(bad), good]
