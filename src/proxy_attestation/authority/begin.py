"""The first entries of an authority's ledger: its root and its first issuing CA."""

import hashlib
import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import datetime

from proxy_attestation.authority import cas
from proxy_attestation.authority.authority import Authority
from proxy_attestation.authority.issue import Issuer
from proxy_attestation.authority.keys import KeyStore, MemoryKeys
from proxy_attestation.authority.ledger import Ledger
from proxy_attestation.authority.settings import Settings
from proxy_attestation.policy.model import Policy

_NO_DIGEST = bytes(32)


def begin(settings: Settings, keys: KeyStore, ledger: Ledger, now: int, random: cas.Random = os.urandom) -> Settings:
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
    signer = keys.make_root()
    complete = replace(settings, root_spki_sha256=hashlib.sha256(signer.spki).digest())
    with ledger.transaction():
        root = cas.make_root(complete, signer, ledger, now, random)
        cas.make_issuing(complete, root, keys, ledger, number=1, now=now, random=random)
    return complete


def memory_issuer(
    policy: Policy,
    *,
    dns: Iterable[str],
    anchors: Iterable[bytes],
    clock: Callable[[], datetime],
    tls_names: Iterable[str] = (),
) -> Issuer:
    """Make a simulated authority that ends with the process: for benchmarks and tests.

    Args:
        policy: whose trust domain it takes.
        dns: the suffixes that the root permits.
        anchors: SPKI SHA-256 of the vendors' roots, 32 bytes each.
        clock: aware UTC.
        tls_names: host names and IP addresses of the proxy's own TLS certificate.

    Raises:
        ConfigurationError: `policy.malformed`, when the policy's names lie outside the suffixes.
        UsageError: for TLS names outside them.
    """
    settings = Settings(
        simulated=True,
        trust_domain=policy.trust_domain,
        key_origin=MemoryKeys.origin,
        dns=tuple(sorted(set(dns))),
        root_spki_sha256=_NO_DIGEST,
        anchors=frozenset(anchors),
    )
    keys, ledger = MemoryKeys(), Ledger.create(None)
    complete = begin(settings, keys, ledger, int(clock().timestamp()))
    authority = Authority(complete, keys, ledger, policy, clock=clock)
    return Issuer(authority, complete.server_names(tuple(tls_names)))
