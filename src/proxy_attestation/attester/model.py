"""What an attester is: something that makes evidence that carries a binding.

One enrolment is one `Enrolment`: what the challenge is asked with, the nonce out of its answer, the subject's key, the
evidence. Most TEEs need none of the first two, and attest a key in this process's memory: their attesters derive from
`InMemory` and have only to quote. Calls block: an event loop makes them in a thread.
"""

import hashlib
from abc import ABC, abstractmethod
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

from cryptography.hazmat.primitives.asymmetric import ec

from proxy_attestation.codes import Code
from proxy_attestation.errors import InternalError, UnavailableError
from proxy_attestation.formats.binder import Binding
from proxy_attestation.formats.bounds import EVENT_LOG_MAX
from proxy_attestation.formats.evidence import Evidence
from proxy_attestation.formats.request import KeyOrigin
from proxy_attestation.formats.tee import Tee

REPORT_DATA_BYTES: Final = 64


@dataclass(frozen=True, slots=True)
class Asked:
    """What a challenge is asked with, beside the kind of TEE; all of it empty but for a TPM.

    Attributes:
        ek_certificate: DER.
        ek_issuers: DER of the CAs above it, in any order.
        ak_public: TPMT_PUBLIC.
    """

    ek_certificate: bytes = b""
    ek_issuers: tuple[bytes, ...] = ()
    ak_public: bytes = b""


NOTHING_MORE: Final = Asked()


@dataclass(frozen=True, slots=True)
class Attested:
    """Evidence with what travels beside it.

    Attributes:
        evidence: names the event log by its SHA-256 where there is one.
        event_log: of the firmware, as the machine keeps it, or None.
    """

    evidence: Evidence
    event_log: bytes | None = None


class Enrolment(AbstractContextManager["Enrolment", None], Protocol):
    """One enrolment, from challenge to evidence. What it holds of the machine ends with the `with` block."""

    @property
    def asked(self) -> Asked:
        """What the challenge is to be asked with."""

    @property
    def key(self) -> ec.EllipticCurvePrivateKey:
        """The subject's key, P-256, made for this enrolment."""

    def nonce(self, plain: bytes, credential_blob: bytes) -> bytes:
        """Return the challenge's nonce.

        Args:
            plain: as the answer has it; empty for a TPM.
            credential_blob: what the nonce is in, for a TPM; empty otherwise.

        Raises:
            UnavailableError: `attester.unavailable`, for a blob that is not for this machine.
        """

    def attest(self, binding: Binding) -> Attested:
        """Make evidence that carries the binding in the slots of its TEE.

        Raises:
            UnavailableError: `attester.unavailable`.
        """


class Attester(Protocol):
    """Makes evidence about the machine or the code that this process runs in."""

    @property
    def tee(self) -> Tee:
        """The kind of TEE that the evidence comes from."""

    @property
    def key_origin(self) -> KeyOrigin:
        """Where the subject's key is made and lives."""

    def begin(self) -> Enrolment:
        """Begin an enrolment.

        Raises:
            UnavailableError: `attester.unavailable`.
        """


class InMemory(ABC):
    """An attester of a TEE whose memory holds the key."""

    key_origin: Final = KeyOrigin.TEE
    event_log_path: Path | None = None
    """Where the firmware's event log is, if it has one."""

    @abstractmethod
    def attest(self, binding: Binding) -> Evidence:
        """Make evidence that carries the binding.

        Raises:
            UnavailableError: `attester.unavailable`.
        """

    def begin(self) -> Enrolment:
        """Begin an enrolment, with a new key in memory."""
        return _InMemoryEnrolment(self)


class _InMemoryEnrolment:
    def __init__(self, attester: InMemory) -> None:
        self._attester = attester
        self.asked: Final = NOTHING_MORE
        self.key: Final = ec.generate_private_key(ec.SECP256R1())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def nonce(self, plain: bytes, credential_blob: bytes) -> bytes:
        del credential_blob
        return plain

    def attest(self, binding: Binding) -> Attested:
        path = self._attester.event_log_path
        return with_event_log(self._attester.attest(binding), None if path is None else read_event_log(path))


def with_event_log(evidence: Evidence, event_log: bytes | None) -> Attested:
    """Put evidence and event log together: the evidence names the log by its SHA-256."""
    if not event_log:
        return Attested(evidence)
    return Attested(replace(evidence, event_log_sha256=hashlib.sha256(event_log).digest()), event_log)


def read_event_log(path: Path) -> bytes | None:
    """Return the firmware's event log; None where the kernel has none.

    Raises:
        UnavailableError: `attester.unavailable`, where it is there and cannot be read, or is too large.
    """
    try:
        with path.open("rb") as file:
            data = file.read(EVENT_LOG_MAX + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise unavailable(f"{path}: {error.strerror}") from error
    if len(data) > EVENT_LOG_MAX:
        raise unavailable(f"{path} is larger than {EVENT_LOG_MAX} bytes")
    return data


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
