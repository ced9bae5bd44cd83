"""The client's side: a channel to an attested proxy, on which the calls of an enrolment run unchanged.

`EkepChannel` is a `loader.proxy_client.ProxyPort`. The proxy's root comes over the channel and is held against the pin:
that the peer is attested and that it is this proxy are two things, and both are checked.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from typing import Any, Final, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from proxy_attestation.attester.model import NOTHING_MORE, Asked
from proxy_attestation.codes import Code
from proxy_attestation.ekep.frames import FRAME_MAX, HandshakeAborted
from proxy_attestation.ekep.handshake import Assertions, Handshake, State
from proxy_attestation.ekep.record import Records
from proxy_attestation.ekep.v1 import ekep_pb2 as pb
from proxy_attestation.ekep.v1 import ekep_pb2_grpc
from proxy_attestation.errors import UnavailableError
from proxy_attestation.formats.tee import Tee
from proxy_attestation.loader.proxy_errors import error_from_answer
from proxy_attestation.relying_party.proxy import NONCE_LENGTH
from proxy_attestation.relying_party.root_info import RootInfo, read_root_info
from proxy_attestation.v1 import proxy_attestation_pb2 as v1

CALL_SECONDS: Final = 20.0

_OPTIONS: Final = (("grpc.max_receive_message_length", FRAME_MAX + 1024), ("grpc.enable_http_proxy", 0))

_Answer = TypeVar("_Answer", bound=Message)


class EkepChannel:
    """An open channel. Calls are made one after the other.

    Attributes:
        root: the pinned root and what the proxy says of itself.
    """

    root: RootInfo

    def __init__(self, stream: Any, records: Records) -> None:
        self._stream = stream
        self._records = records
        self._turn = asyncio.Lock()

    async def get_challenge(self, tee: Tee, asked: Asked = NOTHING_MORE) -> v1.GetChallengeResponse:
        """Ask for a challenge.

        Raises:
            ProxyAttestationError: what the proxy answered; `proxy.unreachable`, `proxy.protocol`, `ekep.record`.
        """
        request = v1.GetChallengeRequest(
            tee=str(tee), ek_certificate=asked.ek_certificate, ak_public=asked.ak_public, ek_issuers=asked.ek_issuers
        )
        return await self.call("GetChallenge", request, v1.GetChallengeResponse)

    async def get_signed_certificate(
        self, request: v1.GetSignedCertificateRequest, until: datetime
    ) -> v1.GetSignedCertificateResponse:
        """Hand in evidence, once: a channel that broke is made anew, and its session with it.

        Raises:
            ProxyAttestationError: as `get_challenge`.
        """
        del until
        return await self.call("GetSignedCertificate", request, v1.GetSignedCertificateResponse)

    async def get_renewal_information(self, certificate_id: str) -> v1.GetRenewalInformationResponse:
        """Ask whether a certificate should be renewed now.

        Raises:
            ProxyAttestationError: as `get_challenge`.
        """
        request = v1.GetRenewalInformationRequest(certificate_id=certificate_id)
        return await self.call("GetRenewalInformation", request, v1.GetRenewalInformationResponse)

    async def close(self) -> None:
        """End the channel."""
        with suppress(grpc.RpcError, asyncio.InvalidStateError):
            await self._stream.done_writing()

    async def call(self, method: str, request: Message, answer: type[_Answer]) -> _Answer:
        """Make one call inside the channel.

        Raises:
            ProxyAttestationError: as `get_challenge`.
        """
        content = pb.Call(method=method, body=request.SerializeToString()).SerializeToString()
        async with self._turn, _reached():
            await self._stream.write(pb.Frame(data=self._records.seal(content)))
            received = await _next(self._stream)
        opened = self._records.open(received)
        try:
            found = pb.Answer.FromString(opened)
            if found.status != 200:
                raise error_from_answer(found.status, found.body)
            return answer.FromString(found.body)
        except DecodeError as error:
            raise UnavailableError(Code.PROXY_PROTOCOL, f"{method}: not an answer") from error


@asynccontextmanager
async def open_channel(address: str, pin: bytes, assertions: Callable[[], Assertions]) -> AsyncIterator[EkepChannel]:
    """Open a channel to a proxy's EKEP front.

    Args:
        address: `HOST:PORT`.
        pin: SHA-256 of the root's SPKI, 32 bytes: which proxy it must be.
        assertions: of this side, for one handshake.

    Raises:
        HandshakeAborted: `ekep.*`.
        PeerError: `peer.root_pin`, when it is an attested proxy and another one.
        FormatError: `proxy.protocol`.
        UnavailableError: `proxy.unreachable`.
    """
    async with grpc.aio.insecure_channel(address, options=_OPTIONS) as channel:
        stream: Any = ekep_pb2_grpc.EkepStub(channel).Channel()  # type: ignore[no-untyped-call] # generated
        handshake = Handshake(assertions(), server=False)
        try:
            await _shake(stream, handshake)
        except HandshakeAborted as error:
            if error.frame is not None:
                with suppress(grpc.RpcError, asyncio.InvalidStateError):
                    await stream.write(pb.Frame(data=error.frame))
                    await stream.done_writing()
            raise
        opened = EkepChannel(stream, Records(handshake.record_key, server=False))
        request = v1.GetRootCertificateRequest(nonce=os.urandom(NONCE_LENGTH))
        opened.root = read_root_info(
            await opened.call("GetRootCertificate", request, v1.GetRootCertificateResponse), pin
        )
        try:
            yield opened
        finally:
            await opened.close()


async def _shake(stream: Any, handshake: Handshake) -> None:
    frames = handshake.start()
    while True:
        async with _reached():
            for frame in frames:
                await stream.write(pb.Frame(data=frame))
            if handshake.state is State.DONE:
                return
            received = await _next(stream)
        frames = await asyncio.to_thread(handshake.receive, received)


async def _next(stream: Any) -> bytes:
    frame = await stream.read()
    if frame is grpc.aio.EOF:
        raise UnavailableError(Code.PROXY_UNREACHABLE, "the proxy ended the channel")
    data: bytes = frame.data
    return data


@asynccontextmanager
async def _reached() -> AsyncIterator[None]:
    """Turn what gRPC raises, and a peer that says nothing, into our error."""
    try:
        async with asyncio.timeout(CALL_SECONDS):
            yield
    except TimeoutError as error:
        raise UnavailableError(Code.PROXY_UNREACHABLE, f"nothing came for {CALL_SECONDS} s") from error
    except grpc.aio.AioRpcError as error:
        raise UnavailableError(Code.PROXY_UNREACHABLE, f"{error.code().name} {error.details()}") from error
