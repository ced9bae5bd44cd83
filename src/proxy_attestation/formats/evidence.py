"""The evidence as a CSR carries it.

A CMW record around ``{1: evidence, 2: [platform certificates], 3: event log SHA-256}``. The media type names the TEE:
``application/vnd.proxy-attestation.<tee>-evidence+cbor``; keys 2 and 3 are optional. The event log itself always
travels beside the CSR.
"""

from dataclasses import dataclass
from typing import Final

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError
from proxy_attestation.formats import cbor, cmw
from proxy_attestation.formats.bounds import CERTIFICATE_MAX, PLATFORM_CERTIFICATES_MAX, QUOTE_MAX
from proxy_attestation.formats.tee import Tee

_PREFIX: Final = "application/vnd.proxy-attestation."
_SUFFIX: Final = "-evidence+cbor"
_MAX: Final = QUOTE_MAX + PLATFORM_CERTIFICATES_MAX * CERTIFICATE_MAX + 1024


@dataclass(frozen=True, slots=True)
class Evidence:
    """What an attester hands over.

    Attributes:
        tee: the kind of TEE that it says it comes from.
        evidence: the vendor's own encoding: for SGX and TDX a DCAP quote.
        platform_certificates: DER, where they are not inside the evidence.
        event_log_sha256: 32 bytes, or None where no log comes with it.
    """

    tee: Tee
    evidence: bytes
    platform_certificates: tuple[bytes, ...] = ()
    event_log_sha256: bytes | None = None


def encode_evidence(evidence: Evidence) -> bytes:
    """Encode evidence as a CMW record, ready for `csr.build_csr`."""
    value: dict[int, object] = {1: evidence.evidence}
    if evidence.platform_certificates:
        value[2] = list(evidence.platform_certificates)
    if evidence.event_log_sha256 is not None:
        value[3] = evidence.event_log_sha256
    return cmw.encode_cmw(cmw.CmwRecord(f"{_PREFIX}{evidence.tee}{_SUFFIX}", cbor.encode(value), cmw.EVIDENCE))


def decode_evidence(data: bytes) -> Evidence:
    """Decode the CMW record of a CSR.

    Raises:
        FormatError: `evidence.too_large`, `evidence.malformed`, or `evidence.unknown` for a media type of nobody's.
    """
    code = Code.EVIDENCE_MALFORMED
    if len(data) > _MAX:
        raise FormatError(Code.EVIDENCE_TOO_LARGE, f"{len(data)} bytes, at most {_MAX} allowed")
    record = cmw.decode_cmw(data, code, _MAX)
    name = record.media_type.removeprefix(_PREFIX).removesuffix(_SUFFIX)
    try:
        tee = Tee(name)
    except ValueError as error:
        raise FormatError(Code.EVIDENCE_UNKNOWN, f"media type {record.media_type!r}") from error
    if record.media_type != f"{_PREFIX}{tee}{_SUFFIX}" or record.indicator != cmw.EVIDENCE:
        raise FormatError(Code.EVIDENCE_UNKNOWN, "not marked as evidence of a known kind")
    value = cbor.as_map(cbor.decode(record.value, code, _MAX), code, keys=frozenset({1}), optional=frozenset({2, 3}))
    quote = value[1]
    if isinstance(quote, bytes) and len(quote) > QUOTE_MAX:
        raise FormatError(Code.EVIDENCE_TOO_LARGE, f"evidence of {len(quote)} bytes, at most {QUOTE_MAX} allowed")
    certificates = cbor.as_list(value[2], code, PLATFORM_CERTIFICATES_MAX) if 2 in value else []
    if 2 in value and not certificates:
        raise FormatError(code, "an empty list of platform certificates")
    return Evidence(
        tee,
        cbor.as_bytes(quote, code, 1, QUOTE_MAX),
        tuple(cbor.as_bytes(item, code, 1, CERTIFICATE_MAX) for item in certificates),
        cbor.as_bytes(value[3], code, 32) if 3 in value else None,
    )
