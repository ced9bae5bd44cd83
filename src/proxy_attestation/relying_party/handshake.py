"""A TLS socket and a TLS object that do nothing for the application before their context has checked the peer.

`do_handshake` runs the check when OpenSSL's handshake is complete. Every method that moves bytes asks for it first:
OpenSSL shakes hands inside SSL_write and SSL_read by itself, so that a socket wrapped with
`do_handshake_on_connect=False` would otherwise send its first request unchecked. A refusal stays: asking again shakes
no hands but repeats the check.

The standard library makes these objects with `__new__` alone, hence the attribute's default on the class.
"""

import errno
import os
import socket
import ssl
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol, cast

from proxy_attestation.codes import Code
from proxy_attestation.errors import InternalError, PeerError, ProxyAttestationError
from proxy_attestation.relying_party.check import Peer, ProxyPeer
from proxy_attestation.relying_party.failure import AttestationVerificationError, from_openssl

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer, WriteableBuffer

_ENCODING_DER = 2  # _ssl.ENCODING_DER


class _RawCertificate(Protocol):
    def public_bytes(self, encoding: int, /) -> bytes: ...


class _RawTls(Protocol):
    """The part of CPython's `_ssl._SSLSocket` that the check needs."""

    @property
    def context(self) -> "_PeerChecker": ...
    @property
    def server_side(self) -> bool: ...
    @property
    def server_hostname(self) -> str | None: ...
    def get_unverified_chain(self) -> Sequence[_RawCertificate] | None: ...


class _PeerChecker(Protocol):
    """What the context of such a connection must have."""

    def check_peer(self, chain: Sequence[bytes], server_name: str | None) -> Peer | ProxyPeer: ...
    def remember(self, chain: tuple[bytes, ...]) -> None: ...
    def remembered(self, leaf: bytes) -> tuple[bytes, ...]: ...


def presented_chain(connection: ssl.SSLSocket | ssl.SSLObject) -> tuple[bytes, ...]:
    """Return the DER certificates that the peer presented, leaf first, as they were received.

    They are not validated: `check.py` does that. `SSLSocket.get_unverified_chain` is public from Python 3.13 on; the
    same call exists in every version on the private object that it wraps, and nothing else gives more than the leaf.
    """
    # httpcore hands out the private object itself.
    found: object = getattr(connection, "_sslobj", connection)
    raw = cast("_RawTls | None", found)
    chain = raw.get_unverified_chain() if raw is not None else None
    return tuple(certificate.public_bytes(_ENCODING_DER) for certificate in chain or ())


def _peer(connection: ssl.SSLSocket | ssl.SSLObject) -> Peer | ProxyPeer:
    # The private object says what this connection was made with, whatever was assigned to the public one since.
    raw: _RawTls | None = getattr(connection, "_sslobj", None)
    if raw is None:
        raise PeerError(Code.PEER_CHAIN, "not connected")
    server_name = None if raw.server_side else raw.server_hostname
    if server_name is None and not raw.server_side:
        raise PeerError(Code.PEER_NAME, "no server name was given")
    chain = presented_chain(connection)
    if connection.session_reused and len(chain) < 2:
        # A session keeps the leaf and no other certificate. The whole chain was presented when the session was made,
        # under this same context, for sessions belong to one; it is checked again in full.
        chain = raw.context.remembered(connection.getpeercert(True) or b"")
    if not chain:
        raise PeerError(Code.PEER_CHAIN, "no certificate was presented")
    peer = raw.context.check_peer(chain, server_name)
    raw.context.remember(chain)
    return peer


def _check(connection: ssl.SSLSocket | ssl.SSLObject) -> Peer | ProxyPeer:
    """Run the context's check; whatever goes wrong comes out as the one class that every TLS client understands."""
    try:
        peer = _peer(connection)
    except ProxyAttestationError as error:
        raise AttestationVerificationError(error) from error
    except Exception as error:  # noqa: BLE001 - nothing may end a handshake but a checked peer or a refusal
        bug = InternalError(f"{type(error).__name__}: {error}")
        bug.__cause__ = error
        raise AttestationVerificationError(bug) from bug
    return peer


class CheckedSocket(ssl.SSLSocket):
    """What `wrap_socket` of our contexts returns.

    Attributes:
        attested_peer: the peer that passed the check; None until then.
    """

    attested_peer: Peer | ProxyPeer | None = None

    def do_handshake(self, block: bool = False) -> None:
        """Shake hands, then check the peer.

        Raises:
            AttestationVerificationError: the peer is refused.
        """
        try:
            super().do_handshake(block)
        except ssl.SSLCertVerificationError as error:
            refused = from_openssl(error)
            raise AttestationVerificationError(refused) from refused
        self.attested_peer = _check(self)

    def _require_peer(self) -> None:
        # Without a TLS object the standard library falls back to the bare socket: before connect(), and after
        # shutdown() and unwrap(). Nothing of ours may go out in clear.
        if getattr(self, "_sslobj", None) is None:
            raise OSError(errno.ENOTCONN, os.strerror(errno.ENOTCONN))
        if self.attested_peer is None:
            self.do_handshake()

    def read(self, len: int = 1024, buffer: "WriteableBuffer | None" = None) -> Any:  # noqa: A002 - the base's name
        """Read, after the check."""
        self._require_peer()
        return super().read(len, buffer)

    def write(self, data: "ReadableBuffer") -> int:
        """Write, after the check."""
        self._require_peer()
        return super().write(data)

    def send(self, data: "ReadableBuffer", flags: int = 0) -> int:
        """Send, after the check."""
        self._require_peer()
        return super().send(data, flags)

    def sendall(self, data: "ReadableBuffer", flags: int = 0) -> None:
        """Send, after the check."""
        self._require_peer()
        super().sendall(data, flags)

    def sendto(self, *args: Any) -> int:
        """Refuse: TLS has no addresses."""
        raise ValueError(f"sendto not allowed on instances of {type(self)}, {len(args)} arguments given")

    def sendfile(self, file: Any, offset: int = 0, count: int | None = None) -> int:
        """Send a file, after the check."""
        self._require_peer()
        return super().sendfile(file, offset, count)

    def recv(self, buflen: int = 1024, flags: int = 0) -> bytes:
        """Receive, after the check."""
        self._require_peer()
        return super().recv(buflen, flags)

    def recv_into(self, buffer: "WriteableBuffer", nbytes: int | None = None, flags: int = 0) -> int:
        """Receive, after the check."""
        self._require_peer()
        return super().recv_into(buffer, nbytes, flags)

    def recvfrom(self, buflen: int = 1024, flags: int = 0) -> tuple[bytes, Any]:
        """Refuse: TLS has no addresses."""
        self._require_peer()
        return super().recvfrom(buflen, flags)

    def recvfrom_into(self, buffer: "WriteableBuffer", nbytes: int | None = None, flags: int = 0) -> tuple[int, Any]:
        """Refuse: TLS has no addresses."""
        self._require_peer()
        return super().recvfrom_into(buffer, nbytes, flags)

    def unwrap(self) -> socket.socket:
        """End TLS, after the check. What comes back carries no more bytes: there is no way on in clear."""
        self._require_peer()
        return super().unwrap()

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse another context once there is a connection."""
        if name == "context":
            raise AttributeError("the context of an attested connection cannot be replaced")
        super().__setattr__(name, value)


class CheckedObject(ssl.SSLObject):
    """What `wrap_bio` of our contexts returns: asyncio, trio, anyio, uvloop.

    Attributes:
        attested_peer: the peer that passed the check; None until then.
    """

    attested_peer: Peer | ProxyPeer | None = None

    def do_handshake(self) -> None:
        """Shake hands, then check the peer.

        Raises:
            AttestationVerificationError: the peer is refused.
        """
        try:
            super().do_handshake()
        except ssl.SSLCertVerificationError as error:
            refused = from_openssl(error)
            raise AttestationVerificationError(refused) from refused
        self.attested_peer = _check(self)

    def _require_peer(self) -> None:
        if self.attested_peer is None:
            self.do_handshake()

    def read(self, len: int = 1024, buffer: "WriteableBuffer | None" = None) -> Any:  # noqa: A002 - the base's name
        """Read, after the check."""
        self._require_peer()
        return super().read(len, buffer)

    def write(self, data: "ReadableBuffer") -> int:
        """Write, after the check."""
        self._require_peer()
        return super().write(data)

    def unwrap(self) -> None:
        """End TLS, after the check."""
        self._require_peer()
        super().unwrap()

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse another context once there is a connection."""
        if name == "context":
            raise AttributeError("the context of an attested connection cannot be replaced")
        super().__setattr__(name, value)
