"""Gramine's attester against a stand-in that keeps Gramine's write-then-read rules. Not run under Gramine."""

import threading
from pathlib import Path
from typing import Final

import pytest
from bindings import binding_of

from proxy_attestation.attester.gramine import DeviceFiles, GramineAttester
from proxy_attestation.codes import Code
from proxy_attestation.errors import InternalError, UnavailableError
from proxy_attestation.formats.bounds import QUOTE_MAX
from proxy_attestation.formats.dcap_quote import decode_quote
from proxy_attestation.formats.request import KeyOrigin
from proxy_attestation.formats.tee import Tee
from proxy_attestation_simulator.platform import Platform

DATA: Final = bytes(range(64))


class GramineFiles:
    """The files of one process: user_report_data is one for all, and keeps what a shorter write leaves."""

    def __init__(self, platform: Platform, kind: bytes = b"dcap") -> None:
        self.platform = platform
        self.kind = kind
        self.user_report_data = bytes(64)
        self.writes: list[bytes] = []
        self.quote: bytes | None = None
        self.between: threading.Barrier | None = None

    def read(self, name: str, limit: int) -> bytes:
        match name:
            case "attestation_type":
                content = self.kind
            case "user_report_data":
                content = self.user_report_data
            case "quote":
                if self.kind != b"dcap":
                    raise PermissionError("no quotes")
                content = self.quote if self.quote is not None else self.platform.quote(self.user_report_data)
            case _:
                raise FileNotFoundError(name)
        return content[:limit]

    def write(self, name: str, data: bytes) -> None:
        if name != "user_report_data":
            raise PermissionError(name)
        if len(data) > 64:
            raise OSError("too long")
        self.writes.append(data)
        self.user_report_data = data + self.user_report_data[len(data) :]


def test_the_stand_in_keeps_stale_bytes_as_gramine_does(sgx_platform: Platform) -> None:
    files = GramineFiles(sgx_platform)
    files.write("user_report_data", b"\xff" * 64)
    files.write("user_report_data", b"\x01" * 8)
    assert decode_quote(files.read("quote", QUOTE_MAX)).report_data == b"\x01" * 8 + b"\xff" * 56


def test_the_quote_carries_all_64_bytes_written_at_once(sgx_platform: Platform) -> None:
    files = GramineFiles(sgx_platform)
    files.write("user_report_data", b"\xff" * 64)
    files.writes.clear()
    attester = GramineAttester(files)
    evidence = attester.attest(binding_of(DATA))
    assert (attester.tee, attester.key_origin) == (Tee.SGX, KeyOrigin.TEE)
    assert evidence.tee is Tee.SGX
    assert evidence.platform_certificates == ()
    assert decode_quote(evidence.evidence).report_data == DATA
    assert files.writes == [DATA]


def test_each_quote_carries_its_own_data(sgx_platform: Platform) -> None:
    attester = GramineAttester(GramineFiles(sgx_platform))
    for data in (DATA, bytes(64), DATA[::-1]):
        assert decode_quote(attester.attest(binding_of(data)).evidence).report_data == data


@pytest.mark.parametrize("length", [0, 32, 63, 65])
def test_other_lengths_are_a_bug_and_nothing_is_written(sgx_platform: Platform, length: int) -> None:
    files = GramineFiles(sgx_platform)
    attester = GramineAttester(files)
    with pytest.raises(InternalError):
        attester.attest(binding_of(bytes(length)))
    assert files.writes == []


@pytest.mark.parametrize("kind", [b"none", b"", b"epid", b"dcapx"])
def test_without_dcap_there_is_no_attester(sgx_platform: Platform, kind: bytes) -> None:
    with pytest.raises(UnavailableError) as refused:
        GramineAttester(GramineFiles(sgx_platform, kind))
    assert refused.value.code is Code.ATTESTER_UNAVAILABLE


def test_a_newline_after_the_type_is_no_other_type(sgx_platform: Platform) -> None:
    files = GramineFiles(sgx_platform)

    class WithNewline(GramineFiles):
        def read(self, name: str, limit: int) -> bytes:
            return files.read(name, limit) + (b"\n" if name == "attestation_type" else b"")

    assert GramineAttester(WithNewline(sgx_platform)).tee is Tee.SGX


def test_a_quote_over_other_data_is_not_passed_on(sgx_platform: Platform) -> None:
    files = GramineFiles(sgx_platform)
    attester = GramineAttester(files)
    files.quote = sgx_platform.quote(bytes(64))
    with pytest.raises(UnavailableError) as refused:
        attester.attest(binding_of(DATA))
    assert refused.value.code is Code.ATTESTER_UNAVAILABLE


@pytest.mark.parametrize("quote", [b"", bytes(QUOTE_MAX + 1), bytes(100)])
def test_things_that_are_no_quote(sgx_platform: Platform, quote: bytes) -> None:
    files = GramineFiles(sgx_platform)
    attester = GramineAttester(files)
    files.quote = quote
    with pytest.raises(UnavailableError) as refused:
        attester.attest(binding_of(DATA))
    assert refused.value.code is Code.ATTESTER_UNAVAILABLE


def test_an_error_of_the_system_is_unavailable(sgx_platform: Platform) -> None:
    files = GramineFiles(sgx_platform)
    attester = GramineAttester(files)
    files.kind = b"none"
    with pytest.raises(UnavailableError) as refused:
        attester.attest(binding_of(DATA))
    assert refused.value.code is Code.ATTESTER_UNAVAILABLE


def test_calls_at_one_time_get_their_own_data(sgx_platform: Platform) -> None:
    attester = GramineAttester(GramineFiles(sgx_platform))
    results: dict[int, bytes] = {}

    def one(number: int) -> None:
        results[number] = decode_quote(attester.attest(binding_of(bytes([number]) * 64)).evidence).report_data

    threads = [threading.Thread(target=one, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: bytes([number]) * 64 for number in range(16)}


def test_device_files_read_to_the_limit_and_write_in_place(tmp_path: Path) -> None:
    (tmp_path / "quote").write_bytes(b"x" * 100_000)
    (tmp_path / "user_report_data").write_bytes(b"\xff" * 64)
    files = DeviceFiles(tmp_path)
    assert files.read("quote", 70_000) == b"x" * 70_000
    assert files.read("quote", 200_000) == b"x" * 100_000
    files.write("user_report_data", b"\x01" * 8)
    assert (tmp_path / "user_report_data").read_bytes() == b"\x01" * 8 + b"\xff" * 56
    with pytest.raises(FileNotFoundError):
        files.write("absent", b"")
    assert not (tmp_path / "absent").exists()
