"""Trust anchors, pinned by the SHA-256 of their SubjectPublicKeyInfo."""

from dataclasses import dataclass
from typing import Final

INTEL_SGX_ROOT: Final = bytes.fromhex("a0af031289f5d5d4132f9186068a7fc13628633ba235777472e29b6b6c67a49e")
"""Intel SGX Root CA (both certificates of the key: notAfter 2033-05-21 and 2049-12-31)."""


@dataclass(frozen=True, slots=True)
class Roots:
    """The anchors of one run or one authority.

    Attributes:
        intel: SPKI SHA-256 values, 32 bytes each, of roots that may sign SGX and TDX platforms. Empty means none.
    """

    intel: frozenset[bytes]


VENDOR_ROOTS: Final = Roots(intel=frozenset({INTEL_SGX_ROOT}))
"""What a real authority trusts, and nothing else."""
