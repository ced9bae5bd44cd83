"""The supervisor's small parts: reserved ports, the admin address, TLS files, metrics, the log's format."""

import asyncio
import json
import logging
import socket
import stat
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from proxy_attestation import log
from proxy_attestation.authority.private_files import write_private
from proxy_attestation.errors import UsageError
from proxy_attestation.formats.csr import load_subject_key
from proxy_attestation.service import sockets
from proxy_attestation.service.admin import Admin
from proxy_attestation.service.config import Address
from proxy_attestation.service.metrics import exposition
from proxy_attestation.service.sockets import reserve
from proxy_attestation.service.tls import new_tls_files, remove_old

LOOPBACK = Address("127.0.0.1", 0)


def test_a_reserved_port_takes_no_connections_and_lets_workers_listen() -> None:
    reservation = reserve(LOOPBACK)
    host, port = reservation.address.host, reservation.address.port
    with reservation.placeholder:
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection((host, port), timeout=5)
        workers = [socket.socket(), socket.socket()]
        for worker in workers:
            worker.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
            worker.bind((host, port))
            worker.listen()
        for _ in range(20):
            socket.create_connection((host, port), timeout=5).close()
        for worker in workers:
            worker.close()


def test_a_port_that_somebody_else_has_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sockets, "_FREE_SECONDS", 0.0)
    with socket.socket() as other:
        other.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        other.bind(("127.0.0.1", 0))
        other.listen()
        with pytest.raises(UsageError):
            reserve(Address("127.0.0.1", other.getsockname()[1]))


def test_a_port_that_becomes_free_is_waited_for() -> None:
    other = socket.socket()
    other.bind(("127.0.0.1", 0))
    other.listen()
    timer = threading.Timer(0.1, other.close)
    timer.start()
    reservation = reserve(Address("127.0.0.1", other.getsockname()[1]))
    reservation.placeholder.close()
    timer.join()


def test_an_address_of_another_machine_is_told() -> None:
    with pytest.raises(UsageError):
        reserve(Address("192.0.2.1", 0))


def ask(port: int, path: str, method: str = "GET") -> tuple[int, bytes]:
    try:
        with urlopen(Request(f"http://127.0.0.1:{port}{path}", method=method), timeout=10) as answer:
            return answer.status, answer.read()
    except HTTPError as error:
        with error:
            return error.code, error.read()


def test_the_admin_address(tmp_path: Path) -> None:
    healthy = True

    async def main() -> None:
        nonlocal healthy
        admin = Admin(tmp_path, lambda: healthy)
        port = await admin.start(LOOPBACK)
        assert await asyncio.to_thread(ask, port, "/healthz") == (200, b"ok\n")
        healthy = False
        assert (await asyncio.to_thread(ask, port, "/healthz"))[0] == 503
        assert await asyncio.to_thread(ask, port, "/metrics") == (200, b"")
        assert (await asyncio.to_thread(ask, port, "/"))[0] == 404
        assert (await asyncio.to_thread(ask, port, "/metrics", "POST"))[0] == 405
        for junk in (b"\r\n\r\n", b"\xff" * 20_000, b""):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(junk)
            writer.write_eof()
            assert b"200" not in await reader.read()
            writer.close()
        with pytest.raises(UsageError):
            await Admin(tmp_path, lambda: True).start(Address("127.0.0.1", port))
        await admin.stop()

    asyncio.run(main())


def test_tls_files_are_private_and_whole(tmp_path: Path) -> None:
    asked: list[bytes] = []
    start = datetime.now(UTC).replace(microsecond=0)

    async def leaf(spki: bytes) -> tuple[bytes, ...]:
        asked.append(spki)
        name = x509.Name([])
        builder = x509.CertificateBuilder(name, name, load_subject_key(spki), 1, start, start + timedelta(hours=24))
        certificate = builder.sign(ec.generate_private_key(ec.SECP256R1()), hashes.SHA256())
        return (certificate.public_bytes(Encoding.DER),)

    files = asyncio.run(new_tls_files(tmp_path, 7, leaf))
    assert files.renew_at == start + timedelta(hours=16)
    key = load_pem_private_key(files.key.read_bytes(), None)
    certificate = x509.load_pem_x509_certificate(files.chain.read_bytes())
    assert key.public_key() == certificate.public_key()
    assert b"BEGIN PRIVATE KEY" in files.key.read_bytes()
    assert stat.S_IMODE(files.key.stat().st_mode) == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tls-7.key", "tls-7.pem"]
    asyncio.run(new_tls_files(tmp_path, 8, leaf))
    assert asked[0] != asked[1]
    files.remove()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tls-8.key", "tls-8.pem"]
    remove_old(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_private_file_is_replaced_as_a_whole(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before")
    path.chmod(0o644)
    write_private(path, b"after")
    assert (path.read_bytes(), stat.S_IMODE(path.stat().st_mode)) == (b"after", 0o600)
    assert [found.name for found in tmp_path.iterdir()] == ["file"]


COUNT = """
import sys
from pathlib import Path
from proxy_attestation.service.metrics import PrometheusMetrics
metrics = PrometheusMetrics(Path(sys.argv[1]), int(sys.argv[2]))
metrics.called("GetChallenge", "grpc", "ok", 0.003)
metrics.issued("sgx", "example-app")
metrics.in_flight(2)
metrics.collateral("sgx", 1000.0, 2000.0, 1)
"""


def test_metrics_are_summed_over_workers_and_restarts(tmp_path: Path) -> None:
    for slot in ("0", "1", "0"):
        subprocess.run([sys.executable, "-c", COUNT, str(tmp_path), slot], check=True, timeout=60)
    text = exposition(tmp_path).decode()
    assert 'proxy_attestation_calls_total{code="ok",front="grpc",rpc="GetChallenge"} 3.0' in text
    assert 'proxy_attestation_certificates_total{tee="sgx",workload="example-app"} 3.0' in text
    assert 'proxy_attestation_call_seconds_count{rpc="GetChallenge"} 3.0' in text
    assert 'proxy_attestation_collateral_valid_until_timestamp_seconds{tee="sgx"} 2000.0' in text
    assert "proxy_attestation_calls_in_flight 4.0" in text
    assert len(list(tmp_path.iterdir())) == 8  # four kinds of file for each of two slots


def test_a_log_line_is_one_json_object() -> None:
    record = logging.LogRecord("x", logging.INFO, "f", 1, "an\nevent", None, None)
    record.fields = {"code": "sgx.debug", "path": Path("/x")}
    line = log.JsonFormatter("worker").format(record)
    assert "\n" not in line
    decoded = json.loads(line)
    assert (decoded["event"], decoded["process"], decoded["code"]) == ("an\nevent", "worker", "sgx.debug")
    assert datetime.fromisoformat(decoded["time"]).tzinfo is not None
