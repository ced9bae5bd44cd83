"""For each step of each numbered walk a case in which only that step fails, with its code, in the block tagged with it.

The table is complete: it has every code of a walk, every step that the module's docstring numbers, and every code that
the docstring gives for a step; and a row that the docstring does not know fails too.
"""

import importlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Final, NoReturn

import cbor2
import pytest
from hcl import hardware, key
from steps import step_of

from proxy_attestation.appraisal.azure import Verify
from proxy_attestation.appraisal.claims import TdxClaims
from proxy_attestation.appraisal.dcap import appraise
from proxy_attestation.appraisal.dcap_collateral import verify_collateral
from proxy_attestation.appraisal.endorsements import DcapEndorsements, SnpEndorsements
from proxy_attestation.appraisal.event_log import replay, replay_td
from proxy_attestation.appraisal.nitro import appraise_nitro
from proxy_attestation.appraisal.roots import Roots, same_for_all
from proxy_attestation.appraisal.snp import appraise_snp
from proxy_attestation.appraisal.snp_chain import SnpFloor
from proxy_attestation.appraisal.tpm import Activation, TpmEndorsements, appraise_tpm
from proxy_attestation.appraisal.tpm_chain import TpmRoots
from proxy_attestation.codes import Code
from proxy_attestation.errors import AppraisalError, ProxyAttestationError
from proxy_attestation.formats.bounds import COLLATERAL_DOCUMENT_MAX, TPM_EVIDENCE_MAX
from proxy_attestation.formats.event_log import decode_event_log
from proxy_attestation.formats.nitro import decode_nitro
from proxy_attestation.formats.snp_report import Product
from proxy_attestation.formats.tee import Tee
from proxy_attestation.formats.tpm import spki_of
from proxy_attestation.formats.tpm_evidence import decode_tpm
from proxy_attestation_simulator.amd import CRL_NUMBER, AmdVendor
from proxy_attestation_simulator.aws import Aws
from proxy_attestation_simulator.azure import TDX, bare_hcl_report
from proxy_attestation_simulator.intel import Vendor
from proxy_attestation_simulator.keys import derive_key
from proxy_attestation_simulator.tpm import TpmRecipe, TpmVendor, ak_certificate_recipe, make
from proxy_attestation_simulator.tpm_faults import TPM_FAULTS
from proxy_attestation_simulator.tpm_structures import AK_ATTRIBUTES, LogEvent, LogRecipe, public_area

NOW: Final = datetime(2026, 11, 24, 12, tzinfo=UTC)
INTEL: Final = Vendor.create(NOW, secret=bytes(range(32)))
ROOTS: Final = Roots(frozenset({INTEL.root_pin}))
AMD: Final = AmdVendor.fixed(NOW)
AWS: Final = Aws.create(NOW, secret=bytes(range(32)))
TPM: Final = TpmVendor.create(NOW)
TPM_ROOTS: Final = TpmRoots(frozenset({TPM.pin}))
DATA: Final = bytes(range(64))
HERE: Final = "test_every_step"
"""Where step 1 of the walks stands that take what was decoded before."""


@dataclass(frozen=True)
class Row:
    """One way to fail.

    Attributes:
        walk: the module whose docstring numbers the steps.
        step: the number.
        code: the refusal's.
        how: makes the call that is refused.
    """

    walk: str
    step: str
    code: str
    how: Callable[[], object]


def dcap(tee: str, *, quote: str = "", collateral: str = "", floor: bool = False) -> None:
    """Judge a quote, the fault in it or in its collateral."""
    made = INTEL.platform(tee).quote(DATA, fault=quote)
    endorsements = DcapEndorsements(**INTEL.endorsements(tee, fault=collateral))
    good = DcapEndorsements(**INTEL.endorsements(tee))
    lowest = verify_collateral(good, ROOTS, NOW).floor if floor else None
    appraise(made, endorsements, ROOTS, lowest, NOW)


def dcap_collateral(tee: str, fault: str = "", **pieces: bytes) -> None:
    """Judge a set of collateral by itself."""
    endorsements = DcapEndorsements(**INTEL.endorsements(tee, fault=fault) | pieces)
    verify_collateral(endorsements, ROOTS, NOW, tee=Tee(tee))


def another_pinned_vendor(tee: str) -> None:
    """Judge a good quote with good collateral of another vendor whose root is pinned as well."""
    other = Vendor.create(NOW, secret=b"another vendor: a secret of 32 B")
    both = Roots(frozenset({INTEL.root_pin, other.root_pin}))
    appraise(INTEL.platform(tee).quote(DATA), DcapEndorsements(**other.endorsements(tee)), both, None, NOW)


def the_other_pck_ca(tee: str) -> None:
    """Judge a quote of the processor CA with the platform CA's list."""
    quote = INTEL.platform(tee, ca="processor").quote(DATA)
    appraise(quote, DcapEndorsements(**INTEL.endorsements(tee)), ROOTS, None, NOW)


def snp(fault: str, line: str = "Milan") -> None:
    """Judge a report, the fault in it or in what comes with it."""
    made = AMD.platform(line).evidence(DATA, fault=fault)
    pins = {product: frozenset({AMD.ark_pin(product)}) for product in Product}
    floor = SnpFloor(CRL_NUMBER, int(NOW.timestamp()) - 86400)
    appraise_snp(made.report, SnpEndorsements(made.certificates, made.crls), pins, floor, NOW, crl_required=True)


def nitro_walk(fault: str) -> None:
    """Judge a document."""
    made = AWS.enclave().document(nonce=bytes(32), public_key=bytes(91), user_data=bytes(64), fault=fault)
    # 1
    document = decode_nitro(made)
    appraise_nitro(document, same_for_all({AWS.root_pin}), NOW)


def tpm(recipe: TpmRecipe, **changes: object) -> None:
    """Judge TPM evidence; `changes` are of what it is judged by."""
    made = make(TPM, recipe, ak_key=key() if recipe.parts else None)
    activation = Activation(made.activated_name, made.activated_ek) if recipe.way == "activation" else None
    beside = TpmEndorsements(made.certificates, activation, event_log=made.event_log)
    beside = replace(beside, **changes)  # type: ignore[arg-type] # by name
    # 1
    evidence = decode_tpm(made.evidence)
    appraise_tpm(evidence, beside, TPM_ROOTS, NOW, csr_spki=made.key_spki if recipe.with_key else None)


def tpm_fault(name: str) -> None:
    """Judge TPM evidence with a fault of the simulator."""
    tpm(TPM_FAULTS[name].apply(TpmRecipe(), ""))


def tpm_quote_alone(*, log: bool) -> None:
    """Judge a quote and its signature: without any key, or with a log and the key but without PCR values."""
    made = make(TPM)
    record = cbor2.loads(made.evidence)
    evidence = replace(decode_tpm(record[1]), signature=record[2])
    beside = TpmEndorsements(ak_anchors=(made.ak_spki,), event_log=made.event_log) if log else TpmEndorsements()
    appraise_tpm(evidence, beside, TPM_ROOTS, NOW)


def tpm_unknown_hash() -> None:
    """Read TPM evidence whose AK is named by a hash that nobody knows."""
    area = public_area(derive_key(b"any", "tpm ak"), AK_ATTRIBUTES)
    tpm(TpmRecipe(parts={3: area[:2] + b"\xff\xff" + area[4:]}))


def tpm_too_large() -> None:
    """Read TPM evidence beyond its bound."""
    # 1
    decode_tpm(bytes(TPM_EVIDENCE_MAX + 1))


def on_azure(report: bytes, walk: Verify | None = None, **changes: object) -> None:
    """Judge a vTPM that an HCL report vouches for."""
    tpm(TpmRecipe(with_key=False, way="none", parts={8: report}), certificates=(), hardware=walk, **changes)


def no_hardware(kind: str, evidence: bytes) -> NoReturn:
    """Refuse whatever hardware evidence, as its own walk does."""
    raise AppraisalError(Code.SNP_SIGNATURE, f"{len(evidence)} bytes of {kind}")


def tpm_log(*events: LogEvent, algorithms: tuple[str, ...] = ("sha256",)) -> None:
    """Replay a log into a register that is zero."""
    replay(decode_event_log(LogRecipe(events, algorithms).encode()), "sha256", {4: bytes(32)})


def td_log(log: bytes) -> None:
    """Replay a log into the registers of a good TD."""
    endorsements = DcapEndorsements(**INTEL.endorsements("tdx"))
    body = appraise(INTEL.platform("tdx").quote(DATA), endorsements, ROOTS, None, NOW).body
    assert isinstance(body, TdxClaims)
    replay_td(log, body)


def both(walk: str, step: str, fault: str, how: Callable[[str], object]) -> Iterator[Row]:
    """Return the rows for SGX and TDX."""
    for tee in ("sgx", "tdx"):
        yield Row(walk, step, fault if "." in fault else f"{tee}.{fault}", partial(how, tee))


def _dcap() -> Iterator[Row]:
    for walk, step, fault, name in (
        ("dcap", "1", "malformed", "truncated=1"),
        ("dcap", "1", "evidence.unknown", "version=6"),
        ("dcap", "1", "key_type", "key-type=3"),
        ("dcap", "1", "qe_vendor", "vendor-id"),
        ("dcap", "1", "certification_data", "cert-type=0"),
        ("pck_chain", "2", "chain", "pck-signature"),
        ("pck_chain", "2", "root", "wrong-root"),
        ("pck_chain", "2", "expired", "expired-pck"),
        ("pck_chain", "3", "pck", "pck-common-name"),
        ("dcap_steps", "4", "qe_report_signature", "qe-report-signature"),
        ("dcap_steps", "5", "qe_report_data", "qe-report-data"),
        ("dcap_steps", "6", "signature", "wrong-key"),
        ("dcap", "8", "endorsements_missing", "cert-type=3"),
        ("tcb", "11", "qe_identity", "bad-qe-identity"),
        ("tcb", "11", "qe_tcb_not_supported", "qe-unsupported"),
        ("tcb", "11", "qe_tcb_revoked", "qe-revoked"),
        ("tcb", "12", "tcb_not_supported", "no-tcb-level"),
        ("tcb", "12", "tcb_revoked", "revoked-tcb"),
    ):
        yield from both(walk, step, fault, partial(dcap, quote=name))
    yield Row("dcap", "1", "sgx.version", partial(dcap, "sgx", quote="body-type=4"))
    yield Row("dcap", "1", "tdx.version", partial(dcap, "tdx", quote="version=5"))
    for step, fault, name in (
        ("7", "attributes", "reserved-attributes"),
        ("7", "xfam", "xfam"),
    ):
        yield Row("dcap", step, f"tdx.{fault}", partial(dcap, "tdx", quote=name))
    for fault, name in (
        ("module_identity", "module-identity"),
        ("module_tcb_not_supported", "module-unsupported"),
        ("module_tcb_revoked", "module-revoked"),
    ):
        yield Row("tcb", "10", f"tdx.{fault}", partial(dcap, "tdx", quote=name))
    yield from both("dcap", "8", "endorsements_floor", partial(dcap, collateral="older-evaluation", floor=True))
    yield from both("dcap_steps", "9", "tcb_info_mismatch", partial(dcap, collateral="fmspc-mismatch"))
    yield from both("dcap_steps", "9", "revoked", partial(dcap, collateral="revoked-pck"))
    yield from both("dcap_steps", "9", "root", another_pinned_vendor)
    yield from both("dcap_steps", "9", "crl", the_other_pck_ca)


def _dcap_collateral() -> Iterator[Row]:
    large = bytes(COLLATERAL_DOCUMENT_MAX + 1)
    yield from both("dcap_collateral", "C1", "endorsements_missing", partial(dcap_collateral, fault="missing=pck_crl"))
    yield from both("dcap_collateral", "C1", "endorsements_malformed", partial(dcap_collateral, pck_crl=large))
    for step, fault, how in (
        ("C2", "endorsements_malformed", "malformed=tcb_info"),
        ("C2", "tcb_info_mismatch", "tcb-info-id"),
        ("C3", "chain", "tcb-signer-signature"),
        ("C3", "root", "wrong-root"),
        ("C3", "expired", "expired-tcb-signer"),
        ("C4", "crl", "crl-signature"),
        ("C4", "crl_expired", "expired-root-crl"),
        ("C5", "revoked", "revoked-tcb-signer"),
        ("C6", "tcb_info_signature", "tcb-info-signature"),
        ("C6", "endorsements_malformed", "unknown-status"),
        ("C6", "tcb_info_expired", "expired-collateral"),
        ("C7", "qe_identity_signature", "qe-identity-signature"),
        ("C7", "endorsements_malformed", "qe-identity-version=1"),
        ("C7", "qe_identity", "qe-identity-id"),
        ("C7", "qe_identity_expired", "expired-qe-identity"),
    ):
        yield from both("dcap_collateral", step, fault, partial(dcap_collateral, fault=how))


def _snp() -> Iterator[Row]:
    for walk, step, fault, name in (
        ("snp", "1", "malformed", "reserved"),
        ("snp", "1", "version", "version"),
        ("snp", "1", "signature_algorithm", "signature-algorithm"),
        ("snp", "1", "signing_key", "signing-key"),
        ("snp", "1", "certificate_table", "trailing"),
        ("snp", "2", "policy", "policy-reserved"),
        ("snp", "2", "platform_info", "platform-info-reserved"),
        ("snp", "2", "vmpl", "host-report"),
        ("snp", "2", "product", "unknown-model"),
        ("snp", "3", "endorsements_missing", "no-vek"),
        ("snp", "3", "chain", "garbage-certificate"),
        ("snp", "3", "vek", "vek-unknown-extension"),
        ("snp", "4", "product", "other-product"),
        ("snp", "4", "tcb_mismatch", "vek-old-tcb"),
        ("snp", "4", "chip_id", "other-chip"),
        ("snp", "5", "signature", "other-key"),
        ("snp", "6", "tcb", "committed-above-current"),
        ("snp_chain", "7", "endorsements_missing", "no-issuer"),
        ("snp_chain", "7", "root", "wrong-root"),
        ("snp_chain", "7", "chain", "vek-signature"),
        ("snp_chain", "7", "expired", "vek-expired"),
        ("snp_chain", "8", "crl", "crl-signature"),
        ("snp_chain", "8", "crl_missing", "no-crl"),
        ("snp_chain", "8", "crl_expired", "crl-expired"),
        ("snp_chain", "8", "revoked", "issuer-revoked"),
        ("snp", "9", "endorsements_floor", "crl-old"),
    ):
        yield Row(walk, step, f"snp.{fault}", partial(snp, name))


def _nitro() -> Iterator[Row]:
    for step, code, name in (
        ("1", "nitro.malformed", "trailing"),
        ("1", "nitro.algorithm", "algorithm"),
        ("2", "nitro.root", "wrong-root"),
        ("3", "nitro.chain", "certificate-signature"),
        ("4", "nitro.expired", "expired"),
        ("5", "nitro.signature", "wrong-key"),
        ("6", "nitro.timestamp", "late"),
    ):
        yield Row(HERE if step == "1" else "nitro", step, code, partial(nitro_walk, name))


def _tpm() -> Iterator[Row]:
    yield Row(HERE, "1", "evidence.too_large", tpm_too_large)
    yield Row(HERE, "1", Code.TPM_ALGORITHM, tpm_unknown_hash)
    for walk, step, name in (
        (HERE, "1", "trailing-byte"),
        (HERE, "1", "attest-type"),
        (HERE, "1", "missing-value"),
        ("tpm_steps", "2", "not-restricted"),
        ("tpm_steps", "2", "ak-decrypts"),
        ("tpm", "3", "signed-by-another"),
        ("tpm", "3", "unknown-scheme"),
        ("tpm_steps", "4", "changed-value"),
        ("tpm_steps", "5", "cut-log"),
        ("event_log", "3", "other-log"),
        ("tpm_steps", "6", "certified-by-another"),
        ("tpm_steps", "6", "certify-other-data"),
        ("tpm_steps", "6", "certify-other-name"),
        ("tpm_steps", "6", "key-not-fixed"),
        ("tpm_steps", "6", "csr-other-key"),
        ("tpm", "7b", "activated-another"),
        ("tpm", "7b", "activated-other-ek"),
        ("tpm", "7b", "certificate-other-bytes"),
        ("tpm", "7b", "certificate-forged"),
        ("tpm", "7b", "root"),
        ("tpm", "7b", "expired"),
        ("tpm", "7d", "ak-certificate-is-eks"),
        ("tpm", "7d", "no-trust"),
        ("tpm", "8", "sha1"),
    ):
        yield Row(walk, step, f"tpm.{TPM_FAULTS[name].code}", partial(tpm_fault, name))
    for name in ("certificate-other-bytes", "certificate-forged", "root", "expired"):
        recipe = ak_certificate_recipe(TPM_FAULTS[name].apply(TpmRecipe(), ""))
        yield Row("tpm", "7d", f"tpm.{TPM_FAULTS[name].code}", partial(tpm, recipe))
    yield Row("tpm", "3", Code.TPM_ENDORSEMENTS_MISSING, partial(tpm_quote_alone, log=False))
    yield Row("tpm_steps", "5", Code.TPM_PCR_VALUES, partial(tpm_quote_alone, log=True))
    other = spki_of(key(1).public_key())
    yield Row("tpm", "7a", Code.TPM_AK_UNTRUSTED, partial(tpm, TpmRecipe(), ak_anchors=(other,)))


def _azure() -> Iterator[Row]:
    good = bare_hcl_report(key().public_key())
    yield Row("tpm", "7c", Code.TPM_HCL_LAYER, partial(on_azure, good))
    yield Row("azure", "1", Code.SNP_SIGNATURE, partial(on_azure, good, no_hardware))
    yield Row(
        "azure", "1", Code.TPM_HCL_LAYER, partial(on_azure, bare_hcl_report(key().public_key(), TDX), hardware(None))
    )
    yield Row("azure", "2", Code.TPM_HCL_LAYER, partial(on_azure, good, hardware(2)))
    yield Row("azure", "3", Code.TPM_HCL_REPORT_DATA, partial(on_azure, good, hardware(data=bytes(64))))
    digest = bare_hcl_report(key().public_key(), digest=bytes(64))
    yield Row("azure", "3", Code.TPM_HCL_REPORT_DATA, partial(on_azure, digest, hardware()))
    yield Row("azure", "4", Code.TPM_HCL_KEY, partial(on_azure, bare_hcl_report(key(1).public_key()), hardware()))
    yield Row("tpm", "7", Code.TPM_HCL_MALFORMED, partial(on_azure, b"HCLA", hardware()))


def _event_log() -> Iterator[Row]:
    stray, unlike = LogEvent(24, 4, b"a"), LogEvent(4, 4, b"a")
    yield Row("event_log", "1", Code.TPM_EVENT_LOG_MALFORMED, partial(tpm_log, stray))
    yield Row("event_log", "3", Code.TPM_EVENT_LOG, partial(tpm_log, unlike))
    in_sha384 = LogRecipe((LogEvent(5, 4, b"a"),), ("sha384",)).encode()
    yield Row("event_log", "1", Code.TDX_EVENT_LOG_MALFORMED, partial(td_log, in_sha384))
    in_sha384 = LogRecipe((LogEvent(1, 4, b"a"),), ("sha384",)).encode()
    yield Row("event_log", "3", Code.TDX_EVENT_LOG, partial(td_log, in_sha384))


ELSEWHERE: Final = {
    "sgx.debug": "policy.decide: a claim, which policies judge",
    "tdx.debug": "policy.decide",
    "nitro.debug": "policy.decide",
    "snp.debug": "policy.decide",
    "snp.migration_agent": "policy.pins",
    "sgx.tcb_status": "policy.decide",
    "tdx.tcb_status": "policy.decide",
    "snp.tcb_status": "policy.pins: the minimum TCB of an entry",
    "tdx.service_td": "policy.pins",
    "tdx.event_unknown": "policy.events",
    "tpm.event_unknown": "policy.events",
    "tpm.software_key": "policy.decide",
    "tpm.credential": "formats.tpm_credential: the blob of a challenge",
}
"""Codes with a walk's prefix that no walk raises, and who does."""
STEPLESS: Final = {
    ("event_log", "2"): "computes, and refuses nothing",
}


ROWS: Final = (*_dcap(), *_dcap_collateral(), *_snp(), *_nitro(), *_tpm(), *_azure(), *_event_log())


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row.walk}-{row.step}-{row.code}")
def test_only_that_step_fails(row: Row) -> None:
    with pytest.raises(ProxyAttestationError) as refused:
        row.how()
    assert refused.value.code == row.code
    walk, numbers = step_of(refused.value)
    assert walk == row.walk
    assert row.step in numbers


_STEP: Final = re.compile(r"^ {1,3}(C?\d+[a-d]?) ")
_TEES: Final = {"dcap": ("sgx", "tdx"), "snp": ("snp",), "nitro": ("nitro",), "tpm": ("tpm",), "azure": ("tpm",)}
# Where the numbered steps of a walk stand in modules of their own.
_OF: Final = {
    "dcap": ("dcap", "dcap_steps", "pck_chain", "tcb"),
    "snp": ("snp", "snp_chain"),
    "nitro": ("nitro", HERE),
    "tpm": ("tpm", "tpm_steps", HERE),
    "azure": ("azure",),
}
# Steps that are a whole walk of their own.
_INSIDE: Final = {("tpm", "5"): "event_log", ("tpm", "7c"): "azure"}


def documented(walk: str) -> dict[str, str]:
    """Return what a module's docstring says of each step: its lines up to the next, or to an empty line."""
    module = importlib.import_module(f"proxy_attestation.appraisal.{walk}")
    steps: dict[str, str] = {}
    current = ""
    for line in (module.__doc__ or "").splitlines():
        number = _STEP.match(line)
        current = number[1] if number else current if line.startswith("     ") else ""
        if current:
            steps[current] = f"{steps.get(current, '')}\n{line}"
    return steps


def codes_in(text: str, tees: tuple[str, ...]) -> set[str]:
    """Return the codes in the right-hand column of a step: known words behind at least two spaces."""
    words = {str(code).partition(".")[2] for code in Code if code.startswith(tees)}
    found: set[str] = set()
    for line in text.splitlines():
        left, _, column = re.sub(r" +\([^()]+\)$", "", _STEP.sub("      ", line)).strip().rpartition("  ")
        if left or line.startswith(" " * 20):
            found |= words & {*re.findall(r"[a-z_]+", column)}
    return found


@pytest.mark.parametrize("walk", ["dcap", "dcap_collateral", "snp", "nitro", "tpm", "azure", "event_log"])
def test_every_numbered_step_has_a_row(walk: str) -> None:
    steps = documented(walk)
    assert len(steps) > 2
    rows = {row.step for row in ROWS if row.walk in _OF.get(walk, (walk,))}
    assert {step for step in steps if (walk, step) not in STEPLESS} <= rows


@pytest.mark.parametrize("walk", list(_OF))
def test_the_docstring_and_the_table_give_the_same_codes(walk: str) -> None:
    for step, text in documented(walk).items():
        said = codes_in(text, _TEES[walk])
        inside = _INSIDE.get((walk, step))
        rows = {
            row.code.partition(".")[2]
            for row in ROWS
            if row.code.startswith(_TEES[walk]) and (row.walk == inside or (row.step == step and row.walk in _OF[walk]))
        }
        assert said <= rows, step
        if "..." not in text and "*" not in text:
            assert rows == said, step


def test_every_code_of_a_walk_is_in_the_table() -> None:
    walks = ("sgx.", "tdx.", "snp.", "nitro.", "tpm.")
    assert {code for code in Code if code.startswith(walks)} - {row.code for row in ROWS} == set(ELSEWHERE)
