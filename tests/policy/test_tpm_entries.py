"""Entries for TPMs: what is below the minimum, what pins nothing, and every way of not matching."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from proxy_attestation.appraisal.claims import Claims, HardwareClaims
from proxy_attestation.appraisal.kinds import tpm_result_claims
from proxy_attestation.appraisal.snp_claims import snp_claims
from proxy_attestation.appraisal.tpm import Activation, TpmEndorsements, appraise_tpm
from proxy_attestation.appraisal.tpm_body import TpmBody
from proxy_attestation.appraisal.tpm_chain import TpmRoots
from proxy_attestation.codes import Code
from proxy_attestation.formats.request import ApplicationKind, KeyOrigin, Names, Request, RuntimeClaims
from proxy_attestation.formats.snp_report import Product, decode_snp_report
from proxy_attestation.formats.tee import Tee
from proxy_attestation.formats.tpm_evidence import decode_tpm
from proxy_attestation.policy.decide import decide
from proxy_attestation.policy.load import PolicyFileError, parse_policy
from proxy_attestation.policy.model import Policy
from proxy_attestation_simulator.amd import AmdVendor
from proxy_attestation_simulator.tpm import BOOT, TpmRecipe, TpmVendor, make
from proxy_attestation_simulator.tpm_structures import LogEvent

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
VENDOR = TpmVendor.create(NOW)
VALUES = BOOT.registers()
GOOD: dict[str, str | None] = {
    "name": '"app"',
    "tee": '"tpm"',
    "ek_root": f'["{VENDOR.pin.hex()}"]',
    **{f"pcr{index}": f'["{VALUES[index].hex()}"]' for index in (0, 4, 7)},
    "owner": "{ shared = true }",
}
SEPARATOR = 'register = "pcr0"\ntype = "EV_SEPARATOR"\ndata = ["00000000"]'
VERSION = 'register = "pcr0"\ntype = "EV_S_CRTM_VERSION"\nany = true'


def text(*rules: str, danger: str = "", **changes: str | None) -> str:
    """A policy whose entry accepts the simulator's machine; None takes a key out."""
    lines = [f"{key} = {value}" for key, value in (GOOD | changes).items() if value is not None]
    head = ["version = 1", 'trust_domain = "example.org"', danger, "[[workload]]", *lines]
    return "\n".join([*head, *(f"[[workload.event]]\n{rule}" for rule in rules), ""])


def policy(*rules: str, danger: str = "", **changes: str | None) -> Policy:
    return parse_policy(text(*rules, danger=danger, **changes), Path("/nonexistent"))


def claims_of(recipe: TpmRecipe | None = None, *, log: bool = True) -> Claims:
    made = make(VENDOR, recipe)
    activation = Activation(made.activated_name, made.activated_ek)
    given = TpmEndorsements(made.certificates, activation, event_log=made.event_log if log else None)
    roots = TpmRoots(frozenset({VENDOR.pin}))
    return tpm_result_claims(appraise_tpm(decode_tpm(made.evidence), given, roots, NOW))


def codes(claims: Claims, by: Policy, origin: KeyOrigin = KeyOrigin.TPM) -> list[Code]:
    runtime = RuntimeClaims(ApplicationKind.NONE, None, origin)
    request = Request("app", Tee.TPM, Names(), 3600, runtime)
    return [mismatch.code for mismatch in decide(claims, request, by).mismatches]


def with_body(claims: Claims, **changes: Any) -> Claims:
    assert isinstance(claims.body, TpmBody)
    return replace(claims, body=replace(claims.body, **changes))


def problems(source: str) -> int:
    with pytest.raises(PolicyFileError) as caught:
        parse_policy(source, Path("/nonexistent"))
    assert caught.value.code is Code.POLICY_MALFORMED
    return len(caught.value.problems)


@pytest.mark.parametrize("log", [True, False])
def test_the_machine_that_the_entry_means(log: bool) -> None:
    assert codes(claims_of(log=log), policy()) == []
    assert policy().tpm_roots == {VENDOR.pin}


@pytest.mark.parametrize(
    "missing",
    [("ek_root",), ("pcr0",), ("pcr4", "pcr7")],
)
def test_below_the_minimum(missing: tuple[str, ...]) -> None:
    without: dict[str, Any] = dict.fromkeys(missing, None)
    assert problems(text(**without)) == 1


@pytest.mark.parametrize("kept", ["pcr4", "pcr7", "pcr11"])
def test_one_of_three_registers_says_what_was_started(kept: str) -> None:
    entry: dict[str, Any] = dict.fromkeys(("pcr4", "pcr7"), None) | {kept: f'["{"11" * 32}"]'}
    assert policy(**entry).workloads["app"].pins.keys() == {"ek_root", "pcr0", kept}


@pytest.mark.parametrize(
    "changes",
    [
        {"pcr16": f'["{"11" * 32}"]'},
        {"pcr23": f'["{"11" * 32}"]'},
        {"pcr24": f'["{"11" * 32}"]'},
        {"pcr0": f'["{"00" * 32}"]'},
        {"pcr0": f'["{"11" * 20}"]'},
        {"pcr0": f'["{"11" * 33}"]'},
        {"pcr0": "[]"},
        {"ek_root": f'["{"00" * 32}"]'},
        {"ek_root": f'["{"11" * 48}"]'},
        {"mr_td": f'["{"11" * 48}"]'},
        {"tcb": '["UpToDate"]'},
        {"key_origins": '["tee"]'},
        {f"pcr{index}": f'["{"11" * 64}"]' for index in range(13)},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_what_no_entry_of_a_tpm_says(changes: dict[str, str]) -> None:
    assert problems(text(**changes)) == 1


def test_longer_registers_are_those_of_other_banks() -> None:
    recipe = TpmRecipe(banks=(("sha256", tuple(range(8))), ("sha384", tuple(range(8)))))
    claims = claims_of(replace(recipe, log=replace(BOOT, algorithms=("sha256", "sha384"))))
    strong = {f"pcr{index}": f'["{BOOT.registers("sha384")[index].hex()}"]' for index in (0, 4, 7)}
    assert codes(claims, policy(**strong)) == []
    # The strongest bank that was quoted counts.
    assert codes(claims, policy()) == [Code.POLICY_MEASUREMENT] * 3


@pytest.mark.parametrize(
    ("key", "code"),
    [
        ("ek_root", Code.POLICY_SIGNER),
        ("pcr0", Code.POLICY_MEASUREMENT),
        ("pcr4", Code.POLICY_MEASUREMENT),
        ("pcr7", Code.POLICY_MEASUREMENT),
        ("pcr1", Code.POLICY_CONFIG),
        ("pcr22", Code.POLICY_MEASUREMENT),
    ],
)
def test_one_pin_that_does_not_match(key: str, code: Code) -> None:
    assert codes(claims_of(), policy(**{key: f'["{"11" * 32}"]'})) == [code]


def test_a_register_that_was_not_quoted() -> None:
    claims = claims_of(TpmRecipe(banks=(("sha256", (0, 4)),)))
    assert codes(claims, policy()) == [Code.POLICY_MEASUREMENT]


def test_an_ak_that_nobody_vouches_for() -> None:
    assert codes(with_body(claims_of(), ek_root=None), policy()) == [Code.POLICY_SIGNER]


def test_a_key_outside_the_tpm() -> None:
    software = claims_of(TpmRecipe(with_key=False))
    assert codes(software, policy()) == [Code.TPM_SOFTWARE_KEY]
    assert codes(software, policy(), KeyOrigin.SOFTWARE) == [Code.POLICY_KEY_ORIGIN]
    danger = '[danger]\nsoftware_keys = ["app"]'
    assert codes(software, policy(danger=danger), KeyOrigin.SOFTWARE) == []
    assert codes(software, policy(danger=danger)) == [Code.TPM_SOFTWARE_KEY]
    assert codes(software, policy(danger=danger), KeyOrigin.TEE) == [Code.POLICY_KEY_ORIGIN]


UNKNOWN = replace(BOOT, events=(*BOOT.events, LogEvent(4, 0x7777, b"surprise")))


def test_an_event_of_unknown_type_in_a_pinned_register() -> None:
    claims = claims_of(TpmRecipe(log=UNKNOWN))
    values = {"pcr4": f'["{UNKNOWN.registers()[4].hex()}"]'}
    assert codes(claims, policy(**values)) == [Code.TPM_EVENT_UNKNOWN]
    assert codes(claims, policy(pcr4=None)) == []


def test_event_rules_in_place_of_a_value() -> None:
    by = policy(SEPARATOR, VERSION, pcr0=None)
    assert codes(claims_of(), by) == []
    assert codes(claims_of(log=False), by) == [Code.POLICY_EVENT]
    assert codes(claims_of(), policy(SEPARATOR, pcr0=None)) == [Code.POLICY_EVENT]
    assert codes(claims_of(), policy(SEPARATOR, VERSION)) == []


@pytest.mark.parametrize(
    ("rule", "accepted"),
    [
        ('type = "EV_SEPARATOR"\nany = true', True),
        ('type = "00000004"\nany = true', True),
        ('type = "00000005"\nany = true', False),
        ('type = "EV_SEPARATOR"\ntext = ["\\u0000\\u0000\\u0000\\u0000"]', True),
        ('type = "EV_SEPARATOR"\ndata = ["00000001"]', False),
        ('type = "EV_SEPARATOR"\ndata = ["00000001", "00000000"]', True),
        ('type = "EV_SEPARATOR"\ndigest = ["df3f619804a92fdb4057192dc43dd748ea778adc52bc498ce80524c014b81119"]', True),
        (f'type = "EV_SEPARATOR"\ndigest = ["{"11" * 32}"]', False),
    ],
)
def test_what_a_rule_accepts(rule: str, accepted: bool) -> None:
    by = policy(VERSION, f'register = "pcr0"\n{rule}', pcr0=None)
    # What it does not accept it does not find either.
    assert codes(claims_of(), by) == ([] if accepted else [Code.POLICY_EVENT] * 2)
    by = policy(VERSION, f'register = "pcr0"\n{rule}\noptional = true', pcr0=None)
    assert codes(claims_of(), by) == ([] if accepted else [Code.POLICY_EVENT])


def test_data_that_the_digest_does_not_cover_is_nothing() -> None:
    """The boot loader's event describes its path; what was measured is something else."""
    path = 'register = "pcr4"\ntype = "EV_EFI_BOOT_SERVICES_APPLICATION"\ntext = ["the path of the boot loader"]'
    assert codes(claims_of(), policy(path, pcr4=None)) == [Code.POLICY_EVENT] * 2


def test_a_log_of_a_sha1_bank_leads_nowhere() -> None:
    """Two logs can lead to one value of such a register."""
    old = replace(BOOT, algorithms=("sha1",))
    both = TpmRecipe(banks=(("sha1", tuple(range(8))), ("sha256", tuple(range(8)))), log=old)
    claims = claims_of(both)
    assert claims.layers == ()
    anything = 'register = "pcr0"\ntype = "EV_SEPARATOR"\nany = true'
    assert codes(claims, policy(anything, VERSION, pcr0=None)) == [Code.POLICY_EVENT]
    assert codes(claims, policy()) == []


def test_an_optional_event_may_be_absent() -> None:
    more = 'register = "pcr0"\ntype = "EV_ACTION"\nany = true'
    assert codes(claims_of(), policy(SEPARATOR, VERSION, more, pcr0=None)) == [Code.POLICY_EVENT]
    assert codes(claims_of(), policy(SEPARATOR, VERSION, f"{more}\noptional = true", pcr0=None)) == []


@pytest.mark.parametrize(
    "rule",
    [
        SEPARATOR.replace("pcr0", "pcr16"),
        SEPARATOR.replace("pcr0", "rtmr0"),
        SEPARATOR.replace("EV_SEPARATOR", "EV_NO_ACTION"),
        SEPARATOR.replace("EV_SEPARATOR", "00000003"),
        SEPARATOR.replace("EV_SEPARATOR", "separator"),
        SEPARATOR.replace('data = ["00000000"]', ""),
        SEPARATOR.replace('data = ["00000000"]', "any = false"),
        SEPARATOR.replace('["00000000"]', "[]"),
        SEPARATOR.replace("00000000", ""),
        SEPARATOR.replace("00000000", "0"),
        SEPARATOR.replace("00000000", "00" * 1025),
        f"{SEPARATOR}\nany = true",
        f'{SEPARATOR}\nsurprise = "x"',
        SEPARATOR.partition("\n")[2],
        SEPARATOR.replace("data", "digest"),
    ],
)
def test_a_rule_with_one_thing_wrong(rule: str) -> None:
    assert problems(text(rule)) >= 1


def test_too_many_rules() -> None:
    assert problems(text(*[SEPARATOR] * 257)) == 1
    assert len(policy(*[SEPARATOR] * 256).workloads["app"].events) == 256


@pytest.mark.parametrize("kind", ["sgx"])
def test_no_rules_where_no_log_leads_anywhere(kind: str, render: Callable[..., str]) -> None:
    assert problems(render(kind, more=f"[[workload.event]]\n{SEPARATOR}")) == 1


def test_rules_for_a_td(render: Callable[..., str]) -> None:
    rule = '[[workload.event]]\nregister = "rtmr0"\ntype = "EV_SEPARATOR"\nany = true'
    parsed = parse_policy(render("tdx", {"rtmr0": None}, more=rule), Path("/nonexistent"))
    assert [one.register for one in parsed.workloads["vm"].events] == ["rtmr0"]
    assert problems(render("tdx", {"rtmr0": None, "rtmr1": None}, more=rule)) == 1


# The hardware below a vTPM.

MEASUREMENT = b"\x6b" * 48
BELOW = f"""
[workload.hardware]
tee = "snp"
measurement = ["{MEASUREMENT.hex()}"]
vmpl = 0
policy = "0000030000000000"
policy_mask = "ffffffffffffffff"
product = ["Milan"]
min_tcb_bootloader = 4
min_tcb_tee = 0
min_tcb_snp = 24
min_tcb_microcode = 219
"""


def on_azure(below: str = BELOW, danger: str = "", **changes: str | None) -> str:
    without: dict[str, Any] = {"ek_root": None} | changes
    return text(danger=danger, **without) + below


def vtpm(fault: str = "", **changes: Any) -> Claims:
    platform = AmdVendor.fixed(NOW).platform("Milan")
    report = decode_snp_report(platform.evidence(bytes(64), measurement=MEASUREMENT, fault=fault).report)
    body = replace(snp_claims(report), product=Product.MILAN)
    fields: dict[str, Any] = {"tee": Tee.SNP, "body": body, "debug": body.debug, "tcb": None} | changes
    below = HardwareClaims(**fields)
    return replace(with_body(claims_of(), ek_root=None), hardware=below)


def judged(claims: Claims, source: str) -> list[Code]:
    return codes(claims, parse_policy(source, Path("/nonexistent")))


def test_both_layers_are_judged() -> None:
    assert judged(vtpm(), on_azure()) == []
    assert judged(vtpm(), on_azure(pcr4=f'["{"11" * 32}"]')) == [Code.POLICY_MEASUREMENT]
    other = BELOW.replace(MEASUREMENT.hex(), "11" * 48)
    assert judged(vtpm(), on_azure(other)) == [Code.POLICY_MEASUREMENT]
    assert judged(vtpm(), on_azure(BELOW.replace("= 219", "= 220"))) == [Code.SNP_TCB_STATUS]


def test_hardware_in_debug_mode() -> None:
    assert judged(vtpm("debug"), on_azure())[0] is Code.SNP_DEBUG
    danger = '[danger]\nallow_debug = ["app"]'
    assert Code.SNP_DEBUG not in judged(vtpm("debug"), on_azure(danger=danger))


def test_who_vouches_is_who_the_entry_names() -> None:
    assert judged(claims_of(), on_azure()) == [Code.POLICY_SIGNER]
    assert judged(vtpm(), text()) == [Code.POLICY_SIGNER]


@pytest.mark.parametrize("tee", [Tee.TDX, Tee.SGX])
def test_hardware_of_another_kind(tee: Tee) -> None:
    assert judged(vtpm(tee=tee), on_azure()) == [Code.POLICY_TEE]


TD = f"""
[workload.hardware]
tee = "tdx"
mr_td = ["{"31" * 48}"]
rtmr0 = ["{"40" * 48}"]
rtmr1 = ["{"41" * 48}"]
rtmr2 = ["{"42" * 48}"]
mr_config_id = ["{"00" * 48}"]
td_attributes = "0000001000000000"
td_attributes_mask = "ffffffffffffffff"
xfam = "e702060000000000"
xfam_mask = "ffffffffffffffff"
advisories = ["INTEL-SA-1"]
"""


@pytest.mark.parametrize(
    ("status", "advisories", "wanted"),
    [
        ("UpToDate", ("INTEL-SA-1",), []),
        ("OutOfDate", (), [Code.TDX_TCB_STATUS]),
        ("UpToDate", ("INTEL-SA-2",), [Code.POLICY_ADVISORY]),
    ],
)
def test_the_td_below(status: str, advisories: tuple[str, ...], wanted: list[Code], claims_of: Any) -> None:
    td: Claims = claims_of("tdx")
    assert td.tcb is not None
    tcb = replace(td.tcb, status=status, advisories=advisories)
    assert judged(vtpm(tee=Tee.TDX, body=td.body, tcb=tcb), on_azure(TD)) == wanted
    assert judged(vtpm(tee=Tee.TDX, body=td.body, tcb=None), on_azure(TD)) == [Code.TDX_TCB_STATUS]


@pytest.mark.parametrize(
    "source",
    [
        on_azure(""),
        on_azure(BELOW.replace('"snp"', '"sgx"')),
        on_azure(BELOW.replace('tee = "snp"', "")),
        on_azure(BELOW.replace("vmpl = 0", "")),
        on_azure(f'{BELOW}surprise = "x"'),
        on_azure(f'{BELOW}tcb = ["UpToDate"]'),
        on_azure(f'{BELOW}dns = ["app.example.org"]'),
        on_azure().replace('tee = "tpm"', f'tee = "tpm"\nek_root = ["{"11" * 32}"]'),
        on_azure(pcr0=None),
    ],
)
def test_an_entry_with_hardware_that_is_not_right(source: str) -> None:
    assert problems(source) >= 1


def test_only_a_tpm_has_hardware_below(render: Callable[..., str]) -> None:
    assert problems(render("sgx", more=BELOW)) == 1
