"""One checked TLS connection, for programs that speak their own protocol over it."""

import socket

from proxy_attestation.codes import Code
from proxy_attestation.errors import UnavailableError
from proxy_attestation.relying_party.context import CheckedContext
from proxy_attestation.relying_party.failure import attestation_error
from proxy_attestation.relying_party.handshake import CheckedSocket


def open_connection(host: str, port: int, context: CheckedContext, *, timeout: float = 10.0) -> CheckedSocket:
    """Connect, shake hands and check the peer.

    Args:
        host: DNS name or IP address; the peer must carry it unless the context names another.
        port: TCP.
        context: an `AttestedContext`.
        timeout: seconds, of each step; it stays the socket's timeout.

    Returns:
        A connected socket whose `attested_peer` is set. The caller closes it.

    Raises:
        PeerError: the peer is refused.
        UnavailableError: `peer.unreachable`.
    """
    try:
        bare = socket.create_connection((host, port), timeout)
        # wrap_socket takes the bare socket over, and closes it where it fails.
        return context.wrap_socket(bare, server_hostname=host)
    except OSError as error:
        refused = attestation_error(error)
        if refused is not None:
            raise refused from error
        raise UnavailableError(Code.PEER_UNREACHABLE, f"{host}:{port}: {error or type(error).__name__}") from error
