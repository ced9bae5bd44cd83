"""The quoting service, frame by frame, on a socket pair."""

import socket
import struct
import threading
from collections.abc import Iterator

import cbor2
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy_attestation_simulator.errors import SimulatorError
from proxy_attestation_simulator.quoting import FRAME_MAX, serve

REQUEST = cbor2.dumps({1: bytes(range(64))})


def _quote(report_data: bytes, nonce: bytes, key: bytes) -> bytes:
    if report_data == bytes(64):
        raise SimulatorError("no quote for zeros")
    return b"quote over " + report_data + nonce + key


def _frame(body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + body


def _receive(connection: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        piece = connection.recv(size - len(data))
        if not piece:
            raise EOFError
        data += piece
    return data


def _answer(connection: socket.socket) -> dict[int, bytes | str]:
    (size,) = struct.unpack(">I", _receive(connection, 4))
    body = _receive(connection, size)
    message: dict[int, bytes | str] = cbor2.loads(body)
    assert cbor2.dumps(message) == body
    return message


@pytest.fixture
def connection() -> Iterator[socket.socket]:
    ours, theirs = socket.socketpair()
    server = threading.Thread(target=serve, args=(theirs, _quote))
    server.start()
    with ours, theirs:
        ours.settimeout(30)
        yield ours
        ours.close()
        server.join(timeout=30)
        assert not server.is_alive()


def test_a_request_is_answered_with_a_quote(connection: socket.socket) -> None:
    for report_data in (bytes(range(64)), b"\xff" * 64):
        connection.sendall(_frame(cbor2.dumps({1: report_data})))
        assert _answer(connection) == {1: b"quote over " + report_data}


def test_a_nonce_and_a_key_may_stand_beside_the_report_data(connection: socket.socket) -> None:
    connection.sendall(_frame(cbor2.dumps({1: bytes(range(64)), 2: b"nonce", 3: b"key"})))
    assert _answer(connection) == {1: b"quote over " + bytes(range(64)) + b"noncekey"}


def test_requests_in_flight_together_are_answered_in_order(connection: socket.socket) -> None:
    several = [bytes([number]) * 64 for number in range(1, 20)]
    connection.sendall(b"".join(_frame(cbor2.dumps({1: report_data})) for report_data in several))
    assert [_answer(connection) for _ in several] == [{1: b"quote over " + report_data} for report_data in several]


def test_a_request_may_arrive_byte_by_byte(connection: socket.socket) -> None:
    for byte in _frame(REQUEST):
        connection.sendall(bytes([byte]))
    assert _answer(connection) == {1: b"quote over " + bytes(range(64))}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff",
        REQUEST[:-1],
        REQUEST + b"\0",
        cbor2.dumps({1: bytes(63)}),
        cbor2.dumps({1: bytes(65)}),
        cbor2.dumps({2: bytes(64)}),
        cbor2.dumps({1: "x" * 64}),
        cbor2.dumps({1: bytes(64), 2: 0}),
        cbor2.dumps({1: bytes(range(64)), 2: b"nonce"}),
        cbor2.dumps({1: bytes(range(64)), 2: b"nonce", 3: b""}),
        cbor2.dumps({1: bytes(range(64)), 2: b"nonce", 3: bytes(513)}),
        cbor2.dumps({3: b"key", 2: b"nonce", 1: bytes(range(64))}),
        cbor2.dumps([1, bytes(64)]),
        b"\xbf" + REQUEST[1:] + b"\xff",
        b"\xa1\x18\x01" + REQUEST[2:],
        bytes(FRAME_MAX),
        REQUEST.replace(bytes(range(64)), bytes(64)),  # well-formed, and there is no quote
    ],
)
def test_a_bad_request_gets_an_error_and_the_next_one_its_quote(connection: socket.socket, body: bytes) -> None:
    connection.sendall(_frame(body) + _frame(REQUEST))
    error = _answer(connection)
    assert list(error) == [2]
    assert isinstance(error[2], str)
    assert _answer(connection) == {1: b"quote over " + bytes(range(64))}


@pytest.mark.parametrize("size", [FRAME_MAX + 1, 0xFFFFFFFF])
def test_a_request_too_large_gets_an_error_and_ends_the_connection(connection: socket.socket, size: int) -> None:
    connection.sendall(struct.pack(">I", size))
    assert list(_answer(connection)) == [2]
    assert connection.recv(1) == b""


@pytest.mark.parametrize("part", [0, 1, 3, 4, 30])
def test_an_end_in_the_middle_ends_the_service(connection: socket.socket, part: int) -> None:
    connection.sendall(_frame(REQUEST)[:part])
    connection.shutdown(socket.SHUT_WR)
    # The fixture sees that the service ends; nothing was answered.
    connection.close()


@settings(deadline=None, max_examples=100)
@given(st.binary(max_size=1500))
@example(_frame(REQUEST))
@example(struct.pack(">I", FRAME_MAX + 1) + bytes(20))
def test_any_bytes_are_answered_with_frames_or_an_end(data: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.sendall(data)
        ours.shutdown(socket.SHUT_WR)
        serve(theirs, _quote)
        theirs.shutdown(socket.SHUT_WR)
        answers = b"".join(iter(lambda: ours.recv(65536), b""))
    while answers:
        (size,) = struct.unpack_from(">I", answers)
        message = cbor2.loads(answers[4 : 4 + size])
        assert list(message) in ([1], [2])
        answers = answers[4 + size :]
