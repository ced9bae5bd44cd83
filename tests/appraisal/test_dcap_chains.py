"""Where a platform's chain may come from, what is there without endorsements, floors, roots and the edges of time."""

import hashlib
import struct
from collections.abc import Callable
from dataclasses import fields, replace
from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from judged import tcb_of

from proxy_attestation.appraisal.claims import SgxClaims, TdxClaims
from proxy_attestation.appraisal.dcap import appraise
from proxy_attestation.appraisal.dcap_collateral import verify_collateral
from proxy_attestation.appraisal.endorsements import DcapEndorsements, Floor
from proxy_attestation.appraisal.refusal import EvidenceRefusedError
from proxy_attestation.appraisal.roots import Roots
from proxy_attestation.codes import Code
from proxy_attestation.errors import AppraisalError, FormatError, ProxyAttestationError
from proxy_attestation.formats.bounds import COLLATERAL_DOCUMENT_MAX
from proxy_attestation.formats.dcap_quote import decode_quote
from proxy_attestation.formats.tee import DCAP, Tee
from proxy_attestation_simulator.intel import Vendor
from proxy_attestation_simulator.platform import Platform

_REPORT_DATA = bytes(range(64))


def _code(call: Callable[..., object], *args: object, **options: object) -> Code:
    with pytest.raises(ProxyAttestationError) as caught:
        call(*args, **options)
    return caught.value.code


def _with_chain(quote: bytes, pem: bytes) -> bytes:
    """Put another chain into a version 3 quote; no signature covers it."""
    data = decode_quote(quote)
    start = quote[: len(quote) - len(data.certification_data) - 4]
    whole = bytearray(start + struct.pack("<I", len(pem)) + pem)
    whole[432:436] = struct.pack("<I", len(whole) - 436)
    return bytes(whole)


def test_the_issuers_stand_in_either_order_and_the_root_may_be_absent(
    endorsements: Callable[..., DcapEndorsements], vendor: Vendor, roots: Roots, now: datetime
) -> None:
    platform = vendor.platform()
    quote = platform.quote(_REPORT_DATA)
    leaf, ca, root = (x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM) for der in platform.certificates)
    expected = appraise(quote, endorsements(), roots, None, now)
    for chain in (leaf + ca + root, leaf + root + ca, leaf + ca, leaf + ca + root + b"\0", leaf):
        assert appraise(_with_chain(quote, chain), endorsements(), roots, None, now).tcb == expected.tcb
    for chain in (leaf + root, ca + leaf + root, leaf + ca + ca, leaf + leaf + ca, root + ca + leaf, ca + root):
        assert _code(appraise, _with_chain(quote, chain), endorsements(), roots, None, now) is Code.SGX_CHAIN
    for chain in (leaf + ca + root + root, b"x" + leaf, leaf + ca + root + b"\0\0"):
        assert (
            _code(appraise, _with_chain(quote, chain), endorsements(), roots, None, now) is Code.SGX_CERTIFICATION_DATA
        )


@pytest.mark.parametrize("kind", ["1", "2", "3", "7"])
def test_a_quote_without_chain(
    kind: str, *, endorsements: Callable[..., DcapEndorsements], vendor: Vendor, roots: Roots, now: datetime
) -> None:
    platform = vendor.platform()
    quote = platform.quote(_REPORT_DATA, fault=f"cert-type={kind}")
    whole = replace(endorsements(), pck_certificate_chain=platform.certificate_chain)
    assert tcb_of(appraise(quote, whole, roots, None, now)).status == "UpToDate"
    beside = appraise(quote, endorsements(), roots, None, now, platform_certificates=platform.certificates)
    assert tcb_of(beside).status == "UpToDate"
    foreign = replace(endorsements(), pck_certificate_chain=vendor.platform(seed=1).certificate_chain)
    assert _code(appraise, quote, foreign, roots, None, now) is Code.SGX_QE_REPORT_SIGNATURE
    assert _code(appraise, quote, endorsements(), roots, None, now) is Code.SGX_ENDORSEMENTS_MISSING
    garbage = replace(endorsements(), pck_certificate_chain=b"garbage")
    assert _code(appraise, quote, garbage, roots, None, now) is Code.SGX_CHAIN
    wrong = platform.quote(_REPORT_DATA, fault=[f"cert-type={kind}", "wrong-key"])
    assert _code(appraise, wrong, None, roots, None, now) is Code.SGX_SIGNATURE
    unbound = platform.quote(_REPORT_DATA, fault=[f"cert-type={kind}", "swapped-key"])
    assert _code(appraise, unbound, None, roots, None, now) is Code.SGX_QE_REPORT_DATA


def test_an_attestation_key_that_is_no_point(vendor: Vendor, roots: Roots, now: datetime) -> None:
    # Without PCK chain nobody vouches for the QE report, so that this one can be made to fit the bad key.
    quote = bytearray(vendor.platform().quote(_REPORT_DATA, fault="cert-type=1"))
    parts = decode_quote(bytes(quote))
    point = b"\1" * 64
    quote[500:564] = point
    quote[564 + 320 : 564 + 352] = hashlib.sha256(point + parts.qe_authentication_data).digest()
    assert _code(appraise, bytes(quote), None, roots, None, now) is Code.SGX_SIGNATURE


@pytest.mark.parametrize("tee", DCAP)
def test_without_endorsements_what_can_be_checked_is(
    tee: Tee, *, endorsements: Callable[..., DcapEndorsements], vendor: Vendor, roots: Roots, now: datetime
) -> None:
    platform = vendor.platform(tee)
    for absent in (None, DcapEndorsements(), replace(endorsements(tee), root_ca_crl=None)):
        with pytest.raises(EvidenceRefusedError) as caught:
            appraise(platform.quote(_REPORT_DATA, fault="debug"), absent, roots, None, now)
        assert caught.value.code == f"{tee}.endorsements_missing"
        assert isinstance(caught.value.body, SgxClaims if tee is Tee.SGX else TdxClaims)
        assert caught.value.body.debug
    first = {
        "wrong-root": "root", "pck-signature": "chain", "expired-pck": "expired", "pck-extension": "pck",
        "qe-report-signature": "qe_report_signature", "qe-report-data": "qe_report_data", "tampered": "signature",
        "missing-intermediate": "chain",
    }  # fmt: skip
    for fault, suffix in first.items():
        with pytest.raises(ProxyAttestationError) as refused:
            appraise(platform.quote(_REPORT_DATA, fault=fault), None, roots, None, now)
        assert refused.value.code == f"{tee}.{suffix}"
        assert not isinstance(refused.value, EvidenceRefusedError)
    for fault in ("missing-root", "cert-type=4", "cert-type=1"):
        bare = platform.quote(_REPORT_DATA, fault=fault)
        assert _code(appraise, bare, None, roots, None, now) == f"{tee}.endorsements_missing"


def test_a_refusal_after_the_signature_shows_the_body(
    endorsements: Callable[..., DcapEndorsements], vendor: Vendor, roots: Roots, now: datetime
) -> None:
    for tee, fault in (("sgx", "no-tcb-level"), ("tdx", "xfam"), ("tdx", "module-revoked")):
        with pytest.raises(EvidenceRefusedError) as caught:
            appraise(vendor.platform(tee).quote(_REPORT_DATA, fault=fault), endorsements(tee), roots, None, now)
        assert caught.value.body.debug is False


def test_the_processor_ca_and_a_masked_machine(
    endorsements: Callable[..., DcapEndorsements], vendor: Vendor, roots: Roots, now: datetime
) -> None:
    processor = vendor.platform(ca="processor")
    quote = processor.quote(_REPORT_DATA)
    claims = appraise(quote, endorsements(ca="processor"), roots, None, now)
    assert claims.instance_id is not None
    assert _code(appraise, quote, endorsements(), roots, None, now) is Code.SGX_CRL
    platform = vendor.platform()
    pck = replace(platform.pck, ppid=bytes(16), platform_instance_id=bytes(16))
    masked = Platform(vendor, "sgx", ca="platform", pck=pck, body=platform.body, seed=0)
    assert appraise(masked.quote(_REPORT_DATA), endorsements(), roots, None, now).instance_id is None


def test_lists_in_pem(
    endorsements: Callable[..., DcapEndorsements], vendor: Vendor, roots: Roots, now: datetime
) -> None:
    good = endorsements()
    pem = {
        name: x509.load_der_x509_crl(getattr(good, name)).public_bytes(Encoding.PEM)
        for name in ("pck_crl", "root_ca_crl")
    }
    in_pem = replace(good, pck_crl=pem["pck_crl"], root_ca_crl=pem["root_ca_crl"])
    quote = vendor.platform().quote(_REPORT_DATA)
    assert appraise(quote, in_pem, roots, None, now) == appraise(quote, good, roots, None, now)
    twice = replace(good, pck_crl=pem["pck_crl"] * 2)
    assert _code(appraise, quote, twice, roots, None, now) is Code.SGX_CRL


def test_another_pinned_vendor_does_not_help(vendor: Vendor, now: datetime) -> None:
    both = Roots(frozenset({vendor.root_pin, vendor.stranger.root_pin}))
    quote = vendor.platform().quote(_REPORT_DATA)
    foreign = DcapEndorsements(**vendor.stranger.endorsements())
    assert appraise(quote, DcapEndorsements(**vendor.endorsements()), both, None, now).anchor == vendor.root_pin
    assert _code(appraise, quote, foreign, both, None, now) is Code.SGX_ROOT
    nobody = Roots(frozenset())
    assert _code(appraise, quote, foreign, nobody, None, now) is Code.SGX_ROOT


@pytest.mark.parametrize("name", [f.name for f in fields(Floor)])
def test_each_number_has_a_floor(
    name: str, *, endorsements: Callable[..., DcapEndorsements], vendor: Vendor, roots: Roots, now: datetime
) -> None:
    quote = vendor.platform().quote(_REPORT_DATA)
    own = verify_collateral(endorsements(), roots, now).floor
    assert appraise(quote, endorsements(), roots, own, now).bound[0] == _REPORT_DATA
    lower: dict[str, int] = {name: getattr(own, name) - 1}
    higher: dict[str, int] = {name: getattr(own, name) + 1}
    assert appraise(quote, endorsements(), roots, replace(own, **lower), now).bound[0] == _REPORT_DATA
    raised = replace(own, **higher)
    assert _code(appraise, quote, endorsements(), roots, raised, now) is Code.SGX_ENDORSEMENTS_FLOOR


def test_collateral_lasts_until_the_first_of_its_pieces_ends(
    endorsements: Callable[..., DcapEndorsements], vendor: Vendor, roots: Roots, now: datetime
) -> None:
    collateral = verify_collateral(endorsements(), roots, now)
    assert (collateral.valid_from, collateral.valid_until) == (now - timedelta(days=1), now + timedelta(days=29))
    quote, second = vendor.platform().quote(_REPORT_DATA), timedelta(seconds=1)
    for moment in (collateral.valid_from, collateral.valid_until):
        claims = appraise(quote, endorsements(), roots, None, moment)
        assert claims.valid_until == collateral.valid_until
    for moment in (collateral.valid_from - second, collateral.valid_until + second):
        assert _code(verify_collateral, endorsements(), roots, moment) is Code.SGX_CRL_EXPIRED


def test_a_pck_that_ends_first_bounds_the_claims(
    endorsements: Callable[..., DcapEndorsements], vendor: Vendor, roots: Roots, now: datetime
) -> None:
    platform = vendor.platform()
    end = now + timedelta(days=3)
    pck = replace(platform.pck, not_after=end)
    short = Platform(vendor, "sgx", ca="platform", pck=pck, body=platform.body, seed=0)
    assert appraise(short.quote(_REPORT_DATA), endorsements(), roots, None, now).valid_until == end


def test_the_set_has_one_digest_and_another_set_another(
    endorsements: Callable[..., DcapEndorsements], roots: Roots, now: datetime
) -> None:
    digests = {
        verify_collateral(endorsements(tee, **options), roots, now).digest
        for tee in DCAP
        for options in ({}, {"crl_number": 4}, {"evaluation_number": 18})
    }
    assert len(digests) == 6
    assert verify_collateral(endorsements(), roots, now).digest in digests


def test_the_tee_of_a_set(
    endorsements: Callable[..., DcapEndorsements], roots: Roots, now: datetime, vendor: Vendor
) -> None:
    for tee in DCAP:
        assert verify_collateral(endorsements(tee), roots, now).tee is tee
    assert _code(verify_collateral, endorsements("tdx"), roots, now, tee=Tee.SGX) is Code.SGX_TCB_INFO_MISMATCH
    mixed = replace(endorsements("tdx"), qe_identity=endorsements("sgx").qe_identity)
    assert _code(verify_collateral, mixed, roots, now) is Code.TDX_QE_IDENTITY
    quote = vendor.platform().quote(_REPORT_DATA)
    assert _code(appraise, quote, endorsements("tdx"), roots, None, now) is Code.SGX_TCB_INFO_MISMATCH


def test_pieces_are_bounded(endorsements: Callable[..., DcapEndorsements], roots: Roots, now: datetime) -> None:
    good = endorsements()
    for field in fields(DcapEndorsements):
        if field.name != "pck_certificate_chain":
            changes: dict[str, bytes] = {field.name: bytes(COLLATERAL_DOCUMENT_MAX + 1)}
            with pytest.raises(FormatError) as caught:
                verify_collateral(replace(good, **changes), roots, now)
            assert caught.value.code is Code.SGX_ENDORSEMENTS_MALFORMED


def test_the_tcb_signer_is_no_pck_ca_and_a_pck_ca_no_signer(
    endorsements: Callable[..., DcapEndorsements], roots: Roots, now: datetime
) -> None:
    good = endorsements()
    swaps = (
        {"tcb_info_issuer_chain": good.pck_crl_issuer_chain},
        {"qe_identity_issuer_chain": good.pck_crl_issuer_chain},
        {"pck_crl_issuer_chain": good.tcb_info_issuer_chain},
    )
    for changes in swaps:
        with pytest.raises(AppraisalError) as caught:
            verify_collateral(replace(good, **changes), roots, now)
        assert caught.value.code is Code.SGX_CHAIN
