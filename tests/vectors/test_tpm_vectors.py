"""Every TPM case of the shared vectors, and every event log among the TDX cases, through the walk."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from proxy_attestation.appraisal.azure import HardwareLayer, appraise_hcl
from proxy_attestation.appraisal.bodies import parse_body
from proxy_attestation.appraisal.claims import TdxClaims
from proxy_attestation.appraisal.event_log import replay_td
from proxy_attestation.appraisal.tpm import TpmEndorsements, TpmResult, appraise_tpm
from proxy_attestation.appraisal.tpm_chain import Purpose, TpmRoots, verify_tpm_chain
from proxy_attestation.appraisal.tpm_claims import hcl_to_json, tpm_to_json
from proxy_attestation.codes import Code
from proxy_attestation.endorsements.detect_tpm import TpmKind, TpmPiece, assemble_tpm, detect_tpm
from proxy_attestation.errors import AppraisalError, ProxyAttestationError
from proxy_attestation.formats.azure_hcl import decode_hcl
from proxy_attestation.formats.dcap_quote import decode_quote
from proxy_attestation.formats.event_log import decode_event_log
from proxy_attestation.formats.pem import CERTIFICATE, decode_pem
from proxy_attestation.formats.tpm_evidence import decode_tpm

_INDEX = Path(__file__).resolve().parents[3] / "shared" / "vectors" / "index.json"
_ALL: list[dict[str, Any]] = json.loads(_INDEX.read_text())["vectors"] if _INDEX.is_file() else []
_CASES = {case["id"]: case for case in _ALL if case["platform"] == "tpm"}
_QUOTES = [name for name, case in _CASES.items() if "quote" in case["files"]]
_CERTIFICATES = [name for name, case in _CASES.items() if "certificate" in case["files"]]
_AZURE = [name for name, case in _CASES.items() if "hcl_report" in case["files"]]
_TDX_LOGS = {case["id"]: case for case in _ALL if case["platform"] == "tdx" and "eventlog" in case["files"]}
_NOW = datetime(2026, 1, 1, tzinfo=UTC)
_NO_ROOTS = TpmRoots(frozenset())
# What the index says of its own checks, and of the report that a layer of its own must verify.
_REMARKS = {"pcr_digest_matches_values", "eventlog_replay_matches", "eventlog_events", "nonce", "hcl"}
_CODES = {
    "tpm-keylime-checkquote-neg-bitflip": Code.TPM_ATTEST_TYPE,
    "tpm-azure-snp-trustee-v1-neg-sig": Code.TPM_SIGNATURE,
    "tpm-azure-snp-trustee-v1-neg-wrong-ak": Code.TPM_SIGNATURE,
    "tpm-azure-snp-trustee-v1-neg-pcr": Code.TPM_PCR_DIGEST,
    "tpm-azure-snp-trustee-v1-neg-nonce": Code.BINDER_MISMATCH,
}
_BESIDE = ("signature_raw", "signature_tpmt", "ak_tpmt_public", "pcrs", "pcrs_tpm2tools", "eventlog", "hcl_report")


def _bytes(vectors_dir: Path, case: dict[str, Any], name: str) -> bytes:
    path: Path = vectors_dir / case["files"][name]
    return path.read_bytes()


def _pieces(vectors_dir: Path, case: dict[str, Any]) -> Iterator[TpmPiece]:
    for name in _BESIDE:
        if name in case["files"]:
            piece = detect_tpm(_bytes(vectors_dir, case, name))
            assert piece is not None, name
            yield piece


def _appraise(vectors_dir: Path, case: dict[str, Any]) -> TpmResult:
    """The AK public key is the run's anchor; a nonce that is given must be the qualifying data."""
    evidence, beside = assemble_tpm(decode_tpm(_bytes(vectors_dir, case, "quote")), _pieces(vectors_dir, case))
    anchor = detect_tpm(_bytes(vectors_dir, case, "ak_public"))
    assert anchor is not None
    endorsements = TpmEndorsements(ak_anchors=(anchor.data,), event_log=beside.event_log)
    result = appraise_tpm(evidence, endorsements, _NO_ROOTS, _NOW)
    if "nonce" in case["claims"] and result.bound[0] != bytes.fromhex(case["claims"]["nonce"]):
        raise AppraisalError(Code.BINDER_MISMATCH)
    return result


def _verdict(vectors_dir: Path, case: dict[str, Any]) -> str:
    try:
        if "certificate" in case["files"]:
            _verify_certificate(vectors_dir, case)
        else:
            _appraise(vectors_dir, case)
    except ProxyAttestationError as error:
        return str(error.code)
    return "accept"


def _verify_certificate(vectors_dir: Path, case: dict[str, Any]) -> x509.Certificate:
    chain = [
        der
        for name in ("certificate", "chain")
        for der in decode_pem(
            _bytes(vectors_dir, case, name), CERTIFICATE, Code.ENDORSEMENTS_MALFORMED, count=8, limit=8192
        )
    ]
    root = x509.load_der_x509_certificate(chain[-1]).public_key()
    spki = root.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    roots = TpmRoots(frozenset({hashlib.sha256(spki).digest()}))
    now = datetime.fromisoformat(case["verify_at"])
    assert verify_tpm_chain(chain, Purpose.EK, roots, now).anchor in roots.pins
    with pytest.raises(AppraisalError) as refused:
        verify_tpm_chain(chain, Purpose.EK, _NO_ROOTS, now)
    assert refused.value.code is Code.TPM_ROOT
    return x509.load_der_x509_certificate(chain[0])


def test_every_case_ends_as_the_index_says(vectors_dir: Path) -> None:
    print()
    for name, case in _CASES.items():
        verdict = _verdict(vectors_dir, case)
        print(f"{case['platform']:<5} {case['expected']:<8} {verdict:<24} {name}")
        expected = "accept" if case["expected"] == "accept" else str(_CODES[name])
        assert verdict == expected, name
    assert len(_CASES) == len(_QUOTES) + len(_CERTIFICATES)


@pytest.mark.parametrize("name", [name for name in _QUOTES if _CASES[name]["expected"] == "accept"])
def test_the_claims_are_those_of_the_index(vectors_dir: Path, name: str) -> None:
    case = _CASES[name]
    result = _appraise(vectors_dir, case)
    found = tpm_to_json(result.body)
    expected = {key: value for key, value in case["claims"].items() if key not in _REMARKS}
    assert {key: found[key] for key in expected} == expected
    assert (result.body.pcrs != {}) == ("pcrs" in case["files"] or "pcrs_tpm2tools" in case["files"])


@pytest.mark.parametrize("name", [name for name in _QUOTES if "eventlog" in _CASES[name]["files"]])
def test_the_log_leads_to_the_registers_of_the_index(vectors_dir: Path, name: str) -> None:
    case = _CASES[name]
    layers = _appraise(vectors_dir, case).body.layers
    assert {str(layer.register) for layer in layers} == case["claims"]["eventlog_replay_matches"].keys()
    assert not any(layer.unknown for layer in layers)
    if "eventlog_events" in case["claims"]:
        log = decode_event_log(_bytes(vectors_dir, case, "eventlog"))
        assert len(log.events) + 1 == case["claims"]["eventlog_events"]


@pytest.mark.parametrize("name", _TDX_LOGS)
def test_a_ccel_leads_to_the_registers_of_its_quote(vectors_dir: Path, name: str) -> None:
    case = _TDX_LOGS[name]
    body = parse_body(decode_quote(_bytes(vectors_dir, case, "evidence")))
    assert isinstance(body, TdxClaims)
    log = _bytes(vectors_dir, case, "eventlog")
    for padding in (b"", b"\xff" * 64, bytes(64)):
        assert [layer.register for layer in replay_td(log + padding, body)] == [1, 2, 3]
    decoded = decode_event_log(log, Code.TDX_EVENT_LOG_MALFORMED)
    assert len(decoded.events) + 1 == case["claims"]["events"]
    for register in ("rtmr0", "rtmr1", "rtmr2"):
        with pytest.raises(AppraisalError) as refused:
            replay_td(log, replace(body, **{register: bytes(48)}))
        assert refused.value.code is Code.TDX_EVENT_LOG


@pytest.mark.parametrize("name", _CERTIFICATES)
def test_certificates_are_those_of_the_index(vectors_dir: Path, name: str) -> None:
    claims = _CASES[name]["claims"]
    certificate = _verify_certificate(vectors_dir, _CASES[name])
    kind = "RSAPublicKey" if "RSA" in type(certificate.public_key()).__name__ else "ECPublicKey"
    assert (certificate.subject.rfc4514_string(), kind) == (claims["subject"], claims["key"])


@pytest.mark.parametrize("name", _AZURE)
def test_azure_layers_hold_together(vectors_dir: Path, name: str) -> None:
    """The hardware's walk is another's: here it answers what the report in the HCL report says."""
    case = _CASES[name]
    report = decode_hcl(_bytes(vectors_dir, case, "hcl_report"))
    assert hcl_to_json(report) == case["claims"]["hcl"]
    assert report.runtime_data == _bytes(vectors_dir, case, "runtime_data")
    td_quote = _bytes(vectors_dir, case, "td_quote") if "td_quote" in case["files"] else None
    anchor = detect_tpm(_bytes(vectors_dir, case, "ak_public"))
    assert anchor is not None
    assert anchor.kind is TpmKind.AK_KEY
    ak = serialization.load_der_public_key(anchor.data)

    def verify(kind: str, evidence: bytes) -> HardwareLayer:
        data = evidence[0x50:0x90] if kind == "SNP" else decode_quote(evidence).report_data
        return HardwareLayer(kind, data, 0 if kind == "SNP" else None, b"", None, None, None)

    assert appraise_hcl(report, td_quote, ak, verify).report_type == report.report_type  # type: ignore[arg-type] # RSA
    evidence, _ = assemble_tpm(decode_tpm(_bytes(vectors_dir, case, "quote")), _pieces(vectors_dir, case))
    assert evidence.hcl_report is not None
