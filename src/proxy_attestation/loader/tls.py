"""Server contexts: one a credential and protocol, TLS 1.3 only, no resumption, the key never on a disk.

Each accepted connection asks for the context of that moment, so a new certificate serves new connections at once, and
open ones keep what they were made with.

A key that lives in a TPM is a guest there: Linux's resource manager keeps three objects for a process, so a key must be
loaded once, whatever the number of protocols, and be gone once no handshake needs it, however long connections last.
Therefore connections begin with a context of their protocol that has no certificate, borrow the one with the key for
their handshake, and give it back. Handshakes take their turns in a thread of their own, while the TPM signs.
"""

import asyncio
import contextlib
import functools
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
        self._bare = {protocol: _context(protocol) for protocol in Protocol}

    @property
    def credential(self) -> Credential | None:
        """The newest credential, expired or not."""
        return None if self._installed is None else self._installed.credential

    def install(self, credential: Credential) -> None:
        """Serve new connections with this credential from now on. Blocks while a TPM loads its key.

        Raises:
            UnavailableError: `attester.unavailable`, where there is no place in memory to hand the key over, or
                OpenSSL cannot load it from the TPM.
        """
        key = credential.key
        if isinstance(key, ResidentKey):
            served = self._turns.submit(self._resident, credential, key.pem).result()
        else:
            pem = key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            served = {protocol: (self._loaded(credential, pem, protocol), in_place) for protocol in Protocol}
        self._installed = _Installed(credential, served)

    def current(self, protocol: Protocol) -> Served | None:
        """Return what a connection accepted now is made with, or None while there is no valid certificate."""
        installed = self._installed
        if installed is None or self._clock() >= installed.credential.not_after:
            return None
        context, step = installed.served[protocol]
        until = installed.credential.not_after + OPEN_CONNECTION_GRACE
        return Served(context, until, installed.credential.serial, step)

    def _resident(self, credential: Credential, pem: bytes) -> dict[Protocol, tuple[ssl.SSLContext, Step]]:
        try:
            keyed = self._loaded(credential, pem, None)
        except ssl.SSLError as error:
            raise UnavailableError(
                Code.ATTESTER_UNAVAILABLE, f"OpenSSL cannot load the key from the TPM: {error}"
            ) from error
        return {
            protocol: (bare, functools.partial(self._borrow, keyed, bare, _ALPN[protocol]))
            for protocol, bare in self._bare.items()
        }

    async def _borrow(self, keyed: ssl.SSLContext, bare: ssl.SSLContext, alpn: list[str], tls: ssl.SSLObject) -> None:
        def turn() -> None:
            # What is agreed on inside TLS is the context's too; nobody else shakes hands during this turn.
            keyed.set_alpn_protocols(alpn)
            tls.context = keyed
            tls.do_handshake()
            tls.context = bare

        await asyncio.get_running_loop().run_in_executor(self._turns, turn)

    def _loaded(self, credential: Credential, key_pem: bytes, protocol: Protocol | None) -> ssl.SSLContext:
        context = _context(protocol)
        chain = b"".join(
            x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM) for der in credential.chain
        )
        with _memory_file(chain + key_pem, self._key_directory) as path:
            context.load_cert_chain(path)
        return context


@dataclass(frozen=True, slots=True)
class _Installed:
    credential: Credential
    served: dict[Protocol, tuple[ssl.SSLContext, Step]]


def _context(protocol: Protocol | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # A resumed session would be a new connection under an old certificate.
    context.num_tickets = 0
    if protocol is not None and _ALPN[protocol]:
        context.set_alpn_protocols(_ALPN[protocol])
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
