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
from proxy_attestation.authority.ca_life import CaLife
from proxy_attestation.authority.keys import KeyStore
from proxy_attestation.authority.ledger import Ledger, Row
from proxy_attestation.authority.messages import AuthorityInfo, PlatformFloor, TokenKey
from proxy_attestation.authority.ownership import owner_key
from proxy_attestation.authority.policy_directory import PolicyDirectory
from proxy_attestation.authority.revocation import Revocations
from proxy_attestation.authority.settings import Settings
from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError, UnavailableError
from proxy_attestation.formats.deployment import Deployment, check_about, verify_deployment
from proxy_attestation.formats.key_transfer import TransferredKey
from proxy_attestation.formats.ledger_entry import EntryKind, LedgerEntry, decode_entry, encode_entry
from proxy_attestation.formats.root_binder import RootFacts
from proxy_attestation.formats.tee import Tee
from proxy_attestation.policy.digest import policy_digest
from proxy_attestation.policy.load import PolicyFiles
from proxy_attestation.policy.model import Policy
from proxy_attestation.policy.roles import check_roles

TOKEN_KEY_ACTIVE: Final = 24 * 3600
"""Seconds for which a token key is the newest."""
TOKEN_KEY_GRACE: Final = 3600
"""Seconds for which it is kept after that, for tokens that are out and for workers that did not notice."""

_GENERATION: Final = "generation"
_POLICY_VERSION: Final = "policy_version"
_POLICY_CONTENT: Final = "policy_content"
_POLICY_DIGEST: Final = "policy_digest"
_POLICY_SOFTWARE: Final = "policy_software"
_DEPLOYMENT: Final = "deployment_note"


class Authority:
    """An authority that is open.

    Attributes:
        settings: what it is.
        ledger: where everything stands.
        roots: what evidence may chain to: the vendors of settings, and the CAs of TPMs that the policy names.
        life: its CAs.
        revocations: what is revoked, and the deny list.
        policy: in force.
        policy_text_sha256: 32 bytes, of what its signers sign.
        policies: where its files are kept; None in memory.
        policy_digest: 32 bytes, over policy, roots, floors and our version.
        floors: by (tee, FMSPC).
        token_keys: the newest first.
        owner_key: what tokens and holders of names are derived with, 32 bytes.
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
                `ledger.inconsistent`, when the ledger's tree does not fit its entries or its last signed checkpoint;
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
        self.generation = int.from_bytes(ledger.meta(_GENERATION) or b"", "big")
        self.changed: Callable[[], object] = lambda: None
        self.life = CaLife(settings, keys, ledger, self._change, random)
        self.revocations = Revocations(settings.ledger_origin, ledger, self.life, self._change)
        self.latest = ledger.latest_time()
        now = self.now()
        if now >= max(root.ca.not_after for root in self.life.roots):
            raise ConfigurationError(Code.AUTHORITY_STATE, "the root has expired: make a new authority")
        self.life.load(now)
        log_key = keys.load_log()
        ledger.sign_with(settings.ledger_origin, log_key)
        self.owner_key = owner_key(log_key)
        self.floors = ledger.floors()
        self.token_keys = ledger.token_keys()
        self.deployment_note = ledger.meta(_DEPLOYMENT) or b""
        self._deployment = self._read_deployment(self.deployment_note) if self.deployment_note else None
        self.policies: PolicyDirectory | None = None
        self.policy_text_sha256 = b""
        self._adopt(_with_files(policy))
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
            dangers=(*self.settings.dangers, *self.policy.dangers),
            floors=tuple(PlatformFloor(*key, floor) for key, floor in sorted(self.floors.items())),
            ledger_key=self.ledger_key,
            deployment_statement=self.deployment_note,
        )

    def root_facts(self) -> RootFacts:
        """Return what evidence of this proxy vouches for: the bundle's first root and its first issuing CA among it."""
        first = next(root.ca for root in self.life.roots if root.ca.certificate == self.life.bundle.roots[0])
        key = self.ledger_key.encode()
        return RootFacts(first.spki, self.active.ca.spki, self.policy_digest, key, self.settings.key_origin)

    def take_keys(self) -> tuple[TransferredKey, ...]:
        """Return every private key, for `keys_operations`, which knows who may have them.

        Raises:
            RefusedError: `keys.token`, where they cannot be taken out.
        """
        return self._keys.take()

    def install_deployment(self, note: bytes) -> None:
        """Put a deployment statement in force: from then on it is part of every answer with the root.

        Raises:
            FormatError: `note.malformed`, `proxy.statement_malformed`.
            RefusedError: `note.signature`, `proxy.statement_signatures`, `proxy.statement_other`.
            ConfigurationError: `policy.proxy_measurement`, when the policy in force has an entry for the proxy.
        """
        statement = self._read_deployment(note)
        check_roles(self.policy, statement)
        with self._change():
            self.ledger.set_meta(_DEPLOYMENT, note)
        self.deployment_note, self._deployment = note, statement

    def _read_deployment(self, note: bytes) -> Deployment:
        """Read a statement that must be about this proxy."""
        statement = verify_deployment(note, self.settings.signers, self.settings.threshold)
        ours = (root.ca.ca_id for root in self.life.roots if root.ca.ca_id == statement.root_spki_sha256)
        check_about(statement, self.settings.trust_domain, next(ours, self.root.ca_id), self.ledger_key)
        return statement

    @property
    def ledger_key(self) -> str:
        """The log's public key as a C2SP vkey."""
        return str(self.ledger.tree.log)

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
            self.revocations.maintain(self.now())
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
        if self._deployment is not None:
            check_roles(policy, self._deployment)
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
        self.revocations.deny((*policy.deny.serials, *policy.deny.spkis))

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
