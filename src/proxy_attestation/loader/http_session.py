"""One HTTP/1.1 connection with keep-alive, each request given to a message application.

`h11` keeps the protocol's state and does no I/O. Bounded are: header sections, each body, all bodies of the process
together, the time to send a request, to take an answer, and to idle.
"""

import asyncio
import http
from typing import Final

import h11

from proxy_attestation.loader.applications.model import MessageApplication
from proxy_attestation.loader.http_messages import Answer, AnswerError, read_answer, write_request
from proxy_attestation.loader.limits import Budget, Charge, SessionLimits
from proxy_attestation.loader.streams import Stream

_IDLE_MAX_S: Final = 75.0


class HttpSession:
    """Serves one connection until it ends."""

    def __init__(self, stream: Stream, application: MessageApplication, limits: SessionLimits, budget: Budget) -> None:
        self._stream = stream
        self._application = application
        self._limits = limits
        self._budget = budget
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=limits.headers)
        self._idle: asyncio.Task[bytes] | None = None
        self._draining = False

    async def run(self) -> None:
        """Serve until the peer goes, breaks the protocol, or the connection was drained.

        Raises:
            OSError: when the connection broke.
        """
        while not self._draining and await self._await_request():
            async with asyncio.timeout(self._limits.request_s):
                try:
                    request = await self._event()
                except h11.RemoteProtocolError as error:
                    await self._refuse(error.error_status_hint)
                    return
            if not isinstance(request, h11.Request):
                return
            await self._serve(request)
            if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
                return  # one side said that this was the last request
            self._http.start_next_cycle()

    def drain(self) -> None:
        """Serve the request that is under way, if any, and no other."""
        self._draining = True
        if self._idle is not None:
            self._idle.cancel()

    async def _await_request(self) -> bool:
        """Wait for the first byte of a request; drained and timed-out connections end here."""
        if self._http.trailing_data[0]:
            return True
        # A read that is cancelled has taken nothing.
        self._idle = asyncio.create_task(self._stream.read())
        try:
            async with asyncio.timeout(min(self._limits.idle_s, _IDLE_MAX_S)):
                await asyncio.wait([self._idle])
        except TimeoutError:
            self._idle.cancel()
            await asyncio.wait([self._idle])
        finally:
            idle, self._idle = self._idle, None
        if idle.cancelled():
            return False
        data = idle.result()
        self._http.receive_data(data)
        return bool(data)

    async def _event(self) -> h11.Event | type[h11.NEED_DATA] | type[h11.PAUSED]:
        while True:
            event = self._http.next_event()
            if event is not h11.NEED_DATA:
                return event
            if self._http.they_are_waiting_for_100_continue:
                await self._send(h11.InformationalResponse(status_code=100, headers=[]))
            self._http.receive_data(await self._stream.read())

    async def _serve(self, request: h11.Request) -> None:
        body, charge = bytearray(), Charge(self._budget)
        try:
            try:
                async with asyncio.timeout(self._limits.request_s):
                    while isinstance(event := await self._event(), h11.Data):
                        if len(body) + len(event.data) > self._limits.message:
                            raise AnswerError(413)
                        if not charge.take(len(event.data)):
                            raise AnswerError(503)
                        body += event.data
            except TimeoutError as error:
                raise AnswerError(408) from error
            message = write_request(request, bytes(body))
            result = await charge.hold(self._application.call(("http",), message, self._limits.answer_s))
            answer = read_answer(request.method, result)
        except h11.RemoteProtocolError as error:
            await self._refuse(error.error_status_hint)
        except AnswerError as error:
            await self._refuse(error.status)
        else:
            await self._answer(answer)
        finally:
            charge.let_go()

    async def _answer(self, answer: Answer) -> None:
        headers = list(answer.headers)
        if self._draining:
            headers.append((b"connection", b"close"))
        await self._send(h11.Response(status_code=answer.status, headers=headers))
        if answer.body:
            await self._send(h11.Data(data=answer.body))
        await self._send(h11.EndOfMessage())

    async def _refuse(self, status: int) -> None:
        """Answer with a status of our own; a request that was not read to its end closes the connection."""
        if self._http.our_state not in (h11.IDLE, h11.SEND_RESPONSE):
            return
        text = f"{status} {http.HTTPStatus(status).phrase}\n".encode()
        headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(text)).encode())]
        if self._http.their_state is not h11.DONE:
            headers.append((b"connection", b"close"))
        await self._answer(Answer(status, headers, text))

    async def _send(self, event: h11.Event) -> None:
        data = self._http.send(event)
        if data:
            async with asyncio.timeout(self._limits.write_s):
                await self._stream.write(data)
