"""Entries of the ledger for tests that need no authority."""

import hashlib
from typing import Final

from proxy_attestation.formats.ledger_entry import EntryKind, LedgerEntry, encode_entry

MEASUREMENT: Final = b"m" * 32
POLICY: Final = b"p" * 32


def leaf(
    number: int, *, measurement: bytes = MEASUREMENT, policy: bytes = POLICY, tbs: bytes = b"", begin: int = 1000
) -> bytes:
    """Return the entry of a workload's leaf."""
    return encode_entry(
        LedgerEntry(
            EntryKind.LEAF, issuer_spki_sha256=bytes(32), serial=number.to_bytes(20, "big"),
            tbs_sha256=hashlib.sha256(tbs).digest(), not_before=begin + number, not_after=begin + number + 86400,
            spki_sha256=bytes(32), tee="sgx", evidence_sha256=bytes(32), policy_digest=policy, status=2,
            measurements=(measurement,), names_sha256=bytes(32), tcb_evaluation_number=5, claims_sha256=bytes(32),
            request_sha256=bytes(32),
        )
    )  # fmt: skip


def proxy_tls(number: int, *, policy: bytes = POLICY) -> bytes:
    """Return the entry of the proxy's own leaf."""
    return encode_entry(
        LedgerEntry(
            EntryKind.PROXY_TLS, issuer_spki_sha256=bytes(32), serial=number.to_bytes(20, "big"), tbs_sha256=bytes(32),
            not_before=1000 + number, not_after=2000 + number, spki_sha256=bytes(32), policy_digest=policy,
            names_sha256=bytes(32),
        )
    )  # fmt: skip
