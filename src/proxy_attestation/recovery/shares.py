"""A recovery key split among custodians with SLIP-39 (Shamir's scheme over GF(256)), by the package `shamir-mnemonic`.

A share is a line of 33 words. Fewer than the threshold say nothing about the key.
"""

import importlib
from collections.abc import Sequence
from typing import Any

from proxy_attestation.codes import Code
from proxy_attestation.errors import RefusedError, UnavailableError

KEY_BYTES = 32
SHARE_MAX = 512
"""Characters of one share; of a key of 32 bytes it has some 230."""


def split(secret: bytes, threshold: int, count: int) -> tuple[str, ...]:
    """Split 32 bytes into `count` shares, of which `threshold` (2 or more) give them back.

    Raises:
        UnavailableError: `keys.unavailable`, where the package is absent.
    """
    (shares,) = _package().generate_mnemonics(1, [(threshold, count)], secret)
    return tuple(shares)


def combine(shares: Sequence[str], threshold: int) -> bytes:
    """Return the 32 bytes that were split; of more shares than it takes the first are used.

    Raises:
        RefusedError: `recovery.shares`, for too few, or shares that do not belong together.
        UnavailableError: `keys.unavailable`, where the package is absent.
    """
    package, different = _package(), tuple(dict.fromkeys(" ".join(share.split()).lower() for share in shares))
    if len(different) < threshold:
        raise RefusedError(Code.RECOVERY_SHARES, f"{len(different)} different shares, {threshold} are needed")
    try:
        secret: bytes = package.combine_mnemonics(different[:threshold])
    except Exception as error:
        # The package raises MnemonicError, and others for words that are none: whatever it was, these are no shares.
        raise RefusedError(Code.RECOVERY_SHARES, f"{type(error).__name__}: {error}") from error
    if len(secret) != KEY_BYTES:
        raise RefusedError(Code.RECOVERY_SHARES, f"they give {len(secret)} bytes")
    return secret


def _package() -> Any:
    try:
        return importlib.import_module("shamir_mnemonic")
    except ImportError as error:
        detail = f"shamir-mnemonic is absent (install the extra `recovery`): {error}"
        raise UnavailableError(Code.KEYS_UNAVAILABLE, detail) from error
