"""Evidence of proxies in the other TEEs: accepted as it is, refused where it is bound to something else."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from attested_proxy import NONCE, AttestedProxy, statement

from proxy_attestation.appraisal.endorsements import DcapEndorsements
from proxy_attestation.appraisal.roots import same_for_all
from proxy_attestation.codes import Code
from proxy_attestation.endorsements.detect_snp import SnpKind, SnpPiece
from proxy_attestation.endorsements.load import Material
from proxy_attestation.errors import ProxyAttestationError
from proxy_attestation.formats.binder import Binding
from proxy_attestation.formats.deployment import REQUIRED, Pin
from proxy_attestation.formats.merkle import leaf_hash
from proxy_attestation.formats.root_binder import bind_root
from proxy_attestation.formats.root_evidence import NoncePath, RootEvidence, encode_root_evidence
from proxy_attestation.formats.tee import Tee
from proxy_attestation.relying_party.proxy_evidence import Vendors, check_proxy
from proxy_attestation_simulator.amd import AmdVendor
from proxy_attestation_simulator.aws import Aws
from proxy_attestation_simulator.intel import Vendor

NOW = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)


@dataclass
class Made:
    """Evidence of one kind with what it is appraised with."""

    evidence: bytes
    certificates: tuple[bytes, ...]
    vendors: Vendors
    measured: dict[str, bytes]


def make(tee: Tee, binding: Binding) -> Made:
    if tee is Tee.TDX:
        vendor = Vendor.create(NOW)
        quote = vendor.platform("tdx").quote(binding.report_data)
        material = Material(dcap=(DcapEndorsements(**vendor.endorsements("tdx", NOW)),))
        body: Any = vendor.platform("tdx").body
        measured = {name: getattr(body, name) for name in REQUIRED[tee]}
        return Made(quote, (), Vendors(same_for_all([vendor.root_pin]), material), measured)
    if tee is Tee.SNP:
        amd = AmdVendor.fixed(NOW)
        made = amd.platform("Milan").evidence(binding.report_data, measurement=b"\x0c" * 48)
        vek, issuer, ark = made.certificates
        kinds = ((SnpKind.ARK, ark), (SnpKind.ISSUER, issuer), *((SnpKind.CRL, crl) for crl in made.crls))
        pieces = tuple(SnpPiece(kind, data, "test") for kind, data in kinds)
        roots = same_for_all([amd.ark_pin("Milan")])
        return Made(made.report, (vek,), Vendors(roots, Material(amd=pieces)), {"measurement": b"\x0c" * 48})
    aws = Aws.create(NOW)
    pcrs = {number: bytes([number + 1]) * 48 for number in range(3)}
    document = aws.enclave(pcrs=pcrs).document(
        nonce=binding.nonce, public_key=binding.spki, user_data=binding.report_data, now=NOW
    )
    measured = {f"pcr{number}": value for number, value in pcrs.items()}
    return Made(document, (), Vendors(same_for_all([aws.root_pin]), Material()), measured)


@pytest.mark.parametrize("tee", [Tee.TDX, Tee.SNP, Tee.NITRO])
def test_a_proxy_in_another_tee(tee: Tee) -> None:
    proxy = AttestedProxy(Vendor.create(NOW), NOW)
    made = make(tee, bind_root(proxy.facts, leaf_hash(NONCE)))
    record = RootEvidence(tee, made.evidence, NoncePath(0, 1, ()), made.certificates)
    pins = [Pin(tee, name, value) for name, value in made.measured.items()]
    answer = proxy.answer(evidence=encode_root_evidence(record), statement=statement(proxy.facts, proxy.signers, pins))
    wanted = tuple((name, (value,)) for name, value in sorted(made.measured.items()))
    expectation = proxy.expectation(tee=tee, measurements=wanted)
    assert check_proxy(answer, NONCE, expectation, made.vendors, NOW).claims.tee is tee
    with pytest.raises(ProxyAttestationError) as caught:
        check_proxy(answer, b"m" * 32, expectation, made.vendors, NOW)
    assert caught.value.code is Code.PROXY_BINDER
