"""Pins of whichever TEE: reading, matching and showing them, by the kind of the entry and of the body."""

from collections.abc import Mapping
from typing import Final

from proxy_attestation.appraisal.claims import Body, SgxClaims, TdxClaims
from proxy_attestation.codes import Code
from proxy_attestation.errors import Mismatch
from proxy_attestation.formats.tee import Tee
from proxy_attestation.policy.model import Pins, SgxPins
from proxy_attestation.policy.pins_sgx import read_sgx_pins, sgx_demands
from proxy_attestation.policy.pins_tdx import NONE_BOUND, read_tdx_pins, tdx_demands
from proxy_attestation.policy.reader import TableReader
from proxy_attestation.policy.vocabulary import PINS, PinValue, compare, readable

_BODIES: Final[Mapping[Tee, type[SgxClaims] | type[TdxClaims]]] = {Tee.SGX: SgxClaims, Tee.TDX: TdxClaims}


def parse_pins(tee: Tee, reader: TableReader) -> Pins | None:
    """Read the pins of an entry; None, with every problem noted, where they are wrong or below the minimum."""
    return read_sgx_pins(reader) if tee is Tee.SGX else read_tdx_pins(reader)


def match_pins(pins: Pins, body: Body) -> tuple[Mismatch, ...]:
    """Compare what a TEE measured with pins; every mismatch, in the order of the vocabulary.

    A body of another TEE is a mismatch of its own: `policy.tee`.
    """
    tee = _tee_of(pins)
    if not isinstance(body, _BODIES[tee]):
        return (Mismatch(Code.POLICY_TEE, "tee", _BODIES[tee].__name__, type(body).__name__),)
    demands = _demands(pins)
    results = [
        compare(key, demands[name], _claim(body, key.claim)) for name, key in PINS[tee].items() if name in demands
    ]
    return tuple(mismatch for mismatch in results if mismatch is not None)


def pins_readable(pins: Pins) -> dict[str, tuple[str, ...]]:
    """Return what pins demand, for people: by key name, one text for each accepted value."""
    demands = _demands(pins)
    shown: dict[str, tuple[str, ...]] = {}
    for name, key in PINS[_tee_of(pins)].items():
        if name in demands:
            value = demands[name]
            each = [(item,) for item in value] if isinstance(value, tuple) else [value]
            shown[name] = tuple(readable(key, item) for item in each)
    return shown


def _tee_of(pins: Pins) -> Tee:
    return Tee.SGX if isinstance(pins, SgxPins) else Tee.TDX


def _demands(pins: Pins) -> dict[str, PinValue]:
    return sgx_demands(pins) if isinstance(pins, SgxPins) else tdx_demands(pins)


def _claim(body: Body, name: str) -> bytes | int | None:
    """Return a claim's value. A TDX 1.0 body has no MRSERVICETD: no service TD can be bound, which 1.5 says as zero."""
    value: bytes | int | None = getattr(body, name)
    return NONE_BOUND if value is None and name == "mr_service_td" else value
