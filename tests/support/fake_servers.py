"""Servers over real sockets that tests tell what to present and what to answer."""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable

import h2.config
import h2.connection
import h2.events

from proxy_attestation.relying_party.proxy import PATH
from proxy_attestation.v1 import proxy_attestation_pb2 as v1

REPLY = b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nconnection: close\r\n\r\nhello"


class CountingServer:
    """A TLS server that counts the bytes of the application, and answers HTTP/1.1 or HTTP/2 with `hello`."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._lock = threading.Lock()
        self.port: int = self._listener.getsockname()[1]
        self.received = b""
        self.connections = 0
        self.resumed = 0
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def use(self, context: ssl.SSLContext) -> None:
        """Present another certificate to connections that come from now on."""
        self._context = context

    def _accept(self) -> None:
        while True:
            try:
                raw, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._serve, args=(raw, self._context), daemon=True)
            with self._lock:
                self.connections += 1
                self._threads.append(thread)
                thread.start()

    def _serve(self, raw: socket.socket, context: ssl.SSLContext) -> None:
        raw.settimeout(30)
        with raw:
            try:
                with context.wrap_socket(raw, server_side=True) as connection:
                    with self._lock:
                        self.resumed += bool(connection.session_reused)
                    if connection.selected_alpn_protocol() == "h2":
                        self._serve_h2(connection)
                    else:
                        self._serve_h1(connection)
            except OSError:
                # The client refused us and went away: what these tests are about.
                return

    def _count(self, data: bytes) -> bytes:
        with self._lock:
            self.received += data
        return data

    def _serve_h1(self, connection: ssl.SSLSocket) -> None:
        request = b""
        while data := self._count(connection.recv(65536)):
            request += data
            if b"\r\n\r\n" in request:
                connection.sendall(REPLY)
                return
        # Only the answer to an orderly end: after any other this fails, and nobody waits for it.
        with contextlib.suppress(OSError):
            connection.unwrap()

    def _serve_h2(self, connection: ssl.SSLSocket) -> None:
        state = h2.connection.H2Connection(h2.config.H2Configuration(client_side=False))
        state.initiate_connection()
        connection.sendall(state.data_to_send())
        while data := self._count(connection.recv(65536)):
            for event in state.receive_data(data):
                if isinstance(event, h2.events.RequestReceived):
                    assert event.stream_id is not None
                    state.send_headers(event.stream_id, [(":status", "200"), ("content-length", "5")])
                    state.send_data(event.stream_id, b"hello", end_stream=True)
            connection.sendall(state.data_to_send())

    def finish(self) -> None:
        """Wait until every connection has ended, so that `received` is final."""
        with self._lock:
            threads = list(self._threads)
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()

    def close(self) -> None:
        # close() alone does not wake accept() on Linux.
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._accepting.join(30)


Answer = Callable[[int, v1.GetRootCertificateRequest], tuple[int, dict[str, str], bytes]]


def always(response: v1.GetRootCertificateResponse) -> Answer:
    return lambda _number, _request: (200, {"content-type": "application/proto"}, response.SerializeToString())


class FakeFront:
    """A Connect front that answers each call as a test says: call number and request in; status, headers, body out."""

    def __init__(self, contexts: list[ssl.SSLContext], answer: Answer) -> None:
        self._contexts = contexts
        self._answer = answer
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        self.port: int = self._listener.getsockname()[1]
        self.requests: list[v1.GetRootCertificateRequest] = []

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    def _serve(self) -> None:
        for number in range(100):
            try:
                raw, _ = self._listener.accept()
            except OSError:
                return
            raw.settimeout(30)
            context = self._contexts[min(number, len(self._contexts) - 1)]
            with raw:
                try:
                    with context.wrap_socket(raw, server_side=True) as connection:
                        self._call(connection, number)
                except OSError:
                    continue

    def _call(self, connection: ssl.SSLSocket, number: int) -> None:
        with connection.makefile("rb") as lines:
            method, path, _ = lines.readline().split()
            headers: dict[str, str] = {}
            while (line := lines.readline().strip()) != b"":
                name, _, value = line.decode().partition(":")
                headers[name.lower()] = value.strip()
            body = lines.read(int(headers.get("content-length", "0")))
        if method != b"POST" or path.decode() != PATH or headers["content-type"] != "application/proto":
            connection.sendall(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
            return
        request = v1.GetRootCertificateRequest.FromString(body)
        self.requests.append(request)
        status, more, reply = self._answer(number, request)
        head = {"content-length": str(len(reply)), "connection": "close"} | more
        text = f"HTTP/1.1 {status} Status\r\n" + "".join(f"{name}: {value}\r\n" for name, value in head.items())
        connection.sendall(text.encode() + b"\r\n" + reply)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(30)
        assert not self._thread.is_alive()


Serve = Callable[..., CountingServer]
StartFront = Callable[..., FakeFront]
