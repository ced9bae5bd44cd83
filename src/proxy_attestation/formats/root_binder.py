r"""The root binder: what a proxy's own evidence commits to, so that it serves one answer to one batch of callers.

``B = "proxy-attestation/root/v1\0" || LP(root SPKI) || LP(issuing SPKI) || LP(policy digest) || LP(ledger key) ||
LP(key_origin) || LP(nonce)`` with ``LP`` as in `binder.py`. The nonce is the Merkle root over the nonces of all callers
of one batch, each a leaf (RFC 6962 section 2.1), so that one quote answers all of them.

Evidence carries B where it carries the binder of a certificate: SGX, TDX and SNP have SHA-512(B) as report data; Nitro
has the nonce, the root's SubjectPublicKeyInfo as public key and SHA-512(B) as user data; a TPM's quote SHA-256(B). The
label keeps the two apart: no evidence for a certificate is evidence of a proxy, nor the reverse.
"""

import hashlib
from dataclasses import dataclass
from typing import Final

from proxy_attestation.formats.binder import Binding, length_prefixed

LABEL: Final = b"proxy-attestation/root/v1\0"


@dataclass(frozen=True, slots=True)
class RootFacts:
    """What the evidence of a proxy vouches for.

    Attributes:
        root: DER of the root's SubjectPublicKeyInfo.
        issuing: DER of the active issuing CA's SubjectPublicKeyInfo.
        policy_digest: 32 bytes.
        ledger_key: the log's vkey as text in UTF-8; empty where the ledger is no log.
        key_origin: `file`, `pkcs11` or `tee`.
    """

    root: bytes
    issuing: bytes
    policy_digest: bytes
    ledger_key: bytes
    key_origin: str


def root_binder(facts: RootFacts, nonce: bytes) -> bytes:
    """Build B; `nonce` is the batch's Merkle root, 32 bytes."""
    origin = facts.key_origin.encode()
    parts = (facts.root, facts.issuing, facts.policy_digest, facts.ledger_key, origin, nonce)
    return LABEL + b"".join(map(length_prefixed, parts))


def bind_root(facts: RootFacts, nonce: bytes) -> Binding:
    """Return what the evidence of a proxy is to carry; `nonce` is the batch's Merkle root, 32 bytes."""
    binder = root_binder(facts, nonce)
    return Binding(hashlib.sha512(binder).digest(), hashlib.sha256(binder).digest(), nonce, facts.root)
