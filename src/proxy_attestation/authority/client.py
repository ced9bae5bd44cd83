"""The worker's or operator's side of a private socket: many calls in flight, each with an end in time."""

import asyncio
import socket
from collections.abc import Callable
from dataclasses import astuple
from functools import partial
from pathlib import Path
from typing import Final, Self, TypeVar

from proxy_attestation.appraisal.endorsements import Floor
from proxy_attestation.appraisal.kinds import Endorsements
from proxy_attestation.authority import messages, wire
from proxy_attestation.authority.messages import AuthorityInfo, Issued, IssueOrder, Proven, Quote, Quoted, ToQuote
from proxy_attestation.authority.operation import Operation
from proxy_attestation.authority.operations import encode_operation
from proxy_attestation.authority.sockets import unix_address
from proxy_attestation.authority.wire import Method
from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError, InternalError, ProxyAttestationError, UnavailableError
from proxy_attestation.formats import cbor
from proxy_attestation.formats.bounds import COLLATERAL_SET_MAX

_T = TypeVar("_T")
_Argument = TypeVar("_Argument")

CALL_TIMEOUT: Final = 10.0
"""Seconds after which a call is given up; the authority may still have issued, and the same call finds out."""


class AuthorityClient(asyncio.Protocol):
    """One connection to the authority. When it breaks, every open call fails, and the owner connects anew."""

    def __init__(self, call_timeout: float) -> None:
        self._timeout = call_timeout
        self._reader = wire.FrameReader()
        self._calls: dict[int, asyncio.Future[cbor.Value]] = {}
        self._next_id = 0
        self._transport: asyncio.Transport | None = None
        self._lost: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @classmethod
    async def connect(cls, path: Path, *, call_timeout: float = CALL_TIMEOUT) -> Self:
        """Connect to an authority's socket.

        Args:
            path: STATE/run/authority.sock.
            call_timeout: seconds for connecting, and then for each call.

        Raises:
            UnavailableError: `authority.unavailable`.
        """
        loop = asyncio.get_running_loop()
        client = cls(call_timeout)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            with unix_address(path) as address:
                async with asyncio.timeout(call_timeout):
                    await loop.sock_connect(sock, address)
                    await loop.create_unix_connection(lambda: client, sock=sock)
        except (OSError, TimeoutError) as error:
            sock.close()
            raise UnavailableError(Code.AUTHORITY_UNAVAILABLE, f"{path}: {error}") from error
        return client

    @classmethod
    async def adopt(cls, sock: socket.socket, *, call_timeout: float = CALL_TIMEOUT) -> Self:
        """Use a connection that exists: the supervisor's, of which the authority was given the other end."""
        client = cls(call_timeout)
        await asyncio.get_running_loop().create_unix_connection(lambda: client, sock=sock)
        return client

    @property
    def connected(self) -> bool:
        """Whether calls can be made."""
        return self._transport is not None and not self._lost.done()

    async def lost(self) -> None:
        """Wait until the connection has ended, for whatever reason."""
        await asyncio.shield(self._lost)

    async def hello(self) -> AuthorityInfo:
        """Ask for what a worker needs to know.

        Raises:
            UnavailableError: `authority.unavailable`, and so in every method here.
        """
        return await self._call(Method.HELLO, None, messages.decode_info)

    async def denied(self) -> bytes:
        """Ask for the deny list.

        Raises:
            UnavailableError: `authority.unavailable`.
        """
        return await self._call(Method.DENIED, None, messages.decode_note)

    async def watch(self, generation: int) -> int:
        """Say that this worker works with `generation` by now; return the authority's once that is another.

        Raises:
            UnavailableError: `authority.unavailable`, when the connection has ended.
        """
        return await self._call(Method.WATCH, generation, messages.decode_generation, patient=True)

    async def issue(self, order: IssueOrder) -> Issued:
        """Ask for one certificate.

        Raises:
            ProxyAttestationError: the class and code that the authority decided; see `issue.Issuer.issue_batch`.
        """
        return await self._call(Method.ISSUE, messages.encode_order(order), messages.decode_issued)

    async def raise_floor(self, endorsements: Endorsements) -> Floor:
        """Have a set of collateral verified and recorded before it is used; see `issue.Issuer.raise_floor`.

        Raises:
            UnavailableError: `endorsements.unavailable`, also for a set of more than `COLLATERAL_SET_MAX` bytes;
                `authority.clock`; `limits.exhausted`.
        """
        pieces = astuple(endorsements)
        size = sum(len(part) for piece in pieces if piece for part in (piece if isinstance(piece, tuple) else (piece,)))
        if size > COLLATERAL_SET_MAX:
            raise UnavailableError(Code.ENDORSEMENTS_UNAVAILABLE, f"a set of {size} bytes")
        return await self._call(Method.RAISE_FLOOR, messages.encode_endorsements(endorsements), messages.decode_floor)

    async def tls_leaf(self, spki: bytes) -> tuple[bytes, ...]:
        """Ask for the proxy's own TLS certificate over a key; the supervisor's connection alone may.

        Args:
            spki: DER of the SubjectPublicKeyInfo, P-256 or P-384.

        Returns:
            DER: leaf, issuing CA.

        Raises:
            RefusedError: `authority.caller`.
            RequestError: `csr.key`.
            UnavailableError: `limits.exhausted`.
        """
        return await self._call(Method.TLS_LEAF, spki, messages.decode_chain)

    async def evidence(self, nonce: bytes) -> Proven:
        """Ask for what the proxy is with its own evidence over a nonce of 32 bytes; see `self_evidence`.

        Raises:
            UnavailableError: `proxy.evidence_busy`; `attester.unavailable`.
        """
        return await self._call(Method.EVIDENCE, nonce, messages.decode_proven)

    async def next_quote(self, made: Quoted | None) -> ToQuote | None:
        """Hand in what was quoted last, and wait some seconds for what is to be quoted next; None: nothing yet.

        The supervisor's connection alone may.

        Raises:
            RefusedError: `authority.caller`.
        """
        body = None if made is None else messages.encode_quoted(made)
        return await self._call(Method.NEXT_QUOTE, body, lambda v: None if v is None else messages.decode_to_quote(v))

    async def quote(self, wanted: ToQuote) -> Quote:
        """Ask the process that holds the device for a quote; the authority makes none.

        Raises:
            UnavailableError: `attester.unavailable`.
        """
        return await self._call(Method.QUOTE, messages.encode_to_quote(wanted), messages.decode_quote)

    async def operate(self, operation: Operation[_Argument, _T], argument: _Argument) -> _T:
        """Have the authority do something; an operator's connection alone may.

        Raises:
            ProxyAttestationError: whatever the operation refuses with.
            UnavailableError: `authority.unavailable`, also when it is not known whether it was done.
        """
        return await self._call(Method.OPERATE, encode_operation(operation, argument), operation.answer.read)

    async def cosigned(self, note: bytes) -> int:
        """Hand in a checkpoint of the ledger with cosignatures of its witnesses; return how many entries are published.

        Raises:
            RequestError: `ledger.cosignature`, when it is not one of the ledger's, or too few are good.
        """
        return await self._call(Method.COSIGNED, note, messages.decode_count)

    async def close(self) -> None:
        """Close the connection; open calls fail with `authority.unavailable`."""
        if self._transport is not None:
            self._transport.close()
            await self.lost()

    async def _call(self, method: Method, body: object, decode: Callable[[object], _T], *, patient: bool = False) -> _T:
        if self._transport is None or self._lost.done():
            raise UnavailableError(Code.AUTHORITY_UNAVAILABLE, "not connected")
        self._next_id += 1
        call_id = self._next_id
        try:
            frame = wire.encode_call(call_id, method, body)
        except FormatError as error:
            raise InternalError(f"a call that does not fit: {error.detail}") from error
        future: asyncio.Future[cbor.Value] = asyncio.get_running_loop().create_future()
        self._calls[call_id] = future
        try:
            self._transport.write(frame)
            async with asyncio.timeout(None if patient else self._timeout):
                value = await future
        except TimeoutError as error:
            raise UnavailableError(Code.AUTHORITY_UNAVAILABLE, f"no answer in {self._timeout} s") from error
        finally:
            del self._calls[call_id]
        try:
            return decode(value)
        except FormatError as error:
            raise InternalError(f"the authority's answer: {error.detail}") from error

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note what to write to; asyncio calls this, and so the next two."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - what asyncio gives to a stream protocol
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Give each answer that is whole now to its call."""
        try:
            for frame in self._reader.feed(data):
                self._answer(wire.decode_answer(frame))
        except FormatError as error:
            # The stream cannot be trusted any further.
            self._fail(InternalError, f"the authority's answer: {error.detail}")
            if self._transport is not None:
                self._transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Fail every open call."""
        del exc
        self._fail(partial(UnavailableError, Code.AUTHORITY_UNAVAILABLE), "the connection to the authority broke")
        if not self._lost.done():
            self._lost.set_result(None)

    def _answer(self, answer: wire.Answer) -> None:
        future = self._calls.get(answer.call_id)
        if future is None or future.done():
            return  # given up before
        if answer.error is not None:
            future.set_exception(answer.error)
        else:
            future.set_result(answer.body)

    def _fail(self, error: Callable[[str], ProxyAttestationError], detail: str) -> None:
        for future in self._calls.values():
            if not future.done():
                future.set_exception(error(detail))
