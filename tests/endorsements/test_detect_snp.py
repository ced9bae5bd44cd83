"""AMD's endorsements told apart by content."""

import base64
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy_attestation.codes import Code
from proxy_attestation.endorsements.detect_snp import SnpKind, SnpPiece, detect_snp, load_arks, snp_endorsements
from proxy_attestation.errors import ConfigurationError, FormatError
from proxy_attestation.formats.bounds import COLLATERAL_DOCUMENT_MAX, SNP_CERTIFICATES_MAX
from proxy_attestation.formats.snp_report import Product, decode_snp_report
from proxy_attestation_simulator.amd import TABLE_GUIDS, AmdVendor, certificate_table
from proxy_attestation_simulator.amd_recipes import SnpEvidence
from proxy_attestation_simulator.intel import Vendor

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
KINDS = (SnpKind.VEK, SnpKind.ISSUER, SnpKind.ARK)


@pytest.fixture(scope="module")
def amd() -> AmdVendor:
    return AmdVendor.fixed(NOW)


@pytest.fixture(scope="module", params=["VCEK", "VLEK"])
def evidence(request: pytest.FixtureRequest, amd: AmdVendor) -> SnpEvidence:
    return amd.platform("Milan", request.param).evidence(bytes(64))


def _pem(der: bytes, label: str = "CERTIFICATE") -> bytes:
    return f"-----BEGIN {label}-----\n{base64.b64encode(der).decode()}\n-----END {label}-----\n".encode()


def _found(data: bytes) -> list[tuple[SnpKind, bytes]] | None:
    pieces = detect_snp(data, "file")
    return None if pieces is None else [(piece.kind, piece.data) for piece in pieces]


def test_certificates_and_lists_in_every_encoding(evidence: SnpEvidence) -> None:
    for kind, der in [*zip(KINDS, evidence.certificates, strict=True), (SnpKind.CRL, evidence.crls[0])]:
        label = "X509 CRL" if kind is SnpKind.CRL else "CERTIFICATE"
        for data in (der, _pem(der, label), der.hex().encode(), base64.encodebytes(der)):
            assert _found(data) == [(kind, der)]


def test_chain_and_table(evidence: SnpEvidence) -> None:
    expected = [*zip(KINDS, evidence.certificates, strict=True)]
    assert _found(b"".join(map(_pem, evidence.certificates))) == expected
    names = (TABLE_GUIDS["VCEK"], TABLE_GUIDS["issuer"], TABLE_GUIDS["ark"])
    entries = dict(zip(names, evidence.certificates, strict=True)) | {TABLE_GUIDS["crl"]: evidence.crls[0]}
    # The list in it is the host's choice.
    assert _found(certificate_table(entries)) == expected
    with pytest.raises(FormatError) as caught:
        detect_snp(certificate_table(entries)[:40], "file")
    assert caught.value.code == Code.SNP_CERTIFICATE_TABLE


def test_what_is_not_amds(evidence: SnpEvidence) -> None:
    vendor = Vendor.create(NOW, secret=bytes(range(32)))
    intel = vendor.endorsements("sgx", NOW)
    for data in (
        b"",
        b"\x30",
        b"{}",
        vendor.root_der,
        *intel.values(),
        evidence.report,
        bytes(COLLATERAL_DOCUMENT_MAX + 1),
    ):
        assert detect_snp(data, "file") is None
    assert detect_snp(_pem(evidence.certificates[0]) + _pem(vendor.root_der), "file") is None
    assert detect_snp(_pem(b"\x30\x00") + b"rest", "file") is None


def test_put_together(evidence: SnpEvidence) -> None:
    pieces = [
        SnpPiece(kind, der, "file")
        for kind, der in [*zip(KINDS, evidence.certificates, strict=True), (SnpKind.CRL, evidence.crls[0])] * 2
    ]
    made = snp_endorsements(pieces)
    assert sorted(made.certificates) == sorted(evidence.certificates)
    assert made.crls == evidence.crls


def test_of_many_the_chips_own_come_first(amd: AmdVendor) -> None:
    own = amd.platform("Milan").evidence(bytes(64))
    other = amd.platform("Milan", seed=1).evidence(bytes(64)).certificates[0]
    many = [SnpPiece(SnpKind.VEK, other + bytes([n]), "file") for n in range(SNP_CERTIFICATES_MAX)]
    made = snp_endorsements([*many, SnpPiece(SnpKind.VEK, own.certificates[0], "file")], decode_snp_report(own.report))
    assert made.certificates[0] == own.certificates[0]
    assert len(made.certificates) == SNP_CERTIFICATES_MAX - 12


def test_anchors(amd: AmdVendor) -> None:
    arks = [amd.authority(line, "ark") for line in Product]
    strange = amd.authority("Milan", "ark", stranger=True)
    pins = load_arks([*arks, strange])
    assert set(pins) == set(Product)
    assert pins[Product.GENOA] == {amd.ark_pin("Genoa")}
    assert pins[Product.MILAN] > {amd.ark_pin("Milan")}


def test_what_is_no_anchor(amd: AmdVendor) -> None:
    vek, ask, _ = amd.platform("Milan").evidence(bytes(64)).certificates
    forged = bytearray(amd.authority("Milan", "ark"))
    forged[-1] ^= 1
    for der in (vek, ask, bytes(forged), b"", Vendor.create(NOW).root_der):
        with pytest.raises(ConfigurationError) as caught:
            load_arks([der])
        assert caught.value.code == Code.CONFIGURATION_MALFORMED


@given(st.binary(max_size=200))
def test_any_bytes_are_told_apart(data: bytes) -> None:
    try:
        detect_snp(data, "file")
    except FormatError as error:
        assert error.code == Code.SNP_CERTIFICATE_TABLE
