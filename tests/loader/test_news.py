"""Asking for renewal information: how often, what counts as an answer, and that no answer is no harm."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cryptography import x509

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError, ProxyAttestationError, RefusedError, UnavailableError
from proxy_attestation.formats.certificate_id import certificate_id
from proxy_attestation.loader.credential import Credential
from proxy_attestation.loader.news import INTERVAL_S, Advice, News, id_of, read_advice
from proxy_attestation.loader.proxy_client import Timing
from proxy_attestation.v1 import proxy_attestation_pb2 as v1

START = datetime(2026, 11, 24, 12, tzinfo=UTC)
PAST = (START - timedelta(hours=2), START - timedelta(hours=1))
NO_NEWS = Advice(None, (), 600.0)
NOW = Advice(PAST, ("sgx.tcb_status",), 600.0)


@dataclass
class Bench:
    """Answers by a script; after it, the sleep lasts for ever."""

    script: list[Advice | ProxyAttestationError]
    credential: Credential | None
    chance: float = 0.5
    now: datetime = START
    slept: list[float] = field(default_factory=list)
    early: list[tuple[int, tuple[str, ...]]] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)
    renew: bool = False

    async def ask(self, credential: Credential) -> Advice:
        assert credential is self.credential
        answer = self.script.pop(0)
        if isinstance(answer, ProxyAttestationError):
            raise answer
        return answer

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if not self.script:
            self.over.set()
            await asyncio.Event().wait()
        self.now += timedelta(seconds=seconds)

    def told(self, credential: Credential, advice: Advice) -> None:
        self.early.append((credential.serial, advice.codes))
        if self.renew:
            self.credential = replace(credential, serial=credential.serial + 1)

    def run(self) -> News:
        async def scenario() -> News:
            news = News(
                self.ask, lambda: self.credential, Timing(lambda: self.now, self.sleep, lambda: self.chance), self.told
            )
            task = asyncio.create_task(news.run())
            await self.over.wait()
            task.cancel()
            return news

        return asyncio.run(scenario())


@pytest.fixture
def bench(make_credential: Callable[[], Credential]) -> Callable[..., Bench]:
    credential = replace(make_credential(), serial=7)
    return lambda *script, **more: Bench(list(script), credential, **more)


def test_no_news_is_asked_for_again_after_what_the_proxy_says(bench: Callable[..., Bench]) -> None:
    made = bench(NO_NEWS, Advice(None, (), 3600.0))
    news = made.run()
    assert made.slept == [60.0, 600.0, 3600.0]
    assert made.early == []
    assert news.asked is not None
    assert (news.asked.serial, news.asked.error, news.asked.next_at) == (7, None, made.now + timedelta(hours=1))


@pytest.mark.parametrize(("chance", "slept"), [(0.0, [60.0, 480.0]), (1.0, [72.0, 720.0])])
def test_jitter_keeps_loaders_apart_and_never_below_the_shortest(
    bench: Callable[..., Bench], chance: float, slept: list[float]
) -> None:
    made = bench(NO_NEWS, chance=chance)
    made.run()
    assert made.slept == pytest.approx(slept)


def test_a_window_in_the_past_is_told_once_for_each_certificate(bench: Callable[..., Bench]) -> None:
    made = bench(NOW, NOW, NO_NEWS, NOW)
    made.run()
    assert made.early == [(7, ("sgx.tcb_status",))]
    made = bench(NOW, NOW, renew=True)
    made.run()
    assert [serial for serial, _ in made.early] == [7, 8]


def test_a_window_to_come_is_no_reason(bench: Callable[..., Bench]) -> None:
    ahead = START + timedelta(minutes=30)
    made = bench(Advice((ahead, ahead), (), 600.0))
    made.run()
    assert made.early == []


def test_the_proxys_clock_may_be_a_minute_ahead() -> None:
    for seconds, now in ((60, True), (61, False)):
        end = START + timedelta(seconds=seconds)
        assert Advice((START, end), (), 600.0).is_now(START) is now
    assert not NO_NEWS.is_now(START)


@pytest.mark.parametrize(
    "error",
    [
        UnavailableError(Code.PROXY_UNREACHABLE),
        UnavailableError(Code.PROXY_PROTOCOL),
        RefusedError(Code.PEER_ROOT_PIN),
        FormatError(Code.REQUEST_MALFORMED),
    ],
)
def test_no_answer_is_no_harm_and_asked_again_after_twice_the_time(
    bench: Callable[..., Bench], error: ProxyAttestationError
) -> None:
    made = bench(*[error] * 12, NOW)
    news = made.run()
    assert made.slept[:4] == [60.0, 120.0, 240.0, 480.0]
    assert max(made.slept) == INTERVAL_S[1]
    assert len(made.early) == 1
    assert news.asked is not None
    assert news.asked.error is None


def test_without_a_certificate_nobody_is_asked(bench: Callable[..., Bench]) -> None:
    made = bench(NOW)
    made.credential = None

    async def scenario() -> News:
        news = News(made.ask, lambda: None, Timing(lambda: made.now, nap, lambda: 0.5), made.told)
        task = asyncio.create_task(news.run())
        await made.over.wait()
        task.cancel()
        return news

    async def nap(seconds: float) -> None:
        made.slept.append(seconds)
        if len(made.slept) > 3:
            made.over.set()
            await asyncio.Event().wait()

    assert asyncio.run(scenario()).asked is None
    assert made.slept == [60.0] * 4


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        ({}, Advice(None, (), 60.0)),
        ({"retry_after": -5}, Advice(None, (), 60.0)),
        ({"retry_after": 2**62}, Advice(None, (), 21600.0)),
        ({"renewal": {"start": 5, "end": 4}}, Advice(None, (), 60.0)),
        ({"renewal": {"start": 0, "end": 4}}, Advice(None, (), 60.0)),
        ({"renewal": {"start": 5, "end": 2**62}}, Advice(None, (), 60.0)),
        ({"codes": ["a\nb", "x" * 1000]}, Advice(None, ("ab", "x" * 64), 60.0)),
        ({"codes": ["a"] * 100}, Advice(None, ("a",) * 16, 60.0)),
    ],
)
def test_an_odd_answer_is_brought_into_bounds(answer: dict[str, Any], wanted: Advice) -> None:
    assert read_advice(v1.GetRenewalInformationResponse(**answer)) == wanted


def test_a_window_is_read() -> None:
    answer = v1.GetRenewalInformationResponse(renewal=v1.RenewalInformation(start=1, end=2), codes=["a.b"])
    window = (datetime.fromtimestamp(1, UTC), datetime.fromtimestamp(2, UTC))
    assert read_advice(answer) == Advice(window, ("a.b",), 60.0)


def test_a_certificate_is_named_by_its_issuer_and_serial(make_credential: Callable[[], Credential]) -> None:
    credential = make_credential()
    leaf, issuer = (x509.load_der_x509_certificate(der) for der in credential.chain[:2])
    key_id = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
    assert id_of(credential) == certificate_id(key_id, credential.serial)
    assert credential.serial == leaf.serial_number
