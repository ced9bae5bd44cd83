"""The key schedule of EKEP, and what assertions are bound to. LP(x) = u32le length, then x; H = SHA-256.

- client's assertions: ``LP(client's DH key) || LP(H(CPre || SPre))``
- server's assertions: ``LP(server's DH key) || LP(H(CPre || SPre || CId))``
- ``M || A = HKDF(ikm = X25519, salt = "EKEP Handshake v1", info = H(CPre || SPre || CId || SId), 128)``, 64 bytes each
- authenticators: ``HMAC(A, "EKEP Handshake v1: Server Finish")`` and ``... Client Finish``
- record key: ``HKDF(ikm = M, salt = "EKEP Record Protocol v1", info = H(all six frames as they were sent), 16)``

Source: Asylo, asylo/grpc/auth/core/ekep_crypto.cc. Its document writes the last hash with the two finish frames in the
other order than they are sent; the code hashes them as they go.
"""

import hashlib
import hmac
from dataclasses import dataclass
from typing import Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from proxy_attestation.formats.binder import Binding

DH_BYTES: Final = 32
RECORD_KEY_BYTES: Final = 16
SERVER_FINISH: Final = b"EKEP Handshake v1: Server Finish"
CLIENT_FINISH: Final = b"EKEP Handshake v1: Client Finish"

_SECRET_BYTES: Final = 64
_HANDSHAKE_SALT: Final = b"EKEP Handshake v1"
_RECORD_SALT: Final = b"EKEP Record Protocol v1"
_PURPOSE: Final = bytes(16)
_MARK: Final = b"ASYLO EKEP".ljust(16, b"\0")


@dataclass(frozen=True, slots=True)
class Secrets:
    """What both sides have after SERVER_ID.

    Attributes:
        primary: 64 bytes.
        authenticator: 64 bytes.
    """

    primary: bytes
    authenticator: bytes


def derive_secrets(shared: bytes, transcript: bytes) -> Secrets:
    """Return both secrets.

    Args:
        shared: of X25519, 32 bytes, not all zero.
        transcript: the hash over the first four frames, 32 bytes.
    """
    material = _hkdf(shared, _HANDSHAKE_SALT, transcript, 2 * _SECRET_BYTES)
    return Secrets(material[:_SECRET_BYTES], material[_SECRET_BYTES:])


def derive_record_key(primary: bytes, transcript: bytes) -> bytes:
    """Return the key of the records, 16 bytes; the transcript's hash is over all six frames."""
    return _hkdf(primary, _RECORD_SALT, transcript, RECORD_KEY_BYTES)


def authenticator(secrets: Secrets, text: bytes) -> bytes:
    """Return what a finish message holds, 32 bytes."""
    return hmac.digest(secrets.authenticator, text, "sha256")


def assertion_binding(dh_public: bytes, transcript: bytes, challenge: bytes) -> Binding:
    """Return what evidence in an assertion is to carry.

    Report data (SGX, TDX, SNP): ``SHA-256(context) || 16 zero bytes || "ASYLO EKEP" and 6 zero bytes``, so that it can
    be taken neither for a request's nor for the proxy's own evidence. A Nitro document carries it as user data, the
    peer's challenge as nonce and the DH key as public key.

    Args:
        dh_public: of the side that asserts, 32 bytes.
        transcript: the hash so far, 32 bytes.
        challenge: the other side's, 32 bytes.
    """
    context = b"".join(len(part).to_bytes(4, "little") + part for part in (dh_public, transcript))
    digest = hashlib.sha256(context).digest()
    return Binding(digest + _PURPOSE + _MARK, digest, challenge, dh_public)


def _hkdf(secret: bytes, salt: bytes, info: bytes, length: int) -> bytes:
    return HKDF(hashes.SHA256(), length, salt=salt, info=info).derive(secret)
