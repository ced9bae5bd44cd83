"""The evidence as a CSR carries it.

A CMW record around ``{1: evidence, 2: [platform certificates], 3: event log SHA-256}``. The media type names the TEE:
``application/vnd.proxy-attestation.<tee>-evidence+cbor``; keys 2 and 3 are optional. The event log itself always
travels beside the CSR.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Final

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError
from proxy_attestation.formats import cbor, cmw
from proxy_attestation.formats.bounds import CERTIFICATE_MAX, PLATFORM_CERTIFICATES_MAX, QUOTE_MAX
from proxy_attestation.formats.tee import Tee
from proxy_attestation.formats.values import Item, Record, as_bytes, as_tuple

_MEDIA_TYPES: Final = {tee: f"application/vnd.proxy-attestation.{tee}-evidence+cbor" for tee in Tee}
_TEES: Final = {media_type: tee for tee, media_type in _MEDIA_TYPES.items()}
_MAX: Final = QUOTE_MAX + PLATFORM_CERTIFICATES_MAX * CERTIFICATE_MAX + 1024
_CERTIFICATES: Final = (1, PLATFORM_CERTIFICATES_MAX, as_bytes, 1, CERTIFICATE_MAX)


def _evidence(value: object, code: Code) -> bytes:
    if isinstance(value, bytes) and len(value) > QUOTE_MAX:
        raise FormatError(Code.EVIDENCE_TOO_LARGE, f"{len(value)} bytes, at most {QUOTE_MAX} allowed")
    return as_bytes(value, code, 1, QUOTE_MAX)


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
    evidence: Annotated[bytes, Item(1, _evidence)]
    platform_certificates: Annotated[tuple[bytes, ...], Item(2, as_tuple, _CERTIFICATES, absent=())] = ()
    event_log_sha256: Annotated[bytes | None, Item(3, as_bytes, (32,), absent=None)] = None


_VALUE: Final = Record(Evidence)
TPM_MEDIA_TYPE: Final = "application/vnd.proxy-attestation.tpm-evidence+cbor"
"""Of a record around a TPM's evidence, which `decode_evidence` does not take."""


def encode_evidence(evidence: Evidence) -> bytes:
    """Encode evidence as a CMW record, ready for `csr.build_csr`."""
    value = cbor.encode_ordered(_VALUE.write(evidence))
    return cmw.encode_cmw(cmw.CmwRecord(_MEDIA_TYPES[evidence.tee], value, cmw.EVIDENCE))


# Records of the shortest evidence whose lengths take two bytes, and where their media types end.
_SAMPLES: Final = {tee: encode_evidence(Evidence(tee, bytes(256))) for tee in Tee}
_HEAD: Final = _SAMPLES[Tee.SGX].index(b"+cbor") + 5
_HEADS: Final = {sample[:_HEAD]: tee for tee, sample in _SAMPLES.items()}
_USUAL_MIN: Final = len(_SAMPLES[Tee.SGX])
_USUAL_START: Final = _USUAL_MIN - 256 - 1


def decode_evidence(data: bytes) -> Evidence:
    """Decode the CMW record of a CSR.

    Raises:
        FormatError: `evidence.too_large`, `evidence.malformed`, or `evidence.unknown` for a media type of nobody's.
    """
    code = Code.EVIDENCE_MALFORMED
    if len(data) > _MAX:
        raise FormatError(Code.EVIDENCE_TOO_LARGE, f"{len(data)} bytes, at most {_MAX} allowed")
    tee = _HEADS.get(data[:_HEAD])
    if tee is not None and len(data) >= _USUAL_MIN:
        # Evidence alone, as it usually comes, ends one byte before the record. What encodes to these bytes is what they
        # decode to, and encoding is less work.
        usual = Evidence(tee, data[_USUAL_START:-1])
        if encode_evidence(usual) == data:
            return usual
    record = cmw.decode_cmw(data, code, _MAX)
    tee = _TEES.get(record.media_type)
    if tee is None or record.indicator != cmw.EVIDENCE:
        raise FormatError(Code.EVIDENCE_UNKNOWN, f"media type {record.media_type!r}, indicator {record.indicator}")
    return Evidence(tee, **decode_parts(record.value))


def decode_parts(value: bytes) -> dict[str, Any]:
    """Decode the value of a record: the fields of `Evidence` but for its TEE.

    Raises:
        FormatError: `evidence.too_large`, `evidence.malformed`.
    """
    return _VALUE.read(cbor.decode(value, Code.EVIDENCE_MALFORMED, _MAX), Code.EVIDENCE_MALFORMED)
