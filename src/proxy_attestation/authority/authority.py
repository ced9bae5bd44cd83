"""What is in force: CA certificates, policy, floors, token keys. Changes are transactions of the ledger.

`issue.py` issues under it. Not thread-safe: one process, one writer, one call at a time.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from hashlib import sha256
from typing import Any, Final

from proxy_attestation import __version__
from proxy_attestation.appraisal.endorsements import Floor
from proxy_attestation.appraisal.roots import Roots, every_pin
from proxy_attestation.authority import cas, floors
from proxy_attestation.authority.keys import ROOT_NUMBER, KeyStore
from proxy_attestation.authority.ledger import Ledger, Row
from proxy_attestation.authority.messages import AuthorityInfo, PlatformFloor, TokenKey
from proxy_attestation.authority.policy_directory import PolicyDirectory
from proxy_attestation.authority.profile import ISSUING_ROTATION
from proxy_attestation.authority.settings import Settings
from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError, UnavailableError
from proxy_attestation.formats.ledger_entry import EntryKind, LedgerEntry, decode_entry, encode_entry
from proxy_attestation.formats.tee import Tee
from proxy_attestation.policy.digest import policy_digest
from proxy_attestation.policy.load import PolicyFiles
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
        root: its root.
        policy: in force.
        policy_text_sha256: 32 bytes, of what its signers sign.
        policies: where its files are kept; None in memory.
        policy_digest: 32 bytes, over policy, roots, floors and our version.
        floors: by (tee, FMSPC).
        token_keys: the newest first.
        generation: rises whenever something that workers are told changes.
        changed: called when it has.
        latest: the latest signed time that was seen, seconds since the epoch.
    """

    def __init__(
        self,
        settings: Settings,
        keys: KeyStore,
        ledger: Ledger,
        policy: Policy | PolicyFiles,
        *,
        clock: Callable[[], datetime],
        random: cas.Random = os.urandom,
    ) -> None:
        """Open an authority over a ledger that `init` began.

        Raises:
            ConfigurationError: `authority.state`, when ledger, settings and keys do not fit each other;
                `policy.malformed`, `policy.unsigned`, `policy.signature` or `policy.stale`, when the policy is not one
                for this authority now.
            UnavailableError: `authority.clock`, when the clock lies before what the ledger has seen.
        """
        self.settings = settings
        self.roots = settings.roots
        self.ledger = ledger
        self._keys = keys
        self._clock = clock
        self._random = random
        rows = ledger.cas()
        if not rows or rows[0][0] != ROOT_NUMBER:
            raise ConfigurationError(Code.AUTHORITY_STATE, "the ledger has no root")
        self.root = cas.read_ca(*rows[0])
        self._check_root()
        self.latest = ledger.latest_time()
        now = self.now()
        if now >= self.root.not_after:
            raise ConfigurationError(Code.AUTHORITY_STATE, "the root has expired: make a new authority")
        self._numbers = [number for number, _ in rows]
        self.issuing = cas.load_issuing(rows[1:], self.root, keys, now)
        self.floors = ledger.floors()
        self.token_keys = ledger.token_keys()
        self.generation = int.from_bytes(ledger.meta(_GENERATION) or b"", "big")
        self.changed: Callable[[], None] = lambda: None
        self.policies: PolicyDirectory | None = None
        self.policy_text_sha256 = b""
        self._adopt(_with_files(policy))
        self.maintain()

    @property
    def active(self) -> cas.IssuingCa:
        """The issuing CA that new challenges name."""
        return self.issuing[0]

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
        for position, issuing in enumerate(self.issuing):
            if issuing.ca.ca_id == ca_id:
                retired = cas.retired_at(self.issuing[position - 1].ca) if position else now
                usable = issuing.signer is not None and now < retired + cas.RETIRED_SIGNING
                return issuing if usable and now < issuing.ca.not_after else None
        return None

    def info(self) -> AuthorityInfo:
        """Return what a worker needs to know."""
        return AuthorityInfo(
            generation=self.generation,
            trust_domain=self.settings.trust_domain,
            simulated=self.settings.simulated,
            key_origin=self.settings.key_origin,
            anchors=tuple(sorted(every_pin(self.settings.roots))),
            tpm_roots=tuple(sorted(self.roots.tpm)),
            token_keys=self.token_keys,
            ca_id=self.active.ca.ca_id,
            # Rises with each new CA and with each that has expired.
            bundle_sequence=2 * len(self._numbers) - 1 - len(self.issuing),
            roots=(self.root.certificate,),
            issuing=tuple(issuing.ca.certificate for issuing in self.issuing),
            policy_digest=self.policy_digest,
            dangers=(*self.settings.dangers, *self.policy.dangers),
            floors=tuple(PlatformFloor(*key, floor) for key, floor in sorted(self.floors.items())),
        )

    def maintain(self) -> bool:
        """Do what is due: a new issuing CA, a new token key, forgetting what has expired; tell whether anything was.

        Raises:
            UnavailableError: `authority.unavailable`, `authority.clock` or `authority.lifetime`; what is not done
                stays due.
        """
        now = self.now()
        if now >= self.root.not_after:
            raise UnavailableError(Code.AUTHORITY_LIFETIME, "the root has expired")
        before = self.generation
        if not self.issuing or now >= self.active.ca.not_before + ISSUING_ROTATION:
            self._rotate(now)
        self._retire(now)
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
                self._record_policy(digest, self.policy.version, self.policy_text_sha256)
            self.floors, self.policy_digest = raised, digest
            self.saw(floor.issue_date)
        return floor

    def reload_policy(self, policy: Policy | PolicyFiles) -> bool:
        """Put another policy in force, or keep the one that is when the new one is the same; tell whether it changed.

        Raises:
            ConfigurationError: `policy.malformed`, when it is not for this authority; `policy.unsigned` or
                `policy.signature`, when its signers have not signed it; `policy.stale`, when its version is not higher.
        """
        found = _with_files(policy)
        if self.check_policy(found):
            self._adopt(found)
            return True
        return False

    def check_policy(self, found: PolicyFiles) -> bool:
        """Check that a policy can be put in force now; tell whether it is another than the one that is.

        Raises:
            ConfigurationError: as `reload_policy`.
        """
        self.settings.check_policy(found.policy)
        self.settings.check_signatures(found)
        if found.policy == self.policy and (
            not self.settings.signers or _text_digest(found) == self.policy_text_sha256
        ):
            return False
        if found.policy.version <= self.policy.version:
            detail = f"version {found.policy.version} is not higher than {self.policy.version}, which is in force"
            raise ConfigurationError(Code.POLICY_STALE, detail)
        return True

    def saw(self, seconds: int) -> None:
        """Note a time that we have signed."""
        self.latest = max(self.latest, seconds)

    def _check_root(self) -> None:
        cas.check_issued(self.root, self.root)
        if self.root.ca_id != self.settings.root_spki_sha256 or self.root.name != self.settings.root_name:
            raise ConfigurationError(Code.AUTHORITY_STATE, "authority.toml does not describe the root of the ledger")
        if self._keys.load(ROOT_NUMBER).spki != self.root.spki:
            raise ConfigurationError(Code.AUTHORITY_STATE, "the root's key is not the root's")

    def _rotate(self, now: int) -> None:
        number = self._numbers[-1] + 1
        with self._change():
            new = cas.make_issuing(
                self.settings, self.root, self._keys, self.ledger, number=number, now=now, random=self._random
            )
        self._numbers.append(number)
        self.issuing = (new, *self.issuing)
        self.saw(new.ca.not_before)

    def _retire(self, now: int) -> None:
        """Destroy keys that sign no more, and drop certificates that have expired from the bundle."""
        for successor, retired in zip(self.issuing, self.issuing[1:], strict=False):
            if now >= cas.retired_at(successor.ca) + cas.RETIRED_KEY_LIFETIME:
                self._keys.destroy(retired.ca.number)
        live = tuple(issuing for issuing in self.issuing if issuing.ca.not_after > now)
        if live != self.issuing:
            with self._change():
                pass
            self.issuing = live

    def _new_token_key(self, now: int) -> None:
        key = TokenKey(self._random(4), self._random(32), now + TOKEN_KEY_ACTIVE + TOKEN_KEY_GRACE)
        kept = (key, *(old for old in self.token_keys if old.not_after > now and old.key_id != key.key_id))
        with self._change():
            self.ledger.replace_token_keys(kept)
        self.token_keys = kept

    def _adopt(self, found: PolicyFiles) -> None:
        """Put a policy in force, and record it."""
        policy, text = found.policy, _text_digest(found)
        self.settings.check_policy(policy)
        self.settings.check_signatures(found)
        recorded = self.ledger.last_policy()
        last = LedgerEntry(EntryKind.POLICY) if recorded is None else decode_entry(recorded)
        version = last.policy_version or 0
        content = policy_digest(policy, Roots(frozenset()), {}, __version__)
        same_software = self.ledger.meta(_POLICY_SOFTWARE) == __version__.encode()
        changed = same_software and self.ledger.meta(_POLICY_CONTENT) != content
        changed = changed or (bool(self.settings.signers) and last.policy_text_sha256 != text)
        if policy.version < version or (policy.version == version and changed):
            detail = f"version {policy.version} was not raised: {version} has been in force with other contents"
            raise ConfigurationError(Code.POLICY_STALE, detail)
        digest = self._digest(policy, self.floors)
        with self._change():
            self.ledger.set_meta(_POLICY_VERSION, policy.version.to_bytes(8, "big"))
            self.ledger.set_meta(_POLICY_CONTENT, content)
            self.ledger.set_meta(_POLICY_SOFTWARE, __version__.encode())
            self._record_policy(digest, policy.version, text)
        self.policy, self.policy_digest, self.policy_text_sha256 = policy, digest, text
        self.roots = replace(self.settings.roots, tpm=policy.tpm_roots)

    def _digest(self, policy: Policy, recorded: dict[tuple[Tee, bytes], Floor]) -> bytes:
        # The CAs of TPMs are the policy's own, which is in it already.
        return policy_digest(policy, self.settings.roots, recorded, __version__)

    def _record_policy(self, digest: bytes, version: int, text: bytes) -> None:
        """Append what is in force from now on, unless it was before, inside a transaction."""
        said: dict[str, Any] = {"policy_digest": digest, "policy_version": version, "policy_text_sha256": text}
        last = self.ledger.last_policy()
        if last is None or any(getattr(decode_entry(last), name) != value for name, value in said.items()):
            entry = LedgerEntry(EntryKind.POLICY, policy_time=self.now(), **said)
            self.ledger.append([Row(EntryKind.POLICY, encode_entry(entry))])
            self.ledger.set_meta(_POLICY_DIGEST, digest)

    @contextmanager
    def _change(self) -> Iterator[None]:
        """Change what workers are told, in one transaction; in force once that is committed."""
        with self.ledger.transaction():
            yield
            self.ledger.set_meta(_GENERATION, (self.generation + 1).to_bytes(8, "big"))
        self.generation += 1
        self.changed()


def _with_files(policy: Policy | PolicyFiles) -> PolicyFiles:
    """Return a policy that was made in memory as one without files; with signers it is unsigned."""
    return policy if isinstance(policy, PolicyFiles) else PolicyFiles(policy)


def _text_digest(found: PolicyFiles) -> bytes:
    return sha256(found.text.encode()).digest()
