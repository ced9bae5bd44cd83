"""Talking to a proxy: its root against a pin, and TLS to nobody but the proxy under that root.

`fetch_root`, in order:

1. One call without authentication, for nothing but to learn the root: TLS 1.3, bounded in size and time.
2. The root whose SPKI has the pinned digest; every other root of the answer is ignored.
3. The certificate of that same connection, as the proxy's own under that root.
4. The same call again under `ProxyContext`; only this answer is used, and it must agree with the first.

`fetch_attested_root` does without a pin: the first call asks for the proxy's evidence over a nonce of ours, the root is
the first one of the answer, and it is the evidence that says whether that is the one to trust (`proxy_evidence.py`).
"""

import hashlib
import os
import ssl
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, TypeVar

import httpx
from cryptography import x509
from google.protobuf.message import DecodeError

from proxy_attestation.codes import Code
from proxy_attestation.errors import (
    ConfigurationError,
    FormatError,
    PeerError,
    ProxyAttestationError,
    UnavailableError,
    UsageError,
)
from proxy_attestation.formats.bounds import CERTIFICATE_MAX, MESSAGE_MAX, ROOTS_MAX
from proxy_attestation.relying_party.check import ProxyPeer, check_loaded_proxy_chain, check_proxy_chain
from proxy_attestation.relying_party.context import CheckedContext, Clock, utc_now
from proxy_attestation.relying_party.expectation import is_trust_domain
from proxy_attestation.relying_party.failure import attestation_error
from proxy_attestation.relying_party.handshake import presented_chain
from proxy_attestation.relying_party.path import load_roots, spki_of, spki_of_presented, verify_cross
from proxy_attestation.v1 import proxy_attestation_pb2 as v1

PIN_LENGTH: Final = 32
NONCE_LENGTH: Final = 32
PATH: Final = "/proxy_attestation.v1.ProxyAttestation/GetRootCertificate"
CONTENT_TYPE: Final = "application/proto"
EVIDENCE_SECONDS: Final = 10.0
"""How much longer than other answers one with evidence may take; the proxy gives up earlier."""
_DANGERS_MAX: Final = 1024
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
    first = _root_info(answer, pin)
    # 3. The same connection's certificate.
    name = server_name if server_name is not None else target.host
    check_proxy_chain(chain, (first.root,), first.trust_domain, clock(), server_name=name)
    # 4. Authenticated.
    context = ProxyContext((first.root,), first.trust_domain, server_name=server_name, clock=clock)
    answer, _ = _call(target, context, None, timeout, _Asked(os.urandom(NONCE_LENGTH)))
    second = _root_info(answer, pin)
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
    first = _root_info(answer, None)
    # 2. The root is the one that the evidence vouches for.
    checked = check(first, asked.nonce)
    # 3. The same connection's certificate.
    name = server_name if server_name is not None else target.host
    check_proxy_chain(chain, (first.root,), first.trust_domain, clock(), server_name=name)
    # 4. Authenticated: the key of that certificate is at the other end of a connection of ours.
    context = ProxyContext((first.root,), first.trust_domain, server_name=server_name, clock=clock)
    answer, _ = _call(target, context, None, timeout, _Asked(os.urandom(NONCE_LENGTH)))
    if _fixed(first) != _fixed(_root_info(answer, first.pin)):
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


def _root_info(answer: v1.GetRootCertificateResponse, pin: bytes | None) -> RootInfo:
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
