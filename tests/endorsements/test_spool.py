"""What workers and the process that fetches leave for each other: bounded, whole, and nothing where nobody looks."""

import os
from pathlib import Path

import pytest

from proxy_attestation.endorsements import spool
from proxy_attestation.endorsements.amd_checks import VcekRequest
from proxy_attestation.endorsements.kds import parse_vcek
from proxy_attestation.endorsements.spool import PlatformSpool, VcekSpool

MILAN = VcekRequest(bytes(range(64)), {"bl": 3, "tee": 0, "snp": 22, "ucode": 209})
TURIN = VcekRequest(bytes(range(1, 9)), {"fmc": 1, "bl": 3, "tee": 0, "snp": 22, "ucode": 209})


@pytest.fixture
def vceks(tmp_path: Path) -> VcekSpool:
    return VcekSpool(tmp_path / "run", tmp_path / "endorsements")


@pytest.mark.parametrize(("product", "request_"), [("Milan", MILAN), ("Turin", TURIN)])
def test_what_is_asked_for_is_read_as_it_was_meant(vceks: VcekSpool, product: str, request_: VcekRequest) -> None:
    vceks.open(product)
    assert vceks.ask(product, request_)
    ((path, text),) = vceks.wanted(product)
    assert parse_vcek(text, product) == request_
    assert request_.file_name == f"{path.name}.der"
    assert request_.hwid.hex() not in path.name
    vceks.done(path)
    assert vceks.wanted(product) == []


def test_nothing_is_asked_for_where_nobody_fetches(vceks: VcekSpool, tmp_path: Path) -> None:
    vceks.open("Genoa")
    assert not vceks.ask("Milan", MILAN)
    assert vceks.wanted("Milan") == []
    assert not (tmp_path / "run" / "wanted" / "milan").exists()


def test_one_thing_is_asked_for_once_and_the_oldest_comes_first(vceks: VcekSpool, tmp_path: Path) -> None:
    vceks.open("Milan")
    others = [VcekRequest(bytes([n] * 64), MILAN.tcb) for n in range(3)]
    for place, request in enumerate((*others, *others)):
        assert vceks.ask("Milan", request)
        path = tmp_path / "run" / "wanted" / "milan" / request.file_name.removesuffix(".der")
        os.utime(path, (10 - place, 10 - place))
    assert [parse_vcek(text, "Milan").hwid[0] for _, text in vceks.wanted("Milan")[:2]] == [2, 1]
    assert len(vceks.wanted("Milan")) == 3


def test_what_is_waited_for_is_bounded(vceks: VcekSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "WANTED_MAX", 2)
    vceks.open("Milan")
    for n in range(4):
        assert vceks.ask("Milan", VcekRequest(bytes([n] * 64), MILAN.tcb))
    assert len(vceks.wanted("Milan")) == 2


def test_chip_tcb_and_product_are_the_key(vceks: VcekSpool) -> None:
    for product in ("Milan", "Genoa"):
        vceks.open(product)
    vceks.keep("Milan", MILAN, b"der")
    assert vceks.find("Milan", MILAN) == b"der"
    assert vceks.find("Genoa", MILAN) is None
    assert vceks.find("Milan", VcekRequest(MILAN.hwid, {**MILAN.tcb, "snp": 23})) is None
    assert vceks.find("Milan", VcekRequest(MILAN.hwid[::-1], MILAN.tcb)) is None


def test_what_is_kept_is_bounded_and_the_one_that_is_not_used_goes(
    vceks: VcekSpool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool, "KEPT_MAX", 2)
    vceks.open("Milan")
    requests = [VcekRequest(bytes([n] * 64), MILAN.tcb) for n in range(3)]
    for request in requests[:2]:
        vceks.keep("Milan", request, b"der")
        os.utime(tmp_path / "endorsements" / ".vceks" / "milan" / request.file_name, (1, 1))
    assert vceks.find("Milan", requests[0]) == b"der"
    vceks.keep("Milan", requests[2], b"der")
    assert [vceks.find("Milan", request) for request in requests] == [b"der", None, b"der"]


def test_files_of_other_names_and_sizes_are_left_alone(vceks: VcekSpool, tmp_path: Path) -> None:
    vceks.open("Milan")
    directory = tmp_path / "run" / "wanted" / "milan"
    (directory / ".new-1").write_bytes(b"x")
    (directory / "other").write_bytes(b"x")
    (directory / ("vcek-" + "0" * 32)).write_bytes(bytes(2000))
    (directory / ("vcek-" + "1" * 32)).mkdir()
    assert vceks.wanted("Milan") == []


def test_platforms_are_noted_bounded_and_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spool, "PLATFORMS_MAX", 2)
    platforms = PlatformSpool(tmp_path)
    names = [f"sgx-{n:032x}.pem" for n in range(3)]
    assert not platforms.note(names[0], b"pem")
    assert platforms.seen(0.0) == []
    platforms.open()
    assert [platforms.note(name, b"pem") for name in names] == [True, True, False]
    assert [path.name for path in platforms.seen(0.0)] == names[:2]
    os.utime(tmp_path / "platforms" / names[0], (1, 1))
    assert [path.name for path in platforms.seen(2.0)] == names[1:2]
    platforms.note(names[1], b"pem")
    assert len(list((tmp_path / "platforms").iterdir())) == 1
