"""SGX bodies in quotes of version 3, 4 and 5: one walk, the same claims, and not one signed byte can be changed."""

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

import pytest
from judged import tcb_of

from proxy_attestation.appraisal.dcap import DcapAppraiser, appraise
from proxy_attestation.appraisal.dcap_collateral import verify_collateral
from proxy_attestation.appraisal.endorsements import DcapEndorsements
from proxy_attestation.appraisal.roots import Roots
from proxy_attestation.codes import Code
from proxy_attestation.errors import ProxyAttestationError
from proxy_attestation.formats.tee import Tee
from proxy_attestation_simulator.intel import Vendor

REPORT_DATA = bytes(range(64))
SIGNED = {3: 432, 4: 432, 5: 438}
_LAYOUT = {Code.EVIDENCE_UNKNOWN, Code.SGX_MALFORMED, Code.SGX_VERSION, Code.SGX_KEY_TYPE, Code.SGX_QE_VENDOR}


@pytest.fixture(scope="module")
def appraiser(vendor: Vendor, roots: Roots, now: datetime) -> DcapAppraiser:
    collateral = verify_collateral(DcapEndorsements(**vendor.endorsements("sgx")), roots, now)
    return DcapAppraiser(roots, {(Tee.SGX, collateral.fmspc): collateral})


@pytest.mark.parametrize("version", SIGNED)
def test_the_claims_do_not_depend_on_the_version(
    version: int, *, endorsements: Callable[..., DcapEndorsements], vendor: Vendor, roots: Roots, now: datetime
) -> None:
    platform = vendor.platform("sgx")
    expected = appraise(platform.quote(REPORT_DATA), endorsements(), roots, None, now)
    quote = platform.quote(REPORT_DATA, version=version)
    found = appraise(quote, endorsements(), roots, None, now)
    assert replace(found, evidence_sha256=expected.evidence_sha256) == expected
    assert (found.tee, tcb_of(found).status, found.bound) == (Tee.SGX, "UpToDate", (REPORT_DATA,))


@pytest.mark.parametrize("version", [4, 5])
def test_the_quoting_enclave_is_that_of_sgx(
    version: int, *, endorsements: Callable[..., DcapEndorsements], vendor: Vendor, roots: Roots, now: datetime
) -> None:
    quote = vendor.platform("sgx").quote(REPORT_DATA, version=version)
    of_tdx = replace(endorsements(), qe_identity=endorsements("tdx").qe_identity)
    for wrong, code in ((of_tdx, Code.SGX_QE_IDENTITY), (endorsements("tdx"), Code.SGX_TCB_INFO_MISMATCH)):
        with pytest.raises(ProxyAttestationError) as caught:
            appraise(quote, wrong, roots, None, now)
        assert caught.value.code is code


@pytest.mark.parametrize("version", [4, 5])
@pytest.mark.parametrize(
    ("fault", "code"),
    [
        ("wrong-key", Code.SGX_SIGNATURE),
        ("swapped-key", Code.SGX_QE_REPORT_DATA),
        ("qe-report-signature", Code.SGX_QE_REPORT_SIGNATURE),
        ("pck-signature", Code.SGX_CHAIN),
        ("wrong-root", Code.SGX_ROOT),
        ("bad-qe-identity", Code.SGX_QE_IDENTITY),
        ("no-tcb-level", Code.SGX_TCB_NOT_SUPPORTED),
        ("revoked-tcb", Code.SGX_TCB_REVOKED),
        ("cert-type=6", Code.SGX_CERTIFICATION_DATA),
        ("cert-type=2", Code.SGX_ENDORSEMENTS_MISSING),
    ],
)
def test_the_walk_is_the_same(
    version: int, fault: str, code: Code, *, appraiser: DcapAppraiser, vendor: Vendor, now: datetime
) -> None:
    quote = vendor.platform("sgx").quote(REPORT_DATA, version=version, fault=fault)
    with pytest.raises(ProxyAttestationError) as caught:
        appraiser.appraise(quote, (), now)
    assert caught.value.code is code


@pytest.mark.parametrize("version", [4, 5])
def test_every_signed_byte(version: int, appraiser: DcapAppraiser, vendor: Vendor, now: datetime) -> None:
    quote = vendor.platform("sgx").quote(REPORT_DATA, version=version)
    appraiser.appraise(quote, (), now)
    body_at = SIGNED[version] - 384
    reserved = [*range(20, 32), *range(96, 128), *range(160, 192), *range(262, 304)]
    for offset in range(SIGNED[version]):
        changed = bytearray(quote)
        changed[offset] ^= 1 << offset % 8
        with pytest.raises(ProxyAttestationError) as caught:
            appraiser.appraise(bytes(changed), (), now)
        in_layout = offset < 8 or 12 <= offset < 28 or 48 <= offset < body_at or offset - body_at in reserved
        assert caught.value.code in _LAYOUT if in_layout else caught.value.code is Code.SGX_SIGNATURE, offset
