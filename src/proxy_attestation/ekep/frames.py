"""The frames of EKEP: ``u32le size || u32le type || message``, size counting type and message.

Source: Asylo, asylo/grpc/auth/core (handshake.proto, ekep_handshaker.cc) and its document on EKEP, "Framing".
"""

from collections.abc import Mapping
from enum import IntEnum
from typing import Final, NoReturn

from google.protobuf.message import DecodeError, Message

from proxy_attestation.codes import Code
from proxy_attestation.ekep.v1 import ekep_pb2 as pb
from proxy_attestation.errors import RefusedError

FRAME_MAX: Final = 1 << 20
"""Bytes of a frame, its first four included: Asylo's default."""

_HEADER: Final = 8
_SIZE_FIELD: Final = 4
_MESSAGE_MAX: Final = 200


class MessageType(IntEnum):
    """What a frame of the handshake holds."""

    ABORT = 100
    CLIENT_PRECOMMIT = 101
    SERVER_PRECOMMIT = 102
    CLIENT_ID = 103
    SERVER_ID = 104
    SERVER_FINISH = 105
    CLIENT_FINISH = 106


class AbortCode(IntEnum):
    """Why a side ended the handshake."""

    BAD_MESSAGE = 1
    DESERIALIZATION_FAILED = 2
    BAD_PROTOCOL_VERSION = 3
    BAD_HANDSHAKE_CIPHER = 4
    BAD_RECORD_PROTOCOL = 5
    BAD_AUTHENTICATOR = 6
    BAD_ASSERTION_TYPE = 7
    BAD_ASSERTION = 8
    PROTOCOL_ERROR = 9
    INTERNAL_ERROR = 10


MESSAGES: Final[Mapping[MessageType, type[Message]]] = {
    MessageType.ABORT: pb.Abort,
    MessageType.CLIENT_PRECOMMIT: pb.ClientPrecommit,
    MessageType.SERVER_PRECOMMIT: pb.ServerPrecommit,
    MessageType.CLIENT_ID: pb.ClientId,
    MessageType.SERVER_ID: pb.ServerId,
    MessageType.SERVER_FINISH: pb.ServerFinish,
    MessageType.CLIENT_FINISH: pb.ClientFinish,
}


class HandshakeAborted(RefusedError):  # noqa: N818 - the protocol's own word
    """A handshake that ended before there was a channel; the code is `ekep.<abort code>`.

    Attributes:
        abort: the protocol's code.
        by_peer: whether the other side ended it; then nothing is to be sent.
    """

    def __init__(self, abort: AbortCode, detail: str, *, by_peer: bool = False) -> None:
        super().__init__(Code(f"ekep.{abort.name.lower()}"), detail)
        self.abort = abort
        self.by_peer = by_peer

    @property
    def frame(self) -> bytes | None:
        """What to send before closing; None where nothing is to be sent. It says the code, and nothing of ours."""
        return None if self.by_peer else encode_frame(MessageType.ABORT, pb.Abort(code=self.abort))


def abort(code: AbortCode, detail: str) -> NoReturn:
    """End the handshake.

    Raises:
        HandshakeAborted: always.
    """
    raise HandshakeAborted(code, detail)


def encode_frame(kind: MessageType, message: Message) -> bytes:
    """Return a frame. What it holds is written once and is from then on bytes: transcripts are over frames as sent."""
    content = message.SerializeToString(deterministic=True)
    size = _SIZE_FIELD + len(content)
    return size.to_bytes(4, "little") + kind.to_bytes(4, "little") + content


def decode_frame(data: bytes, expected: MessageType) -> Message:
    """Read one whole frame.

    Args:
        data: the frame, with nothing behind it.
        expected: what alone may come now, beside an ABORT.

    Raises:
        HandshakeAborted: BAD_MESSAGE for a size that is not the frame's; PROTOCOL_ERROR for a type that may not come
            now or is nobody's; DESERIALIZATION_FAILED; or whatever the peer's ABORT says.
    """
    if not _HEADER <= len(data) <= FRAME_MAX or int.from_bytes(data[:4], "little") != len(data) - _SIZE_FIELD:
        abort(AbortCode.BAD_MESSAGE, f"a frame of {len(data)} bytes, or of another size than it says")
    kind = int.from_bytes(data[4:8], "little")
    if kind not in (expected, MessageType.ABORT):
        abort(AbortCode.PROTOCOL_ERROR, f"message type {kind}, not {expected.name}")
    try:
        message = MESSAGES[MessageType(kind)].FromString(data[_HEADER:])
    except DecodeError as error:
        raise HandshakeAborted(AbortCode.DESERIALIZATION_FAILED, f"not a message of type {kind}") from error
    if isinstance(message, pb.Abort):
        known = message.code in set(AbortCode)
        said = AbortCode(message.code) if known else AbortCode.PROTOCOL_ERROR
        text = message.message[:_MESSAGE_MAX].encode("ascii", "replace").decode()
        raise HandshakeAborted(said, f"the peer ended it: {message.code} {text}".rstrip(), by_peer=True)
    return message
