"""Harnesses of what is kept for re-appraisal, and of what comes of it: early renewals, and questions about them."""

import json
from typing import Final

from target import Target

from proxy_attestation.formats.certificate_id import certificate_id, check_certificate_id
from proxy_attestation.formats.kept_evidence import KeptEvidence, decode_kept, encode_kept
from proxy_attestation.service.early import FORMAT, read_early

_NAME: Final = certificate_id(bytes(20), 1 << 158)


def _kept(data: bytes) -> None:
    """Whatever is read is written as the same bytes."""
    assert encode_kept(decode_kept(data)) == data


def _name(data: bytes) -> None:
    check_certificate_id(data.decode("utf-8", "replace"))


RENEWAL: Final[dict[str, Target]] = {
    "kept-evidence": Target(
        _kept,
        4096,
        lambda: [
            encode_kept(KeptEvidence(b"record", (b"certificate",), b"log", bytes(34), bytes(32))),
            encode_kept(KeptEvidence(b"record")),
        ],
    ),
    "certificate-id": Target(_name, 256, lambda: [_NAME.encode(), b"a.b"]),
    "early-renewals": Target(
        read_early,
        4096,
        lambda: [
            json.dumps({"format": FORMAT, "early": {_NAME: {"since": 1, "codes": ["sgx.tcb_status"]}}}).encode(),
        ],
    ),
}
