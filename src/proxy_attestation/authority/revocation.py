"""What is revoked, and the list of it that clients read (`formats.deny_list`).

An entry of kind 6, the row that issuing looks at and the new list are one transaction. The list is signed anew when
something changes, when another issuing CA becomes active, and every hour. A line stays until what it denies expires,
so a list holds little more than a day of leaves; beyond `DENIALS_MAX` lines `revoke` is refused, and the way out is to
revoke the issuing CA.
"""

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Annotated, Final

from proxy_attestation import log
from proxy_attestation.authority import profile
from proxy_attestation.authority.ca_life import CaLife
from proxy_attestation.authority.ledger import Ledger, Row
from proxy_attestation.authority.ledger_life import Denial, Live
from proxy_attestation.authority.messages import Count, Seconds
from proxy_attestation.codes import Code
from proxy_attestation.errors import InternalError, RefusedError
from proxy_attestation.formats.arrays import Size
from proxy_attestation.formats.bounds import DENIALS_MAX
from proxy_attestation.formats.deny_list import (
    Denied,
    DenyList,
    decode_deny_list,
    sign_deny_list,
)
from proxy_attestation.formats.ledger_entry import CrlReason, EntryKind, LedgerEntry, encode_entry

RENEWED_AFTER: Final = 3600
"""Seconds after which a list is signed anew even where nothing changed."""
VALID_FOR: Final = 24 * 3600
"""Seconds from this update to the next that a client may count on."""

_NOTE: Final = "deny_list"


@dataclass(frozen=True, slots=True)
class Revoked:
    """One thing that was revoked.

    Attributes:
        index: of the ledger entry that says so.
        what: the serial number, 20 bytes, or SHA-256 of the key, 32 bytes.
        not_after: seconds since the epoch.
    """

    index: Count
    what: Annotated[bytes, Size(20, 32)]
    not_after: Seconds


class Revocations:
    """What is revoked by an authority.

    Attributes:
        note: the list, signed.
        sequence: its number; 0 before there is one.
    """

    def __init__(
        self, origin: str, ledger: Ledger, life: CaLife, change: Callable[[], AbstractContextManager[None]]
    ) -> None:
        self._origin, self._ledger, self._life, self._change = origin, ledger, life, change
        self._by_policy: frozenset[bytes] = frozenset()
        self.note = ledger.meta(_NOTE) or b""
        self._content = decode_deny_list(self.note).content if self.note else None

    @property
    def sequence(self) -> int:
        """The list's number."""
        return 0 if self._content is None else self._content.sequence

    def deny(self, by_policy: Iterable[bytes]) -> None:
        """Take what the policy denies: serial numbers of 20 bytes, digests of keys of 32."""
        self._by_policy = frozenset(by_policy)

    def is_revoked(self, spki_sha256: bytes) -> bool:
        """Tell whether a key, or a certificate of it, was revoked."""
        return self._ledger.is_revoked(spki_sha256)

    def maintain(self, now: int) -> None:
        """Sign a new list where one is due.

        Raises:
            UnavailableError: `authority.unavailable`.
        """
        content, wanted = self._content, self._wanted(now)
        same = content is not None and (content.certificates, content.denied) == (wanted.certificates, wanted.denied)
        if content is None or not same or not 0 <= now - content.this_update < RENEWED_AFTER:
            with self._change():
                note = self._publish(wanted)
            self.note, self._content = note, wanted

    def revoke(self, found: Sequence[Live], reason: CrlReason, now: int, *, whole_key: bool) -> list[Revoked]:
        """Revoke certificates; what was revoked before stays as it is.

        Args:
            found: in the ledger.
            reason: why.
            now: seconds since the epoch.
            whole_key: whether every certificate of their keys is meant; it always is of an issuing CA.

        Raises:
            RefusedError: `revocation.unknown`, for nothing; `revocation.ca`, for the issuing CA that signs now, or a
                root; `revocation.full`.
            UnavailableError: `authority.unavailable`.
        """
        if not found:
            raise RefusedError(Code.REVOCATION_UNKNOWN)
        issuing = {one.ca.ca_id: one for one in self._life.issuing}
        denials: dict[bytes, Denial] = {}
        for live in found:
            ca = live.kind is EntryKind.CA_EVENT
            if ca and (live.spki_sha256 not in issuing or issuing[live.spki_sha256] is self._life.active):
                raise RefusedError(Code.REVOCATION_CA)
            serial = None if ca or whole_key else live.serial
            what = live.spki_sha256 if serial is None else serial
            end = max(live.not_after, denials[what].not_after if what in denials else 0)
            denials[what] = Denial(serial, live.spki_sha256, end)
        known = {what: self._ledger.revocation(one.serial, one.spki_sha256) for what, one in denials.items()}
        new = {what: one for what, one in denials.items() if known[what] is None}
        if new and len(self._ledger.denials(now)) + len(new) > DENIALS_MAX:
            raise RefusedError(Code.REVOCATION_FULL, f"{DENIALS_MAX} lines")
        if new:
            known |= self._record(new, reason, now)
        for ca_id in issuing.keys() & new.keys():
            self._life.drop(issuing[ca_id].ca.number, now)
        return [Revoked(index, what, denials[what].not_after) for what, index in known.items() if index is not None]

    def _record(self, new: dict[bytes, Denial], reason: CrlReason, now: int) -> dict[bytes, int]:
        """Append the entries, record what they say and sign the list with them; return their indexes."""
        rows = []
        for what in new:
            entry = LedgerEntry(kind=EntryKind.REVOCATION, revoked=what, reason=reason, revoked_at=now)
            rows.append(Row(EntryKind.REVOCATION, encode_entry(entry)))
        with self._change():
            first = self._ledger.append(rows)
            indexes = {what: first + offset for offset, what in enumerate(new)}
            for what, denial in new.items():
                self._ledger.add_revocation(indexes[what], denial)
            wanted = self._wanted(now)
            note = self._publish(wanted)
        self.note, self._content = note, wanted
        return indexes

    def _wanted(self, now: int) -> DenyList:
        """Return the list as it would be now."""
        active = self._life.active
        if active is None:
            raise InternalError("no issuing CA")
        found = [Denied(one.serial or one.spki_sha256, one.not_after) for one in self._ledger.denials(now)]
        listed = {one.what for one in found}
        # Whatever the policy denies was issued before it was in force, and ends a day later at the latest.
        more = sorted(self._by_policy - listed)
        if len(found) + len(more) > DENIALS_MAX:
            log.warning("deny list full", left_out=len(found) + len(more) - DENIALS_MAX)
        end = now - now % RENEWED_AFTER + RENEWED_AFTER + profile.LEAF_LIFETIME_MAX
        found += [Denied(what, end) for what in more[: DENIALS_MAX - len(found)]]
        return DenyList(self._origin, self.sequence + 1, now, now + VALID_FOR, active.above, tuple(found))

    def _publish(self, wanted: DenyList) -> bytes:
        """Sign a list and store it, inside a transaction."""
        active = self._life.active
        if active is None or active.signer is None:
            raise InternalError("no issuing CA with a key")
        note = sign_deny_list(wanted, active.ca.spki, active.signer.sign)
        self._ledger.set_meta(_NOTE, note)
        return note
