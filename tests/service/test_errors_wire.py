"""Every error of ours has one spelling on each front, and none of them tells a peer a detail."""

import base64
import json

import pytest
from google.rpc import error_details_pb2

from proxy_attestation.codes import Code
from proxy_attestation.errors import (
    AppraisalError,
    ConfigurationError,
    FormatError,
    InternalError,
    Mismatch,
    PolicyError,
    ProxyAttestationError,
    RequestError,
    UnavailableError,
    UsageError,
)
from proxy_attestation.service.errors_wire import connect_body, status_message, to_wire

SECRET = "expected 4242, in /state/keys/root.key"
CASES: list[tuple[ProxyAttestationError, int, str, int, Code]] = [
    (FormatError(Code.REQUEST_MALFORMED, SECRET), 3, "invalid_argument", 400, Code.REQUEST_MALFORMED),
    (FormatError(Code.CSR_SIGNATURE, SECRET), 3, "invalid_argument", 400, Code.CSR_SIGNATURE),
    (RequestError(Code.BINDER_MISMATCH, SECRET), 7, "permission_denied", 403, Code.BINDER_MISMATCH),
    (RequestError(Code.CHALLENGE_SPENT, SECRET), 9, "failed_precondition", 400, Code.CHALLENGE_SPENT),
    (AppraisalError(Code.SGX_SIGNATURE, SECRET), 7, "permission_denied", 403, Code.SGX_SIGNATURE),
    (UnavailableError(Code.AUTHORITY_LIFETIME, SECRET), 14, "unavailable", 503, Code.AUTHORITY_LIFETIME),
    (UnavailableError(Code.LIMITS_EXHAUSTED, SECRET), 8, "resource_exhausted", 429, Code.LIMITS_EXHAUSTED),
    (RequestError(Code.LEDGER_NO_PROOF, SECRET), 5, "not_found", 404, Code.LEDGER_NO_PROOF),
    (InternalError(SECRET), 13, "internal", 500, Code.INTERNAL),
    (ConfigurationError(Code.POLICY_MALFORMED, SECRET), 13, "internal", 500, Code.INTERNAL),
    (UsageError(SECRET), 13, "internal", 500, Code.INTERNAL),
]


@pytest.mark.parametrize(("error", "number", "word", "http", "code"), CASES)
def test_an_error_on_both_fronts(error: ProxyAttestationError, number: int, word: str, http: int, code: Code) -> None:
    wire = to_wire(error, "0123456789abcdef")
    status = status_message(wire)
    body = json.loads(connect_body(wire))
    assert (status.code, body["code"], wire.status.http, wire.code) == (number, word, http, code)
    assert status.message == body["message"] == wire.message
    assert wire.message.startswith(f"{code}: ")
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    assert (info.reason, info.domain, info.metadata["request_id"]) == (code, "proxy-attestation", "0123456789abcdef")
    first = body["details"][0]
    assert first["type"] == "google.rpc.ErrorInfo"
    assert base64.b64decode(first["value"] + "==") == info.SerializeToString(deterministic=True) or (
        error_details_pb2.ErrorInfo.FromString(base64.b64decode(first["value"] + "==")) == info
    )
    assert first["debug"] == {"reason": code, "domain": "proxy-attestation", "metadata": dict(info.metadata)}
    assert set(info.metadata) == {"cause", "fix", "request_id"}
    for text in (status.SerializeToString(), connect_body(wire)):
        assert b"4242" not in text
        assert b"/state" not in text


@pytest.mark.parametrize(("error", "retry"), [(CASES[0][0], False), (CASES[5][0], True), (CASES[6][0], True)])
def test_coming_back_is_hinted_at_where_it_makes_sense(error: ProxyAttestationError, retry: bool) -> None:
    wire = to_wire(error, "id")
    status = status_message(wire)
    details = json.loads(connect_body(wire))["details"]
    assert (wire.retry_after is not None) is retry
    assert len(status.details) == len(details) == 1 + retry
    if retry:
        hint = error_details_pb2.RetryInfo()
        assert status.details[1].Unpack(hint)
        assert hint.retry_delay.seconds == wire.retry_after == 1
        assert details[1]["type"] == "google.rpc.RetryInfo"
        assert details[1]["debug"] == {"retryDelay": "1s"}


def test_a_policy_s_mismatches_are_told_by_code_alone() -> None:
    mismatches = (
        Mismatch(Code.POLICY_MEASUREMENT, "mr_enclave", "4242", "2424"),
        Mismatch(Code.POLICY_NAME, "dns", "4242", "2424"),
        Mismatch(Code.POLICY_NAME, "uri", "4242", "2424"),
    )
    wire = to_wire(PolicyError(mismatches), "id")
    assert wire.metadata["mismatches"] == "policy.measurement,policy.name"
    assert wire.code is Code.POLICY_MEASUREMENT
    assert b"42" not in connect_body(wire)


@pytest.mark.parametrize("code", list(Code))
def test_every_code_can_be_told(code: Code) -> None:
    for error in (FormatError(code, "x"), RequestError(code, "x"), UnavailableError(code, "x")):
        wire = to_wire(error, "id")
        assert wire.metadata["cause"]
        assert wire.metadata["fix"]
        assert "\n" not in wire.message
