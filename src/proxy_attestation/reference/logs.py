"""The registers that a log of measured boot leads to: PCRs of a bank, or a TD's RTMRs from its CCEL.

Nobody signed a log. What it leads to are the values of the machine that it was taken from, if that machine is the one
that it seems to be: take it from a machine whose quote was appraised together with it (`appraise --event-log`).
"""

import hashlib
from typing import Final

from proxy_attestation.appraisal.event_log import TDX_REGISTERS, TPM_REGISTERS, extend
from proxy_attestation.codes import Code
from proxy_attestation.formats.event_log import EV_NO_ACTION, EVENT_TYPES, decode_event_log
from proxy_attestation.formats.pins import PINS
from proxy_attestation.formats.tee import Tee
from proxy_attestation.reference.measured import EventRow, Measured, Value

BANKS: Final = ("sha256", "sha384", "sha512")
_RUNTIME: Final = frozenset({"pcr8", "pcr9", "pcr10", "rtmr3"})
"""Registers that boot loaders extend with each command, and that programs extend at run time."""


def measure_log(data: bytes, tee: Tee, bank: str, ruled: frozenset[str], source: str) -> Measured:
    """Replay a log from reset.

    Args:
        data: the log.
        tee: `tpm` or `tdx`.
        bank: `sha256`, `sha384` or `sha512`; a TD has `sha384` only.
        ruled: registers (keys of policies) for which event rules are to be proposed instead of values.
        source: the file's name.

    Raises:
        FormatError: `evidence.too_large`, `<tee>.event_log_malformed`.
        AppraisalError: `<tee>.event_log`, where the log has no digests of the bank.
    """
    td = tee is Tee.TDX
    registers, bank = (TDX_REGISTERS, "sha384") if td else (TPM_REGISTERS, bank)
    malformed = Code.TDX_EVENT_LOG_MALFORMED if td else Code.TPM_EVENT_LOG_MALFORMED
    log = decode_event_log(data, malformed)
    values, _ = extend(log, bank, registers, str(tee))
    names = {index: f"rtmr{index - TDX_REGISTERS.start}" if td else f"pcr{index}" for index in sorted(values)}
    pins: dict[str, Value] = {
        name: (values[index],) for index, name in names.items() if name in PINS[tee] and name not in ruled
    }
    rows = tuple(
        EventRow(
            name,
            EVENT_TYPES.get(event.type, f"{event.type:08x}"),
            event.digests[bank],
            hashlib.new(bank, event.data).digest() == event.digests[bank],
            event.data,
        )
        for index, name in names.items()
        for event in log.events
        if event.register == index and event.type != EV_NO_ACTION
    )
    notes = ["nobody signed this log: take it from a machine whose quote was appraised together with it"]
    loose = [name for name in pins if name in _RUNTIME]
    notes += (
        [f"{', '.join(loose)}: boot loaders and programs extend these; pin them by events or not at all"]
        if loose
        else []
    )
    left = [name for name in names.values() if name not in PINS[tee]]
    notes += [f"{', '.join(left)}: no register that a policy can pin"] if left else []
    missing = sorted(ruled - set(names.values()))
    notes += [f"{', '.join(missing)}: no events, so no rules"] if missing else []
    return Measured(
        tee,
        f"event log {source} (SHA-256 {hashlib.sha256(data).hexdigest()})",
        pins,
        tuple(notes),
        (),
        {"bank": bank, "events": str(len(rows))},
        rows,
        ruled & set(names.values()),
    )
