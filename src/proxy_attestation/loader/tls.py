"""Server contexts: one a credential and protocol, TLS 1.3 only, no resumption, the key never on a disk.

Each accepted connection asks for the context of that moment, so a new certificate serves new connections at once, and
open ones keep what they were made with.
"""

import contextlib
import os
import ssl
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization

from proxy_attestation.codes import Code
from proxy_attestation.errors import UnavailableError
from proxy_attestation.loader.credential import Credential

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
    """

    context: ssl.SSLContext
    close_after: datetime
    serial: int


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
        self._credential: Credential | None = None
        self._contexts: dict[Protocol, ssl.SSLContext] = {}

    @property
    def credential(self) -> Credential | None:
        """The newest credential, expired or not."""
        return self._credential

    def install(self, credential: Credential) -> None:
        """Serve new connections with this credential from now on.

        Raises:
            UnavailableError: `attester.unavailable`, where there is no place in memory to hand the key over.
        """
        contexts = {protocol: self._context(credential, protocol) for protocol in Protocol}
        self._credential, self._contexts = credential, contexts

    def current(self, protocol: Protocol) -> Served | None:
        """Return what a connection accepted now is made with, or None while there is no valid certificate."""
        credential = self._credential
        if credential is None or self._clock() >= credential.not_after:
            return None
        until = credential.not_after + OPEN_CONNECTION_GRACE
        return Served(self._contexts[protocol], until, credential.serial)

    def _context(self, credential: Credential, protocol: Protocol) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        # A resumed session would be a new connection under an old certificate.
        context.num_tickets = 0
        if _ALPN[protocol]:
            context.set_alpn_protocols(_ALPN[protocol])
        chain = b"".join(
            x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM) for der in credential.chain
        )
        key = credential.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        with _memory_file(chain + key, self._key_directory) as path:
            context.load_cert_chain(path)
        return context


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
