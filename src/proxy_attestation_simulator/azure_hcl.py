"""HCL reports as Azure's paravisor makes them: a hardware report, around it the runtime data that name the vTPM's AK.

The hardware report in it says nothing but its report data: judge it with a walk that believes it.
"""

import hashlib
import json
import struct
from base64 import urlsafe_b64encode
from typing import Final

from cryptography.hazmat.primitives.asymmetric import rsa

SNP: Final = 2
TDX: Final = 4
REPORT_DATA: Final = {SNP: slice(0x50, 0x90), TDX: slice(0x80, 0xC0)}
"""Where the hardware report, of either type, has its report data."""
_HARDWARE_REPORT_SIZE: Final = 1184
_PADDING: Final = bytes(32)


def hcl_report(ak: rsa.RSAPublicKey, kind: int = SNP, *, digest: bytes | None = None) -> bytes:
    """Return an HCL report around runtime data that name an AK.

    Args:
        ak: RSA, 2048 bits.
        kind: of the hardware report, `SNP` or `TDX`.
        digest: its report data; by default the SHA-256 of the runtime data. Zeros follow.
    """
    modulus = urlsafe_b64encode(ak.public_numbers().n.to_bytes(256, "big")).decode().rstrip("=")
    jwk = {"kid": "HCLAkPub", "key_ops": ["sign"], "kty": "RSA", "e": "AQAB", "n": modulus}
    data = json.dumps({"keys": [jwk], "vm-configuration": {}, "user-data": "00"}).encode()
    report = bytearray(_HARDWARE_REPORT_SIZE)
    report[REPORT_DATA[kind]] = (hashlib.sha256(data).digest() if digest is None else digest).ljust(64, b"\0")
    header = struct.pack("<4s4I12s", b"HCLA", 2, 0x4D4 + len(data), 2, 0, bytes(12))
    return header + report + struct.pack("<5I", 20 + len(data), 1, kind, 1, len(data)) + data + _PADDING
