"""Server contexts: one a credential and protocol, TLS 1.3 only, no resumption, the key never on a disk.

Each accepted connection asks for the context of that moment, so a new certificate serves new connections at once, and
open ones keep what they were made with.

A key that lives in a TPM takes its time to sign: such handshakes take their turns in a thread of their own.
"""

import asyncio
import contextlib
import os
import ssl
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from proxy_attestation.attester.openssl_key import forget_resident_key, use_resident_key
from proxy_attestation.attester.resident_key import ResidentKey
from proxy_attestation.codes import Code
from proxy_attestation.errors import UnavailableError
from proxy_attestation.loader.credential import Credential
from proxy_attestation.loader.streams import Step, in_place

OPEN_CONNECTION_GRACE: Final = timedelta(minutes=5)
"""How long a connection may outlive the certificate that it was made with."""


class Protocol(StrEnum):
    """What a listener speaks inside TLS."""

    GRPC = "grpc"
    HTTP = "http"
    TCP = "tcp"


_ALPN: Final[dict[Protocol, list[str]]] = {Protocol.GRPC: ["h2"], Protocol.HTTP: ["http/1.1"], Protocol.TCP: []}


@dataclass(frozen=True, slots=True)
class Served:
    """What one connection is made with.

    Attributes:
        context: ready for `wrap_bio(server_side=True)`.
        close_after: when the connection has to be over, UTC.
        serial: of the certificate.
        step: what the handshake is made with.
    """

    context: ssl.SSLContext
    close_after: datetime
    serial: int
    step: Step


class ServerContexts:
    """The contexts of the newest credential."""

    def __init__(self, key_directory: Path | None, clock: Callable[[], datetime]) -> None:
        """Start without a credential.

        Args:
            key_directory: a directory in memory, used only where the system has no memfd_create.
            clock: tells the time, UTC.
        """
        self._key_directory = key_directory
        self._clock = clock
        self._installed: _Installed | None = None
        self._turns = ThreadPoolExecutor(1, "tpm-handshake")

    @property
    def credential(self) -> Credential | None:
        """The newest credential, expired or not."""
        return None if self._installed is None else self._installed.credential

    def install(self, credential: Credential) -> None:
        """Serve new connections with this credential from now on.

        Raises:
            UnavailableError: `attester.unavailable`, where there is no place in memory to hand the key over, or OpenSSL
                does not take one that is in a TPM.
        """
        before, numbers = self._installed, list[int]()
        contexts = {protocol: self._context(credential, protocol, numbers) for protocol in Protocol}
        self._installed = _Installed(credential, contexts, tuple(numbers), before.numbers if before else ())
        # Handshakes that began under the credential before this one still end; those under an older one have.
        for number in before.last_numbers if before else ():
            forget_resident_key(number)

    def current(self, protocol: Protocol) -> Served | None:
        """Return what a connection accepted now is made with, or None while there is no valid certificate."""
        installed = self._installed
        if installed is None or self._clock() >= installed.credential.not_after:
            return None
        until = installed.credential.not_after + OPEN_CONNECTION_GRACE
        step = self._turn if installed.numbers else in_place
        return Served(installed.contexts[protocol], until, installed.credential.serial, step)

    async def _turn(self, tls: ssl.SSLObject) -> None:
        await asyncio.get_running_loop().run_in_executor(self._turns, tls.do_handshake)

    def _context(self, credential: Credential, protocol: Protocol, numbers: list[int]) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        # A resumed session would be a new connection under an old certificate.
        context.num_tickets = 0
        if _ALPN[protocol]:
            context.set_alpn_protocols(_ALPN[protocol])
        chain = b"".join(
            x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM) for der in credential.chain
        )
        if isinstance(credential.key, ResidentKey):
            with _memory_file(chain, self._key_directory) as path:
                numbers.append(use_resident_key(context, path, credential.key))
            return context
        key = credential.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        with _memory_file(chain + key, self._key_directory) as path:
            context.load_cert_chain(path)
        return context


@dataclass(frozen=True, slots=True)
class _Installed:
    """What new connections are made with; the numbers are those of resident keys, this one's and the last one's."""

    credential: Credential
    contexts: dict[Protocol, ssl.SSLContext]
    numbers: tuple[int, ...]
    last_numbers: tuple[int, ...]


@contextlib.contextmanager
def _memory_file(content: bytes, directory: Path | None) -> Iterator[str]:
    """Give `content` a path for as long as the block runs: OpenSSL's binding in Python reads keys from paths only."""
    try:
        descriptor = os.memfd_create("key", os.MFD_CLOEXEC)
    except (OSError, AttributeError) as error:
        if directory is None:
            raise UnavailableError(
                Code.ATTESTER_UNAVAILABLE, "no memfd_create here, and no key_directory is configured"
            ) from error
        with tempfile.NamedTemporaryFile(dir=directory) as file:
            file.write(content)
            file.flush()
            yield file.name
        return
    try:
        with os.fdopen(descriptor, "wb", closefd=False) as file:
            file.write(content)
        yield f"/proc/self/fd/{descriptor}"
    finally:
        os.close(descriptor)
