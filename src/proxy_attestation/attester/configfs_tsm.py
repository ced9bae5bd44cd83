"""Evidence from Linux's configfs-tsm: TDX quotes and SEV-SNP reports, one directory a request.

The rules (Documentation/ABI/testing/configfs-tsm; drivers/virt/coco/tsm.c, Linux 6.7 and later): making a directory
under `/sys/kernel/config/tsm/report` makes a request; `provider` says which TEE answers; up to 64 bytes go into
`inblob`; reading `outblob` makes the report, and `auxblob`, where a provider has one, gives what belongs to it.
`generation` grows with each write, and a write takes effect when its file is closed, where an error is lost: so it is
read before and after, and must have grown by exactly our own writes. EBUSY and EWOULDBLOCK ask to try again. Only root
may do this, and what was made must be removed.

A guest below an SVSM may not ask in the name of VMPL 0: where `privlevel_floor` is above 0, the report is asked for at
that level, and says so.
"""

import contextlib
import errno
import os
import secrets
import struct
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol, TypeVar

from proxy_attestation.attester.model import InMemory, require_report_data, unavailable
from proxy_attestation.errors import ProxyAttestationError
from proxy_attestation.formats.binder import Binding
from proxy_attestation.formats.bounds import CERTIFICATE_MAX, PLATFORM_CERTIFICATES_MAX, QUOTE_MAX
from proxy_attestation.formats.dcap_quote import decode_quote
from proxy_attestation.formats.evidence import Evidence
from proxy_attestation.formats.tee import Tee

_T = TypeVar("_T")

REPORT_DIRECTORY: Final = Path("/sys/kernel/config/tsm/report")
CCEL: Final = Path("/sys/firmware/acpi/tables/data/CCEL")
"""The event log of a TD's firmware (ACPI, the CC event log's area)."""
PROVIDERS: Final = {"tdx": b"tdx_guest", "snp": b"sev_guest"}
"""By the name of the TEE: what `provider` reads."""
ATTEMPTS: Final = 8
_FIRST_PAUSE_S: Final = 0.05
_TRY_AGAIN: Final = (errno.EBUSY, errno.EWOULDBLOCK)
_TEXT_MAX: Final = 64
_TABLE_MAX: Final = 64 * 1024
# AMD, SEV-SNP firmware ABI and the GHCB specification, MSG_REPORT_RSP: ATTESTATION_REPORT is 0x4A0 bytes.
_SNP_REPORT_BYTES: Final = 0x4A0
_SNP_REPORT_DATA: Final = slice(0x50, 0x90)
_TABLE_ENTRY: Final = struct.Struct("<16sII")
_TABLE_END: Final = bytes(_TABLE_ENTRY.size)
_CERTIFICATES: Final = tuple(
    uuid.UUID(text).bytes
    for text in (
        "63da758d-e664-4564-adc5-f4b93be8accd",  # VCEK
        "a8074bc2-a25a-483e-aae6-39c045a0b8a1",  # VLEK
        "4ab7b379-bbac-4fe4-a02f-05aef327c782",  # ASK or ASVK
        "c0b406a4-a803-4952-9743-3fb6014cd0ae",  # ARK
    )
)


class ReportFiles(Protocol):
    """The directory of requests; what a test replaces. Each method raises OSError as the system reports it."""

    def make(self, request: str) -> None:
        """Make a request's directory."""

    def remove(self, request: str) -> None:
        """Remove it."""

    def read(self, request: str, name: str, limit: int) -> bytes:
        """Open a request's file, read at most `limit` bytes from its start, close it."""

    def write(self, request: str, name: str, data: bytes) -> None:
        """Open a request's file, write `data` with one call, close it."""


class ConfigfsFiles:
    """The files as the kernel shows them."""

    def __init__(self, directory: Path = REPORT_DIRECTORY) -> None:
        self._directory = directory

    def make(self, request: str) -> None:
        """Make a request's directory; the kernel fills it."""
        (self._directory / request).mkdir()

    def remove(self, request: str) -> None:
        """Remove it; the kernel removes what it put there."""
        (self._directory / request).rmdir()

    def read(self, request: str, name: str, limit: int) -> bytes:
        """Read a file's beginning."""
        with (self._directory / request / name).open("rb", buffering=0) as file:
            data = b""
            while len(data) < limit and (piece := file.read(limit - len(data))):
                data += piece
        return data

    def write(self, request: str, name: str, data: bytes) -> None:
        """Write without creating or truncating: the file is the kernel's."""
        descriptor = os.open(self._directory / request / name, os.O_WRONLY | os.O_CLOEXEC)
        try:
            written = os.write(descriptor, data)
        finally:
            os.close(descriptor)
        if written != len(data):
            raise OSError(errno.EIO, f"{written} of {len(data)} bytes written to {name}")


class ConfigfsTsmAttester(InMemory):
    """A confidential virtual machine whose kernel has configfs-tsm: TDX or SEV-SNP."""

    def __init__(
        self, files: ReportFiles, tee: Tee, pause: Callable[[float], None] = time.sleep, event_log: Path = CCEL
    ) -> None:
        """Check that this machine makes evidence of kind `tee`.

        Args:
            files: the directory of requests.
            tee: the kind of TEE that evidence is asked of.
            pause: waits for so many seconds before another attempt.
            event_log: where the kernel shows the log of a TD's firmware; SNP has none.

        Raises:
            UnavailableError: `attester.unavailable`, where the kernel's provider is another one, or there is none.
        """
        self.tee: Final = tee
        self.event_log_path = event_log if tee is Tee.TDX else None
        self._files = files
        self._pause = pause
        self._request(self._check_provider)

    def attest(self, binding: Binding) -> Evidence:
        """Make a request, write the report data, read the report, remove the request.

        Raises:
            UnavailableError: `attester.unavailable`.
        """
        report_data = require_report_data(binding)
        evidence = self._request(lambda request: self._report(request, report_data))
        if self._report_data_of(evidence.evidence) != report_data:
            raise unavailable("the report carries other report data than was written")
        return evidence

    def _request(self, use: Callable[[str], _T]) -> _T:
        """Make a request, use it, remove it whatever happened."""
        request = f"proxy-attestation-{secrets.token_hex(16)}"
        try:
            self._files.make(request)
            try:
                return self._patiently(lambda: use(request))
            finally:
                # What cannot be removed costs some kernel memory; the report is as good as it was.
                with contextlib.suppress(OSError):
                    self._files.remove(request)
        except OSError as error:
            raise unavailable(f"configfs-tsm: {error}") from error

    def _patiently(self, use: Callable[[], _T]) -> _T:
        for attempt in range(ATTEMPTS):
            try:
                return use()
            except OSError as error:
                if error.errno not in _TRY_AGAIN or attempt == ATTEMPTS - 1:
                    raise
            self._pause(_FIRST_PAUSE_S * 2**attempt)
        raise AssertionError  # the last attempt returns or raises

    def _check_provider(self, request: str) -> None:
        wanted, found = PROVIDERS.get(str(self.tee)), self._files.read(request, "provider", _TEXT_MAX).strip()
        if found != wanted:
            readable = found.decode("ascii", "replace")
            raise unavailable(f"the kernel's provider is {readable!r}, which makes no evidence of kind {self.tee}")

    def _report(self, request: str, report_data: bytes) -> Evidence:
        # The module that answers may have been replaced since the last request.
        self._check_provider(request)
        before, writes = self._number(request, "generation"), 1
        is_snp = self.tee == "snp"
        floor = self._optional_number(request, "privlevel_floor") if is_snp else 0
        if floor:
            self._files.write(request, "privlevel", str(floor).encode())
            writes += 1
        self._files.write(request, "inblob", report_data)
        report = self._files.read(request, "outblob", QUOTE_MAX + 1)
        table = self._optional(request, "auxblob") if is_snp else b""
        after = self._number(request, "generation")
        if after != before + writes:
            raise unavailable(f"{after - before} writes to the request where {writes} were made")
        if not report or len(report) > QUOTE_MAX:
            raise unavailable(f"a report of {len(report)} bytes")
        return Evidence(self.tee, report, certificates_of(table))

    def _number(self, request: str, name: str) -> int:
        text = self._files.read(request, name, _TEXT_MAX).strip()
        if not text.isdigit():
            raise unavailable(f"{name} is no number")
        return int(text)

    def _optional_number(self, request: str, name: str) -> int:
        try:
            return self._number(request, name)
        except FileNotFoundError:
            return 0

    def _optional(self, request: str, name: str) -> bytes:
        try:
            return self._files.read(request, name, _TABLE_MAX)
        except FileNotFoundError:
            return b""

    def _report_data_of(self, report: bytes) -> bytes:
        if self.tee == "snp":
            return report[_SNP_REPORT_DATA] if len(report) == _SNP_REPORT_BYTES else b""
        try:
            return decode_quote(report).report_data
        except ProxyAttestationError as error:
            raise unavailable(f"no quote: {error}") from error


def certificates_of(table: bytes) -> tuple[bytes, ...]:
    """Return the certificates of an SNP certificate table: VCEK or VLEK, then ASK or ASVK, then ARK; CRLs are left out.

    The host supplies the table, and nothing in it is believed here. An empty one has none.

    Args:
        table: entries of (GUID 16, u32 offset, u32 length), a zero entry, then what they point to (GHCB, 4.1.8.1).

    Raises:
        UnavailableError: `attester.unavailable`, for a table without end, or an entry that points outside.
    """
    found: dict[bytes, bytes] = {}
    for start in range(0, len(table), _TABLE_ENTRY.size):
        entry = table[start : start + _TABLE_ENTRY.size]
        if entry == _TABLE_END:
            break
        if len(entry) < _TABLE_ENTRY.size:
            raise unavailable("the host's certificate table has no end")
        guid, offset, length = _TABLE_ENTRY.unpack(entry)
        data = table[offset : offset + length]
        if len(data) != length or guid in found:
            raise unavailable("the host's certificate table points outside, or has an entry twice")
        found[guid] = data
    certificates = tuple(found[guid] for guid in _CERTIFICATES if found.get(guid))
    if len(certificates) > PLATFORM_CERTIFICATES_MAX or any(len(der) > CERTIFICATE_MAX for der in certificates):
        raise unavailable("a certificate in the host's table is too large")
    return certificates
