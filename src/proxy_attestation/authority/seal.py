"""Key files that only one TEE can read: AES-256-GCM (NIST SP 800-38D) under a key which that TEE gives to nobody else.

A sealed file is "PASEAL1" and a zero byte, the nonce (12 B), ciphertext and tag. Magic and file name are associated
data, so that no file can stand in for another. Where the key comes from is the business of `proxy_attestation.sealing`.
"""

import os
from collections.abc import Callable
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError

SECRET_MIN: Final = 16
"""Bytes that a TEE must give at least; Gramine's sealing keys have 16."""

_MAGIC: Final = b"PASEAL1\0"
_NONCE: Final = 12
_TAG: Final = 16
_LABEL: Final = b"proxy-attestation/seal/v1\0"


class Seal:
    """Seals and opens the contents of key files."""

    def __init__(self, secret: bytes, random: Callable[[int], bytes] = os.urandom) -> None:
        """Derive the key (HKDF-SHA256, RFC 5869) from what the TEE gives.

        Args:
            secret: at least 16 bytes, the same at each start of the same code in the same TEE.
            random: gives that many random bytes.

        Raises:
            ConfigurationError: `keys.sealed`, for a secret that is short or all zero.
        """
        if len(secret) < SECRET_MIN or not any(secret):
            raise ConfigurationError(Code.KEYS_SEALED, f"a sealing secret of {len(secret)} bytes, or of zeros only")
        self._aead = AESGCM(HKDF(hashes.SHA256(), 32, salt=None, info=_LABEL).derive(secret))
        self._random = random

    def wrap(self, name: str, content: bytes) -> bytes:
        """Return the sealed content of the file `name`."""
        nonce = self._random(_NONCE)
        return _MAGIC + nonce + self._aead.encrypt(nonce, content, _MAGIC + name.encode())

    def unwrap(self, name: str, data: bytes) -> bytes:
        """Return the content of the sealed file `name`.

        Raises:
            ConfigurationError: `keys.sealed`, when it was sealed by other code, in another TEE or under another name,
                or was changed.
        """
        if len(data) < len(_MAGIC) + _NONCE + _TAG or not data.startswith(_MAGIC):
            raise ConfigurationError(Code.KEYS_SEALED, f"{name}: not a sealed key")
        body = data[len(_MAGIC) :]
        try:
            return self._aead.decrypt(body[:_NONCE], body[_NONCE:], _MAGIC + name.encode())
        except InvalidTag as error:
            raise ConfigurationError(Code.KEYS_SEALED, f"{name}: sealed for something else, or changed") from error
