"""How workers and the authority talk: frames of deterministic CBOR over a private Unix socket. Never pickle.

A frame is u32 big-endian length, then one item. A call is ``[id, method, body]``; its answer ``[id, 0, body]``, or
``[id, 1, error]`` with error = ``[class, code, detail, [[code, field, expected, actual], ...]]``. Ids are the caller's;
answers come in any order. `wire_messages.py` has the bodies. Decoders take any bytes and give a value or a FormatError.
"""

from collections.abc import Callable, Mapping
from dataclasses import astuple, dataclass
from enum import IntEnum
from typing import Annotated, Final, TypeAlias

from proxy_attestation import errors
from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError, Mismatch, ProxyAttestationError
from proxy_attestation.formats import cbor
from proxy_attestation.formats.arrays import Array, Size
from proxy_attestation.formats.bounds import AUTHORITY_FRAME_MAX

MALFORMED: Final = Code.PROXY_PROTOCOL
"""The code of every decoding error here."""

_ID_MAX: Final = (1 << 63) - 1
_DETAIL_MAX: Final = 4096
_MISMATCHES_MAX: Final = 64
_MISMATCH_TEXT_MAX: Final = 512

# By their number, from 1. Most specific first: an error is sent as the first class that it is an instance of.
_CLASSES: Final[tuple[type[ProxyAttestationError], ...]] = (
    errors.FormatError, errors.ConfigurationError, errors.UsageError, errors.AppraisalError, errors.PolicyError,
    errors.RequestError, errors.PeerError, errors.RefusedError, errors.UnavailableError, errors.InternalError,
)  # fmt: skip

# Which of code, detail and mismatches each is made of, where not of the first two.
_ARGUMENTS: Final[Mapping[type, slice]] = {
    errors.UsageError: slice(1, 2),
    errors.InternalError: slice(1, 2),
    errors.PolicyError: slice(2, 3),
    errors.PeerError: slice(0, 3),
}

_Text: TypeAlias = Annotated[str, Size(0, _DETAIL_MAX)]


class Method(IntEnum):
    """What the authority may be asked for; each kind of connection has its own (`server.py`)."""

    HELLO = 1
    ISSUE = 2
    RAISE_FLOOR = 3
    TLS_LEAF = 4
    OPERATE = 5
    EVIDENCE = 7
    NEXT_QUOTE = 8
    QUOTE = 9
    DENIED = 6
    WATCH = 10
    COSIGNED = 11


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


@dataclass(frozen=True, slots=True)
class _Mismatch:
    code: Code
    field: _Text
    expected: _Text
    actual: _Text


@dataclass(frozen=True, slots=True)
class _Error:
    kind: Annotated[int, Size(1, len(_CLASSES))]
    code: Code
    detail: _Text
    mismatches: Annotated[tuple[_Mismatch, ...], Size(0, _MISMATCHES_MAX)]


_ERROR: Final = Array[_Error](_Error, MALFORMED)


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
    kind = next((number for number, cls in enumerate(_CLASSES, 1) if isinstance(error, cls)), len(_CLASSES))
    texts = tuple(
        _Mismatch(m.code, *(_cut(text, _MISMATCH_TEXT_MAX) for text in (m.field, m.expected, m.actual)))
        for m in getattr(error, "mismatches", ())[:_MISMATCHES_MAX]
    )
    return _frame([call_id, 1, _ERROR.write(_Error(kind, error.code, _cut(error.detail, _DETAIL_MAX), texts))])


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
    if kind > 1:
        raise FormatError(MALFORMED, f"unknown kind of answer {kind}")
    return Answer(call_id, None, _decode_error(body)) if kind else Answer(call_id, body, None)


def _decode_error(value: object) -> ProxyAttestationError:
    error = _ERROR.read(value)
    cls, mismatches = _CLASSES[error.kind - 1], tuple(Mismatch(*astuple(item)) for item in error.mismatches)
    if cls is errors.PolicyError and not mismatches:
        raise FormatError(MALFORMED, "a policy error without mismatches")
    make: Callable[..., ProxyAttestationError] = cls
    return make(*(error.code, error.detail, mismatches)[_ARGUMENTS.get(cls, slice(0, 2))])


def _cut(text: str, maximum: int) -> str:
    # A detail may quote what a peer sent; what UTF-8 cannot carry must not keep the error from being told.
    return text[:maximum].encode("utf-8", "replace").decode()


def _triple(frame: bytes) -> tuple[int, int, cbor.Value]:
    call_id, kind, body = cbor.as_list(cbor.decode(frame, MALFORMED, AUTHORITY_FRAME_MAX), MALFORMED, 3, 3)
    return cbor.as_uint(call_id, MALFORMED, _ID_MAX), cbor.as_uint(kind, MALFORMED, 255), body


def _frame(item: object) -> bytes:
    data = cbor.encode(item)
    if len(data) > AUTHORITY_FRAME_MAX:
        raise FormatError(MALFORMED, f"a frame of {len(data)} bytes")
    return len(data).to_bytes(4, "big") + data
