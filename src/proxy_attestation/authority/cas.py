"""The authority's CA certificates: the root, and issuing CAs that follow one another.

An issuing CA is active until the next one takes over at two thirds of its life, then retired: for ten minutes it signs
what challenges still name it for, after an hour its key is destroyed, and its certificate stays in the bundle until it
expires. Each certificate is an event in the ledger, in the same transaction.
"""

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Final, TypeAlias

from cryptography import x509
from cryptography.exceptions import InvalidSignature

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
"""Seconds after which its key is destroyed."""

Random: TypeAlias = Callable[[int], bytes]


@dataclass(frozen=True, slots=True)
class Ca:
    """A CA certificate and what is needed of it.

    Attributes:
        number: 0 the root, from 1 the issuing CAs.
        certificate: DER.
        name: DER of its subject.
        spki: DER of its key.
        ca_id: SHA-256 of that, 32 bytes.
        key_id: its key identifier, 20 bytes.
        not_before: seconds since the epoch.
        not_after: seconds since the epoch.
    """

    number: int
    certificate: bytes
    name: bytes
    spki: bytes
    ca_id: bytes
    key_id: bytes
    not_before: int
    not_after: int


@dataclass(frozen=True, slots=True)
class IssuingCa:
    """An issuing CA with its key, or without once that is destroyed."""

    ca: Ca
    signer: Signer | None


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
    return Ca(number, certificate, parsed.subject.public_bytes(), spki, _sha256(spki), key_id, begin, end)


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
    keys.make_log()
    with ledger.transaction():
        root = make_root(settings, keys, ledger, now, random)
        make_issuing(settings, root, keys, ledger, number=1, now=now, random=random)
    return replace(settings, root_spki_sha256=root.ca_id)


def make_root(settings: Settings, keys: KeyStore, ledger: Ledger, now: int, random: Random) -> Ca:
    """Make the root's key, sign its certificate and record it, inside a transaction.

    Raises:
        UnavailableError: `authority.unavailable`, when key or ledger cannot be written.
    """
    signer, name, begin = keys.make(ROOT_NUMBER), settings.root_name, now - profile.BACKDATE
    return _record(
        ledger,
        ROOT_NUMBER,
        signer,
        issuer=name,
        subject=name,
        validity=(begin, begin + profile.ROOT_LIFETIME),
        spki=signer.spki,
        path_length=profile.ROOT_PATH_LENGTH,
        authority_key_id=None,
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
    signer, begin = keys.make(number), max(now - profile.BACKDATE, root.not_before)
    ca = _record(
        ledger,
        number,
        keys.load(ROOT_NUMBER),
        issuer=root.name,
        subject=settings.issuing_name(number),
        validity=(begin, min(begin + profile.ISSUING_LIFETIME, root.not_after)),
        spki=signer.spki,
        path_length=0,
        authority_key_id=root.key_id,
        permitted_dns=(),
        serial=profile.new_serial(random(profile.SERIAL_BYTES)),
    )
    return IssuingCa(ca, signer)


def load_issuing(rows: list[tuple[int, bytes]], root: Ca, keys: KeyStore, now: int) -> tuple[IssuingCa, ...]:
    """Return the issuing CAs that have not expired, the newest first, with the keys that may still sign.

    Args:
        rows: `Ledger.cas`, without the root.
        root: which must have signed each.
        keys: where their keys are.
        now: seconds since the epoch.

    Raises:
        ConfigurationError: `authority.state`, when a certificate is not the root's or its key is missing or another.
    """
    found: list[IssuingCa] = []
    successor: Ca | None = None
    for number, certificate in reversed(rows):
        ca = read_ca(number, certificate)
        check_issued(ca, root)
        signing = successor is None or now < retired_at(successor) + RETIRED_SIGNING
        if ca.not_after > now:
            signer = keys.load(number) if signing else None
            if signer is not None and signer.spki != ca.spki:
                raise ConfigurationError(
                    Code.AUTHORITY_STATE, f"the key of issuing CA {number} is not its certificate's"
                )
            found.append(IssuingCa(ca, signer))
        successor = ca
    return tuple(found)


def retired_at(successor: Ca) -> int:
    """Return when an issuing CA was retired, given the CA that followed it; seconds since the epoch."""
    return successor.not_before + profile.BACKDATE


def check_issued(ca: Ca, issuer: Ca) -> None:
    """Check that a certificate is signed by `issuer`, or by itself.

    Raises:
        ConfigurationError: `authority.state`.
    """
    try:
        certificate = x509.load_der_x509_certificate(ca.certificate)
        certificate.verify_directly_issued_by(x509.load_der_x509_certificate(issuer.certificate))
    except (ValueError, TypeError, InvalidSignature) as error:
        raise ConfigurationError(Code.AUTHORITY_STATE, f"CA certificate {ca.number}: not signed by the root") from error


def _record(ledger: Ledger, number: int, signer: Signer, **built: Any) -> Ca:
    """Sign the certificate that `profile.ca_tbs` builds of these fields, and append its event."""
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
    ledger.add_ca(number, ledger.append([row]), certificate)
    return read_ca(number, certificate)


def _sha256(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
