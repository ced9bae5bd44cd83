"""What a proxy judges a TPM by: the part of the walk's result that an authority decides on and a leaf speaks of."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from proxy_attestation.appraisal.nitro_claims import Register
from proxy_attestation.appraisal.tpm_claims import TpmClaims
from proxy_attestation.formats.arrays import Size, exactly
from proxy_attestation.formats.tee import Tee


@dataclass(frozen=True, slots=True)
class TpmBody:
    """A quote, and who vouches for the key that signed it.

    Attributes:
        pcrs: (index 0 to 23, value of 32, 48 or 64 bytes), ascending: of the strongest bank that was quoted.
        ek_root: SHA-256 of the SubjectPublicKeyInfo of the pinned CA of EK or AK; None where hardware below vouches.
        key_certified: whether the AK certified the subject's key as one that never leaves the TPM.
        firmware_version: 8 bytes.
        reset_count: of the boot, u32.
        restart_count: likewise.
    """

    tee: ClassVar[Tee] = Tee.TPM
    pcrs: Annotated[tuple[Register, ...], Size(0, 24)]
    ek_root: Annotated[bytes | None, exactly(32)]
    key_certified: bool
    firmware_version: Annotated[bytes, exactly(8)]
    reset_count: Annotated[int, Size(0, 0xFFFFFFFF)]
    restart_count: Annotated[int, Size(0, 0xFFFFFFFF)]

    @property
    def measurements(self) -> dict[str, bytes]:
        """The registers that say something, by name (`pcr0`): one that was never extended says nothing."""
        return {f"pcr{index}": value for index, value in self.pcrs if any(value)}

    @property
    def debug(self) -> bool:
        """A TPM has no debug mode."""
        return False


def tpm_body(claims: TpmClaims, anchor: bytes) -> TpmBody:
    """Return what counts of a quote.

    Args:
        claims: as appraised.
        anchor: where the trust in the AK ends, 32 bytes.
    """
    bank = claims.pcr_bank
    values = claims.pcrs[bank] if bank is not None and bank != "sha1" else {}
    return TpmBody(
        pcrs=tuple(Register(index, value) for index, value in sorted(values.items())),
        ek_root=anchor if claims.ak_trust in ("activation", "certificate") else None,
        key_certified=claims.key_certified,
        firmware_version=claims.firmware_version,
        reset_count=claims.reset_count,
        restart_count=claims.restart_count,
    )


def tpm_body_to_json(body: TpmBody) -> dict[str, object]:
    """Return a body by the names of the specification: bytes in hex."""
    return {
        "key_certified": body.key_certified,
        "firmware_version": body.firmware_version.hex(),
        "reset_count": body.reset_count,
        "restart_count": body.restart_count,
        "debug": body.debug,
        **({} if body.ek_root is None else {"ek_root": body.ek_root.hex()}),
        **{f"pcr{index}": value.hex() for index, value in body.pcrs},
    }
