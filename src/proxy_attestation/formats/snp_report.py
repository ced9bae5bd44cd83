"""AMD SEV-SNP attestation reports, versions 2 to 5, and the certificate table that an extended report ends with.

Source: SEV Secure Nested Paging Firmware ABI Specification (56860, revision 1.58), ATTESTATION_REPORT and
TCB_VERSION. All integers are little-endian. What is read here is not yet believed: `appraisal.snp` checks the
signature over exactly these bytes.

    fields 0x2A0, which the signature covers | R 72 | S 72 | zero 368 | certificate table, perhaps
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from proxy_attestation.codes import Code
from proxy_attestation.errors import AppraisalError, FormatError
from proxy_attestation.formats.bounds import QUOTE_MAX
from proxy_attestation.formats.snp_certificates import CertificateTable, decode_certificate_table

REPORT_LENGTH: Final = 0x4A0
SIGNED_LENGTH: Final = 0x2A0
VCEK: Final = "VCEK"
VLEK: Final = "VLEK"

_VERSIONS: Final = range(2, 6)
_ECDSA_P384_SHA384: Final = 1
_COMPONENT: Final = 72
"""Bytes of R and of S."""
_SIGNING_KEYS: Final = {0: VCEK, 1: VLEK}
"""KEY_INFO bits 4:2. 7 is no signature; the others are reserved."""
# What is zero: in every version, and before (CPUID came with version 3, mitigation vectors with version 5) or from one.
_RESERVED: Final = ((0x04C, 0x050), (0x18B, 0x1A0), (0x1EB, 0x1EC), (0x1EF, 0x1F0), (0x208, SIGNED_LENGTH))
_RESERVED_BEFORE: Final = {3: (0x188, 0x18B), 5: (0x1F8, 0x208)}
_TAIL: Final = slice(SIGNED_LENGTH + 2 * _COMPONENT, REPORT_LENGTH)


class Product(StrEnum):
    """A processor line: each has its own root, and with the last one came another layout of TCB_VERSION."""

    MILAN = "Milan"
    GENOA = "Genoa"
    TURIN = "Turin"


CSP_ID_MAX: Final = 128
"""Characters of the cloud provider's id in a VLEK."""

TCB_COMPONENTS: Final[Mapping[str, str]] = {
    "fmcSPL": "fmc",
    "blSPL": "bootloader",
    "teeSPL": "tee",
    "snpSPL": "snp",
    "ucodeSPL": "microcode",
}
"""The components of a TCB_VERSION as policies name them, by the names that the VCEK's extensions have."""
_OLD: Final = ("blSPL", "teeSPL", "spl4", "spl5", "spl6", "spl7", "snpSPL", "ucodeSPL")
_NEW: Final = ("fmcSPL", "blSPL", "teeSPL", "snpSPL", "spl5", "spl6", "spl7", "ucodeSPL")
TCB_LAYOUT: Final[Mapping[Product, tuple[str, ...]]] = {
    Product.MILAN: _OLD,
    Product.GENOA: _OLD,
    Product.TURIN: _NEW,
}
"""What each of the 8 bytes of a TCB_VERSION is, by the names that the VCEK's extensions have. `spl...` are reserved."""

# CPUID family, first and last model. Genoa's second range is Bergamo and Siena.
_MODELS: Final = (
    (0x19, 0x00, 0x0F, Product.MILAN),
    (0x19, 0x10, 0x1F, Product.GENOA),
    (0x19, 0xA0, 0xAF, Product.GENOA),
    (0x1A, 0x00, 0x11, Product.TURIN),
)


def product_of(cpuid: bytes) -> Product | None:
    """Return the processor line of a CPUID family, model and stepping (3 bytes), or None for one not known."""
    family, model = cpuid[:2]
    return next((line for fam, low, high, line in _MODELS if family == fam and low <= model <= high), None)


def tcb_components(product: Product, tcb: bytes) -> dict[str, int]:
    """Return the components of a TCB_VERSION (8 bytes) that are not reserved, by name, in the order of the bytes."""
    return {n: svn for n, svn in zip(TCB_LAYOUT[product], tcb, strict=True) if not n.startswith("spl")}


@dataclass(frozen=True, slots=True)
class SnpReport:
    """A report's parts, as bytes.

    Attributes:
        data: the report and what follows it, as received.
        version: 2 to 5.
        signing_key: `VCEK` or `VLEK`.
        signed: 672 bytes, what the signature covers.
        signature: DER, of R and S as they stand (they may be too large to be any).
        bound: REPORT_DATA, 64 bytes: the values that a binder must equal.
        certificates: what the table behind an extended report holds; from the host, and so only hints.
    """

    data: bytes
    version: int
    signing_key: str
    signed: bytes
    signature: bytes
    bound: tuple[bytes, ...]
    certificates: CertificateTable


def looks_like_snp_report(data: bytes) -> bool:
    """Tell whether bytes are meant as a report: a small version, a small algorithm, and the signature's zero tail."""
    if len(data) < REPORT_LENGTH:
        return False
    version, algorithm = _u32(data, 0x000), _u32(data, 0x034)
    return 0 < version < 0x100 and algorithm < 0x100 and not any(data[_TAIL])


def decode_snp_report(data: bytes) -> SnpReport:
    """Take a report apart, and an extended report's certificate table.

    Raises:
        FormatError: `snp.malformed` for a wrong length or a reserved byte that is not zero, `snp.certificate_table`.
        AppraisalError: `snp.version`, `snp.signature_algorithm`, `snp.signing_key` (masked, none or reserved).
    """
    if not REPORT_LENGTH <= len(data) <= QUOTE_MAX:
        raise FormatError(Code.SNP_MALFORMED, f"{len(data)} bytes, {REPORT_LENGTH} or an extended report expected")
    version, algorithm, key_info = (_u32(data, offset) for offset in (0x000, 0x034, 0x048))
    if version not in _VERSIONS:
        raise AppraisalError(Code.SNP_VERSION, f"version {version}; 2 to 5 are known")
    if algorithm != _ECDSA_P384_SHA384:
        raise AppraisalError(Code.SNP_SIGNATURE_ALGORITHM, f"signature algorithm {algorithm}")
    reserved = [*_RESERVED, *(part for since, part in _RESERVED_BEFORE.items() if version < since)]
    if any(any(data[start:end]) for start, end in reserved) or any(data[_TAIL]) or key_info >> 5:
        raise FormatError(Code.SNP_MALFORMED, "a reserved field is not zero")
    signing_key = _SIGNING_KEYS.get(key_info >> 2)
    if key_info & 2 or signing_key is None:
        raise AppraisalError(Code.SNP_SIGNING_KEY, f"KEY_INFO {key_info:#x}: masked, or no key that signs")
    r, s = (
        int.from_bytes(data[start : start + _COMPONENT], "little")
        for start in (SIGNED_LENGTH, SIGNED_LENGTH + _COMPONENT)
    )
    return SnpReport(
        data=data,
        version=version,
        signing_key=signing_key,
        signed=data[:SIGNED_LENGTH],
        signature=encode_dss_signature(r, s),
        bound=(data[0x050:0x090],),
        certificates=decode_certificate_table(data[REPORT_LENGTH:]),
    )


def _u32(data: bytes, offset: int) -> int:
    value: int = struct.unpack_from("<I", data, offset)[0]
    return value
