"""Chains that are right in all but one certificate, which the vendor's keys made and Intel's rules forbid."""

import struct
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from judged import tcb_of

from proxy_attestation.appraisal.dcap import DcapAppraiser, appraise
from proxy_attestation.appraisal.dcap_collateral import verify_collateral
from proxy_attestation.appraisal.endorsements import DcapEndorsements
from proxy_attestation.appraisal.pck_chain import check_root
from proxy_attestation.appraisal.roots import Roots
from proxy_attestation.appraisal.x509_chain import read_certificate
from proxy_attestation.codes import Code
from proxy_attestation.errors import AppraisalError
from proxy_attestation.formats.dcap_quote import decode_quote
from proxy_attestation.formats.tee import Tee
from proxy_attestation_simulator.certificates import Authority, issue, pem_chain, revocation_list, sgx_extension
from proxy_attestation_simulator.intel import Vendor
from proxy_attestation_simulator.recipes import Crl

_REPORT_DATA = bytes(range(64))
_SPAN = timedelta(days=1)


def _quote(vendor: Vendor, chain: Sequence[x509.Certificate]) -> bytes:
    """Make a good quote and put another chain into it; no signature covers the chain."""
    quote = vendor.platform().quote(_REPORT_DATA)
    pem = pem_chain(chain)
    whole = bytearray(quote[: len(quote) - len(decode_quote(quote).certification_data) - 4])
    whole += struct.pack("<I", len(pem)) + pem
    whole[432:436] = struct.pack("<I", len(whole) - 436)
    return bytes(whole)


def _leaf(vendor: Vendor, issuer: Authority, now: datetime) -> x509.Certificate:
    platform = vendor.platform()
    key = vendor.key("pck sgx 0")
    extension = sgx_extension(platform.pck, platform_ca=True)
    name = platform.pck.common_name
    return issue(name, key, platform.pck.serial, now - _SPAN, now + _SPAN, issuer=issuer, extension=extension)


def _ca(vendor: Vendor, label: str, serial: int, now: datetime) -> Authority:
    """A certificate of the platform CA's name, for the key with this label."""
    key, root = vendor.key(label), vendor.authority("platform ca").certificate.subject
    name = str(root.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value)
    certificate = issue(name, key, serial, now - _SPAN, now + _SPAN, issuer=vendor.root, path_length=0)
    return Authority(key, certificate)


def _refused(quote: bytes, endorsements: DcapEndorsements, roots: Roots, now: datetime) -> Code:
    with pytest.raises(AppraisalError) as caught:
        appraise(quote, endorsements, roots, None, now)
    collateral = verify_collateral(endorsements, roots, now)
    appraiser = DcapAppraiser(roots, {(collateral.tee, collateral.fmspc): collateral})
    with pytest.raises(AppraisalError) as hot:
        appraiser.appraise(quote, (), now)
    assert hot.value.code is caught.value.code
    return caught.value.code


def test_a_ca_certificate_that_was_renewed(
    endorsements: Callable[..., DcapEndorsements], vendor: Vendor, roots: Roots, now: datetime
) -> None:
    renewed = _ca(vendor, "platform ca", 4711, now)
    quote = _quote(vendor, [_leaf(vendor, renewed, now), renewed.certificate, vendor.root.certificate])
    claims = appraise(quote, endorsements(), roots, None, now)
    assert (tcb_of(claims).status, claims.valid_until) == ("UpToDate", now + _SPAN)
    crl = revocation_list(Crl(4, now - _SPAN, now + _SPAN, (4711,)), vendor.root, vendor.root.key)
    assert _refused(quote, replace(endorsements(), root_ca_crl=crl), roots, now) is Code.SGX_REVOKED


def test_a_second_ca_of_the_same_name(
    endorsements: Callable[..., DcapEndorsements], vendor: Vendor, roots: Roots, now: datetime
) -> None:
    second = _ca(vendor, "another platform ca", 4711, now)
    quote = _quote(vendor, [_leaf(vendor, second, now), second.certificate, vendor.root.certificate])
    assert _refused(quote, endorsements(), roots, now) is Code.SGX_CRL


def test_a_root_certificate_that_the_root_did_not_sign(
    endorsements: Callable[..., DcapEndorsements], vendor: Vendor, roots: Roots, now: datetime
) -> None:
    ca = vendor.authority("platform ca")
    root = vendor.root.certificate
    name = str(root.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)[0].value)
    years = timedelta(days=3650)
    forged = issue(name, vendor.root.key, 1, now - years, now + years, issuer=None, signing_key=ca.key, path_length=1)
    assert forged.subject == root.subject
    quote = _quote(vendor, [_leaf(vendor, ca, now), ca.certificate, forged])
    assert _refused(quote, endorsements(), roots, now) is Code.SGX_CHAIN


def test_a_ca_that_a_ca_issued(
    endorsements: Callable[..., DcapEndorsements], vendor: Vendor, roots: Roots, now: datetime
) -> None:
    platform_ca = vendor.authority("platform ca")
    key = vendor.key("rogue")
    name = "Rogue SGX PCK Platform CA"
    rogue = Authority(key, issue(name, key, 9, now - _SPAN, now + _SPAN, issuer=platform_ca, path_length=0))
    chain = [_leaf(vendor, rogue, now), rogue.certificate, platform_ca.certificate]
    assert _refused(_quote(vendor, chain), endorsements(), roots, now) is Code.SGX_ROOT


def test_a_pinned_root_of_another_name(vendor: Vendor, now: datetime) -> None:
    key = vendor.key("other root")
    root = issue("Some Root", key, 1, now - _SPAN, now + _SPAN, issuer=None, path_length=1)
    certificate = read_certificate(root.public_bytes(Encoding.DER), Tee.SGX)
    with pytest.raises(AppraisalError) as caught:
        check_root(certificate, Roots(frozenset({certificate.spki_sha256})), Tee.SGX)
    assert caught.value.code is Code.SGX_CHAIN


def test_authentication_data_that_the_known_report_does_not_bind(
    endorsements: Callable[..., DcapEndorsements], vendor: Vendor, roots: Roots, now: datetime
) -> None:
    quote = vendor.platform().quote(_REPORT_DATA)
    collateral = verify_collateral(endorsements(), roots, now)
    appraiser = DcapAppraiser(roots, {(collateral.tee, collateral.fmspc): collateral})
    appraiser.appraise(quote, (), now)
    at = quote.rindex(decode_quote(quote).qe_authentication_data)
    with pytest.raises(AppraisalError) as caught:
        appraiser.appraise(quote[:at] + b"\xff" + quote[at + 1 :], (), now)
    assert caught.value.code is Code.SGX_QE_REPORT_DATA
