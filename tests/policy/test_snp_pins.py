"""Pins of SEV-SNP guests: what a file must say, and what each difference between a report and its pins gets."""

import tomllib
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from proxy_attestation.appraisal.snp_claims import SnpClaims, snp_claims
from proxy_attestation.codes import Code
from proxy_attestation.errors import Mismatch
from proxy_attestation.formats.snp_report import Product, decode_snp_report
from proxy_attestation.policy.reader import Issue, TableReader
from proxy_attestation.policy.snp_pins import (
    SNP_KEYS,
    SNP_MINIMUM,
    SNP_PINS,
    SnpPins,
    components_of,
    match_snp_pins,
    parse_snp_pins,
    production_mismatches,
    snp_pins_readable,
)
from proxy_attestation.policy.vocabulary import PinKind
from proxy_attestation_simulator.amd import AmdVendor
from proxy_attestation_simulator.amd_faults import SNP_FAULTS

EXAMPLE = Path(__file__).parents[2] / "examples" / "policies" / "snp.toml"
LEVELS = {
    Product.MILAN: {"bootloader": 4, "tee": 0, "snp": 24, "microcode": 219},
    Product.GENOA: {"bootloader": 10, "tee": 0, "snp": 25, "microcode": 84},
    Product.TURIN: {"fmc": 1, "bootloader": 2, "tee": 1, "snp": 4, "microcode": 77},
}


@pytest.fixture(scope="module")
def amd() -> AmdVendor:
    return AmdVendor.fixed(datetime(2026, 11, 24, 12, tzinfo=UTC))


def _body(amd: AmdVendor, line: Product = Product.MILAN, kind: str = "VCEK", fault: str = "") -> SnpClaims:
    """Return what a report says; the certificate's part is put in, as appraisal does."""
    report = amd.platform(line, kind).evidence(bytes(64), fault=fault).report
    return replace(snp_claims(decode_snp_report(report)), csp_id="CN=simulated.example" if kind == "VLEK" else None)


def _table(body: SnpClaims, **changes: Any) -> dict[str, Any]:
    assert body.product is not None
    table: dict[str, Any] = {
        "measurement": [body.measurement.hex()],
        "vmpl": 0,
        "policy": "0000030000000000",
        "policy_mask": "ffffffffffffffff",
        "product": str(body.product),
        "min_tcb": dict(LEVELS[body.product]),
        **changes,
    }
    return {key: value for key, value in table.items() if value is not None}


def _read(table: dict[str, Any]) -> tuple[SnpPins | None, list[Issue]]:
    issues: list[Issue] = []
    return parse_snp_pins(TableReader(table, ("workload", 0), "workload", issues)), issues


def _pins(table: dict[str, Any]) -> SnpPins:
    pins, issues = _read(table)
    assert not issues
    assert pins is not None
    return pins


def _found(mismatches: tuple[Mismatch, ...]) -> list[tuple[Code, str]]:
    return [(mismatch.code, mismatch.field) for mismatch in mismatches]


@pytest.mark.parametrize("line", list(Product))
def test_a_good_guest_matches(line: Product, amd: AmdVendor) -> None:
    body = _body(amd, line)
    assert match_snp_pins(_pins(_table(body)), body) == ()
    assert components_of(line) == tuple(LEVELS[line])


def test_every_fault_that_a_policy_judges_has_its_code(amd: AmdVendor) -> None:
    good = _body(amd)
    pins = _pins(_table(good, host_data=["00" * 32]))
    judged = [
        fault for fault in SNP_FAULTS.values() if fault.code.startswith(("policy.", "debug", "migration", "tcb_status"))
    ]
    assert len(judged) == 8
    for fault in judged:
        body = _body(amd, fault=fault.name)
        codes = [m.code for m in (*production_mismatches(body, allow_debug=False), *match_snp_pins(pins, body))]
        assert str(codes[0]) in fault.codes()
        # Debug and a migration agent are bits of the guest policy too.
        others = {Code.POLICY_ATTRIBUTES, codes[0]} if fault.name in ("debug", "migration-agent") else {codes[0]}
        assert set(codes) == others


@pytest.mark.parametrize("name", [key.name for key in SNP_PINS])
def test_each_pin_decides(name: str, amd: AmdVendor) -> None:
    body = _body(amd)
    key = next(key for key in SNP_PINS if key.name == name)
    value = getattr(body, key.claim)
    other = {"vmpl": 1, "min_guest_svn": 2, "policy": "0000020000000000", "platform_info": "2400000000000000"}
    vectors = ("launch_mit_vector", "current_mit_vector")
    other |= dict.fromkeys(vectors, "0300000000000000")
    wanted = other.get(name, ["11" * key.size])
    changes = {name: wanted} | ({key.mask: "ff" * key.size} if key.kind is PinKind.MASKED else {})
    assert _found(match_snp_pins(_pins(_table(body, **changes)), body)) == [(key.code, name)]
    if isinstance(value, bytes) and (any(value) or key.zero):
        good = value.hex() if isinstance(wanted, str) else [value.hex(), "22" * key.size]
        assert match_snp_pins(_pins(_table(body, **{**changes, name: good})), body) == ()


@pytest.mark.parametrize("tcb", ["reported_tcb", "committed_tcb", "launch_tcb"])
@pytest.mark.parametrize(
    ("line", "name", "byte"),
    [
        *((Product.MILAN, name, byte) for name, byte in (("bootloader", 0), ("snp", 6), ("microcode", 7))),
        *((Product.TURIN, name, byte) for name, byte in (
            ("fmc", 0), ("bootloader", 1), ("tee", 2), ("snp", 3), ("microcode", 7))),
    ],
)  # fmt: skip
def test_each_component_of_each_tcb_decides(line: Product, name: str, byte: int, tcb: str, amd: AmdVendor) -> None:
    body = _body(amd, line)
    pins = _pins(_table(body))
    found = bytearray(getattr(body, tcb))
    found[byte] -= 1
    # One component lower, all others far higher: components are compared one by one.
    lower = bytes(value if at == byte or value == 0 else 255 for at, value in enumerate(found))
    changes: dict[str, Any] = {tcb: lower}
    older = replace(body, **changes)
    assert _found(match_snp_pins(pins, older)) == [(Code.SNP_TCB_STATUS, f"min_tcb.{name}")]


def test_the_current_tcb_is_no_minimum(amd: AmdVendor) -> None:
    body = replace(_body(amd), current_tcb=bytes(8))
    assert match_snp_pins(_pins(_table(body)), body) == ()


def test_a_report_without_mitigation_vectors_has_none_that_are_pinned(amd: AmdVendor) -> None:
    older = replace(_body(amd), launch_mit_vector=None)
    pins = _pins(_table(older, launch_mit_vector="0000000000000000", launch_mit_vector_mask="0100000000000000"))
    assert _found(match_snp_pins(pins, older)) == [(Code.POLICY_ATTRIBUTES, "launch_mit_vector")]


def test_a_minimum_is_for_one_line(amd: AmdVendor) -> None:
    genoa, milan = _body(amd, Product.GENOA), _body(amd, Product.MILAN)
    pins = _pins(_table(genoa))
    assert _found(match_snp_pins(pins, replace(milan, measurement=genoa.measurement))) == [
        (Code.POLICY_PRODUCT, "product")
    ]


def test_a_vlek_needs_its_cloud(amd: AmdVendor) -> None:
    vcek, vlek = _body(amd), _body(amd, kind="VLEK")
    without, with_it = _pins(_table(vcek)), _pins(_table(vcek, csp_id=["CN=simulated.example"]))
    elsewhere = _pins(_table(vcek, csp_id=["CN=elsewhere.example"]))
    assert match_snp_pins(without, vcek) == match_snp_pins(with_it, vlek) == ()
    for pins, body in ((without, vlek), (with_it, vcek), (elsewhere, vlek)):
        assert _found(match_snp_pins(pins, body)) == [(Code.POLICY_SIGNER, "csp_id")]


def test_a_migration_agent_must_be_pinned(amd: AmdVendor) -> None:
    body = _body(amd, fault="migration-agent")
    # The mask leaves the bit out: nobody decided on it.
    loose = _pins(_table(body, policy="0000030000000000", policy_mask="0000030000000000"))
    assert _found(match_snp_pins(loose, body)) == [(Code.SNP_MIGRATION_AGENT, "policy")]
    assert match_snp_pins(_pins(_table(body, policy="0000070000000000")), body) == ()


def test_production_guests(amd: AmdVendor) -> None:
    good, debug, agent = _body(amd), _body(amd, fault="debug"), _body(amd, fault="migration-agent")
    assert production_mismatches(good, allow_debug=False) == production_mismatches(debug, allow_debug=True) == ()
    assert _found(production_mismatches(debug, allow_debug=False)) == [(Code.SNP_DEBUG, "debug")]
    assert _found(production_mismatches(agent, allow_debug=True)) == [(Code.SNP_MIGRATION_AGENT, "policy")]


@pytest.mark.parametrize("key", SNP_MINIMUM)
def test_an_entry_below_the_minimum_is_none(key: str, amd: AmdVendor) -> None:
    masks = {"policy_mask": None} if key == "policy" else {}
    pins, issues = _read(_table(_body(amd), **{key: None}, **masks))
    assert pins is None
    assert any(key in issue.message for issue in issues)


@pytest.mark.parametrize(
    "changes",
    [
        {"vmpl": 4},
        {"vmpl": -1},
        {"measurement": []},
        {"measurement": ["00" * 48]},
        {"measurement": ["11" * 47]},
        {"policy_mask": None},
        {"policy_mask": "00" * 8},
        {"policy": "0x30000"},
        {"product": "Venice"},
        {"product": "milan"},
        {"csp_id": []},
        {"csp_id": ["x" * 129]},
        {"csp_id": ["a\nb"]},
        {"min_tcb": "latest"},
        {"min_tcb": {}},
        {"min_tcb": {"bootloader": 4, "tee": 0, "snp": 24}},
        {"min_tcb": {"bootloader": 4, "tee": 0, "snp": 24, "microcode": 256}},
        {"min_tcb": {"bootloader": 4, "tee": 0, "snp": 24, "microcode": True}},
        {"min_tcb": {"fmc": 1, "bootloader": 4, "tee": 0, "snp": 24, "microcode": 219}},
        {"id_key_digest": ["00" * 48]},
        {"min_guest_svn": 2**32},
    ],
)
def test_what_is_wrong_with_an_entry_is_noted(changes: dict[str, Any], amd: AmdVendor) -> None:
    pins, issues = _read(_table(_body(amd), **changes))
    assert pins is None
    assert issues
    assert all(issue.fix for issue in issues)


def test_pins_made_in_another_way_match_nothing_where_they_lack_something(amd: AmdVendor) -> None:
    body = _body(amd)
    found = _found(match_snp_pins(SnpPins({}, Product.MILAN, {}, ()), body))
    assert {field for _, field in found} >= {"measurement", "vmpl", "policy", "min_tcb.snp"}


def test_readable(amd: AmdVendor) -> None:
    shown = snp_pins_readable(_pins(_table(_body(amd), csp_id=["CN=x"], host_data=["11" * 32])))
    assert shown["host_data"] == ("11" * 32,)
    assert shown["product"] == ("Milan",)
    assert shown["csp_id"] == ("CN=x",)
    assert shown["min_tcb"][-1] == "microcode at least 219"
    assert "csp_id" not in snp_pins_readable(_pins(_table(_body(amd))))


def test_the_example_is_good() -> None:
    keys = {key.name for key in SNP_PINS} | {key.mask for key in SNP_PINS} | {*SNP_KEYS}
    others = {"name", "tee", "dns", "owner"}
    workloads = tomllib.loads(EXAMPLE.read_text())["workload"]
    assert len(workloads) == 2
    for workload in workloads:
        assert workload.keys() <= keys | others
        _pins({key: value for key, value in workload.items() if key in keys})
