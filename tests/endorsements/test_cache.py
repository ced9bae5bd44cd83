"""The cache: sets that are whole or not there, which `load_endorsements` and a worker read as they are."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from fake_vendors import NOW
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_attestation.appraisal.endorsements import DcapEndorsements
from proxy_attestation.appraisal.roots import Roots
from proxy_attestation.codes import Code
from proxy_attestation.endorsements import cache as module
from proxy_attestation.endorsements.bundle import decode_bundle, encode_bundle
from proxy_attestation.endorsements.cache import SETS_MAX, Cache
from proxy_attestation.endorsements.fetched import FetchedSet
from proxy_attestation.endorsements.load import load_endorsements
from proxy_attestation.endorsements.pcs import IntelTarget, check_intel, pieces_of
from proxy_attestation.endorsements.status import Status
from proxy_attestation.errors import FormatError, UnavailableError
from proxy_attestation.formats.tee import Tee
from proxy_attestation.service.collateral import load_sets
from proxy_attestation_simulator.intel import Vendor

FMSPC = bytes.fromhex("00906ed50000")
MakeSet = Callable[..., FetchedSet]


@pytest.fixture
def make(vendor: Vendor, roots: Roots) -> MakeSet:
    def call(tee: Tee = Tee.SGX, fmspc: bytes = FMSPC, **options: Any) -> FetchedSet:
        pieces = DcapEndorsements(**vendor.endorsements(str(tee), NOW, fmspc=fmspc, **options))
        return check_intel(pieces, IntelTarget(tee, fmspc), roots, NOW, {})

    return call


@pytest.fixture
def cache(tmp_path: Path) -> Cache:
    return Cache(tmp_path / "endorsements")


def test_a_set_is_read_as_it_is(cache: Cache, make: MakeSet) -> None:
    sgx, tdx = make(), make(Tee.TDX)
    assert cache.store(sgx)
    assert cache.store(tdx)
    assert set(load_endorsements([cache.directory])) == {pieces_of(sgx.files), pieces_of(tdx.files)}
    loaded = load_sets(cache.directory)
    assert (len(loaded.sets), loaded.errors) == (2, ())
    held = cache.held()["sgx-00906ed50000"]
    assert held.files() == sgx.files
    assert (held.numbers, held.half_life, held.valid_until) == (sgx.numbers, sgx.half_life, sgx.valid_until)


def test_nobody_else_reads_it(cache: Cache, make: MakeSet) -> None:
    cache.store(make())
    cache.succeeded("sgx-00906ed50000", "https://pcs", NOW)
    for path in cache.directory.rglob("*"):
        assert path.stat().st_mode & 0o777 == (0o700 if path.is_dir() else 0o600)
    assert cache.directory.stat().st_mode & 0o777 == 0o700


def test_a_newer_set_takes_the_place_of_the_older(cache: Cache, make: MakeSet) -> None:
    cache.store(make())
    newer = make(evaluation_number=18)
    assert cache.store(newer)
    assert load_endorsements([cache.directory]) == (pieces_of(newer.files),)
    assert [path.name for path in cache.directory.iterdir() if not path.name.startswith(".")] == [
        cache.held()["sgx-00906ed50000"].directory.name
    ]
    assert not list(cache.directory.glob(".new-*")) + list(cache.directory.glob(".old-*"))


def test_the_same_set_is_not_new(cache: Cache, make: MakeSet) -> None:
    fetched = make()
    assert cache.store(fetched)
    before = cache.held()["sgx-00906ed50000"].directory.stat().st_ino
    assert not cache.store(fetched)
    assert cache.held()["sgx-00906ed50000"].directory.stat().st_ino == before


def test_there_is_a_whole_set_at_every_moment(cache: Cache, make: MakeSet, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whenever a name in the directory changes, what is there loads, and holds the old set or the new one."""
    old, new = make(), make(evaluation_number=18)
    cache.store(old)
    seen: list[int] = []
    rename = Path.rename

    def watched(self: Path, target: Path) -> Path:
        moved = rename(self, target)
        sets = load_endorsements([cache.directory])
        assert set(sets) <= {pieces_of(old.files), pieces_of(new.files)}
        seen.append(len(sets))
        return moved

    monkeypatch.setattr(Path, "rename", watched)
    cache.store(new)
    assert seen == [2, 1]


@pytest.mark.parametrize("failing", ["fsync", "open"])
def test_a_full_disk_leaves_the_old_set(
    cache: Cache, make: MakeSet, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    old = make()
    cache.store(old)
    real: Any = getattr(os, failing)

    def full(first: Any, *arguments: Any, **options: Any) -> Any:
        if failing == "open" and not str(first).endswith(".json"):
            return real(first, *arguments, **options)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, failing, full)
        with pytest.raises(UnavailableError) as caught:
            cache.store(make(evaluation_number=18))
    assert caught.value.code is Code.ENDORSEMENTS_UNAVAILABLE
    assert load_endorsements([cache.directory]) == (pieces_of(old.files),)
    assert not list(cache.directory.glob(".new-*"))


def test_what_an_operator_put_there_stays(cache: Cache, make: MakeSet, vendor: Vendor) -> None:
    by_hand = cache.directory / "sgx"
    by_hand.mkdir(parents=True)
    (by_hand / "tcb_info.json").write_bytes(vendor.endorsements("sgx", NOW)["tcb_info"])
    cache.store(make())
    cache.store(make(evaluation_number=18))
    assert (by_hand / "tcb_info.json").exists()
    assert list(cache.held()) == ["sgx-00906ed50000"]


def test_a_process_that_died_leaves_nothing_for_long(cache: Cache, make: MakeSet) -> None:
    cache.directory.mkdir()
    (cache.directory / ".new-1").mkdir()
    (cache.directory / ".new-2.json").touch()
    (cache.directory / ".old-1").mkdir()
    cache.store(make())
    assert not list(cache.directory.glob(".new-*")) + list(cache.directory.glob(".old-*"))


def test_a_set_without_its_record_is_written_again(cache: Cache, make: MakeSet) -> None:
    fetched = make()
    cache.store(fetched)
    (cache.held()["sgx-00906ed50000"].directory / ".set.json").write_text("{}")
    assert cache.held() == {}
    assert cache.store(fetched)
    assert cache.held()["sgx-00906ed50000"].files() == fetched.files


def test_too_many_sets(cache: Cache, make: MakeSet) -> None:
    fetched = make()
    for number in range(SETS_MAX):
        (cache.directory / f"sgx-{number:012x}-{0:012x}").mkdir(parents=True)
    with pytest.raises(UnavailableError) as caught:
        cache.store(fetched)
    assert caught.value.code is Code.LIMITS_EXHAUSTED


def test_a_set_that_is_too_large(cache: Cache, make: MakeSet) -> None:
    fetched = replace(make(), files={"a.der": bytes(module.SET_MAX + 1)})
    with pytest.raises(UnavailableError) as caught:
        cache.store(fetched)
    assert caught.value.code is Code.LIMITS_EXHAUSTED


def test_a_directory_that_cannot_be_made(tmp_path: Path, make: MakeSet) -> None:
    (tmp_path / "file").touch()
    cache = Cache(tmp_path / "file")
    for action in (lambda: cache.store(make()), lambda: cache.succeeded("sgx-00906ed50000", "", NOW), cache.held):
        with pytest.raises(UnavailableError) as caught:
            action()
        assert caught.value.code is Code.ENDORSEMENTS_UNAVAILABLE


def test_a_status(cache: Cache) -> None:
    assert cache.statuses() == {}
    cache.succeeded("sgx-00906ed50000", "https://pcs", NOW)
    error = UnavailableError(Code.ENDORSEMENTS_STALE, "old" * 1000)
    later = NOW + timedelta(hours=1)
    cache.failed("sgx-00906ed50000", "https://pcs", later, error)
    cache.failed("sgx-00906ed50000", "https://pcs", later, error)
    status = cache.statuses()["sgx-00906ed50000"]
    assert (status.success, status.error_at, status.code, status.failures) == (NOW, later, "endorsements.stale", 2)
    assert len(status.detail) == 500
    cache.succeeded("sgx-00906ed50000", "https://pcs", later)
    assert cache.statuses() == {"sgx-00906ed50000": Status("https://pcs", later)}


@settings(max_examples=100, deadline=None)
@given(data=st.binary(max_size=100) | st.recursive(
    st.none() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(
        ["names", "a", "source", "success", "error_at", "code", "detail", "failures", "numbers", "half_life"]), inner),
    max_leaves=10,
).map(lambda value: json.dumps(value).encode()))  # fmt: skip
def test_any_state_or_record_is_read_or_passed_over(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    directory = tmp_path_factory.mktemp("cache")
    found = directory / "sgx-00906ed50000-000000000000"
    found.mkdir()
    (found / ".set.json").write_bytes(data)
    (directory / ".state.json").write_bytes(data)
    assert isinstance(Cache(directory).statuses(), dict)
    assert len(Cache(directory).held()) <= 1


# Bundles.


def test_a_bundle_goes_round(make: MakeSet) -> None:
    sets = {item.name: dict(item.files) for item in (make(), make(Tee.TDX))}
    data = encode_bundle(sets)
    assert decode_bundle(data) == sets
    assert encode_bundle(dict(reversed(sets.items()))) == data


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b'"version": 1', b'"version": 2'),
        (b'"version": 1', b'"version": true'),
        (b'"version": 1', b'"version": 1, "other": 1'),
        (b"proxy-attestation endorsements", b"another"),
        (b'"name": "sgx-00906ed50000"', b'"name": "../../../../etc/x"'),
        (b'"name": "sgx-00906ed50000"', b'"name": "sgx-00906ED50000"'),
        (b'"sha256": "', b'"sha256": "0'),
        (b'"tcb_info.json": "', b'"tcb_info.json": "AAAA'),
        (b'"tcb_info.json": "', b'"tcb_info.json": "*'),
        (b'"tcb_info.json"', b'"/tcb_info.json"'),
        (b'"tcb_info.json"', b'".set.json"'),
        (b'"tcb_info.json"', b'"qe_identity.json"'),
        (b'"files": {', b'"files": [], "x": {'),
        (b"{", b"["),
    ],
)
def test_bundles_with_one_thing_wrong(make: MakeSet, old: bytes, new: bytes) -> None:
    data = encode_bundle({"sgx-00906ed50000": make().files})
    assert data.count(old) >= 1
    with pytest.raises(FormatError) as caught:
        decode_bundle(data.replace(old, new, 1))
    assert caught.value.code is Code.ENDORSEMENTS_MALFORMED


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_any_bytes_are_no_bundle(data: bytes) -> None:
    with pytest.raises(FormatError) as caught:
        decode_bundle(data)
    assert caught.value.code is Code.ENDORSEMENTS_MALFORMED
