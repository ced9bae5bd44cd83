"""The SGX extension of a PCK certificate, 1.2.840.113741.1.13.1.

Source: Intel SGX PCK Certificate and CRL Profile Specification, section 1.3.5. A sequence of (OID, value) pairs in
fixed order: five in certificates of the Processor CA, seven in those of the Platform CA.
"""

from dataclasses import dataclass
from typing import Final

from cryptography import x509
from cryptography.hazmat import asn1

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError

SGX_EXTENSION: Final = x509.ObjectIdentifier("1.2.840.113741.1.13.1")
COMPONENTS: Final = 16
_PCE_SVN, _CPU_SVN = 17, 18
_ENUMERATED: Final = b"\x0a"


@asn1.sequence
class _Octets:
    oid: x509.ObjectIdentifier
    value: bytes


@asn1.sequence
class _Any:
    oid: x509.ObjectIdentifier
    value: asn1.TLV


@asn1.sequence
class _Items:
    oid: x509.ObjectIdentifier
    items: list[_Any]


@asn1.sequence
class _Extension:
    ppid: _Octets
    tcb: _Items
    pce_id: _Octets
    fmspc: _Octets
    sgx_type: _Any
    platform_instance_id: _Octets | None
    configuration: _Items | None


@dataclass(frozen=True, slots=True)
class PckExtension:
    """What Intel certified about one platform.

    Attributes:
        ppid: 16 bytes, names the package.
        components: the 16 component SVNs, 0 to 255 each.
        pce_svn: u16.
        cpu_svn: 16 bytes; the same TCB in raw form. Levels are matched by `components`.
        pce_id: 2 bytes.
        fmspc: 6 bytes, the platform family that collateral is published for.
        sgx_type: 0 standard, 1 scalable, 2 scalable with integrity.
        platform_instance_id: 16 bytes (Platform CA), or None (Processor CA).
    """

    ppid: bytes
    components: tuple[int, ...]
    pce_svn: int
    cpu_svn: bytes
    pce_id: bytes
    fmspc: bytes
    sgx_type: int
    platform_instance_id: bytes | None


def decode_pck_extension(value: bytes, code: Code) -> PckExtension:
    """Decode the extension's value (the content of extnValue).

    Raises:
        FormatError: with `code`.
    """
    try:
        extension = asn1.decode_der(_Extension, value)
        tcb = [_item(item, f"2.{index}", code) for index, item in enumerate(extension.tcb.items, 1)]
        if len(tcb) != _CPU_SVN:
            raise FormatError(code, f"{len(tcb)} TCB items, {_CPU_SVN} expected")
        *svns, pce_svn = (item.parse(int) for item in tcb[:_PCE_SVN])
        cpu_svn = tcb[_PCE_SVN].parse(bytes)
        if extension.configuration is not None:
            for index, item in enumerate(extension.configuration.items, 1):
                _item(item, f"7.{index}", code).parse(bool)
    except ValueError as error:
        raise FormatError(code, "not an SGX extension of a PCK certificate") from error
    sgx_type = _item(extension.sgx_type, "5", code)
    if sgx_type.tag_bytes != _ENUMERATED or len(sgx_type.data) != 1:
        raise FormatError(code, "SGX type")
    if not all(0 <= svn <= 0xFF for svn in svns) or not 0 <= pce_svn <= 0xFFFF or len(cpu_svn) != 16:
        raise FormatError(code, "an SVN out of range")
    if (extension.platform_instance_id is None) != (extension.configuration is None):
        raise FormatError(code, "six items; five or seven expected")
    _require_oid(extension.tcb.oid, "2", code)
    if extension.configuration is not None:
        _require_oid(extension.configuration.oid, "7", code)
    instance = extension.platform_instance_id
    return PckExtension(
        ppid=_octets(extension.ppid, "1", 16, code),
        components=tuple(svns),
        pce_svn=pce_svn,
        cpu_svn=cpu_svn,
        pce_id=_octets(extension.pce_id, "3", 2, code),
        fmspc=_octets(extension.fmspc, "4", 6, code),
        sgx_type=sgx_type.data[0],
        platform_instance_id=None if instance is None else _octets(instance, "6", 16, code),
    )


def _require_oid(oid: x509.ObjectIdentifier, suffix: str, code: Code) -> None:
    if oid.dotted_string != f"{SGX_EXTENSION.dotted_string}.{suffix}":
        raise FormatError(code, f"{oid.dotted_string} where item {suffix} was expected")


def _item(item: _Any, suffix: str, code: Code) -> asn1.TLV:
    _require_oid(item.oid, suffix, code)
    return item.value


def _octets(item: _Octets, suffix: str, length: int, code: Code) -> bytes:
    _require_oid(item.oid, suffix, code)
    if len(item.value) != length:
        raise FormatError(code, f"item {suffix}: {len(item.value)} bytes, {length} expected")
    return item.value
