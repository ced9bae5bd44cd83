"""Faults of a quote's frame, its signatures and its quoting enclave; `quote_faults.py` has the table."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from proxy_attestation_simulator.bodies import SgxBody
from proxy_attestation_simulator.errors import SimulatorError
from proxy_attestation_simulator.faults import Registry, choice, hexadecimal, number
from proxy_attestation_simulator.recipes import QuoteRecipe

FRAME_FAULTS: Final = Registry[QuoteRecipe]()
_add = FRAME_FAULTS.add
_fault = FRAME_FAULTS.fault

_LARGEST: Final = 1 << 20
_U16: Final = 0xFFFF
_BODY_AT: Final = {3: 48, 4: 48, 5: 54}
_MEASUREMENT_AT: Final = {"SgxBody": 64, "TdBody": 136}


def changed(**changes: Any) -> Callable[[QuoteRecipe, str], QuoteRecipe]:
    """Return a fault that takes no value and replaces fields of the recipe."""
    return lambda recipe, _: replace(recipe, **changes)


@_fault("truncated", "N bytes are missing at the end", "malformed", value="N", default="1")
def _truncated(recipe: QuoteRecipe, value: str) -> QuoteRecipe:
    return replace(recipe, cut=number(value, _LARGEST))


@_fault("trailing", "bytes follow the end", "malformed", value="HEX", default="ff")
def _trailing(recipe: QuoteRecipe, value: str) -> QuoteRecipe:
    return replace(recipe, append=hexadecimal(value))


@_fault("trailing-zeros", "N zero bytes follow the end", "accepted", value="N", default="70")
def _trailing_zeros(recipe: QuoteRecipe, value: str) -> QuoteRecipe:
    return replace(recipe, append=bytes(number(value, _LARGEST)))


@_fault("signature-size", "it declares N bytes of signature data too many", "malformed", value="N", default="1")
def _signature_size(recipe: QuoteRecipe, value: str) -> QuoteRecipe:
    return replace(recipe, signature_size_delta=number(value, _U16))


@_fault("body-size", "it is a v5 quote and declares a body N bytes too long", "malformed", value="N", default="1")
def _body_size(recipe: QuoteRecipe, value: str) -> QuoteRecipe:
    return replace(recipe, version=5, header_version=5, body_size_delta=number(value, _U16))


@_fault("quote-version", "it is laid out as a quote of version N", "accepted", value="N")
def _quote_version(recipe: QuoteRecipe, value: str) -> QuoteRecipe:
    version = number(value, _U16)
    if version not in (_BODY_AT if isinstance(recipe.body, SgxBody) else (4, 5)):
        raise SimulatorError(f"there is no layout of version {version} for this body")
    return replace(recipe, version=version, header_version=version)


@_fault("body-type", "it is a v5 quote and says that its body is of type N", "version", value="N")
def _body_type(recipe: QuoteRecipe, value: str) -> QuoteRecipe:
    return replace(recipe, version=5, header_version=5, body_type=number(value, _U16))


@_fault("tee-type", "the header says TEE type N", "malformed", value="N")
def _tee_type(recipe: QuoteRecipe, value: str) -> QuoteRecipe:
    return replace(recipe, tee_type=number(value, 0xFFFFFFFF))


@_fault("version", "the header says version N, the layout stays", "version", value="N")
def _version(recipe: QuoteRecipe, value: str) -> QuoteRecipe:
    return replace(recipe, header_version=number(value, _U16))


@_fault("key-type", "the header says attestation key type N", "key_type", value="N", default="3")
def _key_type(recipe: QuoteRecipe, value: str) -> QuoteRecipe:
    return replace(recipe, key_type=number(value, _U16))


@_fault("vendor-id", "the header names another QE vendor", "qe_vendor", value="HEX", default="ff" * 16)
def _vendor_id(recipe: QuoteRecipe, value: str) -> QuoteRecipe:
    vendor_id = hexadecimal(value)
    if len(vendor_id) != 16:
        raise SimulatorError("a QE vendor id is 16 bytes")
    return replace(recipe, vendor_id=vendor_id)


@_fault(
    "cert-type",
    "certification data of type N; of types 5, 6 and from 8 on its content is the chain",
    "certification_data",
    value="N",
)
def _cert_type(recipe: QuoteRecipe, value: str) -> QuoteRecipe:
    return replace(recipe, certification_type=number(value, _U16))


_add(
    "qe-report-signature",
    "the QE report is signed by another key than the PCK",
    "qe_report_signature",
    changed(qe_report_key="other"),
)
_add(
    "qe-report-data",
    "the QE report does not bind the attestation key",
    "qe_report_data",
    changed(qe_report_data_xor=b"\1" + bytes(63)),
)
_add(
    "qe-report-data-tail",
    "the last of the 64 bytes of the QE's report data is not zero",
    "qe_report_data",
    changed(qe_report_data_xor=bytes(63) + b"\1"),
)
_add(
    "swapped-key",
    "another attestation key stands in the quote, and signs it",
    "qe_report_data",
    changed(attestation_key="other", quote_key="other"),
)
_add("wrong-key", "the quote is signed by another key than the one in it", "signature", changed(quote_key="other"))


@_fault(
    "tampered",
    "one bit of the signed byte at OFFSET changes (default: measurement)",
    "signature",
    value="OFFSET",
    default="",
)
def _tampered(recipe: QuoteRecipe, value: str) -> QuoteRecipe:
    measurement = _BODY_AT[recipe.version] + _MEASUREMENT_AT[type(recipe.body).__name__]
    return replace(recipe, flip=number(value, _LARGEST) if value else measurement)


@_fault("authentication", "the QE's authentication data is N bytes (usual: 32)", "accepted", value="N", default="0")
def _authentication(recipe: QuoteRecipe, value: str) -> QuoteRecipe:
    return replace(recipe, authentication=bytes(number(value, _U16)))


def _flip_flag(qe: SgxBody, bit: int) -> SgxBody:
    return replace(qe, attributes_flags=bytes([qe.attributes_flags[0] ^ bit]) + qe.attributes_flags[1:])


@_fault(
    "bad-qe-identity",
    "one field of the QE report is not what the QE identity says",
    "qe_identity",
    value="mrsigner|isvprodid|attributes|miscselect|debug",
    default="mrsigner",
)
def _bad_qe_identity(recipe: QuoteRecipe, value: str) -> QuoteRecipe:
    qe = recipe.qe
    changes = {
        "mrsigner": replace(qe, mr_signer=bytes([qe.mr_signer[0] ^ 1]) + qe.mr_signer[1:]),
        "isvprodid": replace(qe, isv_prod_id=qe.isv_prod_id + 1),
        "attributes": _flip_flag(qe, 0x10),
        "miscselect": replace(qe, misc_select=b"\x01\0\0\0"),
        "debug": _flip_flag(qe, 0x02),
    }
    return replace(recipe, qe=changes[choice(value, changes)])


def _qe_svn(svn: int) -> Callable[[QuoteRecipe, str], QuoteRecipe]:
    return lambda recipe, _: replace(recipe, qe=replace(recipe.qe, isv_svn=svn))


_add("qe-out-of-date", "the QE's ISVSVN is at the level OutOfDate", "tcb_status", _qe_svn(6))
_add("qe-revoked", "the QE's ISVSVN is at the level Revoked", "qe_tcb_revoked", _qe_svn(5))
_add("qe-unsupported", "the QE's ISVSVN is below every level", "qe_tcb_not_supported", _qe_svn(4))
