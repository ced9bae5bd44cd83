"""The evidence of a proxy as `GetRootCertificate` answers it.

A CMW record, media type ``application/vnd.proxy-attestation.root-evidence+cbor``, around the deterministic CBOR map
``{1: tee, 2: evidence, 3: [platform certificates], 4: event log, 5: [index, size, [hashes]]}``. Keys 3 and 4 are
optional. Key 5 is the inclusion proof (RFC 9162 section 2.1.3) of the caller's nonce in the batch that the evidence
answers. What the evidence commits to is in `root_binder.py`.
"""

from dataclasses import dataclass
from typing import Annotated, Final

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError
from proxy_attestation.formats import cbor, cmw
from proxy_attestation.formats.arrays import Array, Size, exactly
from proxy_attestation.formats.bounds import (
    CERTIFICATE_MAX,
    EVENT_LOG_MAX,
    PLATFORM_CERTIFICATES_MAX,
    QUOTE_MAX,
    ROOT_EVIDENCE_MAX,
    ROOT_NONCES_MAX,
)
from proxy_attestation.formats.tee import Tee
from proxy_attestation.formats.values import Item, Record, as_bytes, as_member, as_tuple

MEDIA_TYPE: Final = "application/vnd.proxy-attestation.root-evidence+cbor"
_CODE: Final = Code.PROXY_EVIDENCE_MALFORMED
_CERTIFICATES: Final = (1, PLATFORM_CERTIFICATES_MAX, as_bytes, 1, CERTIFICATE_MAX)


@dataclass(frozen=True, slots=True)
class NoncePath:
    """Where a caller's nonce stands in its batch.

    Attributes:
        index: of the leaf, from 0.
        size: of the batch.
        hashes: from the leaf's sibling upwards, 32 bytes each.
    """

    index: Annotated[int, Size(0, ROOT_NONCES_MAX - 1)]
    size: Annotated[int, Size(1, ROOT_NONCES_MAX)]
    hashes: Annotated[tuple[Annotated[bytes, exactly(32)], ...], Size(0, ROOT_NONCES_MAX.bit_length())]


_PATH: Final = Array[NoncePath](NoncePath, _CODE)


def _path(value: object, code: Code) -> NoncePath:
    del code
    return _PATH.read(value)


@dataclass(frozen=True, slots=True)
class RootEvidence:
    """What a proxy shows of itself.

    Attributes:
        tee: the kind of TEE that it runs in.
        evidence: the vendor's own encoding.
        path: of the caller's nonce.
        platform_certificates: DER, where they are not inside the evidence.
        event_log: of the firmware, or None.
    """

    tee: Annotated[Tee, Item(1, as_member, (Tee,), write=str)]
    evidence: Annotated[bytes, Item(2, as_bytes, (1, QUOTE_MAX))]
    path: Annotated[NoncePath, Item(5, _path, write=_PATH.write)]
    platform_certificates: Annotated[tuple[bytes, ...], Item(3, as_tuple, _CERTIFICATES, absent=())] = ()
    event_log: Annotated[bytes | None, Item(4, as_bytes, (1, EVENT_LOG_MAX), absent=None)] = None


_VALUE: Final = Record(RootEvidence)


def encode_root_evidence(evidence: RootEvidence) -> bytes:
    """Encode the record."""
    value = cbor.encode_ordered(_VALUE.write(evidence))
    return cmw.encode_cmw(cmw.CmwRecord(MEDIA_TYPE, value, cmw.EVIDENCE))


def decode_root_evidence(data: bytes) -> RootEvidence:
    """Decode the record.

    Raises:
        FormatError: `proxy.evidence_malformed`; `proxy.evidence_kind`, for a record of another kind, such as a
            workload's evidence.
    """
    record = cmw.decode_cmw(data, _CODE, ROOT_EVIDENCE_MAX)
    if record.media_type != MEDIA_TYPE or record.indicator != cmw.EVIDENCE:
        raise FormatError(Code.PROXY_EVIDENCE_KIND, f"media type {record.media_type!r}, indicator {record.indicator}")
    return RootEvidence(**_VALUE.read(cbor.decode(record.value, _CODE, ROOT_EVIDENCE_MAX), _CODE))
