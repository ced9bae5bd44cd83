"""One certificate judged again: its evidence as the workers judge it, its request as the authority decides it.

In order, as at issuance:

1. The row: what is kept belongs to the ledger entry, by every digest that stands there.
2. The binder, rebuilt from entry, session and nonce, is in the evidence.
3. The evidence, under the collateral that is in force now.
4. The binder and the TEE once more, in what was appraised; the anchor; `policy.decide`; how long the outcome holds.

A Nitro document lives as long as its certificate, some three hours, and answers a challenge of two minutes: it is
judged at the time of its issuance. All else is judged now. Who owns a name is not asked again: the ledger says so.
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Final

from proxy_attestation import log
from proxy_attestation.appraisal.kinds import Appraiser, Beside, decode_evidence_of
from proxy_attestation.appraisal.roots import Roots
from proxy_attestation.appraisal.tpm import Activation
from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError, ProxyAttestationError, RefusedError, UnavailableError
from proxy_attestation.formats import binder
from proxy_attestation.formats.csr import spki_sha256
from proxy_attestation.formats.ear import LeafClaims, decode_claims_set
from proxy_attestation.formats.evidence import Evidence, decode_evidence
from proxy_attestation.formats.kept_evidence import KeptEvidence, decode_kept
from proxy_attestation.formats.ledger_entry import EntryKind, LedgerEntry, decode_entry
from proxy_attestation.formats.request import Request, decode_request
from proxy_attestation.formats.tee import Tee
from proxy_attestation.policy.decide import decide
from proxy_attestation.policy.deny import match_certificate
from proxy_attestation.policy.model import Policy
from proxy_attestation.reappraisal.ledger_view import LeafRow

_UNREADABLE: Final = Code.REAPPRAISAL_UNREADABLE


class Outcome(StrEnum):
    """What came of it."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNAVAILABLE = "unavailable"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the proxy would say today.

    Attributes:
        outcome: `UNAVAILABLE` is no verdict: collateral or evidence is missing.
        codes: why not, in the order of the checks; empty when accepted.
        detail: of the first of them, for people.
    """

    outcome: Outcome
    codes: tuple[Code, ...] = ()
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Judged:
    """A live certificate and its verdict.

    Attributes:
        index: of its ledger entry.
        entry: as decoded; without anything where it cannot be read.
        workload: the entry of the policy that it was asked for; empty where nothing readable is kept.
        names: that were asked for, readable.
        verdict: see there.
    """

    index: int
    entry: LedgerEntry
    workload: str
    names: tuple[str, ...]
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class _Kept:
    entry: LedgerEntry
    claims: LeafClaims
    request: Request
    kept: KeptEvidence
    evidence: Evidence


class Judge:
    """Judges under one set of collateral, roots and policy. Not for several threads at once."""

    def __init__(self, appraiser: Appraiser, roots: Roots, policy: Policy) -> None:
        self._appraiser = appraiser
        self._roots = roots
        self._policy = policy

    def judge(self, row: LeafRow, now: datetime) -> Judged:
        """Judge one certificate.

        Args:
            row: from the ledger.
            now: aware, UTC.

        Nothing is raised: one certificate's trouble must not keep the others from being judged.
        """
        entry, request = LedgerEntry(EntryKind.LEAF), None
        try:
            entry = _entry(row)
            found = _read(row, entry)
            request = found.request
            verdict = self._verdict(row, found, now)
        except UnavailableError as error:
            verdict = Verdict(Outcome.UNAVAILABLE, (error.code,), error.detail)
        except FormatError as error:
            unreadable = error.code is _UNREADABLE
            verdict = Verdict(Outcome.UNAVAILABLE if unreadable else Outcome.REFUSED, (error.code,), error.detail)
        except RefusedError as error:
            verdict = Verdict(Outcome.REFUSED, (error.code,), error.detail)
        except Exception as error:  # noqa: BLE001 - see above
            log.bug(error, index=row.idx)
            verdict = Verdict(Outcome.UNAVAILABLE, (Code.INTERNAL,), type(error).__name__)
        if request is None:
            return Judged(row.idx, entry, "", (), verdict)
        return Judged(row.idx, entry, request.workload, request.names.readable(), verdict)

    def _verdict(self, row: LeafRow, found: _Kept, now: datetime) -> Verdict:
        # 2.
        tee = found.evidence.tee
        parsed = decode_evidence_of(tee, found.evidence.evidence)
        wanted = binder.bind(
            ca_id=found.entry.issuer_spki_sha256 or b"",
            session_id=row.session_id,
            nonce=found.claims.nonce,
            spki=row.spki or b"",
            request=row.request or b"",
        )
        if not wanted.is_in(tee, parsed.bound):
            raise FormatError(_UNREADABLE, "the evidence is not bound to this session, key and request")
        # 3.
        kept = found.kept
        moment = datetime.fromtimestamp(found.claims.issued_at, UTC) if tee is Tee.NITRO else now
        activation = None
        if kept.ak_name is not None and kept.ek_spki_sha256 is not None:
            activation = Activation(kept.ak_name, kept.ek_spki_sha256)
        beside = Beside(kept.event_log, activation, row.spki)
        certificates = (*found.evidence.platform_certificates, *kept.certificates)
        claims, _ = self._appraiser.appraise(parsed, certificates, moment, beside)
        # 4.
        if claims.tee is not found.request.tee:
            raise RefusedError(Code.REQUEST_TEE, f"{claims.tee} evidence for a {found.request.tee} request")
        if not wanted.is_in(tee, claims.bound):
            raise RefusedError(Code.BINDER_MISMATCH, "what was appraised is bound to something else")
        if claims.anchor not in self._roots.of(claims.rooted.tee):
            raise RefusedError(Code(f"{claims.rooted.tee}.root"), f"anchor {claims.anchor.hex()}")
        serial, spki = found.entry.serial, found.entry.spki_sha256 or b""
        decision = decide(claims, found.request, self._policy, spki)
        denied = tuple(match_certificate(self._policy.deny, spki, serial))
        if denied or not decision.accepted:
            mismatches = (*denied, *decision.mismatches)
            detail = "; ".join(f"{m.field}: expected {m.expected}, found {m.actual}" for m in mismatches)
            return Verdict(Outcome.REFUSED, tuple(dict.fromkeys(m.code for m in mismatches)), detail)
        left = (claims.valid_until - moment).total_seconds()
        if left < self._policy.min_lifetime:
            raise UnavailableError(Code.AUTHORITY_LIFETIME, f"what it rests on is good for {int(left)} s more")
        return Verdict(Outcome.ACCEPTED)


def _entry(row: LeafRow) -> LedgerEntry:
    try:
        return decode_entry(row.entry)
    except FormatError as error:
        raise FormatError(_UNREADABLE, error.detail) from error


def _read(row: LeafRow, entry: LedgerEntry) -> _Kept:
    """Read what is kept of a leaf, and hold it against the leaf's entry.

    Raises:
        UnavailableError: `reappraisal.no_evidence`.
        FormatError: `reappraisal.unreadable`.
    """
    if row.request is None or row.spki is None or row.kept is None:
        raise UnavailableError(Code.REAPPRAISAL_NO_EVIDENCE, f"nothing is kept for entry {row.idx}")
    digests = (
        ("claims set", hashlib.sha256(row.claims_set).digest(), entry.claims_sha256),
        ("request", hashlib.sha256(row.request).digest(), entry.request_sha256),
        ("key", spki_sha256(row.spki), entry.spki_sha256),
    )
    for name, found, recorded in digests:
        if found != recorded:
            raise FormatError(_UNREADABLE, f"the {name} is not the one that the entry names")
    kept = decode_kept(row.kept)
    try:
        claims, request = decode_claims_set(row.claims_set), decode_request(row.request)
        evidence = decode_evidence(kept.record)
    except ProxyAttestationError as error:
        raise FormatError(_UNREADABLE, str(error)) from error
    if hashlib.sha256(evidence.evidence).digest() != entry.evidence_sha256:
        raise FormatError(_UNREADABLE, "the evidence is not the one that the entry names")
    log = None if kept.event_log is None else hashlib.sha256(kept.event_log).digest()
    if log != evidence.event_log_sha256:
        raise FormatError(_UNREADABLE, "the event log is not the one that the evidence names")
    return _Kept(entry, claims, request, kept, evidence)
