"""Three clients of the attested application: curl and grpcio with the root alone, and one that checks claims."""

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from world import APP_NAME, World

from proxy_attestation.relying_party.context import AttestedContext
from proxy_attestation.relying_party.expectation_file import load_expectation
from proxy_attestation.relying_party.grpc_channel import attested_channel

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "example_application"))
import example_pb2
import example_pb2_grpc

TIMEOUT = 20


def curl(world: World) -> str:
    """Call the application's HTTP side with curl, which knows nothing but the root."""
    port = world.http_address.rsplit(":", 1)[1]
    resolve = f"{APP_NAME}:{port}:127.0.0.1"
    command = ["curl", "-sS", "--fail", "--cacert", str(world.root_pem), "--resolve", resolve]
    done = subprocess.run(
        [*command, f"https://{APP_NAME}:{port}/"], capture_output=True, text=True, check=True, timeout=TIMEOUT
    )
    return done.stdout.strip()


def _message(channel: grpc.Channel) -> str:
    stub: Any = example_pb2_grpc.ExampleApplicationStub(channel)  # type: ignore[no-untyped-call] # generated
    answer = stub.GetExampleMessage(example_pb2.GetExampleMessageRequest(), timeout=TIMEOUT)
    return str(answer.message)


def _plain_channel(world: World) -> grpc.Channel:
    credentials = grpc.ssl_channel_credentials(root_certificates=world.root_pem.read_bytes())
    options = [("grpc.ssl_target_name_override", APP_NAME)]
    return grpc.secure_channel(world.app_grpc_address, credentials, options=options)


def plain_grpc(world: World) -> str:
    """Call the application with grpcio, which knows nothing but the root."""
    with _plain_channel(world) as channel:
        return _message(channel)


def _context(world: World) -> AttestedContext:
    root = x509.load_pem_x509_certificate(world.root_pem.read_bytes())
    return AttestedContext(load_expectation(world.expectation), [root.public_bytes(Encoding.DER)], server_name=APP_NAME)


def attested_grpc(world: World) -> str:
    """Call the application over a channel that checks the claims before the first byte."""
    with attested_channel(world.app_grpc_address, _context(world)) as channel:
        return _message(channel)


def renew_under_connection(world: World) -> tuple[int, int, int]:
    """Renew while one channel keeps calling; return the serial before and after, and how many calls were answered."""
    before = serial(world)
    stop = threading.Event()
    calls = 0
    failures: list[grpc.RpcError] = []

    def keep_calling(channel: grpc.Channel) -> None:
        nonlocal calls
        while not stop.is_set():
            try:
                _message(channel)
            except grpc.RpcError as error:
                failures.append(error)
                return
            calls += 1

    with _plain_channel(world) as channel:
        _message(channel)
        caller = threading.Thread(target=keep_calling, args=(channel,))
        caller.start()
        world.run("load", "renew", "--now", str(world.app))
        stop.set()
        caller.join(TIMEOUT)
    if failures:
        raise SystemExit(f"error: a call failed during the renewal: {failures[0]}")
    return before, serial(world), calls


def serial(world: World) -> int:
    """Return the serial number of the certificate that a new connection is shown."""
    report = subprocess.run(
        ["openssl", "s_client", "-connect", world.http_address, "-servername", APP_NAME],
        input=b"", capture_output=True, check=False, timeout=TIMEOUT,
    )  # fmt: skip
    return x509.load_pem_x509_certificate(report.stdout).serial_number
