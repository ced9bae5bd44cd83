"""docs/reappraisal.md: its commands run, its codes and metrics are those that there are."""

import re
import shlex
from pathlib import Path
from typing import Any

import click
import pytest
from command_inside import GOOD, call

from proxy_attestation.cli.main import group
from proxy_attestation.codes import Code
from proxy_attestation.formats.bounds import EVIDENCE_STORE_MAX
from proxy_attestation.reappraisal.background import Background
from proxy_attestation.reappraisal.judge import Outcome
from proxy_attestation.reappraisal.process import TURN_SECONDS
from proxy_attestation.service.early import RETRY_AFTER
from proxy_attestation.service.metrics import exposition
from proxy_attestation_simulator.harness import default_policy

DOCUMENT = (Path(__file__).parents[2] / "docs" / "reappraisal.md").read_text()
COMMANDS = [
    shlex.split(line)[1:]
    for block in re.findall(r"^```sh\n(.*?)^```$", DOCUMENT, re.DOTALL | re.MULTILINE)
    for line in block.splitlines()
]
FIRST_CELLS = re.findall(r"^\| `([^`]+)` \|", DOCUMENT, re.MULTILINE)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_its_commands_run(command: list[str], ground: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for module in ("reappraise", "whatif"):
        monkeypatch.setattr(f"proxy_attestation.cli.{module}.utc_now", lambda: ground.proxy.now)
    if command[0] == "load":  # it asks a loader, which tests/e2e/test_tcb_recovery.py starts
        context = click.Context(group)
        load = group.get_command(context, "load")
        assert isinstance(load, click.Group)
        assert load.get_command(context, command[1]) is not None
        return
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "policy.toml").write_text(default_policy(ground.proxy.vendor, version=2))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "STATE").symlink_to(ground.proxy.state)
    assert call(*command, status=GOOD).stdout


def test_it_has_every_code_and_verdict() -> None:
    assert {cell for cell in FIRST_CELLS if cell.startswith("reappraisal.")} == {
        str(code) for code in Code if code.startswith("reappraisal.")
    }
    assert {str(outcome) for outcome in Outcome} <= set(FIRST_CELLS)


def test_it_has_every_metric(ground: Any) -> None:
    run = ground.proxy.state / "run"
    (run / "metrics").mkdir()
    Background(ground.proxy.state, lambda: ground.proxy.now, lambda _: None).turn()
    said = re.findall(r"^# TYPE (\w+)", exposition(run / "metrics").decode(), re.MULTILINE)
    assert {cell for cell in FIRST_CELLS if cell.startswith("proxy_attestation_")} == set(said)


def test_its_numbers_are_those_of_the_code() -> None:
    assert (EVIDENCE_STORE_MAX, TURN_SECONDS, RETRY_AFTER) == (1 << 30, 5.0, 600)
    for words in ("1 GiB", "five seconds", "ten minutes", "seven days"):
        assert words in re.sub(r"\s+", " ", DOCUMENT)
