"""The real `appraise` command over every SGX and TDX case of the evidence collection.

`accept` exits 0; `reject`, `policy` and `incomplete` are refused (3, or 4 where malformed); every `policy` case is
accepted once its status or pin is given. All claims of the index must be those of the JSON. `pytest -s` prints the
table.
"""

import contextlib
import io
import json
import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final, TypeAlias

import pytest

from proxy_attestation.cli.main import group
from proxy_attestation.cli.output import run
from proxy_attestation.codes import Code
from proxy_attestation.formats.pins import TCB_STATUS
from proxy_attestation.formats.tee import Tee

Case: TypeAlias = Mapping[str, Any]

_INDEX: Final = Path(__file__).resolve().parents[2].parent / "shared" / "vectors" / "index.json"
# What the index says about the publication, a certificate around the quote or a log, not about the quote itself.
_REMARKS: Final = frozenset(
    {
        "parser_note",
        "report_data_binding",
        "key",
        "subject",
        "not_before",
        "not_after",
        "extensions",
        "spki_sha256",
        "certificate_binding",
        "where",
        "user_data_equals_sha256_spki",
    }
)
_STATUS: Final = re.compile(r"tcb-status (\w+) \(accept only if policy allows it\)")
_TABLE: list[str] = []


def _cases() -> list[Case]:
    if not _INDEX.is_file():
        return []
    cases: list[Case] = json.loads(_INDEX.read_text())["vectors"]
    # A CCEL case is a log to replay: it has no verdict of a quote.
    return [case for case in cases if case["platform"] in set(Tee) - {Tee.TPM} and case.get("kind") != "ccel-eventlog"]


CASES: Final = _cases()


def _arguments(case: Case, folder: Path, evidence: str, *, directory: bool) -> list[str]:
    files = case["files"]
    # Certificates around evidence are evidence themselves, and so are those of AMD's cases that have no report.
    name = next(role for role in ("certificate", evidence, "vek") if role in files)
    if evidence == "evidence_as_published":
        name = evidence
    arguments = [str(folder / files[name]), "--tee", case["platform"], "--json"]
    collateral = [folder / path for path in (files.get("collateral") or {}).values()]
    given = sorted({path.parent for path in collateral}) if directory else collateral
    given = [*given, *(folder / files[role] for role in ("pck_chain", "vek", "chain") if role in files)]
    for path in given:
        arguments += ["--endorsements", str(path)]
    if "trust_anchor" in files:
        arguments += ["--roots", str(folder / files["trust_anchor"])]
    if case["verify_at"] is not None:
        arguments += ["--at", case["verify_at"]]
    policy = case.get("policy") or {}
    for status in policy.get("allow_tcb_status", ()):
        # UpToDate is always accepted; the option takes it all the same.
        arguments += ["--allow-tcb", status]
    return arguments + (["--allow-debug"] if policy.get("allow_debug") else [])


def _appraise(arguments: Sequence[str], monkeypatch: pytest.MonkeyPatch) -> tuple[int, dict[str, Any]]:
    monkeypatch.setattr(sys, "argv", ["proxy-attestation", "appraise", *arguments])
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        status = run(group)
    result: dict[str, Any] = json.loads(out.getvalue())
    return status, result


def _check(case: Case, status: int, result: Mapping[str, Any], *, accept: bool) -> None:
    assert list(result) == ["verdict", "code", "mismatches", "claims", "unverified"]
    if accept:
        assert (status, result["verdict"], result["code"], result["mismatches"]) == (0, "accepted", None, [])
        assert result["unverified"] is None
    else:
        assert status in (3, 4)
        assert result["verdict"] == "refused"
        assert result["code"] in set(Code)
    said = result["claims"] if result["claims"] is not None else result["unverified"]
    expected = {name: value for name, value in (case["claims"] or {}).items() if name not in _REMARKS}
    assert {name: said.get(name) for name in expected} == expected
    assert {name: type(said[name]) for name in expected} == {name: type(value) for name, value in expected.items()}


def test_the_collection_is_complete(vectors_dir: Path) -> None:
    del vectors_dir
    assert len(CASES) >= 46
    assert {case["expected"] for case in CASES} == {"accept", "reject", "policy", "incomplete"}


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_the_verdict_and_the_claims(case: Case, vectors_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    accept = case["expected"] == "accept"
    status, result = _appraise(_arguments(case, vectors_dir, "evidence", directory=True), monkeypatch)
    _TABLE.append(f"{status}  {case['expected']:<10}  {result['code'] or '-':<30}  {case['id']}")
    _check(case, status, result, accept=accept)
    if case.get("tcb") and "tcb_status" in (result["claims"] or {}):
        tcb, claims = case["tcb"], result["claims"]
        # The oracle gives no status for what it refuses by a rule of its own (debug, service TD).
        if tcb["overall_dcap_qvl"] in TCB_STATUS[Tee.TDX]:
            assert claims["tcb_status"] == tcb["overall_dcap_qvl"]
        assert claims["advisory_ids"] == sorted(tcb["advisories_own"])
        assert claims["tcb_date"] == tcb["tcb_date"]
    # The pieces named one by one say the same as their directory.
    assert _appraise(_arguments(case, vectors_dir, "evidence", directory=False), monkeypatch) == (status, result)


@pytest.mark.parametrize("case", [c for c in CASES if c["expected"] == "policy"], ids=lambda case: case["id"])
def test_a_policy_case_is_accepted_once_its_status_or_pin_is_given(
    case: Case, vectors_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = _arguments(case, vectors_dir, "evidence", directory=True)
    status, result = _appraise(arguments, monkeypatch)
    named = _STATUS.match(case["reason"])
    if named:
        assert (status, result["code"]) == (3, f"{case['platform']}.tcb_status")
        arguments += ["--allow-tcb", named[1]]
    else:
        assert (status, result["code"]) == (3, "tdx.service_td")
        arguments += ["--expect", f"mr_service_td={case['claims']['mr_service_td']}"]
    _check(case, *_appraise(arguments, monkeypatch), accept=True)


@pytest.mark.parametrize(
    "case", [c for c in CASES if "evidence_as_published" in c["files"]], ids=lambda case: case["id"]
)
def test_evidence_as_published_gets_the_same_verdict_unless_something_was_appended(
    case: Case, vectors_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quote, published = (
        (vectors_dir / case["files"][name]).read_bytes() for name in ("evidence", "evidence_as_published")
    )
    status, result = _appraise(_arguments(case, vectors_dir, "evidence_as_published", directory=True), monkeypatch)
    if any(published.removeprefix(quote)):
        assert (status, result["code"], result["claims"]) == (4, f"{case['platform']}.malformed", None)
        return
    plain_status, plain = _appraise(_arguments(case, vectors_dir, "evidence", directory=True), monkeypatch)
    for item in (plain, result):
        (item["claims"] or {}).pop("evidence_sha256", None)
    assert (status, result) == (plain_status, plain)


@pytest.mark.parametrize(
    "case", [c for c in CASES if c["expected"] == "accept" and not c.get("policy")], ids=lambda case: case["id"]
)
def test_among_all_sets_the_right_one_is_chosen(case: Case, vectors_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = _arguments(
        {**case, "files": {**case["files"], "collateral": None}}, vectors_dir, "evidence", directory=True
    )
    arguments += ["--endorsements", str(vectors_dir / "dcap" / "collateral")]
    _check(case, *_appraise(arguments, monkeypatch), accept=True)


def test_the_codes_of_some_cases_are_the_exact_ones(vectors_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = {
        "sgx-v3-rust-sgx-quote-pck-cert-chain-corrupted-6dc7792a": "sgx.signature",
        "sgx-v3-rust-sgx-quote-pck-cert-chain-7d63357d": "sgx.debug",
        "sgx-v3-oasis-core-quote-v3-ecdsa-p256-eppid-72a05bf6": "sgx.endorsements_missing",
        "sgx-ratls-interoperable-ra-tls-gramine-cert": "sgx.debug",
    }
    for case in CASES:
        if case["id"] in expected:
            _, result = _appraise(_arguments(case, vectors_dir, "evidence", directory=True), monkeypatch)
            assert result["code"] == expected.pop(case["id"]), case["id"]
    assert not expected


@pytest.mark.parametrize("expected", ["accept", "policy", "incomplete"])
def test_as_a_process(expected: str, vectors_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    case = next(c for c in CASES if c["expected"] == expected)
    arguments = _arguments(case, vectors_dir, "evidence", directory=True)
    program = "from proxy_attestation.cli.main import main; main()"
    command = [sys.executable, "-c", program, "appraise", *arguments]
    done = subprocess.run(command, capture_output=True, check=False, timeout=60)
    status, result = _appraise(arguments, monkeypatch)
    assert (done.returncode, json.loads(done.stdout)) == (status, result)


def test_print_the_table(vectors_dir: Path) -> None:
    del vectors_dir
    print("\nexit  expected    code                            case")
    for row in sorted(_TABLE, key=lambda row: row[7:]):
        print("   " + row)


_TPM_CASES: Final = [
    case
    for case in (json.loads(_INDEX.read_text())["vectors"] if _INDEX.is_file() else [])
    if case["platform"] == "tpm"
]
_BESIDE: Final = (
    "signature_raw",
    "signature_tpmt",
    "ak_tpmt_public",
    "pcrs",
    "pcrs_tpm2tools",
    "eventlog",
    "hcl_report",
)
# What the index says of its own checks; the HCL report is a layer of its own, which these runs do not verify.
_TPM_REMARKS: Final = {"pcr_digest_matches_values", "eventlog_replay_matches", "eventlog_events", "nonce", "hcl"}


@pytest.mark.parametrize("case", _TPM_CASES, ids=[case["id"] for case in _TPM_CASES])
def test_the_verdict_on_tpm_evidence(case: Case, vectors_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {role: vectors_dir / path for role, path in case["files"].items()}
    certificate = "certificate" in files
    arguments = [str(files["certificate" if certificate else "quote"]), "--tee", "tpm", "--json"]
    arguments += ["--roots", str(files["chain" if certificate else "ak_public"])]
    for role in ("chain",) if certificate else _BESIDE:
        arguments += ["--endorsements", str(files[role])] if role in files else []
    arguments += ["--at", case["verify_at"]] if case["verify_at"] else []
    if "nonce" in case["claims"]:
        arguments += ["--expect", f"extra_data={case['claims']['nonce']}"]
    status, result = _appraise(arguments, monkeypatch)
    _TABLE.append(f"{status}  {case['expected']:<10}  {result['code'] or '-':<30}  {case['id']}")
    if case["expected"] != "accept":
        assert status in (3, 4)
        assert result["code"] in set(Code)
        return
    assert (status, result["code"], result["unverified"]) == (0, None, None)
    if not certificate:
        expected = {name: value for name, value in case["claims"].items() if name not in _TPM_REMARKS}
        assert {name: result["claims"].get(name) for name in expected} == expected
