"""What `appraise` may demand of claims beyond being genuine: `--expect CLAIM=VALUE` and `--min CLAIM=VALUE`.

Claims have the names and JSON values of `appraisal.claims.claims_to_json`. Sizes and codes of those that a policy can
pin come from the policy's vocabulary, so that both commands say the same.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final

from proxy_attestation.cli.evidence_file import parse_time
from proxy_attestation.codes import Code
from proxy_attestation.errors import Mismatch, UsageError
from proxy_attestation.formats.pins import CLAIM_KEYS, PINS, PinKind


class _Type(Enum):
    HEX = "hex"
    NUMBER = "a number"
    BOOLEAN = "true or false"
    TIME = "an RFC 3339 time"
    TEXT = "text"
    LIST = "a list, separated by commas, perhaps empty"


@dataclass(frozen=True, slots=True)
class _Claim:
    """One claim: its type, its size in bytes where it is hex (0 is any), a mismatch's code, whether it has an order."""

    type: _Type
    size: int
    code: Code
    ordered: bool = False


_NUMBERS: Final = (PinKind.NUMBER, PinKind.AT_LEAST)
_KINDS: Final = {PinKind.NUMBER: _Type.NUMBER, PinKind.AT_LEAST: _Type.NUMBER, PinKind.WORD: _Type.TEXT}
_CLAIMS: Final[Mapping[str, _Claim]] = {
    "tee": _Claim(_Type.TEXT, 0, Code.POLICY_TEE),
    **{
        key.claim: _Claim(_KINDS.get(key.kind, _Type.HEX), key.size, key.code, key.kind in _NUMBERS)
        for pins in PINS.values()
        for key in pins.values()
    },
    **{
        name: _Claim(_Type.HEX, 0, Code.POLICY_CLAIM)
        for name in ("extra_data", "pcr_digest", "nonce", "public_key", "user_data", "qualified_signer")
    },
    **{f"pcr{number}": _Claim(_Type.HEX, 0, Code.POLICY_MEASUREMENT) for number in range(24)},
    # AMD's documents write these two as numbers, and so do the claims.
    "policy": _Claim(_Type.TEXT, 0, Code.POLICY_ATTRIBUTES),
    "platform_info": _Claim(_Type.TEXT, 0, Code.POLICY_ATTRIBUTES),
    **{
        f"{name}_tcb": _Claim(_Type.HEX, 8, Code.POLICY_SVN, ordered=True)
        for name in ("reported", "committed", "current", "launch")
    },
    "chip_id": _Claim(_Type.HEX, 64, Code.POLICY_CLAIM),
    "signing_key": _Claim(_Type.TEXT, 0, Code.POLICY_CLAIM),
    "module_id": _Claim(_Type.TEXT, 0, Code.POLICY_CLAIM),
    "ak_trust": _Claim(_Type.TEXT, 0, Code.POLICY_CLAIM),
    "key_certified": _Claim(_Type.BOOLEAN, 0, Code.POLICY_CLAIM),
    "cpu_svn": _Claim(_Type.HEX, 16, Code.POLICY_SVN, ordered=True),
    "tee_tcb_svn": _Claim(_Type.HEX, 16, Code.POLICY_SVN, ordered=True),
    "tee_tcb_svn_2": _Claim(_Type.HEX, 16, Code.POLICY_SVN, ordered=True),
    "mr_seam": _Claim(_Type.HEX, 48, Code.POLICY_MEASUREMENT),
    "mr_signer_seam": _Claim(_Type.HEX, 48, Code.POLICY_SIGNER),
    "seam_attributes": _Claim(_Type.HEX, 8, Code.POLICY_ATTRIBUTES),
    "debug": _Claim(_Type.BOOLEAN, 0, Code.POLICY_CLAIM),
    "tud_nonzero": _Claim(_Type.BOOLEAN, 0, Code.POLICY_CLAIM),
    "report_data": _Claim(_Type.HEX, 64, Code.POLICY_CLAIM),
    "tcb_status": _Claim(_Type.TEXT, 0, Code.POLICY_CLAIM),
    "tcb_date": _Claim(_Type.TIME, 0, Code.POLICY_CLAIM, ordered=True),
    "advisory_ids": _Claim(_Type.LIST, 0, Code.POLICY_ADVISORY),
    "tcb_evaluation_data_number": _Claim(_Type.NUMBER, 4, Code.POLICY_CLAIM, ordered=True),
    "fmspc": _Claim(_Type.HEX, 6, Code.POLICY_CLAIM),
    "pce_id": _Claim(_Type.HEX, 2, Code.POLICY_CLAIM),
    "anchor_spki_sha256": _Claim(_Type.HEX, 32, Code.POLICY_CLAIM),
    "evidence_sha256": _Claim(_Type.HEX, 32, Code.POLICY_CLAIM),
    "valid_until": _Claim(_Type.TIME, 0, Code.POLICY_CLAIM, ordered=True),
}


@dataclass(frozen=True, slots=True)
class Demands:
    """What was asked for.

    Attributes:
        expected: for each claim the accepted values, as the claims' JSON has them.
        least: for each claim its minimum, likewise.
    """

    expected: Mapping[str, tuple[object, ...]]
    least: Mapping[str, object]

    def pins(self, name: str) -> bool:
        """Tell whether a claim is expected to have some value."""
        return name in self.expected


def parse_demands(expected: Iterable[str], least: Iterable[str]) -> Demands:
    """Read the values of both options.

    Raises:
        UsageError: for an unknown claim, a value that is not of the claim's type and size, a minimum of a claim that
            has no order, or a second minimum of one claim.
    """
    values: dict[str, tuple[object, ...]] = {}
    for text in expected:
        name, value = _parse(text, "--expect")
        values[name] = (*values.get(name, ()), value)
    minima: dict[str, object] = {}
    for text in least:
        name, value = _parse(text, "--min")
        if not _CLAIMS[name].ordered:
            orderly = ", ".join(claim for claim, rule in _CLAIMS.items() if rule.ordered)
            raise UsageError(f"--min {name}: this claim has no order; those that have: {orderly}")
        if name in minima:
            raise UsageError(f"--min {name} is given twice")
        minima[name] = value
    return Demands(values, minima)


def check_demands(claims: Mapping[str, object], demands: Demands) -> list[Mismatch]:
    """Compare claims with what was asked for; a claim that is absent fits nothing.

    Args:
        claims: as `claims_to_json` returns them.
        demands: what was asked for.
    """
    found: list[Mismatch] = []
    for name, accepted in demands.expected.items():
        actual = claims.get(name)
        if not any(type(actual) is type(value) and actual == value for value in accepted):
            wanted = " or ".join(show_value(value) for value in accepted)
            found.append(Mismatch(_code(claims, name), name, wanted, show_value(actual)))
    for name, minimum in demands.least.items():
        actual = claims.get(name)
        if not _reaches(actual, minimum, _CLAIMS[name].type):
            found.append(Mismatch(Code.POLICY_SVN, name, f"at least {show_value(minimum)}", show_value(actual)))
    return found


def _code(claims: Mapping[str, object], name: str) -> Code:
    """Return the code of a mismatch: that of a policy for this TEE, where policies can pin the claim."""
    keys = next((keys for tee, keys in CLAIM_KEYS.items() if tee == claims.get("tee")), {})
    return keys[name].code if name in keys else _CLAIMS[name].code


def show_value(value: object) -> str:
    """Return a claim's JSON value for people."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "none"
    return str(value)


def _reaches(actual: object, minimum: object, kind: _Type) -> bool:
    if isinstance(actual, int) and isinstance(minimum, int):
        return actual >= minimum
    if not isinstance(actual, str) or not isinstance(minimum, str):
        return False
    if kind is _Type.HEX:
        # Each byte is a version number of its own.
        have, need = bytes.fromhex(actual), bytes.fromhex(minimum)
        return len(have) == len(need) and all(a >= b for a, b in zip(have, need, strict=True))
    return actual >= minimum


def _parse(text: str, option: str) -> tuple[str, object]:
    name, separator, value = text.partition("=")
    if not separator:
        raise UsageError(f"{option} {text!r}: CLAIM=VALUE was expected")
    claim = _CLAIMS.get(name)
    if claim is None:
        raise UsageError(f"{option} {name!r}: no such claim; known: {', '.join(_CLAIMS)}")
    try:
        return name, _READERS[claim.type](value, claim)
    except ValueError as error:
        size = f" of {claim.size} bytes" if claim.type is _Type.HEX and claim.size else ""
        raise UsageError(f"{option} {name}: {value!r} is not {claim.type.value}{size}") from error


def _read_hex(text: str, claim: _Claim) -> str:
    digits = text.lower().removeprefix("0x")
    data = bytes.fromhex(digits)
    if data.hex() != digits or (claim.size and len(data) != claim.size):
        raise ValueError(text)
    return digits


def _read_number(text: str, claim: _Claim) -> int:
    if not text.isascii() or not text.isdigit() or not int(text) < 256**claim.size:
        raise ValueError(text)
    return int(text)


def _read_boolean(text: str, claim: _Claim) -> bool:
    del claim
    if text not in ("true", "false"):
        raise ValueError(text)
    return text == "true"


def _read_time(text: str, claim: _Claim) -> str:
    del claim
    return parse_time(text).strftime("%Y-%m-%dT%H:%M:%SZ")


def _read_text(text: str, claim: _Claim) -> str:
    del claim
    if not text:
        raise ValueError(text)
    return text


def _read_list(text: str, claim: _Claim) -> list[str]:
    del claim
    return sorted(item.strip() for item in text.split(",")) if text.strip() else []


_READERS: Final[Mapping[_Type, Callable[[str, _Claim], object]]] = {
    _Type.HEX: _read_hex,
    _Type.NUMBER: _read_number,
    _Type.BOOLEAN: _read_boolean,
    _Type.TIME: _read_time,
    _Type.TEXT: _read_text,
    _Type.LIST: _read_list,
}

CLAIM_NAMES: Final[Sequence[str]] = tuple(_CLAIMS)
