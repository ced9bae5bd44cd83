import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_attestation.loader.applications.model import CallResult, Outcome
from proxy_attestation.loader.grpc_messages import (
    CallError,
    HttpError,
    Status,
    read_headers,
    read_message,
    reply_of,
    write_message,
)

GOOD = {b":method": b"POST", b":path": b"/pkg.Service/Method", b"content-type": b"application/grpc"}


def headers(**changes: bytes) -> list[tuple[bytes, bytes]]:
    return list({**GOOD, **{name.replace("_", "-").encode(): value for name, value in changes.items()}}.items())


def test_good_headers() -> None:
    found = read_headers(headers())
    assert (found.path, found.timeout) == ("/pkg.Service/Method", None)


@pytest.mark.parametrize("value", [b"application/grpc", b"application/grpc+proto", b"application/grpc;charset=utf-8"])
def test_content_types_of_grpc(value: bytes) -> None:
    assert read_headers(headers(content_type=value)).path


@pytest.mark.parametrize(
    ("text", "seconds"),
    [(b"1S", 1.0), (b"2M", 120.0), (b"1H", 3600.0), (b"250m", 0.25), (b"5u", 5e-6), (b"99999999n", 0.099999999)],
)
def test_timeouts(text: bytes, seconds: float) -> None:
    assert read_headers(headers(grpc_timeout=text)).timeout == pytest.approx(seconds)


@pytest.mark.parametrize("text", [b"", b"1", b"S", b"123456789S", b"-1S", b"1s", b"1.5S", "\uff11S".encode()])
def test_malformed_timeouts(text: bytes) -> None:
    with pytest.raises(CallError) as refused:
        read_headers(headers(grpc_timeout=text))
    assert refused.value.status == Status.INTERNAL


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"content_type": b"application/grpcx"}, 415),
        ({"content_type": b"application/json"}, 415),
        ({"content_type": b""}, 415),
    ],
)
def test_requests_that_are_no_grpc(change: dict[str, bytes], status: int) -> None:
    with pytest.raises(HttpError) as refused:
        read_headers(headers(**change))
    assert refused.value.status == status


def test_another_http_method() -> None:
    with pytest.raises(HttpError) as refused:
        read_headers([(b":method", b"GET"), *headers()[1:]])
    assert refused.value.status == 405


@pytest.mark.parametrize("path", [b"", b"/", b"/pkg.Service", b"/a/b/c", b"/a b/c", b"a/b", b"/a/b\n", b"/a//", b"*"])
def test_paths_that_name_no_method(path: bytes) -> None:
    changed = [(name, path if name == b":path" else value) for name, value in headers()]
    with pytest.raises(CallError) as refused:
        read_headers(changed)
    assert refused.value.status == Status.UNIMPLEMENTED


def test_compression_is_not_spoken() -> None:
    with pytest.raises(CallError) as refused:
        read_headers(headers(grpc_encoding=b"gzip"))
    assert refused.value.status == Status.UNIMPLEMENTED
    assert read_headers(headers(grpc_encoding=b"identity")).path


@given(st.binary(max_size=300))
@settings(deadline=None, max_examples=100)
def test_a_message_comes_out_as_it_went_in(message: bytes) -> None:
    assert read_message(write_message(message)) == message


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", Status.INTERNAL),
        (b"\0\0\0\0", Status.INTERNAL),
        (b"\1\0\0\0\0", Status.INTERNAL),
        (b"\0\0\0\0\2x", Status.INTERNAL),
        (b"\0\0\0\0\0\0\0\0\0\0", Status.UNIMPLEMENTED),
    ],
)
def test_bodies_that_are_not_one_message(body: bytes, status: Status) -> None:
    with pytest.raises(CallError) as refused:
        read_message(body)
    assert refused.value.status == status


@given(st.binary(max_size=64))
@settings(deadline=None, max_examples=200)
def test_any_body_is_a_message_or_a_call_error(body: bytes) -> None:
    with contextlib.suppress(CallError):
        assert write_message(read_message(body)) == body


@given(st.lists(st.tuples(st.binary(max_size=20), st.binary(max_size=40)), max_size=6))
@settings(deadline=None, max_examples=200)
def test_any_headers_are_read_or_refused(changes: list[tuple[bytes, bytes]]) -> None:
    with contextlib.suppress(CallError, HttpError):
        read_headers([*changes, *headers()])


def test_a_good_end_is_the_reply() -> None:
    assert reply_of(CallResult(Outcome.EXITED, 0, b"reply")) == b"reply"


@pytest.mark.parametrize(
    ("result", "status"),
    [
        (CallResult(Outcome.EXITED, 5, b"ignored"), 5),
        (CallResult(Outcome.EXITED, 16), 16),
        (CallResult(Outcome.EXITED, 17), Status.INTERNAL),
        (CallResult(Outcome.TRAPPED), Status.INTERNAL),
        (CallResult(Outcome.TIME), Status.DEADLINE_EXCEEDED),
        (CallResult(Outcome.FUEL), Status.RESOURCE_EXHAUSTED),
        (CallResult(Outcome.OUTPUT), Status.RESOURCE_EXHAUSTED),
        (CallResult(Outcome.LOST), Status.UNAVAILABLE),
        (CallResult(Outcome.REFUSED), Status.RESOURCE_EXHAUSTED),
    ],
)
def test_other_ends_are_statuses(result: CallResult, status: int) -> None:
    with pytest.raises(CallError) as refused:
        reply_of(result)
    assert refused.value.status == status
