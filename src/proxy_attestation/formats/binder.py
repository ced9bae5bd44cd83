r"""The binder: what evidence must commit to, so that it serves one key, one request and one challenge of one proxy.

``B = "proxy-attestation/issue/v1\0" || LP(ca_id) || LP(session_id) || LP(nonce) || LP(SPKI DER) ||
LP(SHA-256(request))`` with ``LP(x)`` = u32 big-endian length of x, then x. Evidence carries it in the slots that its
TEE has, which `Binding.slots` gives in the order of `Claims.bound`:

===============  ==============================================================================================
SGX, TDX, SNP    report data = SHA-512(B)
Nitro            nonce = the challenge's; public key = the SubjectPublicKeyInfo; user data = SHA-512(B)
TPM              qualifying data of the quote, and of the key's certification = SHA-256(B)
===============  ==============================================================================================
"""

import hashlib
import hmac
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from proxy_attestation.formats.tee import Tee

LABEL: Final = b"proxy-attestation/issue/v1\0"
_TPM_STATEMENTS: Final = 2
"""A quote, and the certification of a key that lives in the TPM; a key outside of it has none."""


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


@dataclass(frozen=True, slots=True)
class Binding:
    """What one piece of evidence is to carry.

    Attributes:
        report_data: SHA-512(B), 64 bytes.
        digest: SHA-256(B), 32 bytes.
        nonce: of the challenge, 32 bytes.
        spki: DER of the key that is attested.
    """

    report_data: bytes
    digest: bytes
    nonce: bytes
    spki: bytes

    def slots(self, tee: Tee) -> tuple[bytes, ...]:
        """Return what the slots of a TEE's evidence hold."""
        if tee is Tee.NITRO:
            return self.nonce, self.spki, self.report_data
        if tee is Tee.TPM:
            return (self.digest,)
        return (self.report_data,)

    def is_in(self, tee: Tee, bound: Sequence[bytes]) -> bool:
        """Tell whether evidence carries exactly this. An absent, short, zero or longer value is another one."""
        slots = self.slots(tee)
        if tee is Tee.TPM and len(bound) == _TPM_STATEMENTS:
            slots *= _TPM_STATEMENTS
        equal = [hmac.compare_digest(found, wanted) for found, wanted in zip(bound, slots, strict=False)]
        return len(bound) == len(slots) and all(equal)


def bind(*, ca_id: bytes, session_id: bytes, nonce: bytes, spki: bytes, request: bytes) -> Binding:
    """Return what evidence is to carry; the arguments are those of `issue_binder`."""
    binder = issue_binder(ca_id=ca_id, session_id=session_id, nonce=nonce, spki=spki, request=request)
    return Binding(hashlib.sha512(binder).digest(), hashlib.sha256(binder).digest(), nonce, spki)
