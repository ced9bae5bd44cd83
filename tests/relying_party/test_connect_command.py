"""`connect` as a process, between real sockets."""

import json
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from command_line import GOOD, PROGRAM, UNAVAILABLE, USAGE, call, call_json
from fake_servers import Serve
from mini_authority import MiniAuthority

pytestmark = pytest.mark.e2e

HOST = "127.0.0.1"
REQUEST = b"GET / HTTP/1.1\r\nhost: app.example.org\r\n\r\n"
Options = tuple[str | Path, ...]


class Connect:
    """A running `connect --json`."""

    def __init__(self, *arguments: str | Path) -> None:
        self._process = subprocess.Popen(
            [*PROGRAM, "connect", *map(str, arguments), "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        self.first = self.read()
        self.port: int = self.first["port"]

    def read(self) -> Any:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def ask(self) -> bytes:
        with socket.create_connection((HOST, self.port), 30) as connection:
            connection.sendall(REQUEST)
            try:
                return b"".join(iter(lambda: connection.recv(65536), b""))
            except ConnectionResetError:
                return b""

    def end(self, number: signal.Signals = signal.SIGTERM) -> tuple[int, bytes, bytes]:
        if self._process.poll() is None:
            self._process.send_signal(number)
        out, errors = self._process.communicate(timeout=30)
        return self._process.returncode, out, errors


StartConnect = Callable[..., Connect]


@pytest.fixture
def connect() -> Iterator[StartConnect]:
    running: list[Connect] = []

    def start(*arguments: str | Path) -> Connect:
        running.append(Connect(*arguments))
        return running[-1]

    yield start
    for process in running:
        process.end()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_connect_forwards_and_ends(
    number: signal.Signals,
    authority: MiniAuthority,
    serve: Serve,
    options: Options,
    connect: StartConnect,
) -> None:
    server = serve(authority.leaf())
    running = connect(f"{HOST}:{server.port}", *options)
    assert running.first["listen"] == HOST
    for _ in range(2):
        assert running.ask().endswith(b"hello")
    with socket.create_connection((HOST, running.port), 30):
        # An open connection does not keep it.
        assert running.end(number) == (GOOD, b"", b"")
    server.finish()
    assert server.received == REQUEST * 2


def test_connect_refuses_each_connection_and_says_so_once(
    authority: MiniAuthority, serve: Serve, options: Options, connect: StartConnect
) -> None:
    server = serve(authority.leaf(claims={"debug": True}))
    running = connect(f"{HOST}:{server.port}", *options)
    for _ in range(3):
        assert running.ask() == b""
    refused = running.read()["refused"]
    assert refused["code"] == "peer.claims_mismatch"
    assert [m["code"] for m in refused["mismatches"]] == ["sgx.debug"]
    assert running.end() == (GOOD, b"", b"")
    server.finish()
    assert server.connections == 3
    assert server.received == b""


def test_connect_recovers_when_the_server_does(
    authority: MiniAuthority,
    serve: Serve,
    options: Options,
    connect: StartConnect,
    tmp_path: Path,
) -> None:
    server = serve(authority.leaf(without_claims=True))
    running = connect(f"{HOST}:{server.port}", *options)
    assert running.ask() == b""
    assert running.read()["refused"]["code"] == "peer.claims_missing"
    server.use(authority.leaf().server_context(tmp_path))
    assert running.ask().endswith(b"hello")


def test_connect_offers_alpn(authority: MiniAuthority, serve: Serve, options: Options, connect: StartConnect) -> None:
    server = serve(authority.leaf(), alpn=("h2",))
    more = (*options, "--alpn", "h2")
    running = connect(f"{HOST}:{server.port}", *more)
    with socket.create_connection((HOST, running.port), 30) as connection:
        # An HTTP/2 server speaks first: a SETTINGS frame (RFC 9113 section 6.5, type 4).
        assert connection.recv(9)[3] == 4


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "192.0.2.1:0", "example.org:0", "127.0.0.1", "127.0.0.1:x"])
def test_connect_listens_on_loopback_only(listen: str, options: Options) -> None:
    more = (*options, "--listen", listen)
    answer = call_json("connect", f"{HOST}:1", *more, status=USAGE)
    assert answer["error"]["code"] == "usage"


def test_connect_listens_where_it_is_told(
    authority: MiniAuthority, serve: Serve, options: Options, connect: StartConnect
) -> None:
    server = serve(authority.leaf())
    running = connect(f"{HOST}:{server.port}", *options, "--listen", "localhost:0")
    assert running.first["listen"] == HOST
    answer = call_json(
        "connect", f"{HOST}:{server.port}", *options, "--listen", f"{HOST}:{running.port}", status=UNAVAILABLE
    )
    assert answer["error"]["code"] == "peer.unreachable"


@pytest.mark.parametrize("extra", [("--alpn", ""), ("--alpn", "x" * 256)])
def test_connect_refuses_impossible_alpn(extra: tuple[str, str], options: Options) -> None:
    call("connect", f"{HOST}:1", *options, *extra, status=USAGE)


def test_connect_prints_text(authority: MiniAuthority, serve: Serve, options: Options) -> None:
    server = serve(authority.leaf(without_claims=True))
    process = subprocess.Popen(
        [*PROGRAM, "connect", f"{HOST}:{server.port}", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    port = int(process.stdout.readline().removeprefix(f"listening on {HOST}:"))
    with socket.create_connection((HOST, port), 30) as connection:
        assert connection.recv(1) == b""
    process.terminate()
    _, errors = process.communicate(timeout=30)
    assert process.returncode == GOOD
    assert "peer.claims_missing" in errors
