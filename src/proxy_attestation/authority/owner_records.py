"""What `ownership.py` judges by: who holds names, tokens, an order, and what one changes."""

from dataclasses import dataclass
from typing import NamedTuple

from proxy_attestation.policy.model import Owner


class Holder(NamedTuple):
    """Who holds the names of an entry.

    Attributes:
        entry: of the policy.
        kind: the owner's, when they were claimed.
        holder: stands for the holder, 32 bytes: the machine of `chip_ids`, or the first leaf's key.
        terms: stands for what the entry's owner was then, 32 bytes.
        machine: stands for the machine that claimed them, 32 bytes; None where it names itself in no way.
        spki_sha256: of the last leaf's key, 32 bytes.
        not_after: of the last leaf, seconds since the epoch.
        held_until: the latest notAfter of the holder's leaves.
        claimed: index of the ledger entry of the claim.
    """

    entry: str
    kind: str
    holder: bytes
    terms: bytes
    machine: bytes | None
    spki_sha256: bytes
    not_after: int
    held_until: int
    claimed: int


class OpenToken(NamedTuple):
    """What is remembered of a token.

    Attributes:
        token_id: 16 bytes.
        entry: that it was made for.
        expires: seconds since the epoch.
        spent: the index of the ledger entry of the claim, or None.
    """

    token_id: bytes
    entry: str
    expires: int
    spent: int | None


@dataclass(frozen=True, slots=True)
class Ask:
    """An order for an owned entry, as far as owners go.

    Attributes:
        trust_domain: the authority's.
        entry: of the policy.
        owner: the entry's.
        spki: DER of the key that the certificate is for.
        report_data: SHA-512 of the binder, 64 bytes.
        machine: `Claims.instance_id`.
        kind: of the proof, as the peer said.
        proof: its bytes.
        now: seconds since the epoch.
    """

    trust_domain: str
    entry: str
    owner: Owner
    spki: bytes
    report_data: bytes
    machine: bytes | None
    kind: str
    proof: bytes
    now: int


class Change(NamedTuple):
    """What an order that is accepted does to the names of its entry; its certificate's life is added by `stage`.

    Attributes:
        holder: from now on.
        renews: whether that is who holds them already.
        lapsed: who held them and let its last leaf expire; None where nobody did.
        token: that this spends, or None.
    """

    holder: Holder
    renews: bool
    lapsed: Holder | None = None
    token: OpenToken | None = None
