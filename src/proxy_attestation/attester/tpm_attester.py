"""A machine whose evidence is a TPM's: what of it is attested, and one enrolment.

The TPM is open for as long as an enrolment takes: whatever was loaded for one is gone with it, and each finds the TPM
as a resource manager that was restarted, or a machine that slept, has left it. The AK is the same each time. Handshakes
are signed over a connection that stays open, the signer's.
"""

from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

from cryptography.hazmat.primitives.asymmetric import ec

from proxy_attestation.attester.model import Asked, Attested, Enrolment, read_event_log, with_event_log
from proxy_attestation.attester.openssl_key import require_foreign_keys
from proxy_attestation.attester.resident_key import ResidentKey
from proxy_attestation.attester.tpm import TpmDevice
from proxy_attestation.attester.tpm_signer import TpmSigner
from proxy_attestation.attester.tss import DEVICE, KeyBlob
from proxy_attestation.formats.binder import Binding
from proxy_attestation.formats.csr import load_subject_key
from proxy_attestation.formats.evidence import Evidence
from proxy_attestation.formats.request import KeyOrigin
from proxy_attestation.formats.tee import Tee

EVENT_LOG: Final = Path("/sys/kernel/security/tpm0/binary_bios_measurements")
PCRS: Final = {"sha256": (*range(10), *range(11, 16))}
"""What is quoted by default: all that a boot leaves alone. PCR 10 is IMA's, which grows with each program started."""


@dataclass(frozen=True, slots=True)
class TpmOptions:
    """What an operator chooses.

    Attributes:
        pcrs: the registers to quote, by bank.
        ek_issuers: DER of the CAs above the EK certificate, in any order; the root may be among them.
        software_key: whether the subject's key is made in this process's memory instead of the TPM. Who reads the
            memory has the key, and the machine that is attested has no memory that keeps anybody out.
    """

    pcrs: Mapping[str, tuple[int, ...]] = field(default_factory=lambda: PCRS)
    ek_issuers: tuple[bytes, ...] = ()
    software_key: bool = False


class TpmPort(Protocol):
    """An open TPM (`attester.tpm.TpmDevice`); what a test replaces."""

    @property
    def certificates(self) -> tuple[bytes, ...]:
        """The EK's certificate first."""

    @property
    def ak_public(self) -> bytes:
        """TPMT_PUBLIC."""

    def close(self) -> None:
        """Close it; what was loaded is gone."""

    def activate(self, blob: bytes) -> bytes:
        """Return the secret in a credential."""

    def make_key(self) -> bytes:
        """Make the subject's key, return its SubjectPublicKeyInfo."""

    def sign(self, digest: bytes) -> bytes:
        """Sign a SHA-256 digest with it."""

    @property
    def key(self) -> KeyBlob:
        """It, as the TPM can load it again."""

    def attest(self, qualifying: bytes, pcrs: Mapping[str, tuple[int, ...]]) -> bytes:
        """Return the evidence record; with the key's certification once `make_key` was called."""


class SignerPort(Protocol):
    """Signs with keys that a TPM made (`attester.tpm_signer.TpmSigner`); what a test replaces."""

    def sign(self, key: KeyBlob, digest: bytes) -> bytes:
        """Sign a SHA-256 digest."""


class TpmAttester:
    """A machine with a TPM 2.0."""

    tee: Final = Tee.TPM

    def __init__(
        self,
        options: TpmOptions,
        tcti: str = DEVICE,
        *,
        event_log: Path = EVENT_LOG,
        open_tpm: Callable[[str], TpmPort] = TpmDevice,
        signer: Callable[[str], SignerPort] = TpmSigner,
    ) -> None:
        """Check that this machine can attest, and that TLS can use a key that lives in its TPM.

        Args:
            options: the operator's.
            tcti: how the TSS reaches the TPM.
            event_log: where the kernel shows the firmware's event log.
            open_tpm: opens the TPM behind a TCTI.
            signer: signs with the TPM's keys, behind the same TCTI.

        Raises:
            UnavailableError: `attester.unavailable`. A key in memory never stands in for one in the TPM.
        """
        self.key_origin: Final = KeyOrigin.SOFTWARE if options.software_key else KeyOrigin.TPM
        self._options = options
        self._tcti = tcti
        self._event_log = event_log
        self._open = open_tpm
        with closing(open_tpm(tcti)):
            pass
        if not options.software_key:
            require_foreign_keys()
        self._signer = signer(tcti)

    def begin(self) -> Enrolment:
        """Open the TPM, make the subject's key.

        Raises:
            UnavailableError: `attester.unavailable`.
        """
        device = self._open(self._tcti)
        try:
            return _TpmEnrolment(device, self._signer, self._options, self._event_log)
        except BaseException:
            device.close()
            raise


class _TpmEnrolment:
    def __init__(self, device: TpmPort, signer: SignerPort, options: TpmOptions, event_log: Path) -> None:
        self._device = device
        self._options = options
        self._event_log = event_log
        self._signer = signer
        self._is_open = True
        self.asked: Final = Asked(device.certificates[0], options.ek_issuers, device.ak_public)
        self.key: Final = ec.generate_private_key(ec.SECP256R1()) if options.software_key else self._resident_key()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._is_open = False
        self._device.close()

    def nonce(self, plain: bytes, credential_blob: bytes) -> bytes:
        del plain
        return self._device.activate(credential_blob)

    def attest(self, binding: Binding) -> Attested:
        record = self._device.attest(binding.digest, self._options.pcrs)
        certificates = (self.asked.ek_certificate, *self.asked.ek_issuers)
        return with_event_log(Evidence(Tee.TPM, record, certificates), read_event_log(self._event_log))

    def _resident_key(self) -> ResidentKey:
        public = load_subject_key(self._device.make_key())
        blob = self._device.key

        def sign(digest: bytes) -> bytes:
            return self._device.sign(digest) if self._is_open else self._signer.sign(blob, digest)

        return ResidentKey(public, sign)
