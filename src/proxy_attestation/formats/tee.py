"""The kinds of trusted execution environment that the formats know."""

from enum import StrEnum
from functools import cache
from typing import Final

from proxy_attestation.codes import Code


class Tee(StrEnum):
    """A kind of TEE, spelled as on the wire, in policies and in claims."""

    SGX = "sgx"
    TDX = "tdx"
    SNP = "snp"
    NITRO = "nitro"
    TPM = "tpm"


DCAP: Final = (Tee.SGX, Tee.TDX)
"""Those whose evidence is a DCAP quote."""
WITH_COLLATERAL: Final = (*DCAP, Tee.SNP)
"""Those whose evidence rests on collateral that the proxy keeps, and for which there are floors."""


@cache
def debug_code(tee: Tee) -> Code:
    """Return the code for a TEE that can be debugged. A TPM has no such mode: who claims one claims an attribute."""
    return Code.POLICY_ATTRIBUTES if tee is Tee.TPM else Code(f"{tee}.debug")


@cache
def tcb_status_code(tee: Tee) -> Code:
    """Return the code for a platform whose TCB status is not accepted."""
    return Code(f"{tee}.tcb_status")
