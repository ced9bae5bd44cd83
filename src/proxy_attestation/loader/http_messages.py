"""HTTP/1.1 messages as a message application reads and writes them: one, with Content-Length (RFC 9112).

What belongs to a connection (RFC 9110, section 7.6.1) is dropped on the way in and on the way out: the connection is
the loader's.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

import h11

from proxy_attestation.loader.applications.model import CallResult, Outcome

Headers = list[tuple[bytes, bytes]]

_CONNECTION: Final = frozenset(
    {
        b"connection",
        b"expect",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
_HEAD_MAX: Final = 64 * 1024


class AnswerError(Exception):
    """A request that is answered with a status of the loader's own.

    Attributes:
        status: the HTTP status.
    """

    def __init__(self, status: int) -> None:
        super().__init__(str(status))
        self.status = status


@dataclass(frozen=True, slots=True)
class Answer:
    """An application's answer.

    Attributes:
        status: the final status, 200 to 599.
        headers: without those of the connection.
        body: the whole body; empty where the request or the status allows none.
    """

    status: int
    headers: Headers
    body: bytes


def end_to_end(headers: Iterable[tuple[bytes, bytes]]) -> Headers:
    """Drop the connection's headers, and those that `Connection` names."""
    everything = [(bytes(name).lower(), bytes(value)) for name, value in headers]
    named = {
        token.strip().lower() for name, value in everything if name == b"connection" for token in value.split(b",")
    }
    return [(name, value) for name, value in everything if name not in _CONNECTION and name not in named]


def write_request(request: h11.Request, body: bytes) -> bytes:
    """Write the message that the application reads."""
    headers = [pair for pair in end_to_end(request.headers) if pair[0] != b"content-length"]
    headers.append((b"content-length", str(len(body)).encode()))
    lines = [b"%b %b HTTP/1.1" % (request.method, request.target), *(b"%b: %b" % pair for pair in headers)]
    return b"\r\n".join(lines) + b"\r\n\r\n" + body


def read_answer(method: bytes, result: CallResult) -> Answer:
    """Read what the application wrote.

    Args:
        method: of the request; an answer to HEAD has no body.
        result: how the call ended.

    Raises:
        AnswerError: 502 where it failed or wrote anything but one answer with Content-Length, 503 where it cannot be
            reached or too many calls wait for it, 504 where it took too long.
    """
    match result.outcome:
        case Outcome.EXITED if result.exit_code == 0:
            return _parse(method, result.output)
        case Outcome.TIME | Outcome.FUEL:
            raise AnswerError(504)
        case Outcome.LOST | Outcome.REFUSED:
            raise AnswerError(503)
        case _:
            raise AnswerError(502)


def _parse(method: bytes, output: bytes) -> Answer:
    if not 0 <= output.find(b"\r\n\r\n") <= _HEAD_MAX:
        raise AnswerError(502)
    connection = h11.Connection(h11.CLIENT, max_incomplete_event_size=_HEAD_MAX)
    try:
        # h11 reads an answer only to a request that it has sent.
        connection.send(h11.Request(method=method, target="/", headers=[("Host", "application")]))
        connection.send(h11.EndOfMessage())
        connection.receive_data(output)
        connection.receive_data(b"")
        head = connection.next_event()
        if not isinstance(head, h11.Response):
            raise AnswerError(502)
        lengths = [value for name, value in head.headers if name == b"content-length"]
        chunked = any(name == b"transfer-encoding" for name, _ in head.headers)
        bodiless = method == b"HEAD" or head.status_code in (204, 304)
        if chunked or (not lengths and not bodiless):
            raise AnswerError(502)
        body = b""
        while isinstance(event := connection.next_event(), h11.Data):
            body += event.data
        if not isinstance(event, h11.EndOfMessage) or connection.trailing_data[0]:
            raise AnswerError(502)
    except h11.ProtocolError as error:
        raise AnswerError(502) from error
    return Answer(head.status_code, end_to_end(head.headers), body)
