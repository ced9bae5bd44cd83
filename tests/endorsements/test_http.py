"""The getter: whatever the other side does, an answer or one error of ours, within size, tries and time."""

import asyncio
import gzip
import socket
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fake_vendors import NOW, Answer, Clock, Reply, Serve, WhenStalled, fixed, in_turn
from hypothesis import given, settings
from hypothesis import strategies as st
from tls_files import self_signed

from proxy_attestation.codes import Code
from proxy_attestation.endorsements.http import Getter, HttpLimits, base_url, retry_after, tls_context
from proxy_attestation.errors import ConfigurationError, ProxyAttestationError, UnavailableError, UsageError

LIMIT = 1000
Run = Callable[..., Any]


def get(url: str, **options: Any) -> Callable[[Getter], Any]:
    return lambda getter: getter.get(f"{url}/a", limit=LIMIT, **options)


def refused(run: Run, url: str, limits: HttpLimits | None = None, **options: Any) -> Code:
    with pytest.raises(UnavailableError) as caught:
        run(get(url), limits, **options)
    return caught.value.code


def test_an_answer(run: Run, serve: Serve) -> None:
    service = serve(fixed(Reply(headers={"X-Chain": "a%20b"}, body=b"hello")))
    answer = run(get(service.url, query={"fmspc": "00FF"}, headers={"key": "secret"}))
    assert (answer.body, answer.headers["x-chain"]) == (b"hello", "a%20b")
    assert answer.url == f"{service.url}/a"
    (request,) = service.requests
    assert request.query == {"fmspc": "00FF"}
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["key"] == "secret"
    assert "cookie" not in request.headers


@pytest.mark.parametrize(
    ("wait", "slept"), [("7", 7.5), ("Tue, 24 Nov 2026 00:00:09 GMT", 9.5), ("nonsense", 0.5), (None, 0.5)]
)
def test_429_is_tried_again_when_it_says(run: Run, serve: Serve, clock: Clock, wait: str | None, slept: float) -> None:
    service = serve(in_turn(Reply(429, {} if wait is None else {"retry-after": wait}), Reply(body=b"hello")))
    assert run(get(service.url)).body == b"hello"
    assert clock.sleeps == [slept]


def test_a_retry_after_beyond_the_cap_ends_the_call(run: Run, serve: Serve, clock: Clock) -> None:
    service = serve(fixed(Reply(429, {"retry-after": "121"})))
    assert refused(run, service.url) is Code.ENDORSEMENTS_UNAVAILABLE
    assert (len(service.requests), clock.sleeps) == (1, [])


@pytest.mark.parametrize("status", [500, 502, 503, 599])
def test_a_failing_server_is_tried_again(run: Run, serve: Serve, status: int) -> None:
    assert run(get(serve(in_turn(Reply(status), Reply(body=b"hello"))).url)).body == b"hello"


def test_tries_end_and_waits_double(run: Run, serve: Serve, clock: Clock) -> None:
    service = serve(fixed(Reply(500)))
    limits = HttpLimits(interval=0, attempts=5, most_wait=3)
    assert refused(run, service.url, limits) is Code.ENDORSEMENTS_UNAVAILABLE
    assert (len(service.requests), clock.sleeps) == (5, [0.5, 1, 1.5, 1.5])


def test_the_budget_ends_the_call_before_a_wait_beyond_it(run: Run, serve: Serve, clock: Clock) -> None:
    service = serve(fixed(Reply(503, {"retry-after": "40"})))
    assert refused(run, service.url, HttpLimits(interval=0, budget=100)) is Code.ENDORSEMENTS_UNAVAILABLE
    assert (len(service.requests), clock.sleeps) == (3, [40.5, 41])


@pytest.mark.parametrize("part", ["headers", "body"])
def test_what_does_not_come_to_an_end_is_ended(run: Run, serve: Serve, part: str) -> None:
    service = serve(fixed(Reply(body=b"hello" * 10, stall=part)))
    limits = HttpLimits(interval=0, attempts=1, read=60)
    assert refused(run, service.url, limits, deadline=lambda _: WhenStalled(service)) is Code.ENDORSEMENTS_UNAVAILABLE


def test_the_deadline_of_a_try_is_the_limit(run: Run, serve: Serve) -> None:
    asked: list[float] = []

    def deadline(seconds: float) -> Any:
        asked.append(seconds)
        return asyncio.timeout(None)

    service = serve(in_turn(Reply(500), Reply(body=b"hello")))
    assert run(get(service.url), HttpLimits(interval=0, total=12), deadline=deadline).body == b"hello"
    assert asked == [12, 12]


def test_a_truncated_body_is_tried_again(run: Run, serve: Serve) -> None:
    service = serve(in_turn(Reply(body=b"hel", length=5), Reply(body=b"hello")))
    assert run(get(service.url)).body == b"hello"
    assert refused(run, serve(fixed(Reply(body=b"hel", length=5))).url) is Code.ENDORSEMENTS_UNAVAILABLE


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(Reply(body=bytes(LIMIT + 1)), id="too large"),
        pytest.param(Reply(body=bytes(LIMIT + 1), length=-1), id="too large, without length"),
        pytest.param(Reply(body=b"x", length=LIMIT + 1), id="said to be too large"),
        pytest.param(
            Reply(headers={"content-encoding": "gzip"}, body=gzip.compress(bytes(10**7))[:900]), id="gzip bomb"
        ),
        pytest.param(Reply(headers={"content-encoding": "br"}, body=b"x"), id="compressed"),
        pytest.param(Reply(302, {"location": "/b"}), id="redirect"),
        pytest.param(Reply(302, {"location": "http://127.0.0.1:1/b"}), id="redirect to another host"),
        pytest.param(Reply(400), id="bad request"),
        pytest.param(Reply(401), id="unauthorized"),
        pytest.param(Reply(206, body=b"x"), id="a part"),
        pytest.param(Reply(204), id="nothing"),
    ],
)
def test_what_no_such_service_answers_is_refused_at_once(run: Run, serve: Serve, clock: Clock, reply: Reply) -> None:
    service = serve(fixed(reply))
    assert refused(run, service.url) is Code.ENDORSEMENTS_SOURCE
    assert ([request.path for request in service.requests], clock.sleeps) == (["/a"], [])


def test_cookies_are_not_kept(run: Run, serve: Serve) -> None:
    service = serve(in_turn(Reply(500, {"set-cookie": "a=b"}), Reply(headers={"set-cookie": "a=b"})))

    async def ask(getter: Getter) -> None:
        await getter.get(f"{service.url}/a", limit=LIMIT)
        await getter.get(f"{service.url}/b", limit=LIMIT)

    run(ask)
    assert [("cookie" in request.headers) for request in service.requests] == [False, False, False, False]


def test_a_body_of_exactly_the_limit_is_taken(run: Run, serve: Serve) -> None:
    assert len(run(get(serve(fixed(Reply(body=bytes(LIMIT)))).url)).body) == LIMIT


@pytest.mark.parametrize("status", [404, 410, 461, 462])
def test_what_the_vendor_does_not_know(run: Run, serve: Serve, status: int) -> None:
    assert refused(run, serve(fixed(Reply(status))).url) is Code.ENDORSEMENTS_UNKNOWN


def test_nobody_listens(run: Run) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    assert refused(run, f"http://127.0.0.1:{port}") is Code.ENDORSEMENTS_UNAVAILABLE


def test_requests_to_one_host_keep_their_distance(run: Run, serve: Serve, clock: Clock) -> None:
    one, other = serve(fixed(Reply())), serve(fixed(Reply()))

    async def ask(getter: Getter) -> None:
        for service in (one, other, one, one):
            await getter.get(f"{service.url}/a", limit=LIMIT)

    run(ask, HttpLimits(interval=2))
    assert clock.sleeps == [2, 2]


def test_the_environment_names_no_proxy(run: Run, serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    assert run(get(serve(fixed(Reply(body=b"hello"))).url)).body == b"hello"


def test_a_proxy_that_was_configured_is_used(run: Run, serve: Serve) -> None:
    proxy = serve(fixed(Reply(body=b"from the proxy")))
    assert run(get("http://pcs.invalid"), proxy=proxy.url).body == b"from the proxy"


@pytest.fixture
def tls(tmp_path: Path) -> tuple[ssl.SSLContext, Path]:
    """Return a server's context for 127.0.0.1, and the file of the certificate that it presents."""
    return self_signed(tmp_path)


def test_an_unknown_tls_certificate_is_refused_at_once(run: Run, serve: Serve, tls: Any) -> None:
    context, _ = tls
    service = serve(fixed(Reply(body=b"hello")), context)
    assert refused(run, service.url) is Code.ENDORSEMENTS_SOURCE
    assert service.requests == []


def test_a_tls_certificate_that_was_configured_is_taken(run: Run, serve: Serve, tls: Any) -> None:
    context, file = tls
    service = serve(fixed(Reply(body=b"hello")), context)
    assert run(get(service.url), context=tls_context(file)).body == b"hello"


def test_a_ca_file_without_certificates(tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("nothing")
    for name in ("ca.pem", "absent.pem"):
        with pytest.raises(ConfigurationError) as caught:
            tls_context(tmp_path / name)
        assert caught.value.code is Code.CONFIGURATION_MALFORMED


@pytest.mark.parametrize("text", ["https://pcs.example.org", "http://[::1]:8081/pccs", "https://pcs.example.org:443/"])
def test_base_urls(text: str) -> None:
    assert base_url(text) == text.rstrip("/")


@pytest.mark.parametrize(
    "text",
    ["", "pcs.example.org", "ftp://a", "https://", "https://u:p@a", "https://a?b", "https://a#b", "https://a:99999"],
)
def test_what_is_no_base_url(text: str) -> None:
    with pytest.raises(UsageError):
        base_url(text)


@settings(max_examples=300)
@given(st.text(max_size=60) | st.datetimes().map(lambda time: f"{time:%a, %d %b %Y %H:%M:%S GMT}"))
def test_any_retry_after_is_seconds_or_nothing(text: str) -> None:
    found = retry_after(text, NOW)
    assert found is None or found >= 0


def test_a_retry_after_that_has_passed() -> None:
    assert retry_after("Tue, 24 Nov 2026 00:00:00 GMT", datetime(2026, 11, 25, tzinfo=UTC)) == 0


RAW = st.binary(max_size=200) | st.builds(
    lambda status, lines, body: b"HTTP/1.1 %d X\r\n%s\r\n%s" % (status, b"".join(lines), body),
    st.integers(100, 999),
    st.lists(
        st.sampled_from(
            [
                b"content-length: 5\r\n",
                b"content-length: -1\r\n",
                b"content-length: 99999999999999999999999\r\n",
                b"transfer-encoding: chunked\r\n",
                b"content-encoding: gzip\r\n",
                b"retry-after: \xff\r\n",
                b"set-cookie: a=b\r\n",
                b"location: http://[\r\n",
                b"x: " + b"y" * 200 + b"\r\n",
            ]
        ),
        max_size=3,
    ),
    st.binary(max_size=50),
)


def test_any_bytes_give_an_answer_or_an_error_of_ours(run: Run, serve: Serve) -> None:
    replies: list[bytes] = []
    answer: Answer = lambda _request, _number: Reply(raw=replies[-1])  # noqa: E731 - typed as what it answers
    service = serve(answer)

    @settings(max_examples=150, deadline=None)
    @given(RAW)
    def ask(raw: bytes) -> None:
        replies.append(raw)
        try:
            assert len(run(get(service.url), HttpLimits(interval=0, attempts=1)).body) <= LIMIT
        except ProxyAttestationError as error:
            assert str(error.code).startswith("endorsements.")

    ask()
