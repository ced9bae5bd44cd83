"""The authority's CA certificates: how they are made and recorded. `ca_life.py` says when.

Each certificate is an event in the ledger, in the same transaction. `cas_loaded.py` reads them again.
"""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from cryptography import x509

from proxy_attestation.authority import profile
from proxy_attestation.authority.keys import ROOT_NUMBER, KeyStore, Signer
from proxy_attestation.authority.ledger import Ledger, Row
from proxy_attestation.authority.settings import Settings
from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError
from proxy_attestation.formats.csr import spki_of
from proxy_attestation.formats.ledger_entry import EntryKind, LedgerEntry, encode_entry

RETIRED_SIGNING: Final = 600
"""Seconds for which a retired issuing CA signs; challenges that name it live for 120."""
RETIRED_KEY_LIFETIME: Final = 3600
"""Seconds after which its key is destroyed; so is that of a root whose successor signs."""

Random: TypeAlias = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class Ca:
    """A CA certificate and what is needed of it.

    Attributes:
        number: of its key: from 1 the issuing CAs, 0 and below the roots.
        certificate: DER.
        name: DER of its subject.
        issuer: DER of its issuer's name.
        spki: DER of its key.
        ca_id: SHA-256 of that, 32 bytes.
        key_id: its key identifier, 20 bytes.
        not_before: seconds since the epoch.
        not_after: seconds since the epoch.
    """

    number: int
    certificate: bytes
    name: bytes
    issuer: bytes
    spki: bytes
    ca_id: bytes
    key_id: bytes
    not_before: int
    not_after: int

    @property
    def made_at(self) -> int:
        """When it was made, seconds since the epoch."""
        return self.not_before + profile.BACKDATE


@dataclass(frozen=True, slots=True)
class Root:
    """A root.

    Attributes:
        generation: 1, 2, ...
        ca: certified by itself.
        forward: its key certified by the root before; None in the first.
        back: the key of the root before certified by it; None in the first.
        activated_at: from when it signs issuing CAs, seconds since the epoch; None while it is only prepared.
    """

    generation: int
    ca: Ca
    forward: Ca | None = None
    back: Ca | None = None
    activated_at: int | None = None


@dataclass(frozen=True, slots=True)
class IssuingCa:
    """An issuing CA.

    Attributes:
        ca: its certificate.
        signer: its key, or None once that signs no more.
        activated_at: from when it signs, seconds since the epoch; None while it is only prepared.
        retired_at: when the next one took over; None before.
        above: DER of what a chain has above the leaf: its certificate, and the one that leads to the other root while
            there are two.
    """

    ca: Ca
    signer: Signer | None
    activated_at: int | None = None
    retired_at: int | None = None
    above: tuple[bytes, ...] = ()

    def signs(self, now: int) -> bool:
        """Tell whether it may sign for a challenge that names it."""
        begun = self.signer is not None and self.activated_at is not None
        return (
            begun and now < self.ca.not_after and (self.retired_at is None or now < self.retired_at + RETIRED_SIGNING)
        )


def root_number(generation: int) -> int:
    """Return the number of a root's key: 0 for the first, then -1, -2, ..."""
    return ROOT_NUMBER + 1 - generation


def read_ca(number: int, certificate: bytes) -> Ca:
    """Read a CA certificate of ours.

    Raises:
        ConfigurationError: `authority.state`, when it is none.
    """
    try:
        parsed = x509.load_der_x509_certificate(certificate)
        key_id = parsed.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value.digest
        key = parsed.public_key()
    except (ValueError, x509.ExtensionNotFound, x509.DuplicateExtension) as error:
        raise ConfigurationError(Code.AUTHORITY_STATE, f"CA certificate {number}: not one of ours") from error
    spki = spki_of(key)  # type: ignore[arg-type] # the authority's keys are P-256; others have the same method
    begin, end = (int(moment.timestamp()) for moment in (parsed.not_valid_before_utc, parsed.not_valid_after_utc))
    name, issuer = parsed.subject.public_bytes(), parsed.issuer.public_bytes()
    return Ca(number, certificate, name, issuer, spki, _sha256(spki), key_id, begin, end)


def begin(settings: Settings, keys: KeyStore, ledger: Ledger, now: int, random: Random = os.urandom) -> Settings:
    """Make the keys and certificates of a new authority in an empty ledger.

    Args:
        settings: what it shall be; the root's digest is not known yet and does not count.
        keys: without any.
        ledger: empty.
        now: seconds since the epoch.
        random: gives that many random bytes.

    Returns:
        The settings with the root's digest.

    Raises:
        UnavailableError: `authority.unavailable`.
    """
    signer = keys.make(ROOT_NUMBER)
    settings = replace(settings, root_spki_sha256=_sha256(signer.spki))
    ledger.sign_with(settings.ledger_origin, keys.make_log())
    with ledger.transaction():
        root = make_root(settings, signer, ledger, now, random)
        made = make_issuing(settings, root, keys, ledger, number=1, now=now, random=random)
        ledger.activate(made.ca.number, now)
    return settings


def make_root(settings: Settings, signer: Signer, ledger: Ledger, now: int, random: Random) -> Ca:
    """Sign the first root's certificate with its new key and record it, inside a transaction.

    Raises:
        UnavailableError: `authority.unavailable`, when the ledger cannot be written.
    """
    index, root = certify_root(settings, ledger, signer, None, 1, signer, now, random)
    ledger.add_ca(ROOT_NUMBER, index, root.certificate)
    return root


def make_successor(
    settings: Settings, before: Root, keys: KeyStore, ledger: Ledger, *, now: int, random: Random
) -> Root:
    """Make the next root's key, and three certificates: of itself, and both ways; record them, inside a transaction.

    Raises:
        UnavailableError: `authority.unavailable`, when key or ledger cannot be written.
        ConfigurationError: `authority.state`, when the key of the root before cannot be read.
    """
    generation = before.generation + 1
    old, new = keys.load(before.ca.number), keys.make(root_number(generation))
    _, ca = certify_root(settings, ledger, new, None, generation, new, now, random)
    _, forward = certify_root(settings, ledger, old, before.ca, generation, new, now, random)
    _, back = certify_root(settings, ledger, new, ca, before.generation, old, now, random, until=before.ca.not_after)
    ledger.add_root(generation, ca.certificate, forward.certificate, back.certificate)
    return Root(generation, ca, forward, back)


def certify_root(  # noqa: PLR0917 - who certifies, what is certified, and when
    settings: Settings,
    ledger: Ledger,
    signer: Signer,
    issuer: Ca | None,
    generation: int,
    subject: Signer,
    now: int,
    random: Random,
    until: int | None = None,
) -> tuple[int, Ca]:
    """Certify a root's key: by itself, or by another root, never for longer than that lives. Inside a transaction.

    Args:
        settings: whose names and suffixes it has.
        ledger: where its event goes.
        signer: the issuer's key.
        issuer: the other root; None for itself.
        generation: of the root that is certified.
        subject: the key that is certified.
        now: seconds since the epoch.
        random: gives that many random bytes.
        until: the end of what is certified, where it has one already.

    Returns:
        The index of the event, and the certificate.
    """
    name, begins = settings.root_name(generation), now - profile.BACKDATE
    ends = [begins + profile.ROOT_LIFETIME]
    ends += [until] if until is not None else []
    ends += [issuer.not_after] if issuer is not None else []
    return _record(
        ledger,
        root_number(generation),
        signer,
        issuer=name if issuer is None else issuer.name,
        subject=name,
        validity=(begins, min(ends)),
        spki=subject.spki,
        path_length=profile.ROOT_PATH_LENGTH if issuer is None else profile.CROSS_PATH_LENGTH,
        authority_key_id=None if issuer is None else issuer.key_id,
        permitted_dns=settings.dns,
        serial=profile.new_serial(random(profile.SERIAL_BYTES)),
    )


def make_issuing(
    settings: Settings, root: Ca, keys: KeyStore, ledger: Ledger, *, number: int, now: int, random: Random
) -> IssuingCa:
    """Make an issuing CA's key, sign its certificate and record it, inside a transaction.

    Raises:
        UnavailableError: `authority.unavailable`, when key or ledger cannot be written.
        ConfigurationError: `authority.state`, when the root's key cannot be read.
    """
    signer, begins = keys.make(number), max(now - profile.BACKDATE, root.not_before)
    index, ca = _record(
        ledger,
        number,
        keys.load(root.number),
        issuer=root.name,
        subject=settings.issuing_name(number),
        validity=(begins, issuing_end(root, now)),
        spki=signer.spki,
        path_length=0,
        authority_key_id=root.key_id,
        permitted_dns=(),
        serial=profile.new_serial(random(profile.SERIAL_BYTES)),
    )
    ledger.add_ca(number, index, ca.certificate)
    return IssuingCa(ca, signer)


def issuing_end(root: Ca, now: int) -> int:
    """Return when an issuing CA would end that `root` certified now, seconds since the epoch."""
    return min(max(now - profile.BACKDATE, root.not_before) + profile.ISSUING_LIFETIME, root.not_after)


def _record(ledger: Ledger, number: int, signer: Signer, **built: Any) -> tuple[int, Ca]:
    """Sign the certificate that `profile.ca_tbs` builds of these fields, and append its event; return its index too."""
    tbs, (not_before, not_after) = profile.ca_tbs(**built), built["validity"]
    entry = LedgerEntry(
        kind=EntryKind.CA_EVENT,
        issuer_spki_sha256=_sha256(signer.spki),
        serial=built["serial"],
        tbs_sha256=_sha256(tbs),
        not_before=not_before,
        not_after=not_after,
        spki_sha256=_sha256(built["spki"]),
    )
    row = Row(EntryKind.CA_EVENT, encode_entry(entry), tbs, not_before, not_after, entry.spki_sha256)
    certificate = profile.assemble(tbs, signer.sign(tbs))
    return ledger.append([row]), read_ca(number, certificate)


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
