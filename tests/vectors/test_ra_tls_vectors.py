"""The RA-TLS certificates of the shared vectors: evidence as published beside them, binding as the index says."""

import json
from pathlib import Path
from typing import Any

import pytest

from proxy_attestation.codes import Code
from proxy_attestation.errors import AppraisalError
from proxy_attestation.formats.dcap_quote import decode_quote
from proxy_attestation.formats.nitro import decode_nitro
from proxy_attestation.formats.ra_tls import EmbeddedEvidence, Place, decode_ra_tls, require_bound

_INDEX = Path(__file__).resolve().parents[3] / "shared" / "vectors" / "index.json"
_CASES: dict[str, dict[str, Any]] = (
    {
        case["id"]: case
        for case in json.loads(_INDEX.read_text())["vectors"]
        if {"certificate", "evidence"} <= case["files"].keys()
    }
    if _INDEX.is_file()
    else {}
)


def _bound(piece: EmbeddedEvidence) -> tuple[bytes, ...]:
    if piece.kind == "nitro":
        return decode_nitro(piece.evidence).bound
    return (decode_quote(piece.evidence).report_data,)


def _pieces(vectors_dir: Path, case: dict[str, Any]) -> tuple[EmbeddedEvidence, ...]:
    return decode_ra_tls((vectors_dir / case["files"]["certificate"]).read_bytes())


@pytest.mark.parametrize("name", _CASES)
def test_the_first_piece_is_the_published_evidence(name: str, vectors_dir: Path) -> None:
    case = _CASES[name]
    pieces = _pieces(vectors_dir, case)
    assert pieces[0].evidence == (vectors_dir / case["files"]["evidence"]).read_bytes()
    assert pieces[0].spki.startswith(b"\x30")


@pytest.mark.parametrize("name", _CASES)
def test_each_certificate_is_bound_or_not_as_the_index_says(name: str, vectors_dir: Path) -> None:
    case = _CASES[name]
    unbound = "bound to the certificate key by none" in case["reason"]
    for piece in _pieces(vectors_dir, case):
        if not unbound:
            require_bound(piece, _bound(piece))
            continue
        with pytest.raises(AppraisalError) as refused:
            require_bound(piece, _bound(piece))
        assert refused.value.code is Code.RA_TLS_BINDING


def test_gramines_certificate_has_both_forms_with_a_quote_each(vectors_dir: Path) -> None:
    pieces = _pieces(vectors_dir, _CASES["sgx-ratls-interoperable-ra-tls-gramine-cert"])
    assert [piece.place for piece in pieces] == [Place.GRAMINE, Place.CCC]
    assert pieces[0].evidence != pieces[1].evidence
    assert (pieces[0].claims, pieces[1].claims is None) == (None, False)


def test_table(vectors_dir: Path) -> None:
    assert len(_CASES) >= 5
    print()
    for name, case in _CASES.items():
        print(f"{case['expected']:<8} {', '.join(piece.place for piece in _pieces(vectors_dir, case)):<16} {name}")
