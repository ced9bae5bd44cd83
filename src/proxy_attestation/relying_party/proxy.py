"""Talking to a proxy: its root against a pin, and TLS to nobody but the proxy under that root.

`fetch_root`, in order:

1. One call without authentication, for nothing but to learn the root: TLS 1.3, bounded in size and time.
2. The root whose SPKI has the pinned digest; every other root of the answer is ignored.
3. The certificate of that same connection, as the proxy's own under that root.
4. The same call again under `ProxyContext`; only this answer is used, and it must agree with the first.

`fetch_attested_root` does without a pin: the first call asks for the proxy's evidence over a nonce of ours, the root is
the first one of the answer, and it is the evidence that says whether that is the one to trust (`proxy_evidence.py`).
"""

import os
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Final, NamedTuple, TypeVar

import httpx
from google.protobuf.message import DecodeError

from proxy_attestation.codes import Code
from proxy_attestation.errors import (
    ConfigurationError,
    FormatError,
    PeerError,
    UnavailableError,
    UsageError,
)
from proxy_attestation.formats.bounds import MESSAGE_MAX
from proxy_attestation.relying_party.check import ProxyPeer, check_loaded_proxy_chain, check_proxy_chain
from proxy_attestation.relying_party.context import CheckedContext, Clock, utc_now
from proxy_attestation.relying_party.expectation import is_trust_domain
from proxy_attestation.relying_party.failure import attestation_error
from proxy_attestation.relying_party.handshake import presented_chain
from proxy_attestation.relying_party.root_info import RootInfo, read_root_info
from proxy_attestation.v1 import proxy_attestation_pb2 as v1

PIN_LENGTH: Final = 32
NONCE_LENGTH: Final = 32
PATH: Final = "/proxy_attestation.v1.ProxyAttestation/GetRootCertificate"
CONTENT_TYPE: Final = "application/proto"
EVIDENCE_SECONDS: Final = 10.0
"""How much longer than other answers one with evidence may take; the proxy gives up earlier."""
_ERROR_MAX: Final = 16 * 1024
_T = TypeVar("_T")


class ProxyContext(CheckedContext):
    """Accepts exactly the proxy of one trust domain, under its own root, by its reserved SPIFFE ID.

    Args:
        roots: DER of the proxy's root (or roots).
        trust_domain: the proxy's.
        server_name: the name that the proxy must have, whatever the client connects to; None: that.
        clock: the time of the check.

    Raises:
        ConfigurationError: `configuration.malformed`.
    """

    def __init__(
        self,
        roots: Sequence[bytes],
        trust_domain: str,
        *,
        server_name: str | None = None,
        clock: Clock = utc_now,
    ) -> None:
        if not is_trust_domain(trust_domain):
            raise ConfigurationError(Code.CONFIGURATION_MALFORMED, f"{trust_domain!r} is not a trust domain")
        self._trust_domain = trust_domain
        super().__init__(roots, server_name=server_name, server_side=False, clock=clock)

    def check_peer(self, chain: Sequence[bytes], server_name: str | None) -> ProxyPeer:
        """Check a presented chain.

        Raises:
            PeerError: as `check.check_proxy_chain`.
        """
        if server_name is None:
            raise PeerError(Code.PEER_NAME, "no server name was given")
        return check_loaded_proxy_chain(chain, self._roots, self._trust_domain, self._clock(), server_name=server_name)


class UnauthenticatedContext(ssl.SSLContext):
    """TLS 1.3 with nobody in particular. For step 1 alone: what comes over it is checked against the pin."""

    def __new__(cls) -> "UnauthenticatedContext":
        """Make the OpenSSL object."""
        return super().__new__(cls, ssl.PROTOCOL_TLS_CLIENT)

    def __init__(self) -> None:
        self.minimum_version = ssl.TLSVersion.TLSv1_3
        self.check_hostname = False
        self.verify_mode = ssl.CERT_NONE


def fetch_root(
    url: str,
    pin: bytes,
    *,
    server_name: str | None = None,
    timeout: float = 10.0,
    clock: Clock = utc_now,
) -> RootInfo:
    """Fetch a proxy's root over its Connect front and check it against a pin.

    Args:
        url: `https://HOST:PORT` of the Connect front, no path.
        pin: SHA-256 of the root's SPKI, 32 bytes. There is no fetching without one.
        server_name: the name that the proxy must have; None: the URL's host.
        timeout: seconds for each of the two calls, and for each step of them.
        clock: the time of the checks.

    Raises:
        UsageError: for a URL that is not such a one.
        PeerError: `peer.root_pin` (no or another pin), `peer.chain`, `peer.expired`, `peer.name`,
            `peer.trust_domain`: it is not the proxy, or something stands between.
        FormatError: `proxy.protocol`, for an answer that no proxy gives.
        UnavailableError: `proxy.unreachable`.
    """
    if len(pin) != PIN_LENGTH or not any(pin):
        raise PeerError(Code.PEER_ROOT_PIN, "a pin of 32 bytes is needed: SHA-256 of the root's SubjectPublicKeyInfo")
    target = _target(url)
    # 1. Without authentication.
    answer, chain = _call(target, UnauthenticatedContext(), server_name, timeout, _Asked(os.urandom(NONCE_LENGTH)))
    # 2. The pinned root.
    first = read_root_info(answer, pin)
    # 3. The same connection's certificate.
    name = server_name if server_name is not None else target.host
    check_proxy_chain(chain, (first.root,), first.trust_domain, clock(), server_name=name)
    # 4. Authenticated.
    context = ProxyContext((first.root,), first.trust_domain, server_name=server_name, clock=clock)
    answer, _ = _call(target, context, None, timeout, _Asked(os.urandom(NONCE_LENGTH)))
    second = read_root_info(answer, pin)
    # What is fixed for an authority's life. Evidence is fresh for each nonce, and policy, floors or an issuing CA may
    # change between two calls.
    if _fixed(first) != _fixed(second):
        raise PeerError(Code.PEER_CHAIN, "two answers of one proxy differ")
    return second


def fetch_attested_root(
    url: str,
    check: Callable[[RootInfo, bytes], _T],
    *,
    server_name: str | None = None,
    timeout: float = 10.0,
    clock: Clock = utc_now,
) -> tuple[RootInfo, _T]:
    """Fetch a proxy's root over its Connect front, with evidence that says whether to trust it.

    Args:
        url: as in `fetch_root`.
        check: judges the answer with the nonce that was sent, and raises where it is not the proxy's.
        server_name: the name that the proxy must have; None: the URL's host.
        timeout: seconds, as in `fetch_root`; evidence may take `EVIDENCE_SECONDS` more.
        clock: the time of the checks.

    Returns:
        What the proxy says of itself, as the evidence vouches for it; and what `check` returned.

    Raises:
        UsageError, PeerError, FormatError, UnavailableError: as `fetch_root`, and whatever `check` raises;
            `proxy.evidence_busy` and `attester.unavailable`, where the proxy cannot make evidence now.
    """
    target = _target(url)
    # 1. Without authentication.
    asked = _Asked(os.urandom(NONCE_LENGTH), evidence=True)
    answer, chain = _call(target, UnauthenticatedContext(), server_name, timeout + EVIDENCE_SECONDS, asked)
    first = read_root_info(answer, None)
    # 2. The root is the one that the evidence vouches for.
    checked = check(first, asked.nonce)
    # 3. The same connection's certificate.
    name = server_name if server_name is not None else target.host
    check_proxy_chain(chain, (first.root,), first.trust_domain, clock(), server_name=name)
    # 4. Authenticated: the key of that certificate is at the other end of a connection of ours.
    context = ProxyContext((first.root,), first.trust_domain, server_name=server_name, clock=clock)
    answer, _ = _call(target, context, None, timeout, _Asked(os.urandom(NONCE_LENGTH)))
    if _fixed(first) != _fixed(read_root_info(answer, first.pin)):
        raise PeerError(Code.PEER_CHAIN, "two answers of one proxy differ")
    return first, checked


class _Asked(NamedTuple):
    nonce: bytes
    evidence: bool = False


def _fixed(info: RootInfo) -> tuple[object, ...]:
    return info.root, info.trust_domain, info.ledger_key, info.key_origin, info.simulated, info.deployment_statement


def _target(url: str) -> httpx.URL:
    try:
        target = httpx.URL(url)
    except (httpx.InvalidURL, ValueError) as error:
        raise UsageError(f"{url!r} is not a URL: {error}") from error
    plain = not target.userinfo and target.path in ("", "/") and not target.query and not target.fragment
    # httpx takes ports that do not exist, and the resolver takes them modulo 65536.
    port = 443 if target.port is None else target.port
    if target.scheme != "https" or not target.host or not plain or not 0 < port <= 0xFFFF:
        raise UsageError(f"{url!r}: https://HOST:PORT was expected")
    return target.copy_with(path=PATH)


def _call(
    target: httpx.URL, context: ssl.SSLContext, server_name: str | None, timeout: float, asked: _Asked
) -> tuple[v1.GetRootCertificateResponse, tuple[bytes, ...]]:
    """Make one call; return the answer and the certificates that the connection was made with."""
    deadline = time.monotonic() + timeout
    request = v1.GetRootCertificateRequest(nonce=asked.nonce, evidence=asked.evidence)
    headers = {"content-type": CONTENT_TYPE, "accept-encoding": "identity"}
    extensions = {} if server_name is None else {"sni_hostname": server_name}
    try:
        with (
            httpx.Client(verify=context, trust_env=False, timeout=timeout) as client,
            client.stream(
                "POST", target, content=request.SerializeToString(), headers=headers, extensions=extensions
            ) as response,
        ):
            chain = presented_chain(response.extensions["network_stream"].get_extra_info("ssl_object"))
            body = _body(response, deadline)
    except httpx.TransportError as error:
        refused = attestation_error(error)
        if refused is not None:
            raise refused from error
        raise UnavailableError(Code.PROXY_UNREACHABLE, f"{target.host}:{target.port}: {error}") from error
    try:
        return v1.GetRootCertificateResponse.FromString(body), chain
    except DecodeError as error:
        raise FormatError(Code.PROXY_PROTOCOL, "not a GetRootCertificateResponse") from error


def _body(response: httpx.Response, deadline: float) -> bytes:
    status = response.status_code
    if status >= 500 or status == 429:
        # Connect maps UNAVAILABLE to 503 and RESOURCE_EXHAUSTED to 429; gateways answer 502 and 504.
        raise UnavailableError(_told_code(response), f"HTTP status {status}")
    if status != 200 or response.headers.get("content-type") != CONTENT_TYPE:
        raise FormatError(Code.PROXY_PROTOCOL, f"HTTP status {status}, {response.headers.get('content-type')!r}")
    if response.headers.get("content-encoding", "identity") != "identity":
        raise FormatError(Code.PROXY_PROTOCOL, "a compressed answer that was not asked for")
    body = bytearray()
    for part in response.iter_raw():
        body += part
        if len(body) > MESSAGE_MAX:
            raise FormatError(Code.PROXY_PROTOCOL, f"an answer of more than {MESSAGE_MAX} bytes")
        if time.monotonic() > deadline:
            raise UnavailableError(Code.PROXY_UNREACHABLE, "the answer did not come in time")
    return bytes(body)


def _told_code(response: httpx.Response) -> Code:
    """Return why a proxy has no evidence now, where it says that; the first part of the message is the code."""
    read = bytearray()
    for part in response.iter_raw():
        read += part
        if len(read) > _ERROR_MAX:
            break
    known = (code for code in (Code.PROXY_EVIDENCE_BUSY, Code.ATTESTER_UNAVAILABLE) if f'"{code}: '.encode() in read)
    return next(known, Code.PROXY_UNREACHABLE)
