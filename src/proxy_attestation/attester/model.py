"""What an attester is: something that makes evidence for 64 bytes of report data."""

from typing import Final, Protocol

from proxy_attestation.codes import Code
from proxy_attestation.errors import InternalError, UnavailableError
from proxy_attestation.formats.evidence import Evidence
from proxy_attestation.formats.request import KeyOrigin
from proxy_attestation.formats.tee import Tee

REPORT_DATA_BYTES: Final = 64


class Attester(Protocol):
    """Makes evidence about the code that it runs in. Calls block: an event loop calls `attest` in a thread."""

    @property
    def tee(self) -> Tee:
        """The kind of TEE that the evidence comes from."""

    @property
    def key_origin(self) -> KeyOrigin:
        """Where a key that this process makes in its own memory lives."""

    def attest(self, report_data: bytes) -> Evidence:
        """Make evidence that carries `report_data` (exactly 64 bytes).

        Raises:
            UnavailableError: `attester.unavailable`.
        """


def require_report_data(report_data: bytes) -> None:
    """Check the length that every attester insists on.

    Raises:
        InternalError: for anything but 64 bytes; the caller computes them, so it is a bug of ours.
    """
    if len(report_data) != REPORT_DATA_BYTES:
        raise InternalError(f"report data of {len(report_data)} bytes")


def unavailable(detail: str) -> UnavailableError:
    """Return the error of every attester that cannot make evidence now."""
    return UnavailableError(Code.ATTESTER_UNAVAILABLE, detail)
