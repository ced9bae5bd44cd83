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
_ENUMERATED: Final = b"\x0a"


@asn1.sequence
class _Pair:
    oid: x509.ObjectIdentifier
    value: asn1.TLV


@asn1.sequence
class _Pairs:
    oid: x509.ObjectIdentifier
    items: list[_Pair]


@asn1.sequence
class _Extension:
    ppid: _Pair
    tcb: _Pairs
    pce_id: _Pair
    fmspc: _Pair
    sgx_type: _Pair
    platform_instance_id: _Pair | None
    configuration: _Pairs | None


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
        return _decode(asn1.decode_der(_Extension, value), code)
    except ValueError as error:
        raise FormatError(code, "not an SGX extension of a PCK certificate") from error


def _decode(extension: _Extension, code: Code) -> PckExtension:
    tcb = _values(extension.tcb, "2", code)
    if len(tcb) != COMPONENTS + 2:
        raise FormatError(code, f"{len(tcb)} TCB items, {COMPONENTS + 2} expected")
    *svns, pce_svn = (item.parse(int) for item in tcb[:-1])
    if not all(0 <= svn <= 0xFF for svn in svns) or not 0 <= pce_svn <= 0xFFFF:
        raise FormatError(code, "an SVN out of range")
    sgx_type = _value(extension.sgx_type, "5", code)
    if sgx_type.tag_bytes != _ENUMERATED or len(sgx_type.data) != 1:
        raise FormatError(code, "SGX type")
    instance, configuration = extension.platform_instance_id, extension.configuration
    if (instance is None) != (configuration is None):
        raise FormatError(code, "six items; five or seven expected")
    if configuration is not None:
        for item in _values(configuration, "7", code):
            item.parse(bool)
    return PckExtension(
        ppid=_octets(_value(extension.ppid, "1", code), 16, code),
        components=tuple(svns),
        pce_svn=pce_svn,
        cpu_svn=_octets(tcb[-1], 16, code),
        pce_id=_octets(_value(extension.pce_id, "3", code), 2, code),
        fmspc=_octets(_value(extension.fmspc, "4", code), 6, code),
        sgx_type=sgx_type.data[0],
        platform_instance_id=None if instance is None else _octets(_value(instance, "6", code), 16, code),
    )


def _require_oid(oid: x509.ObjectIdentifier, suffix: str, code: Code) -> None:
    if oid.dotted_string != f"{SGX_EXTENSION.dotted_string}.{suffix}":
        raise FormatError(code, f"{oid.dotted_string} where item {suffix} was expected")


def _value(pair: _Pair, suffix: str, code: Code) -> asn1.TLV:
    _require_oid(pair.oid, suffix, code)
    return pair.value


def _values(pairs: _Pairs, suffix: str, code: Code) -> list[asn1.TLV]:
    _require_oid(pairs.oid, suffix, code)
    return [_value(item, f"{suffix}.{number}", code) for number, item in enumerate(pairs.items, 1)]


def _octets(value: asn1.TLV, length: int, code: Code) -> bytes:
    octets: bytes = value.parse(bytes)
    if len(octets) != length:
        raise FormatError(code, f"{len(octets)} bytes, {length} expected")
    return octets
