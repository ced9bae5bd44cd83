"""`inspect` with SEV-SNP reports, Nitro documents, TPM quotes, and records around them."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_attestation.cli.inspecting.detect import read_content
from proxy_attestation.cli.inspecting.kinds import snp_tree
from proxy_attestation.cli.inspecting.tree import tree_to_json
from proxy_attestation.errors import ProxyAttestationError
from proxy_attestation.formats import cbor, cmw
from proxy_attestation.formats.csr import build_csr
from proxy_attestation.formats.evidence import Evidence, encode_evidence
from proxy_attestation.formats.snp_report import decode_snp_report
from proxy_attestation.formats.tee import Tee
from proxy_attestation_simulator.amd import TABLE_GUIDS, AmdVendor, certificate_table
from proxy_attestation_simulator.aws import Aws
from proxy_attestation_simulator.tpm import TpmVendor, make

Cli = Callable[..., Any]
NOW = datetime(2026, 11, 24, tzinfo=UTC)
SNP = AmdVendor.fixed(NOW).platform().evidence(bytes(range(64)), measurement=b"\x6b" * 48)
TABLE = certificate_table(
    dict(zip((TABLE_GUIDS["VCEK"], TABLE_GUIDS["issuer"], TABLE_GUIDS["ark"]), SNP.certificates, strict=True))
)
PCRS = {index: bytes([index + 1]) * 48 for index in (0, 1, 2)}
NITRO = Aws.create(NOW, secret=bytes(range(32))).enclave(pcrs=PCRS).document(nonce=b"nonce")
TPM = make(TpmVendor.create(NOW))


def _record(value: dict[int, object]) -> bytes:
    media_type = "application/vnd.proxy-attestation.tpm-evidence+cbor"
    return cmw.encode_cmw(cmw.CmwRecord(media_type, cbor.encode(value), cmw.EVIDENCE))


TPM_RECORD = _record({1: TPM.evidence, 2: list(TPM.certificates), 3: bytes(32)})
PARTS = cbor2.loads(TPM.evidence)
FILES: Mapping[str, tuple[str, bytes]] = {
    "snp": ("snp report", SNP.report),
    "snp in hex": ("snp report", SNP.report.hex().encode()),
    "snp with its table": ("snp report", SNP.report + TABLE),
    "snp in a record": ("evidence record", encode_evidence(Evidence(Tee.SNP, SNP.report, SNP.certificates))),
    "nitro": ("nitro document", NITRO),
    "nitro in a record": ("evidence record", encode_evidence(Evidence(Tee.NITRO, NITRO))),
    "tpm": ("TPM quote", TPM.evidence),
    "tpm alone": ("TPM quote", PARTS[1]),
    "tpm in a record": ("evidence record", TPM_RECORD),
    "tpm in a request": ("certification request", build_csr(ec.derive_private_key(5, ec.SECP256R1()), TPM_RECORD)),
}


@pytest.mark.parametrize("name", FILES)
def test_each_kind_is_told_by_content(cli: Cli, name: str) -> None:
    kind, data = FILES[name]
    ran = cli("inspect", "-", stdin=data)
    assert ran.status == 0, ran.err
    assert ran.out.splitlines()[0] == f"{kind} (nothing below was verified)"
    shown = cli("inspect", "-", "--json", stdin=data).json
    assert (shown["kind"], shown["verified"]) == (kind, False)


def _content(cli: Cli, data: bytes) -> dict[str, Any]:
    content: dict[str, Any] = cli("inspect", "-", "--json", stdin=data).json["content"]
    return content


def test_a_report(cli: Cli) -> None:
    content = _content(cli, SNP.report + TABLE)
    report = content["report"]
    assert (report["measurement"], report["report_data"]) == ("6b" * 48, bytes(range(64)).hex())
    assert (report["product"], report["tcb_snp"], report["migration_agent"]) == ("Milan", 24, 0)
    vcek, ask, ark = content["certificates"]
    assert (vcek["issuer"], ask["issuer"]) == (ask["subject"], ark["subject"])
    assert _content(cli, SNP.report)["certificates"] == []


def test_every_field_of_a_report_is_explained() -> None:
    (report, *_) = snp_tree(decode_snp_report(SNP.report))
    assert isinstance(report.value, tuple)
    later = {"tcb_tee", "tcb_snp", "tcb_microcode"}  # the first of its row is explained
    assert {node.name for node in report.value if not node.meaning} == later


def test_a_document(cli: Cli) -> None:
    content = _content(cli, NITRO)
    document = content["document"]
    assert (document["pcr0"], document["nonce"], document["user_data"]) == (PCRS[0].hex(), b"nonce".hex(), None)
    assert "pcrs" not in document
    assert "5" in document["zero_pcrs"]
    (signing,), bundle = content["certificate"], content["cabundle"]
    assert signing["issuer"] == bundle[-1]["subject"]
    assert bundle[0]["issuer"] == bundle[0]["subject"]


def test_a_certificate_that_cannot_be_read_is_shown_as_bytes(cli: Cli) -> None:
    content = _content(cli, Aws.create(NOW, secret=bytes(32)).enclave().document(fault="not-a-certificate"))
    (signing,) = content["certificate"]
    assert list(signing) == ["der"]


def test_a_tpm_quote(cli: Cli) -> None:
    content = _content(cli, TPM.evidence)
    assert (content["quote"]["extra_data"], content["quote"]["type"]) == ("42" * 32, "8018")
    assert content["quote"]["pcr_selection"] == ["sha256: 0, 1, 2, 3, 4, 5, 6, 7"]
    assert content["pcrs"]["sha256_pcr0"] == PARTS[4][0].hex()
    assert (content["attestation_key"]["restricted"], content["subject_key"]["restricted"]) == (True, False)
    assert content["certification"]["certified_name"] == content["subject_key"]["name"]
    alone = _content(cli, PARTS[1])
    assert alone["quote"] == content["quote"]
    assert (alone["signature"], alone["pcrs"]) == (None, {})


def test_a_record_holds_what_is_in_it(cli: Cli) -> None:
    content = _content(cli, FILES["snp in a record"][1])
    assert (content["tee"], content["evidence"]["report"]["measurement"]) == ("snp", "6b" * 48)
    assert len(content["platform_certificates"]) == 3
    assert _content(cli, FILES["nitro in a record"][1])["evidence"]["document"]["nonce"] == b"nonce".hex()
    content = _content(cli, TPM_RECORD)
    assert (content["tee"], content["event_log_sha256"]) == ("tpm", "00" * 32)
    assert len(content["platform_certificates"]) == len(TPM.certificates)
    assert content["evidence"] == _content(cli, TPM.evidence)
    assert _content(cli, FILES["tpm in a request"][1])["evidence"] == content


@pytest.mark.parametrize(
    ("data", "status", "code"),
    [
        (SNP.report + b"\1" * 64, 4, "snp.certificate_table"),
        (b"\x06" + SNP.report[1:], 3, "snp.version"),
        (NITRO[:-1], 4, "nitro.malformed"),
        (TPM.evidence[:-1], 4, "tpm.malformed"),
        (_record({1: TPM.evidence[:-1]}), 4, "tpm.malformed"),
        (_record({1: PARTS[5]}), 3, "tpm.attest_type"),
        (_record({1: b""}), 4, "evidence.malformed"),
        (_record({2: [b"c"]}), 4, "evidence.malformed"),
        (_record({1: TPM.evidence, 4: b""}), 4, "evidence.malformed"),
        (PARTS[1][:-1], 4, "tpm.malformed"),
        (PARTS[5], 3, "tpm.attest_type"),
        (encode_evidence(Evidence(Tee.SNP, SNP.report[:-1])), 4, "snp.malformed"),
    ],
)
def test_what_breaks_its_format_has_the_code_of_that_format(cli: Cli, data: bytes, status: int, code: str) -> None:
    ran = cli("inspect", "-", "--json", stdin=data)
    assert (ran.status, ran.json["error"]["code"]) == (status, code)


@settings(deadline=None, max_examples=200)
@given(
    st.sampled_from([SNP.report, NITRO, TPM.evidence, PARTS[1]]),
    st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), min_size=1, max_size=8),
)
def test_a_damaged_one_gives_a_tree_or_our_error(data: bytes, changes: list[tuple[int, int]]) -> None:
    damaged = bytearray(data)
    for position, value in changes:
        damaged[position % len(damaged)] = value
    try:
        assert tree_to_json(read_content(bytes(damaged)).nodes)
    except ProxyAttestationError as error:
        assert error.exit_status in (3, 4)
