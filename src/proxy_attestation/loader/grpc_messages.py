"""What unary gRPC looks like inside HTTP/2 (gRPC "PROTOCOL-HTTP2"): request headers, the message's frame, statuses."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from proxy_attestation.loader.applications.model import CallResult, Outcome

PREFIX_BYTES: Final = 5
_PATH: Final = re.compile(r"/[A-Za-z0-9_.]{1,512}/[A-Za-z0-9_]{1,256}\Z")
_TIMEOUT: Final = re.compile(r"([0-9]{1,8})([HMSmun])\Z")
_UNIT_S: Final = {"H": 3600.0, "M": 60.0, "S": 1.0, "m": 1e-3, "u": 1e-6, "n": 1e-9}
_CONTENT_TYPE: Final = re.compile(r"application/grpc(\+[a-z0-9.+-]+)?(;.*)?\Z")


class Status(IntEnum):
    """gRPC's status codes, as far as the loader gives them by itself."""

    OK = 0
    CANCELLED = 1
    UNKNOWN = 2
    DEADLINE_EXCEEDED = 4
    RESOURCE_EXHAUSTED = 8
    UNIMPLEMENTED = 12
    INTERNAL = 13
    UNAVAILABLE = 14


STATUS_MAX: Final = 16
"""UNAUTHENTICATED, the last one."""


class CallError(Exception):
    """A call that is answered with a status and no message.

    Attributes:
        status: the status.
        text: one line for the caller, ASCII.
    """

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


class HttpError(Exception):
    """A request that is no gRPC call; answered with an HTTP status.

    Attributes:
        status: the HTTP status.
    """

    def __init__(self, status: int) -> None:
        super().__init__(str(status))
        self.status = status


@dataclass(frozen=True, slots=True)
class CallHeaders:
    """What a call's headers say.

    Attributes:
        path: `/package.Service/Method`.
        timeout: seconds, or None where the caller waits for ever.
    """

    path: str
    timeout: float | None


def read_headers(headers: Iterable[tuple[bytes, bytes]]) -> CallHeaders:
    """Read a request's headers.

    Raises:
        HttpError: when it is no gRPC request.
        CallError: when it is one that cannot be served.
    """
    found: dict[str, str] = {}
    for name, value in headers:
        # Latin-1 decodes every byte; what matters below is matched as ASCII.
        found.setdefault(name.decode("latin-1"), value.decode("latin-1"))
    if found.get(":method") != "POST":
        raise HttpError(405)
    if _CONTENT_TYPE.match(found.get("content-type", "")) is None:
        raise HttpError(415)
    path = found.get(":path", "")
    if _PATH.match(path) is None:
        raise CallError(Status.UNIMPLEMENTED, "no such method")
    if found.get("grpc-encoding", "identity") != "identity":
        raise CallError(Status.UNIMPLEMENTED, "compressed messages are not accepted")
    timeout = None
    if "grpc-timeout" in found:
        match = _TIMEOUT.match(found["grpc-timeout"])
        if match is None:
            raise CallError(Status.INTERNAL, "grpc-timeout is malformed")
        timeout = int(match[1]) * _UNIT_S[match[2]]
    return CallHeaders(path, timeout)


def read_message(body: bytes) -> bytes:
    """Take the one message out of a request's body: u8 compressed, u32 big-endian length, the message.

    Raises:
        CallError: for none, several, a compressed or a cut one.
    """
    if len(body) < PREFIX_BYTES:
        raise CallError(Status.INTERNAL, "one message was expected")
    if body[0] != 0:
        raise CallError(Status.INTERNAL, "a compressed message without grpc-encoding")
    length = int.from_bytes(body[1:PREFIX_BYTES], "big")
    if len(body) - PREFIX_BYTES < length:
        raise CallError(Status.INTERNAL, "a message shorter than it says")
    if len(body) - PREFIX_BYTES > length:
        raise CallError(Status.UNIMPLEMENTED, "only unary calls are served")
    return body[PREFIX_BYTES:]


def write_message(message: bytes) -> bytes:
    """Put a message into its frame."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def reply_of(result: CallResult) -> bytes:
    """Return the reply message of a call that ended well.

    Raises:
        CallError: with the status that the program exited with, or the one that fits the way it ended.
    """
    match result.outcome:
        case Outcome.EXITED if result.exit_code == 0:
            return result.output
        case Outcome.EXITED if result.exit_code <= STATUS_MAX:
            raise CallError(result.exit_code, "the application refused the call")
        case Outcome.EXITED | Outcome.TRAPPED:
            raise CallError(Status.INTERNAL, "application.failed")
        case Outcome.TIME:
            raise CallError(Status.DEADLINE_EXCEEDED, "application.limit")
        case Outcome.FUEL | Outcome.OUTPUT:
            raise CallError(Status.RESOURCE_EXHAUSTED, "application.limit")
        case Outcome.LOST:
            raise CallError(Status.UNAVAILABLE, "application.failed")
        case Outcome.REFUSED:
            raise CallError(Status.RESOURCE_EXHAUSTED, "too many calls at one time")
