"""The registries: they cover every code of the walk, and the tables in the docstrings are what they say."""

import re

import pytest

from proxy_attestation.codes import Code
from proxy_attestation_simulator import collateral_faults, quote_faults
from proxy_attestation_simulator.collateral_faults import COLLATERAL_FAULTS
from proxy_attestation_simulator.errors import SimulatorError
from proxy_attestation_simulator.faults import Registry
from proxy_attestation_simulator.quote_faults import QUOTE_FAULTS


def _table(docstring: str) -> dict[str, str]:
    """Return fault -> code, as the table at the head of a module has them."""
    rows: dict[str, str] = {}
    for line in docstring.splitlines():
        match = re.match(r"    (\S.*?)  +(.+)", line)
        if match and "VALUE" not in match[1] and match[1] != "fault":
            for usage in match[1].split(", "):
                rows[re.split(r"[=\[]", usage)[0]] = match[2]
    return rows


def test_every_code_of_the_walk_can_be_provoked_by_one_fault() -> None:
    claimed = {code for registry in (QUOTE_FAULTS, COLLATERAL_FAULTS) for f in registry.values() for code in f.codes()}
    # What is wrong with a log is no fault of a quote: tests/appraisal/test_event_log.py.
    logs = {Code.TDX_EVENT_LOG, Code.TDX_EVENT_LOG_MALFORMED, Code.TDX_EVENT_UNKNOWN}
    assert {code for code in Code if code.startswith(("sgx.", "tdx."))} - claimed == logs
    assert claimed - {*Code} == {"accepted"}


@pytest.mark.parametrize(
    ("docstring", "names"),
    [
        (quote_faults.__doc__, {name: fault.code for name, fault in QUOTE_FAULTS.items()}),
        (collateral_faults.__doc__, {name: fault.code for name, fault in COLLATERAL_FAULTS.items()}),
    ],
)
def test_the_tables_are_the_registries(docstring: str, names: dict[str, str]) -> None:
    rows = _table(docstring)
    rows.pop("FIELD", None)
    assert set(rows) - set(names) == set()
    told = {name: re.split(r"[ ;]", text)[0].removeprefix("tdx.") for name, text in rows.items()}
    assert told == {name: names[name].removeprefix("tdx.") for name in rows}
    fields = {name for name in names if "_" in name or re.fullmatch(r"rtmr\d|xfrm", name)}
    assert set(names) - set(rows) - fields == set()


def test_dashes_and_underscores_are_the_same_and_never_ambiguous() -> None:
    for registry in (QUOTE_FAULTS, COLLATERAL_FAULTS):
        assert len({name.replace("_", "-") for name in registry}) == len(registry)
    assert QUOTE_FAULTS.find("mr-enclave=00")[0].name == "mr_enclave"
    assert QUOTE_FAULTS.find("wrong_key")[0].name == "wrong-key"


def test_values_are_demanded_defaulted_or_refused() -> None:
    registry = Registry[int]()
    registry.add("plain", "", "x", lambda recipe, _: recipe + 1)
    registry.add("with", "", "x", lambda recipe, value: recipe + int(value), value="N", default="5")
    registry.add("needs", "", "x", lambda recipe, value: recipe + int(value), value="N", tees=("tdx",))
    assert registry.apply_all(0, "sgx", ["plain", "with", "with=7"]) == 13
    assert registry.apply_all(0, "tdx", "needs=2") == 2
    assert [fault.usage for fault in registry.values()] == ["plain", "with[=N]", "needs=N"]
    for bad in ("plain=", "needs", "nothing"):
        with pytest.raises(SimulatorError):
            registry.apply_all(0, "tdx", bad)
    with pytest.raises(SimulatorError):
        registry.apply_all(0, "sgx", "needs=2")
    with pytest.raises(ValueError, match="plain"):
        registry.add("plain", "", "x", lambda recipe, _: recipe)
