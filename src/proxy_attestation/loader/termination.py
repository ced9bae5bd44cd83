"""Listening, shaking hands, and giving each connection to the session of its protocol.

A connection is made with the certificate of the moment at which it is accepted, and lives on when that is replaced,
until it has been expired for `tls.OPEN_CONNECTION_GRACE`.
"""

import asyncio
import ipaddress
import socket
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Final
from typing import Protocol as TypingProtocol

from proxy_attestation.errors import UsageError
from proxy_attestation.loader.endpoint import Endpoint
from proxy_attestation.loader.limits import CONNECTIONS_MAX, PEER_SHARE, SessionLimits
from proxy_attestation.loader.streams import SocketStream, Stream, TlsStream
from proxy_attestation.loader.tls import Protocol, ServerContexts

_BACKLOG: Final = 128
_ACCEPT_PAUSE_S: Final = 0.1
DRAIN_S: Final = 10.0


class Session(TypingProtocol):
    """Serves one connection."""

    async def run(self) -> None:
        """Serve until it ends.

        Raises:
            OSError: when the connection broke.
        """

    def drain(self) -> None:
        """End soon: finish what is under way and take nothing new."""


SessionFactory = Callable[[Stream], Session]


@dataclass(eq=False, slots=True)
class _Connection:
    stream: TlsStream
    close_after: datetime
    peer: str
    task: asyncio.Task[None] | None = None
    session: Session | None = None
    drain_at: datetime | None = None


class Listener:
    """One listening socket and its connections."""

    def __init__(
        self,
        endpoint: Endpoint,
        protocol: Protocol,
        contexts: ServerContexts,
        make_session: SessionFactory,
        *,
        limits: SessionLimits,
        note: Callable[[str], None],
        connections_max: int = CONNECTIONS_MAX,
    ) -> None:
        """Bind and listen; nothing is accepted before `run`.

        Args:
            endpoint: an IP address and a port, 0 for any.
            protocol: what is spoken inside TLS.
            contexts: gives the certificate of the moment.
            make_session: makes the session of a connection whose handshake is done.
            limits: its times.
            note: takes one line for the operator.
            connections_max: at one time; more wait in the kernel's queue. What one peer has beyond its share is
                closed at once.

        Raises:
            UsageError: where the address cannot be had.
        """
        self.protocol: Final = protocol
        self._contexts = contexts
        self._make_session = make_session
        self._limits = limits
        self._note = note
        self._draining = False
        self._connections: set[_Connection] = set()
        self._free = asyncio.Semaphore(connections_max)
        self._peer_max = max(1, connections_max // PEER_SHARE)
        self._peers: Counter[str] = Counter()
        self._socket = socket.socket(endpoint.family, socket.SOCK_STREAM)
        try:
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self._socket.bind(endpoint.sockaddr)
            self._socket.listen(_BACKLOG)
            self._socket.setblocking(False)
        except OSError as error:
            self._socket.close()
            raise UsageError(f"cannot listen on {endpoint}: {error.strerror}") from error
        host, port = self._socket.getsockname()[:2]
        self.endpoint: Final = Endpoint(host=host, port=port)

    @property
    def connections(self) -> int:
        """Open connections."""
        return len(self._connections)

    async def run(self) -> None:
        """Accept until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await self._free.acquire()
            try:
                connection, address = await loop.sock_accept(self._socket)
            except OSError:
                # Out of descriptors, or the peer went while it waited. Accepting goes on either way.
                self._free.release()
                await asyncio.sleep(_ACCEPT_PAUSE_S)
                continue
            except BaseException:
                self._free.release()
                raise
            if not self._accept(connection, peer_of(address[0])):
                connection.close()
                self._free.release()
                # Accepting what waits already does not yield: refusals must not keep everything else waiting.
                await asyncio.sleep(0)

    def close_socket(self) -> None:
        """Listen no more."""
        self._socket.close()

    def expire(self, now: datetime) -> None:
        """Drain connections whose certificate expired long ago; break those that did not end within `DRAIN_S`."""
        for connection in self._connections:
            if now < connection.close_after:
                continue
            if connection.drain_at is None:
                connection.drain_at = now
                if connection.session is not None:
                    connection.session.drain()
            elif (now - connection.drain_at).total_seconds() >= DRAIN_S:
                connection.stream.abort()

    async def drain(self, seconds: float = DRAIN_S) -> None:
        """Ask every connection to end, wait a while, break the rest."""
        self._draining = True
        for connection in self._connections:
            if connection.session is not None:
                connection.session.drain()
        tasks = [connection.task for connection in self._connections if connection.task is not None]
        if tasks:
            _, pending = await asyncio.wait(tasks, timeout=seconds)
            for task in pending:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _accept(self, accepted: socket.socket, peer: str) -> bool:
        served = self._contexts.current(self.protocol)
        if served is None or self._draining or self._peers[peer] >= self._peer_max:
            return False  # no certificate is valid now, nothing new is taken, or the peer has its share
        stream = TlsStream(SocketStream(accepted), served.context, served.step)
        connection = _Connection(stream, served.close_after, peer)
        self._peers[peer] += 1
        connection.task = asyncio.create_task(self._serve(connection))
        self._connections.add(connection)
        connection.task.add_done_callback(lambda task: self._ended(connection, task))
        return True

    def _ended(self, connection: _Connection, task: asyncio.Task[None]) -> None:
        self._connections.discard(connection)
        self._peers[connection.peer] -= 1
        if not self._peers[connection.peer]:
            del self._peers[connection.peer]
        self._free.release()
        error = None if task.cancelled() else task.exception()
        if error is not None:
            self._note(f"bug: a connection ended with {type(error).__name__}: {error}")

    async def _serve(self, connection: _Connection) -> None:
        stream = connection.stream
        try:
            await stream.handshake(self._limits.handshake_s)
            connection.session = self._make_session(stream)
            if not self._draining:
                await connection.session.run()
        except OSError:
            stream.abort()  # the connection broke; nobody is left to tell
        except BaseException:
            stream.abort()
            raise
        finally:
            await stream.close()


def peer_of(host: str) -> str:
    """Return what counts as one peer: an IPv4 address, or the /64 that one IPv6 host may have to itself."""
    address = ipaddress.ip_address(host)
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    if address.is_link_local:
        return str(address)
    return str(ipaddress.IPv6Network((int(address) >> 64 << 64, 64)))
