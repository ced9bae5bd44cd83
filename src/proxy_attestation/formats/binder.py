r"""The binder: what evidence must commit to, so that it serves one key, one request and one challenge of one proxy.

``B = "proxy-attestation/issue/v1\0" || LP(ca_id) || LP(session_id) || LP(nonce) || LP(SPKI DER) ||
LP(SHA-256(request))`` with ``LP(x)`` = u32 big-endian length of x, then x. SGX and TDX carry SHA-512(B) as their 64
bytes of report data.
"""

import hashlib
from typing import Final

LABEL: Final = b"proxy-attestation/issue/v1\0"


def length_prefixed(data: bytes) -> bytes:
    """Return u32 big-endian length, then the bytes."""
    return len(data).to_bytes(4, "big") + data


def issue_binder(*, ca_id: bytes, session_id: bytes, nonce: bytes, spki: bytes, request: bytes) -> bytes:
    """Build B.

    Args:
        ca_id: 32 bytes, SHA-256 of the issuing CA's SubjectPublicKeyInfo.
        session_id: 16 bytes.
        nonce: 32 bytes.
        spki: the DER of the SubjectPublicKeyInfo that the certificate is for.
        request: the request's exact bytes (hashed here).
    """
    parts = (ca_id, session_id, nonce, spki, hashlib.sha256(request).digest())
    return LABEL + b"".join([length_prefixed(part) for part in parts])


def report_data(binder: bytes) -> bytes:
    """Return the 64 bytes of report data that SGX and TDX evidence carries for a binder."""
    return hashlib.sha512(binder).digest()
