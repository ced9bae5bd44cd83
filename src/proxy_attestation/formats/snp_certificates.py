"""What comes beside an SEV-SNP report: the host's certificate table, and AMD's extensions in a VCEK or VLEK.

Source: SEV-ES GHCB Standardization (56421), SNP extended guest request, cert_table; VCEK Certificate and KDS Interface
Specification (57230), the extensions of VCEK and VLEK.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from cryptography.hazmat import asn1

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError
from proxy_attestation.formats.bounds import CERTIFICATE_MAX, SNP_TABLE_ENTRIES_MAX
from proxy_attestation.formats.pem import CERTIFICATE, decode_pem, is_pem

_ENTRY: Final = struct.Struct("<16sII")
_END: Final = bytes(_ENTRY.size)
# In the order in which a chain is given. A host may have entries of other kinds, which say nothing about the platform.
_CERTIFICATES: Final = tuple(
    UUID(guid).bytes
    for guid in (
        "63da758d-e664-4564-adc5-f4b93be8accd",  # VCEK
        "a8074bc2-a25a-483e-aae6-39c045a0b8a1",  # VLEK
        "4ab7b379-bbac-4fe4-a02f-05aef327c782",  # ASK or ASVK
        "c0b406a4-a803-4952-9743-3fb6014cd0ae",  # ARK
    )
)
_CRL: Final = UUID("92f81bc3-5811-4d3d-97ff-d19f88dc67ea").bytes

AMD_ARC: Final = "1.3.6.1.4.1.3704"
_NAMES: Final = {
    "1": "structVersion", "2": "productName", "4": "hwID", "5": "cspID",
    "3.1": "blSPL", "3.2": "teeSPL", "3.3": "snpSPL", "3.4": "spl4", "3.5": "spl5",
    "3.6": "spl6", "3.7": "spl7", "3.8": "ucodeSPL", "3.9": "fmcSPL",
}  # fmt: skip
_STRUCT_VERSIONS: Final = (0, 1)
_CHIP_ID_LENGTHS: Final = (8, 64)
_TEXT_MAX: Final = 128


@dataclass(frozen=True, slots=True)
class CertificateTable:
    """What a certificate table holds.

    Attributes:
        certificates: DER: VCEK, VLEK, ASK or ASVK, ARK, those of them that are there, in this order.
        crl: as it stands, or None. It comes from the host, and may be an old one.
    """

    certificates: tuple[bytes, ...] = ()
    crl: bytes | None = None


@dataclass(frozen=True, slots=True)
class VekExtensions:
    """What AMD certified about one signing key.

    Attributes:
        struct_version: 0 or 1.
        product_name: such as `Milan-B0`, or `Turin`.
        spls: security patch levels by name, 0 to 255 each.
        hw_id: 8 or 64 bytes; None in a VLEK.
        csp_id: the cloud provider; None in a VCEK.
    """

    struct_version: int
    product_name: str
    spls: Mapping[str, int]
    hw_id: bytes | None
    csp_id: str | None


def looks_like_certificate_table(data: bytes) -> bool:
    """Tell whether bytes begin with an entry that AMD has named."""
    return data[:16] in (*_CERTIFICATES, _CRL)


def decode_certificate_table(data: bytes) -> CertificateTable:
    """Decode a table: entries of GUID, offset and length, ended by a zero one, and the blobs somewhere behind them.

    No bytes at all are an empty table. Bytes that no entry names are not looked at.

    Raises:
        FormatError: `snp.certificate_table`: no end, too many entries, a blob outside, one GUID twice, or a
            certificate that is too large or bad PEM.
    """
    entries: dict[bytes, tuple[int, int]] = {}
    start = 0
    while data and data[start : start + _ENTRY.size] != _END:
        if start + _ENTRY.size > len(data) or len(entries) == SNP_TABLE_ENTRIES_MAX:
            raise FormatError(Code.SNP_CERTIFICATE_TABLE, "a table without end, or with too many entries")
        guid, offset, length = _ENTRY.unpack_from(data, start)
        start += _ENTRY.size
        # Python's integers do not overflow, so the sum is the sum.
        if guid in entries or offset < start or offset + length > len(data):
            raise FormatError(Code.SNP_CERTIFICATE_TABLE, "a GUID twice, or a blob that is not behind the table")
        entries[guid] = offset, length
    if any(offset < start + _ENTRY.size for offset, _ in entries.values()):
        raise FormatError(Code.SNP_CERTIFICATE_TABLE, "a blob inside the table")
    blobs = {guid: data[offset : offset + length] for guid, (offset, length) in entries.items()}
    return CertificateTable(
        tuple(_certificate(blobs[guid]) for guid in _CERTIFICATES if blobs.get(guid)), blobs.get(_CRL) or None
    )


def _certificate(blob: bytes) -> bytes:
    if is_pem(blob):
        return decode_pem(blob, CERTIFICATE, Code.SNP_CERTIFICATE_TABLE, count=1, limit=CERTIFICATE_MAX)[0]
    if len(blob) > CERTIFICATE_MAX:
        raise FormatError(Code.SNP_CERTIFICATE_TABLE, f"a certificate of {len(blob)} bytes")
    return blob


def decode_vek_extensions(extensions: Mapping[str, bytes]) -> VekExtensions:
    """Decode AMD's extensions of one certificate.

    Args:
        extensions: the values (content of extnValue) of everything below `AMD_ARC`, by dotted OID.

    Raises:
        FormatError: `snp.vek`: an unknown one, a missing one, or a malformed value.
    """
    prefix = f"{AMD_ARC}.1."
    found = {_NAMES.get(oid.removeprefix(prefix), oid): value for oid, value in extensions.items()}
    unknown = found.keys() - set(_NAMES.values())
    if unknown or not {"structVersion", "productName"} <= found.keys():
        raise FormatError(Code.SNP_VEK, f"unknown extension {min(unknown, default='none')}, or a missing one")
    hw_id = found.get("hwID")
    try:
        # Raw bytes occur, and a DER OCTET STRING does. The lengths tell them apart.
        if hw_id is not None and len(hw_id) not in _CHIP_ID_LENGTHS:
            hw_id = asn1.decode_der(bytes, hw_id)
        struct_version = asn1.decode_der(int, found["structVersion"])
        spls = {name: asn1.decode_der(int, value) for name, value in found.items() if "spl" in name.lower()}
        product_name, csp_id = (
            asn1.decode_der(asn1.IA5String, found[name]).as_str() if name in found else None
            for name in ("productName", "cspID")
        )
    except ValueError as error:
        raise FormatError(Code.SNP_VEK, "an extension that is no INTEGER, IA5String or chip id") from error
    if (
        struct_version not in _STRUCT_VERSIONS
        or not all(0 <= spl <= 0xFF for spl in spls.values())
        or (hw_id is not None and len(hw_id) not in _CHIP_ID_LENGTHS)
        or not all(text is None or 0 < len(text) <= _TEXT_MAX for text in (product_name, csp_id))
    ):
        raise FormatError(Code.SNP_VEK, "structure version, security patch level, chip id or name out of range")
    return VekExtensions(struct_version, product_name or "", spls, hw_id, csp_id)
