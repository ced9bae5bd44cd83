"""httpx clients that talk to attested servers only: an `AttestedContext`, and no way around it.

A plain `httpx.Client(verify=context)` checks every TLS connection too. These clients also refuse `http://`, which has
no TLS to check, and take no proxy from the environment.
"""

from collections.abc import Sequence

import httpx

from proxy_attestation.codes import Code
from proxy_attestation.errors import PeerError
from proxy_attestation.relying_party.context import AttestedContext, CheckedContext
from proxy_attestation.relying_party.expectation import Expectation


def _require_tls(request: httpx.Request) -> None:
    if request.url.scheme != "https":
        raise PeerError(Code.PEER_CHAIN, f"{request.url.scheme}://{request.url.host} is not attested: https only")


class AttestedTransport(httpx.HTTPTransport):
    """The synchronous transport; refuses every scheme but https."""

    def __init__(self, context: CheckedContext, *, http2: bool = True) -> None:
        super().__init__(verify=context, trust_env=False, http2=http2)

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request.

        Raises:
            PeerError: `peer.chain`, for a URL that is not https.
        """
        _require_tls(request)
        return super().handle_request(request)


class AttestedAsyncTransport(httpx.AsyncHTTPTransport):
    """The asynchronous transport; refuses every scheme but https."""

    def __init__(self, context: CheckedContext, *, http2: bool = True) -> None:
        super().__init__(verify=context, trust_env=False, http2=http2)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request.

        Raises:
            PeerError: `peer.chain`, for a URL that is not https.
        """
        _require_tls(request)
        return await super().handle_async_request(request)


def attested_httpx_client(
    expectation: Expectation,
    roots: Sequence[bytes],
    *,
    server_name: str | None = None,
    base_url: str = "",
    timeout: float = 10.0,
) -> httpx.Client:
    """Return an `httpx.Client` that talks to peers that meet an expectation, and to nobody else.

    A refused peer shows as `httpx.ConnectError`; `failure.attestation_error` finds our error in it.

    Args:
        expectation: what the peer must be.
        roots: DER of the roots to trust.
        server_name: the name that the peer must have, whatever the URL says; None: the URL's host.
        base_url: for relative URLs.
        timeout: seconds, of each step.

    Raises:
        ConfigurationError: `configuration.malformed`, without a usable expectation or root.
    """
    context = AttestedContext(expectation, roots, server_name=server_name)
    return httpx.Client(transport=AttestedTransport(context), base_url=base_url, timeout=timeout, trust_env=False)


def attested_async_httpx_client(
    expectation: Expectation,
    roots: Sequence[bytes],
    *,
    server_name: str | None = None,
    base_url: str = "",
    timeout: float = 10.0,
) -> httpx.AsyncClient:
    """Return an `httpx.AsyncClient` that talks to peers that meet an expectation, and to nobody else.

    Arguments and errors are those of `attested_httpx_client`.

    Raises:
        ConfigurationError: `configuration.malformed`, without a usable expectation or root.
    """
    context = AttestedContext(expectation, roots, server_name=server_name)
    transport = AttestedAsyncTransport(context)
    return httpx.AsyncClient(transport=transport, base_url=base_url, timeout=timeout, trust_env=False)
