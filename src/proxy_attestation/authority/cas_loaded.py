"""The authority's CA certificates as they are read again out of its ledger, with the keys that may still sign."""

from collections.abc import Sequence

from cryptography import x509
from cryptography.exceptions import InvalidSignature

from proxy_attestation.authority.cas import RETIRED_SIGNING, Ca, IssuingCa, Root, read_ca, root_number
from proxy_attestation.authority.keys import ROOT_NUMBER, KeyStore
from proxy_attestation.authority.settings import Settings
from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError


def load_roots(
    settings: Settings, first: bytes, more: list[tuple[int, bytes, bytes, bytes]], activations: dict[int, int]
) -> tuple[Root, ...]:
    """Read the roots, the first one first, and check that each follows from the one before.

    Args:
        settings: which bind the first.
        first: DER.
        more: `Ledger.roots`.
        activations: `Ledger.activations`.

    Raises:
        ConfigurationError: `authority.state`.
    """
    ca = read_ca(ROOT_NUMBER, first)
    check_issued(ca, ca)
    if ca.ca_id != settings.root_spki_sha256 or ca.name != settings.root_name(1):
        raise ConfigurationError(Code.AUTHORITY_STATE, "authority.toml does not describe the root of the ledger")
    roots = [Root(1, ca, activated_at=ca.made_at)]
    for generation, certificate, forward_der, back_der in more:
        before, number = roots[-1], root_number(generation)
        own, forward = read_ca(number, certificate), read_ca(number, forward_der)
        back = read_ca(before.ca.number, back_der)
        for certified, issuer in ((own, own), (forward, before.ca), (back, own)):
            check_issued(certified, issuer)
        keys_fit = forward.spki == own.spki and back.spki == before.ca.spki
        if generation != before.generation + 1 or own.name != settings.root_name(generation) or not keys_fit:
            raise ConfigurationError(Code.AUTHORITY_STATE, f"root {generation} does not follow from the one before")
        roots.append(Root(generation, own, forward, back, activations.get(number)))
    return tuple(roots)


def load_issuing(
    rows: list[tuple[int, bytes]], roots: Sequence[Root], activations: dict[int, int], keys: KeyStore, now: int
) -> tuple[IssuingCa, ...]:
    """Return the issuing CAs that have not expired, the newest first, with the keys that may still sign.

    Args:
        rows: `Ledger.cas`, without the root.
        roots: one of which must have signed each.
        activations: `Ledger.activations`.
        keys: where their keys are.
        now: seconds since the epoch.

    Raises:
        ConfigurationError: `authority.state`, when a certificate is not a root's or its key is missing or another.
    """
    found: list[IssuingCa] = []
    retired_at: int | None = None
    for number, certificate in reversed(rows):
        ca, activated_at = read_ca(number, certificate), activations.get(number)
        check_issued(ca, next((root.ca for root in roots if root.ca.name == ca.issuer), roots[0].ca))
        signing = retired_at is None or now < retired_at + RETIRED_SIGNING
        if ca.not_after > now:
            signer = keys.load(number) if signing else None
            if signer is not None and signer.spki != ca.spki:
                raise ConfigurationError(
                    Code.AUTHORITY_STATE, f"the key of issuing CA {number} is not its certificate's"
                )
            found.append(IssuingCa(ca, signer, activated_at, retired_at))
        retired_at = retired_at if activated_at is None else activated_at
    return tuple(found)


def check_issued(ca: Ca, issuer: Ca) -> None:
    """Check that a certificate is signed by `issuer`, or by itself.

    Raises:
        ConfigurationError: `authority.state`.
    """
    try:
        certificate = x509.load_der_x509_certificate(ca.certificate)
        certificate.verify_directly_issued_by(x509.load_der_x509_certificate(issuer.certificate))
    except (ValueError, TypeError, InvalidSignature) as error:
        raise ConfigurationError(Code.AUTHORITY_STATE, f"CA certificate {ca.number}: not signed by its root") from error
