"""`appraise` on real quotes of Azure's vTPMs: both layers, up to the roots of the hardware's vendors."""

import contextlib
import io
import json
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from proxy_attestation.cli.main import group
from proxy_attestation.cli.output import run

_AT = "2025-07-01T00:00:00Z"
_TDX_COLLATERAL = "dcap/collateral/tdx-00806f050000-eval17-platform-20250619-4bd727"
# Case: its VCEK, the line of its processor, and what it takes to be accepted.
_SNP = {
    "snp-trustee-v0": ("vcek.pem", "milan"),
    "snp-trustee-v1": ("vcek.der", "milan"),
    "snp-trustee-v2": ("vcek.der", "milan"),
    "snp-trustee-genoa": ("vcek.pem", "genoa"),
}
_PIECES = ("hcl_report.bin", "td_quote.bin", "quote.sig", "pcrs.json", "vcek.der", "vcek.pem")


def _appraise(vectors_dir: Path, folder: Path, case: str, *options: str | Path, without: str = "") -> tuple[int, Any]:
    given = vectors_dir / "tpm" / f"tpm-azure-{case}"
    folder.mkdir()
    for name in _PIECES:
        if (given / name).is_file() and name != without:
            shutil.copy(given / name, folder)
    arguments = ["appraise", str(given / "quote.msg"), "--endorsements", str(folder), "--at", _AT, "--json"]
    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["proxy-attestation", *arguments, *map(str, options)])
        status = run(group)
    return status, json.loads(out.getvalue())


@pytest.mark.parametrize("case", _SNP)
def test_snp_below_a_vtpm(vectors_dir: Path, tmp_path: Path, case: str) -> None:
    vcek, line = _SNP[case]
    issuers = [item for kind in ("ask", "ark") for item in ("--endorsements", f"anchors/amd-{kind}-{line}.der")]
    paths: list[str | Path] = [vectors_dir / item if item.startswith("anchors") else item for item in issuers]
    status, verdict = _appraise(vectors_dir, tmp_path / "good", case, *paths)
    assert (status, verdict["code"]) == (0, None)
    claims = verdict["claims"]
    assert (claims["ak_trust"], claims["hcl"]["report_type"], claims["hardware"]["tee"]) == ("hardware", "SNP", "snp")
    assert claims["hardware"]["vmpl"] == 0
    assert claims["anchor_spki_sha256"] == claims["hardware"]["anchor_spki_sha256"]
    status, verdict = _appraise(vectors_dir, tmp_path / "bare", case, *paths, without=vcek)
    assert (status, verdict["code"]) == (3, "snp.endorsements_missing")


def test_tdx_below_a_vtpm(vectors_dir: Path, tmp_path: Path) -> None:
    collateral: list[str | Path] = ["--endorsements", vectors_dir / _TDX_COLLATERAL]
    status, verdict = _appraise(vectors_dir, tmp_path / "old", "tdx-trustee-v1", *collateral)
    assert (status, [item["code"] for item in verdict["mismatches"]]) == (3, ["tdx.tcb_status"])
    status, verdict = _appraise(
        vectors_dir, tmp_path / "good", "tdx-trustee-v1", *collateral, "--allow-tcb", "OutOfDate"
    )
    assert (status, verdict["code"]) == (0, None)
    claims = verdict["claims"]
    assert (claims["ak_trust"], claims["hcl"]["report_type"]) == ("hardware", "TDX")
    assert (claims["hardware"]["tee"], claims["hardware"]["tcb_status"]) == ("tdx", "OutOfDate")
    assert claims["hardware"]["report_data"] == claims["hcl"]["report_data"]
    status, verdict = _appraise(vectors_dir, tmp_path / "bare", "tdx-trustee-v1")
    assert (status, verdict["code"]) == (3, "tdx.endorsements_missing")
    status, verdict = _appraise(vectors_dir, tmp_path / "alone", "tdx-trustee-v1", *collateral, without="td_quote.bin")
    assert (status, verdict["code"]) == (3, "tpm.hcl_layer")
