"""What the loader and its Wasm host say to each other: u32 big-endian length, then deterministic CBOR.

First the loader sends `Setup`, and the host answers `Ready` once the module is compiled. Then `Call` and `Done` follow
in any order, matched by their ids. Neither side trusts the other's lengths.
"""

from dataclasses import dataclass
from typing import Final

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError
from proxy_attestation.formats import cbor
from proxy_attestation.loader.applications.model import CallResult, Outcome

MODULE_MAX: Final = 64 * 1024 * 1024
BODY_MAX: Final = 64 * 1024 * 1024
FRAME_MAX: Final = BODY_MAX + 64 * 1024
STDERR_MAX: Final = 4 * 1024
_ARGUMENTS_MAX: Final = 8
_ARGUMENT_MAX: Final = 4 * 1024
_ID_MAX: Final = (1 << 53) - 1
_MILLISECONDS_MAX: Final = 24 * 3600 * 1000
_CODE: Final = Code.APPLICATION_FAILED


@dataclass(frozen=True, slots=True)
class Setup:
    """What the host runs, and within which limits.

    Attributes:
        module: the file's bytes: Wasm or its text form.
        fuel: instructions (as wasmtime counts them) of one call.
        memory: bytes of one instance's memory.
        output: bytes of one call's stdout.
        threads: calls at one time.
    """

    module: bytes
    fuel: int
    memory: int
    output: int
    threads: int


@dataclass(frozen=True, slots=True)
class Ready:
    """The host's answer to `Setup`.

    Attributes:
        error: why the module cannot run, or empty.
        other_user: whether the host gave up its user for nobody's.
    """

    error: str
    other_user: bool


@dataclass(frozen=True, slots=True)
class Call:
    """One call: argv after the program's name, stdin, and its time limit."""

    call_id: int
    arguments: tuple[str, ...]
    message: bytes
    milliseconds: int


@dataclass(frozen=True, slots=True)
class Done:
    """The end of one call, with the first `STDERR_MAX` bytes of what it wrote to stderr."""

    call_id: int
    result: CallResult
    stderr: bytes


def frame(body: bytes) -> bytes:
    """Put the length before a body."""
    return len(body).to_bytes(4, "big") + body


def frame_length(prefix: bytes) -> int:
    """Return the length that 4 bytes announce.

    Raises:
        FormatError: `application.failed`, for zero or more than `FRAME_MAX`.
    """
    length = int.from_bytes(prefix, "big")
    if len(prefix) != 4 or not 0 < length <= FRAME_MAX:
        raise FormatError(_CODE, f"a frame of {length} bytes")
    return length


def encode_setup(setup: Setup) -> bytes:
    """Encode."""
    return cbor.encode({1: setup.module, 2: setup.fuel, 3: setup.memory, 4: setup.output, 5: setup.threads})


def decode_setup(body: bytes) -> Setup:
    """Decode.

    Raises:
        FormatError: `application.failed`.
    """
    m = _map(body, {1, 2, 3, 4, 5})
    return Setup(
        cbor.as_bytes(m[1], _CODE, 1, MODULE_MAX),
        cbor.as_uint(m[2], _CODE, (1 << 63) - 1),
        cbor.as_uint(m[3], _CODE, 1 << 32),
        cbor.as_uint(m[4], _CODE, BODY_MAX),
        cbor.as_uint(m[5], _CODE, 1024),
    )


def encode_ready(ready: Ready) -> bytes:
    """Encode."""
    error: dict[int, object] = {1: ready.error[:_ARGUMENT_MAX]} if ready.error else {}
    return cbor.encode({**error, 2: ready.other_user})


def decode_ready(body: bytes) -> Ready:
    """Decode.

    Raises:
        FormatError: `application.failed`.
    """
    m = _map(body, {2}, {1})
    if not isinstance(m[2], bool):
        raise FormatError(_CODE, "a boolean was expected")
    return Ready(cbor.as_text(m[1], _CODE, _ARGUMENT_MAX) if 1 in m else "", m[2])


def encode_call(call: Call) -> bytes:
    """Encode."""
    return cbor.encode({1: call.call_id, 2: list(call.arguments), 3: call.message, 4: call.milliseconds})


def decode_call(body: bytes) -> Call:
    """Decode.

    Raises:
        FormatError: `application.failed`.
    """
    m = _map(body, {1, 2, 3, 4})
    arguments = cbor.as_list(m[2], _CODE, _ARGUMENTS_MAX)
    return Call(
        cbor.as_uint(m[1], _CODE, _ID_MAX),
        tuple(cbor.as_text(item, _CODE, _ARGUMENT_MAX) for item in arguments),
        cbor.as_bytes(m[3], _CODE, 0, BODY_MAX),
        cbor.as_uint(m[4], _CODE, _MILLISECONDS_MAX),
    )


def encode_done(done: Done) -> bytes:
    """Encode."""
    result = done.result
    return cbor.encode(
        {1: done.call_id, 2: int(result.outcome), 3: result.exit_code, 4: result.output, 5: done.stderr[:STDERR_MAX]}
    )


def decode_done(body: bytes) -> Done:
    """Decode.

    Raises:
        FormatError: `application.failed`.
    """
    m = _map(body, {1, 2, 3, 4, 5})
    result = CallResult(
        Outcome(cbor.as_uint(m[2], _CODE, Outcome.LOST)),
        cbor.as_uint(m[3], _CODE, (1 << 32) - 1),
        cbor.as_bytes(m[4], _CODE, 0, BODY_MAX),
    )
    return Done(cbor.as_uint(m[1], _CODE, _ID_MAX), result, cbor.as_bytes(m[5], _CODE, 0, STDERR_MAX))


def _map(body: bytes, keys: set[int], optional: set[int] | None = None) -> dict[int, cbor.Value]:
    return cbor.as_map(cbor.decode(body, _CODE, FRAME_MAX), _CODE, frozenset(keys), frozenset(optional or ()))
