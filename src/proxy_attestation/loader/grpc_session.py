"""One HTTP/2 connection with unary gRPC calls, each given to a message application.

`h2` keeps the protocol's state and does no I/O; this file moves its bytes, and runs one task a stream. Bounded are:
streams, header sections, each body, all bodies of the process together, the time to send a request, the time to take
an answer, the time a connection may idle, and resets by the peer (CVE-2023-44487).
"""

import asyncio
import contextlib
from typing import Final

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RemoteSettingsChanged,
    RequestReceived,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import H2Error, ProtocolError, StreamClosedError
from h2.settings import SettingCodes, Settings
from hyperframe.frame import GoAwayFrame

from proxy_attestation.loader.applications.model import MessageApplication
from proxy_attestation.loader.grpc_messages import (
    PREFIX_BYTES,
    CallError,
    CallHeaders,
    HttpError,
    Status,
    read_headers,
    read_message,
    reply_of,
    write_message,
)
from proxy_attestation.loader.http2_output import Http2Output
from proxy_attestation.loader.limits import Budget, Charge, SessionLimits
from proxy_attestation.loader.streams import Stream

_RESETS_MAX: Final = 200
"""Streams that a peer may open and reset before it has let as many be answered."""


class _Call:
    """One stream: its headers, what has arrived of its body, and the task that serves it."""

    def __init__(self, headers: CallHeaders, charge: Charge) -> None:
        self.headers = headers
        self.charge = charge
        self.body = bytearray()
        self.ended = asyncio.Event()
        self.failure: CallError | None = None
        self.task: asyncio.Task[None] | None = None


class GrpcSession:
    """Serves one connection until it ends."""

    def __init__(self, stream: Stream, application: MessageApplication, limits: SessionLimits, budget: Budget) -> None:
        self._stream = stream
        self._application = application
        self._limits = limits
        self._budget = budget
        self._h2 = H2Connection(H2Configuration(client_side=False, header_encoding=False))
        self._h2.local_settings = Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: limits.streams,
                SettingCodes.MAX_HEADER_LIST_SIZE: limits.headers,
            },
        )
        self._h2.decoder.max_header_list_size = limits.headers
        self._output = Http2Output(stream, self._h2, limits.write_s)
        self._calls: dict[int, _Call] = {}
        self._window = asyncio.Event()
        self._idle = asyncio.Event()
        self._idle.set()
        self._goodbye: asyncio.Task[None] | None = None
        self._reading: asyncio.Timeout | None = None
        self._draining = False
        self._resets = 0
        self._active_at = 0.0

    async def run(self) -> None:
        """Serve until the peer goes, breaks the protocol, or the connection was drained.

        Raises:
            OSError: when the connection broke.
        """
        writer = asyncio.create_task(self._output.run())
        self._active_at = asyncio.get_running_loop().time()
        try:
            self._h2.initiate_connection()
            await self._output.flush()
            while not (self._draining and not self._calls):
                data = await self._read()
                if not data:
                    break
                try:
                    for event in self._h2.receive_data(data):
                        self._handle(event)
                except ProtocolError:
                    await self._output.flush()  # h2 has put the GOAWAY that says why into its buffer
                    break
                await self._output.flush()
        finally:
            tasks = [call.task for call in self._calls.values() if call.task is not None]
            tasks += [task for task in (self._goodbye, writer) if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def drain(self) -> None:
        """Take no new calls: tell the peer, and end when the running ones have ended."""
        if not self._draining:
            self._draining = True
            self._goodbye = asyncio.create_task(self._say_goodbye())

    async def _say_goodbye(self) -> None:
        # Not H2Connection.close_connection: after it nothing could be sent, not even the running calls' answers.
        last = self._h2.highest_inbound_stream_id
        self._output.add(GoAwayFrame(stream_id=0, last_stream_id=last, error_code=ErrorCodes.NO_ERROR).serialize())
        with contextlib.suppress(OSError):
            await self._output.flush()
            await self._idle.wait()
            await self._output.finish()
        if self._reading is not None:
            self._reading.reschedule(asyncio.get_running_loop().time())

    async def _read(self) -> bytes:
        loop = asyncio.get_running_loop()
        while True:
            if self._calls:
                self._active_at = loop.time()
            # Counted from the last call, not from the last byte: a peer that only pings is idle.
            end = self._active_at + self._limits.idle_s
            if loop.time() >= end:
                return b""
            try:
                async with asyncio.timeout_at(end) as self._reading:
                    return await self._stream.read()
            except TimeoutError:
                if not self._calls:
                    return b""
            finally:
                self._reading = None

    def _handle(self, event: Event) -> None:
        match event:
            case RequestReceived():
                self._open(event)
            case DataReceived():
                self._take(event)
            case StreamEnded():
                if event.stream_id in self._calls:
                    self._calls[event.stream_id].ended.set()
            case StreamReset():
                self._reset_by_peer(event.stream_id)
            case WindowUpdated() | RemoteSettingsChanged():
                self._window.set()
            case ConnectionTerminated():
                self._draining = True
            case _:
                pass

    def _open(self, event: RequestReceived) -> None:
        stream_id = event.stream_id
        if stream_id is None or self._draining:
            return
        try:
            headers = read_headers((bytes(name), bytes(value)) for name, value in event.headers or ())
        except HttpError as error:
            with contextlib.suppress(H2Error):
                self._h2.send_headers(stream_id, [(b":status", str(error.status).encode())], end_stream=True)
            return
        except CallError as error:
            self._send_status(stream_id, error, unread=True)
            return
        call = self._calls[stream_id] = _Call(headers, Charge(self._budget))
        self._idle.clear()
        call.task = asyncio.create_task(self._serve(stream_id, call))
        call.task.add_done_callback(lambda _: self._closed(stream_id, call))

    def _take(self, event: DataReceived) -> None:
        stream_id = event.stream_id or 0
        # Credit is given back at once: what one body may hold is bounded here, not by its window.
        with contextlib.suppress(StreamClosedError):
            self._h2.acknowledge_received_data(event.flow_controlled_length or 0, stream_id)
        call = self._calls.get(stream_id)
        if call is None or call.failure is not None:
            return
        data = event.data or b""
        if len(call.body) + len(data) > PREFIX_BYTES + self._limits.message:
            call.failure = CallError(Status.RESOURCE_EXHAUSTED, "the message is too large")
        elif not call.charge.take(len(data)):
            call.failure = CallError(Status.RESOURCE_EXHAUSTED, "too many messages at one time")
        else:
            call.body += data
            return
        call.ended.set()

    def _reset_by_peer(self, stream_id: int | None) -> None:
        call = self._calls.get(stream_id or 0)
        if call is not None and call.task is not None:
            call.task.cancel()
        self._resets += 1
        if self._resets > _RESETS_MAX:
            self._h2.close_connection(ErrorCodes.ENHANCE_YOUR_CALM)
            raise ProtocolError("too many resets")

    async def _serve(self, stream_id: int, call: _Call) -> None:
        answered = False
        try:
            try:
                reply = await self._answer(call)
            except CallError as error:
                self._send_status(stream_id, error, unread=call.failure is not None or not call.ended.is_set())
            else:
                await self._reply(stream_id, reply)
            answered = True
            self._resets = max(0, self._resets - 1)
            await self._output.flush()
        except (OSError, H2Error):
            pass  # the connection broke, the peer reset the stream, or opens no window for the answer
        finally:
            if not answered:
                with contextlib.suppress(H2Error):
                    self._h2.reset_stream(stream_id, ErrorCodes.CANCEL)
                self._output.wake()

    def _closed(self, stream_id: int, call: _Call) -> None:
        """Take a call off the books: here, because a task that is cancelled before it starts runs no `finally`."""
        call.charge.let_go()
        del self._calls[stream_id]
        self._active_at = asyncio.get_running_loop().time()
        if not self._calls:
            self._idle.set()

    async def _answer(self, call: _Call) -> bytes:
        limits, loop = self._limits, asyncio.get_running_loop()
        deadline = None if call.headers.timeout is None else loop.time() + call.headers.timeout
        try:
            async with asyncio.timeout(min(limits.request_s, call.headers.timeout or limits.request_s)):
                await call.ended.wait()
        except TimeoutError as error:
            raise CallError(Status.DEADLINE_EXCEEDED, "the request did not arrive in time") from error
        if call.failure is not None:
            raise call.failure
        message = read_message(bytes(call.body))
        left = limits.answer_s if deadline is None else min(limits.answer_s, deadline - loop.time())
        if left <= 0:
            raise CallError(Status.DEADLINE_EXCEEDED, "the deadline passed")
        return reply_of(await call.charge.hold(self._application.call(("grpc", call.headers.path), message, left)))

    async def _reply(self, stream_id: int, reply: bytes) -> None:
        self._h2.send_headers(stream_id, [(b":status", b"200"), (b"content-type", b"application/grpc")])
        view = memoryview(write_message(reply))
        async with asyncio.timeout(self._limits.write_s):
            while view:
                size = min(self._h2.local_flow_control_window(stream_id), self._h2.max_outbound_frame_size, len(view))
                if size > 0:
                    self._h2.send_data(stream_id, bytes(view[:size]))
                    view = view[size:]
                    await self._output.flush()
                else:
                    self._window.clear()
                    await self._output.flush()
                    await self._window.wait()
        self._h2.send_headers(stream_id, [(b"grpc-status", b"0")], end_stream=True)

    def _send_status(self, stream_id: int, error: CallError, *, unread: bool) -> None:
        """Put an answer without a message into h2's buffer, and stop a request that is not read to its end."""
        headers = [
            (b":status", b"200"),
            (b"content-type", b"application/grpc"),
            (b"grpc-status", str(int(error.status)).encode()),
            (b"grpc-message", error.text.encode()),
        ]
        with contextlib.suppress(H2Error):
            self._h2.send_headers(stream_id, headers, end_stream=True)
            if unread:
                self._h2.reset_stream(stream_id, ErrorCodes.NO_ERROR)
