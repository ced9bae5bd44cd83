"""Faults of an SEV-SNP report and of what it says; `amd_faults.py` has the table."""

import struct
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Final

from proxy_attestation_simulator import der
from proxy_attestation_simulator.amd_recipes import REPORT_DATA_AT, SIGNED_SIZE, SnpRecipe
from proxy_attestation_simulator.errors import SimulatorError
from proxy_attestation_simulator.faults import Registry, choice, hexadecimal, number

REPORT_FAULTS: Final = Registry[SnpRecipe]()
_TEES: Final = ("snp",)
_POLICY, _CURRENT, _INFO, _KEY_INFO, _REPORTED = 0x008, 0x038, 0x040, 0x048, 0x180
_CPUID, _CHIP_ID, _COMMITTED, _LAUNCH = 0x188, 0x1A0, 0x1E0, 0x1F0
_TCBS: Final = {"reported": _REPORTED, "current": _CURRENT, "committed": _COMMITTED, "launch": _LAUNCH}


def _add(
    name: str,
    doc: str,
    code: str,
    apply: Callable[[SnpRecipe, str], SnpRecipe],
    *,
    value: str = "",
    default: str | None = None,
) -> None:
    REPORT_FAULTS.add(name, doc, code, apply, value=value, default=default, tees=_TEES)


def _changed(**changes: Any) -> Callable[[SnpRecipe, str], SnpRecipe]:
    return lambda recipe, _: replace(recipe, **changes)


def _bit(offset: int) -> Callable[[SnpRecipe, str], SnpRecipe]:
    """Return a fault that turns over the bit of a little-endian u64 that its value names."""

    def apply(recipe: SnpRecipe, value: str) -> SnpRecipe:
        return recipe.put(offset, struct.pack("<Q", recipe.number(offset, 8) ^ 1 << number(value, 63)))

    return apply


def _put(offset: int, size: int) -> Callable[[SnpRecipe, str], SnpRecipe]:
    """Return a fault that writes its value, hex of `size` bytes, into the report."""

    def apply(recipe: SnpRecipe, value: str) -> SnpRecipe:
        data = hexadecimal(value)
        if len(data) != size:
            raise SimulatorError(f"{size} bytes in hex were expected")
        return recipe.put(offset, data)

    return apply


def _put_number(offset: int, size: int) -> Callable[[SnpRecipe, str], SnpRecipe]:
    return lambda recipe, value: recipe.put(offset, number(value, 256**size - 1).to_bytes(size, "little"))


# The report's frame.
_add(
    "truncated",
    "N bytes are missing at the end",
    "malformed",
    lambda recipe, value: replace(recipe, cut=number(value, 0x4A0)),
    value="N",
    default="1",
)
_add(
    "trailing",
    "bytes follow the report that are no certificate table",
    "certificate_table",
    lambda recipe, value: replace(recipe, append=hexadecimal(value)),
    value="HEX",
    default="ff",
)
_add(
    "reserved",
    "a reserved byte of the report is not zero",
    "malformed",
    lambda recipe, value: recipe.put(number(value, SIGNED_SIZE - 1), b"\x01"),
    value="OFFSET",
    default="0x29f",
)
_add("signature-tail", "a byte behind R and S is not zero", "malformed", _changed(tail=bytes(367) + b"\x01"))
_add(
    "key-info-reserved",
    "KEY_INFO has bit 5 set",
    "malformed",
    lambda recipe, _: recipe.put(_KEY_INFO, bytes([recipe.report[_KEY_INFO] | 0x20])),
)
_add("version", "the report says version N", "version", _put_number(0x000, 4), value="N", default="6")
_add(
    "signature-algorithm",
    "the report says signature algorithm N",
    "signature_algorithm",
    _put_number(0x034, 4),
    value="N",
    default="2",
)
_add(
    "masked-key",
    "MASK_CHIP_KEY is set and the signature zero",
    "signing_key",
    lambda recipe, _: replace(recipe.put(_KEY_INFO, b"\x02"), report_key="none"),
)
_add(
    "signing-key",
    "KEY_INFO names signing key N",
    "signing_key",
    lambda recipe, value: recipe.put(_KEY_INFO, bytes([number(value, 7) << 2])),
    value="N",
    default="7",
)
# What no guest and no processor can have.
_add(
    "policy-reserved",
    "a reserved bit of the guest policy is turned over",
    "policy",
    _bit(_POLICY),
    value="BIT",
    default="17",
)
_add(
    "platform-info-reserved",
    "a reserved bit of PLATFORM_INFO is set",
    "platform_info",
    _bit(_INFO),
    value="BIT",
    default="6",
)
_add(
    "host-report",
    "the host asked for the report: VMPL is all ones",
    "vmpl",
    lambda recipe, _: recipe.put(0x030, b"\xff" * 4),
)
_add(
    "unknown-model",
    "CPUID names no processor line that is known",
    "product",
    lambda recipe, _: recipe.put(_CPUID, b"\x1a\x50\x00"),
)
_add(
    "other-product",
    "CPUID names another processor line",
    "product",
    lambda recipe, _: recipe.put(_CPUID, b"\x19\x01\x01" if recipe.line.name == "Genoa" else b"\x19\x11\x01"),
)
_add("masked-chip-id", "the report's chip id is zero", "accepted", lambda recipe, _: recipe.put(_CHIP_ID, bytes(64)))
# The signature.
_add("signature", "one bit of the report's signature is turned over", "signature", _changed(flips=((SIGNED_SIZE, 1),)))
_add("zero-signature", "the signature is zero", "signature", _changed(report_key="none"))
_add("other-key", "another key signed the report", "signature", _changed(report_key="other"))
_add(
    "flip",
    "one bit of the report changes after it was signed",
    "signature",
    lambda recipe, value: replace(recipe, flips=((number(value, SIGNED_SIZE - 1), 1),)),
    value="OFFSET",
    default="0x90",
)
_add(
    "committed-above-current",
    "the committed microcode is above the current one",
    "tcb",
    lambda recipe, _: recipe.put(_COMMITTED + 7, bytes([recipe.report[_CURRENT + 7] + 1])),
)
# What a policy judges.
_add("debug", "the guest policy allows debugging", "debug", lambda recipe, _: _bit(_POLICY)(recipe, "19"))
_add(
    "migration-agent",
    "the guest policy allows a migration agent",
    "migration_agent",
    lambda recipe, _: _bit(_POLICY)(recipe, "18"),
)
_add(
    "vmpl",
    "the report was asked for at privilege level N",
    "policy.attributes",
    _put_number(0x030, 4),
    value="N",
    default="1",
)
_add(
    "single-socket",
    "the guest policy demands a single socket",
    "policy.attributes",
    lambda recipe, _: _bit(_POLICY)(recipe, "20"),
)
_add("no-smt", "the guest policy forbids SMT", "policy.attributes", lambda recipe, _: _bit(_POLICY)(recipe, "16"))
_add(
    "measurement",
    "the guest has another measurement",
    "policy.measurement",
    _put(0x090, 48),
    value="HEX",
    default="ab" * 48,
)
_add("host-data", "the host gave other data", "policy.config", _put(0x0C0, 32), value="HEX", default="cd" * 32)
_add(
    "report-data",
    "the report data is another",
    "binder.mismatch",
    _put(REPORT_DATA_AT, 64),
    value="HEX",
    default="00" * 64,
)


@REPORT_FAULTS.fault(
    "tcb-reserved", "a reserved byte of a TCB version is set", "tcb", value="FIELD", default="current", tees=_TEES
)
def _tcb_reserved(recipe: SnpRecipe, value: str) -> SnpRecipe:
    byte = recipe.line.layout.index("spl5")
    if choice(value, _TCBS) == "reported":
        recipe = replace(recipe, vek=recipe.vek.with_extension("3.5", der.integer(1)))
    if value == "committed":
        recipe = recipe.put(_CURRENT + byte, b"\x01")
    return recipe.put(_TCBS[value] + byte, b"\x01")


@REPORT_FAULTS.fault(
    "old-tcb", "every TCB is N microcode levels lower", "tcb_status", value="N", default="1", tees=_TEES
)
def _old_tcb(recipe: SnpRecipe, value: str) -> SnpRecipe:
    level = recipe.report[_REPORTED + 7] - number(value, recipe.report[_REPORTED + 7])
    for offset in _TCBS.values():
        recipe = recipe.put(offset + 7, bytes([level]))
    return replace(recipe, vek=recipe.vek.with_extension("3.8", der.integer(level)))
