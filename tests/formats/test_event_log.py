"""The bytes of measured-boot logs."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError
from proxy_attestation.formats.bounds import EVENT_LOG_MAX, EVENTS_MAX
from proxy_attestation.formats.event_log import decode_event_log
from proxy_attestation_simulator.tpm import BOOT
from proxy_attestation_simulator.tpm_structures import LogEvent, LogRecipe

GOOD = BOOT.encode()
HEADER = LogRecipe(()).encode()
# The offsets of the header's data, behind 32 bytes of its record.
COUNT, ALGORITHM, SIZE = 32 + 24, 32 + 28, 32 + 30
LEGACY = struct.pack("<II20sI", 4, 4, b"d" * 20, 3) + b"abc"


def code_of(data: bytes) -> Code:
    with pytest.raises(FormatError) as refused:
        decode_event_log(data)
    return refused.value.code


def changed(data: bytes, at: int, value: bytes) -> bytes:
    return data[:at] + value + data[at + len(value) :]


def test_a_crypto_agile_log() -> None:
    log = decode_event_log(LogRecipe(BOOT.events, ("sha1", "sha256", "sha384")).encode())
    assert log.algorithms == ("sha1", "sha256", "sha384")
    assert [(event.register, event.type) for event in log.events] == [(e.register, e.type) for e in BOOT.events]
    assert {name: len(digest) for name, digest in log.events[0].digests.items()} == {
        "sha1": 20, "sha256": 32, "sha384": 48,
    }  # fmt: skip


def test_a_log_of_sha1_alone() -> None:
    log = decode_event_log(LEGACY * 2)
    assert log.algorithms == ("sha1",)
    assert [(event.register, event.data, event.digests["sha1"]) for event in log.events] == [(4, b"abc", b"d" * 20)] * 2


@pytest.mark.parametrize("padding", [b"\xff" * 40, bytes(40), b"\xff" * 8, bytes(8)])
def test_padding_ends_a_log(padding: bytes) -> None:
    assert decode_event_log(GOOD + padding) == decode_event_log(GOOD)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("empty", b""),
        ("cut off", GOOD[:-1]),
        ("a byte too many", GOOD + b"\x01"),
        ("padding that hides something", GOOD + b"\xff" * 40 + b"\0"),
        ("padding that hides something", GOOD + bytes(40) + b"\x01"),
        ("no algorithm", changed(HEADER, COUNT, bytes(4))),
        ("too many algorithms", changed(HEADER, COUNT, b"\x09\0\0\0")),
        ("a digest of another length", changed(HEADER, SIZE, b"\x14\0")),
        ("an unknown algorithm without length", changed(HEADER, ALGORITHM, b"\x34\x12\0\0")),
        ("an unknown algorithm that is too long", changed(HEADER, ALGORITHM, b"\x34\x12\x41\0")),
        ("an algorithm twice", LogRecipe((), ("sha256", "sha256")).encode()),
        ("vendor information that is not there", HEADER[:-1] + b"\x01"),
        ("another count of digests", changed(GOOD, len(HEADER) + 8, b"\x02\0\0\0")),
        ("a digest of an algorithm that the log has not", changed(GOOD, len(HEADER) + 12, b"\x0c\0")),
        ("data past the end", changed(LEGACY, 28, b"\xff\xff\0\0")),
        ("data larger than any log", changed(LEGACY, 28, b"\xff" * 4)),
        ("too many events", LEGACY * (EVENTS_MAX + 1)),
    ],
)
def test_what_is_malformed_is_refused(name: str, data: bytes) -> None:
    assert code_of(data) is Code.TPM_EVENT_LOG_MALFORMED, name


def test_a_log_of_an_unknown_hash_beside_a_known_one_is_read() -> None:
    parts = struct.pack("<HHHH", 0x000B, 32, 0x0012, 32)
    header = b"Spec ID Event03\0" + struct.pack("<IBBBBI", 0, 0, 2, 0, 2, 2) + parts + b"\0"
    record = struct.pack("<II20sI", 0, 3, bytes(20), len(header)) + header
    digests = struct.pack("<H", 0x000B) + b"a" * 32 + struct.pack("<H", 0x0012) + b"b" * 32
    event = struct.pack("<III", 1, 4, 2) + digests + struct.pack("<I", 0)
    log = decode_event_log(record + event)
    assert (log.algorithms, log.events[0].digests) == (("sha256",), {"sha256": b"a" * 32})
    twice = struct.pack("<III", 1, 4, 2) + digests[:34] * 2 + struct.pack("<I", 0)
    assert code_of(record + twice) is Code.TPM_EVENT_LOG_MALFORMED


def test_a_log_that_is_too_large_is_refused_before_it_is_read() -> None:
    assert code_of(bytes(EVENT_LOG_MAX + 1)) is Code.EVIDENCE_TOO_LARGE


def test_the_code_is_the_callers() -> None:
    with pytest.raises(FormatError) as refused:
        decode_event_log(b"", Code.TDX_EVENT_LOG_MALFORMED)
    assert refused.value.code is Code.TDX_EVENT_LOG_MALFORMED


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=300), st.integers(0, len(GOOD)))
def test_any_bytes_give_a_log_or_our_error(data: bytes, cut: int) -> None:
    for candidate in (data, GOOD[:cut] + data, HEADER + data):
        try:
            decode_event_log(candidate)
        except FormatError as error:
            assert error.code is Code.TPM_EVENT_LOG_MALFORMED


def test_events_are_of_registers_and_types_as_they_stand() -> None:
    log = decode_event_log(LogRecipe((LogEvent(7, 0x7777, b"x"),)).encode())
    assert (log.events[0].register, log.events[0].type, log.events[0].data) == (7, 0x7777, b"x")
