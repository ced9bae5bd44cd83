"""Conceptual Message Wrappers (RFC 9999), the record form in CBOR: ``[media type, value, indicator]``."""

from dataclasses import dataclass
from typing import Final

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError
from proxy_attestation.formats import cbor

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
    items = cbor.as_list(cbor.decode(data, code, limit), code, 3)
    if len(items) != 3:
        raise FormatError(code, "a CMW record of three members was expected")
    return CmwRecord(
        cbor.as_text(items[0], code, MEDIA_TYPE_MAX),
        cbor.as_bytes(items[1], code, 1, limit),
        cbor.as_uint(items[2], code, 31),
    )
