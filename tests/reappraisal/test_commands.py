"""`reappraise` and `policy what-if`: what they list, and with which exit status."""

from pathlib import Path
from typing import Any

import pytest
from command_inside import GOOD, MALFORMED, REFUSED, UNAVAILABLE, call, call_json

from proxy_attestation_simulator.harness import default_policy


@pytest.fixture(autouse=True)
def the_proxys_clock(ground: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("reappraise", "whatif"):
        monkeypatch.setattr(f"proxy_attestation.cli.{module}.utc_now", lambda: ground.proxy.now)


@pytest.fixture
def state(ground: Any) -> Path:
    found: Path = ground.proxy.state
    return found


@pytest.fixture
def new_policy(ground: Any, tmp_path: Path) -> Path:
    """A policy that accepts the guest alone."""
    text = default_policy(ground.proxy.vendor, version=2)
    path = tmp_path / "new.toml"
    path.write_text(text.replace(ground.proxy.vendor.platform("sgx").body.mr_enclave.hex(), "ab" * 32))
    return path


def test_all_that_stands_is_listed_and_the_status_is_good(ground: Any, state: Path) -> None:
    said = call_json("reappraise", state)
    assert {name: said[name] for name in ("live", "accepted", "refused", "unavailable", "policy_version")} == {
        "live": 3, "accepted": 3, "refused": 0, "unavailable": 0, "policy_version": 1,
    }  # fmt: skip
    assert said["at"] == "2026-11-24T12:00:00Z"
    rows = {row["index"]: row for row in said["certificates"]}
    assert set(rows) == {ground.old, ground.new, ground.guest}
    row = rows[ground.guest]
    assert row["workload"] == "example-vm"
    assert row["names"] == ["vm.example.org"]
    assert row["expires"] == "2026-11-24T13:00:00Z"
    assert (row["verdict"], row["codes"], row["renew_now"]) == ("accepted", [], [])


def test_what_would_fall_has_its_codes_and_the_status_says_so(ground: Any, state: Path) -> None:
    ground.proxy.write_endorsements("sgx", fault="tcb-recovery")
    said = call_json("reappraise", state, status=REFUSED)
    fallen = [row for row in said["certificates"] if row["verdict"] == "refused"]
    assert [(row["index"], row["codes"][0]) for row in fallen] == [(ground.old, "sgx.tcb_status")]
    assert fallen[0]["renew_now"] == fallen[0]["codes"]
    table = call("reappraise", state, status=REFUSED).stdout.splitlines()
    assert table[0].split() == ["INDEX", "WORKLOAD", "NAMES", "EXPIRES", "VERDICT", "CODES"]
    assert len(table) == 5
    assert table[1].split()[:5] == [
        str(ground.old), "example-app", "app.example.org", "2026-11-24T13:00:00Z", "refused",
    ]  # fmt: skip


def test_what_cannot_be_judged_is_told_apart(ground: Any, state: Path) -> None:
    for path in (state / "endorsements" / "tdx").iterdir():
        path.unlink()
    said = call_json("reappraise", state, status=UNAVAILABLE)
    (row,) = [row for row in said["certificates"] if row["verdict"] != "accepted"]
    assert (row["index"], row["verdict"], row["codes"]) == (
        ground.guest, "unavailable", ["endorsements.unavailable"],
    )  # fmt: skip


def test_a_broken_set_of_collateral_is_told(ground: Any, state: Path) -> None:
    (state / "endorsements" / "tdx" / "tcb_info.json").write_bytes(b"{")
    ran = call("reappraise", state, status=UNAVAILABLE)
    assert "WARNING" in ran.stderr
    assert call_json("reappraise", state, status=UNAVAILABLE)["collateral_problems"]
    del ground


def test_what_if_lists_exactly_those_whose_measurement_is_dropped(ground: Any, state: Path, new_policy: Path) -> None:
    said = call_json("policy", "what-if", state, new_policy, status=REFUSED)
    assert {row["index"]: row["codes"] for row in said["certificates"]} == {
        ground.old: ["policy.measurement"], ground.new: ["policy.measurement"],
    }  # fmt: skip
    assert (said["live"], said["accepted"], said["refused"], said["policy_version"]) == (3, 1, 2, 2)
    assert call_json("reappraise", state)["refused"] == 0  # nothing was changed


def test_what_if_nothing_falls(ground: Any, state: Path, tmp_path: Path) -> None:
    same = tmp_path / "same.toml"
    same.write_text(default_policy(ground.proxy.vendor, version=2))
    assert call_json("policy", "what-if", state, same, status=GOOD)["certificates"] == []
    assert len(call("policy", "what-if", state, same).stdout.splitlines()) == 1


def test_a_malformed_policy_is_no_verdict(state: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text("version = 1\n")
    said = call_json("policy", "what-if", state, broken, status=MALFORMED)
    assert said["error"]["code"] == "policy.malformed"


def test_reappraise_wants_the_policy_in_force(state: Path, new_policy: Path) -> None:
    (state / "policy.toml").write_text(new_policy.read_text())
    assert call_json("reappraise", state, status=UNAVAILABLE)["error"]["code"] == "reappraisal.policy"


def test_progress_is_for_terminals(ground: Any, state: Path) -> None:
    assert call("reappraise", state).stderr == ""
    del ground


def test_a_directory_without_an_authority_is_refused(tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert call_json("reappraise", empty, status=MALFORMED)["error"]["code"] == "authority.state"
