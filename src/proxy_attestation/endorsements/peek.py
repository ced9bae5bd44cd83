"""What collateral says of itself, read without verifying anything: only to choose among sets, never to decide.

Whatever cannot be read is None or the widest possible window; `appraise` then refuses the piece with its own code.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from cryptography import x509

from proxy_attestation.formats.tee import Tee

_TEE_BY_ID: Final = {"SGX": Tee.SGX, "TDX": Tee.TDX, "QE": Tee.SGX, "TD_QE": Tee.TDX}
_ALWAYS: Final = (datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC))


@dataclass(frozen=True, slots=True)
class DocumentPeek:
    """A TCB info or a QE identity.

    Attributes:
        tee: what its id says, or None for an unknown id.
        fmspc: 6 bytes; None in a QE identity.
        evaluation_number: tcbEvaluationDataNumber, or -1 where it has none.
        window: issueDate and nextUpdate.
    """

    tee: Tee | None
    fmspc: bytes | None
    evaluation_number: int
    window: tuple[datetime, datetime]


def peek_tcb_info(document: bytes) -> DocumentPeek:
    """Read a TCB info. One without id is of version 2 and so for SGX."""
    inner = _inner(document, "tcbInfo")
    try:
        fmspc = bytes.fromhex(str(inner.get("fmspc", "")))
    except ValueError:
        fmspc = b""
    return _peek(inner, str(inner.get("id", "SGX")), fmspc)


def peek_qe_identity(document: bytes) -> DocumentPeek:
    """Read a QE identity."""
    inner = _inner(document, "enclaveIdentity")
    return _peek(inner, str(inner.get("id", "")), None)


def peek_crl(der: bytes) -> tuple[str, tuple[datetime, datetime]]:
    """Read a CRL: the RFC 4514 text of its issuer, and the window from this update to the next."""
    try:
        crl = x509.load_der_x509_crl(der)
        after = crl.next_update_utc or _ALWAYS[1]
        return crl.issuer.rfc4514_string(), (crl.last_update_utc, after)
    except (ValueError, TypeError, x509.InvalidVersion):
        return "", _ALWAYS


def _inner(document: bytes, member: str) -> dict[str, object]:
    try:
        value = json.loads(document.decode())
    except (ValueError, RecursionError):
        return {}
    inner = value.get(member) if isinstance(value, dict) else None
    return inner if isinstance(inner, dict) else {}


def _peek(inner: dict[str, object], document_id: str, fmspc: bytes | None) -> DocumentPeek:
    number = inner.get("tcbEvaluationDataNumber")
    window = _time(inner.get("issueDate"), _ALWAYS[0]), _time(inner.get("nextUpdate"), _ALWAYS[1])
    return DocumentPeek(_TEE_BY_ID.get(document_id), fmspc, number if type(number) is int else -1, window)


def _time(value: object, otherwise: datetime) -> datetime:
    try:
        return datetime.strptime(str(value), "%Y-%m-%dT%H:%M:%SZ").replace(tzinfo=UTC)
    except ValueError:
        return otherwise
