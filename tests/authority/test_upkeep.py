"""The process's upkeep never ends it, and its log never quotes input."""

import io
import json
import logging
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from proxy_attestation import log
from proxy_attestation.authority import process
from proxy_attestation.authority.issue import Issuer
from proxy_attestation.codes import Code
from proxy_attestation.errors import UnavailableError


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """What was logged since the last call, with the process's own configuration."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    monkeypatch.setattr(sys, "stderr", stream)
    log.configure("authority")

    def read() -> list[Any]:
        lines = stream.getvalue().splitlines()
        stream.seek(0)
        stream.truncate()
        return [json.loads(line) for line in lines]

    yield read
    root.handlers[:], root.level = handlers, level


def test_upkeep_that_is_due_is_done_and_logged(issuer: Issuer, clock: Any, logged: Any) -> None:
    process.maintain(issuer)
    assert logged() == []
    clock.move(days=61)
    process.maintain(issuer)
    assert issuer.authority.active.ca.number == 2
    (line,) = logged()
    assert (line["event"], line["level"], line["process"]) == ("maintained", "info", "authority")


def test_upkeep_that_fails_is_logged_and_tried_again(
    issuer: Issuer, logged: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unavailable() -> bool:
        raise UnavailableError(Code.AUTHORITY_UNAVAILABLE, "disk full")

    def bug() -> bool:
        raise KeyError("secret")

    monkeypatch.setattr(issuer.authority, "maintain", unavailable)
    process.maintain(issuer)
    monkeypatch.setattr(issuer.authority, "maintain", bug)
    process.maintain(issuer)
    first, second = logged()
    assert (first["event"], first["code"], first["detail"]) == (
        "maintenance failed", "authority.unavailable", "disk full",
    )  # fmt: skip
    assert (second["event"], second["exception"]) == ("bug", "KeyError")
    assert second["traceback"]
    assert "secret" not in json.dumps(second)
