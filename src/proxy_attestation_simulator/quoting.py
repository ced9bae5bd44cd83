"""The quoting service of a simulated platform, on a stream socket that only the measured program has.

A frame is a u32 big-endian length and that many bytes of CBOR. The request is `{1: report data, 64 bytes}` in its one
deterministic encoding, with `{2: nonce, 3: public key}` beside it where the TEE has such slots; the answer is
`{1: quote}`, or `{2: text}` where there is no quote. Requests are answered in
order. A request of another form gets `{2: text}` too; one that declares more than 1 KiB ends the connection after
that answer, since nobody could tell where the next one begins.
"""

import socket
import struct
from collections.abc import Callable
from typing import Final, TypeAlias

import cbor2

from proxy_attestation_simulator.errors import SimulatorError

FRAME_MAX: Final = 1024
REPORT_DATA_SIZE: Final = 64

_SLOT_MAX: Final = 512
_QUOTE: Final = 1
_ERROR: Final = 2


Quote: TypeAlias = Callable[[bytes, bytes, bytes], bytes]
"""Makes evidence over 64 bytes of report data, a nonce and a public key; the last two may be empty."""


def serve(connection: socket.socket, quote: Quote) -> None:
    """Answer requests until the other end closes.

    Args:
        connection: a stream socket; the caller closes it.
        quote: makes evidence.
    """
    try:
        while (head := _receive(connection, 4)) is not None:
            (size,) = struct.unpack(">I", head)
            if size > FRAME_MAX:
                _send(connection, {_ERROR: f"a request of {size} bytes, at most {FRAME_MAX} allowed"})
                connection.shutdown(socket.SHUT_RDWR)
                return
            body = _receive(connection, size)
            if body is None:
                return
            _send(connection, answer(body, quote))
    except OSError:
        return  # the other end went away, or the caller closed the connection


def answer(body: bytes, quote: Quote) -> dict[int, bytes | str]:
    """Answer one request, given without its length."""
    try:
        request = cbor2.loads(body)
    except (cbor2.CBORError, ValueError, TypeError, RecursionError):
        request = None
    if not isinstance(request, dict) or cbor2.dumps(request) != body or not _is_request(request):
        return {_ERROR: "a request is {1: report data of 64 bytes} in deterministic CBOR"}
    try:
        return {_QUOTE: quote(request[1], request.get(2, b""), request.get(3, b""))}
    except SimulatorError as error:
        return {_ERROR: str(error)}


def _is_request(request: dict[object, object]) -> bool:
    sized = all(isinstance(value, bytes) and 0 < len(value) <= _SLOT_MAX for value in request.values())
    data = request.get(1)
    return list(request) in ([1], [1, 2, 3]) and sized and isinstance(data, bytes) and len(data) == REPORT_DATA_SIZE


def _send(connection: socket.socket, message: dict[int, bytes | str]) -> None:
    body = cbor2.dumps(message)
    connection.sendall(struct.pack(">I", len(body)) + body)


def _receive(connection: socket.socket, size: int) -> bytes | None:
    """Return exactly `size` bytes, or None where the stream ends before."""
    data = bytearray()
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            return None
        data += piece
    return bytes(data)
