"""`inspect` tells files by content, shows what is in them, and never says that they are good."""

import base64
import json
import re
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_attestation.cli.inspecting.detect import read_content
from proxy_attestation.errors import ProxyAttestationError
from proxy_attestation.formats import cmw
from proxy_attestation.formats.csr import ID_PE_CMW, build_csr
from proxy_attestation.formats.ear import MEDIA_TYPE, LeafClaims, encode_claims_set, encode_extension
from proxy_attestation.formats.evidence import Evidence, encode_evidence
from proxy_attestation.formats.request import (
    ApplicationKind,
    KeyOrigin,
    Request,
    RuntimeClaims,
    encode_request,
    names_from,
)
from proxy_attestation.formats.tee import Tee
from proxy_attestation_simulator.intel import Vendor

Cli = Callable[..., Any]
KEY = ec.generate_private_key(ec.SECP256R1())
SPKI = KEY.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
REQUEST = Request(
    "example-app",
    Tee.SGX,
    names_from(("app.example.org",), ("127.0.0.1",)),
    3600,
    RuntimeClaims(ApplicationKind.WASM, b"\x11" * 32, KeyOrigin.TEE),
)
CLAIMS = LeafClaims(
    issued_at=1_700_000_000,
    expires_at=1_700_003_600,
    nonce=b"\x01" * 32,
    build="0.1.0",
    tee=Tee.SGX,
    status=2,
    vector=((0, 2),),
    policy_digest=b"\x02" * 32,
    spki=SPKI,
    anchor=b"\x03" * 32,
    key_origin=KeyOrigin.TEE,
    measurements=(("mr_enclave", b"\x04" * 32),),
    signer=b"\x05" * 32,
    product_id=1,
    svn=2,
    debug=False,
    tcb_status="UpToDate",
    tcb_date=1_600_000_000,
    tcb_evaluation_number=17,
    advisories=("INTEL-SA-00615",),
    application_sha256=b"\x06" * 32,
    owner="shared",
    evidence_sha256=b"\x07" * 32,
    ledger_origin="example.org/proxy-attestation/ledger",
    simulated=True,
)


def _leaf(vendor: Vendor, extension: bytes, *, common_name: str = "leaf") -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(KEY.public_key())
        .serial_number(7)
        .not_valid_before(vendor.created_at)
        .not_valid_after(vendor.created_at + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("app.example.org")]), critical=True)
        .add_extension(x509.UnrecognizedExtension(ID_PE_CMW, extension), critical=False)
    )
    return builder.sign(KEY, hashes.SHA256()).public_bytes(Encoding.DER)


def _pem(label: str, der: bytes) -> bytes:
    return f"-----BEGIN {label}-----\n{base64.encodebytes(der).decode()}-----END {label}-----\n".encode()


@pytest.fixture(scope="session")
def files(vendor: Vendor) -> Mapping[str, tuple[str, bytes]]:
    """What there is, by name: the kind that must be told, and the bytes."""
    sgx, tdx = (vendor.platform(tee).quote(bytes(64)) for tee in ("sgx", "tdx"))
    pieces = vendor.endorsements("tdx")
    bundle = {name: data.hex() if name.endswith("crl") else data.decode() for name, data in pieces.items()}
    record = encode_evidence(Evidence(Tee.SGX, sgx, platform_certificates=(vendor.root_der,)))
    csr = build_csr(KEY, record)
    leaf = _leaf(vendor, encode_extension(encode_claims_set(CLAIMS)))
    return {
        "sgx": ("sgx quote", sgx),
        "tdx": ("tdx quote", tdx),
        "v5": ("tdx quote", vendor.platform("tdx").quote(bytes(64), version=5)),
        "hex": ("sgx quote", sgx.hex().encode()),
        "base64": ("tdx quote", base64.encodebytes(tdx)),
        "record": ("evidence record", record),
        "csr": ("certification request", csr),
        "csr in pem": ("certification request", _pem("CERTIFICATE REQUEST", csr)),
        "csr without evidence": ("certification request", build_csr(KEY, None)),
        "request": ("request", encode_request(REQUEST)),
        "leaf": ("certificate", leaf),
        "leaf in pem": ("certificate", _pem("CERTIFICATE", leaf)),
        "chain": ("certificate chain", pieces["pck_crl_issuer_chain"]),
        "claims": (
            "attestation claims",
            cmw.encode_cmw(cmw.CmwRecord(MEDIA_TYPE, encode_claims_set(CLAIMS), cmw.ATTESTATION_RESULTS)),
        ),
        "tcb info": ("TCB info", pieces["tcb_info"]),
        "old tcb info": ("TCB info", vendor.endorsements("sgx", tcb_info_version=2)["tcb_info"]),
        "qe identity": ("QE identity", pieces["qe_identity"]),
        "crl": ("certificate revocation list", pieces["pck_crl"]),
        "crl in pem": ("certificate revocation list", _pem("X509 CRL", pieces["root_ca_crl"])),
        "bundle": ("bundle of collateral", json.dumps(bundle).encode()),
    }


NAMES = (
    "sgx", "tdx", "v5", "hex", "base64", "record", "csr", "csr in pem", "csr without evidence", "request", "leaf",
    "leaf in pem", "chain", "claims", "tcb info", "old tcb info", "qe identity", "crl", "crl in pem", "bundle",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_each_kind_is_told_by_content_and_nothing_is_called_good(
    cli: Cli, files: Mapping[str, tuple[str, bytes]], tmp_path: Path, name: str
) -> None:
    kind, data = files[name]
    path = tmp_path / "file"
    path.write_bytes(data)
    ran = cli("inspect", path)
    assert ran.status == 0, ran.err
    assert ran.out.splitlines()[0] == f"{kind} (nothing below was verified)"
    assert not re.search(r"\b(valid|genuine|trusted|accepted|ok)\b", ran.out, re.IGNORECASE)
    shown = cli("inspect", "-", "--json", stdin=data)
    assert (shown.status, shown.json["kind"], shown.json["verified"]) == (0, kind, False)
    assert shown.json["content"]


def test_all_names_are_tested(files: Mapping[str, tuple[str, bytes]]) -> None:
    assert tuple(files) == NAMES


def _content(data: bytes, cli: Cli) -> dict[str, Any]:
    content: dict[str, Any] = cli("inspect", "-", "--json", stdin=data).json["content"]
    return content


def test_a_quote(cli: Cli, files: Mapping[str, tuple[str, bytes]]) -> None:
    quote = files["sgx"][1]
    content = _content(quote + bytes(3), cli)
    assert (content["header"]["version"], content["trailing_zero_bytes"]) == (3, 3)
    assert content["body"]["mr_enclave"] == quote[48 + 64 : 48 + 96].hex()
    assert content["body"]["report_data"] == "00" * 64
    leaf, ca, root = content["certification"]["certificates"]
    assert leaf["sgx_platform"]["components"].count(" ") == 15
    assert (leaf["issuer"], ca["issuer"]) == (ca["subject"], root["subject"])


def test_our_certificate(cli: Cli, files: Mapping[str, tuple[str, bytes]]) -> None:
    content = _content(files["leaf"][1], cli)
    claims = content["attestation_claims"]
    assert content["subject_alternative_names"] == ["app.example.org"]
    assert claims["attested_key_sha256"] == content["spki_sha256"]
    assert claims["measurements"] == {"mr_enclave": "04" * 32}
    assert (claims["tcb_status"], claims["simulated"], claims["debug"]) == ("UpToDate", True, False)
    assert claims["expires_at"] == "2023-11-14T23:13:20Z"


def test_a_claims_extension_of_somebody_else_is_named_and_not_read(cli: Cli, vendor: Vendor) -> None:
    content = _content(_leaf(vendor, b"\x04\x03abc"), cli)
    assert content["attestation_claims"] is None


def test_a_request(cli: Cli, files: Mapping[str, tuple[str, bytes]]) -> None:
    content = _content(files["request"][1], cli)
    assert content["names"] == ["app.example.org", "127.0.0.1"]
    assert (content["workload"], content["lifetime"], content["application_kind"]) == ("example-app", 3600, "wasm")


def test_evidence_in_a_certification_request(cli: Cli, files: Mapping[str, tuple[str, bytes]]) -> None:
    content = _content(files["csr"][1], cli)
    assert content["evidence"]["quote"]["header"]["version"] == 3
    assert len(content["evidence"]["platform_certificates"]) == 1
    assert _content(files["csr without evidence"][1], cli)["evidence"] is None


def test_collateral(cli: Cli, files: Mapping[str, tuple[str, bytes]]) -> None:
    info = _content(files["tcb info"][1], cli)
    assert (info["tee"], len(info["fmspc"])) == ("tdx", 12)
    assert info["tcb_levels"][0]["status"] == "UpToDate"
    kinds = [piece["kind"] for piece in _content(files["bundle"][1], cli)["pieces"]]
    assert kinds.count("TCB info") == kinds.count("QE identity") == kinds.count("root CA CRL") == 1


def test_what_a_file_says_cannot_write_to_the_terminal(cli: Cli, vendor: Vendor) -> None:
    ran = cli("inspect", "-", stdin=_leaf(vendor, b"\x04\x00", common_name="evil\x1b[2J\u202e"))
    assert ran.status == 0
    assert "\x1b" not in ran.out
    assert "\u202e" not in ran.out
    assert "\\x1b[2J" in ran.out


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "input.unknown"),
        (b"read me", "input.unknown"),
        (b"\x30\x03\x02\x01\x00", "input.unknown"),
        (b"-----BEGIN PRIVATE KEY-----\nAA==\n-----END PRIVATE KEY-----\n", "input.unknown"),
        (b"-----BEGIN CERTIFICATE REQUEST-----\nAA==\n-----END CERTIFICATE REQUEST-----\n", "csr.malformed"),
        (b"\xa5\x01", "request.malformed"),
        (b"\x83\x01", "input.unknown"),
        (b'{"hello":1}', "endorsements.malformed"),
        (b'{"tcbInfo":{},"signature":"00"}', "endorsements.malformed"),
        (b" " * (2 * 1024 * 1024 + 1), "input.unknown"),
    ],
)
def test_what_is_nothing_known_is_malformed(cli: Cli, data: bytes, code: str) -> None:
    ran = cli("inspect", "-", "--json", stdin=data)
    assert (ran.status, ran.json["error"]["code"]) == (4, code)


def test_a_quote_of_a_kind_that_is_not_read_says_why(cli: Cli, files: Mapping[str, tuple[str, bytes]]) -> None:
    data = bytearray(files["sgx"][1])
    data[2] = 3
    ran = cli("inspect", "-", "--json", stdin=bytes(data))
    assert (ran.status, ran.json["error"]["code"]) == (3, "sgx.key_type")


def test_an_absent_file_is_a_usage_error(cli: Cli, tmp_path: Path) -> None:
    assert cli("inspect", tmp_path / "absent").status == 2
    assert cli("inspect", tmp_path).status == 2


def test_every_file_of_the_collection_is_shown_or_refused_with_a_code(vectors_dir: Path) -> None:
    shown = 0
    for folder in ("dcap", "anchors", "ratls", "snp", "nitro", "tpm"):
        for path in sorted((vectors_dir / folder).rglob("*")):
            if path.is_file() and path.stat().st_size < 100_000:
                try:
                    shown += bool(read_content(path.read_bytes()).nodes)
                except ProxyAttestationError as error:
                    assert error.exit_status in (3, 4), path
    assert shown > 150


@settings(deadline=None, max_examples=200)
@given(
    st.binary(max_size=300)
    | st.sampled_from([b"\x83", b"\xa5", b"\x30\x82", b"{", b"-----BEGIN CERTIFICATE-----\n"]).flatmap(
        lambda start: st.binary(max_size=200).map(lambda rest: start + rest)
    )
)
def test_any_bytes_give_a_tree_or_our_error(data: bytes) -> None:
    try:
        assert read_content(data).kind
    except ProxyAttestationError as error:
        assert error.exit_status in (3, 4)


_SEEDS = {
    "request": encode_request(REQUEST),
    "claims": cmw.encode_cmw(cmw.CmwRecord(MEDIA_TYPE, encode_claims_set(CLAIMS), cmw.ATTESTATION_RESULTS)),
    "csr": build_csr(KEY, None),
}


@settings(deadline=None, max_examples=200)
@given(st.sampled_from(sorted(_SEEDS)), st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), min_size=1))
def test_a_damaged_file_gives_a_tree_or_our_error(name: str, changes: list[tuple[int, int]]) -> None:
    data = bytearray(_SEEDS[name])
    for position, value in changes:
        data[position % len(data)] = value
    try:
        assert read_content(bytes(data)).kind
    except ProxyAttestationError as error:
        assert error.exit_status in (3, 4)
