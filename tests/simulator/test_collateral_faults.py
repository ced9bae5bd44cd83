"""Every fault of collateral changes the pieces that it says, no others, and the oracle sees it."""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

import pytest
from cryptography import x509

from proxy_attestation_simulator.collateral_faults import COLLATERAL_FAULTS, PIECES
from proxy_attestation_simulator.documents import split_document
from proxy_attestation_simulator.errors import SimulatorError
from proxy_attestation_simulator.intel import Vendor

Judge = Callable[[bytes, Mapping[str, bytes]], str]

_CHAINS = {"tcb_info_issuer_chain", "qe_identity_issuer_chain"}
_DOCUMENTS = {"tcb_info", "qe_identity"}


@dataclass(frozen=True)
class Case:
    """A fault, the pieces that differ from good ones, and what the oracle says (a regular expression)."""

    fault: str
    pieces: set[str]
    oracle: str


CASES = [
    Case("unknown-status", {"tcb_info"}, "refused.*unknown variant"),
    Case("duplicate-level", {"tcb_info"}, "UpToDate"),  # the oracle takes the first
    Case("malformed-tcb-info", {"tcb_info"}, "refused.*decode TcbInfo"),
    Case("malformed-qe-identity", {"qe_identity"}, "refused.*decode QeIdentity"),
    Case("tcb-info-version=4", {"tcb_info"}, "refused|UpToDate"),
    Case("qe-identity-version=9", {"qe_identity"}, "refused.*version"),
    Case("wrong-root", set(PIECES), "refused"),
    Case("tcb-signer-signature", _CHAINS, "refused.*InvalidSignature"),
    Case("expired-tcb-signer", _CHAINS, "refused.*CertExpired"),
    Case("revoked-pck", {"pck_crl"}, "refused.*CertRevoked"),
    Case("revoked-pck-ca", {"root_ca_crl"}, "refused.*CertRevoked"),
    Case("revoked-tcb-signer", {"root_ca_crl"}, "refused.*CertRevoked"),
    Case("crl-signature", {"pck_crl"}, "refused.*InvalidCrlSignature"),
    Case("crl-issuer", {"pck_crl", "pck_crl_issuer_chain"}, "refused.*Revocation"),
    Case("root-crl-signature", {"root_ca_crl"}, "refused.*InvalidCrlSignature"),
    Case("crl-without-number", {"pck_crl"}, "UpToDate"),  # the oracle does not look for it
    Case("expired-crl", {"pck_crl"}, "refused.*CrlExpired"),
    Case("expired-root-crl", {"root_ca_crl"}, "refused.*CrlExpired"),
    Case("crl-not-yet-valid", {"pck_crl"}, "UpToDate"),  # the oracle does not look at thisUpdate
    Case("tcb-info-signature", {"tcb_info"}, "refused.*Signature is invalid for tcb_info"),
    Case("tcb-info-signer", {"tcb_info"}, "refused.*Signature is invalid for tcb_info"),
    Case("expired-collateral", {"tcb_info"}, "refused.*TCBInfo expired"),
    Case("tcb-info-not-yet-valid", {"tcb_info"}, "refused.*future"),
    Case("fmspc-mismatch", {"tcb_info"}, "refused.*Fmspc"),
    Case("pceid-mismatch", {"tcb_info"}, "UpToDate"),  # the oracle does not compare it
    Case("tcb-info-id", {"tcb_info"}, "refused"),
    Case("qe-identity-signature", {"qe_identity"}, "refused.*Signature is invalid for qe_identity"),
    Case("qe-identity-signer", {"qe_identity"}, "refused.*Signature is invalid for qe_identity"),
    Case("expired-qe-identity", {"qe_identity"}, "refused.*QE Identity expired"),
    Case("qe-identity-not-yet-valid", {"qe_identity"}, "refused.*future"),
    Case("qe-identity-id", {"qe_identity"}, "refused.*id/version"),
    # The oracle keeps no floors.
    Case("older-evaluation", _DOCUMENTS, "UpToDate"),
    Case("older-issue-date", {"tcb_info"}, "UpToDate"),
    Case("older-crl", {"pck_crl"}, "UpToDate"),
    Case("older-root-crl", {"root_ca_crl"}, "UpToDate"),
    Case("level-status=OutOfDate", {"tcb_info"}, "OutOfDate"),
    Case("level-status=Revoked", {"tcb_info"}, "refused.*Revoked"),
    Case("tcb-recovery", _DOCUMENTS, "OutOfDate"),
]


@pytest.mark.parametrize("tee", ["sgx", "tdx"])
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.fault)
def test_a_fault_changes_what_it_says_and_the_oracle_sees_it(
    vendor: Vendor, judge: Judge, tee: str, case: Case
) -> None:
    good = vendor.endorsements(tee)
    bad = vendor.endorsements(tee, fault=case.fault)
    assert {piece for piece in PIECES if good[piece] != bad[piece]} == case.pieces
    verdict = judge(vendor.platform(tee).quote(bytes(64)), bad)
    assert re.match(case.oracle, verdict, re.DOTALL), verdict


@pytest.mark.parametrize("piece", PIECES)
def test_pieces_can_be_missing_or_garbage(vendor: Vendor, piece: str) -> None:
    good = vendor.endorsements("sgx")
    assert vendor.endorsements("sgx", fault=f"missing={piece}") == {p: good[p] for p in PIECES if p != piece}
    garbage = vendor.endorsements("sgx", fault=f"malformed={piece}")
    assert {p for p in PIECES if garbage[p] != good[p]} == {piece}


def _inner(pieces: Mapping[str, bytes], piece: str) -> dict[str, object]:
    inner: dict[str, object] = json.loads(split_document(pieces[piece])[0])
    return inner


@pytest.mark.parametrize(
    ("fault", "piece", "members"),
    [
        ("expired-collateral", "tcb_info", {"issueDate", "nextUpdate"}),
        ("tcb-info-not-yet-valid", "tcb_info", {"issueDate", "nextUpdate"}),
        ("older-issue-date", "tcb_info", {"issueDate"}),
        ("older-evaluation=3", "tcb_info", {"tcbEvaluationDataNumber"}),
        ("older-evaluation=3", "qe_identity", {"tcbEvaluationDataNumber"}),
        ("fmspc-mismatch", "tcb_info", {"fmspc"}),
        ("pceid-mismatch", "tcb_info", {"pceId"}),
        ("tcb-info-id", "tcb_info", {"id"}),
        ("qe-identity-id", "qe_identity", {"id"}),
        ("expired-qe-identity", "qe_identity", {"issueDate", "nextUpdate"}),
        ("tcb-info-signer", "tcb_info", set()),
        ("level-status=OutOfDate", "tcb_info", {"tcbLevels"}),
        ("tcb-recovery", "tcb_info", {"tcbLevels", "tcbEvaluationDataNumber"}),
        ("tcb-recovery", "qe_identity", {"tcbEvaluationDataNumber"}),
    ],
)
def test_documents_differ_in_the_named_members(vendor: Vendor, fault: str, piece: str, members: set[str]) -> None:
    good = _inner(vendor.endorsements("sgx"), piece)
    bad = _inner(vendor.endorsements("sgx", fault=fault), piece)
    assert {member for member in good if good[member] != bad[member]} == members


def test_a_changed_document_differs_in_one_byte(vendor: Vendor) -> None:
    good, bad = vendor.endorsements("sgx"), vendor.endorsements("sgx", fault="tcb-info-signature")
    assert len(good["tcb_info"]) == len(bad["tcb_info"])
    assert sum(a != b for a, b in zip(good["tcb_info"], bad["tcb_info"], strict=True)) == 1
    json.loads(bad["tcb_info"])


def test_revocation_lists_list_what_the_fault_says(vendor: Vendor) -> None:
    platform = vendor.platform("tdx", seed="mine")

    def serials(fault: str, piece: str, seed: int | str = 0) -> list[int]:
        crl = x509.load_der_x509_crl(vendor.endorsements("tdx", fault=fault, seed=seed)[piece])
        return [entry.serial_number for entry in crl]

    assert serials("", "pck_crl") == serials("", "root_ca_crl") == []
    assert serials("revoked-pck", "pck_crl", seed="mine") == [platform.serial]
    assert serials("revoked-pck", "pck_crl") == [vendor.platform("tdx").serial]
    assert serials("revoked-pck=77", "pck_crl") == [77]
    assert serials("revoked-pck-ca", "root_ca_crl") == [vendor.authority("platform ca").certificate.serial_number]
    assert serials("revoked-tcb-signer", "root_ca_crl") == [vendor.authority("tcb signer").certificate.serial_number]


def test_dates_follow_now(vendor: Vendor, now: datetime) -> None:
    later = now + timedelta(days=400)
    document = _inner(vendor.endorsements("sgx", later), "tcb_info")
    assert document["issueDate"] == (later - timedelta(days=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    expired = _inner(vendor.endorsements("sgx", later, fault="expired-collateral"), "tcb_info")
    assert datetime.fromisoformat(str(expired["nextUpdate"])) < later


@pytest.mark.parametrize(
    "fault",
    [
        "debug",
        "missing",
        "missing=root",
        "malformed=",
        "fmspc-mismatch=00",
        "older-crl=x",
        "level-status=Good",
        "crl-issuer=1",
    ],
)
def test_faults_that_cannot_be_are_refused(vendor: Vendor, fault: str) -> None:
    with pytest.raises(SimulatorError):
        vendor.endorsements("sgx", fault=fault)


def test_no_fault_is_left_out_of_these_tests() -> None:
    told = {case.fault.partition("=")[0] for case in CASES} | {"missing", "malformed"}
    assert told == set(COLLATERAL_FAULTS)
