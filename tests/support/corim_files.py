"""CoRIM manifests that are made here, after the draft's CDDL, and their signatures."""

from collections.abc import Mapping
from typing import Any

import cbor2
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

Tag = cbor2.CBORTag
P256 = ec.derive_private_key(0xABCDEF, ec.SECP256R1())
P384 = ec.derive_private_key(0xABCDEF, ec.SECP384R1())
ED = ed25519.Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
_UUID = Tag(37, bytes.fromhex("67b28b6c34cc40a19117ab5b05911e37"))
M48, M32 = b"\x11" * 48, b"\x22" * 32
REGISTERS = {index: [[7, bytes([index + 1] * 48)]] for index in range(3)}


def triple(measurements: object, kind: Mapping[int, object] | None = None, **more: Any) -> list[object]:
    return [{0: kind or {0: _UUID, 1: "ACME Inc.", 2: "RoadRunner", 3: 1}, **more.get("environment", {})}, measurements]


def measured(mkey: object, values: Mapping[int, object], **more: Any) -> dict[int, object]:
    return {**({} if mkey is None else {0: mkey}), 1: dict(values), **more.get("fields", {})}


TDX_TRIPLE = triple([measured(None, {14: REGISTERS}), measured("mr_td", {2: [[7, M48]]})])


def comid(*triples: object, **changes: Any) -> Tag:
    body = {1: {0: b"\x3f" * 16}, 2: [{0: "ACME Inc.", 1: Tag(32, "https://acme.example"), 2: [0]}]}
    body |= {4: changes.get("triples", {0: list(triples)}), **changes.get("fields", {})}
    return Tag(506, cbor2.dumps(body))


def corim(*tags: Tag, **fields: Any) -> bytes:
    body = {0: b"\x28" * 16, 1: list(tags) or [comid(TDX_TRIPLE)], **fields.get("fields", {})}
    return cbor2.dumps(Tag(fields.get("tag", 501), body))


def raw_signature(key: Any, message: bytes) -> bytes:
    if isinstance(key, ed25519.Ed25519PrivateKey):
        return bytes(key.sign(message))
    size, hashed = (32, hashes.SHA256()) if key is not P384 else (48, hashes.SHA384())
    r, s = decode_dss_signature(key.sign(message, ec.ECDSA(hashed)))
    return r.to_bytes(size) + s.to_bytes(size)


def signed(payload: bytes, key: Any = P256, algorithm: int = -7, **changes: Any) -> bytes:
    headers = {1: algorithm, 3: "application/rim+cbor", 4: b"kid", **changes.get("headers", {})}
    protected = cbor2.dumps({name: value for name, value in headers.items() if value is not None})
    message = cbor2.dumps(["Signature1", protected, b"", payload])
    parts = [protected, changes.get("unprotected", {}), changes.get("carried", payload), raw_signature(key, message)]
    return cbor2.dumps(Tag(18, parts))


def manifest() -> bytes:
    """Return a signed manifest of a TD."""
    return signed(corim())


def public_pem(key: Any = P256) -> bytes:
    """Return the public half of a key."""
    pem: bytes = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return pem
