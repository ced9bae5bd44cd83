"""From a plan to a leaf that can be committed: its life, its bytes, the last check, its ledger entry."""

import hashlib
from dataclasses import dataclass

from proxy_attestation.authority import profile
from proxy_attestation.authority.cas import Ca
from proxy_attestation.authority.check import Expected, ExpectedClaims, check_leaf
from proxy_attestation.authority.ledger import Row
from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError, UnavailableError
from proxy_attestation.formats.csr import spki_sha256
from proxy_attestation.formats.ear import encode_extension
from proxy_attestation.formats.ledger_entry import EntryKind, LedgerEntry, encode_entry, names_digest
from proxy_attestation.formats.request import Names


@dataclass(frozen=True, slots=True)
class Plan:
    """A leaf as it was decided.

    Attributes:
        issuing: the CA that will sign.
        now: seconds since the epoch.
        limits: seconds since the epoch; the leaf outlives none of them.
        spki: DER of its key.
        names: exactly these.
        spiffe_id: the one URI among them.
        permitted_dns: the root's constraints.
        policy_digest: 32 bytes, in force.
    """

    issuing: Ca
    now: int
    limits: tuple[int, ...]
    spki: bytes
    names: Names
    spiffe_id: str
    permitted_dns: tuple[str, ...]
    policy_digest: bytes

    @property
    def not_before(self) -> int:
        """A minute ago, or when the issuing CA began."""
        return max(self.now - profile.BACKDATE, self.issuing.not_before)

    @property
    def not_after(self) -> int:
        """The earliest of the limits, the issuing CA's end, and 24 hours of life in all."""
        return min(*self.limits, self.issuing.not_after, self.not_before + profile.LEAF_LIFETIME_MAX)


@dataclass(frozen=True, slots=True)
class Finished:
    """A leaf that passed the last check.

    Attributes:
        tbs: the to-be-signed bytes.
        entry: the fields of the ledger entry that every kind of leaf has.
    """

    tbs: bytes
    entry: LedgerEntry


def finish(
    plan: Plan, kind: EntryKind, serial: bytes, claims_set: bytes | None, claims: ExpectedClaims | None
) -> Finished:
    """Build the to-be-signed bytes of a leaf and judge them.

    Args:
        plan: as decided.
        kind: of its ledger entry.
        serial: 20 bytes, the top bit clear.
        claims_set: for the extension id-pe-cmw, or None.
        claims: what that must say, or None.

    Raises:
        UnavailableError: `authority.profile`, see `check.check_leaf`.
    """
    if plan.not_after <= plan.now:
        raise UnavailableError(Code.AUTHORITY_LIFETIME, f"nothing is left of {plan.not_after - plan.now} s")
    built = profile.LeafProfile(
        serial=serial,
        issuer=plan.issuing.name,
        authority_key_id=plan.issuing.key_id,
        not_before=plan.not_before,
        not_after=plan.not_after,
        spki=plan.spki,
        names=plan.names,
        claims_extension=None if claims_set is None else encode_extension(claims_set),
    )
    tbs = profile.leaf_tbs(built)
    check_leaf(
        tbs,
        Expected(
            issuer=plan.issuing.name,
            authority_key_id=plan.issuing.key_id,
            issuer_not_before=plan.issuing.not_before,
            now=plan.now,
            not_after_limits=(*plan.limits, plan.issuing.not_after),
            spki=plan.spki,
            names=plan.names,
            spiffe_id=plan.spiffe_id,
            permitted_dns=plan.permitted_dns,
            claims=claims,
        ),
    )
    entry = LedgerEntry(
        kind=kind,
        issuer_spki_sha256=plan.issuing.ca_id,
        serial=serial,
        tbs_sha256=hashlib.sha256(tbs).digest(),
        not_before=plan.not_before,
        not_after=plan.not_after,
        spki_sha256=spki_sha256(plan.spki),
        policy_digest=plan.policy_digest,
        names_sha256=names_digest(plan.names),
    )
    return Finished(tbs, entry)


def leaf_row(
    entry: LedgerEntry,
    tbs: bytes,
    session_id: bytes | None = None,
    request_sha256: bytes | None = None,
    claims_set: bytes | None = None,
) -> Row:
    """Return the row of a leaf's complete entry.

    Raises:
        UnavailableError: `authority.profile`, when the entry does not fit its format.
    """
    try:
        encoded = encode_entry(entry)
    except FormatError as error:
        raise UnavailableError(Code.AUTHORITY_PROFILE, error.detail) from error
    return Row(
        entry.kind,
        encoded,
        tbs,
        entry.not_before,
        entry.not_after,
        entry.spki_sha256,
        session_id,
        request_sha256,
        claims_set,
    )
