"""Intel DCAP quotes: version 3 (SGX), versions 4 and 5 (SGX and TDX), read by offset.

Source: sgx_quote_3.h, sgx_quote_4.h and sgx_quote_5.h of Intel's SGXDataCenterAttestationPrimitives. All integers are
little-endian. What is read here is not yet believed: `appraisal.dcap` checks the signatures over exactly these bytes.

    version 3   header 48 | report body 384 | u32 length | signature data
    version 4   header 48 | report body 384 (SGX) or 584 (TDX) | u32 length | signature data
    version 5   header 48 | u16 body type | u32 body size | report body | u32 length | signature data

    body types of version 5    1: SGX, 384 bytes; 2: TDX 1.0, 584; 3: TDX 1.5, 648

    signature data, version 3    signature 64 | attestation key 64 | certification of the quoting enclave
    signature data, 4 and 5      signature 64 | attestation key 64 | u16 6 | u32 size | certification
    certification                QE report 384 | its signature 64 | u16 n | authentication data n | certification data
    certification data           u16 type | u32 size | data

Only zero bytes may follow the signature data: some platforms pad, and nothing there is signed.
"""

import struct
from dataclasses import dataclass
from typing import Final, NoReturn

from proxy_attestation.codes import Code
from proxy_attestation.errors import AppraisalError, FormatError
from proxy_attestation.formats.bounds import QUOTE_MAX
from proxy_attestation.formats.dcap_codes import DcapFault, dcap_code
from proxy_attestation.formats.tee import Tee

HEADER_LENGTH: Final = 48
SGX_REPORT_LENGTH: Final = 384
TD_REPORT_10_LENGTH: Final = 584
TD_REPORT_15_LENGTH: Final = 648

ECDSA_P256: Final = 2
"""The only attestation key type in use."""
QE_VENDOR_INTEL: Final = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")

PCK_LEAF: Final = 4
"""Certification data: the PCK certificate alone, PEM."""
PCK_CHAIN: Final = 5
"""Certification data: the PCK certificate and its issuers, PEM."""
_ENCLOSING_TYPES: Final = (6,)
"""The certification of the quoting enclave, around all that follows."""
_CERTIFICATION_TYPES: Final = (1, 2, 3, PCK_LEAF, PCK_CHAIN, 7)
"""1 to 3 name the platform and 7 is its manifest, for registration with Intel: they hold no certificate, so the PCK
chain has to come beside the quote, and they are not looked at. 4 and 5 hold certificates."""
_PLATFORM_LENGTHS: Final = {1: (36, 34), 2: (276, 274), 3: (404, 402)}
"""PPID (16 bytes, or encrypted with RSA-2048 or RSA-3072), CPUSVN 16, PCESVN 2, PCEID 2. Early quoting enclaves leave
the PCEID out (sgx_quote_3.h, USE_PCEID)."""

_HEADER: Final = struct.Struct("<HHI4x16s20s")
_TYPE_AND_SIZE: Final = struct.Struct("<HI")
_SIZE: Final = struct.Struct("<I")
_QE_REPORT: Final = struct.Struct("<384s64sH")

_TEE_TYPE: Final = {0x00: Tee.SGX, 0x81: Tee.TDX}
# Of versions 3 and 4; version 5 says which it is.
_BODY_LENGTH: Final = {Tee.SGX: SGX_REPORT_LENGTH, Tee.TDX: TD_REPORT_10_LENGTH}
_BODY_TYPE: Final = {
    1: (Tee.SGX, SGX_REPORT_LENGTH),
    2: (Tee.TDX, TD_REPORT_10_LENGTH),
    3: (Tee.TDX, TD_REPORT_15_LENGTH),
}
# SGX REPORT: bytes 20 to 31, 96 to 127, 160 to 191 and 262 to 303.
_SGX_REPORT_RESERVED: Final = struct.Struct("<20x12s64x32s32x32s70x42s80x")
_NOTHING_RESERVED: Final = _SGX_REPORT_RESERVED.unpack(bytes(SGX_REPORT_LENGTH))


@dataclass(frozen=True, slots=True)
class Quote:
    """A quote's parts, as bytes.

    Attributes:
        data: the quote as received.
        tee: what kind of TEE it is about.
        version: 3, 4 or 5.
        user_data: 20 bytes of the header; the first 16 name the quoting enclave's platform.
        body: the report body: 384 bytes (SGX), 584 (TDX 1.0) or 648 (TDX 1.5).
        report_data: 64 bytes of the body.
        signed: header and body, what the signature covers.
        signature: r and s, 64 bytes, big-endian.
        certified: all of the signature data behind the signature: the attestation key and what certifies it.
        attestation_key: x and y, 64 bytes, big-endian.
        qe_report: 384 bytes, the quoting enclave's own report.
        qe_report_signature: 64 bytes, by the platform's PCK.
        qe_authentication_data: 0 to 65535 bytes, hashed into the QE report beside the attestation key.
        certification_type: 1 to 5, or 7.
        certification_data: what that type says; PEM for 4 and 5.
    """

    data: bytes
    tee: Tee
    version: int
    user_data: bytes
    body: bytes
    report_data: bytes
    signed: bytes
    signature: bytes
    certified: bytes
    attestation_key: bytes
    qe_report: bytes
    qe_report_signature: bytes
    qe_authentication_data: bytes
    certification_type: int
    certification_data: bytes

    @property
    def bound(self) -> tuple[bytes, ...]:
        """What a binder must equal: the report data."""
        return (self.report_data,)

    @property
    def has_chain(self) -> bool:
        """Whether the PCK certificate is inside."""
        return self.certification_type in (PCK_LEAF, PCK_CHAIN)


def decode_quote(data: bytes) -> Quote:
    """Decode a quote.

    Raises:
        FormatError: `evidence.too_large`; `evidence.unknown` when it is no DCAP quote at all; `sgx.malformed` or
            `tdx.malformed`.
        AppraisalError: a quote of a kind that is not accepted: `<tee>.version`, `<tee>.key_type`, `<tee>.qe_vendor`
            or `<tee>.certification_data`.
    """
    if len(data) > QUOTE_MAX:
        raise FormatError(Code.EVIDENCE_TOO_LARGE, f"a quote of {len(data)} bytes, at most {QUOTE_MAX} allowed")
    tee, version, user_data = _identify(data)
    try:
        return _decode(data, tee, version, user_data)
    except struct.error as error:
        raise FormatError(dcap_code(tee, DcapFault.MALFORMED), "a part passes the end of what holds it") from error


def _decode(data: bytes, tee: Tee, version: int, user_data: bytes) -> Quote:
    start, end = _body(data, tee, version)
    (size,) = _SIZE.unpack_from(data, end)
    section, padding = data[end + 4 : end + 4 + size], data[end + 4 + size :]
    if len(section) != size:
        _malformed(tee, f"{size} bytes of signature data declared, {len(section)} are there")
    rest = section[128:]
    if version != 3:
        _, rest = _enclosed(rest, tee, _ENCLOSING_TYPES)
    qe_report, qe_report_signature, length = _QE_REPORT.unpack_from(rest)
    rest = rest[_QE_REPORT.size :]
    certification_type, certification_data = _enclosed(rest[length:], tee, _CERTIFICATION_TYPES)
    if len(certification_data) not in _PLATFORM_LENGTHS.get(certification_type, (len(certification_data),)):
        _malformed(tee, f"certification data of type {certification_type} with {len(certification_data)} bytes")
    if padding and padding.strip(b"\0"):
        _malformed(tee, "bytes other than zero after the signature data")
    body = data[start:end]
    for report in (body, qe_report) if tee is Tee.SGX else (qe_report,):
        if _SGX_REPORT_RESERVED.unpack(report) != _NOTHING_RESERVED:
            _malformed(tee, "reserved bytes of an SGX report are not zero")
    return Quote(
        data=data,
        tee=tee,
        version=version,
        user_data=user_data,
        body=body,
        report_data=body[320:384] if tee is Tee.SGX else body[520:584],
        signed=data[:end],
        signature=section[:64],
        certified=section[64:],
        attestation_key=section[64:128],
        qe_report=qe_report,
        qe_report_signature=qe_report_signature,
        qe_authentication_data=rest[:length],
        certification_type=certification_type,
        certification_data=certification_data,
    )


def _identify(data: bytes) -> tuple[Tee, int, bytes]:
    """Return the TEE, the version, and the header's 20 bytes of user data."""
    if len(data) < HEADER_LENGTH:
        raise FormatError(Code.EVIDENCE_UNKNOWN, "too short for a DCAP quote")
    version, key_type, tee_type, vendor, user_data = _HEADER.unpack_from(data)
    tee = Tee.SGX if version == 3 else _TEE_TYPE.get(tee_type)
    if version not in (3, 4, 5) or tee is None:
        raise FormatError(Code.EVIDENCE_UNKNOWN, "no header of a DCAP quote of version 3, 4 or 5")
    if version == 3 and tee_type != 0:
        raise FormatError(Code.SGX_MALFORMED, "version 3 with a TEE type other than SGX")
    if key_type != ECDSA_P256:
        raise AppraisalError(dcap_code(tee, DcapFault.KEY_TYPE), "the attestation key is not ECDSA P-256")
    if vendor != QE_VENDOR_INTEL:
        raise AppraisalError(dcap_code(tee, DcapFault.QE_VENDOR), "the quoting enclave is not Intel's")
    return tee, version, user_data


def _body(data: bytes, tee: Tee, version: int) -> tuple[int, int]:
    """Return where the report body starts and ends."""
    if version != 5:
        return HEADER_LENGTH, HEADER_LENGTH + _BODY_LENGTH[tee]
    body_type, size = _TYPE_AND_SIZE.unpack_from(data, HEADER_LENGTH)
    if body_type not in _BODY_TYPE:
        raise AppraisalError(dcap_code(tee, DcapFault.VERSION), f"a report body of unknown type {body_type}")
    if _BODY_TYPE[body_type] != (tee, size):
        _malformed(tee, f"body type {body_type} of {size} bytes in a quote for {tee}")
    start = HEADER_LENGTH + _TYPE_AND_SIZE.size
    return start, start + size


def _enclosed(part: bytes, tee: Tee, types: tuple[int, ...]) -> tuple[int, bytes]:
    """Return type and data of a certification: u16 type, u32 size, and data of that size, which is all there is."""
    found, size = _TYPE_AND_SIZE.unpack_from(part)
    if found not in types:
        raise AppraisalError(dcap_code(tee, DcapFault.CERTIFICATION_DATA), f"certification data of type {found}")
    data = part[_TYPE_AND_SIZE.size :]
    if len(data) != size or not data:
        _malformed(tee, "certification data is empty or does not fill its place")
    return found, data


def _malformed(tee: Tee, detail: str) -> NoReturn:
    raise FormatError(dcap_code(tee, DcapFault.MALFORMED), detail)
