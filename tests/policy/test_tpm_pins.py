"""Pins of TPMs: what is below the minimum, what pins nothing, and every way of not matching."""

import tomllib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from proxy_attestation.appraisal.tpm import Activation, TpmEndorsements, TpmResult, appraise_tpm
from proxy_attestation.appraisal.tpm_chain import TpmRoots
from proxy_attestation.codes import Code
from proxy_attestation.formats.tpm_evidence import decode_tpm
from proxy_attestation.policy.reader import Issue, TableReader
from proxy_attestation.policy.tpm_pins import (
    TPM_PIN_KEYS,
    TpmPins,
    match_key,
    match_tpm,
    parse_tpm_pins,
    tpm_pins_readable,
)
from proxy_attestation_simulator.tpm import BOOT, TpmRecipe, TpmVendor, make
from proxy_attestation_simulator.tpm_structures import LogEvent

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)
VENDOR = TpmVendor.create(NOW)
EXAMPLE = Path(__file__).resolve().parents[2] / "examples" / "policies" / "drafts" / "tpm.toml"


def appraise(recipe: TpmRecipe | None = None, **more: Any) -> TpmResult:
    made = make(VENDOR, recipe)
    activation = Activation(made.activated_name, made.activated_ek)
    fields: dict[str, Any] = {
        "certificates": made.certificates,
        "activation": activation,
        "event_log": made.event_log,
    } | more
    return appraise_tpm(decode_tpm(made.evidence), TpmEndorsements(**fields), TpmRoots(frozenset({VENDOR.pin})), NOW)


def table(**changes: Any) -> dict[str, Any]:
    """An entry that accepts the simulator's machine; None takes a key out."""
    values = BOOT.registers()
    good = {"ek_roots": [VENDOR.pin.hex()], **{f"pcr{index}": [values[index].hex()] for index in (0, 4, 7)}}
    return {key: value for key, value in (good | changes).items() if value is not None}


def parsed(entry: dict[str, Any]) -> tuple[TpmPins | None, list[Issue]]:
    issues: list[Issue] = []
    return parse_tpm_pins(TableReader(entry, (), "entry", issues)), issues


def good_pins() -> TpmPins:
    pins, issues = parsed(table())
    assert pins is not None, issues
    return pins


def codes(pins: TpmPins, result: TpmResult) -> list[tuple[Code, str]]:
    return [(mismatch.code, mismatch.field) for mismatch in match_tpm(pins, result.body, result.anchor)]


def test_the_simulators_machine_matches() -> None:
    pins = good_pins()
    assert codes(pins, appraise()) == []
    assert tpm_pins_readable(pins)["pcr_bank"] == ("sha256",)
    assert set(tpm_pins_readable(pins)) == {"ek_roots", "pcr_bank", "pcr0", "pcr4", "pcr7"}


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("nobody vouches", {"ek_roots": None}),
        ("no firmware", {"pcr0": None}),
        ("nothing that was started", {"pcr4": None, "pcr7": None}),
        ("an empty list", {"pcr4": []}),
        ("a register that is not measured", {"pcr4": ["00" * 32]}),
        ("a value of another bank", {"pcr_bank": "sha384"}),
        ("a bank that pins nothing", {"pcr_bank": "sha1"}),
        ("a register that anybody resets", {"pcr16": ["11" * 32]}),
        ("the other register that anybody resets", {"pcr23": ["11" * 32]}),
        ("a root that is none", {"ek_roots": ["00" * 32]}),
        ("a value twice", {"pcr4": ["11" * 32] * 2}),
        ("hardware that is none", {"hardware": ["sgx"]}),
        ("upper case", {"pcr4": ["AB" * 32]}),
    ],
)
def test_an_entry_that_is_wrong_is_refused(name: str, changes: dict[str, Any]) -> None:
    pins, issues = parsed(table(**changes))
    assert pins is None, name
    assert issues


def test_other_forms_reach_the_minimum() -> None:
    for changes in ({"pcr4": None}, {"pcr7": None}, {"pcr4": None, "pcr7": None, "pcr11": ["11" * 32]}):
        assert parsed(table(**changes))[0] is not None
    assert parsed(table(ek_roots=None, hardware=["tdx", "snp"]))[0] is not None
    assert {*table()} <= TPM_PIN_KEYS


@pytest.mark.parametrize("index", [0, 4, 7])
def test_another_value_of_a_pinned_register(index: int) -> None:
    pins = good_pins()
    changed = replace(pins, pcrs={**pins.pcrs, index: (b"\x11" * 32,)})
    assert codes(changed, appraise()) == [(Code.POLICY_MEASUREMENT, f"pcr{index}")]


def test_a_register_that_was_not_quoted_matches_nothing() -> None:
    pins = good_pins()
    more = replace(pins, pcrs={**pins.pcrs, 11: (b"\x11" * 32,)})
    assert codes(more, appraise()) == [(Code.POLICY_MEASUREMENT, "pcr11")]
    assert codes(replace(pins, pcr_bank="sha384"), appraise()) == [
        (Code.POLICY_MEASUREMENT, f"pcr{index}") for index in (0, 4, 7)
    ]


def test_another_root() -> None:
    assert codes(replace(good_pins(), ek_roots=(b"\x11" * 32,)), appraise()) == [(Code.POLICY_SIGNER, "ek_roots")]


def test_pins_that_pin_no_register_match_nothing() -> None:
    assert codes(replace(good_pins(), pcrs={}), appraise()) == [(Code.POLICY_MEASUREMENT, "pcr0")]


def test_no_policy_speaks_for_an_ak_that_was_named_for_one_run() -> None:
    result = appraise(ak_anchors=(make(VENDOR).ak_spki,))
    assert codes(good_pins(), result) == [(Code.POLICY_SIGNER, "ek_roots")]
    body = replace(result.body, ak_trust="hardware")
    assert [mismatch.field for mismatch in match_tpm(good_pins(), body, result.anchor)] == ["hardware"]


def test_an_unknown_event_in_a_pinned_register_is_refused() -> None:
    log = replace(BOOT, events=(*BOOT.events, LogEvent(4, 0x7777, b"?"), LogEvent(5, 0x7777, b"?")))
    pins = good_pins()
    pins = replace(pins, pcrs={**pins.pcrs, 4: (log.registers()[4],)})
    assert codes(pins, appraise(TpmRecipe(log=log))) == [(Code.TPM_EVENT_UNKNOWN, "pcr4")]


def test_a_software_key_takes_the_switch() -> None:
    body = appraise(TpmRecipe(with_key=False)).body
    mismatch = match_key(body, software_keys=False)
    assert mismatch is not None
    assert mismatch.code is Code.TPM_SOFTWARE_KEY
    assert match_key(body, software_keys=True) is None
    assert match_key(appraise().body, software_keys=False) is None


def test_the_example_is_good() -> None:
    (entry,) = tomllib.loads(EXAMPLE.read_text())["workload"]
    pins, issues = parsed({key: value for key, value in entry.items() if key in TPM_PIN_KEYS})
    assert issues == []
    assert pins is not None
    assert sorted(pins.pcrs) == [0, 4, 7, 11]
