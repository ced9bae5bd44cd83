"""What a leaf says of SNP guests and Nitro enclaves, and that whoever reads it can."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from proxy_attestation.appraisal.claims import Claims
from proxy_attestation.appraisal.kinds import body_of, decode_evidence_of
from proxy_attestation.appraisal.snp_claims import SnpClaims
from proxy_attestation.authority.leaf import body_measurements, code_measurements, tier, trust_vector
from proxy_attestation.formats.ear import LeafClaims, decode_extension, encode_claims_set, encode_extension
from proxy_attestation.formats.pins import PINS
from proxy_attestation.formats.request import KeyOrigin
from proxy_attestation.formats.snp_report import CSP_ID_MAX, Product
from proxy_attestation.formats.tee import Tee
from proxy_attestation_simulator.amd import AmdVendor
from proxy_attestation_simulator.aws import Aws

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
ENCLAVE = Aws.create(NOW, secret=bytes(32)).enclave()


def snp(world: Any, line: str = "Milan", csp_id: str | None = None) -> Claims:
    report = decode_evidence_of(Tee.SNP, AmdVendor.fixed(NOW).platform(line).evidence(bytes(64)).report)
    body = body_of(report)
    assert isinstance(body, SnpClaims)
    claims: Claims = replace(world.claims(), tee=Tee.SNP, body=replace(body, csp_id=csp_id), tcb=None)
    return claims


def nitro(world: Any) -> Claims:
    body = body_of(decode_evidence_of(Tee.NITRO, ENCLAVE.document()))
    claims: Claims = replace(world.claims(), tee=Tee.NITRO, body=body, tcb=None)
    return claims


def leaf(claims: Claims) -> LeafClaims:
    return LeafClaims(
        issued_at=1, expires_at=2, nonce=bytes(32), build="0.1.0", tee=claims.tee,
        status=tier(trust_vector(claims)), vector=trust_vector(claims), policy_digest=bytes(32), spki=bytes(120),
        anchor=claims.anchor, key_origin=KeyOrigin.TEE, measurements=body_measurements(claims), signer=None,
        product_id=None, svn=None, debug=claims.debug, tcb_status=None, tcb_date=None, tcb_evaluation_number=None,
        advisories=(), application_sha256=bytes(32), owner="shared", evidence_sha256=claims.evidence_sha256,
        ledger_origin="x" * 255, simulated=True,
    )  # fmt: skip


def test_a_vendor_without_status_words_is_affirmed(world: Any) -> None:
    for claims in (snp(world), nitro(world)):
        assert trust_vector(claims) == ((0, 2), (1, 2), (2, 3), (4, 2), (5, 2))
        assert tier(trust_vector(replace(claims, debug=True))) == 96


def test_everything_of_an_enclave_that_can_be_pinned_is_in_the_leaf(world: Any) -> None:
    claims = nitro(world)
    found = dict(body_measurements(claims))
    assert found == {f"pcr{index}": value for index, value in ENCLAVE.pcrs.items()}
    assert found.keys() == PINS[Tee.NITRO].keys()
    assert code_measurements(claims) == tuple(ENCLAVE.pcrs[index] for index in range(3))


@pytest.mark.parametrize("line", list(Product))
def test_everything_of_a_guest_that_can_be_pinned_is_in_the_leaf(line: Product, world: Any) -> None:
    claims = snp(world, line, "CN=cloud")
    found = dict(body_measurements(claims))
    absent = set() if line is Product.TURIN else {"tcb_fmc"}
    assert found.keys() == {key.claim for key in PINS[Tee.SNP].values()} - absent
    assert (found["product"], found["csp_id"], found["vmpl"]) == (line.encode(), b"CN=cloud", b"\0")
    assert found["guest_svn"] == bytes((0, 0, 0, 1))
    assert isinstance(claims.body, SnpClaims)
    assert code_measurements(claims) == (claims.body.measurement,)
    assert not {"chip_id", "report_id", "report_data"} & found.keys()


@pytest.mark.parametrize("line", list(Product))
@pytest.mark.parametrize("length", [0, 1, 64, 65, CSP_ID_MAX])
def test_a_guests_leaf_can_be_read(length: int, line: Product, world: Any) -> None:
    """However long the name of the cloud provider is, and beside the longest of everything else."""
    claims = leaf(snp(world, line, "c" * length if length else None))
    assert decode_extension(encode_extension(encode_claims_set(claims))) == claims


def test_an_enclaves_leaf_can_be_read(world: Any) -> None:
    claims = leaf(nitro(world))
    assert decode_extension(encode_extension(encode_claims_set(claims))) == claims
