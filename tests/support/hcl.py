"""HCL reports as Azure's paravisor makes them, around a key that is made once a run."""

import hashlib
import json
import struct
from base64 import urlsafe_b64encode
from datetime import UTC, datetime
from functools import cache
from typing import Final

from cryptography.hazmat.primitives.asymmetric import rsa

from proxy_attestation.appraisal.azure import HardwareLayer, Verify

SNP: Final = 2
TDX: Final = 4
_REPORT_DATA: Final = {SNP: slice(0x50, 0x90), TDX: slice(0x80, 0xC0)}


@cache
def key(number: int = 0) -> rsa.RSAPrivateKey:
    """Return the vTPM's AK, or another key."""
    del number
    return rsa.generate_private_key(65537, 2048)


def hcl_report(ak: rsa.RSAPrivateKey, kind: int = SNP, *, digest: bytes | None = None) -> bytes:
    """Return an HCL report around runtime data that name `ak`; `digest` replaces the report data of the hardware."""
    modulus = urlsafe_b64encode(ak.public_key().public_numbers().n.to_bytes(256, "big")).decode().rstrip("=")
    jwk = {"kid": "HCLAkPub", "key_ops": ["sign"], "kty": "RSA", "e": "AQAB", "n": modulus}
    data = json.dumps({"keys": [jwk], "vm-configuration": {}, "user-data": "00"}).encode()
    report = bytearray(1184)
    report[_REPORT_DATA[kind]] = (hashlib.sha256(data).digest() if digest is None else digest).ljust(64, b"\0")
    header = struct.pack("<4s4I12s", b"HCLA", 2, 0x4D4 + len(data), 2, 0, bytes(12))
    return header + report + struct.pack("<5I", 20 + len(data), 1, kind, 1, len(data)) + data + bytes(32)


def hardware(vmpl: int | None = 0, data: bytes | None = None) -> Verify:
    """Return a walk over hardware evidence that believes everything; `data` replaces the report data that it found."""

    def walk(kind: str, evidence: bytes) -> HardwareLayer:
        found = evidence[_REPORT_DATA[SNP]] if data is None else data
        return HardwareLayer(kind, found, vmpl, b"\xaa" * 32, b"\x1d" * 32, datetime(9999, 1, 1, tzinfo=UTC), None)

    return walk
