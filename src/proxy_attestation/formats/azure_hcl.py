"""The HCL report of an Azure confidential VM: a hardware report, and the runtime data that it vouches for.

Source: kinvolk/azure-cvm-tooling and Microsoft's "Guest attestation" pages. Little-endian.

    0x000  "HCLA" | u32 version | u32 report size | u32 request type | u32 status | 3 u32 zero
    0x020  hardware report, 1184 bytes: an SNP report, or a TDREPORT of 1024 bytes and zeros
    0x4C0  u32 data size | u32 version | u32 type (2 SNP, 4 TDX) | u32 hash (1 SHA-256, 2 -384, 3 -512) | u32 length
    0x4D4  runtime data: JSON {"keys": [JWK], "vm-configuration": {...}, "user-data": hex}; then zeros

The paravisor puts the hash of the runtime data into the hardware report's report data, zeros behind it, and the vTPM's
attestation key into the runtime data (HCLAkPub). `appraisal.azure` checks that; nothing is believed here.
"""

import hashlib
import json
import struct
from base64 import b64decode
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.primitives.asymmetric import rsa

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError
from proxy_attestation.formats.values import as_list, as_text

HCL_MAX: Final = 8 * 1024
_CODE: Final = Code.TPM_HCL_MALFORMED
_HEADER: Final = struct.Struct("<4s4I12s")
_RUNTIME: Final = struct.Struct("<5I")
_REPORT_AT, _RUNTIME_AT = _HEADER.size, 0x4C0
_DATA_AT: Final = _RUNTIME_AT + _RUNTIME.size
_VERSIONS: Final = (1, 2)
# The type: its name, the bytes of its report, and where its 64 bytes of report data begin.
_TYPES: Final = {2: ("SNP", 1184, 0x50), 4: ("TDX", 1024, 0x80)}
_HASHES: Final = {1: "sha256", 2: "sha384", 3: "sha512"}
_KEYS_MAX: Final = 8
_TEXT_MAX: Final = 1024


@dataclass(frozen=True, slots=True)
class HclReport:
    """An HCL report.

    Attributes:
        header_version: 1 or 2.
        report_type: `SNP` or `TDX`.
        hash_type: such as `sha256`.
        hardware_report: 1184 bytes (SNP) or 1024 bytes (TDREPORT).
        report_data: 64 bytes, of the hardware report.
        runtime_data: the JSON, exactly as hashed.
        keys: the RSA keys that it names, by `kid`; HCLAkPub is among them.
        vm_configuration: as the JSON has it.
        user_data: as the JSON has it, or None.
    """

    header_version: int
    report_type: str
    hash_type: str
    hardware_report: bytes
    report_data: bytes
    runtime_data: bytes
    keys: Mapping[str, rsa.RSAPublicKey]
    vm_configuration: Mapping[str, object]
    user_data: str | None

    @property
    def runtime_data_hash(self) -> bytes:
        """What the report data begins with."""
        return hashlib.new(self.hash_type, self.runtime_data).digest()

    @property
    def attestation_key(self) -> rsa.RSAPublicKey:
        """The vTPM's AK."""
        return self.keys["HCLAkPub"]


def looks_like_hcl(data: bytes) -> bool:
    """Tell whether bytes are meant as an HCL report."""
    return data[:4] == b"HCLA"


def decode_hcl(data: bytes) -> HclReport:
    """Decode an HCL report.

    Raises:
        FormatError: `tpm.hcl_malformed`.
    """
    if not _DATA_AT <= len(data) <= HCL_MAX or not looks_like_hcl(data):
        raise FormatError(_CODE, f"{len(data)} bytes, or another signature than HCLA")
    _, version, size, _, _, reserved = _HEADER.unpack_from(data)
    data_size, _, kind, hashed, length = _RUNTIME.unpack_from(data, _RUNTIME_AT)
    end = _DATA_AT + length
    if version not in _VERSIONS or kind not in _TYPES or hashed not in _HASHES:
        raise FormatError(_CODE, f"version {version}, type {kind}, hash {hashed}")
    if size != end or data_size != _RUNTIME.size + length or end > len(data):
        raise FormatError(_CODE, f"sizes {size}, {data_size} and {length} do not fit {len(data)} bytes")
    name, report_length, at = _TYPES[kind]
    report, unused = data[_REPORT_AT:_RUNTIME_AT][:report_length], data[_REPORT_AT + report_length : _RUNTIME_AT]
    if reserved.strip(b"\0") or unused.strip(b"\0") or data[end:].strip(b"\0"):
        raise FormatError(_CODE, "reserved bytes that are not zero")
    runtime = data[_DATA_AT:end]
    value = _json(runtime)
    keys = {key: _rsa(item) for key, item in _jwks(value)}
    if "HCLAkPub" not in keys:
        raise FormatError(_CODE, "no HCLAkPub")
    configuration = value.get("vm-configuration", {})
    if not isinstance(configuration, dict):
        raise FormatError(_CODE, "a VM configuration that is no object")
    user_data = value.get("user-data")
    return HclReport(
        header_version=version,
        report_type=name,
        hash_type=_HASHES[hashed],
        hardware_report=report,
        report_data=report[at : at + 64],
        runtime_data=runtime,
        keys=keys,
        vm_configuration=configuration,
        user_data=None if user_data is None else as_text(user_data, _CODE, _TEXT_MAX),
    )


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise ValueError("a key twice")
    return result


def _json(data: bytes) -> dict[str, Any]:
    try:
        value = json.loads(data.decode(), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise FormatError(_CODE, "the runtime data is not JSON, or has a key twice") from error
    if not isinstance(value, dict):
        raise FormatError(_CODE, "the runtime data is no object")
    return value


def _jwks(value: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    items = as_list(value.get("keys"), _CODE, _KEYS_MAX, 1)
    named = [(as_text(item.get("kid"), _CODE, _TEXT_MAX), item) for item in items if isinstance(item, dict)]
    if len(dict(named)) != len(items):
        raise FormatError(_CODE, "a key twice, or one that is no object")
    return named


def _base64url(text: str) -> bytes:
    if not {*"+/="}.isdisjoint(text):  # the letters of the other base64, which Python takes too
        raise ValueError("not base64url")
    return b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)


def _rsa(item: dict[str, Any]) -> rsa.RSAPublicKey:
    try:
        if item.get("kty") != "RSA":
            raise FormatError(_CODE, "a key that is not RSA")
        exponent, modulus = (
            int.from_bytes(_base64url(as_text(item.get(part), _CODE, _TEXT_MAX))) for part in ("e", "n")
        )
        if not 2048 <= modulus.bit_length() <= 4096:
            raise FormatError(_CODE, f"an RSA key of {modulus.bit_length()} bits")
        return rsa.RSAPublicNumbers(exponent, modulus).public_key()
    except (ValueError, TypeError, OverflowError) as error:
        raise FormatError(_CODE, "a key that is no JWK") from error
