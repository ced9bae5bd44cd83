"""Collateral in a worker: the newest valid set a TEE and FMSPC, floors first, a broken set disturbs nobody."""

import asyncio
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from proxy_attestation.appraisal.endorsements import Floor
from proxy_attestation.appraisal.roots import Roots
from proxy_attestation.codes import Code
from proxy_attestation.errors import UnavailableError
from proxy_attestation.service.collateral import CollateralStore, Key, load_sets, stamp
from proxy_attestation.service.core import Core
from proxy_attestation.service.metrics import Metrics
from proxy_attestation.service.upkeep import Upkeep
from proxy_attestation_simulator.files import write_endorsements


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "endorsements"
    path.mkdir()
    return path


@pytest.fixture
def publish(directory: Path, vendor: Any, clock: Any) -> Callable[..., Path]:
    """Return what writes one set as a directory of its own."""

    def write(name: str, tee: str = "sgx", **options: Any) -> Path:
        write_endorsements(vendor.endorsements(tee, clock.now, **options), directory / name)
        return directory / name

    return write


@pytest.fixture
def store(directory: Path, authority: Any, clock: Any) -> CollateralStore:
    return CollateralStore(directory, authority, clock)


@pytest.fixture
def update(store: CollateralStore, vendor: Any) -> Callable[..., bool]:
    def run(floors: Mapping[Key, Floor] | None = None) -> bool:
        return asyncio.run(store.update(Roots(intel=frozenset({vendor.root_pin})), floors or {}))

    return run


def in_use(store: CollateralStore) -> dict[str, int]:
    return {str(tee): collateral.floor.evaluation_number for (tee, _), collateral in store.in_use.items()}


def test_an_empty_directory_gives_nothing(store: CollateralStore, update: Any) -> None:
    assert not update()
    assert in_use(store) == {}


def test_a_missing_directory_gives_nothing(store: CollateralStore, update: Any, directory: Path) -> None:
    directory.rmdir()
    assert not update()
    assert in_use(store) == {}


def test_one_set_a_tee(store: CollateralStore, update: Any, publish: Any) -> None:
    publish("sgx")
    publish("tdx", "tdx")
    assert update()
    assert in_use(store) == {"sgx": 17, "tdx": 17}
    assert not update()


def test_files_beside_each_other_make_one_set(store: CollateralStore, update: Any, publish: Any) -> None:
    directory = publish("sgx")
    for path in directory.iterdir():
        path.rename(directory.parent / path.name)
    directory.rmdir()
    update()
    assert in_use(store) == {"sgx": 17}


def test_the_newest_set_wins(store: CollateralStore, update: Any, publish: Any) -> None:
    for number in (16, 18, 17):
        publish(str(number), evaluation_number=number)
    update()
    assert in_use(store) == {"sgx": 18}


def test_the_floor_is_raised_before_a_set_is_used(
    store: CollateralStore, update: Any, publish: Any, authority: Any
) -> None:
    publish("sgx")
    authority.error = UnavailableError(Code.AUTHORITY_UNAVAILABLE)
    with pytest.raises(UnavailableError):
        update()
    assert in_use(store) == {}
    authority.error = None
    update()
    (key,) = store.in_use
    assert authority.floors == {key: store.in_use[key].floor}


def test_a_set_below_the_floor_is_not_used(store: CollateralStore, update: Any, publish: Any) -> None:
    publish("sgx")
    update()
    (key,) = store.in_use
    now = store.in_use[key].floor
    for floor in (
        Floor(now.evaluation_number + 1, 0, 0, 0),
        Floor(0, now.issue_date + 1, 0, 0),
        Floor(0, 0, now.pck_crl_number + 1, 0),
        Floor(0, 0, 0, now.root_crl_number + 1),
    ):
        assert update({key: floor})
        assert in_use(store) == {}
        assert update({key: now})


def test_a_set_that_the_authority_finds_below_the_floor_is_not_used(
    store: CollateralStore, update: Any, publish: Any, authority: Any
) -> None:
    publish("sgx")
    authority.error = UnavailableError(Code.ENDORSEMENTS_UNAVAILABLE)
    assert not update()
    assert in_use(store) == {}


def test_an_expired_set_goes(store: CollateralStore, update: Any, publish: Any, clock: Any) -> None:
    publish("sgx", next_update=clock.now + timedelta(hours=1))
    publish("tdx", "tdx")
    update()
    assert not store.due()
    clock.advance(3600)
    assert store.due()
    assert update()
    assert in_use(store) == {"tdx": 17}


def test_an_older_set_that_is_still_valid_does_not_come_back(
    store: CollateralStore, update: Any, publish: Any, clock: Any, authority: Any
) -> None:
    publish("old", evaluation_number=17)
    publish("new", evaluation_number=18, next_update=clock.now + timedelta(hours=1))
    update()
    assert in_use(store) == {"sgx": 18}
    clock.advance(3600)
    update(authority.floors)
    assert in_use(store) == {}


@pytest.mark.parametrize("fault", ["tcb-info-signature", "expired-crl"])
def test_a_broken_set_disturbs_no_other(store: CollateralStore, update: Any, publish: Any, fault: str) -> None:
    publish("a-broken", evaluation_number=19, fault=fault)
    publish("b-good")
    publish("c-good", "tdx")
    (publish("d-broken") / "tcb_info.json").write_text("{")
    update()
    assert in_use(store) == {"sgx": 17, "tdx": 17}


def test_junk_beside_the_sets_disturbs_none(store: CollateralStore, update: Any, publish: Any, directory: Path) -> None:
    publish("sgx")
    (directory / "notes.txt").write_text("hello")
    (directory / ".hidden").write_text("hello")
    (directory / "link").symlink_to(directory / "nowhere")
    update()
    assert in_use(store) == {"sgx": 17}


def test_a_set_of_another_vendor_is_not_used(store: CollateralStore, update: Any, vendor: Any, directory: Path) -> None:
    write_endorsements(vendor.stranger.endorsements("sgx"), directory / "sgx")
    update()
    assert in_use(store) == {}


def test_a_change_in_the_directory_is_noticed(store: CollateralStore, update: Any, publish: Any) -> None:
    assert store.due()
    path = publish("one")
    update()
    assert not store.due()
    publish("two", evaluation_number=18)
    assert store.due()
    assert update()
    assert in_use(store) == {"sgx": 18}
    shutil.rmtree(path)
    assert store.due()


def test_what_could_not_be_used_is_tried_again(store: CollateralStore, update: Any, publish: Any, clock: Any) -> None:
    publish("later", issue_date=clock.now + timedelta(seconds=30))
    update()
    assert in_use(store) == {}
    assert not store.due()
    clock.advance(61)
    assert store.due()
    update()
    assert in_use(store) == {"sgx": 17}


def test_a_stamp_is_stable(publish: Any, directory: Path) -> None:
    publish("sgx")
    assert stamp(directory) == stamp(directory)
    assert len(stamp(directory)) == 7


def test_each_broken_set_is_named(publish: Any, directory: Path) -> None:
    (publish("one") / "tcb_info.json").write_text("{")
    publish("two", "tdx")
    loaded = load_sets(directory)
    assert [path.name for path, _ in loaded.errors] == ["one"]
    assert len(loaded.sets) == 1


def not_serving(core: Core) -> bool:
    return core.serving is None


# Upkeep: the core is given what changed, and nothing else.


def test_the_core_serves_when_authority_and_collateral_are_there(
    authority: Any, clock: Any, store: CollateralStore, publish: Any, info: Any
) -> None:
    publish("tdx", "tdx")
    core = Core(authority, clock)
    told: list[bool] = []

    async def ready(value: bool) -> None:
        told.append(value)

    upkeep = Upkeep(core, store, Metrics(), ready)
    asyncio.run(upkeep.authority_changed(info))
    assert core.serving is not None
    first = core.serving
    assert in_use(store) == {"tdx": 17}
    asyncio.run(upkeep.authority_changed(info))
    assert core.serving.appraiser is first.appraiser  # caches are kept while the collateral stays
    publish("sgx")
    asyncio.run(upkeep.authority_changed(info))
    assert in_use(store) == {"sgx": 17, "tdx": 17}
    assert core.serving.appraiser is not first.appraiser
    asyncio.run(upkeep.authority_changed(None))
    assert not_serving(core)
    assert told == [True, True, True, False]


@pytest.mark.parametrize("roots", [(), (b"\x07" * 32,)], ids=["the same anchors", "other anchors"])
def test_nobody_is_answered_under_a_policy_that_is_no_more_in_force(
    authority: Any, clock: Any, store: CollateralStore, publish: Any, info: Any, *, roots: tuple[bytes, ...]
) -> None:
    """Collateral that cannot be updated, or takes its time, does not keep the old policy alive."""
    publish("tdx", "tdx")
    core = Core(authority, clock)

    async def ready(_: bool) -> None:
        pass

    upkeep = Upkeep(core, store, Metrics(), ready)
    asyncio.run(upkeep.authority_changed(info))
    publish("sgx")
    authority.error = UnavailableError(Code.AUTHORITY_UNAVAILABLE)
    newer = replace(
        info, generation=info.generation + 1, policy_digest=b"\x99" * 32, tpm_roots=(*info.tpm_roots, *roots)
    )
    asyncio.run(upkeep.authority_changed(newer))
    if roots:
        assert not_serving(core)
    else:
        assert core.serving is not None
        assert core.serving.info is newer


@pytest.fixture
def upkeep(core: Core, store: CollateralStore, told: "asyncio.Queue[bool]") -> Upkeep:
    return Upkeep(core, store, Metrics(), told.put)


@pytest.fixture
def told() -> "asyncio.Queue[bool]":
    """What the upkeep told the fronts."""
    return asyncio.Queue()


def test_newer_collateral_is_used_by_the_next_issuance(
    upkeep: Upkeep, told: "asyncio.Queue[bool]", publish: Any, attempt: Any, core: Core
) -> None:
    """A TCB recovery that arrives while the proxy runs is in the next order, without a restart."""
    authority: Any = core._authority
    attempts = [attempt(), attempt()]

    async def main() -> None:
        await upkeep.authority_changed(authority.info)
        assert await told.get()
        running = asyncio.ensure_future(upkeep.run())
        await core.get_signed_certificate(attempts[0].message())
        publish("new", evaluation_number=18, status="OutOfDate")
        upkeep.rescan()
        assert await told.get()
        await core.get_signed_certificate(attempts[1].message())
        running.cancel()

    publish("old")
    asyncio.run(main())
    first, second = authority.orders
    assert (first.collateral_floor.evaluation_number, first.claims.tcb.status) == (17, "UpToDate")
    assert (second.collateral_floor.evaluation_number, second.claims.tcb.status) == (18, "OutOfDate")


def test_no_collateral_is_unavailable_and_no_verdict(core: Core, attempt: Any) -> None:
    message = attempt().message()
    assert core.serving is not None
    appraiser: Any = core.serving.appraiser
    appraiser._dcap._collateral.clear()
    with pytest.raises(UnavailableError) as caught:
        asyncio.run(core.get_signed_certificate(message))
    assert caught.value.code is Code.ENDORSEMENTS_UNAVAILABLE
