"""What several test folders share."""

import json
import tomllib
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

from proxy_attestation.appraisal.endorsements import DcapEndorsements
from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError
from proxy_attestation.formats.signed_json import decode_signed_document

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def vectors_dir() -> Path:
    """The folder of real evidence, beside the project."""
    path = ROOT.parent / "shared" / "vectors"
    if not (path / "index.json").is_file():
        pytest.skip(f"no test vectors in {path}")
    return path


@pytest.fixture(scope="session")
def vector_index(vectors_dir: Path) -> dict[str, dict[str, Any]]:
    """The vectors' descriptions by id."""
    return {case["id"]: case for case in json.loads((vectors_dir / "index.json").read_text())["vectors"]}


@pytest.fixture(scope="session")
def oracle() -> Callable[[bytes, DcapEndorsements, bytes, datetime], str]:
    """What dcap-qvl says of a quote under a root (DER): its TCB status, or `refused`."""
    import dcap_qvl  # noqa: PLC0415 - only the tests that ask the oracle need it

    def ask(quote: bytes, endorsements: DcapEndorsements, root: bytes, now: datetime) -> str:
        try:
            tcb = decode_signed_document(endorsements.tcb_info or b"", "tcbInfo", Code.INTERNAL)
            qe = decode_signed_document(endorsements.qe_identity or b"", "enclaveIdentity", Code.INTERNAL)
        except FormatError:
            return "refused"  # it takes documents and signatures apart, and these cannot be taken apart
        fields = {
            "pck_crl_issuer_chain": (endorsements.pck_crl_issuer_chain or b"").decode(errors="replace"),
            "root_ca_crl": (endorsements.root_ca_crl or b"").hex(),
            "pck_crl": (endorsements.pck_crl or b"").hex(),
            "tcb_info_issuer_chain": (endorsements.tcb_info_issuer_chain or b"").decode(errors="replace"),
            "tcb_info": tcb.content.decode(),
            "tcb_info_signature": tcb.signature.hex(),
            "qe_identity_issuer_chain": (endorsements.qe_identity_issuer_chain or b"").decode(errors="replace"),
            "qe_identity": qe.content.decode(),
            "qe_identity_signature": qe.signature.hex(),
        }
        if endorsements.pck_certificate_chain is not None:
            fields["pck_certificate_chain"] = endorsements.pck_certificate_chain.decode()
        try:
            collateral = dcap_qvl.QuoteCollateralV3.from_json(json.dumps(fields))
            report = dcap_qvl.verify_with_root_ca(quote, collateral, root, int(now.timestamp()))
        except ValueError:
            return "refused"
        return str(report.status)

    return ask


@pytest.fixture(scope="session")
def listed_differences() -> dict[str, list[str]]:
    """What `oracle_differences.toml` lists: [our verdict, the oracle's] by case."""
    listed: dict[str, list[str]] = {}
    for difference in tomllib.loads((ROOT / "tests" / "oracle_differences.toml").read_text())["difference"]:
        assert difference["reason"]
        assert not listed.keys() & difference["cases"].keys()
        listed |= difference["cases"]
    return listed


@pytest.fixture(scope="session")
def agree(listed_differences: dict[str, list[str]]) -> Callable[[str, str, str], None]:
    """Compare our verdict (a TCB status or a code) with the oracle's, but for the differences that are listed."""

    def compare(case: str, ours: str, theirs: str) -> None:
        differs = theirs != ("refused" if "." in ours else ours)
        if case in listed_differences:
            assert differs, f"{case} does not differ any more ({ours}): take it out of oracle_differences.toml"
            assert listed_differences[case] == [ours, theirs]
        else:
            assert not differs, f"{case}: ours is {ours}, the oracle says {theirs}"

    return compare


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, so that nothing runs alone at the end."""
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_make_parametrize_id(val: object) -> str | None:
    """Keep bytes out of test ids: many hold random keys or signatures, and every process must collect the same ids."""
    return "bytes" if isinstance(val, bytes) else None
