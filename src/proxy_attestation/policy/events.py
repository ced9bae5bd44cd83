"""Event rules: what may have been measured into a register, where its final value cannot be known.

``[[workload.event]]`` tables of a TDX or TPM entry::

    register = "rtmr1"                              rtmr0 to rtmr3, or pcr0 to pcr15 and pcr17 to pcr22
    type = "EV_EFI_BOOT_SERVICES_APPLICATION"       a name of the profile, or eight hex digits
    digest = ["…"]                                  accepted digests, of the register's bank
    data = ["…"], text = ["…"]                      or what was measured, in hex or as UTF-8; at most 1024 bytes
    any = true                                      or whatever was measured
    optional = true                                 such an event may also be absent

A register that has rules is accepted where a log leads to its signed value, each of its events agrees with a rule, and
each rule that is not optional agrees with an event. What was measured counts only where the event's digest is the hash
of the log's data (`appraisal.event_log`). The order of events does not count.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final

from proxy_attestation.appraisal.layers import EVENT_DATA_MAX, Layer, MeasuredEvent
from proxy_attestation.codes import Code
from proxy_attestation.errors import Mismatch
from proxy_attestation.formats.bounds import EVENT_RULES_MAX, PIN_VALUES_MAX
from proxy_attestation.formats.event_log import EV_NO_ACTION, EVENT_TYPES
from proxy_attestation.formats.pins import PINS
from proxy_attestation.formats.tee import Tee
from proxy_attestation.policy.reader import Fault, TableReader, show
from proxy_attestation.policy.vocabulary import EVENT_KEYS, hex_from

EVENT: Final = "event"
_WAYS: Final = ("digest", "data", "text", "any")
_NUMBERS: Final = {name: number for number, name in EVENT_TYPES.items() if number != EV_NO_ACTION}
_UNKNOWN: Final = {Tee.TDX: Code.TDX_EVENT_UNKNOWN, Tee.TPM: Code.TPM_EVENT_UNKNOWN}


@dataclass(frozen=True, slots=True)
class EventRule:
    """One rule; exactly one of `digests`, `data` and `anything` says something.

    Attributes:
        register: its name in policies, such as `rtmr1` or `pcr4`.
        type: u32.
        digests: accepted ones.
        data: accepted data, 0 to 1024 bytes each.
        anything: whether any event of the type will do.
        optional: whether no event need agree.
    """

    register: str
    type: int
    digests: tuple[bytes, ...]
    data: tuple[bytes, ...]
    anything: bool
    optional: bool

    def agrees(self, event: MeasuredEvent) -> bool:
        """Tell whether an event of the register is one that the rule accepts."""
        if event.type != self.type:
            return False
        return self.anything or event.digest in self.digests or (event.data is not None and event.data in self.data)

    def readable(self) -> str:
        """Return the rule in a line."""
        values = [value.hex() for value in (*self.digests, *self.data)]
        name = EVENT_TYPES.get(self.type, f"{self.type:08x}")
        return f"{name} {'with anything' if self.anything else ' or '.join(values)}"


def registers_of(tee: Tee) -> frozenset[str]:
    """Return the names of the registers of a TEE that logs lead to; none where it has no such."""
    return frozenset(name for name in PINS[tee] if name.startswith(("rtmr", "pcr"))) if tee in _UNKNOWN else frozenset()


def read_events(reader: TableReader, tee: Tee) -> tuple[EventRule, ...]:
    """Read the rules of an entry, in the file's order; what is wrong is noted."""
    if not reader.has(EVENT):
        return ()
    if tee not in _UNKNOWN:
        reader.note(EVENT, f"{tee} has no event log", "remove it")
        return ()
    rules = [_read(table, tee) for table in reader.children(EVENT, f"{reader.title} event", EVENT_RULES_MAX)]
    return tuple(rule for rule in rules if rule is not None)


def _read(reader: TableReader, tee: Tee) -> EventRule | None:
    noted = len(reader.issues)
    reader.refuse_unknown(EVENT_KEYS)
    known = registers_of(tee)
    fix = f"write one of {', '.join(sorted(known))}"
    register = reader.value("register", lambda text: text if text in known else Fault(show(text), fix), fix)
    kind = reader.value("type", _type, "write the event's type, such as EV_EFI_BOOT_SERVICES_APPLICATION")
    ways = [way for way in _WAYS if reader.has(way)]
    if len(ways) != 1:
        reader.note(
            None, f"{' and '.join(ways) or 'nothing'} says what is accepted", f"write one of {', '.join(_WAYS)}"
        )
    lengths = (32, 48, 64) if tee is Tee.TPM else ()
    digests = reader.values("digest", PIN_VALUES_MAX, partial(hex_from, size=48, zero=True, lengths=lengths))
    data = (*reader.values("data", PIN_VALUES_MAX, _data), *reader.values("text", PIN_VALUES_MAX, _text))
    anything, optional = reader.flag("any"), reader.flag("optional")
    if len(reader.issues) > noted or register is None or kind is None:
        return None
    return EventRule(register, kind, digests, data, anything, optional)


def _type(text: str) -> int | Fault:
    number = hex_from(text, 4, zero=True)
    if isinstance(number, bytes) and int.from_bytes(number) != EV_NO_ACTION:
        return int.from_bytes(number)
    fault = Fault(f"{show(text)} is no event that is measured", "write a name as `inspect` does, or eight hex digits")
    return _NUMBERS.get(text, fault)


def _data(text: str) -> bytes | Fault:
    return hex_from(text, 0, zero=True, lengths=tuple(range(1, EVENT_DATA_MAX + 1)))


def _text(text: str) -> bytes | Fault:
    data = text.encode()
    return data if len(data) <= EVENT_DATA_MAX else Fault(f"{len(data)} bytes", f"at most {EVENT_DATA_MAX}")


def match_events(
    tee: Tee, rules: tuple[EventRule, ...], pinned: frozenset[str], layers: tuple[Layer, ...]
) -> Iterator[Mismatch]:
    """Yield every mismatch of replayed registers with the rules and pins of an entry for that TEE.

    Args:
        tee: of the entry.
        rules: of the entry.
        pinned: the registers whose values the entry pins.
        layers: of the claims.
    """
    found = {layer.name(tee): layer for layer in layers}
    for register in dict.fromkeys(rule.register for rule in rules):
        of_register = [rule for rule in rules if rule.register == register]
        if register not in found:
            yield Mismatch(Code.POLICY_EVENT, register, "an event log that leads to it", "none")
            continue
        events = found[register].events
        for event in events:
            if not any(rule.agrees(event) for rule in of_register):
                shown = f"{event.name or f'{event.type:08x}'} {event.digest.hex()}"
                yield Mismatch(Code.POLICY_EVENT, register, "events that its rules name", shown)
        for rule in of_register:
            if not rule.optional and not any(map(rule.agrees, events)):
                yield Mismatch(Code.POLICY_EVENT, register, rule.readable(), "no such event")
    ruled = {rule.register for rule in rules}
    for register in sorted((pinned & found.keys()) - ruled):
        if unknown := found[register].unknown:
            types = ", ".join(f"{event.type:08x}" for event in unknown[:8])
            yield Mismatch(_UNKNOWN[tee], register, "events of known types", types)
