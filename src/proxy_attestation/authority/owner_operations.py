"""What operators do about owners: see who holds which names, release them, hand out tokens."""

from dataclasses import dataclass
from typing import Annotated, Final, NamedTuple

from proxy_attestation.authority.issue import Issuer
from proxy_attestation.authority.messages import Count, Digest, Seconds
from proxy_attestation.authority.operation import Operation
from proxy_attestation.authority.owner_records import Holder
from proxy_attestation.authority.ownership import OPEN_TOKENS_MAX
from proxy_attestation.errors import UsageError
from proxy_attestation.formats.arrays import Size, exactly
from proxy_attestation.formats.owner_proof import TOKEN_ID_BYTES, TOKEN_LIFETIME_MAX, TOKEN_SECRET_BYTES
from proxy_attestation.policy.model import OwnerKind

_HOLDERS_MAX: Final = 4096

_Entry = Annotated[str, Size(1, 63)]


class Nothing(NamedTuple):
    """The argument of an operation that needs none."""


class HeldNames(NamedTuple):
    """Who holds the names of an entry, or was the last to.

    Attributes:
        entry: of the policy.
        kind: of owner.
        holder: stands for the holder, 32 bytes, as in the ledger.
        spki_sha256: of the last leaf's key, 32 bytes.
        claimed: index of the ledger entry of the claim.
        not_after: of the last leaf, seconds since the epoch.
        held_until: the latest end of the holder's leaves.
        held: whether that is still to come.
    """

    entry: _Entry
    kind: Annotated[str, Size(1, 16)]
    holder: Digest
    spki_sha256: Digest
    claimed: Count
    not_after: Seconds
    held_until: Seconds
    held: bool


class PendingToken(NamedTuple):
    """A token that can be used."""

    token_id: Annotated[bytes, exactly(TOKEN_ID_BYTES)]
    entry: _Entry
    expires: Seconds


@dataclass(frozen=True, slots=True)
class OwnerList:
    """Holders by entry, and open tokens by expiry."""

    holders: Annotated[tuple[HeldNames, ...], Size(0, _HOLDERS_MAX)]
    tokens: Annotated[tuple[PendingToken, ...], Size(0, OPEN_TOKENS_MAX)]


class Release(NamedTuple):
    """Whose names to release: of the entry, from this holder or (None) from whoever it is."""

    entry: _Entry
    holder: Digest | None


class TokenOrder(NamedTuple):
    """A token for an entry, and for how many seconds."""

    entry: _Entry
    seconds: Annotated[int, Size(1, TOKEN_LIFETIME_MAX)]


class NewToken(NamedTuple):
    """A token with its secret, which is told once."""

    token_id: Annotated[bytes, exactly(TOKEN_ID_BYTES)]
    secret: Annotated[bytes, exactly(TOKEN_SECRET_BYTES)]
    expires: Seconds


def _list(issuer: Issuer, _: Nothing) -> OwnerList:
    now, owners = issuer.authority.now(), issuer.owners
    pending = [token for token in owners.tokens() if token.spent is None and now < token.expires]
    return OwnerList(
        tuple([_held(holder, now) for holder in owners.holders()[:_HOLDERS_MAX]]),
        tuple([PendingToken(*token[:3]) for token in pending[:OPEN_TOKENS_MAX]]),
    )


def _release(issuer: Issuer, wanted: Release) -> HeldNames:
    return _held(issuer.owners.release(*wanted), issuer.authority.now())


def _token(issuer: Issuer, order: TokenOrder) -> NewToken:
    entry = issuer.authority.policy.workloads.get(order.entry)
    if entry is None or entry.owner.kind is not OwnerKind.ENROLMENT:
        raise UsageError(f"the policy has no entry {order.entry!r} with owner = {{ enrolment = true }}")
    now = issuer.authority.now()
    return NewToken(*issuer.owners.new_token(order.entry, now + order.seconds, now), now + order.seconds)


def _held(holder: Holder, now: int) -> HeldNames:
    return HeldNames(
        holder.entry,
        holder.kind,
        holder.holder,
        holder.spki_sha256,
        holder.claimed,
        holder.not_after,
        holder.held_until,
        now <= holder.held_until,
    )


OWNER_LIST: Final = Operation[Nothing, OwnerList]("owner.list", Nothing, OwnerList, _list)
OWNER_RELEASE: Final = Operation[Release, HeldNames]("owner.release", Release, HeldNames, _release)
OWNER_TOKEN: Final = Operation[TokenOrder, NewToken]("owner.token", TokenOrder, NewToken, _token)
