"""What the proxy keeps of each issuance, so that the same evidence can be judged again when the world has changed.

Deterministic CBOR of ``[record, [certificate, ...], event log, AK's name, SHA-256 of the EK's SPKI, 1]``: the CMW
record as it was received, and what came beside it. Certificates are those that the record lacks, DER, from the peer or
from the proxy's own cache. Absent parts are null. A worker writes it, the authority stores it unread beside the leaf's
ledger entry, and only what re-appraises reads it. Request, key, session and nonce stand in the ledger.
"""

from dataclasses import dataclass
from typing import Annotated, Final

from proxy_attestation.codes import Code
from proxy_attestation.formats import cbor
from proxy_attestation.formats.arrays import Array, Size, exactly
from proxy_attestation.formats.bounds import CERTIFICATE_MAX, EVENT_LOG_MAX, KEPT_EVIDENCE_MAX

_VERSION: Final = 1
_RECORD_MAX: Final = 160 * 1024
"""Above what `evidence.decode_evidence` takes."""
_CERTIFICATES_MAX: Final = 16


@dataclass(frozen=True, slots=True)
class KeptEvidence:
    """One piece of evidence with all that its appraisal needs and the ledger does not have.

    Attributes:
        record: the CMW record, as received (`formats.evidence`).
        certificates: DER, at most 16 of 8 KiB: platform certificates that the record does not have.
        event_log: as the firmware gave it, or None.
        ak_name: of a TPM's session, 34 to 66 bytes, or None.
        ek_spki_sha256: likewise, 32 bytes, or None.
        version: 1.
    """

    record: Annotated[bytes, Size(1, _RECORD_MAX)]
    certificates: Annotated[tuple[Annotated[bytes, Size(1, CERTIFICATE_MAX)], ...], Size(0, _CERTIFICATES_MAX)] = ()
    event_log: Annotated[bytes | None, Size(1, EVENT_LOG_MAX)] = None
    ak_name: Annotated[bytes | None, Size(34, 66)] = None
    ek_spki_sha256: Annotated[bytes | None, exactly(32)] = None
    version: Annotated[int, Size(_VERSION, _VERSION)] = _VERSION


_ARRAY: Final = Array[KeptEvidence](KeptEvidence, Code.REAPPRAISAL_UNREADABLE)


def encode_kept(kept: KeptEvidence) -> bytes:
    """Encode what is to be kept: at most `KEPT_EVIDENCE_MAX` bytes of parts within their bounds."""
    return cbor.encode_ordered(_ARRAY.write(kept))


def decode_kept(data: bytes) -> KeptEvidence:
    """Decode what was kept.

    Raises:
        FormatError: `reappraisal.unreadable`.
    """
    return _ARRAY.read(cbor.decode(data, Code.REAPPRAISAL_UNREADABLE, KEPT_EVIDENCE_MAX))
