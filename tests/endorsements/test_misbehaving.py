"""Sources that misbehave, each of them in every way, at every document: the set that is held stays, and why is noted.

Which test covers what; those that are named without a file are here, for every row of `PLACES` (PCS: TCB info, QE
identity, PCK CRL, root CRL; PCCS: TCB info, root CRL; KDS: chain, CRL, VCEK):

====================  =========================================  ==================================================
the source            here                                       and beside that
====================  =========================================  ==================================================
429                   test_a_source_that_is_busy_or_broken       test_http: test_429_..., test_a_retry_after_...
500                   test_a_source_that_is_busy_or_broken       test_http: test_a_failing_server_...; e2e/test_refresh
slow                  test_a_source_that_does_not_come_to_an_end test_http: test_what_does_not_come_to_an_end_...
truncated             test_what_is_no_answer                     test_http: test_a_truncated_body_...
gzip bomb, too large  test_what_is_no_answer                     test_http: test_what_no_such_service_answers_...
wrong issuer          test_a_wrong_issuer                        test_pcs: test_an_answer_of_another_vendor; test_kds
stale                 test_what_has_expired                      test_pcs: test_every_fault_of_a_set; test_kds
older than the floor  test_what_is_older_than_what_is_held       test_pcs, test_kds: test_nothing_goes_back; the
                                                                 authority's: e2e/test_refresh, service/test_collateral
====================  =========================================  ==================================================

A VCEK never changes and has no list of its own, so "older" is not about it; "stale" is.
"""

import gzip
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fake_amd import FakeAmd
from fake_vendors import (
    NOW,
    Answer,
    Clock,
    FakeService,
    IntelAnswers,
    Reply,
    Serve,
    WhenStalled,
)

from proxy_attestation.appraisal.roots import Roots
from proxy_attestation.codes import Code
from proxy_attestation.endorsements.cache import Cache
from proxy_attestation.endorsements.http import Getter, HttpLimits
from proxy_attestation.endorsements.kds import AmdTarget, parse_vcek
from proxy_attestation.endorsements.pcs import IntelService, IntelTarget
from proxy_attestation.endorsements.refresh import Outcome, Refresher, Sources
from proxy_attestation.formats.tee import Tee
from proxy_attestation_simulator.intel import Vendor

SGX = IntelTarget(Tee.SGX, bytes.fromhex("00906ed50000"))
HWID = bytes(range(1, 65)).hex()
MILAN = AmdTarget("Milan", vceks=(parse_vcek(f"{HWID}:bl=3,tee=0,snp=22,ucode=209", "Milan"),))
DAY = timedelta(days=1)
PLACES = [
    ("pcs", "/tcb"),
    ("pcs", "/qe/identity"),
    ("pcs", "/pckcrl"),
    ("pcs", "/IntelSGXRootCA.der"),
    ("pccs", "/tcb"),
    ("pccs", "/rootcacrl"),
    ("kds", "/cert_chain"),
    ("kds", "/crl"),
    ("kds", f"/{HWID}"),
]
places = pytest.mark.parametrize(("kind", "path"), PLACES, ids=lambda text: text.strip("/")[:16])


@dataclass
class World:
    """One source that answers well until it is told not to, and a cache."""

    kind: str
    service: FakeService
    good: Answer
    cache: Cache
    run: Callable[..., Outcome]

    @property
    def target(self) -> Any:
        return MILAN if self.kind == "kds" else SGX

    def refresh(self, **options: Any) -> Outcome:
        return self.run(self.kind, self.service, self.target, **options)

    def change(self, path: str, answer: Answer) -> None:
        """Answer one path otherwise."""
        self.service.answer = lambda request, number: (
            answer(request, number) if request.path.endswith(path) else self.good(request, number)
        )

    def refused(self, code: Code, **options: Any) -> None:
        """Refresh, which must fail, and see that what was held still is."""
        before = {name: item.files() for name, item in self.cache.held().items()}
        outcome = self.refresh(**options)
        assert outcome.error is not None
        assert outcome.error.code is code
        assert {name: item.files() for name, item in self.cache.held().items()} == before
        assert self.cache.statuses()[self.target.name].code == str(code)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "endorsements")


@pytest.fixture
def runner(run: Any, cache: Cache, roots: Roots, clock: Clock) -> Callable[..., Outcome]:
    def call(kind: str, service: FakeService, target: Any, *, attempts: int = 1, **options: Any) -> Outcome:
        async def inside(getter: Getter) -> Outcome:
            intel = IntelService(getter, service.url, f"{service.url}/IntelSGXRootCA.der")
            intel = IntelService.pccs(getter, service.url) if kind == "pccs" else intel
            pins = {"Milan": frozenset({FakeAmd().pin})}
            return await Refresher(cache, Sources(getter, intel, roots, pins, service.url), now=clock.now).refresh(
                target
            )

        outcome: Outcome = run(inside, HttpLimits(interval=0, attempts=attempts), **options)
        return outcome

    return call


@pytest.fixture
def world(kind: str, serve: Serve, intel: IntelAnswers, cache: Cache, runner: Any) -> World:
    good: Answer = FakeAmd() if kind == "kds" else intel
    made = World(kind, serve(good), good, cache, runner)
    assert made.refresh().new
    if kind == "kds":
        # A VCEK that is held is not asked for again: from here on it is missing.
        (held,) = cache.held().values()
        (held.directory / MILAN.vceks[0].file_name).unlink()
    made.service.requests.clear()
    return made


@places
@pytest.mark.parametrize("status", [429, 500, 502, 503])
def test_a_source_that_is_busy_or_broken(world: World, path: str, status: int, clock: Clock) -> None:
    world.change(path, lambda _request, _number: Reply(status))
    world.refused(Code.ENDORSEMENTS_UNAVAILABLE, attempts=3)
    assert sum(request.path.endswith(path) for request in world.service.requests) == 3
    assert len(clock.sleeps) == 2
    # And one that has recovered by the second try.
    world.service.requests.clear()
    world.change(path, lambda request, number: world.good(request, 0) if number else Reply(status))
    assert world.refresh(attempts=3).error is None


@places
@pytest.mark.parametrize("part", ["headers", "body"])
def test_a_source_that_does_not_come_to_an_end(world: World, path: str, part: str) -> None:
    world.change(path, lambda request, number: replace(world.good(request, number), stall=part))
    world.refused(Code.ENDORSEMENTS_UNAVAILABLE, deadline=lambda _: WhenStalled(world.service))


@places
@pytest.mark.parametrize(
    ("change", "code"),
    [
        pytest.param({"length": 10**5}, Code.ENDORSEMENTS_UNAVAILABLE, id="truncated"),
        pytest.param(
            {"headers": {"content-encoding": "gzip"}, "body": gzip.compress(bytes(10**7))},
            Code.ENDORSEMENTS_SOURCE,
            id="gzip bomb",
        ),
        pytest.param({"body": bytes(5 * 10**6), "length": -1}, Code.ENDORSEMENTS_SOURCE, id="too large"),
        pytest.param({"body": b"<html>"}, Code.ENDORSEMENTS_SOURCE, id="nonsense"),
        pytest.param({"status": 302, "headers": {"location": "/"}}, Code.ENDORSEMENTS_SOURCE, id="redirect"),
        pytest.param({"status": 404}, Code.ENDORSEMENTS_UNKNOWN, id="unknown"),
    ],
)
def test_what_is_no_answer(world: World, path: str, change: dict[str, Any], code: Code) -> None:
    if change == {"length": 10**5} and path in ("/cert_chain", f"/{HWID}"):
        change = {"length": 6000}  # within what such an answer may be
    world.change(path, lambda request, number: replace(world.good(request, number), **change))
    world.refused(code)


@places
def test_a_wrong_issuer(world: World, path: str, vendor: Vendor, clock: Clock) -> None:
    other: Answer = FakeAmd(label="other") if world.kind == "kds" else IntelAnswers(vendor.stranger, clock.now)
    world.change(path, other)
    world.refused(Code.ENDORSEMENTS_REJECTED)


@places
def test_what_has_expired(world: World, path: str, vendor: Vendor, clock: Clock) -> None:
    if world.kind == "kds":
        amd = FakeAmd(crl_issued=NOW - 3 * DAY, crl_lasts=DAY, ends=NOW - DAY)
        old: Answer = amd
        if path == f"/{HWID}":
            vcek = amd.vcek(MILAN.vceks[0].hwid, MILAN.vceks[0].tcb, lasts=-DAY)
            old = lambda _request, _number: Reply(body=vcek)  # noqa: E731 - one of three answers
    else:
        old = IntelAnswers(vendor, clock.now, issue_date=NOW - 400 * DAY, next_update=NOW - 370 * DAY)
    world.change(path, old)
    world.refused(Code.ENDORSEMENTS_STALE)


@pytest.mark.parametrize(("kind", "path"), [place for place in PLACES if place[1] not in ("/cert_chain", f"/{HWID}")])
def test_what_is_older_than_what_is_held(world: World, path: str, vendor: Vendor, clock: Clock) -> None:
    older: Answer = FakeAmd(crl_number=4, crl_issued=NOW - 2 * DAY)
    if world.kind != "kds":
        older = IntelAnswers(vendor, clock.now, issue_date=NOW - 2 * DAY, evaluation_number=16, crl_number=2)
    world.change(path, older)
    world.refused(Code.ENDORSEMENTS_STALE)
