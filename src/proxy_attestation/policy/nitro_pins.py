"""What an entry must pin of a Nitro enclave.

PCR0, PCR1 and PCR2 cover the image file, its kernel with the boot ramdisk, and the application; an entry pins all
three. PCR3 (the parent's IAM role) and PCR4 (the parent instance) say where the enclave runs, PCR8 who signed the image
file. A register that is zero was never measured into: it matches no pin, and no pin may be zero.
"""

from dataclasses import dataclass
from typing import Final

from proxy_attestation.appraisal.nitro_claims import NitroClaims
from proxy_attestation.codes import Code
from proxy_attestation.errors import Mismatch
from proxy_attestation.policy.vocabulary import PinKey, PinKind, compare

NITRO_PINS: Final = (
    PinKey("pcr0", PinKind.ANY_OF, 48, Code.POLICY_MEASUREMENT, zero=False),
    PinKey("pcr1", PinKind.ANY_OF, 48, Code.POLICY_MEASUREMENT, zero=False),
    PinKey("pcr2", PinKind.ANY_OF, 48, Code.POLICY_MEASUREMENT, zero=False),
    PinKey("pcr3", PinKind.ANY_OF, 48, Code.POLICY_CONFIG, zero=False),
    PinKey("pcr4", PinKind.ANY_OF, 48, Code.POLICY_CONFIG, zero=False),
    PinKey("pcr8", PinKind.ANY_OF, 48, Code.POLICY_SIGNER, zero=False),
)
"""AWS, "Cryptographic attestation", table of platform configuration registers; SHA-384 values."""
NITRO_MINIMUM: Final = (("pcr0", "pcr1", "pcr2"),)


@dataclass(frozen=True, slots=True)
class NitroPins:
    """What a Nitro enclave must be.

    Attributes:
        pcr0: accepted values, 48 bytes each, and so pcr1 and pcr2. Empty matches nothing.
        pcr3: accepted values, 48 bytes each, and so pcr4 and pcr8. Empty where the entry does not pin it.
    """

    pcr0: tuple[bytes, ...]
    pcr1: tuple[bytes, ...]
    pcr2: tuple[bytes, ...]
    pcr3: tuple[bytes, ...] = ()
    pcr4: tuple[bytes, ...] = ()
    pcr8: tuple[bytes, ...] = ()


def match_nitro(pins: NitroPins, body: NitroClaims) -> tuple[Mismatch, ...]:
    """Compare an enclave's registers with pins; every mismatch, in the order of the vocabulary."""
    measured, minimum = body.measurements, NITRO_MINIMUM[0]
    wanted = [(key, getattr(pins, key.name)) for key in NITRO_PINS]
    results = [compare(key, value, measured.get(key.claim)) for key, value in wanted if value or key.name in minimum]
    return tuple(mismatch for mismatch in results if mismatch is not None)
