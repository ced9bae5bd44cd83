"""Every fault of the simulator, one at a time: the code it must get, on the hot path too, and what the oracle says.

The simulator's registry says what each fault is meant to provoke. Where that depends on the value or the TEE, the table
here says it. Together they must provoke every code of the walk.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime

import pytest
from judged import tcb_of

from proxy_attestation.appraisal.claims import Claims
from proxy_attestation.appraisal.dcap import DcapAppraiser, appraise
from proxy_attestation.appraisal.dcap_collateral import verify_collateral
from proxy_attestation.appraisal.endorsements import DcapEndorsements, Floor
from proxy_attestation.appraisal.roots import Roots
from proxy_attestation.codes import Code
from proxy_attestation.errors import ProxyAttestationError
from proxy_attestation.formats.dcap_codes import DcapFault
from proxy_attestation.formats.tee import DCAP, Tee
from proxy_attestation_simulator.collateral import CRL_NUMBER, EVALUATION_NUMBER
from proxy_attestation_simulator.collateral_faults import COLLATERAL_FAULTS, PIECES
from proxy_attestation_simulator.intel import Vendor
from proxy_attestation_simulator.quote_faults import QUOTE_FAULTS
from proxy_attestation_simulator.recipes import AGE_OF_STATUS

REPORT_DATA = bytes(range(64))
ACCEPTED = "accepted"
_STATUSES = [status for status in AGE_OF_STATUS if status != "Revoked"]

# The values to try, where a fault takes one; otherwise its default.
_VALUES = {
    "trailing": ["ff", "00ff", "2d"],
    "truncated": ["1", "100", "3000", "3900"],
    "cert-type": ["0", "1", "2", "3", "4", "6", "7", "8"],
    "version": ["0", "2", "3", "4", "5", "6"],
    "quote-version": ["4", "5"],
    "body-type": ["0", "1", "2", "3", "4", "256"],
    "tee-type": ["0", "1", "129"],
    "key-type": ["0", "1", "3"],
    "authentication": ["0", "31", "33", "1000"],
    "pck-extension": ["absent", "short", "trailing"],
    "pck-cpu-svn": ["1", "9"],
    "tcb-level": [*AGE_OF_STATUS],
    "bad-qe-identity": ["mrsigner", "isvprodid", "attributes", "miscselect", "debug"],
    "reserved-attributes": [str(bit) for bit in range(64) if bit not in (0, 16, 27, 28, 29, 30, 31, 62, 63)],
    "xfam": ["e600060000000000", "e500060000000000", "e702060000000001", "1b00000000000000", "0700080000000000"],
    "missing": [*PIECES],
    "malformed": [*PIECES],
    "tcb-info-version": ["1", "2", "4"],
    "qe-identity-version": ["1", "3"],
    "level-status": _STATUSES,
    # Fields of the body that decide something here. The others are claims, and policies judge them.
    "tee_tcb_svn": ["00" * 16, "ff" * 16, "0401" + "00" * 14],
    "mr_signer_seam": ["01" + "00" * 47],
    "mr_service_td": ["5d" * 48],
    "tee_tcb_svn_2": ["00" * 16],
    "td_attributes": ["0000000000000000", "00000078000000c0", "0000011000000000"],
}
# What each gets, where the registry's one code does not say it: (TEE, fault) or fault.
_EXPECTED: dict[str, str] = {
    "sgx version=0": "evidence.unknown",
    "tdx version=0": "evidence.unknown",
    "sgx version=2": "evidence.unknown",
    "tdx version=2": "evidence.unknown",
    "sgx version=6": "evidence.unknown",
    "tdx version=6": "evidence.unknown",
    "sgx version=3": ACCEPTED,
    "tdx version=3": "sgx.malformed",
    "tdx version=4": ACCEPTED,
    "tdx version=5": "tdx.version",
    # An SGX body where the signature data of a version 3 begin: no outer certification data of type 6.
    "sgx version=4": "certification_data",
    "sgx body-type=1": ACCEPTED,
    "tdx body-type=1": "malformed",
    "sgx body-type=2": "malformed",
    "tdx body-type=2": ACCEPTED,
    "sgx body-type=3": "malformed",
    "tdx body-type=3": ACCEPTED,
    "sgx tee-type=0": ACCEPTED,
    "tdx tee-type=0": "sgx.malformed",
    "tdx tee-type=1": "evidence.unknown",
    "tdx tee-type=129": ACCEPTED,
    # They hold no chain, which nobody sent either.
    "cert-type=1": "endorsements_missing",
    "cert-type=2": "endorsements_missing",
    "cert-type=3": "endorsements_missing",
    "cert-type=7": "endorsements_missing",
    # The PCK certificate alone: the collateral has its issuers.
    "cert-type=4": ACCEPTED,
    "tcb-level=Revoked": "tcb_revoked",
    "level-status=Revoked": "tcb_revoked",
    "sgx tcb-info-version=2": ACCEPTED,
    "malformed=pck_crl": "crl",
    "malformed=root_ca_crl": "crl",
    f"tee_tcb_svn={'00' * 16}": "tcb_not_supported",
    f"tee_tcb_svn={'ff' * 16}": "module_identity",
    f"tee_tcb_svn=0401{'00' * 14}": "tcb_not_supported",
}
# What the registry calls by the code of a later judge is genuine, and accepted here.
_LATER = ("accepted", "binder.", "policy.", "debug", "tcb_status", "service_td")


@dataclass(frozen=True)
class Case:
    """One fault in a quote or in the collateral for a TEE, and the code that it gets, or `accepted`."""

    tee: str
    kind: str
    fault: str
    expected: str

    @property
    def id(self) -> str:
        return f"{self.tee}-{self.kind}-{self.fault}"


def _expected(tee: str, fault: str, code: str) -> str:
    code = _EXPECTED.get(f"{tee} {fault}", _EXPECTED.get(fault, code))
    if code.startswith(_LATER):
        return ACCEPTED
    return code if "." in code else f"{tee}.{code}"


def _cases() -> list[Case]:
    cases = []
    for kind, registry in (("quote", QUOTE_FAULTS), ("collateral", COLLATERAL_FAULTS)):
        for name, fault in registry.items():
            values = _VALUES.get(name, [fault.default] if fault.value and fault.default else [])
            texts = [f"{name}={value}" for value in values] or [name]
            if fault.value and fault.default is None and not values:
                assert fault.code.startswith(_LATER), f"{name} needs values here"
                continue
            cases += [Case(tee, kind, text, _expected(tee, text, fault.code)) for tee in fault.tees for text in texts]
    return cases


CASES = _cases()


def _floor(vendor: Vendor, tee: str, roots: Roots, now: datetime) -> Floor:
    collateral = verify_collateral(DcapEndorsements(**vendor.endorsements(tee)), roots, now)
    assert collateral.floor == Floor(
        EVALUATION_NUMBER, int(collateral.tcb_info.issue_date.timestamp()), CRL_NUMBER, CRL_NUMBER
    )
    return collateral.floor


def _make(case: Case, vendor: Vendor) -> tuple[bytes, DcapEndorsements]:
    faults = {"quote": "", "collateral": "", case.kind: case.fault}
    quote = vendor.platform(case.tee).quote(REPORT_DATA, fault=faults["quote"])
    return quote, DcapEndorsements(**vendor.endorsements(case.tee, fault=faults["collateral"]))


def _verdict(judge: Callable[[], Claims]) -> tuple[str, Claims | None]:
    try:
        claims = judge()
    except ProxyAttestationError as error:
        return str(error.code), None
    return tcb_of(claims).status, claims


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_the_one_fault_gets_its_code(case: Case, vendor: Vendor, roots: Roots, now: datetime) -> None:
    quote, endorsements = _make(case, vendor)
    floor = _floor(vendor, case.tee, roots, now)
    verdict, claims = _verdict(lambda: appraise(quote, endorsements, roots, floor, now))
    assert (ACCEPTED if claims else verdict) == case.expected


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_the_hot_path_says_the_same(case: Case, vendor: Vendor, roots: Roots, now: datetime) -> None:
    quote, endorsements = _make(case, vendor)
    verdict, claims = _verdict(lambda: appraise(quote, endorsements, roots, None, now))
    try:
        collateral = verify_collateral(endorsements, roots, now, tee=Tee(case.tee))
    except ProxyAttestationError as error:
        assert case.kind == "collateral"
        assert error.code == verdict
        return
    key = (collateral.tee, vendor.platform(case.tee).fmspc)
    appraiser = DcapAppraiser(roots, {key: collateral})
    for _ in range(2):
        assert _verdict(lambda: appraiser.appraise(quote, (), now)[0]) == (verdict, claims)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_the_oracle_agrees(
    case: Case,
    *,
    vendor: Vendor,
    roots: Roots,
    now: datetime,
    oracle: Callable[[bytes, DcapEndorsements, bytes, datetime], str],
    agree: Callable[[str, str, str], None],
) -> None:
    quote, endorsements = _make(case, vendor)
    ours, _ = _verdict(lambda: appraise(quote, endorsements, roots, None, now))
    agree(f"simulated:{case.id}", ours, oracle(quote, endorsements, vendor.root_der, now))


def test_no_listed_difference_is_about_a_case_that_does_not_exist(listed_differences: dict[str, list[str]]) -> None:
    simulated = {case for case in listed_differences if case.startswith("simulated:")}
    assert simulated <= {f"simulated:{case.id}" for case in CASES}


@pytest.mark.parametrize("tee", DCAP)
def test_every_code_of_the_walk_is_provoked(tee: Tee) -> None:
    # What policies refuse, and what is wrong with a log beside the quote: tests/appraisal/test_event_log.py.
    elsewhere = {"debug", "tcb_status", "service_td", "event_log", "event_log_malformed", "event_unknown"}
    codes = {str(code) for code in Code if code.startswith(f"{tee}.")} - {f"{tee}.{word}" for word in elsewhere}
    assert codes <= {case.expected for case in CASES}


def test_every_fault_of_the_walk_has_its_codes() -> None:
    tdx_only = {DcapFault.ATTRIBUTES, DcapFault.XFAM} | {fault for fault in DcapFault if fault.startswith("module_")}
    codes = {str(code) for code in Code}
    assert {f"tdx.{fault}" for fault in DcapFault} <= codes
    assert {f"sgx.{fault}" for fault in set(DcapFault) - tdx_only} <= codes


@pytest.mark.parametrize(
    ("tee", "fault", "status", "debug"),
    [
        ("sgx", "", "UpToDate", False),
        ("tdx", "", "UpToDate", False),
        ("sgx", "debug", "UpToDate", True),
        ("tdx", "debug", "UpToDate", True),
        ("tdx", "service-td", "UpToDate", False),
        ("tdx", "sept-ve-disable", "UpToDate", False),
        ("sgx", "old-tcb", "OutOfDate", False),
        ("tdx", "old-tcb", "OutOfDate", False),
        ("sgx", "qe-out-of-date", "OutOfDate", False),
        ("tdx", "module-out-of-date", "OutOfDate", False),
        ("tdx", "relaunch-advised", "TDRelaunchAdvised", False),
        *[(tee, f"tcb-level={status}", status, False) for tee in ("sgx", "tdx") for status in _STATUSES],
    ],
)
def test_what_a_policy_judges_is_a_claim(
    tee: str, fault: str, status: str, debug: bool, *, vendor: Vendor, roots: Roots, now: datetime
) -> None:
    quote = vendor.platform(tee).quote(REPORT_DATA, fault=fault)
    claims = appraise(quote, DcapEndorsements(**vendor.endorsements(tee)), roots, None, now)
    assert (tcb_of(claims).status, claims.debug, claims.bound[0]) == (status, debug, REPORT_DATA)
