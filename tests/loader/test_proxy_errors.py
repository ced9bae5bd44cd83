import json
from typing import Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_attestation.codes import Code
from proxy_attestation.errors import (
    FormatError,
    InternalError,
    Mismatch,
    PolicyError,
    ProxyAttestationError,
    RefusedError,
    RequestError,
    UnavailableError,
)
from proxy_attestation.loader.proxy_errors import error_from_answer
from proxy_attestation.service.errors_wire import connect_body, to_wire

MISMATCHES: Final = (
    Mismatch(Code.POLICY_NAME, "dns", "secret.example.org", "app.example.org"),
    Mismatch(Code.POLICY_APPLICATION, "application", "x", "y"),
)


@pytest.mark.parametrize(
    ("sent", "kind", "code"),
    [
        (RefusedError(Code.SGX_DEBUG), RefusedError, Code.SGX_DEBUG),
        (PolicyError(MISMATCHES), RefusedError, Code.POLICY_NAME),
        (RequestError(Code.BINDER_MISMATCH), RefusedError, Code.BINDER_MISMATCH),
        (RequestError(Code.CHALLENGE_SPENT), RequestError, Code.CHALLENGE_SPENT),
        (FormatError(Code.CSR_MALFORMED), RequestError, Code.CSR_MALFORMED),
        (RequestError(Code.LEDGER_NO_PROOF), RequestError, Code.LEDGER_NO_PROOF),
        (UnavailableError(Code.ENDORSEMENTS_UNAVAILABLE), UnavailableError, Code.ENDORSEMENTS_UNAVAILABLE),
        (UnavailableError(Code.LIMITS_EXHAUSTED), UnavailableError, Code.LIMITS_EXHAUSTED),
        (InternalError("secret"), UnavailableError, Code.INTERNAL),
    ],
)
def test_what_the_service_writes_comes_back_with_its_code(
    sent: ProxyAttestationError, kind: type[ProxyAttestationError], code: Code
) -> None:
    wire = to_wire(sent, "request-1")
    received = error_from_answer(wire.status.http, connect_body(wire))
    assert type(received) is kind
    assert received.code is code
    assert "request-1" in received.detail
    assert "secret" not in received.detail


def test_every_mismatch_is_told() -> None:
    wire = to_wire(PolicyError(MISMATCHES), "request-1")
    assert "policy.name,policy.application" in error_from_answer(403, connect_body(wire)).detail


def body(**changes: Any) -> bytes:
    debug = {"reason": "sgx.debug", "domain": "proxy-attestation", "metadata": {"request_id": "r"}}
    debug.update(changes.pop("debug", {}))
    detail = {"type": "google.rpc.ErrorInfo", "value": "", "debug": debug}
    return json.dumps({"code": "permission_denied", "message": "", "details": [detail], **changes}).encode()


def test_the_plain_form_is_a_verdict() -> None:
    error = error_from_answer(403, body())
    assert (type(error), error.code) == (RefusedError, Code.SGX_DEBUG)


@pytest.mark.parametrize(
    ("status", "content", "code"),
    [
        (403, b"", Code.PROXY_PROTOCOL),
        (404, b"<html>", Code.PROXY_PROTOCOL),
        (502, b"<html>", Code.PROXY_UNREACHABLE),
        (503, b"{}", Code.PROXY_UNREACHABLE),
        (504, b"null", Code.PROXY_UNREACHABLE),
        (403, body(code="no such word"), Code.PROXY_PROTOCOL),
        (403, body(code=7), Code.PROXY_PROTOCOL),
        (403, body(code=["permission_denied"]), Code.PROXY_PROTOCOL),
        (403, body(details=[]), Code.PROXY_PROTOCOL),
        (403, body(details={"debug": 1}), Code.PROXY_PROTOCOL),
        (403, body(details=[1, {"type": "other"}, {"type": "google.rpc.ErrorInfo"}]), Code.PROXY_PROTOCOL),
        (403, body(debug={"domain": "example.org"}), Code.PROXY_PROTOCOL),
        (403, body(debug={"reason": "no.such_code"}), Code.PROXY_PROTOCOL),
        (403, body(debug={"reason": None}), Code.PROXY_PROTOCOL),
        (200, b"[" * 100_000, Code.PROXY_PROTOCOL),
        (403, b"\xff", Code.PROXY_PROTOCOL),
    ],
)
def test_what_is_no_answer_of_a_proxys_never_looks_like_a_verdict(status: int, content: bytes, code: Code) -> None:
    error = error_from_answer(status, content)
    assert (type(error), error.code) == (UnavailableError, code)


def test_the_other_sides_text_is_fit_for_a_terminal() -> None:
    error = error_from_answer(403, body(debug={"metadata": {"request_id": "\x1b[2Jx\n" * 1000, "mismatches": 5}}))
    assert error.detail.isprintable()
    assert len(error.detail) < 1200


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["code", "details", "debug", "type"]), inner)
    ),
    max_leaves=12,
)


@given(st.integers(400, 599), st.one_of(st.binary(max_size=100), JSON.map(lambda value: json.dumps(value).encode())))
@settings(deadline=None, max_examples=200)
def test_any_answer_becomes_an_error_of_ours(status: int, content: bytes) -> None:
    assert isinstance(error_from_answer(status, content), UnavailableError)
