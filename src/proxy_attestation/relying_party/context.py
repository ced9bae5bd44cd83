"""`ssl.SSLContext`s that check the peer inside the handshake, so that no client can forget to.

Give one to any client that takes an `ssl.SSLContext`. The peer's presented chain is validated to our own roots and its
claims are held against the expectation when the handshake completes; before that no byte of the application moves
(`handshake.py`). OpenSSL's own validation stays on beside it, with a store of our roots only.

A finished context is sealed. Loading more roots does nothing (`requests` loads all public ones into every context that
it is given), and changing anything that could weaken it raises.
"""

import socket
import ssl
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Final, Self

from cryptography.hazmat.primitives.serialization import Encoding

from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError, PeerError
from proxy_attestation.relying_party.check import Peer, ProxyPeer, check_loaded_chain, pinned_roots
from proxy_attestation.relying_party.deny_list import DenyListReader
from proxy_attestation.relying_party.expectation import Expectation
from proxy_attestation.relying_party.handshake import CheckedObject, CheckedSocket
from proxy_attestation.relying_party.path import load_roots

Clock = Callable[[], datetime]

CHAINS_MAX: Final = 64
"""Chains of peers that a context remembers for resumed sessions."""

# What may change after sealing: none of it has a say in whether a peer is accepted.
_FREE: Final = frozenset({"keylog_filename", "sni_callback", "_msg_callback"})
_MISSING: Final = object()


def utc_now() -> datetime:
    """Return the machine's time, UTC."""
    return datetime.now(UTC)


class CheckedContext(ssl.SSLContext):
    """TLS 1.3 under given roots, with a check of the peer in every handshake. Subclasses say which: `check_peer`."""

    sslsocket_class = CheckedSocket
    sslobject_class = CheckedObject
    _sealed = False
    _server_name: str | None = None

    def __new__(cls, *args: Any, server_side: bool = False, **kwargs: Any) -> Self:
        """Make the OpenSSL object; the standard library's class takes its protocol here, not in `__init__`."""
        del args, kwargs
        return super().__new__(cls, ssl.PROTOCOL_TLS_SERVER if server_side else ssl.PROTOCOL_TLS_CLIENT)

    def __init__(self, roots: Sequence[bytes], *, server_name: str | None, server_side: bool, clock: Clock) -> None:
        if server_side and server_name is not None:
            raise ConfigurationError(Code.CONFIGURATION_MALFORMED, "a server's clients are not checked by host name")
        self._roots = load_roots(roots)
        self._clock = clock
        self._chains: dict[bytes, tuple[bytes, ...]] = {}
        self._lock = threading.Lock()
        self._server_name = server_name
        self.minimum_version = ssl.TLSVersion.TLSv1_3
        self.check_hostname = not server_side
        self.hostname_checks_common_name = False
        self.verify_mode = ssl.CERT_REQUIRED
        if server_side:
            # A resumed session would tell a server its client's leaf without the rest of the chain.
            self.num_tickets = 0
        super().load_verify_locations(cadata=b"".join(root.public_bytes(Encoding.DER) for root in self._roots))
        self._sealed = True

    def check_peer(self, chain: Sequence[bytes], server_name: str | None) -> Peer | ProxyPeer:
        """Check a presented chain.

        Args:
            chain: DER, leaf first.
            server_name: the name that the TLS object was made for; None where the peer is a client.

        Raises:
            PeerError: always, here: a context without a check accepts nobody.
        """
        raise PeerError(Code.PEER_CHAIN, f"no check of {len(chain)} certificates for {server_name}")

    def remember(self, chain: tuple[bytes, ...]) -> None:
        """Keep a chain that passed the check, for resumed sessions, which show its leaf alone; `CHAINS_MAX` at most."""
        with self._lock:
            self._chains.pop(chain[0], None)
            self._chains[chain[0]] = chain
            while len(self._chains) > CHAINS_MAX:
                del self._chains[next(iter(self._chains))]

    def remembered(self, leaf: bytes) -> tuple[bytes, ...]:
        """Return the chain that came with a leaf (DER), or nothing."""
        with self._lock:
            return self._chains.get(leaf, ())

    def wrap_socket(  # noqa: PLR0917 - the standard library's signature
        self,
        sock: socket.socket,
        server_side: bool = False,
        do_handshake_on_connect: bool = True,
        suppress_ragged_eofs: bool = True,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> CheckedSocket:
        """Wrap a socket, as `ssl.SSLContext.wrap_socket`; the context's server name wins over the caller's."""
        wrapped = super().wrap_socket(
            sock,
            server_side,
            do_handshake_on_connect,
            suppress_ragged_eofs,
            server_hostname if self._server_name is None else self._server_name,
            session,
        )
        assert isinstance(wrapped, CheckedSocket)  # noqa: S101 - sslsocket_class makes it so, and is sealed
        return wrapped

    def wrap_bio(
        self,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
        server_side: bool = False,
        server_hostname: str | bytes | None = None,
        session: ssl.SSLSession | None = None,
    ) -> CheckedObject:
        """Wrap two memory buffers, as `ssl.SSLContext.wrap_bio`; the context's server name wins over the caller's."""
        name = server_hostname if self._server_name is None else self._server_name
        wrapped = super().wrap_bio(incoming, outgoing, server_side, name, session)
        assert isinstance(wrapped, CheckedObject)  # noqa: S101 - sslobject_class makes it so, and is sealed
        return wrapped

    def load_verify_locations(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the roots were given when the context was made."""

    def load_default_certs(self, *args: Any, **kwargs: Any) -> None:
        """Do nothing: the roots were given when the context was made."""

    def set_default_verify_paths(self) -> None:
        """Do nothing: the roots were given when the context was made."""

    def __setattr__(self, name: str, value: object) -> None:
        """Refuse changes once sealed; setting what is already so is none.

        Raises:
            ConfigurationError: `configuration.malformed`.
        """
        if self._sealed and name not in _FREE:
            if getattr(self, name, _MISSING) == value:
                return
            raise ConfigurationError(Code.CONFIGURATION_MALFORMED, f"{name} of an attested context cannot be changed")
        super().__setattr__(name, value)


class AttestedContext(CheckedContext):
    """Accepts exactly the peers that an expectation describes, under exactly the given roots.

    Args:
        expectation: what the peer must be.
        roots: DER of the roots to trust.
        server_name: the DNS name or IP address that the peer must have, whatever the client connects to; also sent as
            SNI. None: what the client connects to.
        server_side: for a server that checks its clients' certificates (load its own with `load_cert_chain`).
        clock: the time of the check.

    Raises:
        ConfigurationError: `configuration.malformed`, without a usable expectation or root.
    """

    def __init__(
        self,
        expectation: Expectation,
        roots: Sequence[bytes],
        *,
        server_name: str | None = None,
        server_side: bool = False,
        clock: Clock = utc_now,
    ) -> None:
        if not isinstance(expectation, Expectation):
            raise ConfigurationError(Code.CONFIGURATION_MALFORMED, "an attested context takes an Expectation")
        self._expectation = expectation
        self._deny_list: DenyListReader | None = None
        if expectation.deny_list is not None:
            pinned = pinned_roots(load_roots(roots), expectation)
            self._deny_list = DenyListReader(expectation.deny_list, pinned, max_age=expectation.deny_list_max_age)
        super().__init__(roots, server_name=server_name, server_side=server_side, clock=clock)

    def check_peer(self, chain: Sequence[bytes], server_name: str | None) -> Peer:
        """Check a presented chain.

        Raises:
            PeerError: as `check.check_chain`; and, where the expectation names a deny list, `certificate.revoked`,
                `certificate.deny_list`, `certificate.deny_list_older`, `certificate.deny_list_stale`.
        """
        now = self._clock()
        peer = check_loaded_chain(chain, self._roots, self._expectation, now, server_name=server_name)
        if self._deny_list is not None:
            self._deny_list.check(peer.chain, now)
        return peer
