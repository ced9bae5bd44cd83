"""Path validation (RFC 5280 section 6) of exactly what a peer presented, to exactly the roots that we were given.

The walk, in order:

1. The presented chain is leaf and issuing CA, then perhaps the root certified by another root, and perhaps a root: two
   to four certificates, no other order.
2. Each is a certificate. A leaf with two claims extensions is refused here, because no parser may choose one.
3. `cryptography.x509.verification` builds the path at `now`: signatures, validity, CA rights, extended key usage,
   DNS name constraints, name. The store holds our roots only.
4. The path that was built is the chain that was presented, certificate by certificate. What is left over of the chain
   is the root itself, or certifies the root's own key: while one root follows another, a chain serves clients of both.
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

_CHAIN_MIN: Final = 2
_CHAIN_MAX: Final = 4

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
    above: Sequence[x509.Certificate]
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
    if not _CHAIN_MIN <= len(chain) <= _CHAIN_MAX:
        raise PeerError(Code.PEER_CHAIN, f"{len(chain)} certificates presented; leaf and issuing CA were expected")
    certificates = [_parse_presented(der) for der in chain]
    leaf = certificates[0]
    extensions = _leaf_extensions(leaf)
    attempt = _Attempt(leaf, certificates[1:], roots)
    try:
        built = _build(attempt, now, server_name)
    except (verification.VerificationError, *_PARSE_ERRORS) as error:
        raise _refusal(attempt, now, server_name, error) from error
    # The builder may leave out certificates that it does not need; a chain with others than the root's is not ours.
    *below, root = built
    further = certificates[len(below) :]
    in_order = len(below) < _CHAIN_MAX and certificates[: len(below)] == below and len(set(further)) == len(further)
    if not in_order or not all(_certifies(each, root) for each in further):
        raise PeerError(Code.PEER_CHAIN, "presented certificates are not the path, in order")
    names = _names(extensions)
    if server_name is not None and not _carries(names, server_name):
        raise PeerError(Code.PEER_NAME, f"{server_name} is not among {', '.join(names.readable())}")
    return VerifiedPath(
        chain=tuple(chain),
        root=root.public_bytes(Encoding.DER),
        names=names,
        spki=spki_of(leaf),
        claims_extension=_claims_extension(extensions),
        not_before=leaf.not_valid_before_utc,
        not_after=leaf.not_valid_after_utc,
    )


def verify_issuing(certificates: Sequence[bytes], roots: Sequence[x509.Certificate], now: datetime) -> x509.Certificate:
    """Validate an issuing CA's certificate, for what it signs besides leaves.

    Args:
        certificates: DER: the issuing CA's, and perhaps that of its root as another root certified it.
        roots: as `load_roots` returned them.
        now: UTC.

    Returns:
        The first of the certificates.

    Raises:
        PeerError: `peer.chain`, `peer.expired`.
    """
    issuing, *above = [_parse_presented(der) for der in certificates]
    below = issuing
    try:
        for length, issuer in enumerate((*above, None)):
            _require_ca(below, length, now)
            for root in roots:
                if root.subject == below.issuer:
                    below.verify_directly_issued_by(root)
                    _require_ca(root, length + 1, now)
                    return issuing
            if issuer is None:
                break
            below.verify_directly_issued_by(issuer)
            below = issuer
    except (*_PARSE_ERRORS, InvalidSignature, x509.ExtensionNotFound) as error:
        raise PeerError(Code.PEER_CHAIN, f"not an issuing CA under our roots: {error}") from error
    raise PeerError(Code.PEER_CHAIN, "not an issuing CA under our roots")


def verify_cross(der: bytes, root: x509.Certificate) -> x509.Certificate:
    """Check that a root certified another one, for as long as it lives itself; return that certificate.

    Raises:
        PeerError: `peer.chain`.
    """
    certificate = _parse_presented(der)
    try:
        certificate.verify_directly_issued_by(root)
        _require_ca(certificate, 1, certificate.not_valid_before_utc)
    except (*_PARSE_ERRORS, InvalidSignature, x509.ExtensionNotFound) as error:
        raise PeerError(Code.PEER_CHAIN, f"not certified by our root: {error}") from error
    if certificate.not_valid_after_utc > root.not_valid_after_utc:
        raise PeerError(Code.PEER_CHAIN, "certified for longer than our root lives")
    return certificate


def _require_ca(certificate: x509.Certificate, length: int, now: datetime) -> None:
    """Check that a certificate may certify with `length` CAs below it: exactly so many in one of an issuing CA."""
    if not certificate.not_valid_before_utc <= now <= certificate.not_valid_after_utc:
        raise PeerError(Code.PEER_EXPIRED, f"not valid at {now:%Y-%m-%dT%H:%M:%SZ}")
    basic = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    room = 0 if basic.path_length is None else basic.path_length
    if not basic.ca or not usage.key_cert_sign or (room != 0 if length == 0 else room < length):
        raise PeerError(Code.PEER_CHAIN, "not an issuing CA")


def _certifies(certificate: x509.Certificate, root: x509.Certificate) -> bool:
    """Tell whether a certificate is the root, or another root's for the same name and key."""
    if certificate.issuer == certificate.subject:
        return certificate == root
    return certificate.subject == root.subject and spki_of(certificate) == spki_of(root)


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
        return policy.build_client_verifier().verify(attempt.leaf, list(attempt.above)).chain
    try:
        subject: verification.Subject = x509.IPAddress(ipaddress.ip_address(server_name))
    except ValueError:
        subject = x509.DNSName(server_name)
    return policy.build_server_verifier(subject).verify(attempt.leaf, list(attempt.above))


def _refusal(attempt: _Attempt, now: datetime, server_name: str | None, error: Exception) -> PeerError:
    """Find the code for a path that was refused: what would it have taken for it to be accepted?"""
    candidates = [attempt.leaf, attempt.above[0]]
    # The root that the issuing CA names; or the root that it names as another root certified it, and that one.
    for above in attempt.above:
        roots = [root for root in attempt.roots if root.subject == above.issuer]
        if roots:
            candidates += [*attempt.above[1 : attempt.above.index(above) + 1], *roots]
            break
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
