"""Trust anchors, pinned by the SHA-256 of their SubjectPublicKeyInfo."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from proxy_attestation.formats.snp_report import Product
from proxy_attestation.formats.tee import DCAP, Tee

INTEL_SGX_ROOT: Final = bytes.fromhex("a0af031289f5d5d4132f9186068a7fc13628633ba235777472e29b6b6c67a49e")
"""Intel SGX Root CA (both certificates of the key: notAfter 2033-05-21 and 2049-12-31)."""
AWS_NITRO_ROOT: Final = bytes.fromhex("f2caf5ecc6190b4a8399b78bc58a2bbcd0382375db8a1bfd78a82743874fd225")
"""AWS Nitro Enclaves Root G1 (notAfter 2049-10-28)."""


AMD_ARKS: Final[Mapping[Product, frozenset[bytes]]] = {
    Product.MILAN: frozenset({bytes.fromhex("9f056bee44377e29308cb5ffa895bdfb62d18881fa6bed8d6f075b0204089cb9")}),
    Product.GENOA: frozenset({bytes.fromhex("429a69c9422aa258ee4d8db5fcda9c6470ef15f8cd5a9cebd6cbc7d90b863831")}),
    Product.TURIN: frozenset({bytes.fromhex("4f125410563a2ab9a50356f9243f6fe0b6f73de98603f53f90339c70e9d7ad08")}),
}
"""ARK-Milan, ARK-Genoa (Bergamo and Siena too) and ARK-Turin."""


@dataclass(frozen=True, slots=True)
class Roots:
    """The anchors of one run or one authority: SPKI SHA-256 values, 32 bytes each. Empty means none.

    Attributes:
        intel: of roots that may sign SGX and TDX platforms.
        amd: of roots (ARKs) that may sign chips, by processor line.
        aws: of roots that may sign Nitro modules.
        tpm: of CAs that may vouch for the EKs or AKs of TPMs: those that the policy's entries name, and no vendor's.
    """

    intel: frozenset[bytes]
    amd: Mapping[Product, frozenset[bytes]] = field(default_factory=dict)
    aws: frozenset[bytes] = frozenset()
    tpm: frozenset[bytes] = frozenset()

    def of(self, tee: Tee) -> frozenset[bytes]:
        """Return the anchors that evidence of a TEE may lead to."""
        if tee is Tee.SNP:
            return frozenset().union(*self.amd.values())
        if tee is Tee.TPM:
            return self.tpm
        return self.intel if tee in DCAP else self.aws


def every_pin(roots: Roots) -> frozenset[bytes]:
    """Return all anchors together, whatever they may sign."""
    return frozenset().union(*(roots.of(tee) for tee in Tee))


def same_for_all(anchors: Iterable[bytes]) -> Roots:
    """Return anchors that may sign any kind of platform but TPMs: a run's own, or those of a simulated vendor."""
    pins = frozenset(anchors)
    return Roots(pins, dict.fromkeys(Product, pins), pins)


VENDOR_ROOTS: Final = Roots(intel=frozenset({INTEL_SGX_ROOT}), amd=AMD_ARKS, aws=frozenset({AWS_NITRO_ROOT}))
"""What a real authority trusts, and nothing else."""
