"""TLS with a key that lives in a TPM: swtpm behind a resource manager that is as narrow as Linux's."""

import json
import os
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from swtpm_marks import needs_manager, needs_swtpm

from proxy_attestation_simulator.swtpm import Manufacturer

SERVER: Final = Path(__file__).resolve().parents[1] / "support" / "resident_server.py"
RENEWALS: Final = 120

pytestmark = [*needs_swtpm, needs_manager, pytest.mark.slow]


@dataclass
class Server:
    process: "subprocess.Popen[str]"
    root: Path
    ports: dict[str, Any]

    def renew(self) -> str:
        """Have it make a new key, return the certificate's serial number."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write("renew\n")
        self.process.stdin.flush()
        self.ports = json.loads(self.process.stdout.readline())
        return str(self.ports["serial"])

    def connect(self, protocol: str, *, curve: str | None = None, alpn: tuple[str, ...] = ()) -> ssl.SSLSocket:
        """Shake hands as any client does."""
        context = ssl.create_default_context(cafile=str(self.root))
        if curve is not None:
            context.set_ecdh_curve(curve)
        if alpn:
            context.set_alpn_protocols(list(alpn))
        plain = socket.create_connection(("127.0.0.1", self.ports[protocol]), timeout=20)
        return context.wrap_socket(plain, server_hostname="localhost")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    directory = tmp_path_factory.mktemp("tls")
    with ExitStack() as stack:
        tpm = Manufacturer(directory).make()
        stack.callback(tpm.stop)
        managed = stack.enter_context(tpm.managed())
        command = [sys.executable, str(SERVER), managed.tcti, str(directory / "root.pem")]
        process = stack.enter_context(
            subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | managed.environment,
            )
        )
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, "the server did not start"
        yield Server(process, directory / "root.pem", json.loads(line))
        process.stdin.close()  # type: ignore[union-attr] # it is a pipe
        assert process.wait(timeout=20) == 0


def serial(connection: ssl.SSLSocket) -> str:
    return f"{int(connection.getpeercert()['serialNumber'], 16):x}"  # type: ignore[index,arg-type] # it was verified


def ask(connection: ssl.SSLSocket, data: bytes) -> bytes:
    connection.sendall(data)
    return connection.recv(4096)


def test_ordinary_clients_connect(server: Server) -> None:
    url = f"https://localhost:{server.ports['http']}/"
    curl = ["curl", "--silent", "--show-error", "--fail", "--cacert", str(server.root), "--http1.1", url]
    done = subprocess.run(curl, capture_output=True, text=True, check=False, timeout=30)
    assert done.stdout.startswith("GET / HTTP/1.1"), done.stderr
    openssl = shutil.which("openssl")
    assert openssl is not None
    command = [openssl, "s_client", "-connect", f"127.0.0.1:{server.ports['grpc']}", "-alpn", "h2", "-brief"]
    command += ["-CAfile", str(server.root), "-verify_return_error", "-verify_hostname", "localhost"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30, input="")
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("protocol", "offered", "agreed"),
    [
        ("grpc", ("h2", "http/1.1"), "h2"),
        ("http", ("h2", "http/1.1"), "http/1.1"),
        ("tcp", ("h2", "http/1.1"), None),
        ("http", ("h2",), None),
        ("grpc", (), None),
    ],
)
def test_each_listener_agrees_on_its_own_protocol(
    server: Server, protocol: str, offered: tuple[str, ...], agreed: str | None
) -> None:
    # Another listener was the last one to shake hands.
    with server.connect("http" if protocol == "grpc" else "grpc", alpn=("h2", "http/1.1")):
        pass
    with server.connect(protocol, alpn=offered) as connection:
        assert (connection.version(), connection.selected_alpn_protocol()) == ("TLSv1.3", agreed)


def test_clients_that_agree_on_keys_with_a_nist_curve_connect(server: Server) -> None:
    with server.connect("http", curve="prime256v1") as connection:
        assert ask(connection, b"x").startswith(b"HTTP/1.1 200")


def test_broken_handshakes_leave_nothing_behind(server: Server) -> None:
    for _ in range(8):
        with socket.create_connection(("127.0.0.1", server.ports["http"]), timeout=20) as plain:
            plain.sendall(b"GET / HTTP/1.1\r\n\r\n")
            plain.recv(100)
    with server.connect("http") as connection:
        assert ask(connection, b"x").startswith(b"HTTP/1.1 200")


def test_no_number_of_renewals_fills_the_tpm(server: Server) -> None:
    """Connections that are still open do not keep the keys that they were made with."""
    with ExitStack() as stack:
        old: list[tuple[ssl.SSLSocket, str]] = []
        for number in range(RENEWALS):
            wanted = server.renew()
            connection = server.connect(("http", "grpc", "tcp")[number % 3])
            assert serial(connection) == wanted
            if number < 10:
                old.append((stack.enter_context(connection), wanted))
            else:
                connection.close()
        assert len({number for _, number in old}) == 10
        for connection, _ in old:
            assert ask(connection, b"still here").endswith(b"still here")
