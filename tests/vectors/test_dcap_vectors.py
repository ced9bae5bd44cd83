"""Every SGX and TDX case of the shared vectors, through `appraise` and a small judge that stands for the policy."""

import hashlib
import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from judged import tcb_of

from proxy_attestation.appraisal.claims import Claims, SgxClaims, TdxClaims, body_to_json
from proxy_attestation.appraisal.dcap import DcapAppraiser, appraise
from proxy_attestation.appraisal.dcap_collateral import verify_collateral
from proxy_attestation.appraisal.endorsements import DcapEndorsements
from proxy_attestation.appraisal.refusal import EvidenceRefusedError
from proxy_attestation.appraisal.roots import VENDOR_ROOTS, Roots
from proxy_attestation.codes import Code
from proxy_attestation.errors import ProxyAttestationError
from proxy_attestation.formats.pem import CERTIFICATE, decode_pem

_INDEX = Path(__file__).resolve().parents[3] / "shared" / "vectors" / "index.json"
_CASES: dict[str, dict[str, Any]] = (
    {case["id"]: case for case in json.loads(_INDEX.read_text())["vectors"] if case["platform"] in ("sgx", "tdx")}
    if _INDEX.is_file()
    else {}
)
# (case, which of its files is the evidence): some quotes were published with padding, and both are tried.
_RUNS = [(name, key) for name, case in _CASES.items() for key in case["files"] if key.startswith("evidence")]
# What else the index says of a claim's environment, and what other kinds of evidence prove; see its meta.
_NO_CLAIMS = {
    "key", "not_before", "not_after", "extensions", "spki_sha256", "report_data_binding", "parser_note", "subject",
    "events", "log_bytes_used", "published_log_size", "replay_matches", "fmspc",
}  # fmt: skip
# These need what comes with event logs and with RA-TLS certificates. Their quotes alone end like this.
_QUOTE_ONLY = {
    "tdx-ccel-go-tdx-guest-cos113": Code.TDX_ENDORSEMENTS_MISSING,
    "sgx-ratls-interoperable-ra-tls-gramine-cert": Code.SGX_DEBUG,
    "sgx-ratls-sgx-ra-tls-ecdsa-ratls": Code.SGX_DEBUG,
}
# A refusal that is not the one that the index gives as its reason, because it comes first.
_OTHER_CODE = {
    # The chain in Intel's sample is DER, one certificate behind the other, where the type says PEM.
    "tdx-v4-sgx-tdx-dcap-quoteverificationlibrary-quote-aa2cafad@tdx-ed742af8adf5-eval0-processor-20210806-811c1b": (
        Code.TDX_CERTIFICATION_DATA
    ),
}
_PADDED_WITH_OTHER_THAN_ZERO = "tdx-v4-go-tdx-guest-tdx-prod-quote-spr-e4-3507b5f7"


def _roots(vectors_dir: Path, case: dict[str, Any]) -> Roots:
    if "trust_anchor" not in case["files"]:
        return VENDOR_ROOTS
    root = x509.load_der_x509_certificate((vectors_dir / case["files"]["trust_anchor"]).read_bytes())
    spki = root.public_key().public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return Roots(frozenset({hashlib.sha256(spki).digest()}))


def _endorsements(vectors_dir: Path, case: dict[str, Any]) -> DcapEndorsements | None:
    files = case["files"]
    if "collateral" not in files:
        return None
    pieces = {name: (vectors_dir / path).read_bytes() for name, path in files["collateral"].items()}
    if "pck_chain" in files:
        pieces["pck_certificate_chain"] = (vectors_dir / files["pck_chain"]).read_bytes()
    return DcapEndorsements(**pieces)


def _now(case: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(case["verify_at"]) if case["verify_at"] else datetime(2026, 1, 1, tzinfo=UTC)


def _policy(claims: Claims, policy: dict[str, Any]) -> Code | None:
    """A production policy, loosened by what the case names: no debug, no service TD, TCB up to date."""
    sgx = isinstance(claims.body, SgxClaims)
    if claims.debug and not policy.get("allow_debug"):
        return Code.SGX_DEBUG if sgx else Code.TDX_DEBUG
    if isinstance(claims.body, TdxClaims) and any(claims.body.mr_service_td or b""):
        return Code.TDX_SERVICE_TD
    if tcb_of(claims).status not in policy.get("allow_tcb_status", ["UpToDate"]):
        return Code.SGX_TCB_STATUS if sgx else Code.TDX_TCB_STATUS
    return None


def _expected_code(name: str, case: dict[str, Any]) -> Code | None:
    """Translate the index's verdict and reason into the code that we give."""
    if name in _QUOTE_ONLY or name in _OTHER_CODE:
        return _QUOTE_ONLY.get(name) or _OTHER_CODE[name]
    tee, reason = case["platform"], case["reason"]
    if case["expected"] == "accept":
        return None
    if case["expected"] == "incomplete":
        return Code(f"{tee}.debug" if case["claims"]["debug"] else f"{tee}.endorsements_missing")
    for words, suffix in (
        ("tcb-unsupported", "tcb_not_supported"),
        ("debug", "debug"),
        ("quote signature", "signature"),
        ("dcap-qvl 0.7.0 rejects the quote because mr_service_td", "service_td"),
        ("tcb-status", "service_td" if "Invalid MR service TD" in reason else "tcb_status"),
    ):
        if reason.startswith(words):
            return Code(f"{tee}.{suffix}")
    assert reason.startswith("collateral expired"), reason
    # Which piece ended first depends on the set.
    return Code(f"{tee}.expired" if "8cc428aa" in name else f"{tee}.crl_expired")


@pytest.mark.parametrize(("name", "key"), _RUNS, ids=[f"{name}-{key}" for name, key in _RUNS])
def test_verdict_and_claims(name: str, key: str, vectors_dir: Path) -> None:
    case = _CASES[name]
    evidence = (vectors_dir / case["files"][key]).read_bytes()
    expected = _expected_code(name, case)
    if key == "evidence_as_published" and name.startswith(_PADDED_WITH_OTHER_THAN_ZERO):
        expected = Code.TDX_MALFORMED
    body, claims, code = None, None, None
    try:
        claims = appraise(evidence, _endorsements(vectors_dir, case), _roots(vectors_dir, case), None, _now(case))
        body, code = claims.body, _policy(claims, case.get("policy", {}))
    except EvidenceRefusedError as error:
        body, code = error.body, error.code
        if code in (Code.SGX_ENDORSEMENTS_MISSING, Code.TDX_ENDORSEMENTS_MISSING) and body.debug:
            code = Code.SGX_DEBUG if case["platform"] == "sgx" else Code.TDX_DEBUG
    except ProxyAttestationError as error:
        code = error.code
    status = tcb_of(claims).status if claims else "-"
    print(f"{case['expected']:10} {code or 'accepted':26} {status:34} {name[:75]} {key[9:]}")
    assert code == expected
    if body is not None:
        _compare_claims(case, body_to_json(body) | {"report_data": evidence_report_data(evidence)})
    if claims is not None:
        assert claims.bound[0].hex() == case["claims"]["report_data"]
        assert claims.evidence_sha256 == hashlib.sha256(evidence).digest()
        _compare_tcb(case, claims)


def evidence_report_data(evidence: bytes) -> str:
    start = {3: 48 + 320, 4: 48 + 520, 5: 54 + 520}[evidence[0]]
    return evidence[start : start + 64].hex()


def _compare_claims(case: dict[str, Any], found: dict[str, object]) -> None:
    expected = {name: value for name, value in case["claims"].items() if name not in _NO_CLAIMS}
    assert expected
    assert {name: found[name] for name in expected} == expected


def _compare_tcb(case: dict[str, Any], claims: Claims) -> None:
    tcb = case["tcb"]
    assert set(tcb_of(claims).advisories) == set(tcb["advisories_own"])
    assert f"{tcb_of(claims).date:%Y-%m-%dT%H:%M:%SZ}" == tcb["tcb_date"]
    assert tcb_of(claims).status == tcb["platform_level_own"]
    assert tcb_of(claims).fmspc.hex() == case["quote"]["fmspc"]
    assert tcb_of(claims).pce_id.hex() == case["quote"]["pceid"]
    assert claims.valid_until == datetime.fromisoformat(case["window"][1])
    assert claims.instance_id is not None


_COMPLETE = [name for name, case in _CASES.items() if "collateral" in case["files"]]


@pytest.mark.parametrize("name", _COMPLETE, ids=_COMPLETE)
def test_the_hot_path_gives_the_same_twice(name: str, vectors_dir: Path) -> None:
    case = _CASES[name]
    evidence = (vectors_dir / case["files"]["evidence"]).read_bytes()
    endorsements, roots, now = _endorsements(vectors_dir, case), _roots(vectors_dir, case), _now(case)
    assert endorsements is not None
    chain = endorsements.pck_certificate_chain
    platform = () if chain is None else decode_pem(chain, CERTIFICATE, Code.INTERNAL, count=3, limit=8192)
    try:
        collateral = verify_collateral(endorsements, roots, now)
    except ProxyAttestationError as error:
        assert "expired" in error.code
        return
    appraiser = DcapAppraiser(roots, {(collateral.tee, collateral.fmspc): collateral})
    for _ in range(2):
        try:
            expected = appraise(evidence, endorsements, roots, None, now)
        except ProxyAttestationError as refusal:
            with pytest.raises(type(refusal)) as caught:
                appraiser.appraise(evidence, platform, now)
            assert caught.value.code == refusal.code
        else:
            assert appraiser.appraise(evidence, platform, now) == (expected, collateral.floor)


@pytest.mark.parametrize("name", _COMPLETE, ids=_COMPLETE)
def test_the_oracle_agrees(
    name: str,
    vectors_dir: Path,
    oracle: Callable[[bytes, DcapEndorsements, bytes, datetime], str],
    agree: Callable[[str, str, str], None],
) -> None:
    case = _CASES[name]
    evidence = (vectors_dir / case["files"]["evidence"]).read_bytes()
    endorsements, now = _endorsements(vectors_dir, case), _now(case)
    assert endorsements is not None
    try:
        ours = tcb_of(appraise(evidence, endorsements, _roots(vectors_dir, case), None, now)).status
    except ProxyAttestationError as error:
        ours = str(error.code)
    root = vectors_dir / case["files"].get("trust_anchor", "anchors/intel-sgx-root-ca.der")
    agree(f"vector:{name}", ours, oracle(evidence, endorsements, root.read_bytes(), now))


def test_no_listed_difference_is_about_a_vector_that_does_not_exist(
    vectors_dir: Path, listed_differences: dict[str, list[str]]
) -> None:
    assert vectors_dir.is_dir()
    assert {case for case in listed_differences if case.startswith("vector:")} <= {f"vector:{name}" for name in _CASES}
