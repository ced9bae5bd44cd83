from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError
from proxy_attestation.formats import cbor
from proxy_attestation.loader.applications import frames
from proxy_attestation.loader.applications.model import CallResult, Outcome

DECODERS: list[Callable[[bytes], object]] = [
    frames.decode_setup,
    frames.decode_ready,
    frames.decode_call,
    frames.decode_done,
]


def test_each_message_comes_out_as_it_went_in() -> None:
    setup = frames.Setup(b"(module)", 1, 65536, 1024, 4)
    assert frames.decode_setup(frames.encode_setup(setup)) == setup
    for ready in (frames.Ready("", other_user=True), frames.Ready("no module", other_user=False)):
        assert frames.decode_ready(frames.encode_ready(ready)) == ready
    call = frames.Call(7, ("grpc", "/a.B/C"), b"message", 1500)
    assert frames.decode_call(frames.encode_call(call)) == call
    for outcome in sorted(set(Outcome) - {Outcome.REFUSED}):
        done = frames.Done(7, CallResult(outcome, 3, b"output"), b"errors")
        assert frames.decode_done(frames.encode_done(done)) == done


def test_a_frame_has_its_length_in_front() -> None:
    assert frames.frame(b"abc") == b"\0\0\0\3abc"
    assert frames.frame_length(b"\0\0\0\3") == 3


@pytest.mark.parametrize("prefix", [b"", b"\0\0\0", b"\0\0\0\0", (frames.FRAME_MAX + 1).to_bytes(4, "big")])
def test_lengths_that_are_refused(prefix: bytes) -> None:
    with pytest.raises(FormatError) as refused:
        frames.frame_length(prefix)
    assert refused.value.code is Code.APPLICATION_FAILED


@pytest.mark.parametrize("decode", DECODERS)
@given(data=st.one_of(st.binary(max_size=80), st.dictionaries(st.integers(0, 6), st.integers()).map(cbor.encode)))
@settings(deadline=None, max_examples=100)
def test_any_bytes_are_a_message_or_a_format_error(decode: Callable[[bytes], object], data: bytes) -> None:
    try:
        decode(data)
    except FormatError as error:
        assert error.code is Code.APPLICATION_FAILED


def test_values_out_of_range_are_refused() -> None:
    good = {1: 7, 2: 0, 3: 0, 4: b"", 5: b""}
    assert frames.decode_done(cbor.encode(good)).call_id == 7
    for change in ({2: 6}, {3: -1}, {3: 1 << 32}, {4: "text"}, {5: bytes(frames.STDERR_MAX + 1)}, {6: 0}):
        with pytest.raises(FormatError):
            frames.decode_done(cbor.encode({**good, **change}))
    with pytest.raises(FormatError):
        frames.decode_ready(cbor.encode({2: 1}))
