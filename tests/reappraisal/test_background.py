"""Passes in the background: when one is made, what it writes, and what it logs once."""

import json
import logging
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from proxy_attestation.errors import UnavailableError
from proxy_attestation.reappraisal.background import PASS_SECONDS, PAUSE_MAX_SECONDS, SHARE, Background
from proxy_attestation.reappraisal.report import Tally, read_known, write_report
from proxy_attestation.service.early import EARLY_MAX, EarlyRenewals, read_early
from proxy_attestation.service.metrics import exposition
from proxy_attestation_simulator.harness import default_policy

FELL = "certificate would be refused"


@pytest.fixture
def pauses() -> list[float]:
    return []


@pytest.fixture
def background(ground: Any, pauses: list[float]) -> Background:
    (ground.proxy.state / "run" / "metrics").mkdir()
    return Background(ground.proxy.state, lambda: ground.proxy.now, pauses.append)


@pytest.fixture
def run(ground: Any) -> Path:
    found: Path = ground.proxy.state / "run"
    return found


def report(run: Path) -> Any:
    return json.loads((run / "reappraisal.json").read_text())


def fallen(caplog: pytest.LogCaptureFixture, event: str = FELL) -> list[dict[str, Any]]:
    return [record.fields for record in caplog.records if record.getMessage() == event]  # type: ignore[attr-defined] # ours


def samples(run: Path) -> dict[str, float]:
    lines = exposition(run / "metrics").decode().splitlines()
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")}


def test_the_first_turn_judges_all_and_the_next_does_nothing(
    ground: Any, background: Background, run: Path, pauses: list[float]
) -> None:
    assert background.turn()
    said = report(run)
    assert {name: said[name] for name in ("format", "at", "live", "accepted", "refused", "unavailable", "early")} == {
        "format": 1, "at": int(ground.proxy.now.timestamp()), "live": 3, "accepted": 3, "refused": 0, "unavailable": 0,
        "early": {},
    }  # fmt: skip
    assert (run / "reappraisal.json").stat().st_mode & 0o777 == 0o600
    assert len(pauses) == 3
    assert all(0 < pause <= PAUSE_MAX_SECONDS for pause in pauses)
    assert not background.turn()
    assert SHARE > 1


def test_new_collateral_is_noticed_and_what_falls_is_told_once(
    ground: Any, background: Background, run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    background.turn()
    ground.proxy.write_endorsements("sgx", fault="tcb-recovery")
    assert background.turn()
    codes = ["sgx.tcb_status", "policy.advisory"]
    (event,) = fallen(caplog)
    assert (event["index"], event["entry"], event["codes"]) == (ground.old, "example-app", codes)
    said = report(run)
    (early,) = said["early"].values()
    assert (early["index"], early["codes"], early["since"]) == (ground.old, codes, int(ground.proxy.now.timestamp()))
    ground.proxy.refresh()  # a worker takes it: the floor rises, and with it the policy's digest
    assert background.turn()
    assert len(fallen(caplog)) == 1
    again = Background(ground.proxy.state, lambda: ground.proxy.now, lambda _: None)
    ground.proxy.move(minutes=1)
    assert again.turn()
    assert len(fallen(caplog)) == 1  # nor after a restart
    assert report(run)["early"] == said["early"]


def test_metrics_say_how_many_and_why(ground: Any, background: Background, run: Path) -> None:
    ground.proxy.write_endorsements("sgx", fault="tcb-recovery")
    background.turn()
    found = samples(run)
    prefix = "proxy_attestation_reappraisal_"
    assert found[f'{prefix}certificates{{code="sgx.tcb_status",verdict="refused"}}'] == 1
    assert found[f'{prefix}certificates{{code="",verdict="accepted"}}'] == 2
    assert found[f'{prefix}certificates{{code="",verdict="unavailable"}}'] == 0
    assert found[f"{prefix}early_renewals"] == 1
    assert found[f"{prefix}last_run_timestamp_seconds"] == int(ground.proxy.now.timestamp())


def test_an_hour_is_the_longest_wait(ground: Any, background: Background, run: Path) -> None:
    background.turn()
    ground.proxy.move(seconds=PASS_SECONDS - 1)
    assert not background.turn()
    ground.proxy.move(seconds=1)
    assert background.turn()
    assert report(run)["live"] == 0


def test_collateral_that_expires_is_noticed_by_the_clock(ground: Any, run: Path) -> None:
    ground.proxy.write_endorsements("sgx", evaluation_number=40, next_update=ground.proxy.now + timedelta(minutes=10))
    (run / "metrics").mkdir()
    background = Background(ground.proxy.state, lambda: ground.proxy.now, lambda _: None)
    assert background.turn()
    before = report(run)
    ground.proxy.move(minutes=10)
    assert background.turn()
    assert (before["unavailable"], report(run)["unavailable"]) == (2, 2)


def test_a_policy_in_force_is_noticed_and_one_that_is_not_is_not_judged_by(
    ground: Any, background: Background, run: Path
) -> None:
    background.turn()
    measured = ground.proxy.vendor.platform("sgx").body.mr_enclave.hex()
    text = default_policy(ground.proxy.vendor, version=2).replace(measured, "ab" * 32)
    (ground.proxy.state / "policy.toml").write_text(text)
    assert not background.turn()
    ground.proxy.move(seconds=PASS_SECONDS - 60)
    assert not background.turn()
    ground.proxy.apply(text)
    assert background.turn()
    assert (report(run)["policy_version"], report(run)["refused"]) == (2, 2)


def test_the_old_policy_is_remembered_while_its_file_is_another(ground: Any, background: Background, run: Path) -> None:
    background.turn()
    (ground.proxy.state / "policy.toml").write_text("broken")
    ground.proxy.write_endorsements("sgx", fault="tcb-recovery")
    assert background.turn()
    assert report(run)["refused"] == 1


def test_without_the_policy_in_force_nothing_is_judged_and_one_line_says_so(
    ground: Any, background: Background, caplog: pytest.LogCaptureFixture
) -> None:
    (ground.proxy.state / "policy.toml").write_text("broken")
    assert not background.turn()
    assert not background.turn()
    assert len(fallen(caplog, "policy.toml not judged by")) == 1


def test_a_replaced_issuer_asks_for_renewal(
    ground: Any, background: Background, run: Path, caplog: pytest.LogCaptureFixture
) -> None:
    background.turn()
    ground.proxy.issuer.authority.life.rotate(int(ground.proxy.now.timestamp()), at_once=True)
    assert background.turn()
    assert {tuple(one["codes"]) for one in report(run)["early"].values()} == {("reappraisal.issuer",)}
    assert report(run)["accepted"] == 3
    assert len(fallen(caplog, "certificate to be renewed")) == 3
    assert fallen(caplog) == []


def test_workers_find_what_is_to_be_renewed(ground: Any, background: Background, run: Path) -> None:
    seconds = iter(range(100))
    early = EarlyRenewals(run, lambda: float(next(seconds)))
    background.turn()
    ground.proxy.write_endorsements("sgx", fault="tcb-recovery")
    assert all(early.find(name) is None for name in ("a.b",))
    background.turn()
    (name,) = report(run)["early"]
    found = early.find(name)
    assert found is not None
    assert [str(code) for code in found.codes] == ["sgx.tcb_status", "policy.advisory"]
    (run / "reappraisal.json").unlink()
    early.find(name)
    assert early.find(name) is None


def test_a_ledger_that_is_away_is_ours_to_report(ground: Any, background: Background) -> None:
    ledger = ground.proxy.state / "ledger.sqlite"
    ground.proxy.close()
    ledger.rename(ledger.with_suffix(".away"))
    ledger.write_bytes(b"not SQLite" * 1000)
    with pytest.raises(UnavailableError):
        background.turn()


def test_a_pass_that_is_stopped_leaves_the_last_report(ground: Any, run: Path) -> None:
    class StopError(Exception):
        pass

    def stop(_: float) -> None:
        raise StopError

    (run / "metrics").mkdir()
    with pytest.raises(StopError):
        Background(ground.proxy.state, lambda: ground.proxy.now, stop).turn()
    assert not (run / "reappraisal.json").exists()


def test_the_report_is_bounded(ground: Any, tmp_path: Path) -> None:
    ground.proxy.write_endorsements("sgx", fault="tcb-recovery")
    (one,) = [one for one in ground.survey()[1] if one.early]
    tally = Tally(1_800_000_000, 1)
    news = [tally.add(replace(one, certificate_id=f"{'a' * 27}.{number:027}"), {}) for number in range(EARLY_MAX + 2)]
    assert all(news)
    assert (len(tally.early), tally.more, tally.live()) == (EARLY_MAX, 2, EARLY_MAX + 2)
    path = tmp_path / "reappraisal.json"
    write_report(path, tally)
    assert len(read_early(path.read_bytes())) == EARLY_MAX
    assert len(read_known(path)) == EARLY_MAX
