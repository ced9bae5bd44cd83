"""Who holds the names of an entry: what the authority remembers, and how it judges who asks for them.

The names of an owned entry have at most one holder. Who first shows what the entry's owner takes claims them; the claim
lasts until the holder's last certificate has expired, or an operator releases it. Claims, releases and spent tokens are
committed in the transaction of the certificate that they belong to.

An order for an owned entry, after the decision:

1.  Somebody holds the names:
    a.  of `chip_ids`: it is the machine that holds them                           policy.owner_held
    b.  of any other kind: one of the renewals in the proof is by the key of the   policy.owner_held
        holder's last leaf, under an owner of the same terms
    c.  that leaf has not expired (an older one may live longer)                   owner.expired
    d.  nor was it revoked                                                         owner.revoked
    e.  the renewal's signature is over this binder                                owner.renewal
    f.  it comes from the machine that claimed the names                           owner.machine
2.  Nobody holds them:
    a.  `enrolment`: a token of ours, known to who asks, under this binder         policy.owner, owner.token
        made for this entry, not spent, not expired                                owner.token_entry, .token_spent,
                                                                                   .token_expired
    b.  `tenant_key`: a grant for this trust domain, entry and key                 policy.owner, owner.grant_scope
        by the tenant's key, not expired, and not valid for too long               owner.grant, .grant_expired,
                                                                                   .grant_lifetime
    c.  a renewal alone, where one of these is asked for                           owner.expired
    d.  `chip_ids` and `first_use` take nothing more

Step 1f is why a stolen leaf key is of no use elsewhere: whoever has it can sign a renewal, and can get another TEE with
the same code to ask for a certificate, but not on the machine that claimed the names. A machine that names itself in
no way is equal only to another that does not.

Who writes to the disk and has no key of the authority's can change nothing here unseen: each row carries a MAC, and at
start the holders have to be those that the claims and releases in the ledger lead to.

No table holds a secret of a token or names a machine: both are derived with a key that comes from the ledger's own, and
is guarded as that is (`owner_key`).
"""

import hashlib
import hmac
import os
from collections.abc import Callable, Iterable
from typing import Any, Final, NoReturn

from proxy_attestation.authority.keys import LogKey
from proxy_attestation.authority.ledger import Ledger, Row
from proxy_attestation.authority.owner_records import Ask, Change, Holder, OpenToken
from proxy_attestation.codes import Code
from proxy_attestation.errors import (
    ConfigurationError,
    InternalError,
    Mismatch,
    PolicyError,
    RefusedError,
    UnavailableError,
)
from proxy_attestation.formats import cbor
from proxy_attestation.formats.binder import length_prefixed
from proxy_attestation.formats.csr import spki_sha256
from proxy_attestation.formats.ledger_entry import (
    EntryKind,
    LedgerEntry,
    OwnerAction,
    decode_entry,
    encode_entry,
    names_digest,
)
from proxy_attestation.formats.owner_proof import (
    GRANT_LIFETIME_MAX,
    TOKEN_ID_BYTES,
    TOKEN_SECRET_BYTES,
    Grant,
    OwnerProof,
    Token,
    TokenProof,
    decode_proof,
    token_mac,
    verify_grant,
    verify_renewal,
)
from proxy_attestation.formats.request import Names
from proxy_attestation.policy.model import Owner, OwnerKind
from proxy_attestation.policy.names import spiffe_id

OPEN_TOKENS_MAX: Final = 256
"""Tokens that are neither spent nor expired."""
TOKEN_MEMORY: Final = 7 * 24 * 3600
"""Seconds for which an expired token is still told from one that never was."""

_KEY_LABEL: Final = b"proxy-attestation/owner-key/v1\0"
_HOLDER_LABEL: Final = b"proxy-attestation/owner-holder/v1\0"
_MACHINE_LABEL: Final = b"proxy-attestation/owner-machine/v1\0"
_SECRET_LABEL: Final = b"proxy-attestation/owner-token-secret/v1\0"
_ROW_LABEL: Final = b"proxy-attestation/owner-row/v1\0"
_TERMS_LABEL: Final = b"proxy-attestation/owner-terms/v1\0"

_HOLDER: Final = "SELECT entry, kind, holder, terms, machine, spki_sha256, not_after, held_until, idx, mac FROM owner"
_CLAIM: Final = "INSERT INTO owner VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
_RENEW: Final = (
    "UPDATE owner SET spki_sha256 = ?, not_after = ?, held_until = ?, mac = ? WHERE entry = ? AND holder = ?"
)
_RELEASE: Final = "DELETE FROM owner WHERE entry = ? AND holder = ?"
_TOKEN: Final = "SELECT token_id, entry, expires, spent, mac FROM enrolment"  # noqa: S105 - a query
_ENTRIES: Final = "SELECT idx, entry FROM entry WHERE kind = 4 ORDER BY idx"
_SPEND: Final = "UPDATE enrolment SET spent = ?, mac = ? WHERE token_id = ? AND spent IS NULL"


def owner_key(log: LogKey) -> bytes:
    """Return the key that tokens, holders and machines are derived with, 32 bytes.

    It is the digest of a signature that nobody ever sees: Ed25519 gives the same one for the same bytes (RFC 8032), and
    these bytes are no checkpoint. So it needs no place of its own, and whoever reads the disk alone does not have it.
    """
    return hashlib.sha256(log.sign(_KEY_LABEL)).digest()


class Owners:
    """The tables of owners and tokens. Not thread-safe, as the ledger is not."""

    def __init__(
        self, ledger: Ledger, trust_domain: str, key: bytes, random: Callable[[int], bytes] = os.urandom
    ) -> None:
        """Use the tables.

        Args:
            ledger: holds them.
            trust_domain: of the SPIFFE IDs.
            key: `owner_key`, 32 bytes.
            random: gives that many random bytes.
        """
        self._ledger = ledger
        self._trust_domain = trust_domain
        self._random = random
        self._key = key
        self._staged: dict[bytes, Change] = {}

    def check(self) -> None:
        """Check that the tables are what the ledger says.

        Raises:
            ConfigurationError: `authority.state`.
        """
        wanted: dict[bytes | None, tuple[bytes | None, int]] = {}
        for index, data in self._ledger.select(_ENTRIES):
            entry = decode_entry(data)
            if entry.owner_action is OwnerAction.CLAIM:
                wanted[entry.names_sha256] = entry.owner_holder, index
            else:
                wanted.pop(entry.names_sha256, None)
        if {self._names(held.entry): (held.holder, held.claimed) for held in self.holders()} != wanted:
            raise ConfigurationError(Code.AUTHORITY_STATE, "other holders of names than the ledger has")
        self.tokens()

    def begin(self) -> None:
        """Begin a batch: what was staged for the last one is forgotten."""
        self._staged.clear()

    def judge(self, ask: Ask) -> Change:
        """Judge an order for an entry that is not shared.

        Raises:
            PolicyError: see above.
            FormatError: `owner.malformed`.
        """
        staged = [change.holder for change in self._staged.values() if change.holder.entry == ask.entry]
        held = staged[-1] if staged else self.holder(ask.entry)
        key = self._key
        machine = None if ask.machine is None else _derive(key, _MACHINE_LABEL, ask.machine)
        chip = ask.owner.kind is OwnerKind.CHIP_IDS
        proof = OwnerProof() if chip or not ask.proof else decode_proof(ask.proof)
        identity = ask.machine or b"" if chip else spki_sha256(ask.spki)
        asker = Holder(
            entry=ask.entry,
            kind=ask.owner.kind,
            holder=_derive(key, _HOLDER_LABEL, ask.entry.encode(), ask.owner.kind.encode(), identity),
            terms=_terms(key, ask.owner),
            machine=machine,
            spki_sha256=spki_sha256(ask.spki),
            not_after=0,
            held_until=0,
            claimed=0,
        )
        # 1.
        if held is not None and ask.now <= held.held_until:
            if not chip:
                self._check_renewal(ask, held, asker, proof)
            elif held.holder != asker.holder:
                _refuse(Code.POLICY_OWNER_HELD, "the holder", "another machine")
            return Change(held._replace(spki_sha256=asker.spki_sha256), renews=True)
        # 2.
        token = None
        if ask.owner.kind is OwnerKind.ENROLMENT:
            token = self._check_token(ask, proof)
        elif ask.owner.kind is OwnerKind.TENANT_KEY:
            _check_grant(ask, proof)
        return Change(asker, renews=False, lapsed=held, token=token)

    def stage(self, session: bytes, change: Change, not_after: int) -> None:
        """Keep a change for `commit`; from now on the batch's other orders are judged as if it were made.

        Args:
            session: that the certificate is issued in.
            change: as judged.
            not_after: of its certificate, seconds since the epoch.
        """
        until = max(not_after, change.holder.held_until)
        self._staged[session] = change._replace(holder=change.holder._replace(not_after=not_after, held_until=until))

    def commit(self, sessions: Iterable[bytes]) -> None:
        """Write the changes of some sessions, inside the transaction of their certificates.

        Raises:
            InternalError: when the names have another holder than the one that was judged by.
        """
        for session in sessions:
            change = self._staged.get(session)
            if change is not None:
                self._write(change)

    def holder(self, entry: str) -> Holder | None:
        """Return who holds the names of an entry, or was the last to."""
        return next((self._holder(row) for row in self._ledger.select(f"{_HOLDER} WHERE entry = ?", entry)), None)

    def holders(self) -> list[Holder]:
        """Return everybody that holds names, or was the last to, by entry."""
        return [self._holder(row) for row in self._ledger.select(f"{_HOLDER} ORDER BY entry")]

    def tokens(self) -> list[OpenToken]:
        """Return every token that is remembered, by expiry."""
        return [self._open_token(row) for row in self._ledger.select(f"{_TOKEN} ORDER BY expires, token_id")]

    def release(self, entry: str, holder: bytes | None = None) -> Holder:
        """Take the names of an entry from their holder; return who held them. Its certificates stay valid.

        Args:
            entry: of the policy, or that it had.
            holder: `Holder.holder`, to release nobody else; None for whoever it is.

        Raises:
            RefusedError: `owner.unheld`.
            UnavailableError: `authority.unavailable`.
        """
        held = self.holder(entry)
        if held is None or holder not in (None, held.holder):
            raise RefusedError(Code.OWNER_UNHELD, entry if held is None else f"{held.holder.hex()} holds {entry}")
        with self._ledger.transaction():
            self._release(held)
        return held

    def new_token(self, entry: str, expires: int, now: int) -> Token:
        """Make a token for an entry, and forget those that expired long ago.

        Args:
            entry: of the policy.
            expires: seconds since the epoch.
            now: likewise.

        Raises:
            UnavailableError: `limits.exhausted`, when too many tokens are open; `authority.unavailable`.
        """
        if sum(token.spent is None and now < token.expires for token in self.tokens()) >= OPEN_TOKENS_MAX:
            raise UnavailableError(Code.LIMITS_EXHAUSTED, f"{OPEN_TOKENS_MAX} tokens are open: wait for one to expire")
        token_id = self._random(TOKEN_ID_BYTES)
        token = OpenToken(token_id, entry, expires, None)
        secret = self._token_secret(token)
        with self._ledger.transaction():
            self._ledger.change("DELETE FROM enrolment WHERE expires < ?", now - TOKEN_MEMORY)
            self._ledger.change("INSERT INTO enrolment VALUES (?, ?, ?, ?, ?)", *token, self._mac(token))
        return Token(token_id, secret)

    def _check_renewal(self, ask: Ask, held: Holder, asker: Holder, proof: OwnerProof) -> None:
        renewal = next((one for one in proof.renewals if spki_sha256(one.spki) == held.spki_sha256), None)
        if renewal is None or held.terms != asker.terms:
            _refuse(Code.POLICY_OWNER_HELD, "the holder", "another instance")
        if ask.now > held.not_after:
            _refuse(Code.OWNER_EXPIRED, f"renewed by {held.not_after}", str(ask.now))
        if self._ledger.is_revoked(held.spki_sha256):
            _refuse(Code.OWNER_REVOKED, "a last leaf that is not revoked", "a revoked one")
        if not verify_renewal(renewal, ask.report_data):
            _refuse(Code.OWNER_RENEWAL, "a signature by the last leaf's key over this binder", "another")
        if held.machine != asker.machine:
            _refuse(Code.OWNER_MACHINE, "the machine that claimed the names", "another")

    def _check_token(self, ask: Ask, proof: OwnerProof) -> OpenToken:
        if proof.token is None or ask.kind != OwnerKind.ENROLMENT:
            _refuse_unproved(ask, proof)
        token_id, mac = TokenProof(*proof.token)
        rows = self._ledger.select(f"{_TOKEN} WHERE token_id = ?", token_id)
        known = next((self._open_token(row) for row in rows), None)
        # Whoever does not know the secret is told nothing about the token.
        if known is None or not hmac.compare_digest(token_mac(self._token_secret(known), ask.report_data), mac):
            _refuse(Code.OWNER_TOKEN, "a token of this proxy's, under this binder", token_id.hex())
        if known.entry != ask.entry:
            _refuse(Code.OWNER_TOKEN_ENTRY, ask.entry, known.entry)
        if known.spent is not None:
            _refuse(Code.OWNER_TOKEN_SPENT, "a new token", f"spent at index {known.spent}")
        if ask.now >= known.expires:
            _refuse(Code.OWNER_TOKEN_EXPIRED, f"used before {known.expires}", str(ask.now))
        return known

    def _token_secret(self, token: OpenToken) -> bytes:
        parts = token.token_id, token.entry.encode(), token.expires.to_bytes(8, "big")
        return _derive(self._key, _SECRET_LABEL, *parts)[:TOKEN_SECRET_BYTES]

    def _write(self, change: Change) -> None:
        holder = change.holder
        if change.renews:
            values = holder.spki_sha256, holder.not_after, holder.held_until, self._mac(holder)
            if self._ledger.change(_RENEW, *values, holder.entry, holder.holder) != 1:
                raise InternalError(f"the names of {holder.entry} have another holder")
            return
        if change.lapsed is not None:
            self._release(change.lapsed)
        index = self._append(OwnerAction.CLAIM, holder, holder.spki_sha256)
        holder = holder._replace(claimed=index)
        self._ledger.change(_CLAIM, *holder, self._mac(holder))
        if change.token is not None:
            spent = change.token._replace(spent=index)
            if self._ledger.change(_SPEND, index, self._mac(spent), spent.token_id) != 1:
                raise InternalError("a token was spent twice")

    def _release(self, held: Holder) -> None:
        if self._ledger.change(_RELEASE, held.entry, held.holder) != 1:
            raise InternalError(f"the names of {held.entry} have another holder")
        self._append(OwnerAction.RELEASE, held, None)

    def _holder(self, row: list[Any]) -> Holder:
        *fields, mac = row
        holder = Holder(*fields)
        self._check_mac(holder, mac)
        return holder

    def _open_token(self, row: list[Any]) -> OpenToken:
        *fields, mac = row
        token = OpenToken(*fields)
        self._check_mac(token, mac)
        return token

    def _mac(self, row: Holder | OpenToken) -> bytes:
        return _derive(self._key, _ROW_LABEL, type(row).__name__.encode(), cbor.encode(list(row)))

    def _check_mac(self, row: Holder | OpenToken, mac: bytes) -> None:
        if not hmac.compare_digest(mac, self._mac(row)):
            raise ConfigurationError(Code.AUTHORITY_STATE, f"a row of owners or tokens was altered: {row.entry}")

    def _names(self, entry: str) -> bytes:
        return names_digest(Names(uri=(spiffe_id(self._trust_domain, entry),)))

    def _append(self, action: OwnerAction, holder: Holder, spki: bytes | None) -> int:
        entry = LedgerEntry(
            kind=EntryKind.OWNERSHIP,
            spki_sha256=spki,
            names_sha256=self._names(holder.entry),
            owner_action=action,
            owner_kind=holder.kind,
            owner_holder=holder.holder,
        )
        return self._ledger.append([Row(EntryKind.OWNERSHIP, encode_entry(entry))])


def _check_grant(ask: Ask, proof: OwnerProof) -> None:
    if proof.grant is None or ask.kind != OwnerKind.TENANT_KEY:
        _refuse_unproved(ask, proof)
    grant: Grant = proof.grant
    wanted = (ask.trust_domain, ask.entry, spki_sha256(ask.spki))
    for expected, found in zip(wanted, grant, strict=False):
        if expected != found:
            _refuse(Code.OWNER_GRANT_SCOPE, _shown(expected), _shown(found))
    if not verify_grant(grant, ask.owner.key):
        _refuse(Code.OWNER_GRANT, "a signature by the tenant's key", "another")
    if ask.now >= grant.expires:
        _refuse(Code.OWNER_GRANT_EXPIRED, f"used before {grant.expires}", str(ask.now))
    if grant.expires > ask.now + GRANT_LIFETIME_MAX:
        _refuse(Code.OWNER_GRANT_LIFETIME, f"at most {GRANT_LIFETIME_MAX} s", f"{grant.expires - ask.now} s")


def _refuse_unproved(ask: Ask, proof: OwnerProof) -> NoReturn:
    if proof.renewals and not (proof.token or proof.grant):
        _refuse(Code.OWNER_EXPIRED, "a holder whose last certificate is valid", "nobody holds the names")
    _refuse(Code.POLICY_OWNER, f"a proof of {ask.owner.kind}", ask.kind or "no proof")


def _refuse(code: Code, expected: str, actual: str) -> NoReturn:
    raise PolicyError((Mismatch(code, "owner", expected, actual),))


def _shown(value: object) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def _terms(key: bytes, owner: Owner) -> bytes:
    """Return what stands for the conditions of a claim; which machines are listed is looked at each time."""
    return _derive(key, _TERMS_LABEL, owner.kind.encode(), owner.key, owner.place.encode())


def _derive(key: bytes, label: bytes, *parts: bytes) -> bytes:
    return hmac.digest(key, label + b"".join(map(length_prefixed, parts)), "sha256")
