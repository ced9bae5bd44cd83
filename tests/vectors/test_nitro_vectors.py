"""Every Nitro case of the shared vectors, certificates with a document inside too, and a table of them (`-s`)."""

import hashlib
import json
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from proxy_attestation.appraisal.nitro import appraise_nitro
from proxy_attestation.appraisal.nitro_claims import NitroClaims, nitro_to_json
from proxy_attestation.appraisal.roots import AWS_NITRO_ROOT, Roots, same_for_all
from proxy_attestation.codes import Code
from proxy_attestation.endorsements.detect_nitro import nitro_root
from proxy_attestation.errors import ProxyAttestationError
from proxy_attestation.formats.nitro import decode_nitro, looks_like_nitro
from proxy_attestation.formats.ra_tls import decode_ra_tls, require_bound

_INDEX = Path(__file__).resolve().parents[3] / "shared" / "vectors" / "index.json"
_CASES: dict[str, dict[str, Any]] = (
    {case["id"]: case for case in json.loads(_INDEX.read_text())["vectors"] if case["platform"] == "nitro"}
    if _INDEX.is_file()
    else {}
)
# What the index says of the certificate around a document.
_NO_CLAIMS = {"spki_sha256", "user_data_equals_sha256_spki", "where"}
# The reason that the index gives, by a word of it, and our code.
_REASONS = {
    "leaf certificate expired": Code.NITRO_EXPIRED,
    "debug mode": Code.NITRO_DEBUG,
    "unparsable": Code.NITRO_CHAIN,
    "COSE signature invalid": Code.NITRO_SIGNATURE,
    "trust anchor": Code.NITRO_ROOT,
}


def _roots(vectors_dir: Path, case: dict[str, Any]) -> Roots:
    if "trust_anchor" not in case["files"]:
        return same_for_all({AWS_NITRO_ROOT})
    try:
        anchor = x509.load_pem_x509_certificate((vectors_dir / case["files"]["trust_anchor"]).read_bytes())
    except ValueError:
        return same_for_all(())  # one of the published anchors is no certificate any more
    key = anchor.public_key()
    spki = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return same_for_all({hashlib.sha256(spki).digest()})


def _judge(vectors_dir: Path, case: dict[str, Any]) -> tuple[str, dict[str, object] | None]:
    """Return the verdict of the walk and of a default policy, and the claims where the walk got that far."""
    evidence = (vectors_dir / case["files"]["evidence"]).read_bytes()
    assert looks_like_nitro(evidence)
    now = datetime.fromisoformat(case["verify_at"])
    try:
        if "certificate" in case["files"]:
            (piece,) = decode_ra_tls((vectors_dir / case["files"]["certificate"]).read_bytes())
            assert piece.evidence == evidence
            require_bound(piece, decode_nitro(evidence).bound)
        result = appraise_nitro(decode_nitro(evidence), _roots(vectors_dir, case), now)
    except ProxyAttestationError as error:
        return str(error.code), None
    assert now < result.valid_until
    assert isinstance(result.body, NitroClaims)
    claims = nitro_to_json(result.body)
    if result.body.debug and not case.get("policy", {}).get("allow_debug"):
        return str(Code.NITRO_DEBUG), claims
    return "accepted", claims


def _expected(case: dict[str, Any]) -> str:
    if case["expected"] == "accept":
        return "accepted"
    (code,) = [str(code) for word, code in _REASONS.items() if word in case["reason"]]
    return code


@pytest.mark.parametrize("name", _CASES)
def test_each_case_has_its_verdict_and_claims(name: str, vectors_dir: Path) -> None:
    case = _CASES[name]
    verdict, claims = _judge(vectors_dir, case)
    assert verdict == _expected(case)
    if claims is not None:
        assert claims == {key: value for key, value in case["claims"].items() if key not in _NO_CLAIMS}
    else:
        # The document can be read all the same, and says what the index says.
        document = decode_nitro((vectors_dir / case["files"]["evidence"]).read_bytes())
        assert (document.module_id, document.timestamp_ms) == (
            case["claims"]["module_id"],
            case["claims"]["timestamp_ms"],
        )


@pytest.mark.parametrize("name", _CASES)
def test_outside_its_window_no_case_is_accepted(name: str, vectors_dir: Path) -> None:
    case = _CASES[name]
    for at, step in zip(case["window"] or (), (-1, 1), strict=False):
        moved = datetime.fromisoformat(at).timestamp() + step
        late = case | {"verify_at": datetime.fromtimestamp(moved, datetime.fromisoformat(at).tzinfo).isoformat()}
        assert _judge(vectors_dir, late)[0] in (Code.NITRO_EXPIRED, Code.NITRO_ROOT)


def test_no_changed_byte_of_a_real_document_is_accepted(vectors_dir: Path) -> None:
    case = _CASES["nitro-go-nitro-attestation-sample-prod-doc-bin-234f1201"]
    good = (vectors_dir / case["files"]["evidence"]).read_bytes()
    now = datetime.fromisoformat(case["verify_at"])
    for at in range(0, len(good), 11):
        with pytest.raises(ProxyAttestationError):
            document = decode_nitro(good[:at] + bytes([good[at] ^ 0x10]) + good[at + 1 :])
            appraise_nitro(document, same_for_all({AWS_NITRO_ROOT}), now)


def test_the_pinned_root_is_the_published_one(vectors_dir: Path) -> None:
    data = (vectors_dir / "anchors" / "aws-nitro-enclaves-root-g1.der").read_bytes()
    assert nitro_root(data) == data
    key = x509.load_der_x509_certificate(data).public_key()
    spki = key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    assert hashlib.sha256(spki).digest() == AWS_NITRO_ROOT
    for other in ("amd-ark-milan.der", "intel-sgx-root-ca.der"):
        assert nitro_root((vectors_dir / "anchors" / other).read_bytes()) is None


def test_table(vectors_dir: Path) -> None:
    assert len(_CASES) >= 22
    print()
    for name, case in _CASES.items():
        print(f"{case['expected']:<8} {_judge(vectors_dir, case)[0]:<18} {name}")
    print(f"{len(_CASES)} Nitro cases, none skipped")
