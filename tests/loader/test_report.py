import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from proxy_attestation.codes import Code
from proxy_attestation.errors import RefusedError
from proxy_attestation.loader.credential import Credential
from proxy_attestation.loader.report import LineReport, credential_json, error_json, time_text


def test_events_are_lines_or_objects() -> None:
    lines: list[str] = []
    LineReport(as_json=False, write=lines.append).event("ready", "ready: listening", port=1)
    LineReport(as_json=True, write=lines.append).event("ready", "ready: listening", port=1)
    assert lines[0] == "ready: listening"
    assert json.loads(lines[1]) == {"event": "ready", "port": 1}


def test_notes_go_to_stderr_and_cannot_steer_a_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    report = LineReport(as_json=True)
    report.note("one\x1b[2J\ntwo")
    report.event("x", "")
    captured = capfd.readouterr()
    assert captured.err == "one [2J two\n"
    assert captured.out == '{"event": "x"}\n'


def test_json_forms(make_credential: Callable[[], Credential]) -> None:
    values: dict[str, Any] = credential_json(make_credential())
    assert values["tee"] == "sgx"
    assert values["simulated"] is True
    assert json.dumps(values)
    assert error_json(RefusedError(Code.SGX_DEBUG, "d")) == {"code": "sgx.debug", "detail": "d", "exit_status": 3}
    assert time_text(datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)) == "2026-01-02T03:04:05Z"
