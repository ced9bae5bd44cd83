"""AMD's sets in a worker: floors first, never older than the floor, and a broken set disturbs no other."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from proxy_attestation.appraisal.endorsements import Floor, SnpEndorsements
from proxy_attestation.appraisal.kinds import Endorsements, verify_endorsements
from proxy_attestation.appraisal.roots import Roots
from proxy_attestation.appraisal.snp_certificate import read_amd_certificate
from proxy_attestation.appraisal.snp_collateral import SnpCollateral
from proxy_attestation.codes import Code
from proxy_attestation.errors import (
    AppraisalError,
    FormatError,
    InternalError,
    ProxyAttestationError,
    RequestError,
    UnavailableError,
)
from proxy_attestation.formats.snp_report import Product
from proxy_attestation.formats.tee import Tee
from proxy_attestation.service.collateral import CollateralStore, Key, choose, load_sets
from proxy_attestation.service.core import Core
from proxy_attestation.service.metrics import Metrics
from proxy_attestation.service.upkeep import Upkeep
from proxy_attestation_simulator.amd import CRL_NUMBER, AmdVendor
from proxy_attestation_simulator.amd_certificates import revocation_list
from proxy_attestation_simulator.files import write_endorsements
from proxy_attestation_simulator.recipes import Crl

DAY = timedelta(days=1)
MILAN, GENOA = (Tee.SNP, b"Milan"), (Tee.SNP, b"Genoa")


@pytest.fixture(scope="module")
def amd() -> AmdVendor:
    from datetime import UTC, datetime  # noqa: PLC0415 - nothing else here knows a time

    return AmdVendor.fixed(datetime(2026, 11, 24, 12, tzinfo=UTC))


@pytest.fixture
def roots(vendor: Any, amd: AmdVendor) -> Roots:
    return Roots(frozenset({vendor.root_pin}), {line: frozenset({amd.ark_pin(line)}) for line in Product})


@dataclass
class Recorder:
    """An authority that verifies what it is given, refuses what it is told to, and keeps what it was asked."""

    roots: Roots
    clock: Any
    refusals: dict[Key, Exception] = field(default_factory=dict)
    raised: dict[Key, Floor] = field(default_factory=dict)
    asked: list[Key] = field(default_factory=list)
    answer: Floor | None = None

    async def raise_floor(self, endorsements: Endorsements) -> Floor:
        found = verify_endorsements(endorsements, self.roots, self.clock())
        key = (found.tee, found.platform)
        self.asked.append(key)
        if key in self.refusals:
            raise self.refusals[key]
        self.raised[key] = found.floor
        return self.answer or found.floor


@pytest.fixture
def recorder(roots: Roots, clock: Any) -> Recorder:
    return Recorder(roots, clock)


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    path = tmp_path / "endorsements"
    path.mkdir()
    return path


@pytest.fixture
def publish(directory: Path, amd: AmdVendor, clock: Any) -> Callable[..., Path]:
    """Write one line's set as a directory of its own; the options are those of its list."""

    def write(name: str, line: str = "Milan", ask: str = "good", key: str = "", **options: Any) -> Path:
        path = directory / name
        path.mkdir(exist_ok=True)
        crl = replace(Crl(CRL_NUMBER, clock.now - DAY, clock.now + 45 * DAY), **options)
        (path / "ark.der").write_bytes(amd.authority(line, "ark"))
        (path / "ask.der").write_bytes(amd.authority(line, "ask", ask))
        (path / "list.crl").write_bytes(revocation_list(crl, f"ARK-{line}", amd.key(key or f"{line} ark")))
        return path

    return write


@pytest.fixture
def intel(directory: Path, vendor: Any, clock: Any) -> Path:
    """A good set of Intel's, which must stay in use whatever happens to AMD's."""
    write_endorsements(vendor.endorsements("sgx", clock.now), directory / "intel")
    return directory / "intel"


@pytest.fixture
def store(directory: Path, recorder: Any, clock: Any) -> CollateralStore:
    return CollateralStore(directory, recorder, clock)


@pytest.fixture
def update(store: CollateralStore, roots: Roots) -> Callable[..., bool]:
    def run(floors: Mapping[Key, Floor] | None = None) -> bool:
        return asyncio.run(store.update(roots, floors or {}))

    return run


def in_use(store: CollateralStore) -> dict[str, int]:
    """The number of each set's list, by processor line; for others, by their TEE, the evaluation's number."""
    return {
        platform.decode() if tee is Tee.SNP else str(tee): (
            collateral.floor.pck_crl_number if tee is Tee.SNP else collateral.floor.evaluation_number
        )
        for (tee, platform), collateral in store.in_use.items()
    }


def x509_serial(der: bytes) -> int:
    return read_amd_certificate(der).serial


def unusable(caplog: pytest.LogCaptureFixture) -> int:
    return sum(record.message == "collateral not usable" for record in caplog.records)


def test_a_set_is_used_after_its_floor_was_raised(
    store: CollateralStore, update: Any, publish: Any, recorder: Recorder, clock: Any
) -> None:
    publish("milan")
    recorder.refusals[MILAN] = UnavailableError(Code.AUTHORITY_UNAVAILABLE)
    with pytest.raises(UnavailableError):
        update()
    assert in_use(store) == {}
    recorder.refusals.clear()
    assert update()
    assert in_use(store) == {"Milan": CRL_NUMBER}
    expected = Floor(issue_date=int((clock.now - DAY).timestamp()), pck_crl_number=CRL_NUMBER)
    assert recorder.raised == {MILAN: expected}
    assert store.in_use[MILAN].floor == expected


def test_a_floor_that_is_known_is_not_raised_again(
    store: CollateralStore, update: Any, publish: Any, recorder: Recorder
) -> None:
    publish("milan")
    update()
    assert not update(dict(recorder.raised))
    assert recorder.asked == [MILAN]
    assert in_use(store) == {"Milan": CRL_NUMBER}


def test_each_line_and_each_vendor_has_its_own(
    store: CollateralStore, update: Any, publish: Any, recorder: Recorder, intel: Path
) -> None:
    for line in Product:
        publish(line.lower(), line)
    update()
    assert in_use(store) == {"sgx": 17, **dict.fromkeys(map(str, Product), CRL_NUMBER)}
    assert recorder.raised.keys() == store.in_use.keys()
    del intel


def test_everything_in_one_directory(
    store: CollateralStore, update: Any, publish: Any, intel: Path, directory: Path
) -> None:
    for line in ("Milan", "Genoa"):
        for path in publish(line, line).iterdir():
            path.rename(directory / f"{line}-{path.name}")
        (directory / line).rmdir()
    for path in intel.iterdir():
        path.rename(directory / path.name)
    update()
    assert in_use(store) == {"sgx": 17, "Milan": CRL_NUMBER, "Genoa": CRL_NUMBER}


def test_an_older_list_than_the_floor_is_not_used(store: CollateralStore, update: Any, publish: Any) -> None:
    publish("milan")
    update()
    own = store.in_use[MILAN].floor
    for floor in (
        replace(own, pck_crl_number=own.pck_crl_number + 1),
        replace(own, issue_date=own.issue_date + 1),
        Floor(issue_date=own.issue_date + 1),
        Floor(pck_crl_number=own.pck_crl_number + 1),
    ):
        assert update({MILAN: floor})
        assert in_use(store) == {}
        assert update({MILAN: own})
        assert in_use(store) == {"Milan": CRL_NUMBER}


def test_an_expired_list_beside_a_good_one_is_left_out(
    store: CollateralStore, update: Any, publish: Any, clock: Any, caplog: pytest.LogCaptureFixture
) -> None:
    path = publish("milan", number=CRL_NUMBER + 1, next_update=clock.now - DAY, last_update=clock.now - 2 * DAY)
    (path / "list.crl").rename(path / "old.crl")
    publish("milan")
    update()
    assert in_use(store) == {"Milan": CRL_NUMBER}
    assert unusable(caplog) == 1
    update()
    assert unusable(caplog) == 1


def test_a_list_that_expires_gives_way_to_the_others(
    store: CollateralStore, update: Any, publish: Any, clock: Any
) -> None:
    path = publish("milan", next_update=clock.now + DAY)
    (path / "list.crl").rename(path / "short.crl")
    publish("milan", number=CRL_NUMBER + 1)
    update()
    assert store.in_use[MILAN].valid_until == clock.now + DAY
    clock.advance(2 * DAY.total_seconds())
    assert store.due()
    assert update()
    assert in_use(store) == {"Milan": CRL_NUMBER + 1}
    assert store.in_use[MILAN].valid_until > clock.now


def test_what_either_of_two_lists_revokes_is_revoked(
    store: CollateralStore, update: Any, publish: Any, amd: AmdVendor
) -> None:
    serial = x509_serial(amd.authority("Milan", "ask"))
    path = publish("milan", revoked=(serial,))
    (path / "list.crl").rename(path / "older.crl")
    publish("milan", number=CRL_NUMBER + 1)
    update()
    assert in_use(store) == {}


def test_the_floor_of_another_line_does_not_count(store: CollateralStore, update: Any, publish: Any) -> None:
    publish("milan")
    update({GENOA: Floor(issue_date=1 << 39, pck_crl_number=99), (Tee.SGX, b"Milan"): Floor(pck_crl_number=99)})
    assert in_use(store) == {"Milan": CRL_NUMBER}


def test_a_set_that_the_authority_finds_below_the_floor_is_not_used(
    store: CollateralStore, update: Any, publish: Any, recorder: Recorder
) -> None:
    publish("milan")
    recorder.answer = Floor(pck_crl_number=CRL_NUMBER + 1)
    assert not update()
    assert in_use(store) == {}


def test_the_newest_list_wins(store: CollateralStore, update: Any, publish: Any, clock: Any) -> None:
    publish("a", number=12, last_update=clock.now - DAY / 2)
    publish("b", number=13, last_update=clock.now - DAY / 3)
    publish("c", number=11)
    update()
    assert in_use(store) == {"Milan": 13}


def test_a_newer_list_that_arrives_is_used(
    store: CollateralStore, update: Any, publish: Any, recorder: Recorder, clock: Any
) -> None:
    publish("milan")
    update()
    publish("milan", number=CRL_NUMBER + 1, last_update=clock.now - DAY / 2)
    assert store.due()
    assert update(dict(recorder.raised))
    assert in_use(store) == {"Milan": CRL_NUMBER + 1}
    assert recorder.asked == [MILAN, MILAN]
    # And the older one does not come back.
    publish("milan")
    assert update(dict(recorder.raised))
    assert in_use(store) == {}


def test_an_expired_list_goes(store: CollateralStore, update: Any, publish: Any, clock: Any, intel: Path) -> None:
    publish("milan", next_update=clock.now + timedelta(hours=1))
    publish("genoa", "Genoa")
    update()
    assert not store.due()
    clock.advance(3600)
    assert store.due()
    assert update()
    assert in_use(store) == {"sgx": 17, "Genoa": CRL_NUMBER}
    del intel


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"ask": "other"}, Code.SNP_CHAIN),
        ({"ask": "expired"}, Code.SNP_EXPIRED),
        ({"key": "stranger Milan ark"}, Code.SNP_CRL),
        ({"number": None}, Code.SNP_CRL),
        ({"revoked": (0x10001,)}, Code.SNP_REVOKED),
        ({"next_update": timedelta(seconds=-1)}, Code.SNP_CRL_EXPIRED),
    ],
)
def test_a_broken_set_disturbs_no_other(
    *,
    options: dict[str, Any],
    code: Code,
    store: CollateralStore,
    update: Any,
    publish: Any,
    clock: Any,
    intel: Path,
    roots: Roots,
) -> None:
    changed = {key: clock.now + value if isinstance(value, timedelta) else value for key, value in options.items()}
    path = publish("a-broken", **changed)
    publish("b-good", "Genoa")
    update()
    assert in_use(store) == {"sgx": 17, "Genoa": CRL_NUMBER}
    (broken,) = load_sets(path).sets
    with pytest.raises(AppraisalError) as caught:
        verify_endorsements(broken, roots, clock.now)
    assert caught.value.code is code
    # A good one of the same line is used whatever stands beside it.
    publish("c-good")
    update()
    assert in_use(store) == {"sgx": 17, "Genoa": CRL_NUMBER, "Milan": CRL_NUMBER}
    del intel


@pytest.mark.parametrize("missing", ["ark.der", "ask.der", "list.crl"])
def test_a_set_that_lacks_a_piece_disturbs_no_other(
    missing: str, store: CollateralStore, update: Any, publish: Any, intel: Path
) -> None:
    (publish("milan") / missing).unlink()
    publish("genoa", "Genoa")
    update()
    assert in_use(store) == {"sgx": 17, "Genoa": CRL_NUMBER}
    del intel


def test_garbage_in_a_set_is_named_and_disturbs_no_other(
    store: CollateralStore, update: Any, publish: Any, intel: Path, directory: Path
) -> None:
    (publish("milan") / "list.crl").write_bytes(b"\x30\x00")
    publish("genoa", "Genoa")
    loaded = load_sets(directory)
    assert [(path.name, error.code) for path, error in loaded.errors] == [("milan", Code.ENDORSEMENTS_MALFORMED)]
    update()
    assert in_use(store) == {"sgx": 17, "Genoa": CRL_NUMBER}
    del intel


REFUSALS: list[ProxyAttestationError] = [
    UnavailableError(Code.ENDORSEMENTS_UNAVAILABLE),
    UnavailableError(Code.LIMITS_EXHAUSTED),
    UnavailableError(Code.AUTHORITY_CLOCK),
    FormatError(Code.PROXY_PROTOCOL),
    AppraisalError(Code.SNP_ROOT),
    RequestError(Code.REQUEST_TEE),
    InternalError("a bug"),
]


@pytest.mark.parametrize("error", REFUSALS, ids=lambda error: f"{type(error).__name__}-{error.code}")
def test_a_floor_that_is_refused_keeps_only_that_set_out(
    *,
    error: ProxyAttestationError,
    store: CollateralStore,
    update: Any,
    publish: Any,
    recorder: Recorder,
    clock: Any,
    intel: Path,
) -> None:
    publish("milan")
    publish("genoa", "Genoa")
    recorder.refusals[MILAN] = error
    assert update()
    assert in_use(store) == {"sgx": 17, "Genoa": CRL_NUMBER}
    # It is tried again, and then used.
    assert not store.due()
    clock.advance(61)
    assert store.due()
    recorder.refusals.clear()
    assert update(dict(recorder.raised))
    assert in_use(store) == {"sgx": 17, "Genoa": CRL_NUMBER, "Milan": CRL_NUMBER}
    del intel


def test_an_authority_that_is_gone_changes_nothing(
    store: CollateralStore, update: Any, publish: Any, recorder: Recorder
) -> None:
    publish("genoa", "Genoa")
    update()
    before = dict(store.in_use)
    publish("milan")
    recorder.refusals[MILAN] = UnavailableError(Code.AUTHORITY_UNAVAILABLE)
    with pytest.raises(UnavailableError):
        update(dict(recorder.raised))
    assert store.in_use == before


def test_a_line_whose_root_is_not_pinned_is_not_used(store: CollateralStore, publish: Any, roots: Roots) -> None:
    publish("milan")
    publish("genoa", "Genoa")
    fewer = replace(roots, amd={Product.GENOA: roots.amd[Product.GENOA]})
    asyncio.run(store.update(fewer, {}))
    assert in_use(store) == {"Genoa": CRL_NUMBER}
    # Other anchors: everything is verified anew.
    asyncio.run(store.update(replace(roots, amd={Product.MILAN: roots.amd[Product.MILAN]}), {}))
    assert in_use(store) == {"Milan": CRL_NUMBER}


def test_choosing_looks_at_both_numbers(publish: Any, roots: Roots, clock: Any) -> None:
    (found,) = load_sets(publish("milan")).sets
    held = verify_endorsements(found, roots, clock.now)
    assert isinstance(held, SnpCollateral)
    assert isinstance(found, SnpEndorsements)
    assert choose([held], {}, clock.now) == {MILAN: held}
    assert choose([held], {}, held.valid_until) == {}
    older = replace(held, floor=replace(held.floor, pck_crl_number=1))
    assert choose([older, held], {}, clock.now) == choose([held, older], {}, clock.now) == {MILAN: held}
    assert choose([older, held], {MILAN: held.floor}, clock.now) == {MILAN: held}
    assert choose([older], {MILAN: held.floor}, clock.now) == {}


# With a core.


def test_reports_are_signed_for_once_the_set_is_there(
    *, core: Core, authority: Any, store: CollateralStore, publish: Any, attempt: Any, info: Any,
    recorder: Recorder, vendor: Any, machines: Any, amd: AmdVendor,
) -> None:  # fmt: skip
    pins = (vendor.root_pin, amd.ark_pin("Milan"), machines[Tee.NITRO].vendor.root_pin)
    authority.info = replace(info, anchors=pins)
    guest, enclave = attempt(Tee.SNP).message(), attempt(Tee.NITRO).message()
    told: list[bool] = []

    async def ready(value: bool) -> None:
        told.append(value)

    upkeep = Upkeep(core, store, Metrics(), ready)
    asyncio.run(upkeep.authority_changed(authority.info))
    with pytest.raises(UnavailableError) as caught:
        asyncio.run(core.get_signed_certificate(guest))
    assert caught.value.code is Code.ENDORSEMENTS_UNAVAILABLE
    assert authority.orders == []
    asyncio.run(core.get_signed_certificate(enclave))
    publish("milan")
    asyncio.run(upkeep.authority_changed(authority.info))
    asyncio.run(core.get_signed_certificate(guest))
    of_enclave, of_guest = authority.orders
    assert (of_enclave.claims.tee, of_enclave.collateral_floor) == (Tee.NITRO, None)
    assert (of_guest.claims.tee, of_guest.collateral_floor) == (Tee.SNP, recorder.raised[MILAN])
