"""Replay of measured-boot logs into registers whose values were signed (TCG PC Client Platform Firmware Profile, 10).

  1  every event that is not EV_NO_ACTION names a register that exists          <tee>.event_log_malformed
  2  register = H(register || digest), from its initial value: zeros; for PCR 0 with the start-up locality in the last
     byte; FF..FF for PCRs 17 to 22, which only a dynamic launch sets to zero
  3  each signed register that the log has events for ends in its signed value  <tee>.event_log

An event's *data* counts only where its digest is the hash of that data, by a hash that nobody can find collisions of
(not SHA-1). All other data is a remark of whoever wrote the log. What the caller MUST still do: refuse a pinned
register whose layer has `unknown` events, where the policy demands that each event be understood; a register without
events is nothing that a log says something about.
"""

import hashlib
from collections.abc import Mapping
from typing import Final

from proxy_attestation.appraisal.claims import TdxClaims
from proxy_attestation.appraisal.layers import Layer, MeasuredEvent
from proxy_attestation.codes import Code
from proxy_attestation.errors import AppraisalError, FormatError
from proxy_attestation.formats.event_log import EV_NO_ACTION, EventLog, decode_event_log
from proxy_attestation.formats.tpm_codes import HASH_SIZES

TPM_REGISTERS: Final = range(24)
TDX_REGISTERS: Final = range(1, 5)
"""Measurement register i of a CCEL is RTMR(i - 1); 0 is MRTD, which nothing extends."""
_LOCALITY: Final = b"StartupLocality\0"
_DYNAMIC: Final = range(17, 23)
_DATA_COUNTS: Final = ("sha256", "sha384", "sha512")


def replay_td(event_log: bytes, body: TdxClaims) -> tuple[Layer, ...]:
    """Replay a TD's log (CCEL) into the registers of its verified quote.

    Raises:
        FormatError: `evidence.too_large`, `tdx.event_log_malformed`.
        AppraisalError: `tdx.event_log`.
    """
    signed = dict(enumerate((body.rtmr0, body.rtmr1, body.rtmr2, body.rtmr3), start=TDX_REGISTERS.start))
    return replay(decode_event_log(event_log, Code.TDX_EVENT_LOG_MALFORMED), "sha384", signed, TDX_REGISTERS, "tdx")


def replay(
    log: EventLog, alg: str, signed: Mapping[int, bytes], registers: range = TPM_REGISTERS, tee: str = "tpm"
) -> tuple[Layer, ...]:
    """Replay a log.

    Args:
        log: decoded.
        alg: the hash of the bank, such as `sha256`; `sha384` for TDX.
        signed: the values that a verified quote covers, by register as the log counts them.
        registers: those that exist.
        tee: whose codes to use, `tpm` or `tdx`.

    Returns:
        A layer for each signed register that has events, ascending.

    Raises:
        FormatError: `<tee>.event_log_malformed`.
        AppraisalError: `<tee>.event_log`, where the log has no digests of that hash or leads to another value.
    """
    values, events = extend(log, alg, registers, tee)
    # 3
    for index in sorted(events.keys() & signed.keys()):
        if values[index] != signed[index]:
            raise AppraisalError(Code(f"{tee}.event_log"), f"register {index}: the log leads to another value")
    return tuple(Layer(index, signed[index], tuple(events[index])) for index in sorted(events.keys() & signed.keys()))


def extend(
    log: EventLog, alg: str, registers: range = TPM_REGISTERS, tee: str = "tpm"
) -> tuple[dict[int, bytes], dict[int, list[MeasuredEvent]]]:
    """Return the value that a log leads each register to that it has events for, and those events; nobody signed them.

    Raises:
        FormatError: `<tee>.event_log_malformed`.
        AppraisalError: `<tee>.event_log`, where the log has no digests of that hash.
    """
    size = HASH_SIZES[alg]
    if alg not in log.algorithms:
        raise AppraisalError(Code(f"{tee}.event_log"), f"the log has no {alg} digests")
    values: dict[int, bytes] = {}
    events: dict[int, list[MeasuredEvent]] = {}
    locality = bytes(1)
    for event in log.events:
        if event.type == EV_NO_ACTION:
            if event.data[:-1] == _LOCALITY and not values.get(0):
                locality = event.data[-1:]
            continue
        # 1
        if event.register not in registers:
            raise FormatError(Code(f"{tee}.event_log_malformed"), f"an event in register {event.register}")
        # 2
        index, digest = event.register, event.digests[alg]
        value = values.get(index)
        if value is None:
            dynamic = registers is TPM_REGISTERS and index in _DYNAMIC
            tail = locality if index == 0 else bytes(1)
            value = b"\xff" * size if dynamic else bytes(size - 1) + tail
        values[index] = hashlib.new(alg, value + digest).digest()
        covered = alg in _DATA_COUNTS and hashlib.new(alg, event.data).digest() == digest
        measured = MeasuredEvent(event.type, digest, event.data if covered else None)
        events.setdefault(index, []).append(measured)
    return values, events
