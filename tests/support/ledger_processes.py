"""The stand-alone programs of the ledger as processes, and a web server for its files."""

import functools
import http.server
import json
import ssl
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import logs
from command_line import PROGRAM
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from logs import TestKey, TestLog

from proxy_attestation.formats.merkle import consistency_proof
from proxy_attestation.formats.signed_note import Note, Signature, Verifier, parse_note
from proxy_attestation.formats.tlog_policy import Party
from proxy_attestation.transparency.witness_client import WitnessClient, http_client


class QuietFiles(http.server.SimpleHTTPRequestHandler):
    """Serves files without a word."""

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def file_server(folder: Path) -> Iterator[str]:
    """Serve a folder over HTTP on the loopback address; yield its URL."""
    handler = functools.partial(QuietFiles, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


class WitnessProcess:
    """A witness."""

    def __init__(self, folder: Path, key: TestKey, *logs: Verifier) -> None:
        pem = folder / "witness.pem"
        pem.write_bytes(key.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
        options = [part for log in logs for part in ("--log", str(log))]
        self._command = [
            *PROGRAM, "ledger", "witness", "--state", str(folder / "seen"), "--key", str(pem), "--name",
            key.verifier.name, *options, "--json",
        ]  # fmt: skip
        self.key = key.verifier
        self.start()

    def start(self) -> None:
        """Start it, or start it again."""
        self.process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        told = json.loads(self.process.stdout.readline())
        assert told["vkey"] == str(self.key)
        self.url = f"http://127.0.0.1:{told['port']}"

    def kill(self) -> None:
        """Kill it, as a power cut does."""
        self.process.kill()
        self.process.communicate()

    def stop(self) -> tuple[int, str]:
        """End it; return its exit status and what it told its operator."""
        self.process.terminate()
        _, told = self.process.communicate(timeout=30)
        return self.process.returncode, told

    async def cosign(self, log: TestLog, size: int | None = None) -> Signature:
        """Ask for a cosignature on a log's checkpoint."""

        async def prove(old: int, new: int) -> Sequence[bytes]:
            return consistency_proof(log.node, old, new)

        async with http_client(ssl.create_default_context(), 10.0) as http:
            return await WitnessClient(Party(self.key, self.url), http).cosign(log.checkpoint(size), prove)


def publish(log: TestLog, folder: Path, *signatures: Signature) -> None:
    """Write a log's files, its checkpoint with these cosignatures."""
    log.written = 0
    log.write_tiles(folder)
    note = parse_note(log.checkpoint())
    logs.publish(folder, Note(note.text, (*note.signatures, *signatures)).encode())


class MonitorProcess:
    """A monitor that looks every second."""

    def __init__(self, location: str, state: Path, *options: str | Path) -> None:
        command = [
            *PROGRAM, "ledger", "monitor", location, "--state", str(state), "--interval", "1", "--json",
            *map(str, options),
        ]  # fmt: skip
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def next(self, event: str) -> Any:
        """Wait for the next event of a kind."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            told = json.loads(line)
            if told["event"] == event:
                return told
        raise AssertionError(self.process.communicate()[1])

    def stop(self) -> int:
        """End it; return its exit status."""
        self.process.terminate()
        self.process.communicate(timeout=30)
        return self.process.returncode
