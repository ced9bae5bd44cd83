"""Early warning and the fetching of VCEKs by a live proxy's process, with a clock of their own and fake services."""

import asyncio
import ssl
from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fake_amd import FakeAmd
from fake_vendors import NOW, Clock, FakeService, IntelAnswers, Reply, Serve

from proxy_attestation.appraisal.roots import Roots
from proxy_attestation.cli.endorsing import vcek_watch
from proxy_attestation.cli.endorsing.early_watch import AGAIN, FETCH, EarlyWatch
from proxy_attestation.cli.endorsing.gauges import write_gauges
from proxy_attestation.cli.endorsing.report import status_lines, status_to_json
from proxy_attestation.cli.endorsing.vcek_watch import VcekWatch
from proxy_attestation.endorsements.amd_checks import VcekRequest
from proxy_attestation.endorsements.cache import Cache
from proxy_attestation.endorsements.early import FILE, Early, read_early, write_early
from proxy_attestation.endorsements.http import Getter, HttpLimits
from proxy_attestation.endorsements.kds import AmdTarget
from proxy_attestation.endorsements.pcs import IntelService, IntelTarget
from proxy_attestation.endorsements.refresh import Refresher, Sources
from proxy_attestation.endorsements.spool import PlatformSpool, VcekSpool
from proxy_attestation.endorsements.status import Status
from proxy_attestation.formats.tee import Tee
from proxy_attestation.service.metrics import REFRESH_FILE, exposition
from proxy_attestation_simulator.intel import Vendor

FMSPC = bytes.fromhex("00906ed50000")
SGX = IntelTarget(Tee.SGX, FMSPC)
CHIP = VcekRequest(bytes(range(1, 65)), {"bl": 3, "tee": 0, "snp": 22, "ucode": 209})
MILAN = AmdTarget("Milan")


@pytest.fixture
def amd() -> FakeAmd:
    return FakeAmd()


@pytest.fixture
def kds(serve: Serve, amd: FakeAmd) -> FakeService:
    return serve(amd)


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    (tmp_path / "endorsements").mkdir()
    return Cache(tmp_path / "endorsements")


@pytest.fixture
def sources(pcs: FakeService, kds: FakeService, amd: FakeAmd, roots: Roots) -> Callable[[Getter], Sources]:
    def make(getter: Getter) -> Sources:
        service = IntelService(getter, pcs.url, f"{pcs.url}/IntelSGXRootCA.der")
        return Sources(getter, service, roots, {"Milan": frozenset({amd.pin})}, kds.url)

    return make


# Early warning.


@pytest.fixture
def spool(tmp_path: Path) -> PlatformSpool:
    made = PlatformSpool(tmp_path)
    made.open()
    return made


@pytest.fixture
def note(spool: PlatformSpool, vendor: Vendor) -> Callable[..., None]:
    """Note a platform, as a worker does."""

    def write(number: int, tee: str = "sgx", fmspc: bytes = FMSPC, **options: Any) -> None:
        chain = vendor.platform(tee, fmspc=fmspc, **options).certificates
        spool.note(f"{tee}-{number:032x}.pem", "".join(map(ssl.DER_cert_to_PEM_cert, chain)).encode())

    return write


Look = Callable[..., list[Mapping[str, Early] | None]]


@pytest.fixture
def look(run: Any, cache: Cache, sources: Any, spool: PlatformSpool, clock: Clock) -> Look:
    """Look as often as there are steps, each of which is done before."""

    def call(*steps: Callable[[], object], targets: tuple[Any, ...] = (SGX,)) -> list[Mapping[str, Early] | None]:
        async def inside(getter: Getter) -> list[Mapping[str, Early] | None]:
            watch = EarlyWatch(cache, sources(getter), targets, spool, now=clock.now)
            found = []
            for step in steps:
                step()
                found.append(await watch.look())
            return found

        limits = HttpLimits(interval=0, attempts=1)
        made: list[Mapping[str, Early] | None] = run(inside, limits)
        return made

    return call


def nothing() -> None:
    """Change nothing."""


def test_platforms_that_the_coming_release_would_refuse(
    look: Look, note: Any, intel: IntelAnswers, cache: Cache
) -> None:
    intel.releases["early"] = {"fault": "tcb-recovery"}

    def several() -> None:
        note(1)
        note(2, svns=(0,) * 16)
        note(3, fmspc=bytes(6))
        note(4, "tdx")

    first, second, third = look(nothing, several, nothing)
    assert first is not None
    assert second is not None
    assert (first[SGX.name].platforms, first[SGX.name].refused) == (0, 0)
    assert (second[SGX.name].platforms, second[SGX.name].refused) == (2, 2)
    assert second[SGX.name].named == (f"{1:032x}", f"{2:032x}")
    assert third is None
    assert read_early(cache.directory) == second


def test_no_recovery_is_coming(look: Look, note: Any) -> None:
    (found,) = look(lambda: note(1))
    assert found is not None
    assert (found[SGX.name].platforms, found[SGX.name].refused) == (1, 0)


def test_a_release_that_comes_is_noticed_at_the_next_fetch(
    look: Look, note: Any, intel: IntelAnswers, clock: Clock
) -> None:
    def published() -> None:
        intel.releases["early"] = {"fault": "tcb-recovery"}

    found = look(lambda: note(1), published, lambda: clock.advance(seconds=FETCH.total_seconds()))
    assert found[1] is None
    assert found[2] is not None
    assert found[2][SGX.name].refused == 1


def test_a_source_that_fails_is_asked_again_later_and_what_was_said_stays(
    look: Look, note: Any, pcs: FakeService, clock: Clock, cache: Cache
) -> None:
    good = pcs.answer

    def fail() -> None:
        pcs.answer = lambda _request, _number: Reply(500)
        clock.advance(seconds=FETCH.total_seconds())

    def mend() -> None:
        pcs.answer = good
        pcs.requests.clear()

    found = look(lambda: note(1), fail, mend, lambda: clock.advance(seconds=AGAIN.total_seconds()))
    assert found[0] is not None
    assert found[1] is None
    assert found[2] is None
    assert read_early(cache.directory)[SGX.name].platforms == 1
    assert pcs.requests


@pytest.mark.parametrize(
    "target", [IntelTarget(Tee.SGX, FMSPC, release="early"), IntelTarget(Tee.SGX, FMSPC, release=17)]
)
def test_only_sets_that_follow_standard_are_looked_ahead_for(look: Look, note: Any, target: IntelTarget) -> None:
    assert look(lambda: note(1), targets=(target, MILAN)) == [None]


def test_what_is_no_platform_is_not_counted(look: Look, tmp_path: Path) -> None:
    def junk() -> None:
        (tmp_path / "platforms" / f"sgx-{1:032x}.pem").write_bytes(b"junk")
        (tmp_path / "platforms" / f"sgx-{2:032x}.pem").write_bytes(bytes(1_000_000))
        (tmp_path / "platforms" / f"sgx-{3:032x}.pem").mkdir()

    (found,) = look(junk)
    assert found is not None
    assert found[SGX.name].platforms == 0


EARLY = Early(NOW, 18, 17, 5, 2, ("aa", "bb"))


def test_outlooks_are_read_as_they_were_written(tmp_path: Path) -> None:
    write_early(tmp_path, {"a": EARLY})
    assert read_early(tmp_path) == {"a": EARLY}


GOOD = (
    '{"sets": {"a": {"at": "2026-01-01T00:00:00Z", "number": 1, "held": 1, "platforms": 1, "refused": 1, "named": []}}}'
)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"sets": []}',
        '{"sets": {"a": 1}}',
        GOOD.replace('"2026-01-01T00:00:00Z"', "null"),
        GOOD.replace('"number": 1', '"number": -1'),
        GOOD.replace('"number": 1', '"number": true'),
        GOOD.replace('"named": []', '"named": [1]'),
        GOOD.replace('"named": []', '"other": []'),
        "[" * 5000,
    ],
)
def test_what_cannot_be_read_is_no_outlook(tmp_path: Path, text: str) -> None:
    (tmp_path / FILE).write_text(text)
    assert read_early(tmp_path) == {}


def test_the_metrics_end_with_how_refreshing_goes(tmp_path: Path) -> None:
    before = exposition(tmp_path)
    statuses = {"a": Status("x", NOW, NOW, "endorsements.stale", "", 3)}
    write_gauges(tmp_path / REFRESH_FILE, {}, statuses, {"a": NOW + timedelta(hours=1)}, {"a": EARLY})
    text = exposition(tmp_path)
    assert text.startswith(before)
    lines = dict(line.rsplit(" ", 1) for line in text.decode().splitlines() if not line.startswith("#"))
    prefix = "proxy_attestation_endorsements_"
    assert float(lines[f'{prefix}next_refresh_timestamp_seconds{{set="a"}}']) == (NOW + timedelta(hours=1)).timestamp()
    assert float(lines[f'{prefix}last_success_timestamp_seconds{{set="a"}}']) == NOW.timestamp()
    error = f'{prefix}last_error_timestamp_seconds{{code="endorsements.stale",set="a"}}'
    assert float(lines[error]) == NOW.timestamp()
    assert float(lines[f'{prefix}failures{{set="a"}}']) == 3
    assert float(lines[f'{prefix}early_platforms{{set="a",verdict="refused"}}']) == 2
    assert float(lines[f'{prefix}early_platforms{{set="a",verdict="accepted"}}']) == 3
    assert float(lines[f'{prefix}early_evaluation_number{{set="a"}}']) == 18


def test_status_shows_the_outlook() -> None:
    (item,) = status_to_json({}, {"a": Status()}, {"a": EARLY}, NOW)
    assert (item["early"]["evaluation_number"], item["early"]["refused"], item["early"]["named"]) == (
        18,
        2,
        ["aa", "bb"],
    )
    assert len(status_lines([item])) == 4
    (item,) = status_to_json({}, {"a": Status()}, {}, NOW)
    assert item["early"] is None


# VCEKs.


@pytest.fixture
def vceks(tmp_path: Path, cache: Cache) -> VcekSpool:
    made = VcekSpool(tmp_path / "run", cache.directory)
    made.open("Milan")
    return made


Serving = Callable[..., list[bool]]


@pytest.fixture
def serving(run: Any, cache: Cache, sources: Any, vceks: VcekSpool, clock: Clock) -> Serving:
    """Serve what is asked for as often as there are steps, each of which is done before."""

    def call(*steps: Callable[[], object], held: bool = True) -> list[bool]:
        async def inside(getter: Getter) -> list[bool]:
            made = sources(getter)
            if held:
                await Refresher(cache, made, now=clock.now).refresh(MILAN)
            watch = VcekWatch(cache, made, (MILAN,), vceks, now=clock.now)
            asked = []
            for step in steps:
                step()
                asked += [await watch.serve(MILAN, path, text) for path, text in vceks.wanted("Milan")]
            return asked

        found: list[bool] = run(inside, HttpLimits(interval=0, attempts=1))
        return found

    return call


def test_a_vcek_is_fetched_verified_and_kept(serving: Serving, vceks: VcekSpool, kds: FakeService) -> None:
    assert serving(lambda: vceks.ask("Milan", CHIP), nothing) == [True]
    assert vceks.find("Milan", CHIP) is not None
    assert kds.requests[-1].path == f"/vcek/v1/Milan/{CHIP.hwid.hex()}"
    assert kds.requests[-1].query == {"blSPL": "03", "teeSPL": "00", "snpSPL": "22", "ucodeSPL": "209"}


def test_what_fails_is_not_asked_for_again_for_a_while(
    serving: Serving, vceks: VcekSpool, kds: FakeService, clock: Clock
) -> None:
    good = kds.answer

    def ask() -> None:
        vceks.ask("Milan", CHIP)

    def fail() -> None:
        kds.answer = lambda _request, _number: Reply(404)
        ask()

    def later(minutes: float) -> Callable[[], None]:
        def step() -> None:
            clock.advance(minutes=minutes)
            ask()

        return step

    def mend() -> None:
        kds.answer = good
        clock.advance(minutes=2)
        ask()

    steps = (fail, ask, later(0.9), later(0.1), later(1.9), mend)
    assert serving(*steps) == [True, False, False, True, False, True]
    assert vceks.find("Milan", CHIP) is not None


@pytest.mark.parametrize(
    "body", [b"", FakeAmd().vcek(CHIP.hwid[::-1], CHIP.tcb), FakeAmd(label="x").vcek(CHIP.hwid, CHIP.tcb)]
)
def test_what_is_no_such_vcek_is_not_kept(serving: Serving, vceks: VcekSpool, kds: FakeService, body: bytes) -> None:
    def wrong() -> None:
        kds.answer = lambda _request, _number: Reply(body=body)
        vceks.ask("Milan", CHIP)

    assert serving(wrong) == [True]
    assert vceks.find("Milan", CHIP) is None
    assert vceks.wanted("Milan") == []


def test_without_a_chain_nothing_is_asked(serving: Serving, vceks: VcekSpool, kds: FakeService) -> None:
    assert serving(lambda: vceks.ask("Milan", CHIP), held=False) == [True]
    assert kds.requests == []


@pytest.mark.parametrize("text", ["", "junk", "00" * 64 + ":bl=3,tee=0,snp=22,ucode=209", "../../x"])
def test_what_names_no_chip_is_thrown_away(serving: Serving, kds: FakeService, tmp_path: Path, text: str) -> None:
    path = tmp_path / "run" / "wanted" / "milan" / ("vcek-" + "0" * 32)
    assert serving(lambda: path.write_text(text)) == [False]
    assert not path.exists()
    assert not [request for request in kds.requests if "SPL" in str(request.query)]


def test_a_name_that_is_not_the_chip_s_is_thrown_away(serving: Serving, vceks: VcekSpool) -> None:
    def swap() -> None:
        vceks.ask("Milan", CHIP)
        ((path, _),) = vceks.wanted("Milan")
        path.rename(path.with_name("vcek-" + "0" * 32))

    assert serving(swap) == [False]


def test_failures_are_remembered_within_a_bound(
    serving: Serving, vceks: VcekSpool, kds: FakeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(vcek_watch, "FAILED_MAX", 1)

    def fail(byte: int) -> Callable[[], None]:
        def step() -> None:
            kds.answer = lambda _request, _number: Reply(404)
            vceks.ask("Milan", VcekRequest(bytes([byte] * 64), CHIP.tcb))

        return step

    assert serving(fail(1), fail(1), fail(2), fail(1)) == [True, False, True, True]


def test_the_loop_keeps_its_pace(
    run: Any, cache: Cache, sources: Any, vceks: VcekSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 4:
            raise asyncio.CancelledError

    for byte in (1, 2, 3):
        vceks.ask("Milan", VcekRequest(bytes([byte] * 64), CHIP.tcb))

    async def inside(getter: Getter) -> None:
        made = sources(getter)
        await Refresher(cache, made, now=lambda: NOW).refresh(MILAN)
        monkeypatch.setattr(asyncio, "sleep", sleep)
        await VcekWatch(cache, made, (MILAN,), vceks, now=lambda: NOW).run()

    with pytest.raises(asyncio.CancelledError):
        run(inside, HttpLimits(interval=0, attempts=1))
    assert slept == [vcek_watch.PACE_SECONDS] * 3 + [vcek_watch.LOOK_SECONDS]
