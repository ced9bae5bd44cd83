"""Endorsements of every vendor from one directory, and AMD's as the sets that a proxy keeps."""

import base64
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from proxy_attestation.appraisal.endorsements import DcapEndorsements, SnpEndorsements
from proxy_attestation.appraisal.kinds import Endorsements, verify_endorsements
from proxy_attestation.appraisal.roots import Roots
from proxy_attestation.appraisal.snp_certificate import read_amd_certificate
from proxy_attestation.codes import Code
from proxy_attestation.endorsements.detect_snp import SnpKind, SnpPiece, detect_snp, snp_sets
from proxy_attestation.endorsements.load import load_endorsements, load_material
from proxy_attestation.errors import FormatError, ProxyAttestationError, UnavailableError
from proxy_attestation.formats.bounds import ENDORSEMENT_DEPTH_MAX, SNP_CERTIFICATES_MAX, SNP_CRLS_MAX
from proxy_attestation.formats.snp_report import Product
from proxy_attestation_simulator.amd import CRL_NUMBER, TABLE_GUIDS, AmdVendor, certificate_table
from proxy_attestation_simulator.amd_certificates import issue_ca, revocation_list
from proxy_attestation_simulator.aws import Aws
from proxy_attestation_simulator.files import write_endorsements
from proxy_attestation_simulator.intel import Vendor
from proxy_attestation_simulator.recipes import Crl

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
DAY = timedelta(days=1)
ROLES = ("ark", "ask", "asvk")


@pytest.fixture(scope="module")
def amd() -> AmdVendor:
    return AmdVendor.fixed(NOW)


@pytest.fixture(scope="module")
def lists(amd: AmdVendor) -> Mapping[str, bytes]:
    """One list of each line."""
    crl = Crl(CRL_NUMBER, NOW - DAY, NOW + 45 * DAY)
    return {line: revocation_list(crl, f"ARK-{line}", amd.key(f"{line} ark")) for line in Product}


@pytest.fixture
def mixed(tmp_path: Path, vendor: Vendor, amd: AmdVendor, lists: Mapping[str, bytes]) -> Path:
    """Everything of Intel's and of two of AMD's lines beside each other, in one directory."""
    path = tmp_path / "mixed"
    write_endorsements(vendor.endorsements("sgx", NOW), path)
    for line in ("Milan", "Genoa"):
        for role in ROLES:
            (path / f"{line}-{role}.der").write_bytes(amd.authority(line, role))
        (path / f"{line}.crl").write_bytes(lists[line])
    return path


def of_line(amd: AmdVendor, lists: Mapping[str, bytes], line: str) -> SnpEndorsements:
    return SnpEndorsements(tuple(amd.authority(line, role) for role in ROLES), (lists[line],))


def same(one: SnpEndorsements, other: SnpEndorsements) -> bool:
    """Whether two sets hold the same, the root first, whatever the order of the rest."""
    return (
        one.certificates[0] == other.certificates[0]
        and sorted(one.certificates) == sorted(other.certificates)
        and sorted(one.crls) == sorted(other.crls)
    )


def malformed(path: Path) -> None:
    with pytest.raises(FormatError) as caught:
        load_material([path])
    assert caught.value.code is Code.ENDORSEMENTS_MALFORMED


def test_a_directory_of_two_vendors(mixed: Path, vendor: Vendor, amd: AmdVendor, lists: Mapping[str, bytes]) -> None:
    material = load_material([mixed])
    intel = [one for one in material.dcap if one.tcb_info is not None]
    assert intel == [DcapEndorsements(**vendor.endorsements("sgx", NOW))]
    assert len(material.amd) == 8
    milan, genoa = sorted(snp_sets(material.amd), key=lambda one: one.certificates[0] != amd.authority("Milan", "ark"))
    assert same(milan, of_line(amd, lists, "Milan"))
    assert same(genoa, of_line(amd, lists, "Genoa"))
    roots = Roots(frozenset({vendor.root_pin}), {line: frozenset({amd.ark_pin(line)}) for line in Product})
    sets: list[Endorsements] = [*intel, milan, genoa]
    for one in sets:
        assert verify_endorsements(one, roots, NOW).valid_until > NOW


def test_the_sets_of_intel_are_those_without_amds(mixed: Path, vendor: Vendor, tmp_path: Path) -> None:
    write_endorsements(vendor.endorsements("sgx", NOW), tmp_path / "alone")
    assert load_material([mixed]).dcap == load_endorsements([mixed]) == load_material([tmp_path / "alone"]).dcap
    assert load_material([tmp_path / "alone"]).amd == ()


def test_files_by_name_and_directories_below(mixed: Path, amd: AmdVendor, lists: Mapping[str, bytes]) -> None:
    below = mixed / "amd" / "milan"
    below.mkdir(parents=True)
    names = [mixed / f"Milan-{role}.der" for role in ROLES] + [mixed / "Milan.crl"]
    (by_name,) = snp_sets(load_material(names).amd)
    assert same(by_name, of_line(amd, lists, "Milan"))
    for path in [*mixed.glob("Milan*"), *mixed.glob("Genoa*")]:
        path.rename(below / path.name)
    found = snp_sets(load_material([mixed]).amd)
    assert len(found) == 2


def test_amd_alone_makes_no_set_of_intels(mixed: Path) -> None:
    names = [*mixed.glob("Milan*"), *mixed.glob("Genoa*")]
    material = load_material(names)
    assert len(material.amd) == len(names) == 8
    assert all(one == DcapEndorsements() for one in material.dcap)


def test_a_chain_as_kds_serves_it(tmp_path: Path, amd: AmdVendor, lists: Mapping[str, bytes]) -> None:
    """The issuer and then the root, PEM in one file."""
    chain = "".join(
        f"-----BEGIN CERTIFICATE-----\n{base64.encodebytes(amd.authority('Milan', role)).decode()}"
        "-----END CERTIFICATE-----\n"
        for role in ("ask", "ark")
    )
    (tmp_path / "cert_chain").write_text(chain)
    (tmp_path / "crl").write_bytes(lists["Milan"])
    (found,) = snp_sets(load_material([tmp_path]).amd)
    assert found.certificates == (amd.authority("Milan", "ark"), amd.authority("Milan", "ask"))
    assert found.crls == (lists["Milan"],)


def test_certificates_of_chips_belong_to_no_set(mixed: Path, amd: AmdVendor) -> None:
    before = snp_sets(load_material([mixed]).amd)
    for kind in ("VCEK", "VLEK"):
        vek = amd.platform("Milan", kind).evidence(bytes(64)).certificates[0]
        (mixed / f"{kind}.der").write_bytes(vek)
    material = load_material([mixed])
    assert sum(piece.kind is SnpKind.VEK for piece in material.amd) == 2
    assert snp_sets(material.amd) == before


def test_the_list_of_a_hosts_table_is_not_taken(tmp_path: Path, amd: AmdVendor) -> None:
    made = amd.platform("Milan").evidence(bytes(64))
    names = (TABLE_GUIDS["VCEK"], TABLE_GUIDS["issuer"], TABLE_GUIDS["ark"])
    table = dict(zip(names, made.certificates, strict=True)) | {TABLE_GUIDS["crl"]: made.crls[0]}
    (tmp_path / "auxblob").write_bytes(certificate_table(table))
    (found,) = snp_sets(load_material([tmp_path]).amd)
    assert found == SnpEndorsements(made.certificates[:0:-1])


def test_a_nitro_root_is_left_alone(mixed: Path) -> None:
    before = load_material([mixed])
    root = Aws.create(NOW, secret=bytes(32)).root_der
    (mixed / "aws.der").write_bytes(root)
    pem = f"-----BEGIN CERTIFICATE-----\n{base64.encodebytes(root).decode()}-----END CERTIFICATE-----\n"
    (mixed / "aws.pem").write_text(pem)
    after = load_material([mixed])
    assert after.dcap == before.dcap
    assert {(piece.kind, piece.data) for piece in after.amd} == {(piece.kind, piece.data) for piece in before.amd}


@pytest.mark.parametrize("name", ["garbage", "report", "nitro document", "cut list", "cut certificate", "empty"])
def test_what_is_no_endorsement_is_refused(name: str, mixed: Path, amd: AmdVendor, lists: Mapping[str, bytes]) -> None:
    data = {
        "garbage": b"\x00\x01 hello",
        "report": amd.platform("Milan").evidence(bytes(64)).report,
        "nitro document": Aws.create(NOW, secret=bytes(32)).enclave().document(),
        "cut list": lists["Milan"][:-1],
        "cut certificate": amd.authority("Milan", "ark")[:-1],
        "empty": b"",
    }
    (mixed / "other").write_bytes(data[name])
    malformed(mixed)
    malformed(mixed / "other")
    (mixed / "other").rename(mixed / ".other")
    assert len(load_material([mixed]).amd) == 8


def test_a_broken_table_keeps_its_own_code(mixed: Path, amd: AmdVendor) -> None:
    table = certificate_table({TABLE_GUIDS["ark"]: amd.authority("Milan", "ark")})
    (mixed / "auxblob").write_bytes(table[:40])
    with pytest.raises(FormatError) as caught:
        load_material([mixed])
    assert caught.value.code is Code.SNP_CERTIFICATE_TABLE


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError) as caught:
        load_material([tmp_path / "nowhere"])
    assert caught.value.code is Code.ENDORSEMENTS_UNAVAILABLE
    assert load_material([tmp_path]).amd == load_material([]).amd == ()


def test_amds_files_are_bounded_as_all_are(mixed: Path, lists: Mapping[str, bytes]) -> None:
    deep = mixed
    for number in range(ENDORSEMENT_DEPTH_MAX + 1):
        deep /= str(number)
        deep.mkdir()
    (deep / "crl").write_bytes(lists["Milan"])
    malformed(mixed)


def test_amds_files_are_counted(monkeypatch: pytest.MonkeyPatch, mixed: Path) -> None:
    from proxy_attestation.endorsements import load as module  # noqa: PLC0415 - patched here alone

    files = [path for path in mixed.iterdir() if path.is_file()]
    size = sum(path.stat().st_size for path in files)
    for name, exact in (("ENDORSEMENT_FILES_MAX", len(files)), ("ENDORSEMENT_TOTAL_MAX", size)):
        with monkeypatch.context() as patch:
            patch.setattr(module, name, exact)
            load_material([mixed])
            patch.setattr(module, name, exact - 1)
            malformed(mixed)


# Sets.


def pieces(*found: tuple[SnpKind, bytes]) -> list[SnpPiece]:
    return [SnpPiece(kind, data, "file") for kind, data in found]


def test_without_an_ark_there_is_no_set(amd: AmdVendor, lists: Mapping[str, bytes]) -> None:
    assert snp_sets([]) == ()
    others = pieces((SnpKind.ISSUER, amd.authority("Milan", "ask")), (SnpKind.CRL, lists["Milan"]))
    assert snp_sets(others) == ()


def test_an_ark_alone_is_a_set_that_does_not_verify(amd: AmdVendor) -> None:
    ark = amd.authority("Milan", "ark")
    (found,) = snp_sets(pieces((SnpKind.ARK, ark)))
    assert found == SnpEndorsements((ark,))
    with pytest.raises(ProxyAttestationError) as caught:
        verify_endorsements(found, Roots(frozenset(), {Product.MILAN: frozenset({amd.ark_pin("Milan")})}), NOW)
    assert caught.value.code is Code.SNP_ENDORSEMENTS_MISSING


def test_one_piece_twice_counts_once(amd: AmdVendor, lists: Mapping[str, bytes]) -> None:
    one = pieces(
        (SnpKind.CRL, lists["Milan"]),
        (SnpKind.ISSUER, amd.authority("Milan", "ask")),
        (SnpKind.ARK, amd.authority("Milan", "ark")),
    )
    assert snp_sets(one * 3) == snp_sets(one)
    assert len(snp_sets(one)) == 1


def test_two_arks_each_with_its_own(amd: AmdVendor, lists: Mapping[str, bytes]) -> None:
    found = snp_sets(
        pieces(
            (SnpKind.ARK, amd.authority("Milan", "ark")),
            (SnpKind.ARK, amd.authority("Genoa", "ark")),
            (SnpKind.ISSUER, amd.authority("Genoa", "asvk")),
            (SnpKind.CRL, lists["Genoa"]),
            (SnpKind.CRL, lists["Milan"]),
            (SnpKind.ISSUER, amd.authority("Milan", "ask")),
            (SnpKind.CRL, lists["Turin"]),
        )
    )
    assert found == (
        SnpEndorsements((amd.authority("Milan", "ark"), amd.authority("Milan", "ask")), (lists["Milan"],)),
        SnpEndorsements((amd.authority("Genoa", "ark"), amd.authority("Genoa", "asvk")), (lists["Genoa"],)),
    )


def test_two_arks_of_one_name_make_two_sets(amd: AmdVendor, lists: Mapping[str, bytes]) -> None:
    """Names tell what belongs together; the one whose key is pinned is found when the sets are verified."""
    arks = (amd.authority("Milan", "ark", stranger=True), amd.authority("Milan", "ark"))
    ask = amd.authority("Milan", "ask")
    found = snp_sets(
        pieces(*((SnpKind.ARK, ark) for ark in arks), (SnpKind.ISSUER, ask), (SnpKind.CRL, lists["Milan"]))
    )
    assert found == tuple(SnpEndorsements((ark, ask), (lists["Milan"],)) for ark in arks)
    roots = Roots(frozenset(), {Product.MILAN: frozenset({amd.ark_pin("Milan")})})
    with pytest.raises(ProxyAttestationError) as caught:
        verify_endorsements(found[0], roots, NOW)
    assert caught.value.code is Code.SNP_ROOT
    assert verify_endorsements(found[1], roots, NOW).platform == b"Milan"


def test_a_set_is_bounded(amd: AmdVendor) -> None:
    key, serial = amd.key("Milan ark"), 0x30000
    life = (NOW - DAY, NOW + DAY)
    issuers = [
        issue_ca(
            "SEV-Milan", amd.key("Milan ask"), serial + n, life, issuer="ARK-Milan", signing_key=key, path_length=0
        )
        for n in range(SNP_CERTIFICATES_MAX + 1)
    ]
    crls = [revocation_list(Crl(n, *life), "ARK-Milan", key) for n in range(SNP_CRLS_MAX + 1)]
    found = pieces(*((SnpKind.ISSUER, der) for der in issuers), *((SnpKind.CRL, der) for der in crls))
    ark = amd.authority("Milan", "ark")
    (made,) = snp_sets([*found, *pieces((SnpKind.ARK, ark))])
    # Twelve are left for a peer: eight beside its report, four in its table.
    assert made.certificates == (ark, *issuers[: SNP_CERTIFICATES_MAX - 12 - 1])
    assert made.crls == tuple(crls)  # `amd_lists` chooses among them
    assert read_amd_certificate(made.certificates[0]).common_name.endswith("ARK-Milan")


def test_detection_and_sets_agree_on_every_line(amd: AmdVendor, lists: Mapping[str, bytes]) -> None:
    files = [amd.authority(line, role) for line in Product for role in ROLES] + list(lists.values())
    found = [piece for data in files for piece in detect_snp(data, "file") or ()]
    assert [same(one, of_line(amd, lists, line)) for one, line in zip(snp_sets(found), Product, strict=True)] == [
        True
    ] * len(Product)
