"""Roots that a relying party keeps in a file, and pins that people type."""

import hashlib
import re
from pathlib import Path
from typing import Final

from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError, FormatError, PeerError, UsageError
from proxy_attestation.formats.bounds import CERTIFICATE_MAX, ROOTS_MAX
from proxy_attestation.formats.pem import CERTIFICATE, decode_pem, is_pem
from proxy_attestation.relying_party.path import load_roots, spki_of

# Base64 takes 4/3, line ends and the two marker lines a little more.
_FILE_MAX: Final = 2 * ROOTS_MAX * CERTIFICATE_MAX
_PIN: Final = re.compile(r"[0-9a-fA-F]{64}\Z")


def load_root_file(path: Path, pin: bytes | None = None) -> tuple[bytes, ...]:
    """Read the roots to trust: PEM with 1 to `ROOTS_MAX` certificates, or one in DER.

    Args:
        path: the file.
        pin: SHA-256 of the SPKI of the one root to trust, 32 bytes; every other root of the file is left out.

    Returns:
        DER.

    Raises:
        ConfigurationError: `configuration.malformed`, where the file does not hold self-signed CA certificates.
        PeerError: `peer.root_pin`, where none has the pin.
    """
    code = Code.CONFIGURATION_MALFORMED
    try:
        with path.open("rb") as file:
            data = file.read(_FILE_MAX + 1)
    except OSError as error:
        raise ConfigurationError(code, f"{path}: cannot be read: {error.strerror or error}") from error
    if len(data) > _FILE_MAX:
        raise ConfigurationError(code, f"{path}: larger than {_FILE_MAX} bytes")
    try:
        roots: tuple[bytes, ...] = (data,)
        if is_pem(data):
            roots = decode_pem(data, CERTIFICATE, code, count=ROOTS_MAX, limit=CERTIFICATE_MAX)
        parsed = load_roots(roots)
    except (FormatError, ConfigurationError) as error:
        raise ConfigurationError(code, f"{path}: {error.detail}") from error
    if pin is None:
        return roots
    pinned = tuple(
        der for der, root in zip(roots, parsed, strict=True) if hashlib.sha256(spki_of(root)).digest() == pin
    )
    if not pinned:
        raise PeerError(Code.PEER_ROOT_PIN, f"{path}: no root has the pin {pin.hex()}")
    return pinned


def parse_pin(text: str) -> bytes:
    """Read a pin as people type it: 64 hex digits.

    Raises:
        UsageError: for anything else.
    """
    if _PIN.match(text) is None:
        raise UsageError("a pin is 64 hex digits: SHA-256 of the root's SubjectPublicKeyInfo")
    return bytes.fromhex(text)
