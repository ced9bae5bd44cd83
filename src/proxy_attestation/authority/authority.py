"""What is in force: CA certificates, policy, floors, token keys. Changes are transactions of the ledger.

`issue.py` issues under it. Not thread-safe: one process, one writer, one call at a time.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from typing import Final

from proxy_attestation import __version__
from proxy_attestation.appraisal.endorsements import Floor
from proxy_attestation.appraisal.roots import Roots, every_pin
from proxy_attestation.authority import cas, floors
from proxy_attestation.authority.ca_life import CaLife
from proxy_attestation.authority.keys import KeyStore
from proxy_attestation.authority.ledger import Ledger, Row
from proxy_attestation.authority.messages import AuthorityInfo, PlatformFloor, TokenKey
from proxy_attestation.authority.revocation import Revocations
from proxy_attestation.authority.settings import Settings
from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError, UnavailableError
from proxy_attestation.formats.ledger_entry import EntryKind, LedgerEntry, encode_entry
from proxy_attestation.formats.tee import Tee
from proxy_attestation.policy.digest import policy_digest
from proxy_attestation.policy.model import Policy

TOKEN_KEY_ACTIVE: Final = 24 * 3600
"""Seconds for which a token key is the newest."""
TOKEN_KEY_GRACE: Final = 3600
"""Seconds for which it is kept after that, for tokens that are out and for workers that did not notice."""

_GENERATION: Final = "generation"
_POLICY_VERSION: Final = "policy_version"
_POLICY_CONTENT: Final = "policy_content"
_POLICY_DIGEST: Final = "policy_digest"
_POLICY_SOFTWARE: Final = "policy_software"


class Authority:
    """An authority that is open.

    Attributes:
        settings: what it is.
        ledger: where everything stands.
        roots: what evidence may chain to: the vendors of settings, and the CAs of TPMs that the policy names.
        life: its CAs.
        revocations: what is revoked, and the deny list.
        policy: in force.
        policy_digest: 32 bytes, over policy, roots, floors and our version.
        floors: by (tee, FMSPC).
        token_keys: the newest first.
        generation: rises whenever something that workers are told changes.
        latest: the latest signed time that was seen, seconds since the epoch.
    """

    def __init__(
        self,
        settings: Settings,
        keys: KeyStore,
        ledger: Ledger,
        policy: Policy,
        *,
        clock: Callable[[], datetime],
        random: cas.Random = os.urandom,
    ) -> None:
        """Open an authority over a ledger that `init` began.

        Raises:
            ConfigurationError: `authority.state`, when ledger, settings and keys do not fit each other;
                `policy.malformed`, when the policy is not for this authority.
            UnavailableError: `authority.clock`, when the clock lies before what the ledger has seen.
        """
        self.settings = settings
        self.roots = settings.roots
        self.ledger = ledger
        self._keys = keys
        self._clock = clock
        self._random = random
        self.generation = int.from_bytes(ledger.meta(_GENERATION) or b"", "big")
        self.life = CaLife(settings, keys, ledger, self._change, random)
        self.revocations = Revocations(settings.ledger_origin, ledger, self.life, self._change)
        self.latest = ledger.latest_time()
        now = self.now()
        if now >= max(root.ca.not_after for root in self.life.roots):
            raise ConfigurationError(Code.AUTHORITY_STATE, "the root has expired: make a new authority")
        self.life.load(now)
        self.floors = ledger.floors()
        self.token_keys = ledger.token_keys()
        self._adopt(policy)
        self.maintain()

    @property
    def root(self) -> cas.Ca:
        """The first root, which settings bind."""
        return self.life.roots[0].ca

    @property
    def issuing(self) -> tuple[cas.IssuingCa, ...]:
        """The issuing CAs that have not expired, the active one first."""
        return self.life.issuing

    @property
    def active(self) -> cas.IssuingCa:
        """The issuing CA that new challenges name."""
        return self.life.issuing[0]

    def now(self) -> int:
        """Return the time, seconds since the epoch.

        Raises:
            UnavailableError: `authority.clock`, when it lies before the latest signed time that was seen.
        """
        now = int(self._clock().timestamp())
        if now < self.latest:
            raise UnavailableError(Code.AUTHORITY_CLOCK, f"the clock says {now}, but {self.latest} has been")
        return now

    def signing_ca(self, ca_id: bytes, now: int) -> cas.IssuingCa | None:
        """Return the issuing CA that a challenge names, if it may still sign."""
        return self.life.signing(ca_id, now)

    def info(self) -> AuthorityInfo:
        """Return what a worker needs to know."""
        bundle = self.life.bundle
        return AuthorityInfo(
            generation=self.generation,
            trust_domain=self.settings.trust_domain,
            simulated=self.settings.simulated,
            key_origin=self.settings.key_origin,
            anchors=tuple(sorted(every_pin(self.settings.roots))),
            tpm_roots=tuple(sorted(self.roots.tpm)),
            token_keys=self.token_keys,
            ca_id=self.active.ca.ca_id,
            bundle_sequence=bundle.sequence,
            roots=bundle.roots,
            cross=bundle.cross,
            issuing=bundle.issuing,
            deny_sequence=self.revocations.sequence,
            policy_digest=self.policy_digest,
            dangers=self.policy.dangers,
            floors=tuple(PlatformFloor(*key, floor) for key, floor in sorted(self.floors.items())),
        )

    def maintain(self) -> bool:
        """Do what is due: a new CA, deny list or token key, forgetting what has expired; tell whether anything was.

        Raises:
            UnavailableError: `authority.unavailable`, `authority.clock` or `authority.lifetime`; what is not done
                stays due.
        """
        now = self.now()
        before = self.generation
        self.life.maintain(now)
        self.saw(max(one.ca.not_before for one in self.issuing))
        self.revocations.maintain(now)
        if not self.token_keys or now >= self.token_keys[0].not_after - TOKEN_KEY_GRACE:
            self._new_token_key(now)
        if self.ledger.evidence.due(now):
            with self.ledger.transaction():
                self.ledger.evidence.forget(now)
        return self.generation != before

    def raise_floor(self, tee: Tee, fmspc: bytes, floor: Floor) -> Floor:
        """Record newer collateral before it is used; return the floor, which is then its numbers.

        Raises:
            UnavailableError: see `floors.check_raise`.
        """
        now = self.now()
        if floors.check_raise(self.floors, tee, fmspc, floor, now):
            raised = {**self.floors, (tee, fmspc): floor}
            digest = self._digest(self.policy, raised)
            with self._change():
                self.ledger.set_floor(tee, fmspc, floor)
                self._record_policy(digest)
            self.floors, self.policy_digest = raised, digest
            self.saw(floor.issue_date)
        return floor

    def reload_policy(self, policy: Policy) -> bool:
        """Put another policy in force, or keep the one that is when the new one is the same; tell whether it changed.

        Raises:
            ConfigurationError: `policy.malformed`, when it is not for this authority; `policy.stale`, when its version
                is not higher.
        """
        if policy == self.policy:
            return False
        if policy.version <= self.policy.version:
            detail = f"version {policy.version} is not higher than {self.policy.version}, which is in force"
            raise ConfigurationError(Code.POLICY_STALE, detail)
        self._adopt(policy)
        return True

    def saw(self, seconds: int) -> None:
        """Note a time that we have signed."""
        self.latest = max(self.latest, seconds)

    def _new_token_key(self, now: int) -> None:
        key = TokenKey(self._random(4), self._random(32), now + TOKEN_KEY_ACTIVE + TOKEN_KEY_GRACE)
        kept = (key, *(old for old in self.token_keys if old.not_after > now and old.key_id != key.key_id))
        with self._change():
            self.ledger.replace_token_keys(kept)
        self.token_keys = kept

    def _adopt(self, policy: Policy) -> None:
        """Put a policy in force, and record it."""
        self.settings.check_policy(policy)
        version = int.from_bytes(self.ledger.meta(_POLICY_VERSION) or b"", "big")
        content = policy_digest(policy, Roots(frozenset()), {}, __version__)
        same_software = self.ledger.meta(_POLICY_SOFTWARE) == __version__.encode()
        changed = same_software and self.ledger.meta(_POLICY_CONTENT) != content
        if policy.version < version or (policy.version == version and changed):
            detail = f"version {policy.version} was not raised: {version} has been in force with other contents"
            raise ConfigurationError(Code.POLICY_STALE, detail)
        digest = self._digest(policy, self.floors)
        with self._change():
            self.ledger.set_meta(_POLICY_VERSION, policy.version.to_bytes(8, "big"))
            self.ledger.set_meta(_POLICY_CONTENT, content)
            self.ledger.set_meta(_POLICY_SOFTWARE, __version__.encode())
            self._record_policy(digest)
        self.policy, self.policy_digest = policy, digest
        self.roots = replace(self.settings.roots, tpm=policy.tpm_roots)

    def _digest(self, policy: Policy, recorded: dict[tuple[Tee, bytes], Floor]) -> bytes:
        # The CAs of TPMs are the policy's own, which is in it already.
        return policy_digest(policy, self.settings.roots, recorded, __version__)

    def _record_policy(self, digest: bytes) -> None:
        """Append the digest that is in force from now on, unless it was before, inside a transaction."""
        if self.ledger.meta(_POLICY_DIGEST) != digest:
            entry = LedgerEntry(kind=EntryKind.POLICY, policy_digest=digest)
            self.ledger.append([Row(EntryKind.POLICY, encode_entry(entry))])
            self.ledger.set_meta(_POLICY_DIGEST, digest)

    @contextmanager
    def _change(self) -> Iterator[None]:
        """Change what workers are told, in one transaction; in force once that is committed."""
        with self.ledger.transaction():
            yield
            self.ledger.set_meta(_GENERATION, (self.generation + 1).to_bytes(8, "big"))
        self.generation += 1
