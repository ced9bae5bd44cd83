"""What a TDX entry must pin.

Minimum: `mr_td`, `rtmr0`, `rtmr1`, `rtmr2`, `mr_config_id`, and the attributes and XFAM under masks. MRTD covers the
firmware that the TD starts with and nothing that it loads, so the registers are not optional. A service TD (for
migration) can reach into the TD: one that is bound must be pinned.
"""

from typing import Final

from proxy_attestation.formats.tee import Tee
from proxy_attestation.policy.model import TdxPins
from proxy_attestation.policy.reader import TableReader
from proxy_attestation.policy.vocabulary import PinValue, PinValues, read_pins

# Each masked value also takes its mask: reading it sees to that.
_MINIMUM: Final = ("mr_td", "rtmr0", "rtmr1", "rtmr2", "mr_config_id", "td_attributes", "xfam")
_REGISTERS: Final = range(4)
NONE_BOUND: Final = bytes(48)
"""MRSERVICETD where no service TD is bound."""


def read_tdx_pins(reader: TableReader) -> TdxPins | None:
    """Read the pins of a TDX entry; None, with every problem noted, where they are wrong or below the minimum."""
    noted = len(reader.issues)
    values = read_pins(Tee.TDX, reader)
    reader.require(_MINIMUM, "below the minimum pins of tdx: pin them all")
    attributes, xfam = values.masked("td_attributes"), values.masked("xfam")
    if len(reader.issues) > noted or attributes is None or xfam is None:
        return None
    return TdxPins(
        mr_td=values.any_of("mr_td"),
        rtmr=_registers(values),
        mr_config_id=values.any_of("mr_config_id"),
        td_attributes=attributes,
        xfam=xfam,
        mr_owner=values.exact("mr_owner"),
        mr_owner_config=values.exact("mr_owner_config"),
        mr_service_td=values.any_of("mr_service_td"),
    )


def tdx_demands(pins: TdxPins) -> dict[str, PinValue]:
    """Return what the pins demand, by key name. An empty tuple is met by nothing."""
    demands: dict[str, PinValue] = {
        "mr_td": pins.mr_td,
        "mr_config_id": pins.mr_config_id,
        "td_attributes": pins.td_attributes,
        "xfam": pins.xfam,
        "mr_service_td": pins.mr_service_td or (NONE_BOUND,),
    }
    for number in _REGISTERS:
        # Register 3 is free for use at run time; the others are never optional.
        if number in pins.rtmr or number in _REGISTERS[:3]:
            demands[f"rtmr{number}"] = pins.rtmr.get(number, ())
    if pins.mr_owner is not None:
        demands["mr_owner"] = pins.mr_owner
    if pins.mr_owner_config is not None:
        demands["mr_owner_config"] = pins.mr_owner_config
    return demands


def _registers(values: PinValues) -> dict[int, tuple[bytes, ...]]:
    pinned = {number: values.any_of(f"rtmr{number}") for number in _REGISTERS}
    return {number: accepted for number, accepted in pinned.items() if accepted}
