"""A certificate with its key, as enrolment returns it and TLS uses it."""

from dataclasses import dataclass
from datetime import datetime

from cryptography.hazmat.primitives.asymmetric import ec

from proxy_attestation.formats.ear import LeafClaims


@dataclass(frozen=True, slots=True)
class Credential:
    """One certificate of this workload.

    Attributes:
        key: made for this certificate: in this process's memory only, or a `ResidentKey` in the TPM.
        chain: DER, the leaf first, without the root.
        serial: the leaf's serial number.
        names: the leaf's names, readable.
        obtained_at: when the proxy answered, UTC.
        not_before: UTC.
        not_after: UTC.
        claims: what the proxy vouches for in the leaf.
        ledger_index: of the leaf's ledger entry.
        renewal_window: the times between which the proxy wants a renewal, UTC, or None where it did not say.
        simulated: whether the proxy takes simulated evidence.
        ledger_proof: the tlog-proof of the entry, which it carries; verified, unless the proxy told no key of its
            ledger.
    """

    key: ec.EllipticCurvePrivateKey
    chain: tuple[bytes, ...]
    serial: int
    names: tuple[str, ...]
    obtained_at: datetime
    not_before: datetime
    not_after: datetime
    claims: LeafClaims
    ledger_index: int
    renewal_window: tuple[datetime, datetime] | None
    simulated: bool
    ledger_proof: bytes = b""
