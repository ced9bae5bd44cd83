"""What an entry must pin of its TEE, read into pins, matched with a body, and shown.

A signer may sign many enclaves, so MRSIGNER alone pins none. MRENCLAVE covers neither the attributes nor the KSS
fields: debug is checked whatever the form, and KSS fields always count. MRTD covers the firmware that a TD starts with
and nothing that it loads, so the registers are not optional; register 3 is free for use at run time. A service TD (for
migration) can reach into the TD: one that is bound must be pinned.
"""

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from operator import attrgetter
from typing import Any, Final, TypeAlias

from proxy_attestation.appraisal.claims import Body, SgxClaims, TdxClaims
from proxy_attestation.codes import Code
from proxy_attestation.errors import Mismatch
from proxy_attestation.formats.bounds import POLICY_WORKLOADS_MAX
from proxy_attestation.formats.tee import Tee
from proxy_attestation.policy.model import MaskedBytes, Pins, SgxPins, TdxPins
from proxy_attestation.policy.reader import TableReader
from proxy_attestation.policy.vocabulary import PINS, PinKey, PinValue, compare, read_pins, readable

MINIMUM: Final[Mapping[Tee, tuple[tuple[str, ...], ...]]] = {
    Tee.SGX: (("mr_enclave",), ("mr_signer", "isv_prod_id", "min_isv_svn", "attributes_flags", "xfrm", "misc_select")),
    Tee.TDX: (("mr_td", "rtmr0", "rtmr1", "rtmr2", "mr_config_id", "td_attributes", "xfam"),),
}
"""The forms of minimum pins: an entry pins every key of one. Reading sees to it that a masked value has its mask."""

_BODIES: Final[Mapping[Tee, type[SgxClaims] | type[TdxClaims]]] = {Tee.SGX: SgxClaims, Tee.TDX: TdxClaims}
_HALF: Final = 8
_REGISTERS: Final = {f"rtmr{number}": number for number in range(4)}
_NONE_BOUND: Final = bytes(48)
"""MRSERVICETD where no service TD is bound. A TDX 1.0 body has no such field, and a TD of 1.0 no service TD."""


def _half(pins: SgxPins, part: slice) -> MaskedBytes | None:
    """Return FLAGS or XFRM; None where the mask leaves all of it out."""
    attributes = pins.attributes
    if attributes is None or not any(attributes.mask[part]):
        return None
    return MaskedBytes(attributes.value[part], attributes.mask[part])


def _register(pins: TdxPins, number: int) -> tuple[bytes, ...]:
    return pins.rtmr.get(number, ())


# Where pins hold the value of a key that is no attribute of theirs, or hold it in another form.
_ELSEWHERE: Final[Mapping[str, Callable[[Any], PinValue | None]]] = {
    "attributes_flags": partial(_half, part=slice(_HALF)),
    "xfrm": partial(_half, part=slice(_HALF, None)),
    **{name: partial(_register, number=number) for name, number in _REGISTERS.items()},
    "mr_service_td": lambda pins: pins.mr_service_td or (_NONE_BOUND,),
}
_VALUE: Final[Mapping[str, Callable[[Any], PinValue | None]]] = {
    name: _ELSEWHERE.get(name, attrgetter(name)) for keys in PINS.values() for name in keys
}

_Demand: TypeAlias = tuple[PinKey, PinValue, Callable[[Any], Any]]
# By the identity of pins, which are kept so that no others can have it.
_REMEMBERED: Final[dict[int, tuple[Pins, list[_Demand]]]] = {}


def parse_pins(tee: Tee, reader: TableReader) -> Pins | None:
    """Read the pins of an entry; None, with every problem noted, where they are wrong or below the minimum."""
    noted = len(reader.issues)
    values = read_pins(tee, reader)
    forms = "; or ".join(", ".join(form) for form in MINIMUM[tee])
    reader.require(_form(tee, reader.has), f"below the minimum pins of {tee}, which are {forms}")
    if len(reader.issues) > noted:
        return None
    return _sgx_pins(values) if tee is Tee.SGX else _tdx_pins(values)


def match_pins(pins: Pins, body: Body) -> tuple[Mismatch, ...]:
    """Compare what a TEE measured with pins; every mismatch, in the order of the vocabulary.

    A body of another TEE is a mismatch of its own: `policy.tee`.
    """
    expected = _BODIES[_tee_of(pins)]
    if not isinstance(body, expected):
        return (Mismatch(Code.POLICY_TEE, "tee", expected.__name__, type(body).__name__),)
    found = []
    for key, wanted, claim in _demands(pins):
        actual = claim(body)
        # What is equal agrees, whatever the kind of pin; that is most of them.
        if actual != wanted and (mismatch := compare(key, wanted, actual)) is not None:
            found.append(mismatch)
    return tuple(found)


def pins_readable(pins: Pins) -> dict[str, tuple[str, ...]]:
    """Return what pins demand, for people: by key name, one text for each accepted value."""
    return {
        key.name: tuple(readable(key, item) for item in (wanted if isinstance(wanted, tuple) else (wanted,)))
        for key, wanted, _ in _demands(pins)
    }


def _tee_of(pins: Pins) -> Tee:
    return Tee.SGX if isinstance(pins, SgxPins) else Tee.TDX


def _form(tee: Tee, has: Callable[[str], bool]) -> tuple[str, ...]:
    """Return the form that is meant: the one whose first key is there, or else the last."""
    return next((form for form in MINIMUM[tee] if has(form[0])), MINIMUM[tee][-1])


def _sgx_pins(values: dict[str, Any]) -> SgxPins:
    # A half that the entry does not name has a zero mask: it does not count.
    nothing = MaskedBytes(bytes(_HALF), bytes(_HALF))
    low, high = (values.pop(name) or nothing for name in ("attributes_flags", "xfrm"))
    attributes = MaskedBytes(low.value + high.value, low.mask + high.mask)
    return SgxPins(attributes=attributes if any(attributes.mask) else None, **values)


def _tdx_pins(values: dict[str, Any]) -> TdxPins:
    registers = {number: values.pop(name) for name, number in _REGISTERS.items()}
    return TdxPins(rtmr={number: accepted for number, accepted in registers.items() if accepted}, **values)


def _demands(pins: Pins) -> list[_Demand]:
    """Return what the pins demand, by the vocabulary: key, value, and what gets the claim. A policy asks each time."""
    known = _REMEMBERED.get(id(pins))
    if known is not None and known[0] is pins:
        return known[1]
    demands = list(_read_demands(pins))
    if len(_REMEMBERED) >= POLICY_WORKLOADS_MAX:
        _REMEMBERED.clear()
    _REMEMBERED[id(pins)] = pins, demands
    return demands


def _read_demands(pins: Pins) -> Iterator[_Demand]:
    """Yield the demands. An empty tuple is met by nothing."""
    tee = _tee_of(pins)
    minimum = _form(tee, lambda name: bool(_VALUE[name](pins)))
    for name, key in PINS[tee].items():
        claim = _CLAIMS.get(key.claim, attrgetter(key.claim))
        value = _VALUE[name](pins)
        if value is None or (isinstance(value, tuple) and not value):
            # No file can be below the minimum. Pins made in another way can: what they lack then matches nothing.
            if name in minimum:
                yield key, (), claim
        else:
            yield key, value, claim


def _service_td(body: Any) -> bytes:
    value: bytes | None = body.mr_service_td
    return _NONE_BOUND if value is None else value


_CLAIMS: Final[Mapping[str, Callable[[Any], Any]]] = {"mr_service_td": _service_td}
