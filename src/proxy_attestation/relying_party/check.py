"""The check of a peer, pure: presented chain, pinned roots, expectation and time in; a `Peer` or a `PeerError` out.

The walk of `check_chain`, in order:

1. Roots: only those that the expectation's pin allows.
2. Path: `path.verify_path`.
3. Trust domain: exactly one URI name, `spiffe://<trust domain>/<workload>`, never one of the proxy's own.
4. Claims: exactly one extension, known profile, about this key, valid no longer than the leaf, and now.
5. Expectation: every mismatch at once.

A proxy's own certificate takes steps 2 and 3 of `check_proxy_chain` and carries no claims.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography import x509

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError, PeerError
from proxy_attestation.formats.ear import LeafClaims, decode_extension
from proxy_attestation.formats.request import Names, is_workload_name
from proxy_attestation.relying_party.compare import compare
from proxy_attestation.relying_party.expectation import Expectation
from proxy_attestation.relying_party.path import VerifiedPath, load_roots, spki_of, verify_path

RESERVED: Final = "proxy-attestation"
"""The first path segment of SPIFFE IDs that only the proxy itself may hold."""
CLOCK_SKEW: Final = 60
"""Seconds that the proxy's clock may be ahead of ours: as much as it dates notBefore back."""


@dataclass(frozen=True, slots=True)
class Peer:
    """An attested peer that passed the whole check.

    Attributes:
        chain: DER as presented: leaf, issuing CA, and the root where it was presented.
        root: DER of the root that the chain ends in.
        names: the leaf's names.
        spiffe_id: the one URI name.
        workload: its path: the policy entry under which the proxy certified the leaf.
        not_before: of the leaf, UTC.
        not_after: of the leaf, UTC.
        claims: what the proxy vouches for.
    """

    chain: tuple[bytes, ...]
    root: bytes
    names: Names
    spiffe_id: str
    workload: str
    not_before: datetime
    not_after: datetime
    claims: LeafClaims


@dataclass(frozen=True, slots=True)
class ProxyPeer:
    """A proxy that showed a certificate of its own authority for its reserved SPIFFE ID.

    Attributes:
        chain: DER as presented.
        root: DER of the root that the chain ends in.
        names: the leaf's names.
        spiffe_id: `spiffe://<trust domain>/proxy-attestation/server`.
        not_before: of the leaf, UTC.
        not_after: of the leaf, UTC.
    """

    chain: tuple[bytes, ...]
    root: bytes
    names: Names
    spiffe_id: str
    not_before: datetime
    not_after: datetime


def check_chain(
    chain: Sequence[bytes],
    roots: Sequence[bytes],
    expectation: Expectation,
    now: datetime,
    *,
    server_name: str | None,
) -> Peer:
    """Check a peer's chain and claims.

    Args:
        chain: DER as presented, leaf first: leaf, issuing CA, and perhaps the root.
        roots: DER of the roots that we trust.
        expectation: what the peer must be.
        now: UTC.
        server_name: the DNS name or IP address that was connected to; None where the peer is a client.

    Raises:
        PeerError: `peer.root_pin`, `peer.chain`, `peer.expired`, `peer.name`, `peer.trust_domain`,
            `peer.claims_missing`, `peer.claims_malformed`, `peer.claims_key`, or `peer.claims_mismatch` with every
            mismatch.
        ConfigurationError: `configuration.malformed`, for roots that are none.
    """
    return check_loaded_chain(chain, load_roots(roots), expectation, now, server_name=server_name)


def check_loaded_chain(
    chain: Sequence[bytes],
    roots: Sequence[x509.Certificate],
    expectation: Expectation,
    now: datetime,
    *,
    server_name: str | None,
) -> Peer:
    """Do what `check_chain` does, with roots that `path.load_roots` has parsed already.

    Raises:
        PeerError: as `check_chain`.
    """
    # 1. Roots.
    pinned = pinned_roots(roots, expectation)
    if not pinned and expectation.root_pin is not None:
        raise PeerError(Code.PEER_ROOT_PIN, f"no root with the pin {expectation.root_pin.hex()}")
    # 2. Path.
    path = verify_path(chain, pinned, now, server_name=server_name)
    # 3. Trust domain.
    spiffe_id, segment = _spiffe(path.names, expectation.trust_domain)
    if not is_workload_name(segment) or segment == RESERVED:
        raise PeerError(Code.PEER_TRUST_DOMAIN, f"{spiffe_id} is not the name of a workload")
    # 4. Claims.
    claims = _claims(path, now)
    # 5. Expectation.
    mismatches = compare(expectation, claims, segment, path.names)
    if mismatches:
        lines = "; ".join(f"{m.code} {m.field}: expected {m.expected}, found {m.actual}" for m in mismatches)
        raise PeerError(Code.PEER_CLAIMS_MISMATCH, lines, mismatches)
    return Peer(path.chain, path.root, path.names, spiffe_id, segment, path.not_before, path.not_after, claims)


def pinned_roots(roots: Sequence[x509.Certificate], expectation: Expectation) -> Sequence[x509.Certificate]:
    """Return the roots that an expectation's pin allows: all, where it has none."""
    pin = expectation.root_pin
    return [root for root in roots if pin is None or hashlib.sha256(spki_of(root)).digest() == pin]


def check_proxy_chain(
    chain: Sequence[bytes],
    roots: Sequence[bytes],
    trust_domain: str,
    now: datetime,
    *,
    server_name: str,
) -> ProxyPeer:
    """Check that a peer is the proxy of this trust domain, under its own root.

    Args:
        chain: DER as presented, leaf first.
        roots: DER of the roots that we trust.
        trust_domain: of the proxy.
        now: UTC.
        server_name: the DNS name or IP address that was connected to.

    Raises:
        PeerError: `peer.chain`, `peer.expired`, `peer.name`, `peer.trust_domain`; `peer.claims_malformed` where the
            proxy's own certificate carries claims.
        ConfigurationError: `configuration.malformed`, for roots that are none.
    """
    return check_loaded_proxy_chain(chain, load_roots(roots), trust_domain, now, server_name=server_name)


def check_loaded_proxy_chain(
    chain: Sequence[bytes],
    roots: Sequence[x509.Certificate],
    trust_domain: str,
    now: datetime,
    *,
    server_name: str,
) -> ProxyPeer:
    """Do what `check_proxy_chain` does, with roots that `path.load_roots` has parsed already.

    Raises:
        PeerError: as `check_proxy_chain`.
    """
    path = verify_path(chain, roots, now, server_name=server_name)
    spiffe_id, segment = _spiffe(path.names, trust_domain)
    if segment != f"{RESERVED}/server":
        raise PeerError(Code.PEER_TRUST_DOMAIN, f"{spiffe_id} is not the proxy")
    if path.claims_extension is not None:
        raise PeerError(Code.PEER_CLAIMS_MALFORMED, "the proxy's own certificate carries claims")
    return ProxyPeer(path.chain, path.root, path.names, spiffe_id, path.not_before, path.not_after)


def _spiffe(names: Names, trust_domain: str) -> tuple[str, str]:
    """Return the SPIFFE ID and its path without the first slash (SPIFFE X509-SVID, section 2: exactly one URI)."""
    if len(names.uri) != 1:
        raise PeerError(Code.PEER_TRUST_DOMAIN, f"{len(names.uri)} URI names, exactly one was expected")
    spiffe_id = names.uri[0]
    prefix = f"spiffe://{trust_domain}/"
    if not spiffe_id.startswith(prefix):
        raise PeerError(Code.PEER_TRUST_DOMAIN, f"{spiffe_id} is not in {trust_domain}")
    return spiffe_id, spiffe_id.removeprefix(prefix)


def _claims(path: VerifiedPath, now: datetime) -> LeafClaims:
    if path.claims_extension is None:
        raise PeerError(Code.PEER_CLAIMS_MISSING, "no claims extension")
    try:
        claims = decode_extension(path.claims_extension)
    except FormatError as error:
        raise PeerError(Code.PEER_CLAIMS_MALFORMED, error.detail) from error
    if claims.spki != path.spki:
        raise PeerError(Code.PEER_CLAIMS_KEY, "the claims are about another key")
    # Compared as numbers: a hostile number of seconds may lie beyond the years that datetime knows.
    if not claims.issued_at <= claims.expires_at <= path.not_after.timestamp():
        raise PeerError(Code.PEER_CLAIMS_MALFORMED, "the claims outlive the certificate, or end before they begin")
    if not claims.issued_at - CLOCK_SKEW <= now.timestamp() <= claims.expires_at:
        raise PeerError(Code.PEER_EXPIRED, f"the claims are not valid at {now:%Y-%m-%dT%H:%M:%SZ}")
    return claims
