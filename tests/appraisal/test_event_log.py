"""Replay of measured-boot logs: initial values, what is not extended, what an event's data are worth."""

import hashlib
from dataclasses import replace

import pytest

from proxy_attestation.appraisal.event_log import TDX_REGISTERS, replay
from proxy_attestation.codes import Code
from proxy_attestation.errors import AppraisalError, FormatError
from proxy_attestation.formats.event_log import EV_NO_ACTION, decode_event_log
from proxy_attestation_simulator.tpm import BOOT
from proxy_attestation_simulator.tpm_structures import LogEvent, LogRecipe

SEPARATOR = 4


def log_of(*events: LogEvent, algorithms: tuple[str, ...] = ("sha256",)) -> LogRecipe:
    return LogRecipe(events, algorithms)


def extended(name: str, value: bytes, data: bytes) -> bytes:
    return hashlib.new(name, value + hashlib.new(name, data).digest()).digest()


def test_a_register_is_extended_from_zero() -> None:
    log = log_of(LogEvent(1, SEPARATOR, b"a"), LogEvent(1, SEPARATOR, b"b"))
    value = extended("sha256", extended("sha256", bytes(32), b"a"), b"b")
    (layer,) = replay(decode_event_log(log.encode()), "sha256", {1: value, 2: bytes(32)})
    assert (layer.register, layer.value) == (1, value)
    assert layer.measured == (("EV_SEPARATOR", b"a"), ("EV_SEPARATOR", b"b"))


@pytest.mark.parametrize("locality", [0, 3, 4])
def test_pcr_0_begins_with_the_locality_that_started_the_tpm(locality: int) -> None:
    start = LogEvent(0, EV_NO_ACTION, b"StartupLocality\0" + bytes([locality]))
    log = log_of(start, LogEvent(0, SEPARATOR, b"a"), LogEvent(1, SEPARATOR, b"a"))
    signed = {
        0: extended("sha256", bytes(31) + bytes([locality]), b"a"),
        1: extended("sha256", bytes(32), b"a"),
    }
    assert len(replay(decode_event_log(log.encode()), "sha256", signed)) == 2


def test_a_locality_that_comes_after_the_first_event_changes_nothing() -> None:
    late = LogEvent(0, EV_NO_ACTION, b"StartupLocality\0\x04")
    log = log_of(LogEvent(0, SEPARATOR, b"a"), late, LogEvent(0, SEPARATOR, b"b"))
    value = extended("sha256", extended("sha256", bytes(32), b"a"), b"b")
    assert len(replay(decode_event_log(log.encode()), "sha256", {0: value})) == 1


@pytest.mark.parametrize("register", [17, 22])
def test_registers_of_a_dynamic_launch_begin_with_ones(register: int) -> None:
    log = log_of(LogEvent(register, SEPARATOR, b"a"))
    signed = {register: extended("sha256", b"\xff" * 32, b"a")}
    assert len(replay(decode_event_log(log.encode()), "sha256", signed)) == 1


def test_data_that_the_digest_does_not_cover_is_no_claim() -> None:
    log = log_of(LogEvent(4, 0x80000003, b"/boot/evil", b"the boot loader"))
    signed = {4: extended("sha256", bytes(32), b"the boot loader")}
    (layer,) = replay(decode_event_log(log.encode()), "sha256", signed)
    assert (layer.measured, layer.events[0].data) == ((), None)
    assert layer.events[0].digest == hashlib.sha256(b"the boot loader").digest()


def test_data_behind_sha1_is_no_claim() -> None:
    log = log_of(LogEvent(4, SEPARATOR, b"a"), algorithms=("sha1", "sha256"))
    (layer,) = replay(decode_event_log(log.encode()), "sha1", {4: extended("sha1", bytes(20), b"a")})
    assert layer.measured == ()


@pytest.mark.parametrize("signed", [{4: bytes(32)}, {4: b"\x01" * 32}])
def test_another_value_is_refused(signed: dict[int, bytes]) -> None:
    with pytest.raises(AppraisalError) as refused:
        replay(decode_event_log(BOOT.encode()), "sha256", signed)
    assert refused.value.code is Code.TPM_EVENT_LOG


def test_a_log_without_the_banks_digests_is_refused() -> None:
    with pytest.raises(AppraisalError) as refused:
        replay(decode_event_log(BOOT.encode()), "sha384", {4: bytes(48)})
    assert refused.value.code is Code.TPM_EVENT_LOG


@pytest.mark.parametrize(
    ("register", "registers", "tee", "code"),
    [
        (24, range(24), "tpm", Code.TPM_EVENT_LOG_MALFORMED),
        (0xFFFFFFFF, range(24), "tpm", Code.TPM_EVENT_LOG_MALFORMED),
        (0, TDX_REGISTERS, "tdx", Code.TDX_EVENT_LOG_MALFORMED),
        (5, TDX_REGISTERS, "tdx", Code.TDX_EVENT_LOG_MALFORMED),
    ],
)
def test_a_register_that_does_not_exist_is_refused(register: int, registers: range, tee: str, code: Code) -> None:
    log = decode_event_log(log_of(LogEvent(register, SEPARATOR, b"a")).encode())
    with pytest.raises(FormatError) as refused:
        replay(log, "sha256", {}, registers, tee)
    assert refused.value.code is code


def test_a_tds_registers_count_from_one() -> None:
    log = log_of(LogEvent(1, SEPARATOR, b"a"), LogEvent(4, SEPARATOR, b"b"), algorithms=("sha384",))
    signed = {1: extended("sha384", bytes(48), b"a"), 4: extended("sha384", bytes(48), b"b")}
    layers = replay(decode_event_log(log.encode()), "sha384", signed, TDX_REGISTERS, "tdx")
    assert [layer.register for layer in layers] == [1, 4]
    with pytest.raises(AppraisalError) as refused:
        replay(decode_event_log(log.encode()), "sha384", signed | {4: bytes(48)}, TDX_REGISTERS, "tdx")
    assert refused.value.code is Code.TDX_EVENT_LOG


def test_an_event_that_informs_is_not_extended() -> None:
    log = log_of(LogEvent(0xFFFFFFFF, EV_NO_ACTION, b"about a security processor"), LogEvent(1, SEPARATOR, b"a"))
    assert len(replay(decode_event_log(log.encode()), "sha256", {1: extended("sha256", bytes(32), b"a")})) == 1


def test_an_event_left_out_or_moved_is_seen() -> None:
    signed = BOOT.registers()
    for events in (BOOT.events[1:], (BOOT.events[1], BOOT.events[0], *BOOT.events[2:])):
        with pytest.raises(AppraisalError) as refused:
            replay(decode_event_log(replace(BOOT, events=events).encode()), "sha256", signed)
        assert refused.value.code is Code.TPM_EVENT_LOG
