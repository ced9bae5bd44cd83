"""What a user hands over as evidence, and as a time: files, standard input, text or bytes."""

import binascii
import re
import struct
import sys
from base64 import b64decode
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from proxy_attestation.appraisal.kinds import Parsed, ParsedOrTpm, decode_evidence_of, tee_of
from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError, UsageError
from proxy_attestation.formats import pem
from proxy_attestation.formats.bounds import MESSAGE_MAX
from proxy_attestation.formats.csr import Csr, decode_csr, spki_sha256, verify_csr
from proxy_attestation.formats.dcap_quote import decode_quote
from proxy_attestation.formats.evidence import Evidence, decode_evidence
from proxy_attestation.formats.nitro import decode_nitro, looks_like_nitro
from proxy_attestation.formats.ra_tls import EmbeddedEvidence, decode_ra_tls
from proxy_attestation.formats.snp_report import REPORT_LENGTH, decode_snp_report, looks_like_snp_report
from proxy_attestation.formats.tee import Tee
from proxy_attestation.formats.tpm_evidence import TpmEvidence

_HEX: Final = re.compile(r"(?:[0-9A-Fa-f]{2})+")
_CBOR_ARRAY_OF_3: Final = b"\x83"
_DER_SEQUENCE: Final = b"\x30"
_CSR_LABELS: Final = (b"-----BEGIN CERTIFICATE REQUEST-----", b"-----BEGIN NEW CERTIFICATE REQUEST-----")
_RESPONSE: Final = struct.pack("<II24x", 0, REPORT_LENGTH)
_RFC3339: Final = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)[Tt ](?P<time>\d\d:\d\d:\d\d(?:\.\d{1,6})?)(?P<zone>[Zz]|[+-]\d\d:\d\d)"
)


def read_input(name: str, limit: int) -> bytes:
    """Read a file, or standard input for `-`: at most one byte more than `limit`, for the caller to refuse.

    Raises:
        UsageError: for what cannot be read.
    """
    try:
        if name == "-":
            return sys.stdin.buffer.read(limit + 1)
        with Path(name).open("rb") as file:
            return file.read(limit + 1)
    except OSError as error:
        raise UsageError(f"{name}: {error.strerror}") from error


def from_text(data: bytes) -> bytes:
    """Return the bytes that hex (perhaps after `0x`) or base64 text spells, or the data itself where it is no text."""
    try:
        text = "".join(data.decode("ascii").split()).removeprefix("0x")
        if _HEX.fullmatch(text):
            return bytes.fromhex(text)
        return b64decode(text.replace("-", "+").replace("_", "/") + "=" * (-len(text) % 4), validate=True) or data
    except (UnicodeDecodeError, binascii.Error):
        return data


@dataclass(frozen=True, slots=True)
class Given:
    """Evidence as a user hands it over.

    Attributes:
        evidence: as read.
        platform_certificates: DER, that came with it.
        embedded: the certificate's piece that it was taken from, or None.
        csr_spki_sha256: 32 bytes: the key of the request that it was taken from, which signed it, or None. The binder
            ties the two together with the challenge, which is not known off line.
    """

    evidence: Parsed
    platform_certificates: tuple[bytes, ...] = ()
    embedded: EmbeddedEvidence | None = None
    csr_spki_sha256: bytes | None = None


def read_evidence(data: bytes) -> tuple[Given, ...]:
    """Tell what the bytes are, and read it: raw, hex or base64.

    Known: an SGX or TDX quote, an SEV-SNP report, a Nitro document, this project's evidence record around one, a
    certificate with one or more of them inside, and a certification request with a record in its attribute.

    Returns:
        One piece, or those of a certificate.

    Raises:
        FormatError: `evidence.too_large`, `evidence.malformed`, `evidence.unknown`, `ra_tls.*`, `csr.*`,
            `<tee>.malformed`.
        AppraisalError: for evidence of a kind that is not accepted, as its decoder says.
    """
    if not data:
        raise FormatError(Code.EVIDENCE_MALFORMED, "nothing at all")
    if len(data) > MESSAGE_MAX:
        raise FormatError(Code.EVIDENCE_TOO_LARGE, f"more than {MESSAGE_MAX} bytes")
    if pem.is_pem(data):
        is_csr = data.lstrip().startswith(_CSR_LABELS)
        return (_requested(decode_csr(data)),) if is_csr else _embedded(data)
    raw = from_text(data)
    if raw[:1] == _DER_SEQUENCE:
        csr = _csr(raw)
        return _embedded(raw) if csr is None else (_requested(csr),)
    if looks_like_nitro(raw):
        return (Given(decode_nitro(raw)),)
    if raw[:1] == _CBOR_ARRAY_OF_3:
        return (_recorded(decode_evidence(raw)),)
    raw = _without_response(raw)
    if looks_like_snp_report(raw):
        return (Given(decode_snp_report(raw)),)
    return (Given(decode_quote(raw)),)


def _csr(der: bytes) -> Csr | None:
    """Return the request that DER is, or None where it is none: a certificate begins in the same way."""
    try:
        return decode_csr(der)
    except FormatError as error:
        if error.code is not Code.CSR_MALFORMED:
            raise
        return None


def _requested(csr: Csr) -> Given:
    verify_csr(csr)
    if csr.cmw is None:
        raise FormatError(Code.EVIDENCE_MALFORMED, "a certification request without evidence")
    return replace(_recorded(decode_evidence(csr.cmw)), csr_spki_sha256=spki_sha256(csr.spki))


def _without_response(raw: bytes) -> bytes:
    """Return the report out of what the firmware answers (ABI, MSG_REPORT_RSP), or the bytes as they are.

    Before the report: u32 status 0, u32 size, 24 zeros; behind it zeros, up to the size of the buffer.
    """
    report = raw[len(_RESPONSE) :][:REPORT_LENGTH]
    answered = raw.startswith(_RESPONSE) and not any(raw[len(_RESPONSE) + REPORT_LENGTH :])
    return report if answered and looks_like_snp_report(report) else raw


def _embedded(data: bytes) -> tuple[Given, ...]:
    pieces = decode_ra_tls(data)
    return tuple(Given(_decode(piece), piece.platform_certificates, piece) for piece in pieces)


def _decode(piece: EmbeddedEvidence) -> Parsed:
    if piece.kind == "quote":
        return decode_quote(piece.evidence)
    return _without_tpm(decode_evidence_of(Tee(piece.kind), piece.evidence))


def _without_tpm(evidence: ParsedOrTpm) -> Parsed:
    """Refuse a TPM's evidence, which `tpm_verdict` reads by itself."""
    if isinstance(evidence, TpmEvidence):
        raise FormatError(Code.EVIDENCE_UNKNOWN, "a TPM's evidence in a place where it is not expected")
    return evidence


def _recorded(record: Evidence) -> Given:
    evidence = _without_tpm(decode_evidence_of(record.tee, record.evidence))
    if tee_of(evidence) is not record.tee:
        raise FormatError(Code.EVIDENCE_MALFORMED, f"a record for {record.tee} around evidence of {tee_of(evidence)}")
    return Given(evidence, record.platform_certificates)


def parse_time(text: str) -> datetime:
    """Return an RFC 3339 time as UTC.

    Raises:
        UsageError: for anything else.
    """
    match = _RFC3339.fullmatch(text)
    refusal = UsageError(f"{text!r} is no RFC 3339 time such as 2026-11-24T00:00:00Z")
    if match is None:
        raise refusal
    zone = match["zone"].upper().replace("Z", "+00:00")
    try:
        return datetime.fromisoformat(f"{match['date']}T{match['time']}{zone}").astimezone(UTC)
    except (ValueError, OverflowError) as error:
        raise refusal from error
