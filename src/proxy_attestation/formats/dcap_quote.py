"""Intel DCAP quotes: version 3 (SGX), versions 4 and 5 (TDX), read by offset.

Source: sgx_quote_3.h, sgx_quote_4.h and sgx_quote_5.h of Intel's SGXDataCenterAttestationPrimitives. All integers are
little-endian. What is read here is not yet believed: `appraisal.dcap` checks the signatures over exactly these bytes.

    version 3   header 48 | report body 384 | u32 length | signature data
    version 4   header 48 | TD report 584 | u32 length | signature data
    version 5   header 48 | u16 body type | u32 body size | TD report 584 or 648 | u32 length | signature data

    signature data, version 3    signature 64 | attestation key 64 | certification of the quoting enclave
    signature data, 4 and 5      signature 64 | attestation key 64 | u16 6 | u32 size | certification
    certification                QE report 384 | its signature 64 | u16 n | authentication data n | certification data
    certification data           u16 type | u32 size | data

Only zero bytes may follow the signature data: some platforms pad, and nothing there is signed.
"""

from dataclasses import dataclass
from typing import Final

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
_QE_CERTIFICATION: Final = 6
_CERTIFICATION_TYPES: Final = range(1, 6)
"""1 to 3 name the platform (PPID, clear or encrypted) and hold no certificate; 4 and 5 hold certificates."""

_TEE_TYPE: Final = {0x00: Tee.SGX, 0x81: Tee.TDX}
_BODY_TYPE_SGX: Final = 1
_TD_REPORT_LENGTH: Final = {2: TD_REPORT_10_LENGTH, 3: TD_REPORT_15_LENGTH}
_SGX_REPORT_RESERVED: Final = ((20, 32), (96, 128), (160, 192), (262, 304))


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
        attestation_key: x and y, 64 bytes, big-endian.
        qe_report: 384 bytes, the quoting enclave's own report.
        qe_report_signature: 64 bytes, by the platform's PCK.
        qe_authentication_data: 0 to 65535 bytes, hashed into the QE report beside the attestation key.
        certification_type: 1 to 5.
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
    attestation_key: bytes
    qe_report: bytes
    qe_report_signature: bytes
    qe_authentication_data: bytes
    certification_type: int
    certification_data: bytes

    @property
    def has_chain(self) -> bool:
        """Whether the PCK certificate is inside."""
        return self.certification_type in (PCK_LEAF, PCK_CHAIN)


class _Cursor:
    """Reads forward through `data` from `position` to `end` and refuses to pass it."""

    __slots__ = ("_code", "_data", "end", "position")

    def __init__(self, data: bytes, position: int, end: int, code: Code) -> None:
        self._data, self.position, self.end, self._code = data, position, end, code

    def take(self, length: int) -> bytes:
        start = self.position
        self.position = start + length
        if self.position > self.end:
            raise FormatError(self._code, f"{length} bytes wanted at offset {start}, the structure ends at {self.end}")
        return self._data[start : self.position]

    def uint(self, length: int) -> int:
        return int.from_bytes(self.take(length), "little")

    def enter(self, length: int) -> None:
        """Narrow the end to a structure of `length` bytes that starts here."""
        if self.position + length > self.end:
            raise FormatError(self._code, f"{length} bytes declared at offset {self.position}, {self.end} is the end")
        self.end = self.position + length


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
    tee, version = _identify(data)
    malformed = dcap_code(tee, DcapFault.MALFORMED)
    cursor = _Cursor(data, HEADER_LENGTH, len(data), malformed)
    body = cursor.take(_body_length(tee, version, cursor))
    signed = data[: cursor.position]
    cursor.enter(cursor.uint(4))
    signature, attestation_key = cursor.take(64), cursor.take(64)
    if version != 3:
        _require_type(tee, cursor.uint(2), range(_QE_CERTIFICATION, _QE_CERTIFICATION + 1))
        if cursor.uint(4) != cursor.end - cursor.position:
            raise FormatError(malformed, "the quoting enclave's certification does not fill the signature data")
    qe_report, qe_report_signature = cursor.take(SGX_REPORT_LENGTH), cursor.take(64)
    authentication_data = cursor.take(cursor.uint(2))
    certification_type = cursor.uint(2)
    _require_type(tee, certification_type, _CERTIFICATION_TYPES)
    certification_data = cursor.take(cursor.uint(4))
    if cursor.position != cursor.end or not certification_data:
        raise FormatError(malformed, "the certification data is empty or does not fill the signature data")
    if data[cursor.end :].strip(b"\0"):
        raise FormatError(malformed, "bytes other than zero after the signature data")
    if tee is Tee.SGX:
        _require_reserved_zero(body, malformed)
    _require_reserved_zero(qe_report, malformed)
    return Quote(
        data=data,
        tee=tee,
        version=version,
        user_data=data[28:48],
        body=body,
        report_data=body[320:384] if tee is Tee.SGX else body[520:584],
        signed=signed,
        signature=signature,
        attestation_key=attestation_key,
        qe_report=qe_report,
        qe_report_signature=qe_report_signature,
        qe_authentication_data=authentication_data,
        certification_type=certification_type,
        certification_data=certification_data,
    )


def _identify(data: bytes) -> tuple[Tee, int]:
    version = int.from_bytes(data[:2], "little")
    tee_type = int.from_bytes(data[4:8], "little")
    tee = Tee.SGX if version == 3 else _TEE_TYPE.get(tee_type)
    if len(data) < HEADER_LENGTH or version not in (3, 4, 5) or tee is None:
        raise FormatError(Code.EVIDENCE_UNKNOWN, "no header of a DCAP quote of version 3, 4 or 5")
    if version == 3 and tee_type != 0:
        raise FormatError(Code.SGX_MALFORMED, "version 3 with a TEE type other than SGX")
    if version != 3 and tee is Tee.SGX:
        raise AppraisalError(Code.SGX_VERSION, f"an SGX quote of version {version}; only version 3 is accepted")
    if int.from_bytes(data[2:4], "little") != ECDSA_P256:
        raise AppraisalError(dcap_code(tee, DcapFault.KEY_TYPE), "the attestation key is not ECDSA P-256")
    if data[12:28] != QE_VENDOR_INTEL:
        raise AppraisalError(dcap_code(tee, DcapFault.QE_VENDOR), "the quoting enclave is not Intel's")
    return tee, version


def _body_length(tee: Tee, version: int, cursor: _Cursor) -> int:
    if version == 3:
        return SGX_REPORT_LENGTH
    if version == 4:
        return TD_REPORT_10_LENGTH
    body_type, size = cursor.uint(2), cursor.uint(4)
    length = _TD_REPORT_LENGTH.get(body_type)
    if length is None and body_type != _BODY_TYPE_SGX:
        raise AppraisalError(dcap_code(tee, DcapFault.VERSION), f"a report body of unknown type {body_type}")
    if size != length:
        raise FormatError(dcap_code(tee, DcapFault.MALFORMED), f"body type {body_type} of {size} bytes")
    return length


def _require_type(tee: Tee, found: int, allowed: range) -> None:
    if found not in allowed:
        raise AppraisalError(dcap_code(tee, DcapFault.CERTIFICATION_DATA), f"certification data of type {found}")


def _require_reserved_zero(report: bytes, code: Code) -> None:
    for start, end in _SGX_REPORT_RESERVED:
        if any(report[start:end]):
            raise FormatError(code, f"reserved bytes {start} to {end} of an SGX report are not zero")
