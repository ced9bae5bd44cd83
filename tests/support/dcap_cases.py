"""DCAP cases of the shared vectors, and our verdict on them, as mutation tests compare it with the oracle's."""

from datetime import datetime
from pathlib import Path
from typing import Any

from judged import tcb_of

from proxy_attestation.appraisal.dcap import appraise
from proxy_attestation.appraisal.endorsements import DcapEndorsements
from proxy_attestation.appraisal.roots import VENDOR_ROOTS
from proxy_attestation.errors import ProxyAttestationError


def load_case(vectors_dir: Path, case: dict[str, Any]) -> tuple[bytes, DcapEndorsements, datetime, bytes]:
    """Return a case's quote, its collateral, the time to verify at and the root, DER."""
    pieces = {name: (vectors_dir / path).read_bytes() for name, path in case["files"]["collateral"].items()}
    return (
        (vectors_dir / case["files"]["evidence"]).read_bytes(),
        DcapEndorsements(**pieces),
        datetime.fromisoformat(case["verify_at"]),
        (vectors_dir / "anchors/intel-sgx-root-ca.der").read_bytes(),
    )


def our_verdict(data: bytes, endorsements: DcapEndorsements, now: datetime) -> str:
    """Return the TCB status where the quote is accepted, or else the code."""
    try:
        return tcb_of(appraise(data, endorsements, VENDOR_ROOTS, None, now)).status
    except ProxyAttestationError as error:
        return str(error.code)
