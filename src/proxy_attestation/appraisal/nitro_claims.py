"""What a Nitro attestation document says of its enclave."""

from dataclasses import dataclass
from typing import Annotated, ClassVar, Final, NamedTuple

from proxy_attestation.formats.arrays import Size
from proxy_attestation.formats.nitro import DIGEST, PCRS_MAX, NitroDocument
from proxy_attestation.formats.tee import Tee

_DEBUG_PCRS: Final = (0, 1, 2)


class Register(NamedTuple):
    """One PCR: its number and its value of 32, 48 or 64 bytes."""

    number: Annotated[int, Size(0, PCRS_MAX - 1)]
    value: Annotated[bytes, Size(32, 64)]


@dataclass(frozen=True, slots=True)
class NitroClaims:
    """The payload, but for the certificates.

    Attributes:
        module_id: names the parent instance and the enclave.
        digest: `SHA384`.
        timestamp_ms: when the document was made, milliseconds since the epoch, by the module's clock.
        pcrs: (index 0 to 31, value), ascending. PCR0 the image, PCR1 kernel and ramdisk, PCR2 the application, PCR3 the
            parent's IAM role, PCR4 the parent's id, PCR8 the image's signing certificate. Unused ones are zero.
        public_key: 1 to 1024 bytes, or None, and so the next two: of the enclave's choice.
        user_data: 0 to 512 bytes.
        nonce: 0 to 512 bytes.
    """

    tee: ClassVar[Tee] = Tee.NITRO
    module_id: Annotated[str, Size(1, 256)]
    digest: Annotated[str, Size(len(DIGEST), len(DIGEST))]
    timestamp_ms: Annotated[int, Size(1, 2**64 - 1)]
    pcrs: Annotated[tuple[Register, ...], Size(1, PCRS_MAX)]
    public_key: Annotated[bytes | None, Size(1, 1024)]
    user_data: Annotated[bytes | None, Size(0, 512)]
    nonce: Annotated[bytes | None, Size(0, 512)]

    @property
    def measurements(self) -> dict[str, bytes]:
        """The registers that say something, by name (`pcr0`): a zero one is none."""
        return {f"pcr{index}": value for index, value in self.pcrs if any(value)}

    @property
    def debug(self) -> bool:
        """Whether PCR0, PCR1 and PCR2 are all zero or absent, as they are in debug mode."""
        return not any(f"pcr{index}" in self.measurements for index in _DEBUG_PCRS)


def claims_of(document: NitroDocument) -> NitroClaims:
    """Return a document's claims."""
    return NitroClaims(
        module_id=document.module_id,
        digest=document.digest,
        timestamp_ms=document.timestamp_ms,
        pcrs=tuple(Register(index, value) for index, value in document.pcrs),
        public_key=document.public_key,
        user_data=document.user_data,
        nonce=document.nonce,
    )


def nitro_to_json(body: NitroClaims) -> dict[str, object]:
    """Return the claims by AWS's names: bytes in hex, registers by index, those that are zero as a list of indexes."""
    optional = {name: getattr(body, name) for name in ("public_key", "user_data", "nonce")}
    return {
        "module_id": body.module_id,
        "digest": body.digest,
        "timestamp_ms": body.timestamp_ms,
        "pcrs": {str(index): value.hex() for index, value in body.pcrs if any(value)},
        "zero_pcrs": [index for index, value in body.pcrs if not any(value)],
        "debug": body.debug,
        **{name: None if value is None else value.hex() for name, value in optional.items()},
    }
