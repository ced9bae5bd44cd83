"""The Connect front: unary calls as HTTP POST with protobuf or JSON bodies, and the few plain documents beside them.

Connect protocol, unary (connectrpc.com/docs/protocol). Spoken over granian's RSGI, HTTP/1.1 and HTTP/2. Not spoken:
compression, GET requests, streams. What HTTP itself refuses (path, method, media type, encoding) has no code of ours;
everything else is answered through `errors_wire`.
"""

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from typing import Any, Final, Protocol

from google.protobuf import json_format
from google.protobuf.message import Message

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError
from proxy_attestation.formats.bounds import JSON_MESSAGE_MAX, MESSAGE_MAX
from proxy_attestation.service.calls import READ_SECONDS, SERVICE, Calls, Method, decode_message
from proxy_attestation.service.core import Serving
from proxy_attestation.service.errors_wire import WireError, connect_body
from proxy_attestation.service.limits import peer_key

PROTO: Final = "application/proto"
JSON: Final = "application/json"
_LIMITS: Final = {PROTO: MESSAGE_MAX, JSON: JSON_MESSAGE_MAX}
_PREFIX: Final = f"/{SERVICE}/"
_PLAIN: Final = {"/healthz", "/readyz", "/root-bundle", "/root.pem"}

Headers = list[tuple[str, str]]


class Scope(Protocol):
    """What RSGI says of a request (granian's HTTP scope)."""

    client: str
    method: str
    path: str

    @property
    def headers(self) -> Any:
        """Header names in lower case; `get(name, default)`."""


class Exchange(Protocol):
    """One request and its answer (granian's RSGIHTTPProtocol)."""

    async def __call__(self) -> bytes:
        """Return the whole body."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        """Iterate over the body."""

    def response_bytes(self, status: int, headers: Headers, body: bytes) -> None:
        """Answer."""


class ConnectFront:
    """An RSGI application over `Calls`."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self.listening = asyncio.Event()

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Note that the server is starting: it binds its socket before it gives the loop back."""
        loop.call_soon(self.listening.set)

    async def __rsgi__(self, scope: Scope, exchange: Exchange) -> None:
        """Answer one HTTP request."""
        name = scope.path.removeprefix(_PREFIX)
        if scope.path in _PLAIN:
            _respond(exchange, *self._plain(scope))
        elif scope.path == name or name not in self._calls.methods:
            _respond(exchange, *_protocol_error(HTTPStatus.NOT_FOUND, "unimplemented", "no such rpc"))
        else:
            _respond(exchange, *await self._call(name, scope, exchange))

    async def _call(self, name: str, scope: Scope, exchange: Exchange) -> tuple[int, Headers, bytes]:
        if scope.method != "POST":
            status, headers, body = _protocol_error(HTTPStatus.METHOD_NOT_ALLOWED, "unimplemented", "use POST")
            return status, [*headers, ("allow", "POST")], body
        kind = scope.headers.get("content-type", "").partition(";")[0].strip().lower()
        if kind not in _LIMITS:
            text = f"content types: {PROTO}, {JSON}"
            status, headers, body = _protocol_error(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unknown", text)
            return status, [*headers, ("accept-post", f"{PROTO}, {JSON}")], body
        if scope.headers.get("content-encoding", "identity") != "identity":
            return _protocol_error(HTTPStatus.NOT_IMPLEMENTED, "unimplemented", "supported encodings: identity")
        if scope.headers.get("connect-protocol-version", "1") != "1":
            return _protocol_error(HTTPStatus.BAD_REQUEST, "invalid_argument", "connect-protocol-version must be 1")
        timeout = scope.headers.get("connect-timeout-ms", "")
        if timeout and not (timeout.isascii() and timeout.isdigit() and len(timeout) <= 10):
            return _protocol_error(HTTPStatus.BAD_REQUEST, "invalid_argument", "connect-timeout-ms is not a number")

        async def receive(method: Method) -> Any:
            data = await _body(scope.headers, exchange, _LIMITS[kind])
            return decode_message(method, data) if kind == PROTO else _decode_json(method, data)

        try:
            async with asyncio.timeout(int(timeout) / 1000 if timeout else None):
                answer = await self._calls.run(name, "connect", peer_key(scope.client), receive)
        except TimeoutError:
            return _protocol_error(HTTPStatus.GATEWAY_TIMEOUT, "deadline_exceeded", "the deadline has passed")
        if isinstance(answer, WireError):
            return error_response(answer)
        return HTTPStatus.OK, _headers(kind), _encode(answer, kind)

    def _plain(self, scope: Scope) -> tuple[int, Headers, bytes]:
        if scope.method not in {"GET", "HEAD"}:
            return HTTPStatus.METHOD_NOT_ALLOWED, [*_headers("text/plain"), ("allow", "GET, HEAD")], b"use GET\n"
        serving = self._calls.core.serving
        if scope.path == "/healthz":
            return HTTPStatus.OK, _headers("text/plain"), b"ok\n"
        if serving is None:
            return HTTPStatus.SERVICE_UNAVAILABLE, _headers("text/plain"), b"unavailable\n"
        if scope.path == "/readyz":
            return HTTPStatus.OK, _headers("text/plain"), b"ready\n"
        if scope.path == "/root.pem":
            return HTTPStatus.OK, _headers("application/pem-certificate-chain"), _pem(serving.info.roots)
        return HTTPStatus.OK, _headers(JSON), _root_bundle(serving)


def error_response(error: WireError) -> tuple[int, Headers, bytes]:
    """Return an error of ours as HTTP."""
    headers = _headers(JSON)
    if error.retry_after is not None:
        headers.append(("retry-after", str(error.retry_after)))
    return error.status.http, headers, connect_body(error)


def _respond(exchange: Exchange, status: int, headers: Headers, body: bytes) -> None:
    exchange.response_bytes(status, headers, body)


def _headers(content_type: str) -> Headers:
    return [("content-type", content_type), ("cache-control", "no-store"), ("x-content-type-options", "nosniff")]


def _protocol_error(status: HTTPStatus, code: str, message: str) -> tuple[int, Headers, bytes]:
    return status, _headers(JSON), json.dumps({"code": code, "message": message}).encode()


async def _body(headers: Any, exchange: Exchange, limit: int) -> bytes:
    """Read a body of at most `limit` bytes.

    Raises:
        FormatError: `request.too_large`, as soon as that is known; `request.malformed`, for a peer that is too slow.
    """
    declared = headers.get("content-length", "")
    try:
        async with asyncio.timeout(READ_SECONDS):
            if declared.isascii() and declared.isdigit():
                if len(declared) > 10 or int(declared) > limit:
                    raise FormatError(Code.REQUEST_TOO_LARGE, f"a body of more than {limit} bytes")
                return await exchange()  # the server holds the peer to the length that it declared
            pieces = bytearray()
            async for piece in exchange:
                pieces += piece
                if len(pieces) > limit:
                    raise FormatError(Code.REQUEST_TOO_LARGE, f"a body of more than {limit} bytes")
            return bytes(pieces)
    except TimeoutError as error:
        raise FormatError(Code.REQUEST_MALFORMED, f"the body took longer than {READ_SECONDS} s") from error


def _decode_json(method: Method, data: bytes) -> Any:
    """Decode a request message from JSON; unknown fields are ignored, as the Connect protocol asks.

    Raises:
        FormatError: `request.malformed`.
    """
    if data.lstrip()[:1] != b"{":  # an empty list would pass for an empty message
        raise FormatError(Code.REQUEST_MALFORMED, "not a JSON object")
    try:
        return json_format.Parse(data.decode("utf-8"), method.request(), ignore_unknown_fields=True)
    except (json_format.ParseError, ValueError, TypeError, RecursionError) as error:
        raise FormatError(Code.REQUEST_MALFORMED, "not a JSON message of this rpc") from error


def _encode(message: Message, kind: str) -> bytes:
    if kind == PROTO:
        return message.SerializeToString()
    return json_format.MessageToJson(message, indent=None).encode()


def _pem(certificates: tuple[bytes, ...]) -> bytes:
    lines: list[bytes] = []
    for der in certificates:
        body = base64.encodebytes(der).replace(b"\n", b"")
        rows = [body[at : at + 64] for at in range(0, len(body), 64)]
        lines += [b"-----BEGIN CERTIFICATE-----", *rows, b"-----END CERTIFICATE-----", b""]
    return b"\n".join(lines)


def _root_bundle(serving: Serving) -> bytes:
    info = serving.info
    bundle: Mapping[str, object] = {
        "sequence": info.bundle_sequence,
        "trust_domain": info.trust_domain,
        "simulated": info.simulated,
        "roots": [base64.b64encode(der).decode() for der in info.roots],
        "issuing": [base64.b64encode(der).decode() for der in info.issuing],
    }
    return json.dumps(bundle).encode()
