"""What a proxy says of itself in `GetRootCertificate`, read and held against a pin."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from cryptography import x509

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError, PeerError, ProxyAttestationError
from proxy_attestation.formats.bounds import CERTIFICATE_MAX, ROOTS_MAX
from proxy_attestation.relying_party.expectation import is_trust_domain
from proxy_attestation.relying_party.path import load_roots, spki_of, spki_of_presented, verify_cross
from proxy_attestation.v1 import proxy_attestation_pb2 as v1

_DANGERS_MAX: Final = 1024


@dataclass(frozen=True, slots=True)
class RootInfo:
    """What a proxy says of itself, over a connection that its pinned root authenticates.

    Attributes:
        root: DER of the root with the pin: the only one to trust.
        pin: SHA-256 of its SPKI, 32 bytes.
        issuing: DER of every live issuing CA, the active one first.
        sequence: the root bundle's number.
        trust_domain: the proxy's.
        policy_digest: 32 bytes.
        ledger_key: the C2SP vkey of its ledger, in UTF-8; not checked.
        key_origin: `file`, `pkcs11` or `tee`.
        simulated: whether the proxy takes simulated evidence.
        dangers: every dangerous switch of its policy, readable.
        deployment_statement: empty where there is none.
        evidence: of the proxy itself; empty where there is none.
        successors: DER of the roots whose keys the pinned root has certified: they may be trusted as it is.
    """

    root: bytes
    pin: bytes
    issuing: tuple[bytes, ...]
    sequence: int
    trust_domain: str
    policy_digest: bytes
    ledger_key: bytes
    key_origin: str
    simulated: bool
    dangers: tuple[str, ...]
    deployment_statement: bytes
    evidence: bytes
    successors: tuple[bytes, ...] = ()


def read_root_info(answer: v1.GetRootCertificateResponse, pin: bytes | None) -> RootInfo:
    """Read a proxy's answer, and hold its root against a pin.

    Args:
        answer: as it came.
        pin: SHA-256 of the root's SPKI, 32 bytes; None where evidence will tell whether its first root is the proxy's.

    Raises:
        PeerError: `peer.root_pin`.
        FormatError: `proxy.protocol`.
    """
    roots = tuple(answer.bundle.roots)
    issuing = tuple(answer.bundle.issuing)
    if not 0 < len(roots) <= ROOTS_MAX or not 0 < len(issuing) <= ROOTS_MAX or len(answer.dangers) > _DANGERS_MAX:
        raise FormatError(Code.PROXY_PROTOCOL, "no root or issuing CA, or too many")
    if any(len(der) > CERTIFICATE_MAX for der in (*roots, *issuing)):
        raise FormatError(Code.PROXY_PROTOCOL, "a certificate that is too large")
    if not is_trust_domain(answer.trust_domain) or len(answer.policy_digest) != 32:
        raise FormatError(Code.PROXY_PROTOCOL, "no trust domain, or no policy digest")
    cross = tuple(answer.bundle.cross)
    if len(cross) > ROOTS_MAX or any(len(der) > CERTIFICATE_MAX for der in cross):
        raise FormatError(Code.PROXY_PROTOCOL, "too many roots certified by each other, or one that is too large")
    if pin is None:
        pin = hashlib.sha256(spki_of_presented(roots[0])).digest()
    root = _pinned(roots, pin)
    return RootInfo(
        root=root,
        pin=pin,
        issuing=issuing,
        sequence=answer.bundle.sequence,
        trust_domain=answer.trust_domain,
        policy_digest=answer.policy_digest,
        ledger_key=answer.ledger_key,
        key_origin=answer.key_origin,
        simulated=answer.simulated,
        dangers=tuple(answer.dangers),
        deployment_statement=answer.deployment_statement,
        evidence=answer.evidence,
        successors=successors_of(root, roots, cross),
    )


def _pinned(roots: tuple[bytes, ...], pin: bytes) -> bytes:
    try:
        parsed = load_roots(roots)
    except ProxyAttestationError as error:
        raise FormatError(Code.PROXY_PROTOCOL, f"roots: {error.detail}") from error
    found = [der for der, root in zip(roots, parsed, strict=True) if hashlib.sha256(spki_of(root)).digest() == pin]
    if len(found) != 1:
        raise PeerError(Code.PEER_ROOT_PIN, f"{len(found)} of {len(roots)} roots have the pin {pin.hex()}")
    return found[0]


def successors_of(root: bytes, roots: Sequence[bytes], cross: Sequence[bytes]) -> tuple[bytes, ...]:
    """Return the roots that follow another one by its own signature.

    Args:
        root: DER of the one that is trusted.
        roots: DER of those that are offered, which `load_roots` takes.
        cross: DER of roots certified by each other; what is none of them counts for nothing.
    """
    (trusted,) = load_roots((root,))
    return tuple(der for der in roots if any(_follows(each, der, trusted) for each in cross))


def _follows(cross: bytes, root: bytes, trusted: x509.Certificate) -> bool:
    (offered,) = load_roots((root,))
    try:
        # It has the trusted root's key as its own issuing CAs would have, and the offered root's.
        certificate = verify_cross(cross, trusted)
    except PeerError:
        return False
    # The one before is certified by the one after as well, for whoever trusts that alone.
    later = offered.not_valid_before_utc > trusted.not_valid_before_utc
    return later and certificate.subject == offered.subject and spki_of(certificate) == spki_of(offered)
