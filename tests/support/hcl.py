"""A vTPM's keys, made once a run, and walks over its hardware evidence that believe everything."""

from datetime import UTC, datetime
from functools import cache

from cryptography.hazmat.primitives.asymmetric import rsa

from proxy_attestation.appraisal.azure import HardwareLayer, Verify
from proxy_attestation_simulator.azure import REPORT_DATA, SNP


@cache
def key(number: int = 0) -> rsa.RSAPrivateKey:
    """Return the vTPM's AK, or another key."""
    del number
    return rsa.generate_private_key(65537, 2048)


def hardware(vmpl: int | None = 0, data: bytes | None = None) -> Verify:
    """Return a walk over hardware evidence that believes everything; `data` replaces the report data that it found."""

    def walk(kind: str, evidence: bytes) -> HardwareLayer:
        found = evidence[REPORT_DATA[SNP]] if data is None else data
        return HardwareLayer(kind, found, vmpl, b"\xaa" * 32, b"\x1d" * 32, datetime(9999, 1, 1, tzinfo=UTC), None)

    return walk
