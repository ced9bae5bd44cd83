"""The Connect protocol, request by request, without a server."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from cryptography import x509
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy_attestation.codes import Code
from proxy_attestation.errors import UnavailableError
from proxy_attestation.formats.bounds import JSON_MESSAGE_MAX, MESSAGE_MAX
from proxy_attestation.service import connect_front
from proxy_attestation.service.calls import Calls
from proxy_attestation.service.connect_front import ConnectFront
from proxy_attestation.v1 import proxy_attestation_pb2 as pb

BASE = "/proxy_attestation.v1.ProxyAttestation/"
ROOT, CHALLENGE = BASE + "GetRootCertificate", BASE + "GetChallenge"
NONCE_JSON = json.dumps({"nonce": base64.b64encode(bytes(32)).decode()}).encode()


class FakeScope:
    def __init__(self, method: str, path: str, headers: dict[str, str], client: str = "192.0.2.1:5") -> None:
        self.method, self.path, self.headers, self.client = method, path, headers, client


class FakeExchange:
    """A request's body in pieces, and the answer; `stalls` makes the body never end."""

    def __init__(self, pieces: list[bytes], stalls: bool) -> None:
        self.pieces, self.stalls = pieces, stalls
        self.read = 0
        self.answer: tuple[int, dict[str, str], bytes] | None = None

    async def __call__(self) -> bytes:
        if self.stalls:
            await asyncio.Event().wait()
        self.read = sum(map(len, self.pieces))
        return b"".join(self.pieces)

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self.pieces:
            self.read += len(piece)
            yield piece

    def response_bytes(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        assert self.answer is None
        self.answer = int(status), dict(headers), body


def ask(
    calls: Calls,
    path: str,
    *pieces: bytes,
    method: str = "POST",
    content_type: str | None = "application/json",
    stalls: bool = False,
    chunked: bool = False,
    **headers: str,
) -> tuple[int, dict[str, str], bytes, int]:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    if content_type is not None:
        sent["content-type"] = content_type
    if not chunked:
        sent.setdefault("content-length", str(sum(map(len, pieces))))
    exchange = FakeExchange(list(pieces), stalls)
    asyncio.run(ConnectFront(calls).__rsgi__(FakeScope(method, path, sent), exchange))
    assert exchange.answer is not None
    return (*exchange.answer, exchange.read)


def error_code(body: bytes) -> str:
    reason = json.loads(body)["details"][0]["debug"]["reason"]
    assert isinstance(reason, str)
    return reason


def test_json(calls: Calls) -> None:
    status, headers, body, _ = ask(calls, ROOT, NONCE_JSON)
    assert (status, headers["content-type"], headers["cache-control"]) == (200, "application/json", "no-store")
    assert json.loads(body)["trustDomain"] == "example.org"


def test_protobuf(calls: Calls) -> None:
    message = pb.GetRootCertificateRequest(nonce=bytes(32)).SerializeToString()
    status, headers, body, _ = ask(calls, ROOT, message, content_type="application/proto")
    assert (status, headers["content-type"]) == (200, "application/proto")
    assert pb.GetRootCertificateResponse.FromString(body).trust_domain == "example.org"


def test_a_charset_beside_the_content_type_is_accepted(calls: Calls) -> None:
    assert ask(calls, ROOT, NONCE_JSON, content_type="Application/JSON; charset=utf-8")[0] == 200


def test_a_body_in_pieces(calls: Calls) -> None:
    assert ask(calls, ROOT, NONCE_JSON[:5], NONCE_JSON[5:], chunked=True)[0] == 200


def test_unknown_fields_are_ignored(calls: Calls) -> None:
    body = json.dumps({"tee": "sgx", "later": {"x": [1]}}).encode()
    assert ask(calls, CHALLENGE, body)[0] == 200
    message = pb.GetChallengeRequest(tee="sgx").SerializeToString() + b"\xa2\x06\x01x"
    assert ask(calls, CHALLENGE, message, content_type="application/proto")[0] == 200


@pytest.mark.parametrize(
    ("path", "status"),
    [("/", 404), (BASE, 404), (BASE + "Nothing", 404), ("/other/GetChallenge", 404), (CHALLENGE + "/", 404)],
)
def test_an_unknown_path(calls: Calls, path: str, status: int) -> None:
    got, headers, body, _ = ask(calls, path, b"{}")
    assert (got, headers["content-type"], json.loads(body)["code"]) == (status, "application/json", "unimplemented")


@pytest.mark.parametrize("method", ["GET", "PUT", "HEAD", "OPTIONS"])
def test_another_http_method(calls: Calls, method: str) -> None:
    status, headers, _, read = ask(calls, CHALLENGE, b"{}", method=method)
    assert (status, headers["allow"], read) == (405, "POST", 0)


@pytest.mark.parametrize("kind", [None, "", "text/plain", "application/grpc", "application/connect+json"])
def test_another_content_type(calls: Calls, kind: str | None) -> None:
    status, headers, _, read = ask(calls, CHALLENGE, b"{}", content_type=kind)
    assert (status, headers["accept-post"], read) == (415, "application/proto, application/json", 0)


def test_compression_is_not_spoken(calls: Calls) -> None:
    status, _, body, _ = ask(calls, CHALLENGE, b"{}", content_encoding="gzip")
    assert (status, json.loads(body)["code"]) == (501, "unimplemented")
    assert "identity" in json.loads(body)["message"]


@pytest.mark.parametrize("headers", [{"connect_protocol_version": "2"}, {"connect_timeout_ms": "soon"}])
def test_a_protocol_header_that_is_not_understood(calls: Calls, headers: dict[str, Any]) -> None:
    status, _, body, _ = ask(calls, CHALLENGE, b'{"tee":"sgx"}', **headers)
    assert (status, json.loads(body)["code"]) == (400, "invalid_argument")


def test_protocol_headers_that_are(calls: Calls) -> None:
    body = b'{"tee":"sgx"}'
    assert ask(calls, CHALLENGE, body, connect_protocol_version="1", connect_timeout_ms="5000")[0] == 200


def test_a_deadline_that_passes(calls: Calls) -> None:
    status, _, body, _ = ask(calls, CHALLENGE, b"{}", stalls=True, connect_timeout_ms="1")
    assert (status, json.loads(body)["code"]) == (504, "deadline_exceeded")


def test_a_body_that_never_ends(calls: Calls, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connect_front, "READ_SECONDS", 0.01)
    status, _, body, _ = ask(calls, CHALLENGE, b"{}", stalls=True)
    assert (status, error_code(body)) == (400, "request.malformed")


@pytest.mark.parametrize(
    ("kind", "limit"), [("application/json", JSON_MESSAGE_MAX), ("application/proto", MESSAGE_MAX)]
)
def test_a_body_over_the_bound_is_refused_before_it_is_read(calls: Calls, kind: str, limit: int) -> None:
    status, _, body, read = ask(calls, CHALLENGE, b" " * (limit + 1), content_type=kind)
    assert (status, error_code(body), read) == (400, "request.too_large", 0)
    pieces = [b" " * 65_536] * (limit // 65_536 + 10)
    status, _, body, read = ask(calls, CHALLENGE, *pieces, content_type=kind, chunked=True)
    assert (status, error_code(body)) == (400, "request.too_large")
    assert limit < read <= limit + 65_536


def test_a_length_that_no_integer_should_have(calls: Calls) -> None:
    status, _, body, _ = ask(calls, CHALLENGE, b"{}", content_length="9" * 5000)
    assert (status, error_code(body)) == (400, "request.too_large")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'"x"',
        b'{"tee": 1}',
        b'{"tee": "sgx", "tee": "sgx"}',
        b"\xff",
        b"[" * 100_000,
        b'{"ekCertificate": "a"}',
        b'{"tee": ' + b"9" * 5000 + b"}",
    ],
)
def test_json_that_is_no_message(calls: Calls, body: bytes) -> None:
    status, _, answer, _ = ask(calls, CHALLENGE, body)
    assert (status, error_code(answer)) == (400, "request.malformed")


def test_protobuf_that_is_no_message(calls: Calls) -> None:
    status, _, answer, _ = ask(calls, CHALLENGE, b"\xff\xff", content_type="application/proto")
    assert (status, error_code(answer)) == (400, "request.malformed")


@settings(deadline=None, max_examples=200, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(body=st.binary(max_size=300), kind=st.sampled_from(["application/json", "application/proto"]))
def test_any_body_gets_an_answer(calls: Calls, body: bytes, kind: str) -> None:
    status, _, answer, _ = ask(calls, BASE + "GetSignedCertificate", body, content_type=kind)
    assert status in {400, 429}
    assert error_code(answer) in {"request.malformed", "challenge.invalid", "evidence.unknown", "limits.exhausted"}


def test_health_and_readiness(calls: Calls) -> None:
    assert ask(calls, "/healthz", method="GET")[0] == 200
    assert ask(calls, "/readyz", method="GET")[0] == 200
    calls.core.serving = None
    assert ask(calls, "/healthz", method="GET")[0] == 200
    assert ask(calls, "/readyz", method="GET")[0] == 503
    assert ask(calls, "/root.pem", method="GET")[0] == 503


def test_the_root_as_plain_documents(calls: Calls, info: Any) -> None:
    _, headers, body, _ = ask(calls, "/root.pem", method="GET")
    assert headers["content-type"] == "application/pem-certificate-chain"
    assert x509.load_pem_x509_certificate(body) == x509.load_der_x509_certificate(info.roots[0])
    bundle = json.loads(ask(calls, "/root-bundle", method="GET")[2])
    assert base64.b64decode(bundle["roots"][0]) == info.roots[0]
    assert (bundle["sequence"], bundle["trust_domain"], bundle["simulated"]) == (1, "example.org", True)


@pytest.mark.parametrize("path", ["/healthz", "/root.pem"])
def test_a_plain_document_is_only_read(calls: Calls, path: str) -> None:
    assert ask(calls, path, method="POST")[0] == 405


def test_bytes_of_the_answer_are_base64_in_json(calls: Calls) -> None:
    answer = json.loads(ask(calls, CHALLENGE, b'{"tee":"sgx"}')[2])
    assert len(base64.b64decode(answer["nonce"])) == 32
    assert isinstance(answer["expiresAt"], str)  # a 64-bit number, as protobuf's JSON spells it


def test_the_deny_list_is_asked_for_once_and_again_when_it_is_another(calls: Calls, monkeypatch: Any) -> None:
    lists, core = iter([b"first", b"second"]), calls.core

    async def denied() -> bytes:
        return next(lists)

    monkeypatch.setattr(core._authority, "denied", denied)
    for _ in range(2):
        status, headers, body, _ = ask(calls, "/denied", method="GET")
        assert (status, headers["content-type"], body) == (200, "text/plain; charset=utf-8", b"first")
    assert core.serving is not None
    info = replace(core.serving.info, deny_sequence=core.serving.info.deny_sequence + 1)
    core.serving = replace(core.serving, info=info)
    assert ask(calls, "/denied", method="GET")[2] == b"second"


def test_without_the_authority_there_is_no_deny_list(calls: Calls, monkeypatch: Any) -> None:
    async def denied() -> bytes:
        raise UnavailableError(Code.AUTHORITY_UNAVAILABLE, "away")

    monkeypatch.setattr(calls.core._authority, "denied", denied)
    assert ask(calls, "/denied", method="GET")[0] == 503
    calls.core.serving = None
    assert ask(calls, "/denied", method="GET")[0] == 503
