"""Vendors' services on loopback that misbehave as tests say: Intel's PCS and PCCS, AMD's KDS, built on simulators."""

import asyncio
import socket
import ssl
import threading
import urllib.parse
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Self

from proxy_attestation_simulator.intel import Vendor

NOW = datetime(2026, 11, 24, tzinfo=UTC)
VENDOR = Vendor.create(NOW, secret=bytes(32))
_REASON = {200: "OK", 302: "Found", 404: "Not Found", 429: "Too Many Requests", 500: "Internal Server Error"}


class Clock:
    """A time that stands still, but for those who sleep."""

    def __init__(self) -> None:
        self.time = NOW
        self.sleeps: list[float] = []

    def now(self) -> datetime:
        return self.time

    def monotonic(self) -> float:
        return (self.time - NOW).total_seconds()

    def advance(self, **delta: float) -> None:
        self.time += timedelta(**delta)

    async def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.time += timedelta(seconds=seconds)


class WhenStalled:
    """Ends a try as a timeout would, at the moment at which a server has stopped answering."""

    def __init__(self, service: "FakeService") -> None:
        self._service = service
        self._timeout = asyncio.timeout(None)
        self._watching: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        self._watching = asyncio.create_task(self._watch())
        return self

    async def _watch(self) -> None:
        assert await asyncio.to_thread(self._service.stalled.wait, 30)
        self._timeout.reschedule(asyncio.get_running_loop().time())

    async def __aexit__(self, *error: Any) -> None:
        assert self._watching is not None
        self._watching.cancel()
        await self._timeout.__aexit__(*error)  # raises TimeoutError in place of the cancellation


@dataclass(frozen=True)
class Reply:
    """What to answer.

    Attributes:
        status: of HTTP.
        headers: beside content-length and connection.
        body: the bytes.
        length: what content-length says; None: the truth; -1: no such header.
        stall: "headers" or "body": stop there, until the server is closed.
        raw: the whole answer, instead of all that.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    length: int | None = None
    stall: str = ""
    raw: bytes | None = None

    def head(self) -> bytes:
        length = len(self.body) if self.length is None else self.length
        headers = {"connection": "close", **({} if length < 0 else {"content-length": str(length)}), **self.headers}
        lines = [f"HTTP/1.1 {self.status} {_REASON.get(self.status, 'Status')}"]
        return "\r\n".join([*lines, *(f"{name}: {value}" for name, value in headers.items()), "", ""]).encode()


@dataclass(frozen=True)
class Request:
    """What was asked: path, query, and headers by name in lower case."""

    path: str
    query: dict[str, str]
    headers: dict[str, str]


Answer = Callable[[Request, int], Reply]
"""A request and how often its path was asked for before -> what to answer."""


class FakeService:
    """An HTTP server that answers each request as a test says, on a connection of its own."""

    def __init__(self, answer: Answer, context: ssl.SSLContext | None = None) -> None:
        self.answer = answer
        self.requests: list[Request] = []
        self.stalled = threading.Event()
        self._released = threading.Event()
        self._context = context
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    @property
    def url(self) -> str:
        return f"{'http' if self._context is None else 'https'}://127.0.0.1:{self.port}"

    def _accept(self) -> None:
        while True:
            try:
                raw, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(raw,), daemon=True)
            with self._lock:
                self._threads.append(thread)
                thread.start()

    def _serve(self, raw: socket.socket) -> None:
        raw.settimeout(30)
        # Clients that have had enough go away: what these tests are about.
        with raw, suppress(OSError):
            if self._context is None:
                self._call(raw)
            else:
                with self._context.wrap_socket(raw, server_side=True) as connection:
                    self._call(connection)

    def _call(self, connection: socket.socket) -> None:
        with connection.makefile("rb") as lines:
            line = lines.readline().split()
            if len(line) != 3:
                return
            headers: dict[str, str] = {}
            while (text := lines.readline().strip()) != b"":
                name, _, value = text.decode().partition(":")
                headers[name.lower()] = value.strip()
        target = urllib.parse.urlsplit(line[1].decode())
        request = Request(target.path, dict(urllib.parse.parse_qsl(target.query)), headers)
        with self._lock:
            number = sum(earlier.path == request.path for earlier in self.requests)
            self.requests.append(request)
        reply = self.answer(request, number)
        if reply.raw is not None:
            connection.sendall(reply.raw)
            return
        head = reply.head()
        if reply.stall == "headers":
            connection.sendall(head[: len(head) // 2])
            self._stall()
        connection.sendall(head)
        if reply.stall == "body":
            connection.sendall(reply.body[: len(reply.body) // 2])
            self._stall()
        connection.sendall(reply.body)

    def _stall(self) -> None:
        self.stalled.set()
        self._released.wait(60)
        raise OSError

    def close(self) -> None:
        self._released.set()
        # close() alone does not wake accept() on Linux.
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepting.join(30)
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()


def fixed(reply: Reply) -> Answer:
    return lambda _request, _number: reply


def in_turn(*replies: Reply) -> Answer:
    """Answer the n-th request for a path with the n-th reply, and then always with the last one."""
    return lambda _request, number: replies[min(number, len(replies) - 1)]


class IntelAnswers:
    """Intel's PCS (and a PCCS) over a simulated vendor.

    Attributes:
        options: of the vendor's collateral; by (TEE, "standard" | "early" | "number") they can differ.
        changes: by the end of a path, what makes another reply of the good one.
        vendors: by the end of a path, who answers instead of the vendor.
    """

    def __init__(self, vendor: Vendor, now: Callable[[], datetime], **options: Any) -> None:
        self.vendor = vendor
        self.now = now
        self.options: dict[str, Any] = options
        self.releases: dict[str, dict[str, Any]] = {}
        self.changes: dict[str, Callable[[Reply], Reply]] = {}
        self.vendors: dict[str, Vendor] = {}

    def change(self, path: str, **fields: Any) -> None:
        """Answer a path with fields of the reply replaced."""
        self.changes[path] = lambda reply: replace(reply, **fields)

    def __call__(self, request: Request, number: int) -> Reply:
        del number
        reply = self._good(request)
        for path, change in self.changes.items():
            if request.path.endswith(path):
                reply = change(reply)
        return reply

    def _good(self, request: Request) -> Reply:
        parts = request.path.strip("/").split("/")
        if request.path == "/IntelSGXRootCA.der":
            return Reply(body=self._pieces("sgx", request)["root_ca_crl"])
        if len(parts) < 4 or parts[1:3] != ["certification", "v4"]:
            return Reply(404)
        tee, document = parts[0], "/".join(parts[3:])
        pieces = self._pieces(tee, request)
        match document:
            case "tcb":
                return self._signed("tcb-info-issuer-chain", pieces["tcb_info_issuer_chain"], pieces["tcb_info"])
            case "qe/identity":
                name = "sgx-enclave-identity-issuer-chain"
                return self._signed(name, pieces["qe_identity_issuer_chain"], pieces["qe_identity"])
            case "pckcrl":
                return self._signed("sgx-pck-crl-issuer-chain", pieces["pck_crl_issuer_chain"], pieces["pck_crl"])
            case "rootcacrl":
                return Reply(body=pieces["root_ca_crl"].hex().encode())
        return Reply(404)

    def _pieces(self, tee: str, request: Request) -> dict[str, bytes]:
        release = request.query.get("update", "standard")
        options = {**self.options, **self.releases.get(release, {})}
        if "fmspc" in request.query and "fmspc" not in options:
            options["fmspc"] = bytes.fromhex(request.query["fmspc"])
        if "tcbEvaluationDataNumber" in request.query:
            options.setdefault("evaluation_number", int(request.query["tcbEvaluationDataNumber"]))
        if "ca" in request.query and "ca" not in options:
            options["ca"] = request.query["ca"]
        vendor = next((other for end, other in self.vendors.items() if request.path.endswith(end)), self.vendor)
        return dict(vendor.endorsements(tee, self.now(), **options))

    @staticmethod
    def _signed(header: str, chain: bytes, body: bytes) -> Reply:
        return Reply(headers={header: urllib.parse.quote(chain.decode())}, body=body)


Serve = Callable[..., FakeService]
