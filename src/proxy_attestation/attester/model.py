"""What an attester is: something that makes evidence that carries a binding."""

from typing import Final, Protocol

from proxy_attestation.codes import Code
from proxy_attestation.errors import InternalError, UnavailableError
from proxy_attestation.formats.binder import Binding
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

    def attest(self, binding: Binding) -> Evidence:
        """Make evidence that carries the binding in the slots of its TEE.

        Raises:
            UnavailableError: `attester.unavailable`.
        """


def require_report_data(binding: Binding) -> bytes:
    """Return the report data, of the length that every attester insists on.

    Raises:
        InternalError: for anything but 64 bytes; the caller computes them, so it is a bug of ours.
    """
    if len(binding.report_data) != REPORT_DATA_BYTES:
        raise InternalError(f"report data of {len(binding.report_data)} bytes")
    return binding.report_data


def unavailable(detail: str) -> UnavailableError:
    """Return the error of every attester that cannot make evidence now."""
    return UnavailableError(Code.ATTESTER_UNAVAILABLE, detail)
