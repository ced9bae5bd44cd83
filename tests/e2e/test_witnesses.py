"""Witnesses beside a real proxy: no certificate without enough of them, and none is lost while they are away."""

import contextlib
import json
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from workload import Client, Workload, new_key, request_for

from proxy_attestation.codes import Code
from proxy_attestation.errors import UnavailableError
from proxy_attestation.formats.checkpoint import open_checkpoint
from proxy_attestation.formats.merkle import leaf_hash
from proxy_attestation.formats.signed_note import KeyType, Verifier, parse_vkey
from proxy_attestation.formats.tiles import decode_entries
from proxy_attestation.formats.tlog_proof import parse_tlog_proof, verify_tlog_proof
from proxy_attestation.v1 import proxy_attestation_pb2 as pb
from proxy_attestation_simulator.harness import RunningProxy, make_proxy

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


@dataclass
class WitnessProcess:
    """`ledger witness`, which can be stopped and goes on where it was."""

    directory: Path
    name: str
    log: str
    command: tuple[str, ...]
    port: int = 0
    process: "subprocess.Popen[bytes] | None" = None
    verifier: Verifier = field(init=False)

    def __post_init__(self) -> None:
        self.directory.mkdir()
        key = Ed25519PrivateKey.generate()
        pem = self.directory / "witness.pem"
        pem.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        pem.chmod(0o600)
        self.verifier = Verifier(self.name, KeyType.COSIGNATURE, key.public_key().public_bytes_raw())

    def start(self) -> None:
        options = ["--state", str(self.directory / "seen"), "--key", str(self.directory / "witness.pem")]
        options += ["--name", self.name, "--log", self.log, "--listen", f"127.0.0.1:{self.port}", "--json"]
        self.process = subprocess.Popen([*self.command, "ledger", "witness", *options], stdout=subprocess.PIPE)
        assert self.process.stdout is not None
        told: dict[str, Any] = json.loads(self.process.stdout.readline())
        assert told["vkey"] == str(self.verifier)
        self.port = told["port"]

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(30)
        if self.process is not None and self.process.stdout is not None:
            self.process.stdout.close()


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[RunningProxy]:
    made = make_proxy(tmp_path, arguments=("--peer-rate", "10000"))
    yield made
    if made.process is not None:
        made.stop()


@pytest.fixture
def witnesses(tmp_path: Path, proxy: RunningProxy) -> Iterator[list[WitnessProcess]]:
    told = subprocess.run(
        [*proxy.command, "status", str(proxy.state), "--json"], capture_output=True, check=True, text=True
    )
    log = json.loads(told.stdout)["ledger_key"]
    found = [WitnessProcess(tmp_path / name, f"{name}.example.org", log, tuple(proxy.command)) for name in ("w1", "w2")]
    with contextlib.ExitStack() as stack:
        for witness in found:
            stack.callback(witness.stop)
            witness.start()
        yield found


def configure(proxy: RunningProxy, witnesses: list[WitnessProcess], quorum: int) -> None:
    text = f"witness_quorum = {quorum}\n"
    for witness in witnesses:
        text += f'[[witness]]\nvkey = "{witness.verifier}"\nurl = "http://127.0.0.1:{witness.port}"\n'
    (proxy.state / "serve.toml").write_text(text)


def entry_at(client: Client, index: int) -> bytes:
    """The entry, out of the public files."""
    note = client.http.get("/checkpoint").raise_for_status().content
    size = int(note.split(b"\n")[1])
    number, width = index // 256, min(256, size - index // 256 * 256)
    partial = "" if width == 256 else f".p/{width}"
    data = client.http.get(f"/tile/entries/{number:03}{partial}").raise_for_status().content
    return decode_entries(data, width)[index % 256]


def until_cosigned(client: Client, message: pb.GetSignedCertificateRequest) -> pb.GetSignedCertificateResponse:
    """Repeat a call as long as witnesses are what it lacks; each takes up to two seconds."""
    for _ in range(20):
        try:
            return client.sign(message)
        except UnavailableError as error:
            if error.code is not Code.LEDGER_WITNESS:
                raise
    raise AssertionError("no cosignatures in 20 tries")


def test_no_certificate_without_two_witnesses_and_none_is_lost(
    proxy: RunningProxy, witnesses: list[WitnessProcess]
) -> None:
    configure(proxy, witnesses, 2)
    proxy.start()
    client = Client.connect(proxy.connect, proxy.root_pin)
    workload = Workload(proxy.vendor.platform("sgx"))
    log = parse_vkey(witnesses[0].log)
    keys = {witness.verifier for witness in witnesses}

    def check(answer: pb.GetSignedCertificateResponse) -> None:
        proof = parse_tlog_proof(answer.ledger_proof)
        assert proof.index == answer.ledger_index
        verify_tlog_proof(proof, leaf_hash(entry_at(client, proof.index)), log)
        assert open_checkpoint(proof.checkpoint, log, keys)[2] == keys

    check(until_cosigned(client, workload.message(client.challenge(), request_for(), new_key())))
    witnesses[1].stop()
    message = workload.message(client.challenge(), request_for(), new_key())
    with pytest.raises(UnavailableError) as caught:
        client.sign(message)
    assert caught.value.code is Code.LEDGER_WITNESS
    published = client.http.get("/checkpoint").raise_for_status().content
    assert open_checkpoint(published, log, keys)[2] == keys, "nothing is published that they have not cosigned"
    with pytest.raises(httpx.HTTPStatusError):
        size = int(published.split(b"\n")[1])
        client.http.get(f"/tile/entries/000.p/{size + 1}").raise_for_status()
    witnesses[1].start()
    answer = until_cosigned(client, message)
    check(answer)
    again = client.sign(message)
    assert (again.chain, again.ledger_index) == (answer.chain, answer.ledger_index)
    client.close()
    assert proxy.stop() == 0


def test_more_cosignatures_than_witnesses_refuse_the_start(
    proxy: RunningProxy, witnesses: list[WitnessProcess]
) -> None:
    configure(proxy, witnesses, 3)
    done = subprocess.run([*proxy.command, "serve", str(proxy.state)], capture_output=True, check=False)
    assert done.returncode == 4
