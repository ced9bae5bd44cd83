"""The proof that the certificate stands in the proxy's ledger, checked as soon as it comes."""

import hashlib

from cryptography import x509

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError, PeerError, RefusedError
from proxy_attestation.formats.ledger_entry import EntryKind, decode_entry
from proxy_attestation.formats.merkle import leaf_hash
from proxy_attestation.formats.signed_note import parse_vkey
from proxy_attestation.formats.tlog_proof import parse_tlog_proof, verify_tlog_proof


def check_ledger_proof(proof: bytes, index: int, leaf: bytes, origin: str, ledger_key: bytes) -> None:
    """Check that a certificate stands in the ledger that it names, at an index, under a checkpoint of the ledger's key.

    Args:
        proof: a tlog-proof that carries the entry.
        index: of the entry, as the proxy says.
        leaf: DER of the certificate.
        origin: the ledger's name in the leaf's claims.
        ledger_key: the ledger's vkey in UTF-8, as the pinned proxy gave it.

    Raises:
        PeerError: `peer.ledger_proof`.
    """
    tbs = x509.load_der_x509_certificate(leaf).tbs_certificate_bytes
    try:
        log = parse_vkey(ledger_key.decode("utf-8", "replace"))
        found = parse_tlog_proof(proof)
        entry = decode_entry(found.extra or b"")
        verify_tlog_proof(found, leaf_hash(found.extra or b""), log)
    except (FormatError, RefusedError) as error:
        raise PeerError(Code.PEER_LEDGER_PROOF, str(error)) from error
    same = entry.kind is EntryKind.LEAF and entry.tbs_sha256 == hashlib.sha256(tbs).digest()
    if not same or found.index != index or log.name != origin:
        raise PeerError(Code.PEER_LEDGER_PROOF, "the proof of another certificate, or in another ledger")
