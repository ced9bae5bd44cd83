"""Registers that a log of measured boot was replayed into, and the events that lead there."""

from dataclasses import dataclass
from typing import Annotated, Final

from proxy_attestation.formats.arrays import Size
from proxy_attestation.formats.bounds import EVENTS_MAX
from proxy_attestation.formats.event_log import EVENT_TYPES
from proxy_attestation.formats.tee import Tee

LAYERS_MAX: Final = 24
EVENT_DATA_MAX: Final = 1024
"""Bytes of an event's data that an entry can name. What is longer has a digest."""
_SHA1_BYTES: Final = 20
_DIGEST: Final = Size(_SHA1_BYTES, 64)


@dataclass(frozen=True, slots=True)
class MeasuredEvent:
    """One event of a replayed register.

    Attributes:
        type: u32.
        digest: what was extended.
        data: what was measured, or None where the digest does not cover the log's data.
    """

    type: Annotated[int, Size(0, 0xFFFFFFFF)]
    digest: Annotated[bytes, _DIGEST]
    data: Annotated[bytes | None, Size(0, EVENT_DATA_MAX)]

    @property
    def name(self) -> str | None:
        """The name of the type, or None where the profile has none."""
        return EVENT_TYPES.get(self.type)


@dataclass(frozen=True, slots=True)
class Layer:
    """A register, and the events that lead to its signed value.

    Attributes:
        register: as the log counts.
        value: the signed value.
        events: in order.
    """

    register: Annotated[int, Size(0, LAYERS_MAX - 1)]
    value: Annotated[bytes, _DIGEST]
    events: Annotated[tuple[MeasuredEvent, ...], Size(1, EVENTS_MAX)]

    @property
    def unknown(self) -> tuple[MeasuredEvent, ...]:
        """The events of no known type."""
        return tuple(event for event in self.events if event.name is None)

    @property
    def measured(self) -> tuple[tuple[str, bytes], ...]:
        """(type, data) of the events whose digest covers the data: the only ones to take claims from."""
        return tuple((event.name, event.data) for event in self.events if event.name and event.data is not None)

    def name(self, tee: Tee) -> str:
        """Return the register's name in policies: measurement register 1 of a TD is RTMR0, and register 0 is none."""
        return f"rtmr{self.register - 1}" if tee is Tee.TDX else f"pcr{self.register}"


def judgeable(layers: tuple[Layer, ...]) -> tuple[Layer, ...]:
    """Return what policies can judge.

    That is no SHA-1 bank, in which two logs may lead to one value, and no data longer than an entry can name.
    """
    strong = [layer for layer in layers if len(layer.value) > _SHA1_BYTES]
    return tuple(Layer(layer.register, layer.value, tuple(map(_shortened, layer.events))) for layer in strong)


def _shortened(event: MeasuredEvent) -> MeasuredEvent:
    long = event.data is not None and len(event.data) > EVENT_DATA_MAX
    return MeasuredEvent(event.type, event.digest, None) if long else event
