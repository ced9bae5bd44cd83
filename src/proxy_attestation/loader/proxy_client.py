"""The proxy as the loader calls it: the unary Connect protocol with protobuf bodies, over TLS pinned to its root.

First the proxy's root is fetched and held against the pin (`relying_party.proxy.fetch_root`); everything after that
goes over connections which only the proxy under that root can answer. A client serves one enrolment.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Final, Protocol, Self, TypeVar

import httpx
from google.protobuf.message import DecodeError, Message

from proxy_attestation.attester.model import NOTHING_MORE, Asked
from proxy_attestation.codes import Code
from proxy_attestation.errors import PeerError, UnavailableError
from proxy_attestation.formats.bounds import MESSAGE_MAX
from proxy_attestation.formats.tee import Tee
from proxy_attestation.loader.backoff import Backoff
from proxy_attestation.loader.proxy_errors import error_from_answer
from proxy_attestation.relying_party.failure import attestation_error
from proxy_attestation.relying_party.proxy import ProxyContext, fetch_root
from proxy_attestation.relying_party.proxy_expectation import ProxyExpectation
from proxy_attestation.relying_party.root_info import RootInfo
from proxy_attestation.v1 import proxy_attestation_pb2 as v1

SERVICE: Final = "/proxy_attestation.v1.ProxyAttestation/"
CONTENT_TYPE: Final = "application/proto"
TIMEOUT_S: Final = 15.0
RETRY: Final = Backoff(first=0.2, most=5.0, spread=0.5)
# Anything else that is unavailable stays so for longer than a challenge lives: the renewal comes back for it.
_TRANSIENT: Final = frozenset({Code.PROXY_UNREACHABLE, Code.AUTHORITY_UNAVAILABLE, Code.POLICY_STALE})

_Answer = TypeVar("_Answer", bound=Message)
Sleep = Callable[[float], Awaitable[None]]


class ProxyPort(Protocol):
    """What enrolment needs of a proxy; tests put one in memory behind it."""

    @property
    def root(self) -> RootInfo:
        """The pinned root and what the proxy says of itself."""

    async def get_challenge(self, tee: Tee, asked: Asked = NOTHING_MORE) -> v1.GetChallengeResponse:
        """Ask for a challenge."""

    async def get_signed_certificate(
        self, request: v1.GetSignedCertificateRequest, until: datetime
    ) -> v1.GetSignedCertificateResponse:
        """Hand in evidence; repeats the same call after a lost answer until the challenge ends."""

    async def get_renewal_information(self, certificate_id: str) -> v1.GetRenewalInformationResponse:
        """Ask whether a certificate should be renewed now."""

    async def close(self) -> None:
        """Close the connections."""


@dataclass(frozen=True, slots=True)
class ProxyEvidence:
    """What the proxy's own evidence is held against.

    Attributes:
        expectation: names a measurement of the proxy, and its signers.
        endorsements: files and directories with vendors' collateral, read anew each time.
        roots: files with vendors' roots; none for the pinned ones.
    """

    expectation: ProxyExpectation
    endorsements: tuple[Path, ...] = ()
    roots: tuple[Path, ...] = ()


@dataclass(frozen=True, slots=True)
class ProxyAddress:
    """Where the proxy is and what it must be.

    Attributes:
        url: `https://HOST:PORT` of the Connect front.
        root_pin: SHA-256 of the root's SPKI, 32 bytes; None where evidence says which root it is.
        trust_domain: the proxy's.
        server_name: the name in the proxy's certificate, or None for the URL's host.
        evidence: what the proxy must prove before anything is sent to it; None for a pin alone.
    """

    url: str
    root_pin: bytes | None
    trust_domain: str
    server_name: str | None = None
    evidence: ProxyEvidence | None = None


@dataclass(frozen=True, slots=True)
class Timing:
    """Time and chance, as tests replace them.

    Attributes:
        clock: tells the time, UTC.
        sleep: waits so many seconds.
        chance: a random number, 0 to 1.
    """

    clock: Callable[[], datetime]
    sleep: Sleep = asyncio.sleep
    chance: Callable[[], float] = field(default=random.random)


class ProxyClient:
    """A proxy at the other end of HTTP."""

    def __init__(self, root: RootInfo, http: httpx.AsyncClient, timing: Timing) -> None:
        self.root: Final = root
        self._http = http
        self._timing = timing

    @classmethod
    async def connect(cls, address: ProxyAddress, timing: Timing) -> Self:
        """Fetch and check the root, and make a client that talks to nobody but the proxy under it.

        Raises:
            PeerError: `peer.root_pin`, `peer.trust_domain` and others: it is not that proxy.
            FormatError: `proxy.protocol`.
            UnavailableError: `proxy.unreachable`.
            ProxyAttestationError: where evidence is demanded, as `relying_party.proxy_evidence` says.
        """
        root = await asyncio.to_thread(_fetch, address, timing.clock)
        if root.trust_domain != address.trust_domain:
            raise PeerError(Code.PEER_TRUST_DOMAIN, f"the proxy is that of {root.trust_domain}")
        context = ProxyContext((root.root,), root.trust_domain, server_name=address.server_name, clock=timing.clock)
        # No proxy or certificate settings from the environment: they are not part of what was attested.
        http = httpx.AsyncClient(
            verify=context, trust_env=False, base_url=address.url, timeout=TIMEOUT_S, follow_redirects=False
        )
        return cls(root, http, timing)

    async def get_challenge(self, tee: Tee, asked: Asked = NOTHING_MORE) -> v1.GetChallengeResponse:
        """Ask for a challenge, once.

        Args:
            tee: the kind of evidence that will come.
            asked: what goes with the question, for a TPM.

        Raises:
            ProxyAttestationError: what the proxy answered, or `proxy.unreachable` or `proxy.protocol`.
        """
        request = v1.GetChallengeRequest(
            tee=str(tee),
            ek_certificate=asked.ek_certificate,
            ak_public=asked.ak_public,
            ek_issuers=asked.ek_issuers,
        )
        return await self._call("GetChallenge", request, v1.GetChallengeResponse)

    async def get_signed_certificate(
        self, request: v1.GetSignedCertificateRequest, until: datetime
    ) -> v1.GetSignedCertificateResponse:
        """Hand in the evidence.

        The proxy answers the same call with the same certificate, so a lost answer is asked for again, and so is one
        that the proxy could not give at the moment. A verdict is never asked for twice.

        Args:
            request: sent unchanged each time.
            until: when the challenge ends, UTC.

        Raises:
            ProxyAttestationError: what the proxy answered, or `proxy.unreachable` or `proxy.protocol`.
        """
        failures = 0
        while True:
            try:
                return await self._call("GetSignedCertificate", request, v1.GetSignedCertificateResponse)
            except UnavailableError as error:
                failures += 1
                delay = RETRY.delay(failures, self._timing.chance())
                left = (until - self._timing.clock()).total_seconds()
                if error.code not in _TRANSIENT or delay >= left:
                    raise
                await self._timing.sleep(delay)

    async def get_renewal_information(self, certificate_id: str) -> v1.GetRenewalInformationResponse:
        """Ask whether a certificate should be renewed now, once.

        Args:
            certificate_id: its name (`formats.certificate_id`).

        Raises:
            ProxyAttestationError: what the proxy answered, or `proxy.unreachable` or `proxy.protocol`.
        """
        request = v1.GetRenewalInformationRequest(certificate_id=certificate_id)
        return await self._call("GetRenewalInformation", request, v1.GetRenewalInformationResponse)

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def _call(self, method: str, request: Message, answer: type[_Answer]) -> _Answer:
        headers = {"content-type": CONTENT_TYPE, "accept-encoding": "identity", "connect-protocol-version": "1"}
        content = request.SerializeToString()
        try:
            async with (
                asyncio.timeout(TIMEOUT_S),
                self._http.stream("POST", SERVICE + method, content=content, headers=headers) as response,
            ):
                body = bytearray()
                async for piece in response.aiter_raw():
                    body += piece
                    if len(body) > MESSAGE_MAX:
                        raise UnavailableError(Code.PROXY_PROTOCOL, f"an answer of more than {MESSAGE_MAX} bytes")
        except (httpx.TransportError, TimeoutError) as error:
            refused = attestation_error(error)
            if refused is not None:
                raise refused from error
            raise UnavailableError(
                Code.PROXY_UNREACHABLE, f"{method}: {type(error).__name__} {error}".rstrip()
            ) from error
        if response.status_code != 200:
            raise error_from_answer(response.status_code, bytes(body))
        if response.headers.get("content-type") != CONTENT_TYPE or "content-encoding" in response.headers:
            raise UnavailableError(Code.PROXY_PROTOCOL, f"{method}: not an answer in {CONTENT_TYPE}")
        try:
            return answer.FromString(bytes(body))
        except DecodeError as error:
            raise UnavailableError(Code.PROXY_PROTOCOL, f"{method}: not a {answer.__name__}") from error


def _fetch(address: ProxyAddress, clock: Callable[[], datetime]) -> RootInfo:
    if address.evidence is None:
        pin = address.root_pin or b""  # which is refused
        return fetch_root(address.url, pin, server_name=address.server_name, timeout=TIMEOUT_S, clock=clock)
    from proxy_attestation.loader.proxy_attested import fetch_attested  # noqa: PLC0415 - loads every vendor's walk

    return fetch_attested(address, address.evidence, TIMEOUT_S, clock)
