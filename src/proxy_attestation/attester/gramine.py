"""Evidence from Gramine's pseudo-files under `/dev/attestation`.

The rules, as Gramine has them (its documentation, "Attestation and Secret Provisioning", low-level interface):
`attestation_type` reads `none` or `dcap`; `user_report_data` is process-local and keeps its 64 bytes between writes, so
a shorter write leaves the end of an older one in place; reading `quote` makes a new SGX quote (version 3) with whatever
`user_report_data` holds at that moment. Therefore: one write of all 64 bytes, one call at a time, and the quote is
compared with what was written.
"""

import os
import threading
from pathlib import Path
from typing import Final, Protocol

from proxy_attestation.attester.model import InMemory, require_report_data, unavailable
from proxy_attestation.formats.binder import Binding
from proxy_attestation.formats.bounds import QUOTE_MAX
from proxy_attestation.formats.evidence import Evidence
from proxy_attestation.formats.tee import Tee

ATTESTATION_DIRECTORY: Final = Path("/dev/attestation")
_DCAP: Final = b"dcap"
# Intel, ECDSA Quote Library API, quote format version 3: 48 bytes of header, then the 384 bytes of the report body,
# which end with the report data.
_REPORT_DATA: Final = slice(48 + 320, 48 + 384)


class AttestationFiles(Protocol):
    """The files, by their names in the directory; what a test replaces."""

    def read(self, name: str, limit: int) -> bytes:
        """Open a file, read at most `limit` bytes from its start, close it.

        Raises:
            OSError: as the system reports it.
        """

    def write(self, name: str, data: bytes) -> None:
        """Open a file and write `data` at its start with one call, close it.

        Raises:
            OSError: as the system reports it, and when not every byte was taken.
        """


class DeviceFiles:
    """The files as Gramine's library OS shows them."""

    def __init__(self, directory: Path = ATTESTATION_DIRECTORY) -> None:
        self._directory = directory

    def read(self, name: str, limit: int) -> bytes:
        """Read a file's beginning; pseudo-files may answer in pieces."""
        with (self._directory / name).open("rb", buffering=0) as file:
            data = b""
            while len(data) < limit:
                piece = file.read(limit - len(data))
                if not piece:
                    break
                data += piece
        return data

    def write(self, name: str, data: bytes) -> None:
        """Write without creating or truncating: the file is Gramine's."""
        descriptor = os.open(self._directory / name, os.O_WRONLY | os.O_CLOEXEC)
        try:
            written = os.write(descriptor, data)
        finally:
            os.close(descriptor)
        if written != len(data):
            raise OSError(f"{written} of {len(data)} bytes written to {name}")


class GramineAttester(InMemory):
    """An SGX enclave under Gramine, with DCAP quotes."""

    tee: Final = Tee.SGX

    def __init__(self, files: AttestationFiles) -> None:
        """Check that this enclave can quote.

        Raises:
            UnavailableError: `attester.unavailable`, where the files are absent or the type is not `dcap`.
        """
        self._files = files
        # user_report_data is one per process: two calls at once would quote each other's data.
        self._lock = threading.Lock()
        try:
            found = files.read("attestation_type", 64)
        except OSError as error:
            raise unavailable(f"attestation_type cannot be read: {error}") from error
        kind = found.rstrip(b"\0\n")
        if kind != _DCAP:
            readable = kind.decode("ascii", "replace")
            raise unavailable(f"Gramine's attestation type is {readable!r}; set sgx.remote_attestation = 'dcap'")

    def attest(self, binding: Binding) -> Evidence:
        """Write the report data, read the quote.

        Raises:
            UnavailableError: `attester.unavailable`.
        """
        report_data = require_report_data(binding)
        try:
            with self._lock:
                self._files.write("user_report_data", report_data)
                quote = self._files.read("quote", QUOTE_MAX + 1)
        except OSError as error:
            raise unavailable(f"the quote cannot be read: {error}") from error
        if not quote or len(quote) > QUOTE_MAX:
            raise unavailable(f"a quote of {len(quote)} bytes")
        if quote[_REPORT_DATA] != report_data:
            raise unavailable("the quote carries other report data than was written")
        return Evidence(self.tee, quote)
