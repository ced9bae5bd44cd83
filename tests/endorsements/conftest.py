"""Fake services, a clock that only sleeping moves, and a vendor."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, TypeVar

import pytest
from fake_vendors import VENDOR, Answer, Clock, FakeService, IntelAnswers, Serve

from proxy_attestation.appraisal.roots import Roots
from proxy_attestation.endorsements.http import Getter, HttpLimits
from proxy_attestation.endorsements.pcs import IntelService
from proxy_attestation_simulator.intel import Vendor

_T = TypeVar("_T")


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start fake services; they are closed at the end."""
    services: list[FakeService] = []

    def start(answer: Answer, context: ssl.SSLContext | None = None) -> FakeService:
        services.append(FakeService(answer, context))
        return services[-1]

    yield start
    for service in services:
        service.close()


@pytest.fixture
def vendor() -> Vendor:
    return VENDOR


@pytest.fixture
def roots(vendor: Vendor) -> Roots:
    return Roots(intel=frozenset({vendor.root_pin}))


@pytest.fixture
def run(clock: Clock) -> Callable[..., Any]:
    """Run an asynchronous function with a getter whose time is the clock's."""

    def call(function: Callable[[Getter], Awaitable[_T]], limits: HttpLimits | None = None, **options: Any) -> _T:
        async def inside() -> _T:
            chosen = {
                "clock": clock.monotonic,
                "now": clock.now,
                "sleep": clock.sleep,
                "chance": lambda: 0.5,
                "context": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),  # the system's roots take their time to load
                **options,
            }
            async with Getter(limits or HttpLimits(interval=0), **chosen) as getter:
                return await function(getter)

        return asyncio.run(inside())

    return call


@pytest.fixture
def intel(vendor: Vendor, clock: Clock) -> IntelAnswers:
    return IntelAnswers(vendor, clock.now)


@pytest.fixture
def pcs(serve: Serve, intel: IntelAnswers) -> FakeService:
    return serve(intel)


@pytest.fixture
def service_of(pcs: FakeService) -> Callable[[Getter], IntelService]:
    return lambda getter: IntelService(getter, pcs.url, f"{pcs.url}/IntelSGXRootCA.der")
