"""The authority's sockets: frames in, one bounded queue, batches to the `Issuer`, frames out.

There are three kinds of connection, and each may make its own calls only. Workers connect to one path, operators to
another. The supervisor has one end of a socket pair whose other end the authority was started with: nobody else can get
it, and so nobody else gets a certificate with the proxy's own name.
"""

import asyncio
import os
import socket
import stat
import struct
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

from proxy_attestation import log
from proxy_attestation.authority import messages, wire
from proxy_attestation.authority.bucket import Bucket
from proxy_attestation.authority.issue import Issuer
from proxy_attestation.authority.messages import Issued, IssueOrder, Proven, ToQuote
from proxy_attestation.authority.operations import operate
from proxy_attestation.authority.self_evidence import SelfEvidence
from proxy_attestation.authority.sockets import unix_address
from proxy_attestation.authority.waiting import Waiting
from proxy_attestation.authority.watchers import Watchers
from proxy_attestation.authority.wire import Method
from proxy_attestation.codes import Code
from proxy_attestation.errors import (
    FormatError,
    InternalError,
    ProxyAttestationError,
    RefusedError,
    UnavailableError,
)

BATCH_MAX: Final = 256
"""Orders in one transaction."""
QUEUE_MAX: Final = 4096
"""Orders that wait; beyond that the answer is `limits.exhausted`."""
CONNECTIONS_MAX: Final = 256
DRAIN_SECONDS: Final = 5.0
"""How long peers may take to read what is left for them when the authority ends."""
TLS_LEAF_RATE: Final = 1 / 60
"""TLS certificates for the proxy itself, a second; each stands in the ledger."""
TLS_LEAF_BURST: Final = 10
"""How many of them at once, after a pause."""
WORKER_CALLS: Final = frozenset(
    {
        Method.WATCH, Method.HELLO, Method.ISSUE, Method.RAISE_FLOOR, Method.DENIED, Method.EVIDENCE, Method.COSIGNED,
    }
)  # fmt: skip
SUPERVISOR_CALLS: Final = frozenset({Method.HELLO, Method.TLS_LEAF, Method.NEXT_QUOTE})
OPERATOR_CALLS: Final = frozenset({Method.OPERATE})

_BACKLOG: Final = 128
_UCRED: Final = struct.Struct("3i")  # pid, uid, gid (unix(7), SO_PEERCRED)


def bind(path: Path) -> socket.socket:
    """Return a socket bound to `path`, mode 0600 from its first moment; one that is left over there is replaced.

    Raises:
        UnavailableError: `authority.unavailable`.
    """
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        if path.is_socket():
            path.unlink()
        # Linux gives the file the mode that the socket has when it is bound.
        os.fchmod(listener.fileno(), stat.S_IRUSR | stat.S_IWUSR)
        with unix_address(path) as address:
            listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise UnavailableError(Code.AUTHORITY_UNAVAILABLE, f"{path}: {error.strerror}") from error
    return listener


class Server:
    """Serves one issuer to all connections of one loop; `clock` is monotonic seconds."""

    def __init__(
        self,
        issuer: Issuer,
        *,
        queue_max: int = QUEUE_MAX,
        clock: Callable[[], float] = time.monotonic,
        attested: bool = False,
    ) -> None:
        self._evidence = SelfEvidence(issuer.authority, _later, clock, attested=attested)
        self._issuer = issuer
        self._queue_max = queue_max
        self._clock = clock
        self._tls_leaves = Bucket(TLS_LEAF_RATE, TLS_LEAF_BURST, clock())
        self._queue: deque[tuple[_Connection, int, IssueOrder]] = deque()
        self._waiting = Waiting()
        self._scheduled = False
        self._draining = False
        self._connections: set[_Connection] = set()
        self._all_closed = asyncio.Event()
        self._watchers = Watchers(lambda: issuer.authority.generation)
        self._switching: set[asyncio.Task[None]] = set()

    async def listen(self, listener: socket.socket, calls: frozenset[Method] = WORKER_CALLS) -> asyncio.Server:
        """Take connections from a bound socket: workers', or others that may make other calls."""
        loop = asyncio.get_running_loop()
        # What changed is in force a moment after it is said to have changed, and before the loop comes round.
        self._issuer.authority.changed = lambda: loop.call_soon(self._watchers.tell)
        return await loop.create_unix_server(lambda: _Connection(self, calls), sock=listener)

    async def adopt(self, supervisor: socket.socket, gone: Callable[[], None]) -> None:
        """Serve the supervisor on a connection that exists; `gone` is called when it has ended."""
        loop = asyncio.get_running_loop()
        await loop.create_unix_connection(lambda: _Connection(self, SUPERVISOR_CALLS, gone), sock=supervisor)

    async def drain(self) -> None:
        """Read nothing any more, answer what is queued, and close every connection."""
        self._draining = True
        self._issuer.authority.changed = lambda: None
        for connection in self._connections:
            connection.stop_reading()
        while self._queue:
            self._issue()
        self._waiting.give_up()
        for connection in list(self._connections):
            self._watchers.forget(connection)
        if self._switching:
            await asyncio.wait(self._switching)
        for connection in list(self._connections):
            connection.close()
        if self._connections:
            try:
                async with asyncio.timeout(DRAIN_SECONDS):
                    await self._all_closed.wait()
            except TimeoutError:
                for connection in list(self._connections):
                    connection.abort()

    def opened(self, connection: "_Connection") -> bool:
        """Take a connection, unless there are too many."""
        if self._draining or len(self._connections) >= CONNECTIONS_MAX:
            return False
        self._connections.add(connection)
        self._all_closed.clear()
        return True

    def closed(self, connection: "_Connection") -> None:
        """Forget a connection."""
        self._connections.discard(connection)
        self._watchers.forget(connection)
        if not self._connections:
            self._all_closed.set()

    def call(self, connection: "_Connection", call: wire.Call) -> None:
        """Answer a call now, or queue it when it is an order."""
        try:
            connection.require(call.method)
            if call.method is Method.ISSUE:
                self._enqueue(connection, call.call_id, _decoded(call))
            elif call.method is Method.EVIDENCE:
                self._evidence.ask(messages.decode_nonce(call.body), partial(_tell_evidence, connection, call.call_id))
            elif call.method is Method.NEXT_QUOTE:
                made = None if call.body is None else messages.decode_quoted(call.body)
                self._evidence.next(made, partial(_tell_quote, connection, call.call_id))
            elif call.method is Method.WATCH:
                self._watchers.watch(connection, call.call_id, _generation(call))
            else:
                self._send(connection, call, self._issuer.authority.generation)
        except ProxyAttestationError as error:
            connection.send(wire.encode_error(call.call_id, error))
        except Exception as error:  # noqa: BLE001 - a bug in one call must not end the authority
            log.bug(error, method=call.method.name)
            connection.send(wire.encode_error(call.call_id, InternalError(type(error).__name__)))

    def _send(self, connection: "_Connection", call: wire.Call, before: int) -> None:
        answer = wire.encode_answer(call.call_id, self._answer(call))
        if call.method is Method.HELLO and Method.WATCH in connection.calls:
            self._watchers.told(connection)
        if call.method is Method.OPERATE and self._issuer.authority.generation != before:
            # Whoever had something changed hears of it when no worker answers as before any more.
            task = asyncio.get_running_loop().create_task(self._switch(connection, answer))
            self._switching.add(task)
            task.add_done_callback(self._switching.discard)
        else:
            connection.send(answer)

    async def _switch(self, connection: "_Connection", answer: bytes) -> None:
        await self._watchers.switched()
        connection.send(answer)

    def _answer(self, call: wire.Call) -> object:
        if call.method is Method.OPERATE:
            return operate(self._issuer, call.body)
        if call.method is Method.DENIED:
            return self._issuer.authority.revocations.note
        try:
            if call.method is Method.RAISE_FLOOR:
                return messages.encode_floor(self._issuer.raise_floor(messages.decode_endorsements(call.body)))
            if call.method is Method.COSIGNED:
                return self._cosigned(messages.decode_checkpoint(call.body))
            if call.method is Method.TLS_LEAF:
                spki = messages.decode_spki(call.body)
                if not self._tls_leaves.take(self._clock()):
                    raise UnavailableError(Code.LIMITS_EXHAUSTED, "the proxy's own TLS certificates")
                return list(self._issuer.tls_leaf(spki))
        except FormatError as error:
            raise InternalError(f"{call.method.name}: {error.detail}") from error
        return messages.encode_info(self._issuer.hello())

    def _enqueue(self, connection: "_Connection", call_id: int, order: IssueOrder) -> None:
        if len(self._queue) + len(self._waiting) >= self._queue_max:
            raise UnavailableError(Code.LIMITS_EXHAUSTED, f"{self._queue_max} orders wait")
        self._queue.append((connection, call_id, order))
        self._schedule()

    def _schedule(self) -> None:
        # `call_soon` runs after every connection that is readable now has been read: what they brought is one batch.
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._turn)

    def _turn(self) -> None:
        self._scheduled = False
        self._issue()
        if self._queue:
            self._schedule()

    def _issue(self) -> None:
        batch = [self._queue.popleft() for _ in range(min(BATCH_MAX, len(self._queue)))]
        outcomes = self._issuer.issue_batch([order for _, _, order in batch])
        for (connection, call_id, _), outcome in zip(batch, outcomes, strict=True):
            tell = partial(_tell, connection, call_id)
            if isinstance(outcome, Issued) and not outcome.proof:
                self._waiting.add(outcome, tell)
            else:
                tell(outcome)

    def _cosigned(self, note: bytes) -> int:
        """Take cosignatures, and answer those who have waited for them."""
        ledger = self._issuer.authority.ledger
        size = ledger.cosign(note)
        self._waiting.published(size, ledger.proof)
        return size


def _tell(connection: "_Connection", call_id: int, outcome: Issued | ProxyAttestationError) -> None:
    if isinstance(outcome, Issued):
        connection.send(wire.encode_answer(call_id, messages.encode_issued(outcome)))
    else:
        connection.send(wire.encode_error(call_id, outcome))


class _Connection(asyncio.Protocol):
    """One peer and the calls that it may make. One of another user, or that speaks no frames of ours, is cut off."""

    def __init__(self, server: Server, calls: frozenset[Method], gone: Callable[[], None] = lambda: None) -> None:
        self._server = server
        self.calls = calls
        self._gone = gone
        self._reader = wire.FrameReader()
        self._transport: asyncio.Transport | None = None
        self._stopped = False

    def require(self, method: Method) -> None:
        """Check that this peer may make a call.

        Raises:
            RefusedError: `authority.caller`.
        """
        if method not in self.calls:
            raise RefusedError(Code.AUTHORITY_CALLER, method.name)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what asyncio gives to a stream protocol
        peer = transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        _, uid, _ = _UCRED.unpack(peer)
        if uid != os.geteuid() or not self._server.opened(self):
            log.warning("connection refused", peer_uid=uid)
            transport.abort()
            return
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        if self._stopped:
            return
        try:
            for frame in self._reader.feed(data):
                self._server.call(self, wire.decode_call(frame))
        except FormatError as error:
            log.warning("connection cut off", problem=error.detail)
            self.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._transport = None
        self._server.closed(self)
        self._gone()

    def pause_writing(self) -> None:
        # It does not read its answers: then it gets to ask for no more.
        if self._transport is not None and not self._stopped:
            self._transport.pause_reading()

    def resume_writing(self) -> None:
        if self._transport is not None and not self._stopped:
            self._transport.resume_reading()

    def send(self, frame: bytes) -> None:
        """Write a frame; nobody hears it when the connection is gone."""
        if self._transport is not None:
            self._transport.write(frame)

    def stop_reading(self) -> None:
        """Take no more calls."""
        self._stopped = True
        if self._transport is not None:
            self._transport.pause_reading()

    def close(self) -> None:
        """End the connection once everything is written."""
        if self._transport is not None:
            self._transport.close()

    def abort(self) -> None:
        """End the connection now."""
        self._stopped = True
        if self._transport is not None:
            self._transport.abort()


def _tell_evidence(connection: _Connection, call_id: int, answer: Proven | ProxyAttestationError) -> None:
    if isinstance(answer, Proven):
        connection.send(wire.encode_answer(call_id, messages.encode_proven(answer)))
    else:
        connection.send(wire.encode_error(call_id, answer))


def _tell_quote(connection: _Connection, call_id: int, wanted: ToQuote | None) -> None:
    connection.send(wire.encode_answer(call_id, None if wanted is None else messages.encode_to_quote(wanted)))


def _later(seconds: float, call: Callable[[], None]) -> object:
    return asyncio.get_running_loop().call_later(seconds, call)


def _generation(call: wire.Call) -> int:
    try:
        return messages.decode_generation(call.body)
    except FormatError as error:
        raise InternalError(f"{call.method.name}: {error.detail}") from error


def _decoded(call: wire.Call) -> IssueOrder:
    try:
        return messages.decode_order(call.body)
    except FormatError as error:
        raise InternalError(f"an order of another form: {error.detail}") from error
