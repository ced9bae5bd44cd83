"""Every SEV-SNP case of the shared vectors, through the walk and what every production guest must be."""

import hashlib
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from proxy_attestation.appraisal.endorsements import SnpEndorsements
from proxy_attestation.appraisal.roots import AMD_ARKS
from proxy_attestation.appraisal.snp import (
    SnpRefusedError,
    appraise_snp,
    appraise_vek,
)
from proxy_attestation.appraisal.snp_claims import snp_claims, snp_to_json, vek_to_json
from proxy_attestation.codes import Code
from proxy_attestation.endorsements.detect_snp import SnpKind, SnpPiece, detect_snp, load_arks, snp_endorsements
from proxy_attestation.errors import ProxyAttestationError
from proxy_attestation.formats.snp_report import Product, decode_snp_report, looks_like_snp_report

_INDEX = Path(__file__).resolve().parents[3] / "shared" / "vectors" / "index.json"
_CASES: dict[str, dict[str, Any]] = (
    {case["id"]: case for case in json.loads(_INDEX.read_text())["vectors"] if case["platform"] == "snp"}
    if _INDEX.is_file()
    else {}
)
# The code for each of the index's reasons to reject.
_REASONS = (
    ("published invalid VCEK", Code.SNP_TCB_MISMATCH),
    ("wrong chain", Code.SNP_ENDORSEMENTS_MISSING),
    ("debug", Code.SNP_DEBUG),
)


def _endorsements(vectors_dir: Path, case: dict[str, Any]) -> SnpEndorsements:
    pieces: list[SnpPiece] = []
    for role in ("vek", "chain"):
        found = detect_snp((vectors_dir / case["files"][role]).read_bytes(), role)
        assert found is not None
        assert [piece.kind for piece in found] == {
            "vek": [SnpKind.VEK],
            "chain": [SnpKind.ISSUER, SnpKind.ARK],
        }[role]
        pieces += found
    return snp_endorsements(pieces)


def _expected(case: dict[str, Any]) -> Code | None:
    if case["expected"] == "accept":
        return None
    assert case["expected"] == "reject"
    if case["id"].endswith("@expired-vek"):
        return Code.SNP_EXPIRED
    return next(code for words, code in _REASONS if words in case["reason"])


@pytest.mark.parametrize("name", [name for name, case in _CASES.items() if "evidence" in case["files"]])
def test_verdict_and_claims(name: str, vectors_dir: Path) -> None:
    case = _CASES[name]
    evidence = (vectors_dir / case["files"]["evidence"]).read_bytes()
    assert looks_like_snp_report(evidence)
    endorsements, now = _endorsements(vectors_dir, case), datetime.fromisoformat(case["verify_at"])
    body, code, result = snp_claims(decode_snp_report(evidence)), None, None
    try:
        result = appraise_snp(evidence, endorsements, AMD_ARKS, None, now, crl_required=False)
        body = result.body
        if body.debug and not case.get("policy", {}).get("allow_debug", False):
            code = Code.SNP_DEBUG
        assert not body.migrate_ma
    except SnpRefusedError as error:
        body, code = error.body, error.code
    except ProxyAttestationError as error:
        code = error.code
    print(f"{case['expected']:8} {code or 'accepted':26} v{body.version} {body.product!s:6} {body.signing_key} {name}")
    assert code == _expected(case)
    found = snp_to_json(body)
    # Of a report without CPUID the processor line is known by its certificate alone.
    expected = {key: value for key, value in case["claims"].items() if key != "reported_tcb_parts" or body.product}
    assert {key: found.get(key) for key in expected} == expected
    if result is not None:
        assert result.evidence_sha256.hex() == case["sha256"] == hashlib.sha256(evidence).hexdigest()
        assert result.bound == (bytes.fromhex(case["claims"]["report_data"]),)
        assert (result.instance_id is None) is (body.chip_id == bytes(64))
        assert result.floor is None
        assert result.anchor in AMD_ARKS[Product(str(found["product"]))]
        assert result.body.csp_id == case["vek"]["extensions"].get("cspID")
        assert result.valid_until == datetime.fromisoformat(case["window"][1])


@pytest.mark.parametrize("name", [name for name, case in _CASES.items() if "evidence" not in case["files"]])
def test_certificates_alone(name: str, vectors_dir: Path) -> None:
    case = _CASES[name]
    now = datetime.fromisoformat(case["verify_at"])
    extensions, anchor = appraise_vek(_endorsements(vectors_dir, case), AMD_ARKS, now, crl_required=False)
    print(f"{case['expected']:8} {'accepted':26} -- {extensions.product_name:6} VCEK {name}")
    assert case["expected"] == "accept"
    assert vek_to_json(extensions) == case["claims"]
    assert anchor == next(iter(AMD_ARKS[Product.TURIN]))


def test_every_case_was_run() -> None:
    if not _CASES:
        pytest.skip("no test vectors")
    assert {case["expected"] for case in _CASES.values()} == {"accept", "reject"}


@pytest.mark.parametrize("line", list(Product))
def test_pinned_roots_are_the_published_ones(line: Product, vectors_dir: Path) -> None:
    ark = (vectors_dir / "anchors" / f"amd-ark-{line.lower()}.der").read_bytes()
    assert load_arks([ark]) == {line: AMD_ARKS[line]}
    anchors = {anchor["name"]: anchor["spki_sha256"] for anchor in json.loads(_INDEX.read_text())["anchors"]}
    assert {pin.hex() for pin in AMD_ARKS[line]} == {anchors[f"AMD ARK {line}"]}


@pytest.mark.parametrize("name", ["snp-v5-vcek-oak-genoa-oc-evidence-6d1ceffa"])
def test_every_signed_byte_of_a_real_report(name: str, vectors_dir: Path) -> None:
    case = _CASES[name]
    evidence = (vectors_dir / case["files"]["evidence"]).read_bytes()
    endorsements, now = _endorsements(vectors_dir, case), datetime.fromisoformat(case["verify_at"])
    for offset in range(len(evidence)):
        changed = bytearray(evidence)
        changed[offset] ^= 0x01
        with pytest.raises(ProxyAttestationError):
            appraise_snp(bytes(changed), endorsements, AMD_ARKS, None, now, crl_required=False)
