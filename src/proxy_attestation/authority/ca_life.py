"""Which CA signs, and what follows it.

The states of an issuing CA, and likewise of a root:

========  ==========================================  ==============================================================
state     begins                                      meanwhile
========  ==========================================  ==============================================================
prepared  issuing CA: 37 days before the active one   it is in the bundle and signs nothing; the next start finds it
          ends (at 53 of 90 days), or by command;     again, so that no number is used twice
          root: by command alone
active    issuing CA: 7 days later, or 30 days        new challenges name it, or new issuing CAs are signed by it;
          before the active one ends, or by command;  of each kind exactly one
          root: 30 days later, or when the one
          before ends, or by command
retired   when the next one becomes active            for ten minutes it signs what challenges name it for, after an
                                                      hour its key is destroyed; in the bundle until it expires
========  ==========================================  ==============================================================

An authority that was away for long prepares and activates at once. A revoked issuing CA leaves all of this.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Final, NamedTuple

from proxy_attestation.authority import cas, profile
from proxy_attestation.authority.cas_loaded import load_issuing, load_roots
from proxy_attestation.authority.keys import ROOT_NUMBER, KeyStore
from proxy_attestation.authority.ledger import Ledger
from proxy_attestation.authority.settings import Settings
from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError, ProxyAttestationError, RefusedError, UnavailableError

_PREPARE_BEFORE_END: Final = profile.ISSUING_LIFETIME - profile.ISSUING_ROTATION + profile.ISSUING_OVERLAP
_ROTATE_BEFORE_END: Final = profile.ISSUING_LIFETIME - profile.ISSUING_ROTATION


class Bundle(NamedTuple):
    """What relying parties may build chains of, DER.

    Attributes:
        sequence: rises whenever anything of it changes.
        roots: certified by themselves, the first one first.
        cross: roots certified by another root.
        issuing: the active one first, then one that is prepared, then the retired ones, the newest first.
    """

    sequence: int
    roots: tuple[bytes, ...]
    cross: tuple[bytes, ...]
    issuing: tuple[bytes, ...]


class CaLife:
    """The CAs of an authority.

    Attributes:
        roots: the first one first; expired ones too.
        issuing: those that have not expired: the active one first, then a prepared one, then retired ones.
        bundle: what relying parties are told.
    """

    def __init__(
        self,
        settings: Settings,
        keys: KeyStore,
        ledger: Ledger,
        change: Callable[[], AbstractContextManager[None]],
        random: cas.Random,
    ) -> None:
        """Read the roots; `load` comes next.

        Args:
            settings: which bind the first root.
            keys: where the keys are.
            ledger: where everything is recorded.
            change: opens a transaction after which workers are told.
            random: gives that many random bytes.

        Raises:
            ConfigurationError: `authority.state`, when ledger and settings do not fit each other.
        """
        self._settings, self._keys, self._ledger = settings, keys, ledger
        self._change, self._random = change, random
        self._made = 0
        self._activated = 0
        self.roots: tuple[cas.Root, ...] = ()
        self.issuing: tuple[cas.IssuingCa, ...] = ()
        self.bundle = Bundle(0, (), (), ())
        self._read_roots()

    def load(self, now: int) -> None:
        """Read what the ledger says is in force now, and its keys.

        Raises:
            ConfigurationError: `authority.state`, when a certificate or key is missing or another.
        """
        self._read_roots()
        for root in self.roots[self.roots.index(self.root) :]:
            if self._keys.load(root.ca.number).spki != root.ca.spki:
                raise ConfigurationError(Code.AUTHORITY_STATE, f"the key of root {root.generation} is not the root's")
        rows, activations = self._ledger.cas()[1:], self._ledger.activations()
        rows = [row for row in rows if not self._ledger.is_revoked(cas.read_ca(*row).ca_id)]
        live = load_issuing(rows, self.roots, activations, self._keys, now)
        # False sorts before True; the sort keeps the order within each state.
        order = sorted(live, key=lambda one: (one.retired_at is not None, one.activated_at is None))
        self.issuing = tuple(replace(one, above=(one.ca.certificate, *self._cross_of(one.ca, now))) for one in order)
        self._made, self._activated = len(self._ledger.cas()) - 1, len(activations)
        self.bundle = self._bundle(now)

    @property
    def root(self) -> cas.Root:
        """The root that signs new issuing CAs."""
        return next(root for root in reversed(self.roots) if root.activated_at is not None)

    @property
    def prepared_root(self) -> cas.Root | None:
        """The root that is to follow, if there is one."""
        return self.roots[-1] if self.roots[-1].activated_at is None else None

    @property
    def prepared(self) -> cas.IssuingCa | None:
        """The issuing CA that is to follow, if there is one."""
        return next((one for one in self.issuing if one.activated_at is None), None)

    @property
    def active(self) -> cas.IssuingCa | None:
        """The issuing CA that new challenges name; None only before `maintain` has made one."""
        return next((one for one in self.issuing if one.activated_at is not None and one.retired_at is None), None)

    def signing(self, ca_id: bytes, now: int) -> cas.IssuingCa | None:
        """Return the issuing CA that a challenge names, if it may still sign."""
        return next((one for one in self.issuing if one.ca.ca_id == ca_id and one.signs(now)), None)

    def maintain(self, now: int) -> None:
        """Do what is due.

        Raises:
            UnavailableError: `authority.unavailable`; `authority.lifetime`, when the root has expired and none follows.
        """
        following = self.prepared_root
        if following is not None and (
            now >= following.ca.made_at + profile.ROOT_OVERLAP or now >= self.root.ca.not_after
        ):
            self.activate_root(now)
        if now >= self.root.ca.not_after:
            raise UnavailableError(Code.AUTHORITY_LIFETIME, "the root has expired")
        if self._bundle(now) != self.bundle:  # something has expired
            with self._change():
                pass
            self.load(now)
        self._rotate_when_due(now)
        self._destroy(now)

    def rotate(self, now: int, *, at_once: bool) -> cas.IssuingCa:
        """Prepare the next issuing CA unless one is prepared, and activate it where that shall be at once; return it.

        Raises:
            UnavailableError: `authority.unavailable`.
        """
        following = self.prepared or self._prepare(now)
        if at_once:
            self._activate(following.ca.number, now)
        return next(one for one in self.issuing if one.ca.number == following.ca.number)

    def succeed(self, now: int) -> cas.Root:
        """Make the next root, which becomes active 30 days later.

        Raises:
            RefusedError: `authority.succession`, while the root before the one that signs has not expired, or one
                waits already: a chain has room for one further root.
            UnavailableError: `authority.unavailable`; `authority.lifetime`, when the root has expired.
        """
        current = self.roots[-1]
        if now >= current.ca.not_after:
            raise UnavailableError(Code.AUTHORITY_LIFETIME, "the root has expired")
        if current.activated_at is None:
            raise RefusedError(Code.AUTHORITY_SUCCESSION, f"root {current.generation} is prepared already")
        if current.forward is not None and current.forward.not_after > now:
            raise RefusedError(Code.AUTHORITY_SUCCESSION, f"root {current.generation - 1} has not expired")
        with self._change():
            cas.make_successor(self._settings, current, self._keys, self._ledger, now=now, random=self._random)
        self.load(now)
        return self.roots[-1]

    def activate_root(self, now: int) -> cas.Root:
        """Have the prepared root sign from now on; issuing CAs that exist go on.

        Raises:
            RefusedError: `authority.succession`, when none is prepared.
            UnavailableError: `authority.unavailable`.
        """
        following = self.prepared_root
        if following is None:
            raise RefusedError(Code.AUTHORITY_SUCCESSION, "no root is prepared")
        self._activate(following.ca.number, now)
        return self.root

    def state_of(self, one: cas.IssuingCa | cas.Root) -> str:
        """Return `prepared`, `active` or `retired`."""
        if one.activated_at is None:
            return "prepared"
        retired = one is not self.root if isinstance(one, cas.Root) else one.retired_at is not None
        return "retired" if retired else "active"

    def has_key(self, number: int) -> bool:
        """Tell whether a key is there."""
        try:
            self._keys.load(number)
        except (ProxyAttestationError, KeyError):
            return False
        return True

    def drop(self, number: int, now: int) -> None:
        """Forget an issuing CA that was revoked, and destroy its key."""
        self.load(now)
        self._keys.destroy(number)

    def _read_roots(self) -> None:
        rows = self._ledger.cas()
        if not rows or rows[0][0] != ROOT_NUMBER:
            raise ConfigurationError(Code.AUTHORITY_STATE, "the ledger has no root")
        more = self._ledger.roots()
        self.roots = load_roots(self._settings, rows[0][1], more, self._ledger.activations())

    def _rotate_when_due(self, now: int) -> None:
        active = self.active
        if self.prepared is None and (
            active is None
            or (
                now >= active.ca.not_after - _PREPARE_BEFORE_END
                # Near the end of the root a new one would not last longer, and be due at once again.
                and cas.issuing_end(self.root.ca, now) > active.ca.not_after
            )
        ):
            self._prepare(now)
        following = self.prepared
        if following is not None and (
            active is None
            or now >= following.ca.made_at + profile.ISSUING_OVERLAP
            or now >= active.ca.not_after - _ROTATE_BEFORE_END
        ):
            self._activate(following.ca.number, now)

    def _prepare(self, now: int) -> cas.IssuingCa:
        number = self._ledger.cas()[-1][0] + 1
        with self._change():
            made = cas.make_issuing(
                self._settings, self.root.ca, self._keys, self._ledger, number=number, now=now, random=self._random
            )
        self.load(now)
        return made

    def _activate(self, number: int, now: int) -> None:
        with self._change():
            self._ledger.activate(number, now)
        self.load(now)

    def _destroy(self, now: int) -> None:
        """Destroy keys that sign no more."""
        overdue = now - cas.RETIRED_KEY_LIFETIME
        for one in self.issuing:
            if one.retired_at is not None and one.retired_at <= overdue:
                self._keys.destroy(one.ca.number)
        for before, root in zip(self.roots, self.roots[1:], strict=False):
            if root.activated_at is not None and root.activated_at <= overdue:
                self._keys.destroy(before.ca.number)

    def _cross_of(self, ca: cas.Ca, now: int) -> tuple[bytes, ...]:
        """Return what leads from an issuing CA to the other root, while there are two."""
        own = next(root for root in self.roots if root.ca.name == ca.issuer)
        after = next((root for root in self.roots if root.generation == own.generation + 1), None)
        ways = (own.forward, None if after is None else after.back)
        return tuple(way.certificate for way in ways if way is not None and way.not_after > now)

    def _bundle(self, now: int) -> Bundle:
        live = [one for one in self.issuing if one.ca.not_after > now]
        roots = [root for root in self.roots if root.ca.not_after > now]
        cross = [ca for root in self.roots for ca in (root.forward, root.back) if ca is not None and ca.not_after > now]
        gone = len(self.roots) - len(roots) + self._made - len(live)
        return Bundle(
            # Each of these only rises: what was made, what became active, what has gone.
            sequence=self._made + len(self.roots) - 1 + self._activated + gone,
            roots=tuple(root.ca.certificate for root in roots),
            cross=tuple(ca.certificate for ca in cross),
            issuing=tuple(one.ca.certificate for one in live),
        )
