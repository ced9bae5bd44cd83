"""Faults of what is attested: the report body of an enclave or a TD; `quote_faults.py` has the table."""

from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from typing import Final

from proxy_attestation_simulator.bodies import SgxBody, TdBody
from proxy_attestation_simulator.errors import SimulatorError
from proxy_attestation_simulator.faults import BOTH, Registry, choice, hexadecimal, number
from proxy_attestation_simulator.quote import with_fields
from proxy_attestation_simulator.recipes import AGE_OF_STATUS, NEWEST, QuoteRecipe

BODY_FAULTS: Final = Registry[QuoteRecipe]()
_add = BODY_FAULTS.add
_fault = BODY_FAULTS.fault
_TDX: Final = ("tdx",)

STALE_REPORT_DATA: Final = b"report data of an earlier challenge".ljust(64, b"\0")
_SEPT_VE_DISABLE: Final = 28
_MODULE_MAJOR: Final = 1
_CODES: Final = {
    "report_data": "binder.mismatch",
    "mr_enclave": "policy.measurement",
    "mr_td": "policy.measurement",
    "mr_signer": "policy.signer",
    "isv_prod_id": "policy.product",
    "isv_svn": "policy.svn",
    "attributes_flags": "policy.attributes",
    "xfrm": "policy.attributes",
    "misc_select": "policy.attributes",
    "td_attributes": "policy.attributes",
    "rtmr0": "policy.measurement",
    "rtmr1": "policy.measurement",
    "rtmr2": "policy.measurement",
    "rtmr3": "policy.measurement",
    "cpu_svn": "accepted",
    "mr_seam": "accepted",
    "tee_tcb_svn": "tcb_not_supported",
    "mr_signer_seam": "module_identity",
    "mr_service_td": "service_td",
    "tee_tcb_svn_2": "accepted",
}
_OTHERS: Final = "policy.config"
_NAMED: Final = ("xfam", "seam_attributes")
"""Fields whose name is a fault of its own below, with a default value."""


def _td(recipe: QuoteRecipe) -> TdBody:
    if not isinstance(recipe.body, TdBody):
        raise SimulatorError("only a TD has this field")
    return recipe.body


def _with(recipe: QuoteRecipe, **values: bytes | int) -> QuoteRecipe:
    return replace(recipe, body=with_fields(recipe.body, values))


def _with_15(recipe: QuoteRecipe, **values: bytes | int) -> QuoteRecipe:
    """Change a field that only the body of TDX 1.5 has, which only a v5 quote carries."""
    return replace(_with(recipe, **values), version=5, header_version=5, body_type=3)


def _set_bit(field: bytes, bit: int, value: int) -> bytes:
    number_ = int.from_bytes(field, "little") & ~(1 << bit) | value << bit
    return number_.to_bytes(len(field), "little")


@_fault("debug", "the debug bit is set", "debug")
def _debug(recipe: QuoteRecipe, _: str) -> QuoteRecipe:
    if isinstance(recipe.body, SgxBody):
        return _with(recipe, attributes_flags=_set_bit(recipe.body.attributes_flags, 1, 1))
    return _with(recipe, td_attributes=_set_bit(recipe.body.td_attributes, 0, 1))


@_fault("stale", "the report data is that of an earlier challenge", "binder.mismatch")
def _stale(recipe: QuoteRecipe, _: str) -> QuoteRecipe:
    return _with(recipe, report_data=STALE_REPORT_DATA)


@_fault(
    "reserved-attributes", "a reserved bit of TDATTRIBUTES is set", "attributes", value="BIT", default="1", tees=_TDX
)
def _reserved_attributes(recipe: QuoteRecipe, value: str) -> QuoteRecipe:
    return _with(recipe, td_attributes=_set_bit(_td(recipe).td_attributes, number(value, 63), 1))


@_fault("sept-ve-disable", "SEPT_VE_DISABLE is 0 (or 1)", "policy.attributes", value="0|1", default="0", tees=_TDX)
def _sept_ve_disable(recipe: QuoteRecipe, value: str) -> QuoteRecipe:
    bit = int(choice(value, ("0", "1")))
    return _with(recipe, td_attributes=_set_bit(_td(recipe).td_attributes, _SEPT_VE_DISABLE, bit))


@_fault(
    "xfam", "XFAM lacks a bit that must be 1, or is HEX", "xfam", value="HEX", default="e600060000000000", tees=_TDX
)
def _xfam(recipe: QuoteRecipe, value: str) -> QuoteRecipe:
    return _with(recipe, xfam=hexadecimal(value))


@_fault(
    "seam-attributes", "SEAMATTRIBUTES is not zero", "module_identity", value="HEX", default="01" + "00" * 7, tees=_TDX
)
def _seam_attributes(recipe: QuoteRecipe, value: str) -> QuoteRecipe:
    return _with(recipe, seam_attributes=hexadecimal(value))


@_fault(
    "service-td",
    "it is a TDX 1.5 body and MRSERVICETD is not zero",
    "service_td",
    value="HEX",
    default="5d" * 48,
    tees=_TDX,
)
def _service_td(recipe: QuoteRecipe, value: str) -> QuoteRecipe:
    return _with_15(recipe, mr_service_td=hexadecimal(value))


@_fault("module-identity", "MRSIGNERSEAM is not the TDX module's", "module_identity", tees=_TDX)
def _module_identity(recipe: QuoteRecipe, _: str) -> QuoteRecipe:
    return _with(recipe, mr_signer_seam=b"\1" + bytes(47))


def _module(svn: int | None, major: int = _MODULE_MAJOR) -> Callable[[QuoteRecipe, str], QuoteRecipe]:
    def apply(recipe: QuoteRecipe, _: str) -> QuoteRecipe:
        old = _td(recipe).tee_tcb_svn
        start = bytes([old[0] if svn is None else svn, major])
        return _with(recipe, tee_tcb_svn=start + old[2:])

    return apply


_add(
    "module-version",
    "no identity is known for the TDX module's major version",
    "module_identity",
    _module(None, 7),
    tees=_TDX,
)
_add("module-out-of-date", "the TDX module's ISVSVN is at the level OutOfDate", "tcb_status", _module(2), tees=_TDX)
_add("module-revoked", "the TDX module's ISVSVN is at the level Revoked", "module_tcb_revoked", _module(1), tees=_TDX)
_add(
    "module-unsupported",
    "the TDX module's ISVSVN is below every level",
    "module_tcb_not_supported",
    _module(0),
    tees=_TDX,
)


@_fault(
    "relaunch-advised",
    "it is a TDX 1.5 body; the TD was launched by a module out of date, the newest is loaded now",
    "tcb_status",
    tees=_TDX,
)
def _relaunch_advised(recipe: QuoteRecipe, _: str) -> QuoteRecipe:
    newest = _td(recipe).tee_tcb_svn
    launched = bytes([2, _MODULE_MAJOR, AGE_OF_STATUS["OutOfDate"]]) + newest[3:]
    return _with_15(recipe, tee_tcb_svn=launched, tee_tcb_svn_2=newest[:2] + bytes([NEWEST]) + newest[3:])


def _set_field(recipe: QuoteRecipe, value: str, *, field: str) -> QuoteRecipe:
    if isinstance(getattr(recipe.body, field), int):
        return _with(recipe, **{field: number(value, 0xFFFF)})
    if field in {"tee_tcb_svn_2", "mr_service_td"}:
        return _with_15(recipe, **{field: hexadecimal(value)})
    return _with(recipe, **{field: hexadecimal(value)})


def _add_fields() -> None:
    sgx = {field.name: isinstance(field.default, int) for field in fields(SgxBody)}
    tdx = {field.name: False for field in fields(TdBody)}
    for field, is_number in (sgx | tdx).items():
        if field in _NAMED:
            continue
        tees = tuple(tee for tee, names in (("sgx", sgx), ("tdx", tdx)) if field in names)
        code = _CODES.get(field, _OTHERS)
        _add(
            field,
            f"the field {field} of the body has this value",
            code,
            partial(_set_field, field=field),
            value="N" if is_number else "HEX",
            tees=BOTH if len(tees) == len(BOTH) else tees,
        )


_add_fields()
