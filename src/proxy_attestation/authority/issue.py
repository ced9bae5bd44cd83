"""Issues certificates: the decision is made here, and nothing is taken from a worker's word but the claims.

For each order of a batch:

1.  The session token: its MAC, its expiry, and that the issuing CA which it names may still sign.
2.  A key that was revoked gets nothing. A session that was used: the same key and request get the same certificate
    again, anything else is refused.
3.  The request's form, one TEE throughout, the key's form.
4.  The policy that the worker was told of is the one in force.
5.  The binder, rebuilt from the token, the key and the request, is what the claims say was attested.
6.  The evidence chains to an anchor of this authority, and the collateral is the one recorded last.
7.  The decision (`policy.decide`).
8.  The owner: whether this instance may hold the entry's names (`ownership`).
9.  The life: the least of policy, request, collateral, issuing CA and 24 h, and not below the policy's minimum.
10. The finished to-be-signed bytes, and the last check, on exactly those.

Then all of the batch's entries, with claims of names and spent tokens, are committed in one transaction, with the nodes
of the tree and a signed checkpoint, and only then the certificates are signed and answered, with their proofs.
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import astuple
from datetime import UTC, datetime
from typing import Any, NamedTuple

from proxy_attestation import log
from proxy_attestation.appraisal.endorsements import Floor
from proxy_attestation.appraisal.kinds import Endorsements, verify_endorsements
from proxy_attestation.authority import cas, floors, profile
from proxy_attestation.authority.authority import Authority
from proxy_attestation.authority.check import Expected, ExpectedClaims, is_usual_key
from proxy_attestation.authority.evidence_store import Kept
from proxy_attestation.authority.leaf import code_measurements, leaf_claims, leaf_row, life
from proxy_attestation.authority.ledger import Row
from proxy_attestation.authority.messages import FLOORS_MAX, AuthorityInfo, Issued, IssueOrder
from proxy_attestation.authority.owner_records import Ask, Change
from proxy_attestation.authority.ownership import Owners
from proxy_attestation.authority.token import Token, open_token
from proxy_attestation.codes import Code
from proxy_attestation.errors import (
    AppraisalError,
    FormatError,
    InternalError,
    Mismatch,
    PolicyError,
    ProxyAttestationError,
    RequestError,
    UnavailableError,
)
from proxy_attestation.formats import binder, cbor
from proxy_attestation.formats.csr import spki_sha256
from proxy_attestation.formats.ear import encode_claims_set
from proxy_attestation.formats.ledger_entry import EntryKind, decode_entry
from proxy_attestation.formats.request import Names, decode_request
from proxy_attestation.formats.tee import Tee
from proxy_attestation.policy.decide import decide
from proxy_attestation.policy.deny import match_certificate
from proxy_attestation.policy.model import OwnerKind, Workload
from proxy_attestation.policy.names import spiffe_id


class _Prepared(NamedTuple):
    """What can be signed once its entry is committed.

    Attributes:
        session: its id, 16 bytes.
        row: the entry, new or found.
        issuing: signs it.
        found: the index of an entry that was there before, or None.
    """

    session: bytes
    row: Row
    issuing: cas.IssuingCa
    found: int | None


class Issuer:
    """The authority's whole service, in process and synchronous. `process.py` puts it behind a socket."""

    def __init__(self, authority: Authority, tls_names: Names, random: cas.Random = os.urandom) -> None:
        self.authority = authority
        self._tls_names = tls_names
        self._random = random
        self.owners = Owners(authority.ledger, authority.settings.trust_domain, authority.owner_key, random)
        self.owners.check()
        self._verified: dict[bytes, tuple[Tee, bytes, Floor]] = {}
        self._kept: dict[bytes, IssueOrder] = {}
        """By session: the orders of this batch that came with evidence to keep."""

    def hello(self) -> AuthorityInfo:
        """Return what a worker needs to know."""
        return self.authority.info()

    def raise_floor(self, endorsements: Endorsements) -> Floor:
        """Verify a set of collateral and record its numbers before it is used.

        The numbers come from documents that the vendor has signed, so that whoever sends them can raise no floor
        beyond what exists. A set that was verified before is not verified again.

        Returns:
            The floor, which is then the set's numbers.

        Raises:
            UnavailableError: `endorsements.unavailable`, when the set does not verify here and now; and see
                `authority.Authority.raise_floor`.
        """
        digest = _sha256(cbor.encode(astuple(endorsements)))
        known = self._verified.get(digest)
        if known is None:
            now = datetime.fromtimestamp(self.authority.now(), UTC)
            try:
                found = verify_endorsements(endorsements, self.authority.roots, now)
            except (AppraisalError, FormatError) as error:
                raise UnavailableError(Code.ENDORSEMENTS_UNAVAILABLE, str(error)) from error
            known = (found.tee, found.platform, found.floor)
            if len(self._verified) >= FLOORS_MAX:
                del self._verified[next(iter(self._verified))]
            self._verified[digest] = known
        return self.authority.raise_floor(*known)

    def issue_batch(self, orders: Sequence[IssueOrder]) -> list[Issued | ProxyAttestationError]:
        """Issue or refuse each of some orders; none of them harms another.

        Returns:
            In the order of the orders: a certificate that stands in the ledger (its proof is empty while witnesses are
            waited for), or the error:

            - RequestError: `challenge.*`, `certificate.revoked`, `request.tee`, `csr.key`, `binder.mismatch`;
            - FormatError: `request.malformed`, `owner.malformed`;
            - PolicyError: every mismatch, or what `ownership` refuses;
            - AppraisalError: `<tee>.root`;
            - UnavailableError: `policy.stale`, `endorsements.unavailable`, `authority.*`, `ledger.inconsistent`;
            - InternalError.
        """
        new: dict[bytes, Row] = {}
        self.owners.begin()
        self._kept.clear()
        prepared = [self._prepare(order, new) for order in orders]
        indexes = self._append(new)
        return [self._answer(item, indexes) if isinstance(item, _Prepared) else item for item in prepared]

    def tls_leaf(self, spki: bytes) -> tuple[bytes, ...]:
        """Issue the proxy's own TLS certificate, of 24 hours at most.

        Args:
            spki: DER of the SubjectPublicKeyInfo, P-256 or P-384.

        Returns:
            DER: leaf, issuing CA, and what leads to the other root while there are two.

        Raises:
            RequestError: `csr.key`.
            UnavailableError: `authority.*`.
        """
        _check_key(spki)
        issuing, own_id = self.authority.active, self.authority.settings.server_id
        expected = self._expected(issuing.ca, self.authority.now(), spki=spki, names=self._tls_names, spiffe_id=own_id)
        row = self._row(EntryKind.PROXY_TLS, issuing, expected, None, None)
        with self.authority.ledger.transaction():
            self.authority.ledger.append([row])
        self.authority.saw(row.not_before or 0)
        return _sign(issuing, row)

    def _prepare(self, order: IssueOrder, new: dict[bytes, Row]) -> _Prepared | ProxyAttestationError:
        """Judge one order; put its row, by its session, to the new ones."""
        try:
            return self._judge(order, new)
        except ProxyAttestationError as error:
            return error
        except Exception as error:  # noqa: BLE001 - one order's bug must not cost the others their answer
            return _bug(error)

    def _judge(self, order: IssueOrder, new: dict[bytes, Row]) -> _Prepared:
        authority, claims = self.authority, order.claims
        now = authority.now()
        # 1. Token.
        token = open_token(authority.token_keys, order.token, datetime.fromtimestamp(now, UTC))
        issuing = authority.signing_ca(token.ca_id, now)
        if issuing is None:
            raise RequestError(Code.CHALLENGE_CA, "the challenge names an issuing CA that signs no more")
        # 2. Key and session.
        if authority.revocations.is_revoked(spki_sha256(order.spki)):
            raise RequestError(Code.CERTIFICATE_REVOKED)
        used = self._used(order, token, issuing, new)
        if used is not None:
            return used
        # 3. Form.
        request = decode_request(order.request)
        if not token.tee is request.tee is claims.tee:
            raise RequestError(Code.REQUEST_TEE, f"token {token.tee}, request {request.tee}, claims {claims.tee}")
        _check_key(order.spki)
        # 4. Policy in force.
        if order.policy_digest != authority.policy_digest:
            raise UnavailableError(Code.POLICY_STALE, f"the worker knows {order.policy_digest.hex()}")
        # 5. Binder.
        wanted = binder.bind(
            ca_id=token.ca_id, session_id=token.session_id, nonce=token.nonce, spki=order.spki, request=order.request
        )
        if not wanted.is_in(token.tee, claims.bound):
            raise RequestError(Code.BINDER_MISMATCH, "what was attested is not this session, key and request")
        # 6. Anchor and collateral.
        if claims.anchor not in authority.roots.of(claims.rooted.tee):
            raise AppraisalError(Code(f"{claims.rooted.tee}.root"), f"anchor {claims.anchor.hex()}")
        floors.check_use(authority.floors, claims, order.collateral_floor)
        # 7. Decision.
        decision = decide(claims, request, authority.policy, spki_sha256(order.spki))
        if not decision.accepted:
            raise PolicyError(decision.mismatches)
        # 8. Owner.
        change = self._owner(decision.workload, order, wanted.report_data, now)
        # 9. Life.
        settings = authority.settings
        what = ExpectedClaims(
            tee=str(token.tee),
            nonce=token.nonce,
            policy_digest=authority.policy_digest,
            debug=claims.debug,
            application_sha256=decision.application_sha256,
            simulated=settings.simulated,
        )
        limits: tuple[int, ...] = (now + decision.lifetime, int(claims.valid_until.timestamp()))
        if decision.workload is not None and (end := decision.workload.not_after) is not None:
            if end <= now:
                raise PolicyError((Mismatch(Code.REFERENCE_EXPIRED, "not_after", f"after {now}", str(end)),))
            limits = (*limits, end)
        own_id = spiffe_id(settings.trust_domain, request.workload)
        expected = self._expected(
            issuing.ca, now, limits, what, spki=order.spki, names=decision.names, spiffe_id=own_id
        )
        left, minimum = life(expected)[1] - now, authority.policy.min_lifetime
        if left < minimum:
            raise UnavailableError(Code.AUTHORITY_LIFETIME, f"{left} s would be left, at least {minimum} are demanded")
        # 10. Bytes.
        entry, ledger = decision.workload, settings.ledger_origin
        said = leaf_claims(claims, request, expected, what, workload=entry, ledger=ledger)
        claims_set = encode_claims_set(said)
        row = new[token.session_id] = self._row(
            EntryKind.LEAF,
            issuing,
            expected,
            claims_set,
            token.session_id,
            tee=what.tee,
            status=said.status,
            evidence_sha256=claims.evidence_sha256,
            measurements=code_measurements(claims),
            tcb_evaluation_number=said.tcb_evaluation_number,
            claims_sha256=_sha256(claims_set),
            request_sha256=_sha256(order.request),
        )
        if change is not None:
            self.owners.stage(token.session_id, change, row.not_after or 0)
        if order.kept:
            self._kept[token.session_id] = order
        return _Prepared(token.session_id, row, issuing, None)

    def _owner(self, workload: Workload | None, order: IssueOrder, report_data: bytes, now: int) -> Change | None:
        """Judge who asks for the names of an entry, by its owner; None where nobody holds them alone."""
        if workload is None or workload.owner.kind is OwnerKind.SHARED:
            return None
        if workload.owner.kind is not OwnerKind.CHIP_IDS:
            self._check_holder(workload.name, now)
        return self.owners.judge(
            Ask(
                trust_domain=self.authority.settings.trust_domain,
                entry=workload.name,
                owner=workload.owner,
                spki=order.spki,
                report_data=report_data,
                machine=order.claims.instance_id,
                kind=order.owner_kind,
                proof=order.owner_proof,
                now=now,
            )
        )

    def _check_holder(self, entry: str, now: int) -> None:
        """Refuse who would hold names by a key or certificate that `[deny]` names: it proves nothing any more."""
        held, deny = self.owners.holder(entry), self.authority.policy.deny
        if held is None or now > held.held_until or not (deny.spkis or deny.serials):
            return
        certificates = self.authority.ledger.live_of_key(held.spki_sha256, now)
        serials: list[bytes | None] = [None, *(live.serial for live in certificates)]
        denied = [one for serial in serials for one in match_certificate(deny, held.spki_sha256, serial)]
        if denied:
            raise PolicyError(tuple(dict.fromkeys(denied)))

    def _used(self, order: IssueOrder, token: Token, issuing: cas.IssuingCa, new: dict[bytes, Row]) -> _Prepared | None:
        """Return what a session was used for before, in the ledger or in this batch."""
        index, row = None, new.get(token.session_id)
        if row is None:
            found = self.authority.ledger.find_session(token.session_id)
            if found is None:
                return None
            index, row = found
        same = (row.spki_sha256, row.request_sha256) == (spki_sha256(order.spki), _sha256(order.request))
        if not same or decode_entry(row.entry).issuer_spki_sha256 != issuing.ca.ca_id:
            raise RequestError(Code.CHALLENGE_SPENT, "this session got a certificate for another key or request")
        return _Prepared(token.session_id, row, issuing, index)

    def _expected(
        self, ca: cas.Ca, now: int, limits: tuple[int, ...] = (), claims: ExpectedClaims | None = None, **chosen: Any
    ) -> Expected:
        """Return the leaf as it is decided; spki, names and SPIFFE ID are given."""
        return Expected(
            issuer=ca.name,
            authority_key_id=ca.key_id,
            issuer_not_before=ca.not_before,
            now=now,
            not_after_limits=(*limits, ca.not_after),
            permitted_dns=self.authority.settings.dns,
            claims=claims,
            **chosen,
        )

    def _row(
        self,
        kind: EntryKind,
        issuing: cas.IssuingCa,
        expected: Expected,
        claims: bytes | None,
        session: bytes | None,
        **said: Any,
    ) -> Row:
        serial, digest = profile.new_serial(self._random(profile.SERIAL_BYTES)), self.authority.policy_digest
        more = {"issuer_spki_sha256": issuing.ca.ca_id, "policy_digest": digest, **said}
        return leaf_row(kind, serial, expected, claims, session, **more)

    def _append(self, new: dict[bytes, Row]) -> dict[bytes, int | ProxyAttestationError]:
        """Commit new entries; give each session its index, or the error that kept it out."""
        if not new:
            return {}
        rows = list(new.values())
        try:
            with self.authority.ledger.transaction():
                first = self.authority.ledger.append(rows)
                self.owners.commit(new)
                self._keep(first, rows)
        except InternalError as error:
            # A constraint of the schema: one entry is to blame, and the others must not pay for it.
            if len(new) == 1:
                return dict.fromkeys(new, error)
            outcomes: dict[bytes, int | ProxyAttestationError] = {}
            for session, row in new.items():
                outcomes |= self._append({session: row})
            return outcomes
        except UnavailableError as error:
            return dict.fromkeys(new, error)
        self.authority.saw(max([row.not_before or 0 for row in rows]))
        return {session: first + offset for offset, session in enumerate(new)}

    def _keep(self, first: int, rows: Sequence[Row]) -> None:
        """Keep the evidence of entries that were appended, inside their transaction."""
        found = [(index, row, self._kept.get(row.session_id or b"")) for index, row in enumerate(rows, first)]
        kept = [
            Kept(index, row.not_after or 0, order.request, order.spki, order.kept)
            for index, row, order in found
            if order is not None
        ]
        self.authority.ledger.evidence.keep(kept, self.authority.now())

    def _answer(
        self, prepared: _Prepared, outcomes: dict[bytes, int | ProxyAttestationError]
    ) -> Issued | ProxyAttestationError:
        session, row, issuing, found = prepared
        index = outcomes[session] if found is None else found
        if isinstance(index, ProxyAttestationError):
            return index
        if row.not_before is None or row.not_after is None or row.claims_set is None:
            return InternalError("a row of the ledger without a certificate")
        try:
            chain, proof = _sign(issuing, row), self.authority.ledger.proof(index)
        except ProxyAttestationError as error:
            return error  # the key's place or the ledger does not answer; the entry stands, and the session asks again
        except Exception as error:  # noqa: BLE001 - one order's bug must not cost the others their answer
            return _bug(error)
        return Issued(chain, index, row.not_before, row.not_after, row.claims_set, self.authority.generation, proof)


def _check_key(spki: bytes) -> None:
    # The worker has loaded the key and checked a signature of it; here only the form counts.
    if not is_usual_key(spki):
        raise RequestError(Code.CSR_KEY, "not a P-256 or P-384 key in its usual encoding")


def _sign(issuing: cas.IssuingCa, row: Row) -> tuple[bytes, ...]:
    if issuing.signer is None or row.tbs is None:
        raise InternalError("an issuing CA without a key, or a row without a certificate, was to be signed")
    return (profile.assemble(row.tbs, issuing.signer.sign(row.tbs)), *issuing.above)


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()


def _bug(error: Exception) -> InternalError:
    log.bug(error)
    return InternalError(f"{type(error).__name__} in the authority")
