"""What an entry pins of its TEE: read from its table, matched with a body, shown. The keys are `formats.pins`."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Final

from proxy_attestation.appraisal.claims import Body, claim_of
from proxy_attestation.errors import Mismatch
from proxy_attestation.formats.bounds import PIN_VALUES_MAX, REGISTERS_ROOM
from proxy_attestation.formats.pins import (
    EK_ROOT,
    MINIMUM,
    PINS,
    Claim,
    MaskedBytes,
    PinKey,
    PinKind,
    Pins,
    PinValue,
    minimum_form,
)
from proxy_attestation.formats.tee import Tee
from proxy_attestation.policy.reader import TableReader
from proxy_attestation.policy.vocabulary import hex_from, word_from

_RULED: Final = 48
"""Bytes that a register counts as whose value is not pinned."""


def parse_pins(tee: Tee, reader: TableReader, ruled: frozenset[str] = frozenset()) -> Pins | None:
    """Read the pins of an entry; None, with every problem noted, where they are wrong or below the minimum.

    Args:
        tee: of the entry.
        reader: of its table.
        ruled: registers that event rules speak of, which then need no value.
    """
    noted = len(reader.issues)
    values = read_pins(tee, reader)
    forms = "; or ".join(", ".join(form) for form in MINIMUM[tee])
    form = minimum_form(tee, lambda key: key in ruled or reader.has(key))
    reader.require([key for key in form if key not in ruled], f"below the minimum pins of {tee}, which are {forms}")
    _check_room(tee, values, ruled, reader)
    if len(reader.issues) > noted:
        return None
    return {name: value for name, value in values.items() if value is not None and value != ()}


def read_pins(tee: Tee, reader: TableReader) -> dict[str, PinValue | None]:
    """Read every key that pins something of a TEE; what is wrong is noted, what is missing is what it counts as."""
    return {key.name: _read(key, reader) for key in PINS[tee].values()}


def _check_room(tee: Tee, values: Mapping[str, PinValue | None], ruled: frozenset[str], reader: TableReader) -> None:
    """A leaf carries the registers of a TPM that its entry speaks of, and no more than it has room for."""
    if tee is Tee.TPM:
        pinned = {name: value for name, value in values.items() if name != EK_ROOT and isinstance(value, tuple)}
        lengths = [len(value) for name in pinned for value in pinned[name][:1] if isinstance(value, bytes)]
        total = sum(lengths) + _RULED * len(ruled - {name for name, value in pinned.items() if value})
        if total > REGISTERS_ROOM:
            reader.note(None, f"registers of {total} bytes are pinned", f"pin at most {REGISTERS_ROOM} bytes of them")


def match_pins(tee: Tee, pins: Pins, body: Body, ruled: frozenset[str] = frozenset()) -> Iterator[Mismatch]:
    """Yield every mismatch of what a TEE measured with the pins of an entry for that TEE, in the table's order.

    A claim that the body does not have agrees with nothing. A register that event rules speak of needs no value.
    """
    for key, wanted in _demands(tee, pins, ruled):
        actual = claim_of(body, key.claim)
        actual = key.missing if actual is None else actual
        # What is equal agrees, whatever the kind of pin; that is most of them.
        if actual != wanted and (mismatch := compare(key, wanted, actual)) is not None:
            yield mismatch


def pins_readable(tee: Tee, pins: Pins) -> dict[str, tuple[str, ...]]:
    """Return what pins demand, for people: by key name, one text for each accepted value."""
    return {
        key.name: tuple(map(_shown, wanted)) if isinstance(wanted, tuple) else (readable(key, wanted),)
        for key, wanted in _demands(tee, pins)
    }


def _demands(tee: Tee, pins: Pins, ruled: frozenset[str] = frozenset()) -> Iterator[tuple[PinKey, PinValue]]:
    minimum = minimum_form(tee, lambda key: key in ruled or key in pins)
    for name, key in PINS[tee].items():
        # No file can be below the minimum. Pins made in another way can: what they lack then matches nothing.
        wanted = pins.get(name, () if name in minimum and name not in ruled else key.absent)
        if wanted is not None:
            yield key, wanted


def _read(key: PinKey, reader: TableReader) -> PinValue | None:
    read = partial(hex_from, size=key.size, zero=key.zero, lengths=key.lengths)
    if key.kind is PinKind.ANY_OF:
        return reader.values(key.name, PIN_VALUES_MAX, read) or key.absent
    if key.kind is PinKind.WORD:
        return reader.values(key.name, PIN_VALUES_MAX, partial(word_from, size=key.size)) or key.absent
    if key.kind is PinKind.MASKED:
        return _read_masked(key, reader)
    if key.kind is PinKind.EXACT:
        value: PinValue | None = reader.value(key.name, read)
    else:
        value = reader.integer(key.name, 0, 256**key.size - 1)
    return key.absent if value is None else value


def _read_masked(key: PinKey, reader: TableReader) -> MaskedBytes | None:
    if not reader.has(key.name) and not reader.has(key.mask):
        return None
    if not reader.require([key.name, key.mask], "a masked value takes both keys: the value, and the bits that count"):
        return None
    value = reader.value(key.name, partial(hex_from, size=key.size, zero=True))
    mask = reader.value(key.mask, partial(hex_from, size=key.size, zero=False))
    if value is None or mask is None:
        return None
    kept = bytes(v & m for v, m in zip(value, mask, strict=True))
    if kept != value:
        fix = f"write {kept.hex()}, or set them in {key.mask}"
        reader.note(key.name, f"{key.name} has bits that its mask leaves out", fix)
        return None
    return MaskedBytes(value, mask)


def compare(key: PinKey, wanted: PinValue, actual: Claim | None) -> Mismatch | None:
    """Hold one pin against one claim; None where they agree. A claim that is absent agrees with nothing."""
    if isinstance(wanted, tuple):
        agrees = actual in wanted
    elif isinstance(wanted, MaskedBytes):
        agrees = isinstance(actual, bytes) and wanted.matches(actual)
    elif key.kind is PinKind.AT_LEAST and isinstance(wanted, int):
        agrees = isinstance(actual, int) and actual >= wanted
    else:
        agrees = actual == wanted
    return None if agrees else Mismatch(key.code, key.name, readable(key, wanted), _shown(actual))


def readable(key: PinKey, wanted: PinValue) -> str:
    """Return what a pin demands, for people."""
    if isinstance(wanted, tuple):
        return " or ".join(_shown(value) for value in wanted) or "nothing"
    if isinstance(wanted, MaskedBytes):
        return f"{wanted.value.hex()} under mask {wanted.mask.hex()}"
    return f"at least {wanted!r}" if key.kind is PinKind.AT_LEAST else _shown(wanted)


def _shown(value: Claim | None) -> str:
    if value is None:
        return "nothing"
    return value.hex() if isinstance(value, bytes) else str(value) or "none"
