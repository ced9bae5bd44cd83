"""Conceptual Message Wrappers (RFC 9999), the record form in CBOR: ``[media type, value, indicator]``."""

from dataclasses import dataclass
from typing import Final

from proxy_attestation.codes import Code
from proxy_attestation.formats import cbor
from proxy_attestation.formats.values import as_bytes, as_list, as_text, as_uint

EVIDENCE: Final = 4
"""Indicator bit 2: the value is evidence."""
ATTESTATION_RESULTS: Final = 8
"""Indicator bit 3: the value is an attestation result."""
MEDIA_TYPE_MAX: Final = 128


@dataclass(frozen=True, slots=True)
class CmwRecord:
    """One record.

    Attributes:
        media_type: with its parameters, exactly as written.
        value: the message's bytes.
        indicator: bits of what the message is.
    """

    media_type: str
    value: bytes
    indicator: int


def encode_cmw(record: CmwRecord) -> bytes:
    """Encode a record."""
    return cbor.encode_ordered([record.media_type, record.value, record.indicator])


def decode_cmw(data: bytes, code: Code, limit: int) -> CmwRecord:
    """Decode a record with all three members.

    Args:
        data: the whole record.
        code: the code of the error when it is none.
        limit: the largest accepted length in bytes.

    Raises:
        FormatError: with `code`.
    """
    media_type, value, indicator = as_list(cbor.decode(data, code, limit), code, 3, 3)
    return CmwRecord(
        as_text(media_type, code, MEDIA_TYPE_MAX), as_bytes(value, code, 1, limit), as_uint(indicator, code, 31)
    )
