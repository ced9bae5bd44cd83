"""Quotes, byte by byte (Intel SGX and TDX DCAP quoting libraries, sgx_quote_3.h, sgx_quote_4.h, sgx_quote_5.h)."""

import hashlib
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from proxy_attestation_simulator.bodies import SgxBody, TdBody
from proxy_attestation_simulator.certificates import pem_chain
from proxy_attestation_simulator.errors import SimulatorError
from proxy_attestation_simulator.keys import derive, raw_point, sign_raw
from proxy_attestation_simulator.recipes import QuoteRecipe

_QE_ID = b"simulated QE id "
_QE_REPORT_CERTIFICATION_DATA = 6


@dataclass(frozen=True, slots=True)
class QuoteKeys:
    """The keys and certificates that a quote is made with.

    Attributes:
        pck: the platform's provisioning certification key.
        attestation: the quoting enclave's key.
        other: a key that nobody vouches for.
        certificates: "pck", "ca" and "root".
    """

    pck: ec.EllipticCurvePrivateKey
    attestation: ec.EllipticCurvePrivateKey
    other: ec.EllipticCurvePrivateKey
    certificates: Mapping[str, x509.Certificate]


def header(recipe: QuoteRecipe) -> bytes:
    """Return the 48 bytes of the header: v3 has QE SVN and PCE SVN where v4 and v5 have four reserved bytes."""
    svns = struct.pack("<HH", recipe.qe.isv_svn, recipe.pck.pce_svn) if recipe.version == 3 else bytes(4)
    start = struct.pack("<HHI", recipe.header_version, recipe.key_type, recipe.tee_type)
    return start + svns + recipe.vendor_id + _QE_ID + bytes(4)


def encoded_body(recipe: QuoteRecipe) -> bytes:
    """Return the report body, with its type and size before it in a v5 quote."""
    body = recipe.body
    if isinstance(body, TdBody):
        data = body.encode_15() if recipe.body_type == 3 else body.encode_10()
    else:
        data = body.encode()
    if recipe.version == 5:
        return struct.pack("<HI", recipe.body_type, len(data) + recipe.body_size_delta) + data
    return data


def certification_data(recipe: QuoteRecipe, keys: QuoteKeys) -> bytes:
    """Return the data for the recipe's certification type (evidence formats, types 1 to 5 and 7)."""
    pck = recipe.pck
    tail = pck.cpu_svn + struct.pack("<H", pck.pce_svn) + pck.pce_id
    match recipe.certification_type:
        case 1:
            return pck.ppid + tail
        case 2 | 3 as kind:
            size = 256 if kind == 2 else 384
            return b"".join(derive(pck.ppid, f"encrypted ppid {n}", 64) for n in range(size // 64)) + tail
        case 7:
            return b"simulated platform manifest " + b"".join(derive(pck.ppid, f"manifest {n}", 64) for n in range(30))
        case 4:
            return keys.certificates["pck"].public_bytes(Encoding.PEM)
        case _:
            return pem_chain([keys.certificates[name] for name in recipe.chain]) + b"\0"


def qe_report_and_signature(recipe: QuoteRecipe, keys: QuoteKeys) -> bytes:
    """Return the quoting enclave's report (384 bytes), bound to the attestation key, and its signature (64 bytes)."""
    bound = hashlib.sha256(raw_point(keys.attestation) + recipe.authentication).digest() + bytes(32)
    report_data = bytes(a ^ b for a, b in zip(bound, recipe.qe_report_data_xor, strict=True))
    report = replace(recipe.qe, report_data=report_data).encode()
    return report + sign_raw(keys.pck if recipe.qe_report_key == "pck" else keys.other, report)


def assemble(recipe: QuoteRecipe, keys: QuoteKeys, qe_part: bytes) -> bytes:
    """Put a quote together.

    Args:
        recipe: what it holds.
        keys: what it is signed with.
        qe_part: the result of `qe_report_and_signature`.
    """
    signed = header(recipe) + encoded_body(recipe)
    signature = sign_raw(keys.attestation if recipe.quote_key == "own" else keys.other, signed)
    point = raw_point(keys.attestation if recipe.attestation_key == "own" else keys.other)
    data = certification_data(recipe, keys)
    qe = (
        qe_part
        + struct.pack("<H", len(recipe.authentication))
        + recipe.authentication
        + struct.pack("<HI", recipe.certification_type, len(data))
        + data
    )
    if recipe.version > 3:
        qe = struct.pack("<HI", _QE_REPORT_CERTIFICATION_DATA, len(qe)) + qe
    signature_data = signature + point + qe
    if recipe.flip is not None:
        if not 0 <= recipe.flip < len(signed):
            raise SimulatorError(f"only bytes 0 to {len(signed) - 1} of this quote are signed")
        signed = signed[: recipe.flip] + bytes([signed[recipe.flip] ^ 1]) + signed[recipe.flip + 1 :]
    size = len(signature_data) + recipe.signature_size_delta
    whole = signed + struct.pack("<I", size) + signature_data
    if recipe.cut >= len(whole):
        raise SimulatorError(f"a quote of {len(whole)} bytes cannot lose {recipe.cut}")
    return whole[: len(whole) - recipe.cut] + recipe.append


def with_fields(body: SgxBody | TdBody, values: Mapping[str, bytes | int]) -> SgxBody | TdBody:
    """Return the body with some fields changed.

    Raises:
        SimulatorError: there is no such field in this body, or the value has another length or type.
    """
    for field, value in values.items():
        old = getattr(body, field, None)
        if old is None or callable(old):
            raise SimulatorError(f"{type(body).__name__} has no field {field}")
        if isinstance(old, bytes):
            if not isinstance(value, bytes) or len(value) != len(old):
                raise SimulatorError(f"{field} is {len(old)} bytes")
        elif not isinstance(value, int) or not 0 <= value <= 0xFFFF:
            raise SimulatorError(f"{field} is a number of 16 bits")
    changes: dict[str, bytes | int] = dict(values)
    return replace(body, **changes)  # type: ignore[arg-type]  # names, types and lengths were checked above
