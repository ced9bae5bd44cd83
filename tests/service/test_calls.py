"""What happens around a call: admission, metrics, the log; and that the log keeps what peers are never told."""

import asyncio
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest

from proxy_attestation import log
from proxy_attestation.codes import Code
from proxy_attestation.errors import Mismatch, PolicyError, UnavailableError
from proxy_attestation.service.calls import LOG_LINES_A_SECOND, Calls, Method, decode_message
from proxy_attestation.service.core import Core
from proxy_attestation.service.errors_wire import WireError
from proxy_attestation.service.limits import Admission, Bounds
from proxy_attestation.service.metrics import Metrics
from proxy_attestation.v1 import proxy_attestation_pb2 as pb


class Counted(Metrics):
    def __init__(self) -> None:
        self.calls: list[tuple[str, str, str]] = []
        self.certificates: list[tuple[str, str]] = []
        self.most = 0

    def called(self, rpc: str, front: str, code: str, seconds: float) -> None:
        assert seconds >= 0
        self.calls.append((rpc, front, code))

    def in_flight(self, calls: int) -> None:
        self.most = max(self.most, calls)

    def issued(self, tee: str, workload: str) -> None:
        self.certificates.append((tee, workload))


class Lines(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.setFormatter(log.JsonFormatter("test"))
        self.lines: list[dict[str, Any]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(json.loads(self.format(record)))


@pytest.fixture
def lines() -> Iterator[list[dict[str, Any]]]:
    handler = Lines()
    level = log.LOGGER.level
    log.LOGGER.addHandler(handler)
    log.LOGGER.setLevel(logging.INFO)
    yield handler.lines
    log.LOGGER.removeHandler(handler)
    log.LOGGER.setLevel(level)


def ask(calls: Calls, data: bytes = b"", name: str = "GetChallenge", peer: str = "192.0.2.1") -> Any:
    async def receive(method: Method) -> Any:
        return decode_message(method, data)

    return asyncio.run(calls.run(name, "connect", peer, receive))


def failing(core: Core, error: Exception) -> bytes:
    """Make every challenge fail with `error`, and return a request for one."""

    def fail(length: int) -> bytes:
        assert length == 16
        raise error

    core._random = fail
    return pb.GetChallengeRequest(tee="sgx").SerializeToString()


def test_a_call_is_counted_by_its_code(core: Core) -> None:
    counted = Counted()
    calls = Calls(core, Admission(Bounds(), lambda: 0.0), counted)
    ask(calls, pb.GetChallengeRequest(tee="sgx").SerializeToString())
    ask(calls, pb.GetChallengeRequest(tee="cca").SerializeToString())
    assert counted.calls == [("GetChallenge", "connect", "ok"), ("GetChallenge", "connect", "request.tee")]
    assert counted.most == 1


def test_a_certificate_is_counted_by_tee_and_workload(authority: Any, clock: Any, core: Core, attempt: Any) -> None:
    counted = Counted()
    counting = Core(authority, clock, metrics=counted)
    counting.serving = core.serving
    asyncio.run(counting.get_signed_certificate(attempt().message()))
    assert counted.certificates == [("sgx", "example-app")]


def test_a_peer_over_its_budget_is_told_so(core: Core) -> None:
    calls = Calls(core, Admission(Bounds(peer_rate=1, peer_burst=1), lambda: 0.0), Counted())
    data = pb.GetChallengeRequest(tee="sgx").SerializeToString()
    assert isinstance(ask(calls, data), pb.GetChallengeResponse)
    answer = ask(calls, data)
    assert isinstance(answer, WireError)
    assert answer.code is Code.LIMITS_EXHAUSTED
    assert isinstance(ask(calls, data, peer="192.0.2.2"), pb.GetChallengeResponse)


def test_a_refusal_s_detail_is_logged_under_its_request_id(calls: Calls, core: Core, lines: Any) -> None:
    mismatch = Mismatch(Code.POLICY_SVN, "isv_svn", "at least 3", "2")
    answer = ask(calls, failing(core, PolicyError((mismatch,))))
    (line,) = lines
    assert line["event"] == "refused"
    assert line["request_id"] == answer.metadata["request_id"]
    assert (line["code"], line["rpc"], line["front"], line["peer"]) == (
        "policy.svn", "GetChallenge", "connect", "192.0.2.1",
    )  # fmt: skip
    assert line["mismatches"] == [{"code": "policy.svn", "field": "isv_svn", "expected": "at least 3", "actual": "2"}]
    assert "at least 3" in line["detail"]
    assert "at least 3" not in repr(answer)


def test_what_is_unavailable_is_logged_as_a_warning(calls: Calls, core: Core, lines: Any) -> None:
    ask(calls, failing(core, UnavailableError(Code.AUTHORITY_UNAVAILABLE, "why")))
    assert (lines[0]["event"], lines[0]["level"], lines[0]["detail"]) == ("unavailable", "warning", "why")


def test_a_bug_is_logged_with_its_place_and_without_its_text(calls: Calls, core: Core, lines: Any) -> None:
    answer = ask(calls, failing(core, ValueError("evidence or a secret")))
    assert (answer.code, answer.status.http) == (Code.INTERNAL, 500)
    (line,) = lines
    assert (line["event"], line["level"], line["exception"]) == ("bug", "error", "ValueError")
    assert any("core.py" in place for place in line["traceback"])
    assert line["request_id"] == answer.metadata["request_id"]
    assert "secret" not in json.dumps(line)
    assert "secret" not in repr(answer)


def test_a_flood_of_refusals_does_not_flood_the_log(core: Core, lines: Any) -> None:
    now = 1000.0
    calls = Calls(core, Admission(Bounds(peer_burst=10_000), lambda: 0.0), Counted(), lambda: now)
    for _ in range(LOG_LINES_A_SECOND * 2):
        ask(calls)
    assert len(lines) == LOG_LINES_A_SECOND
    now += 0.5
    for _ in range(LOG_LINES_A_SECOND * 2):
        ask(calls)
    assert len(lines) == LOG_LINES_A_SECOND * 3 // 2


def test_cancellation_is_not_swallowed(core: Core) -> None:
    admission = Admission(Bounds(), lambda: 0.0)
    calls = Calls(core, admission, Counted())

    async def main() -> None:
        async def receive(method: Method) -> Any:
            del method
            await asyncio.Event().wait()

        call = asyncio.ensure_future(calls.run("GetChallenge", "grpc", "192.0.2.1", receive))
        await asyncio.sleep(0)
        assert admission.in_flight == 1
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call

    asyncio.run(main())
    assert admission.in_flight == 0
