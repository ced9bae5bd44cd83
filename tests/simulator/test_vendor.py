"""The vendor: what its certificates and documents say, and that it survives being stored."""

import json
import stat
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dcap_qvl
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

from proxy_attestation_simulator import der
from proxy_attestation_simulator.collateral import FMSPC
from proxy_attestation_simulator.collateral_faults import PIECES
from proxy_attestation_simulator.documents import split_document
from proxy_attestation_simulator.errors import SimulatorError
from proxy_attestation_simulator.files import FILE_NAMES, write_endorsements
from proxy_attestation_simulator.intel import Vendor

Judge = Callable[[bytes, Mapping[str, bytes]], str]


def _all_certificates(vendor: Vendor) -> list[x509.Certificate]:
    found = []
    for tee in ("sgx", "tdx"):
        for ca in ("platform", "processor"):
            pieces = vendor.endorsements(tee, ca=ca)
            found += x509.load_pem_x509_certificates(vendor.platform(tee, ca=ca).certificate_chain)
            for piece in PIECES:
                if piece.endswith("chain"):
                    found += x509.load_pem_x509_certificates(pieces[piece])
    return found


def test_every_certificate_says_that_it_is_simulated(vendor: Vendor) -> None:
    for certificate in _all_certificates(vendor) + _all_certificates(vendor.stranger):
        for name in (certificate.subject, certificate.issuer):
            assert str(name.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value).startswith("Simulated ")
            assert name.get_attributes_for_oid(NameOID.ORGANIZATION_NAME)[0].value == "SIMULATED"


def test_names_are_those_that_the_walk_looks_for(vendor: Vendor) -> None:
    def common_names(chain: bytes) -> list[str]:
        return [
            str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)
            for certificate in x509.load_pem_x509_certificates(chain)
        ]

    root = "Simulated Intel SGX Root CA"
    for ca, name in (("platform", "Platform"), ("processor", "Processor")):
        chain = ["Simulated Intel SGX PCK Certificate", f"Simulated Intel SGX PCK {name} CA", root]
        assert common_names(vendor.platform("sgx", ca=ca).certificate_chain) == chain
        assert common_names(vendor.endorsements("sgx", ca=ca)["pck_crl_issuer_chain"]) == chain[1:]
    assert common_names(vendor.endorsements("sgx")["tcb_info_issuer_chain"]) == [
        "Simulated Intel SGX TCB Signing",
        root,
    ]


def test_chains_and_lists_verify_under_the_root(vendor: Vendor) -> None:
    root = x509.load_der_x509_certificate(vendor.root_der)
    for ca in ("platform", "processor"):
        pck, issuer, top = (x509.load_der_x509_certificate(data) for data in vendor.platform("sgx", ca=ca).certificates)
        assert top == root
        pck.verify_directly_issued_by(issuer)
        issuer.verify_directly_issued_by(root)
        root.verify_directly_issued_by(root)
        pieces = vendor.endorsements("sgx", ca=ca)
        issuer_key, root_key = issuer.public_key(), root.public_key()
        assert isinstance(issuer_key, ec.EllipticCurvePublicKey)
        assert isinstance(root_key, ec.EllipticCurvePublicKey)
        assert x509.load_der_x509_crl(pieces["pck_crl"]).is_signature_valid(issuer_key)
        assert x509.load_der_x509_crl(pieces["root_ca_crl"]).is_signature_valid(root_key)
    constraints = root.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert (constraints.value.ca, constraints.value.path_length) == (True, 1)


@pytest.mark.parametrize("ca", ["platform", "processor"])
def test_the_pck_extension_says_what_the_platform_is(vendor: Vendor, ca: str) -> None:
    platform = vendor.platform("tdx", ca=ca, fmspc=b"\1\2\3\4\5\6", pce_id=b"\7\x08", svns=range(1, 17), pce_svn=300)
    extension = dcap_qvl.parse_pck_extension_from_pem(platform.certificate_chain)
    assert extension.ppid == platform.pck.ppid
    assert extension.cpu_svn == bytes(range(1, 17))
    assert extension.pce_svn == 300
    assert extension.pce_id == b"\7\x08"
    assert extension.fmspc == b"\1\2\3\4\5\6"
    components = [extension.get_value(f"1.2.840.113741.1.13.1.2.{number}") for number in range(1, 17)]
    assert [int.from_bytes(component, "big") for component in components] == list(range(1, 17))
    assert extension.platform_instance_id == (platform.pck.platform_instance_id if ca == "platform" else None)


@pytest.mark.parametrize("tee", ["sgx", "tdx"])
def test_documents_are_signed_over_their_exact_inner_bytes(vendor: Vendor, tee: str) -> None:
    pieces = vendor.endorsements(tee)
    signer = x509.load_pem_x509_certificates(pieces["tcb_info_issuer_chain"])[0].public_key()
    assert isinstance(signer, ec.EllipticCurvePublicKey)
    for piece, member in (("tcb_info", "tcbInfo"), ("qe_identity", "enclaveIdentity")):
        inner, signature = split_document(pieces[piece])
        assert pieces[piece] == f'{{"{member}":{inner},"signature":"{signature.hex()}"}}'.encode()
        r, s = (int.from_bytes(part, "big") for part in (signature[:32], signature[32:]))
        signer.verify(encode_dss_signature(r, s), inner.encode(), ec.ECDSA(hashes.SHA256()))


@pytest.mark.parametrize("tee", ["sgx", "tdx"])
def test_documents_say_what_was_asked_for(vendor: Vendor, tee: str) -> None:
    issued = datetime(2026, 11, 1, 1, 2, 3, tzinfo=UTC)
    pieces = vendor.endorsements(
        tee,
        evaluation_number=99,
        issue_date=issued,
        next_update=issued + timedelta(days=3),
        crl_number=44,
        fmspc=b"\xab" * 6,
        pce_id=b"\0\x0f",
        status="SWHardeningNeeded",
        advisories=("INTEL-SA-00615",),
        revoked=(12345,),
    )
    tcb = json.loads(split_document(pieces["tcb_info"])[0])
    qe = json.loads(split_document(pieces["qe_identity"])[0])
    assert (tcb["id"], tcb["version"], tcb["fmspc"], tcb["pceId"]) == (tee.upper(), 3, "AB" * 6, "000F")
    for document in (tcb, qe):
        assert document["tcbEvaluationDataNumber"] == 99
        assert document["issueDate"] == "2026-11-01T01:02:03Z"
        assert document["nextUpdate"] == "2026-11-04T01:02:03Z"
    assert tcb["tcbLevels"][0]["tcbStatus"] == "SWHardeningNeeded"
    assert tcb["tcbLevels"][0]["advisoryIDs"] == ["INTEL-SA-00615"]
    assert ("tdxModuleIdentities" in tcb) == (tee == "tdx")
    assert (qe["id"], qe["isvprodid"]) == (("QE", 1) if tee == "sgx" else ("TD_QE", 2))
    for piece in ("pck_crl", "root_ca_crl"):
        crl = x509.load_der_x509_crl(pieces[piece])
        assert crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 44
        assert crl.last_update_utc == issued
    pck_crl = x509.load_der_x509_crl(pieces["pck_crl"])
    assert pck_crl.get_revoked_certificate_by_serial_number(12345) is not None
    assert pck_crl.next_update_utc == issued + timedelta(days=3)


def test_levels_run_from_newest_to_oldest_with_every_status(vendor: Vendor) -> None:
    levels = json.loads(split_document(vendor.endorsements("sgx")["tcb_info"])[0])["tcbLevels"]
    assert [level["tcbStatus"] for level in levels] == [
        "UpToDate",
        "SWHardeningNeeded",
        "ConfigurationNeeded",
        "ConfigurationAndSWHardeningNeeded",
        "OutOfDate",
        "OutOfDateConfigurationNeeded",
        "Revoked",
    ]
    svns = [[component["svn"] for component in level["tcb"]["sgxtcbcomponents"]] for level in levels]
    assert svns == sorted(svns, reverse=True)
    assert all(len(row) == 16 for row in svns)
    assert levels[1]["advisoryIDs"] == ["INTEL-SA-00615"]
    dates = [level["tcbDate"] for level in levels]
    assert dates == sorted(dates, reverse=True)


def test_version_2_of_the_tcb_info_is_flat(vendor: Vendor) -> None:
    tcb = json.loads(split_document(vendor.endorsements("sgx", tcb_info_version=2)["tcb_info"])[0])
    assert tcb["version"] == 2
    first = tcb["tcbLevels"][0]["tcb"]
    assert [first[f"sgxtcbcomp{number:02}svn"] for number in range(1, 17)] == list(vendor.platform("sgx").pck.svns)
    assert "sgxtcbcomponents" not in first


def test_a_stored_vendor_is_the_same(tmp_path: Path, judge: Judge) -> None:
    made = Vendor.create(datetime(2026, 11, 24, 11, 22, 33, 444, tzinfo=UTC))
    made.save(tmp_path / "new")
    assert stat.S_IMODE((tmp_path / "new" / "vendor.json").stat().st_mode) == 0o600
    loaded = Vendor.load(tmp_path / "new")
    assert loaded.root_der == made.root_der == (tmp_path / "new" / "root.der").read_bytes()
    assert (
        x509.load_pem_x509_certificate((tmp_path / "new" / "root.pem").read_bytes()).public_bytes(Encoding.DER)
        == made.root_der
    )
    assert (loaded.root_pin, loaded.mr_signer) == (made.root_pin, made.mr_signer)
    assert loaded.platform("sgx").quote(bytes(64)) == made.platform("sgx").quote(bytes(64))
    assert loaded.endorsements("tdx") == made.endorsements("tdx")
    assert judge(made.platform("sgx").quote(bytes(64)), made.endorsements("sgx")).startswith("refused")


def test_vendors_differ() -> None:
    now = datetime(2026, 11, 24, tzinfo=UTC)
    first, second = Vendor.create(now), Vendor.create(now)
    assert first.root_pin != second.root_pin
    assert first.mr_signer != second.mr_signer
    assert first.stranger.root_pin not in {first.root_pin, second.root_pin}


def test_the_pin_is_the_digest_of_the_roots_key(vendor: Vendor) -> None:
    root = x509.load_der_x509_certificate(vendor.root_der)
    digest = hashes.Hash(hashes.SHA256())
    digest.update(root.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo))
    assert vendor.root_pin == digest.finalize()


@pytest.mark.parametrize("damage", ["no file", "no json", "no secret", "other root"])
def test_a_damaged_vendor_is_refused(tmp_path: Path, vendor: Vendor, damage: str) -> None:
    if damage != "no file":
        vendor.save(tmp_path)
    if damage == "no json":
        (tmp_path / "vendor.json").write_text("x")
    if damage == "no secret":
        (tmp_path / "vendor.json").write_text('{"created_at": "2026-11-24T00:00:00+00:00"}')
    if damage == "other root":
        (tmp_path / "root.der").write_bytes(vendor.stranger.root_der)
    with pytest.raises(SimulatorError):
        Vendor.load(tmp_path)


def test_what_does_not_exist_is_refused(vendor: Vendor) -> None:
    with pytest.raises(SimulatorError):
        vendor.platform("snp")
    with pytest.raises(SimulatorError):
        vendor.platform("sgx", ca="root")
    with pytest.raises(SimulatorError):
        vendor.endorsements("snp")
    with pytest.raises(SimulatorError):
        vendor.endorsements("sgx", ca="root")
    with pytest.raises(SimulatorError):
        Vendor.create(datetime(2026, 11, 24))  # noqa: DTZ001 - a time without a zone is what is refused


def test_collateral_on_disk_is_exactly_the_set(tmp_path: Path, vendor: Vendor) -> None:
    pieces = vendor.endorsements("sgx")
    write_endorsements(pieces, tmp_path / "sgx")
    written = {path.name: path.read_bytes() for path in (tmp_path / "sgx").iterdir()}
    assert written == {FILE_NAMES[piece]: data for piece, data in pieces.items()}
    write_endorsements(vendor.endorsements("sgx", fault="missing=pck_crl"), tmp_path / "sgx")
    assert {path.name for path in (tmp_path / "sgx").iterdir()} == {*FILE_NAMES.values()} - {"pck_crl.der"}


def test_usual_platforms_fit_the_usual_collateral(vendor: Vendor) -> None:
    for tee, fmspc in FMSPC.items():
        assert vendor.platform(tee).fmspc == fmspc
        assert json.loads(split_document(vendor.endorsements(tee)["tcb_info"])[0])["fmspc"] == fmspc.hex().upper()


@pytest.mark.parametrize(
    ("encoded", "expected"),
    [
        (der.integer(0), "020100"),
        (der.integer(127), "02017f"),
        (der.integer(128), "02020080"),
        (der.integer(300), "0202012c"),
        (der.enumerated(1), "0a0101"),
        (der.boolean(True), "0101ff"),
        (der.octet_string(bytes(200))[:4], "0481c800"),
        (der.octet_string(bytes(300))[:4], "0482012c"),
        (der.object_identifier("1.2.840.113741.1.13.1.2.18"), "060b2a864886f84d010d010212"),
        (der.sequence([der.integer(1), der.integer(2)]), "3006020101020102"),
    ],
)
def test_der(encoded: bytes, expected: str) -> None:
    assert encoded.hex() == expected
