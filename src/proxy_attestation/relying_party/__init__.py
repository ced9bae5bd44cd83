"""What a client imports: the check of a peer's chain and claims, and adapters for the clients people use.

From here: the check and the context. Beside it: `proxy` talks to a proxy; `httpx_adapter`, `grpc_channel`.
"""

from proxy_attestation.relying_party.check import Peer, ProxyPeer, check_chain, check_proxy_chain
from proxy_attestation.relying_party.context import AttestedContext
from proxy_attestation.relying_party.expectation import Expectation
from proxy_attestation.relying_party.expectation_file import load_expectation
from proxy_attestation.relying_party.failure import AttestationVerificationError, attestation_error

__all__ = [
    "AttestationVerificationError",
    "AttestedContext",
    "Expectation",
    "Peer",
    "ProxyPeer",
    "attestation_error",
    "check_chain",
    "check_proxy_chain",
    "load_expectation",
]
