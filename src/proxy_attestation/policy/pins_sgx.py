"""What an SGX entry must pin.

Minimum: `mr_enclave`; or `mr_signer` with `isv_prod_id`, `min_isv_svn`, and the attributes (FLAGS and XFRM) and
MISCSELECT under masks, since a signer may sign many enclaves. MRENCLAVE covers neither the attributes nor the KSS
fields, so debug is checked whatever the form, and a KSS field that an entry does not name must be zero.
"""

from typing import Final

from proxy_attestation.formats.tee import Tee
from proxy_attestation.policy.model import MaskedBytes, SgxPins
from proxy_attestation.policy.reader import TableReader
from proxy_attestation.policy.vocabulary import PINS, PinValue, PinValues, read_pins

_KEYS: Final = PINS[Tee.SGX]
# Each masked value also takes its mask: reading it sees to that.
_SIGNER_FORM: Final = ("isv_prod_id", "min_isv_svn", "attributes_flags", "xfrm", "misc_select")
_HALF: Final = 8


def read_sgx_pins(reader: TableReader) -> SgxPins | None:
    """Read the pins of an SGX entry; None, with every problem noted, where they are wrong or below the minimum."""
    noted = len(reader.issues)
    values = read_pins(Tee.SGX, reader)
    if not reader.has("mr_enclave"):
        if reader.has("mr_signer"):
            reader.require(_SIGNER_FORM, "below the minimum pins of sgx: mr_signer without mr_enclave takes them all")
        else:
            fix = f"pin mr_enclave, or mr_signer with {', '.join(_SIGNER_FORM)}"
            reader.note(None, "below the minimum pins of sgx", fix)
    return None if len(reader.issues) > noted else _from_values(values)


def sgx_demands(pins: SgxPins) -> dict[str, PinValue]:
    """Return what the pins demand, by key name. An empty tuple is met by nothing."""
    demands: dict[str, PinValue] = {
        "config_id": pins.config_id,
        "config_svn": pins.config_svn,
        "isv_ext_prod_id": pins.isv_ext_prod_id,
        "isv_family_id": pins.isv_family_id,
    }
    if pins.mr_enclave:
        demands["mr_enclave"] = pins.mr_enclave
    if pins.mr_signer:
        demands["mr_signer"] = pins.mr_signer
    if pins.isv_prod_id is not None:
        demands["isv_prod_id"] = pins.isv_prod_id
    if pins.min_isv_svn is not None:
        demands["min_isv_svn"] = pins.min_isv_svn
    if pins.attributes is not None:
        value, mask = pins.attributes.value, pins.attributes.mask
        for name, half in (("attributes_flags", slice(_HALF)), ("xfrm", slice(_HALF, None))):
            if any(mask[half]):
                demands[name] = MaskedBytes(value[half], mask[half])
    if pins.misc_select is not None:
        demands["misc_select"] = pins.misc_select
    if not pins.mr_enclave:
        # No file can be below the minimum. Pins made in another way can: what they lack then matches nothing.
        demands.update({name: () for name in ("mr_signer", *_SIGNER_FORM) if name not in demands})
    return demands


def _from_values(values: PinValues) -> SgxPins:
    flags, xfrm = values.masked("attributes_flags"), values.masked("xfrm")
    attributes = None
    if flags is not None or xfrm is not None:
        # A half that the entry does not name has a zero mask: it does not count.
        nothing = MaskedBytes(bytes(_HALF), bytes(_HALF))
        low, high = flags or nothing, xfrm or nothing
        attributes = MaskedBytes(low.value + high.value, low.mask + high.mask)
    return SgxPins(
        mr_enclave=values.any_of("mr_enclave"),
        mr_signer=values.any_of("mr_signer"),
        isv_prod_id=values.number("isv_prod_id"),
        min_isv_svn=values.number("min_isv_svn"),
        attributes=attributes,
        misc_select=values.masked("misc_select"),
        config_id=_or_zero(values, "config_id"),
        config_svn=values.number("config_svn") or 0,
        isv_ext_prod_id=_or_zero(values, "isv_ext_prod_id"),
        isv_family_id=_or_zero(values, "isv_family_id"),
    )


def _or_zero(values: PinValues, name: str) -> bytes:
    return values.exact(name) or bytes(_KEYS[name].size)
