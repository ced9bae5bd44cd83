"""docs/policy.md lists every key, word and code, and what it and the examples show is a good policy."""

import re
from pathlib import Path

import pytest

from proxy_attestation.codes import Code
from proxy_attestation.formats.pins import PINS, TCB_STATUS, PinKind
from proxy_attestation.formats.tee import Tee
from proxy_attestation.policy.load import load_policy, parse_policy
from proxy_attestation.policy.vocabulary import (
    APPLICATION_KEYS,
    DANGER_KEYS,
    DENY_KEYS,
    EVENT_KEYS,
    POLICY_KEYS,
    REFERENCE_KEYS,
    WORKLOAD_KEYS,
)

PROJECT = Path(__file__).parents[2]
POLICIES = PROJECT / "examples" / "policies"
EXAMPLES = sorted(POLICIES.glob("*.toml"))
REFERENCE = (PROJECT / "docs" / "policy.md").read_text()
BLOCKS = re.findall(r"^```toml\n(.*?)^```$", REFERENCE, re.DOTALL | re.MULTILINE)
HEAD = 'version = 1\ntrust_domain = "example.org"\n'


def rows() -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in REFERENCE.split("\n") if line[:1] == "|"]


@pytest.mark.parametrize(
    "key", [*POLICY_KEYS, *WORKLOAD_KEYS, *APPLICATION_KEYS, *DANGER_KEYS, *DENY_KEYS, *EVENT_KEYS, *REFERENCE_KEYS]
)
def test_every_key_has_its_row(key: str) -> None:
    assert [row for row in rows() if row[0] == f"`{key}`"]


@pytest.mark.parametrize(("tee", "name"), [(tee, name) for tee, keys in PINS.items() for name in keys])
def test_every_pin_has_its_row_with_type_and_length(tee: Tee, name: str) -> None:
    key = PINS[tee][name]
    written = f"`{name}`, `{key.mask}`" if key.kind is PinKind.MASKED else f"`{name}`"
    kind = key.kind.value.split(",")[0]
    # Nitro and TPMs call their registers alike, and so a row stands in each table.
    tables = sum(name in keys for keys in PINS.values())
    of_kind = sorted([k.kind.value.split(",")[0], str(k.size)] for keys in PINS.values() if (k := keys.get(name)))
    assert [kind, str(key.size)] in of_kind
    found = sorted(row[1:3] for row in rows() if row[0] == written)
    assert (len(found), found) == (tables, of_kind)


def test_every_tcb_word_has_its_row() -> None:
    for word in TCB_STATUS[Tee.TDX]:
        sgx = "yes" if word in TCB_STATUS[Tee.SGX] else ""
        assert [f"`{word}`", sgx, "yes"] in rows()


def test_every_code_of_a_decision_is_listed() -> None:
    pins = {key.code for keys in PINS.values() for key in keys.values()}
    tees = "|".join(Tee)
    others = {code for code in Code if re.fullmatch(rf"({tees})\.(debug|tcb_status)", code)}
    others |= {Code.POLICY_WORKLOAD, Code.POLICY_TEE, Code.POLICY_ADVISORY, Code.POLICY_APPLICATION}
    others |= {Code.POLICY_KEY_ORIGIN, Code.OWNER_CHIP, Code.OWNER_LAUNCH_DATA, Code.POLICY_NAME, Code.POLICY_EVENT}
    others |= {code for code in Code if code.startswith("deny.")}
    others |= {Code.TPM_SOFTWARE_KEY, Code.TPM_EVENT_UNKNOWN, Code.TDX_EVENT_UNKNOWN}
    listed = {code for row in rows() for code in re.findall(r"`([a-z]+\.[a-z_]+)`", row[-1])}
    assert {str(code) for code in pins | others} <= listed


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_policy_loads_without_a_danger(path: Path) -> None:
    assert load_policy(path).dangers == ()


def test_there_is_an_example_for_each_tee() -> None:
    assert {path.stem for path in EXAMPLES} >= {str(tee) for tee in Tee}


@pytest.mark.parametrize("tee", Tee)
def test_each_example_is_of_its_tee_and_linked(tee: Tee) -> None:
    workloads = load_policy(POLICIES / f"{tee}.toml").workloads
    assert {workload.tee for workload in workloads.values()} == {tee}
    assert f"(../examples/policies/{tee}.toml)" in REFERENCE


@pytest.mark.parametrize("number", range(len(BLOCKS)))
def test_every_block_of_the_reference_loads(number: int) -> None:
    text = BLOCKS[number]
    if "[[workload]]" not in text:
        text = (POLICIES / "sgx.toml").read_text() + text
    assert parse_policy(text if "version" in text else HEAD + text, POLICIES).workloads


def test_the_reference_has_blocks() -> None:
    assert len(BLOCKS) >= 3
