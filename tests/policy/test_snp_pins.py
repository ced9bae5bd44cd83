"""Pins of SEV-SNP guests: what a file must say, and what each difference between a report and its pins gets."""

from dataclasses import replace
from typing import Any

import pytest

from proxy_attestation.appraisal.snp_claims import SnpClaims, snp_claims
from proxy_attestation.codes import Code
from proxy_attestation.errors import Mismatch
from proxy_attestation.formats.pins import MINIMUM, PINS, PinKind, Pins
from proxy_attestation.formats.snp_report import Product, decode_snp_report
from proxy_attestation.formats.tee import Tee
from proxy_attestation.policy.pins import match_pins, parse_pins, pins_readable
from proxy_attestation.policy.reader import Issue, TableReader
from proxy_attestation_simulator.amd import AmdVendor
from proxy_attestation_simulator.amd_faults import SNP_FAULTS

SNP = PINS[Tee.SNP]
LEVELS = {
    Product.MILAN: {"bootloader": 4, "tee": 0, "snp": 24, "microcode": 219},
    Product.GENOA: {"bootloader": 10, "tee": 0, "snp": 25, "microcode": 84},
    Product.TURIN: {"fmc": 1, "bootloader": 2, "tee": 1, "snp": 4, "microcode": 77},
}


@pytest.fixture(scope="module")
def amd() -> AmdVendor:
    from datetime import UTC, datetime  # noqa: PLC0415 - nothing else here knows a time

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
        "product": [str(body.product)],
        **{f"min_tcb_{name}": level for name, level in LEVELS[body.product].items()},
        **changes,
    }
    return {key: value for key, value in table.items() if value is not None}


def _read(table: dict[str, Any]) -> tuple[Pins | None, list[Issue]]:
    issues: list[Issue] = []
    return parse_pins(Tee.SNP, TableReader(table, ("workload", 0), "workload", issues)), issues


def _pins(table: dict[str, Any]) -> Pins:
    pins, issues = _read(table)
    assert not issues
    assert pins is not None
    return pins


def _match(pins: Pins, body: SnpClaims) -> list[Mismatch]:
    return list(match_pins(Tee.SNP, pins, body))


def _found(mismatches: list[Mismatch]) -> list[tuple[Code, str]]:
    return [(mismatch.code, mismatch.field) for mismatch in mismatches]


@pytest.mark.parametrize("line", list(Product))
def test_a_good_guest_matches(line: Product, amd: AmdVendor) -> None:
    body = _body(amd, line)
    assert _match(_pins(_table(body)), body) == []


def test_every_fault_that_a_policy_judges_has_its_code(amd: AmdVendor) -> None:
    good = _body(amd)
    pins = _pins(_table(good, host_data=["00" * 32]))
    judged = [
        fault for fault in SNP_FAULTS.values() if fault.code.startswith(("policy.", "debug", "migration", "tcb_status"))
    ]
    assert len(judged) == 8
    for fault in judged:
        body = _body(amd, fault=fault.name)
        codes = [Code.SNP_DEBUG] if body.debug else []
        codes += [m.code for m in _match(pins, body)]
        codes.sort(key=lambda code: code is Code.POLICY_ATTRIBUTES)
        assert str(codes[0]) in fault.codes()
        # Debug and a migration agent are bits of the guest policy too.
        others = {Code.POLICY_ATTRIBUTES, codes[0]} if fault.name in ("debug", "migration-agent") else {codes[0]}
        assert set(codes) == others


_LEAST = ("product", "csp_id", "migration_agent", *(name for name in SNP if name.startswith("min_tcb_")))


@pytest.mark.parametrize("name", [name for name in SNP if name not in _LEAST])
def test_each_pin_decides(name: str, amd: AmdVendor) -> None:
    body = _body(amd)
    key = SNP[name]
    value = getattr(body, key.claim)
    other = {"vmpl": 1, "min_guest_svn": 2, "policy": "0000020000000000", "platform_info": "2400000000000000"}
    vectors = ("launch_mit_vector", "current_mit_vector")
    other |= dict.fromkeys(vectors, "0300000000000000")
    wanted = other.get(name, ["11" * key.size])
    changes = {name: wanted} | ({key.mask: "ff" * key.size} if key.kind is PinKind.MASKED else {})
    assert _found(_match(_pins(_table(body, **changes)), body)) == [(key.code, name)]
    if isinstance(value, bytes) and (any(value) or key.zero):
        good = value.hex() if isinstance(wanted, str) else [value.hex(), "22" * key.size]
        assert _match(_pins(_table(body, **{**changes, name: good})), body) == []


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
    assert _found(_match(pins, older)) == [(Code.SNP_TCB_STATUS, f"min_tcb_{name}")]


def test_the_current_tcb_is_no_minimum(amd: AmdVendor) -> None:
    body = replace(_body(amd), current_tcb=bytes(8))
    assert _match(_pins(_table(body)), body) == []


def test_a_report_without_mitigation_vectors_has_none_that_are_pinned(amd: AmdVendor) -> None:
    older = replace(_body(amd), launch_mit_vector=None)
    pins = _pins(_table(older, launch_mit_vector="0000000000000000", launch_mit_vector_mask="0100000000000000"))
    assert _found(_match(pins, older)) == [(Code.POLICY_ATTRIBUTES, "launch_mit_vector")]


def test_a_minimum_is_for_one_line(amd: AmdVendor) -> None:
    genoa, milan = _body(amd, Product.GENOA), _body(amd, Product.MILAN)
    pins = _pins(_table(genoa))
    # Milan's numbers are the higher ones in part: only the line tells that they mean something else.
    found = _found(_match(pins, replace(milan, measurement=genoa.measurement)))
    assert found[0] == (Code.POLICY_PRODUCT, "product")
    assert {code for code, _ in found[1:]} <= {Code.SNP_TCB_STATUS}


def test_a_vlek_needs_its_cloud(amd: AmdVendor) -> None:
    vcek, vlek = _body(amd), _body(amd, kind="VLEK")
    without, with_it = _pins(_table(vcek)), _pins(_table(vcek, csp_id=["CN=simulated.example"]))
    elsewhere = _pins(_table(vcek, csp_id=["CN=elsewhere.example"]))
    assert _match(without, vcek) == _match(with_it, vlek) == []
    for pins, body in ((without, vlek), (with_it, vcek), (elsewhere, vlek)):
        assert _found(_match(pins, body)) == [(Code.POLICY_SIGNER, "csp_id")]


def test_a_migration_agent_must_be_pinned(amd: AmdVendor) -> None:
    body = _body(amd, fault="migration-agent")
    # The mask leaves the bit out: nobody decided on it.
    loose = _table(body, policy="0000030000000000", policy_mask="0000030000000000")
    assert _found(_match(_pins(loose), body)) == [(Code.SNP_MIGRATION_AGENT, "migration_agent")]
    assert _match(_pins({**loose, "migration_agent": 1}), body) == []
    assert _match(_pins(_table(body, policy="0000070000000000", migration_agent=1)), body) == []


def test_a_line_with_an_fmc_needs_its_minimum(amd: AmdVendor) -> None:
    body = _body(amd, Product.TURIN)
    assert _found(_match(_pins(_table(body, min_tcb_fmc=None)), body)) == [(Code.SNP_TCB_STATUS, "min_tcb_fmc")]


@pytest.mark.parametrize("key", MINIMUM[Tee.SNP][0])
def test_an_entry_below_the_minimum_is_none(key: str, amd: AmdVendor) -> None:
    masks = {"policy_mask": None} if key == "policy" else {}
    pins, issues = _read(_table(_body(amd), **{key: None}, **masks))
    assert pins is None
    assert any(key in issue.message for issue in issues)


@pytest.mark.parametrize(
    "changes",
    [
        {"vmpl": -1},
        {"measurement": []},
        {"measurement": ["00" * 48]},
        {"measurement": ["11" * 47]},
        {"policy_mask": None},
        {"policy_mask": "00" * 8},
        {"policy": "0x30000"},
        {"product": []},
        {"product": ["x" * 9]},
        {"csp_id": []},
        {"csp_id": ["x" * 129]},
        {"csp_id": ["a\nb"]},
        {"min_tcb_snp": "latest"},
        {"min_tcb_snp": 256},
        {"min_tcb_snp": True},
        {"min_tcb_fmc": -1},
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
    found = {field for _, field in _found(_match({}, _body(amd)))}
    assert found == set(MINIMUM[Tee.SNP][0])


def test_readable(amd: AmdVendor) -> None:
    shown = pins_readable(Tee.SNP, _pins(_table(_body(amd), csp_id=["CN=x"], host_data=["11" * 32])))
    assert shown["host_data"] == ("11" * 32,)
    assert shown["product"] == ("Milan",)
    assert shown["csp_id"] == ("CN=x",)
    assert shown["min_tcb_microcode"] == ("at least 219",)
    assert pins_readable(Tee.SNP, _pins(_table(_body(amd))))["csp_id"] == ("none",)
