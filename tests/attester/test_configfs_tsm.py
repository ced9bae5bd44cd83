"""The attester of configfs-tsm against a stand-in with the kernel's rules. Not run on TDX or SNP hardware."""

import errno
import hashlib
import struct
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Final, cast

import pytest
from bindings import binding_of

from proxy_attestation.attester.configfs_tsm import ATTEMPTS, ConfigfsFiles, ConfigfsTsmAttester, certificates_of
from proxy_attestation.codes import Code
from proxy_attestation.errors import InternalError, UnavailableError
from proxy_attestation.formats.bounds import CERTIFICATE_MAX, QUOTE_MAX
from proxy_attestation.formats.dcap_quote import decode_quote
from proxy_attestation.formats.request import KeyOrigin
from proxy_attestation.formats.tee import Tee
from proxy_attestation_simulator.intel import Vendor
from proxy_attestation_simulator.platform import Platform

SNP: Final = cast(Tee, "snp")
DATA: Final = bytes(range(64))
VCEK, VLEK, ASK, ARK, CRL = (
    uuid.UUID(text).bytes
    for text in (
        "63da758d-e664-4564-adc5-f4b93be8accd",
        "a8074bc2-a25a-483e-aae6-39c045a0b8a1",
        "4ab7b379-bbac-4fe4-a02f-05aef327c782",
        "c0b406a4-a803-4952-9743-3fb6014cd0ae",
        "92f81bc3-5811-4d3d-97ff-d19f88dc67ea",
    )
)


@pytest.fixture(scope="module")
def tdx_platform(sgx_platform: Platform) -> Platform:
    assert isinstance(sgx_platform.vendor, Vendor)
    return sgx_platform.vendor.platform("tdx")


def table(*entries: tuple[bytes, bytes]) -> bytes:
    """Make a certificate table as the host gives it."""
    offset, head, body = 24 * (len(entries) + 1), b"", b""
    for guid, data in entries:
        head += guid + struct.pack("<II", offset + len(body), len(data))
        body += data
    return head + bytes(24) + body


def snp_report(report_data: bytes) -> bytes:
    """Make something of an SNP report's length with its report data in place."""
    return bytes(0x50) + report_data + bytes(0x4A0 - 0x90)


class Kernel:
    """`tsm.c`: a request's options, its generation, and one report for each generation."""

    def __init__(self, provider: bytes, make: Callable[[bytes], bytes], auxblob: bytes | None = None) -> None:
        self.provider = provider
        self.make_report = make
        self.auxblob = auxblob
        self.floor: int | None = None
        self.requests: dict[str, dict[str, bytes]] = {}
        self.generation: dict[str, int] = {}
        self.made = 0
        self.privlevels: list[bytes] = []
        self.busy = 0
        self.busy_errno = errno.EBUSY
        self.lost_writes = False
        self.between: Callable[[str], None] = lambda _: None

    def make(self, request: str) -> None:
        if request in self.requests:
            raise FileExistsError(request)
        self.requests[request], self.generation[request] = {}, 0
        self.made += 1

    def remove(self, request: str) -> None:
        del self.requests[request]

    def read(self, request: str, name: str, limit: int) -> bytes:
        options = self.requests[request]
        match name:
            case "provider":
                return (self.provider + b"\n")[:limit]
            case "generation":
                return f"{self.generation[request]}\n".encode()[:limit]
            case "privlevel_floor" if self.floor is not None:
                return f"{self.floor}\n".encode()[:limit]
            case "outblob":
                if self.busy:
                    self.busy -= 1
                    raise OSError(self.busy_errno, "busy")
                if "inblob" not in options:
                    raise OSError(errno.EINVAL, "no inblob")
                self.between(request)
                return self.make_report(options["inblob"])[:limit]
            case "auxblob" if self.auxblob is not None:
                return self.auxblob[:limit]
            case _:
                raise FileNotFoundError(name)

    def write(self, request: str, name: str, data: bytes) -> None:
        if name not in ("inblob", "privlevel") or len(data) > 64:
            raise OSError(errno.EINVAL, name)
        if name == "privlevel":
            self.privlevels.append(data)
        if self.lost_writes:  # the error of a write at the file's end is lost
            return
        self.requests[request][name] = data
        self.generation[request] += 1


def no_pause(_: float) -> None:
    return None


@pytest.fixture
def tdx(tdx_platform: Platform) -> Kernel:
    return Kernel(b"tdx_guest", tdx_platform.quote)


@pytest.fixture
def snp() -> Kernel:
    return Kernel(b"sev_guest", snp_report, table((ARK, b"ark"), (VCEK, b"vcek"), (CRL, b"crl"), (ASK, b"ask")))


def unavailable(kernel: Kernel, tee: Tee, data: bytes = DATA) -> None:
    """Expect no evidence and no request left behind."""
    with pytest.raises(UnavailableError) as refused:
        ConfigfsTsmAttester(kernel, tee, no_pause).attest(binding_of(data))
    assert refused.value.code is Code.ATTESTER_UNAVAILABLE
    assert kernel.requests == {}


def test_a_td_makes_a_quote_over_the_report_data(tdx: Kernel) -> None:
    attester = ConfigfsTsmAttester(tdx, Tee.TDX, no_pause)
    assert (attester.tee, attester.key_origin) == (Tee.TDX, KeyOrigin.TEE)
    evidence = attester.attest(binding_of(DATA))
    assert decode_quote(evidence.evidence).report_data == DATA
    assert (evidence.tee, evidence.platform_certificates) == (Tee.TDX, ())
    assert tdx.requests == {}


def test_a_tds_firmware_log_comes_with_the_quote(tdx: Kernel, snp: Kernel, tmp_path: Path) -> None:
    log = tmp_path / "CCEL"
    for kernel, tee in ((tdx, Tee.TDX), (snp, SNP)):
        log.unlink(missing_ok=True)
        attester = ConfigfsTsmAttester(kernel, tee, no_pause, log)
        with attester.begin() as enrolment:
            attested = enrolment.attest(binding_of(DATA))
            assert (attested.event_log, attested.evidence.event_log_sha256) == (None, None)
            log.write_bytes(b"log")
            attested = enrolment.attest(binding_of(DATA))
            digest = hashlib.sha256(b"log").digest()
            assert (attested.event_log, attested.evidence.event_log_sha256) == (
                (b"log", digest) if tee is Tee.TDX else (None, None)
            )


def test_an_snp_guest_makes_a_report_with_its_certificates(snp: Kernel) -> None:
    evidence = ConfigfsTsmAttester(snp, SNP, no_pause).attest(binding_of(DATA))
    assert evidence.evidence == snp_report(DATA)
    assert evidence.platform_certificates == (b"vcek", b"ask", b"ark")
    assert snp.privlevels == []
    assert snp.requests == {}


def test_an_snp_guest_without_table_has_no_certificates(snp: Kernel) -> None:
    for auxblob in (None, b""):
        snp.auxblob = auxblob
        assert ConfigfsTsmAttester(snp, SNP, no_pause).attest(binding_of(DATA)).platform_certificates == ()


def test_below_an_svsm_the_report_is_asked_for_at_the_floor(snp: Kernel) -> None:
    snp.floor = 2
    ConfigfsTsmAttester(snp, SNP, no_pause).attest(binding_of(DATA))
    assert snp.privlevels == [b"2"]
    snp.floor = 0
    ConfigfsTsmAttester(snp, SNP, no_pause).attest(binding_of(DATA))
    assert snp.privlevels == [b"2"]


def test_each_request_has_a_directory_of_its_own(tdx: Kernel) -> None:
    attester = ConfigfsTsmAttester(tdx, Tee.TDX, no_pause)
    before = tdx.made
    for data in (DATA, bytes(64), DATA[::-1]):
        assert decode_quote(attester.attest(binding_of(data)).evidence).report_data == data
    assert tdx.made == before + 3


@pytest.mark.parametrize(
    ("provider", "tee"), [(b"sev_guest", Tee.TDX), (b"tdx_guest", SNP), (b"arm_cca_guest", Tee.TDX)]
)
def test_another_provider_is_not_asked(tdx: Kernel, provider: bytes, tee: Tee) -> None:
    tdx.provider = provider
    unavailable(tdx, tee)


def test_configfs_makes_no_sgx_quotes(tdx: Kernel) -> None:
    unavailable(tdx, Tee.SGX)


def test_a_provider_that_changes_is_noticed(tdx: Kernel) -> None:
    attester = ConfigfsTsmAttester(tdx, Tee.TDX, no_pause)
    tdx.provider = b"sev_guest"
    with pytest.raises(UnavailableError):
        attester.attest(binding_of(DATA))
    assert tdx.requests == {}


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EWOULDBLOCK])
def test_a_busy_kernel_is_asked_again_and_not_for_ever(tdx: Kernel, number: int) -> None:
    pauses: list[float] = []
    attester = ConfigfsTsmAttester(tdx, Tee.TDX, pauses.append)
    tdx.busy, tdx.busy_errno = ATTEMPTS - 1, number
    assert decode_quote(attester.attest(binding_of(DATA)).evidence).report_data == DATA
    assert len(pauses) == ATTEMPTS - 1
    assert pauses == sorted(pauses)
    assert sum(pauses) < 10
    tdx.busy = ATTEMPTS
    with pytest.raises(UnavailableError) as refused:
        attester.attest(binding_of(DATA))
    assert refused.value.code is Code.ATTESTER_UNAVAILABLE
    assert (tdx.busy, tdx.requests) == (0, {})


def test_another_error_is_not_tried_again(tdx: Kernel) -> None:
    attester = ConfigfsTsmAttester(tdx, Tee.TDX, lambda _: pytest.fail("tried again"))
    tdx.busy, tdx.busy_errno = 1, errno.EIO
    with pytest.raises(UnavailableError):
        attester.attest(binding_of(DATA))
    assert tdx.requests == {}


def test_another_writer_between_is_noticed(tdx: Kernel) -> None:
    tdx.between = lambda request: tdx.write(request, "inblob", bytes(64))
    unavailable(tdx, Tee.TDX)


def test_a_write_that_was_lost_is_noticed(snp: Kernel) -> None:
    # An earlier value stands there: reading works, the generation does not grow.
    attester = ConfigfsTsmAttester(snp, SNP, no_pause)
    make = snp.make

    def made(request: str) -> None:
        make(request)
        snp.requests[request]["inblob"] = DATA

    snp.make = made  # type: ignore[method-assign] # a fault
    snp.lost_writes = True
    with pytest.raises(UnavailableError):
        attester.attest(binding_of(DATA))
    assert snp.requests == {}


@pytest.mark.parametrize(
    "report", [b"", bytes(QUOTE_MAX + 1), bytes(100), snp_report(bytes(64)), snp_report(DATA) + b"\0"]
)
@pytest.mark.parametrize("tee", [Tee.TDX, SNP], ids=str)
def test_what_is_no_report_over_the_data_is_not_passed_on(tee: Tee, report: bytes) -> None:
    provider = b"tdx_guest" if tee is Tee.TDX else b"sev_guest"
    unavailable(Kernel(provider, lambda _: report), tee)


def test_a_quote_over_other_data_is_not_passed_on(tdx: Kernel, tdx_platform: Platform) -> None:
    tdx.make_report = lambda _: tdx_platform.quote(bytes(64))
    unavailable(tdx, Tee.TDX)


@pytest.mark.parametrize("length", [0, 32, 63, 65])
def test_other_lengths_are_a_bug(tdx: Kernel, length: int) -> None:
    attester = ConfigfsTsmAttester(tdx, Tee.TDX, no_pause)
    made = tdx.made
    with pytest.raises(InternalError):
        attester.attest(binding_of(bytes(length)))
    assert tdx.made == made


def test_no_right_to_make_requests_is_unavailable(tdx: Kernel) -> None:
    def refuse(request: str) -> None:
        raise PermissionError(request)

    tdx.make = refuse  # type: ignore[method-assign] # a fault
    unavailable(tdx, Tee.TDX)


def test_a_request_that_cannot_be_removed_spoils_nothing(tdx: Kernel) -> None:
    def refuse(request: str) -> None:
        raise OSError(errno.EBUSY, request)

    tdx.remove = refuse  # type: ignore[method-assign] # a fault
    assert ConfigfsTsmAttester(tdx, Tee.TDX, no_pause).attest(binding_of(DATA)).evidence


def test_a_generation_that_is_no_number_is_unavailable(tdx: Kernel) -> None:
    read = tdx.read
    tdx.read = lambda request, name, limit: b"x" if name == "generation" else read(request, name, limit)  # type: ignore[method-assign] # a fault
    unavailable(tdx, Tee.TDX)


def test_certificates_come_leaf_first_and_without_lists() -> None:
    assert certificates_of(b"") == ()
    assert certificates_of(bytes(24)) == ()
    assert certificates_of(table((CRL, b"crl"), (VLEK, b"vlek"))) == (b"vlek",)
    assert certificates_of(table((bytes(15) + b"\1", b"?"), (ARK, b"ark"), (VCEK, b""))) == (b"ark",)


@pytest.mark.parametrize(
    "data",
    [
        VCEK,
        table((VCEK, b"a"))[:24],
        table((VCEK, b"a"))[:-1],
        VCEK + struct.pack("<II", 0xFFFFFFFF, 0xFFFFFFFF) + bytes(24),
        VCEK + struct.pack("<II", 48, 0xFFFFFFFF) + bytes(24),
        table((VCEK, b"a"), (VCEK, b"b")),
        table((VCEK, bytes(CERTIFICATE_MAX + 1))),
    ],
)
def test_a_table_that_is_none_is_unavailable(data: bytes) -> None:
    with pytest.raises(UnavailableError) as refused:
        certificates_of(data)
    assert refused.value.code is Code.ATTESTER_UNAVAILABLE


def test_the_files_are_read_to_the_limit_and_written_in_place(tmp_path: Path) -> None:
    files = ConfigfsFiles(tmp_path)
    files.make("one")
    with pytest.raises(FileExistsError):
        files.make("one")
    (tmp_path / "one" / "outblob").write_bytes(b"x" * 100_000)
    (tmp_path / "one" / "inblob").write_bytes(b"\xff" * 64)
    assert files.read("one", "outblob", 70_000) == b"x" * 70_000
    assert files.read("one", "outblob", 200_000) == b"x" * 100_000
    files.write("one", "inblob", b"\x01" * 8)
    assert (tmp_path / "one" / "inblob").read_bytes() == b"\x01" * 8 + b"\xff" * 56
    with pytest.raises(FileNotFoundError):
        files.write("one", "absent", b"")
    (tmp_path / "one" / "outblob").unlink()
    (tmp_path / "one" / "inblob").unlink()
    files.remove("one")
    assert not (tmp_path / "one").exists()
