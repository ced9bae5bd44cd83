import h11
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_attestation.loader.applications.model import CallResult, Outcome
from proxy_attestation.loader.http_messages import AnswerError, end_to_end, read_answer, write_request


def written(output: bytes) -> CallResult:
    return CallResult(Outcome.EXITED, 0, output)


def test_a_request_is_written_with_its_length_and_without_the_connections_headers() -> None:
    request = h11.Request(
        method="POST",
        target="/path?q",
        headers=[
            ("Host", "app.example.org"),
            ("Connection", "close, X-Hop"),
            ("X-Hop", "1"),
            ("Transfer-Encoding", "chunked"),
            ("Upgrade", "h2c"),
            ("TE", "trailers"),
            ("Accept", "*/*"),
        ],
    )
    message = write_request(request, b"body")
    assert message == (
        b"POST /path?q HTTP/1.1\r\nhost: app.example.org\r\naccept: */*\r\ncontent-length: 4\r\n\r\nbody"
    )


def test_an_answer_is_read() -> None:
    answer = read_answer(b"GET", written(b"HTTP/1.1 201 Created\r\nContent-Length: 2\r\nX-A: b\r\n\r\nok"))
    assert (answer.status, answer.body) == (201, b"ok")
    assert (b"x-a", b"b") in answer.headers


def test_hop_by_hop_headers_of_an_answer_are_dropped() -> None:
    output = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\n\r\n"
    answer = read_answer(b"GET", written(output))
    assert answer.headers == [(b"content-length", b"0")]
    assert end_to_end([(b"Upgrade", b"x"), (b"A", b"b")]) == [(b"a", b"b")]


@pytest.mark.parametrize("status", [b"204 No Content", b"304 Not Modified"])
def test_statuses_without_a_body(status: bytes) -> None:
    answer = read_answer(b"GET", written(b"HTTP/1.1 " + status + b"\r\n\r\n"))
    assert answer.body == b""


def test_an_answer_to_head_announces_a_body_and_has_none() -> None:
    answer = read_answer(b"HEAD", written(b"HTTP/1.1 200 OK\r\nContent-Length: 25\r\n\r\n"))
    assert (answer.body, dict(answer.headers)[b"content-length"]) == (b"", b"25")


@pytest.mark.parametrize(
    "output",
    [
        b"",
        b"garbage",
        b"HTTP/1.1 200 OK\r\n\r\nno length",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nshort",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nlonger than that",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nBad Header: x\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: " + b"x" * 100_000 + b"\r\nContent-Length: 0\r\n\r\n",
    ],
)
def test_answers_that_are_none(output: bytes) -> None:
    with pytest.raises(AnswerError) as refused:
        read_answer(b"GET", written(output))
    assert refused.value.status == 502


@pytest.mark.parametrize(
    ("result", "status"),
    [
        (CallResult(Outcome.EXITED, 1, b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"), 502),
        (CallResult(Outcome.TRAPPED), 502),
        (CallResult(Outcome.OUTPUT), 502),
        (CallResult(Outcome.TIME), 504),
        (CallResult(Outcome.FUEL), 504),
        (CallResult(Outcome.LOST), 503),
        (CallResult(Outcome.REFUSED), 503),
    ],
)
def test_failed_calls(result: CallResult, status: int) -> None:
    with pytest.raises(AnswerError) as refused:
        read_answer(b"GET", result)
    assert refused.value.status == status


@given(st.binary(max_size=300), st.booleans())
@settings(deadline=None, max_examples=200)
def test_any_output_is_an_answer_or_refused(output: bytes, headed: bool) -> None:
    head = b"HTTP/1.1 200 OK\r\n" if headed else b""
    try:
        answer = read_answer(b"GET", written(head + output))
    except AnswerError as error:
        assert error.status == 502
    else:
        assert 200 <= answer.status <= 599
