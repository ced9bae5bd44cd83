"""How workers and the authority talk: frames of deterministic CBOR over a private Unix socket. Never pickle.

A frame is u32 big-endian length, then one item. A call is ``[id, method, body]``; its answer ``[id, 0, body]``, or
``[id, 1, error]`` with error = ``[class, code, detail, [[code, field, expected, actual], ...]]``. Ids are the caller's;
answers come in any order. `wire_messages.py` has the bodies. Decoders take any bytes and give a value or a FormatError.
"""

from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from proxy_attestation.codes import Code
from proxy_attestation.errors import (
    AppraisalError,
    ConfigurationError,
    FormatError,
    InternalError,
    Mismatch,
    PeerError,
    PolicyError,
    ProxyAttestationError,
    RefusedError,
    RequestError,
    UnavailableError,
    UsageError,
)
from proxy_attestation.formats import cbor
from proxy_attestation.formats.bounds import AUTHORITY_FRAME_MAX

MALFORMED: Final = Code.PROXY_PROTOCOL
"""The code of every decoding error here."""

_ID_MAX: Final = (1 << 63) - 1
_DETAIL_MAX: Final = 4096
_MISMATCHES_MAX: Final = 64
_MISMATCH_TEXT_MAX: Final = 512

# Most specific first: an error is sent as the first class that it is an instance of.
_CLASSES: Final[tuple[tuple[int, type[ProxyAttestationError]], ...]] = (
    (1, FormatError),
    (2, ConfigurationError),
    (3, UsageError),
    (4, AppraisalError),
    (5, PolicyError),
    (6, RequestError),
    (7, PeerError),
    (8, RefusedError),
    (9, UnavailableError),
    (10, InternalError),
)


class Method(IntEnum):
    """What a worker may ask the authority for."""

    HELLO = 1
    ISSUE = 2
    RAISE_FLOOR = 3
    TLS_LEAF = 4


@dataclass(frozen=True, slots=True)
class Call:
    """A call. Its id is unique among the open calls of its connection."""

    call_id: int
    method: Method
    body: cbor.Value


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer: `error` is None when `body` counts."""

    call_id: int
    body: cbor.Value
    error: ProxyAttestationError | None


class FrameReader:
    """Cuts a stream of bytes into frames, whatever pieces it comes in."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Take some bytes; return the frames that are now complete, without their lengths.

        Raises:
            FormatError: `proxy.protocol`, for an empty frame or one beyond the bound. The stream is of no more use.
        """
        self._buffer += data
        frames = []
        while len(self._buffer) >= 4:
            length = int.from_bytes(self._buffer[:4], "big")
            if not 0 < length <= AUTHORITY_FRAME_MAX:
                raise FormatError(MALFORMED, f"a frame of {length} bytes")
            if len(self._buffer) < 4 + length:
                break
            frames.append(bytes(self._buffer[4 : 4 + length]))
            del self._buffer[: 4 + length]
        return frames


def encode_call(call_id: int, method: Method, body: object) -> bytes:
    """Return the frame of a call, length included.

    Raises:
        FormatError: `proxy.protocol`, when it is beyond the bound.
    """
    return _frame([call_id, int(method), body])


def encode_answer(call_id: int, body: object) -> bytes:
    """Return the frame of an answer, length included.

    Raises:
        FormatError: `proxy.protocol`, when it is beyond the bound.
    """
    return _frame([call_id, 0, body])


def encode_error(call_id: int, error: ProxyAttestationError) -> bytes:
    """Return the frame that carries an error, length included; long details are cut."""
    kind = next((number for number, cls in _CLASSES if isinstance(error, cls)), 10)
    mismatches = getattr(error, "mismatches", ())[:_MISMATCHES_MAX]
    texts = [
        [str(m.code), *(_cut(text, _MISMATCH_TEXT_MAX) for text in (m.field, m.expected, m.actual))] for m in mismatches
    ]
    return _frame([call_id, 1, [kind, str(error.code), _cut(error.detail, _DETAIL_MAX), texts]])


def decode_call(frame: bytes) -> Call:
    """Decode a call.

    Raises:
        FormatError: `proxy.protocol`.
    """
    call_id, method, body = _triple(frame)
    try:
        return Call(call_id, Method(method), body)
    except ValueError as error:
        raise FormatError(MALFORMED, f"unknown method {method}") from error


def decode_answer(frame: bytes) -> Answer:
    """Decode an answer; an error comes back as the class and code that were sent.

    Raises:
        FormatError: `proxy.protocol`.
    """
    call_id, kind, body = _triple(frame)
    if kind == 0:
        return Answer(call_id, body, None)
    if kind == 1:
        return Answer(call_id, None, _decode_error(body))
    raise FormatError(MALFORMED, f"unknown kind of answer {kind}")


def _decode_error(value: object) -> ProxyAttestationError:
    items = cbor.as_list(value, MALFORMED, 4)
    if len(items) != 4:
        raise FormatError(MALFORMED, "an error of four members was expected")
    number = cbor.as_uint(items[0], MALFORMED, 255)
    code, detail = _code(items[1]), _text(items[2])
    mismatches = tuple(_decode_mismatch(item) for item in cbor.as_list(items[3], MALFORMED, _MISMATCHES_MAX))
    cls = dict(_CLASSES).get(number)
    if cls is None or (cls is PolicyError and not mismatches):
        raise FormatError(MALFORMED, f"an error of class {number} with {len(mismatches)} mismatches")
    if cls is PolicyError:
        return PolicyError(mismatches)
    if cls is PeerError:
        return PeerError(code, detail, mismatches)
    if cls is InternalError:
        return InternalError(detail)
    if cls is UsageError:
        return UsageError(detail)
    return cls(code, detail)


def _decode_mismatch(value: object) -> Mismatch:
    items = cbor.as_list(value, MALFORMED, 4)
    if len(items) != 4:
        raise FormatError(MALFORMED, "a mismatch of four members was expected")
    return Mismatch(_code(items[0]), _text(items[1]), _text(items[2]), _text(items[3]))


def _code(value: object) -> Code:
    try:
        return Code(cbor.as_text(value, MALFORMED, 64))
    except ValueError as error:
        raise FormatError(MALFORMED, "unknown code") from error


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > _DETAIL_MAX:
        raise FormatError(MALFORMED, "text was expected")
    return value


def _cut(text: str, maximum: int) -> str:
    # A detail may quote what a peer sent; what UTF-8 cannot carry must not keep the error from being told.
    return text[:maximum].encode("utf-8", "replace").decode()


def _triple(frame: bytes) -> tuple[int, int, cbor.Value]:
    items = cbor.as_list(cbor.decode(frame, MALFORMED, AUTHORITY_FRAME_MAX), MALFORMED, 3)
    if len(items) != 3:
        raise FormatError(MALFORMED, "a message of three members was expected")
    return cbor.as_uint(items[0], MALFORMED, _ID_MAX), cbor.as_uint(items[1], MALFORMED, 255), items[2]


def _frame(item: object) -> bytes:
    data = cbor.encode(item)
    if len(data) > AUTHORITY_FRAME_MAX:
        raise FormatError(MALFORMED, f"a frame of {len(data)} bytes")
    return len(data).to_bytes(4, "big") + data
