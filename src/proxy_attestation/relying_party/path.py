"""Path validation (RFC 5280 section 6) of exactly what a peer presented, to exactly the roots that we were given.

The walk, in order:

1. The presented chain is two certificates, leaf and issuing CA, or three with the root; nothing else, no other order.
2. Each is a certificate. A leaf with two claims extensions is refused here, because no parser may choose one.
3. `cryptography.x509.verification` builds the path at `now`: signatures, validity, CA rights, extended key usage,
   DNS name constraints, name. The store holds our roots only.
4. The path that was built is the chain that was presented, certificate by certificate.
5. The leaf's names are of kinds that the authority writes, and the name that was connected to is literally among them.

What is NOT done here, and callers must still do: the trust domain and the claims (`check.py`).
"""

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509 import verification

from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError, PeerError
from proxy_attestation.formats.bounds import CERTIFICATE_MAX, ROOTS_MAX
from proxy_attestation.formats.request import Names, is_dns_name

ID_PE_CMW: Final = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.35")
"""RFC 9999: the extension that holds the leaf's claims."""

# What `cryptography` raises for bytes that are no certificate, or for one with parts that it does not know. It warns of
# a serial number below one, which is refused here in any case, and of long names; warnings may be errors.
_PARSE_ERRORS: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    UserWarning,
)


@dataclass(frozen=True, slots=True)
class VerifiedPath:
    """A chain that was validated to one of our roots.

    Attributes:
        chain: DER as presented: leaf, issuing CA, and the root where it was presented.
        root: DER of the root that it ends in.
        names: the leaf's names.
        spki: DER of the leaf's SubjectPublicKeyInfo.
        claims_extension: the value of the leaf's extension id-pe-cmw, or None where it has none.
        not_before: of the leaf, UTC.
        not_after: of the leaf, UTC.
    """

    chain: tuple[bytes, ...]
    root: bytes
    names: Names
    spki: bytes
    claims_extension: bytes | None
    not_before: datetime
    not_after: datetime


@dataclass(frozen=True, slots=True)
class _Attempt:
    leaf: x509.Certificate
    issuing: x509.Certificate
    roots: Sequence[x509.Certificate]


def load_roots(roots: Sequence[bytes], now: datetime | None = None) -> tuple[x509.Certificate, ...]:
    """Parse roots that an operator gave us: DER, self-signed CA certificates, 1 to `ROOTS_MAX`.

    Args:
        roots: DER.
        now: the moment at which each must be valid, or None where that is judged with the chain.

    Raises:
        ConfigurationError: `configuration.malformed`.
    """
    code = Code.CONFIGURATION_MALFORMED
    if not 0 < len(roots) <= ROOTS_MAX:
        raise ConfigurationError(code, f"{len(roots)} roots, 1 to {ROOTS_MAX} were expected")
    parsed = []
    for der in roots:
        try:
            root = _parse(der)
            root.verify_directly_issued_by(root)
            authority = root.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
            signs = root.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
        except (*_PARSE_ERRORS, InvalidSignature, x509.ExtensionNotFound) as error:
            raise ConfigurationError(code, "not a self-signed CA certificate") from error
        if not authority or not signs:
            raise ConfigurationError(code, "not a CA certificate")
        if now is not None and not root.not_valid_before_utc <= now <= root.not_valid_after_utc:
            raise ConfigurationError(code, "the root is not valid now")
        parsed.append(root)
    return tuple(parsed)


def spki_of(certificate: x509.Certificate) -> bytes:
    """Return the DER of a certificate's SubjectPublicKeyInfo."""
    return certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def spki_of_presented(der: bytes) -> bytes:
    """Return the DER of the SubjectPublicKeyInfo of a certificate that somebody presented.

    Raises:
        PeerError: `peer.chain`, for what is no certificate.
    """
    try:
        return spki_of(_parse(der))
    except _PARSE_ERRORS as error:
        raise PeerError(Code.PEER_CHAIN, f"not a certificate: {error}") from error


def verify_path(
    chain: Sequence[bytes], roots: Sequence[x509.Certificate], now: datetime, *, server_name: str | None
) -> VerifiedPath:
    """Validate a presented chain.

    Args:
        chain: DER as presented, leaf first.
        roots: as `load_roots` returned them.
        now: UTC.
        server_name: the DNS name or IP address that was connected to; None for a client's certificate, which needs
            no name but the right to authenticate clients.

    Raises:
        PeerError: `peer.chain`, `peer.expired`, `peer.name`, or `peer.claims_malformed` for repeated claims.
    """
    if len(chain) not in (2, 3):
        raise PeerError(Code.PEER_CHAIN, f"{len(chain)} certificates presented; leaf and issuing CA were expected")
    certificates = [_parse_presented(der) for der in chain]
    leaf, issuing = certificates[:2]
    extensions = _leaf_extensions(leaf)
    attempt = _Attempt(leaf, issuing, roots)
    try:
        built = _build(attempt, now, server_name)
    except (verification.VerificationError, *_PARSE_ERRORS) as error:
        raise _refusal(attempt, now, server_name, error) from error
    # The builder may leave out certificates that it does not need; a chain with such is not ours.
    if len(built) != 3 or built[: len(certificates)] != certificates:
        raise PeerError(Code.PEER_CHAIN, "presented certificates are not the path, in order")
    names = _names(extensions)
    if server_name is not None and not _carries(names, server_name):
        raise PeerError(Code.PEER_NAME, f"{server_name} is not among {', '.join(names.readable())}")
    return VerifiedPath(
        chain=tuple(chain),
        root=built[2].public_bytes(Encoding.DER),
        names=names,
        spki=spki_of(leaf),
        claims_extension=_claims_extension(extensions),
        not_before=leaf.not_valid_before_utc,
        not_after=leaf.not_valid_after_utc,
    )


def _parse(der: bytes) -> x509.Certificate:
    if len(der) > CERTIFICATE_MAX:
        raise ValueError(f"{len(der)} bytes, at most {CERTIFICATE_MAX} allowed")
    certificate = x509.load_der_x509_certificate(der)
    # These are parsed on first use: what cannot be read shall be refused here, and nowhere later.
    _ = certificate.public_key(), certificate.subject, certificate.issuer
    _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    if certificate.serial_number < 1:
        raise ValueError("a serial number below one")
    return certificate


def _parse_presented(der: bytes) -> x509.Certificate:
    try:
        return _parse(der)
    except _PARSE_ERRORS as error:
        raise PeerError(Code.PEER_CHAIN, f"not a certificate: {error}") from error


def _leaf_extensions(leaf: x509.Certificate) -> x509.Extensions:
    try:
        return leaf.extensions
    except x509.DuplicateExtension as error:
        if error.oid == ID_PE_CMW:
            raise PeerError(Code.PEER_CLAIMS_MALFORMED, "more than one claims extension") from error
        raise PeerError(Code.PEER_CHAIN, f"extension {error.oid.dotted_string} twice") from error
    except _PARSE_ERRORS as error:
        raise PeerError(Code.PEER_CHAIN, f"extensions: {error}") from error


def _build(attempt: _Attempt, now: datetime, server_name: str | None) -> list[x509.Certificate]:
    policy = verification.PolicyBuilder().store(verification.Store(list(attempt.roots))).time(now.astimezone(UTC))
    if server_name is None:
        return policy.build_client_verifier().verify(attempt.leaf, [attempt.issuing]).chain
    try:
        subject: verification.Subject = x509.IPAddress(ipaddress.ip_address(server_name))
    except ValueError:
        subject = x509.DNSName(server_name)
    return policy.build_server_verifier(subject).verify(attempt.leaf, [attempt.issuing])


def _refusal(attempt: _Attempt, now: datetime, server_name: str | None, error: Exception) -> PeerError:
    """Find the code for a path that was refused: what would it have taken for it to be accepted?"""
    issuer = attempt.issuing.issuer
    candidates = [attempt.leaf, attempt.issuing, *(root for root in attempt.roots if root.subject == issuer)]
    current = all(c.not_valid_before_utc <= now <= c.not_valid_after_utc for c in candidates)
    moment = now if current else max(c.not_valid_before_utc for c in candidates)
    try:
        _build(attempt, moment, None)
    except (verification.VerificationError, *_PARSE_ERRORS):
        return PeerError(Code.PEER_CHAIN, str(error))
    if not current:
        return PeerError(Code.PEER_EXPIRED, f"not valid at {now:%Y-%m-%dT%H:%M:%SZ}")
    if server_name is not None and not _carries(_names(attempt.leaf.extensions), server_name):
        return PeerError(Code.PEER_NAME, f"the certificate is not for {server_name}")
    return PeerError(Code.PEER_CHAIN, str(error))


def _names(extensions: x509.Extensions) -> Names:
    try:
        found = extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound as error:
        raise PeerError(Code.PEER_CHAIN, "a leaf without names") from error
    dns: list[str] = []
    ip: list[bytes] = []
    uri: list[str] = []
    for name in found:
        if isinstance(name, x509.DNSName) and is_dns_name(name.value):
            dns.append(name.value)
        elif isinstance(name, x509.UniformResourceIdentifier):
            uri.append(name.value)
        elif isinstance(name, x509.IPAddress) and isinstance(name.value, ipaddress.IPv4Address | ipaddress.IPv6Address):
            ip.append(name.value.packed)
        else:
            raise PeerError(Code.PEER_CHAIN, "a name that the authority never writes")
    return Names(tuple(sorted(dns)), tuple(sorted(ip)), tuple(sorted(uri)))


def _carries(names: Names, server_name: str) -> bool:
    try:
        address = ipaddress.ip_address(server_name)
    except ValueError:
        return server_name.lower() in names.dns
    return "%" not in server_name and address.packed in names.ip


def _claims_extension(extensions: x509.Extensions) -> bytes | None:
    try:
        value = extensions.get_extension_for_oid(ID_PE_CMW).value
    except x509.ExtensionNotFound:
        return None
    return value.public_bytes()
