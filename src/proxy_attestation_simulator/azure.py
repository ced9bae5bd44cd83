"""An Azure confidential VM's vTPM: a simulated TPM whose AK the report of a simulated machine vouches for.

Layout: `proxy_attestation.formats.azure_hcl`. The AK is RSA-2048, as Azure's is, and so new in every run.
"""

import hashlib
import json
import struct
from base64 import urlsafe_b64encode
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Final

from cryptography.hazmat.primitives.asymmetric import rsa

from proxy_attestation_simulator.tpm import TpmMade, TpmRecipe, TpmVendor, make

SNP: Final = 2
TDX: Final = 4
REPORT_DATA: Final = {SNP: slice(0x50, 0x90), TDX: slice(0x80, 0xC0)}
"""Where the hardware report, of either type, has its report data."""
_REPORT_SIZE: Final = 1184
_RUNTIME_AT: Final = 0x4D4
_TDREPORT_SIZE: Final = 1024


def runtime_data(ak: rsa.RSAPublicKey) -> bytes:
    """Return the JSON that the hardware's report data are the hash of."""
    modulus = ak.public_numbers().n.to_bytes(ak.key_size // 8)
    key = {
        "kid": "HCLAkPub",
        "key_ops": ["sign"],
        "kty": "RSA",
        "e": "AQAB",
        "n": urlsafe_b64encode(modulus).decode().rstrip("="),
    }
    return json.dumps({"keys": [key], "vm-configuration": {"secure-boot": True}, "user-data": "00"}).encode()


def report_data(runtime: bytes) -> bytes:
    """Return the 64 bytes that the hardware has to report."""
    return hashlib.sha256(runtime).digest() + bytes(32)


def td_report(data: bytes) -> bytes:
    """Return a TDREPORT (1024 bytes) with these report data (64 bytes), and nothing else: only its TD can check it."""
    return (bytes(REPORT_DATA[TDX].start) + data).ljust(_TDREPORT_SIZE, b"\0")


def hcl_report(kind: int, report: bytes, runtime: bytes) -> bytes:
    """Return the HCL report around an SNP report (1184 bytes) or a TDREPORT."""
    header = struct.pack("<4s4I12s", b"HCLA", 2, _RUNTIME_AT + len(runtime), 2, 0, bytes(12))
    head = struct.pack("<5I", 20 + len(runtime), 1, kind, 1, len(runtime))
    return header + report.ljust(_REPORT_SIZE, b"\0") + head + runtime


def bare_hcl_report(ak: rsa.RSAPublicKey, kind: int = SNP, *, digest: bytes | None = None) -> bytes:
    """Return an HCL report whose hardware report says nothing but its report data: for walks that believe it.

    Args:
        ak: RSA, 2048 bits.
        kind: of the hardware report, `SNP` or `TDX`.
        digest: its report data; by default the SHA-256 of the runtime data. Zeros follow.
    """
    runtime = runtime_data(ak)
    report = bytearray(_REPORT_SIZE)
    report[REPORT_DATA[kind]] = report_data(runtime) if digest is None else digest.ljust(64, b"\0")
    return hcl_report(kind, bytes(report), runtime)


def make_azure(
    vendor: TpmVendor,
    kind: int,
    hardware: Callable[[bytes], bytes],
    *,
    recipe: TpmRecipe | None = None,
    ak: rsa.RSAPrivateKey | None = None,
    parts: Mapping[int, object] | None = None,
) -> TpmMade:
    """Make evidence of a vTPM with both layers.

    Args:
        vendor: of the TPM; it certifies nothing that counts here.
        kind: `SNP` or `TDX`.
        hardware: makes the hardware's evidence with these report data: an SNP report, or a TD quote.
        recipe: of the TPM's own part.
        ak: RSA of 2048 bits; None makes one.
        parts: what replaces a part of the record, by its number; None leaves it out.
    """
    key = ak or rsa.generate_private_key(65537, 2048)
    runtime = runtime_data(key.public_key())
    data = report_data(runtime)
    evidence = hardware(data)
    added = {8: hcl_report(kind, evidence if kind == SNP else td_report(data), runtime)}
    added |= {9: evidence} if kind == TDX else {}
    base = recipe or TpmRecipe(with_key=False)
    return make(vendor, replace(base, parts={**base.parts, **added, **(parts or {})}), ak_key=key)
