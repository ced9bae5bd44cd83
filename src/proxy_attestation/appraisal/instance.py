"""Which machine it is: 32 bytes, hashed from what the vendor's own certificates and reports call it.

======  ==================================================================================================
TEE     what is hashed
======  ==================================================================================================
sgx     PPID (16 bytes) of the PCK certificate, and platform instance id (16 bytes) where it has one
tdx     likewise
snp     CHIP_ID of the report (64 bytes)
nitro   the id of the parent instance, in ASCII: a virtual machine of AWS's, no chip
tpm     SHA-256 of the endorsement key's SubjectPublicKeyInfo (32 bytes), where its credential was activated
======  ==================================================================================================

What is absent or all zero (masked) names no machine. A vTPM's machine is that of the hardware which vouches for it.
"""

import hashlib
from collections.abc import Mapping
from typing import Final

from proxy_attestation.formats.tee import Tee

_LABEL: Final = b"proxy-attestation/instance/v1\0"
_LABELS: Final[Mapping[Tee, bytes]] = {
    Tee.NITRO: b"proxy-attestation/instance/nitro/v1\0",
    Tee.TPM: b"proxy-attestation/instance/tpm/v1\0",
}
CHIP_LENGTHS: Final[Mapping[Tee, tuple[int, ...]]] = {
    Tee.SGX: (16, 32),
    Tee.TDX: (16, 32),
    Tee.SNP: (64,),
    Tee.TPM: (32,),
}
"""Lengths of what names a machine for good, in bytes. A Nitro document names none."""


def machine_id(tee: Tee, name: bytes) -> bytes | None:
    """Return the instance id of a machine, 32 bytes; None where its name says nothing."""
    return hashlib.sha256(_LABELS.get(tee, _LABEL) + name).digest() if any(name) else None
