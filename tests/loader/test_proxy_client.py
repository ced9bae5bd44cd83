"""The client over httpx, with a transport in memory in the proxy's place."""

import asyncio
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import httpx
import pytest

from proxy_attestation.codes import Code
from proxy_attestation.errors import ProxyAttestationError, RefusedError, RequestError, UnavailableError
from proxy_attestation.formats.bounds import MESSAGE_MAX
from proxy_attestation.formats.tee import Tee
from proxy_attestation.loader.proxy_client import ProxyAddress, ProxyClient, Timing
from proxy_attestation.relying_party.root_info import RootInfo
from proxy_attestation.service.errors_wire import connect_body, to_wire
from proxy_attestation.v1 import proxy_attestation_pb2 as v1

START: Final = datetime(2026, 11, 24, 12, tzinfo=UTC)
UNTIL: Final = START + timedelta(seconds=100)
ROOT: Final = RootInfo(b"", b"", (), 1, "example.org", b"", b"", "file", True, (), b"", b"")
REQUEST: Final = v1.GetSignedCertificateRequest(session_token=b"token", request=b"request", csr=b"csr")
ANSWER: Final = v1.GetSignedCertificateResponse(chain=[b"leaf", b"issuing"], ledger_index=3)

Handler = Callable[[httpx.Request], httpx.Response]


class Time:
    def __init__(self) -> None:
        self.now = START
        self.slept: list[float] = []

    def clock(self) -> datetime:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += timedelta(seconds=seconds)


class Scripted:
    """Answers with each of a list in turn; the last one for ever."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self.answers = list(answers)
        self.seen: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.seen.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        # A transport gives a stream, which can be read once.
        return httpx.Response(answer.status_code, headers=answer.headers, stream=httpx.ByteStream(answer.content))


def good(message: Any = ANSWER) -> httpx.Response:
    return httpx.Response(200, headers={"content-type": "application/proto"}, content=message.SerializeToString())


def refusing(error: ProxyAttestationError) -> httpx.Response:
    wire = to_wire(error, "request-1")
    return httpx.Response(wire.status.http, headers={"content-type": "application/json"}, content=connect_body(wire))


def call(handler: Handler, time: Time | None = None) -> v1.GetSignedCertificateResponse:
    async def scenario() -> v1.GetSignedCertificateResponse:
        moment = time or Time()
        http = httpx.AsyncClient(transport=httpx.MockTransport(handler), base_url="https://proxy.example.org:7444")
        client = ProxyClient(ROOT, http, Timing(moment.clock, moment.sleep, lambda: 0.5))
        try:
            return await client.get_signed_certificate(REQUEST, UNTIL)
        finally:
            await client.close()

    return asyncio.run(scenario())


def refusal(handler: Handler, time: Time | None = None) -> ProxyAttestationError:
    with pytest.raises(ProxyAttestationError) as refused:
        call(handler, time)
    return refused.value


def test_a_call_as_connect_has_it() -> None:
    proxy = Scripted(good())
    assert call(proxy) == ANSWER
    request = proxy.seen[0]
    assert request.method == "POST"
    assert request.url.path == "/proxy_attestation.v1.ProxyAttestation/GetSignedCertificate"
    assert request.headers["content-type"] == "application/proto"
    assert request.headers["connect-protocol-version"] == "1"
    assert v1.GetSignedCertificateRequest.FromString(request.content) == REQUEST


def test_a_lost_answer_is_asked_for_again_with_the_same_bytes() -> None:
    time = Time()
    proxy = Scripted(httpx.ReadError("reset"), httpx.ConnectError("refused"), httpx.ReadTimeout("late"), good())
    assert call(proxy, time) == ANSWER
    assert len({request.content for request in proxy.seen}) == 1
    assert time.slept == [0.2, 0.4, 0.8]


def test_an_authority_that_restarts_is_waited_for() -> None:
    proxy = Scripted(refusing(UnavailableError(Code.AUTHORITY_UNAVAILABLE)), httpx.Response(503), good())
    assert call(proxy) == ANSWER


def test_a_policy_that_is_just_being_replaced_is_waited_for() -> None:
    stale = refusing(UnavailableError(Code.POLICY_STALE))
    assert call(Scripted(stale, stale, good())) == ANSWER


def test_nobody_is_asked_after_the_challenge_has_ended() -> None:
    time = Time()
    proxy = Scripted(httpx.ConnectError("refused"))
    error = refusal(proxy, time)
    assert (type(error), error.code) == (UnavailableError, Code.PROXY_UNREACHABLE)
    assert START < time.now < UNTIL
    assert len(proxy.seen) > 10


@pytest.mark.parametrize(
    ("answer", "kind", "code"),
    [
        (refusing(RefusedError(Code.SGX_DEBUG)), RefusedError, Code.SGX_DEBUG),
        (refusing(RequestError(Code.CHALLENGE_SPENT)), RequestError, Code.CHALLENGE_SPENT),
        (refusing(UnavailableError(Code.LIMITS_EXHAUSTED)), UnavailableError, Code.LIMITS_EXHAUSTED),
        (refusing(UnavailableError(Code.ENDORSEMENTS_UNAVAILABLE)), UnavailableError, Code.ENDORSEMENTS_UNAVAILABLE),
        (httpx.Response(404, content=b"not here"), UnavailableError, Code.PROXY_PROTOCOL),
        (httpx.Response(302, headers={"location": "https://elsewhere/"}), UnavailableError, Code.PROXY_PROTOCOL),
        (httpx.Response(200, content=b"x"), UnavailableError, Code.PROXY_PROTOCOL),
        (
            httpx.Response(200, headers={"content-type": "application/proto"}, content=b"\xff\xff"),
            UnavailableError,
            Code.PROXY_PROTOCOL,
        ),
        (
            httpx.Response(200, headers={"content-type": "application/proto"}, content=bytes(MESSAGE_MAX + 1)),
            UnavailableError,
            Code.PROXY_PROTOCOL,
        ),
        (
            httpx.Response(200, headers={"content-type": "application/proto", "content-encoding": "br"}, content=b""),
            UnavailableError,
            Code.PROXY_PROTOCOL,
        ),
    ],
)
def test_verdicts_and_nonsense_are_final(answer: httpx.Response, kind: type[ProxyAttestationError], code: Code) -> None:
    proxy = Scripted(answer)
    error = refusal(proxy)
    assert (type(error), error.code) == (kind, code)
    assert len(proxy.seen) == 1


def test_a_challenge_is_asked_for_by_tee() -> None:
    challenge = v1.GetChallengeResponse(session_id=b"s" * 16)
    proxy = Scripted(good(challenge))

    async def scenario() -> v1.GetChallengeResponse:
        time = Time()
        http = httpx.AsyncClient(transport=httpx.MockTransport(proxy), base_url="https://proxy.example.org:7444")
        client = ProxyClient(ROOT, http, Timing(time.clock, time.sleep))
        try:
            return await client.get_challenge(Tee.TDX)
        finally:
            await client.close()

    assert asyncio.run(scenario()) == challenge
    assert proxy.seen[0].url.path.endswith("/GetChallenge")
    assert v1.GetChallengeRequest.FromString(proxy.seen[0].content).tee == "tdx"


def test_nobody_listening_is_unreachable() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]

        async def scenario() -> None:
            address = ProxyAddress(f"https://127.0.0.1:{port}", b"\x01" * 32, "example.org")
            await ProxyClient.connect(address, Timing(Time().clock))

        with pytest.raises(UnavailableError) as refused:
            asyncio.run(scenario())
    assert refused.value.code is Code.PROXY_UNREACHABLE
