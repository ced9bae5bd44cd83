"""The Connect front: unary calls as HTTP POST with protobuf or JSON bodies, and the few plain documents beside them.

Connect protocol, unary (connectrpc.com/docs/protocol). Spoken over granian's RSGI, HTTP/1.1 and HTTP/2. Not spoken:
compression, GET requests, streams. What HTTP itself refuses (path, method, media type, encoding) has no code of ours;
everything else is answered through `errors_wire`.
"""

import asyncio
import base64
import json
import ssl
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final, TypeAlias

from google.protobuf import json_format

from proxy_attestation.authority.messages import AuthorityInfo
from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError, UnavailableError
from proxy_attestation.formats.bounds import JSON_MESSAGE_MAX, MESSAGE_MAX
from proxy_attestation.service.calls import READ_SECONDS, SERVICE, Calls, Method, decode_message
from proxy_attestation.service.errors_wire import WireError, connect_body, to_wire
from proxy_attestation.service.limits import RETRY_AFTER, peer_key
from proxy_attestation.service.published import CHECKPOINT_PATH

PROTO: Final = "application/proto"
JSON: Final = "application/json"
_LIMITS: Final = {PROTO: MESSAGE_MAX, JSON: JSON_MESSAGE_MAX}
_PREFIX: Final = f"/{SERVICE}/"
_TEXT: Final = "text/plain"
_DENIED: Final = "/denied"

Answer: TypeAlias = tuple[int, list[tuple[str, str]], bytes]
"""Status, headers, body."""


class ConnectFront:
    """An RSGI application over `Calls` (granian's HTTP scope and RSGIHTTPProtocol come without types).

    Attributes:
        listening: set when the server listens.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self.listening = asyncio.Event()

    def __rsgi_init__(self, loop: asyncio.AbstractEventLoop) -> None:
        """Note that the server is starting: it binds its socket before it gives the loop back."""
        loop.call_soon(self.listening.set)

    async def __rsgi__(self, scope: Any, exchange: Any) -> None:
        """Answer one HTTP request."""
        name = scope.path.removeprefix(_PREFIX)
        if scope.path in _PLAIN:
            answer = await self._plain(scope)
        elif scope.path == CHECKPOINT_PATH or scope.path.startswith("/tile/"):
            answer = self._ledger_file(scope)
        elif scope.path == name or name not in self._calls.methods:
            answer = _refuse(HTTPStatus.NOT_FOUND, "unimplemented", "no such rpc")
        else:
            answer = await self._call(name, scope, exchange)
        exchange.response_bytes(*answer)

    async def _call(self, name: str, scope: Any, exchange: Any) -> Answer:
        header = scope.headers.get
        if scope.method != "POST":
            return _refuse(HTTPStatus.METHOD_NOT_ALLOWED, "unimplemented", "use POST", ("allow", "POST"))
        kind = header("content-type", "").partition(";")[0].strip().lower()
        if kind not in _LIMITS:
            kinds = f"{PROTO}, {JSON}"
            accepted = ("accept-post", kinds)
            return _refuse(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "unknown", f"content types: {kinds}", accepted)
        if header("content-encoding", "identity") != "identity":
            return _refuse(HTTPStatus.NOT_IMPLEMENTED, "unimplemented", "supported encodings: identity")
        if header("connect-protocol-version", "1") != "1":
            return _refuse(HTTPStatus.BAD_REQUEST, "invalid_argument", "connect-protocol-version must be 1")
        timeout = header("connect-timeout-ms", "")
        if timeout and not (timeout.isascii() and timeout.isdigit() and len(timeout) <= 10):
            return _refuse(HTTPStatus.BAD_REQUEST, "invalid_argument", "connect-timeout-ms is not a number")

        async def receive(method: Method) -> Any:
            data = await _body(scope.headers, exchange, _LIMITS[kind])
            return decode_message(method, data) if kind == PROTO else _decode_json(method, data)

        try:
            async with asyncio.timeout(int(timeout) / 1000 if timeout else None):
                answer = await self._calls.run(name, "connect", peer_key(scope.client), receive)
        except TimeoutError:
            return _refuse(HTTPStatus.GATEWAY_TIMEOUT, "deadline_exceeded", "the deadline has passed")
        if isinstance(answer, WireError):
            retry = [] if answer.retry_after is None else [("retry-after", str(answer.retry_after))]
            return _answer(answer.status.http, JSON, connect_body(answer), *retry)
        if kind == PROTO:
            return _answer(HTTPStatus.OK, kind, answer.SerializeToString())
        return _answer(HTTPStatus.OK, kind, json_format.MessageToJson(answer, indent=None).encode())

    async def _plain(self, scope: Any) -> Answer:
        if scope.method not in {"GET", "HEAD"}:
            return _answer(HTTPStatus.METHOD_NOT_ALLOWED, _TEXT, b"use GET\n", ("allow", "GET, HEAD"))
        if scope.path == "/healthz":
            return _answer(HTTPStatus.OK, _TEXT, b"ok\n")
        serving = self._calls.core.serving
        if serving is None:
            return _UNAVAILABLE
        if scope.path == _DENIED:
            try:
                return _answer(HTTPStatus.OK, f"{_TEXT}; charset=utf-8", await self._calls.core.deny_list())
            except UnavailableError:
                return _UNAVAILABLE
        return _answer(HTTPStatus.OK, *_PLAIN[scope.path](serving.info))

    def _ledger_file(self, scope: Any) -> Answer:
        """Answer a file of the ledger, as C2SP tlog-tiles has them."""
        ledger = self._calls.core.ledger
        if scope.method not in {"GET", "HEAD"}:
            return _answer(HTTPStatus.METHOD_NOT_ALLOWED, _TEXT, b"use GET\n", ("allow", "GET, HEAD"))
        try:
            with self._calls.admission.admit(peer_key(scope.client)):
                found = None if ledger is None else ledger.file(scope.path)
        except UnavailableError as error:
            failure = to_wire(error, "")
            return _answer(failure.status.http, _TEXT, f"{error.code}\n".encode(), ("retry-after", str(RETRY_AFTER)))
        if found is None:
            return _answer(HTTPStatus.NOT_FOUND, _TEXT, b"not found\n")
        return _answer(HTTPStatus.OK, found.kind, found.body, cache=found.cache)


def _answer(status: int, kind: str, body: bytes, *further: tuple[str, str], cache: str = "no-store") -> Answer:
    headers = [("content-type", kind), ("cache-control", cache), ("x-content-type-options", "nosniff")]
    return status, [*headers, *further], body


_UNAVAILABLE: Final = _answer(HTTPStatus.SERVICE_UNAVAILABLE, _TEXT, b"unavailable\n")


def _refuse(status: HTTPStatus, code: str, message: str, *further: tuple[str, str]) -> Answer:
    """Answer what HTTP and the Connect protocol themselves refuse, in that protocol's words."""
    return _answer(status, JSON, json.dumps({"code": code, "message": message}).encode(), *further)


def _root_bundle(info: AuthorityInfo) -> bytes:
    ders = {"roots": info.roots, "cross": info.cross, "issuing": info.issuing}
    bundle = {
        "sequence": info.bundle_sequence,
        "trust_domain": info.trust_domain,
        "simulated": info.simulated,
        **{name: [base64.b64encode(der).decode() for der in some] for name, some in ders.items()},
    }
    return json.dumps(bundle).encode()


def _root_pem(info: AuthorityInfo) -> bytes:
    return "".join(ssl.DER_cert_to_PEM_cert(der) for der in info.roots).encode()


_PLAIN: Final[Mapping[str, Callable[[AuthorityInfo], tuple[str, bytes]]]] = {
    _DENIED: lambda _: (_TEXT, b""),
    "/healthz": lambda _: (_TEXT, b"ok\n"),
    "/readyz": lambda _: (_TEXT, b"ready\n"),
    "/root-bundle": lambda info: (JSON, _root_bundle(info)),
    "/root.pem": lambda info: ("application/pem-certificate-chain", _root_pem(info)),
}
"""The plain documents: content type and body."""


async def _body(headers: Any, exchange: Any, limit: int) -> bytes:
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
                whole: bytes = await exchange()  # the server holds the peer to the length that it declared
                return whole
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
