"""CoRIM (draft-ietf-rats-corim): reads concise reference integrity manifests, signed or not. Nothing is mapped here.

Source: the draft's CDDL, as of August 2026::

    signed      18([protected, unprotected, payload, signature])       COSE_Sign1; payload: bytes of the unsigned form
    protected   {1: algorithm, ?3: content type, ?4: key id, ?8: bytes of {0: signer, ?1: validity}, ?15: CWT claims}
    unsigned    501({0: id, 1: [+ tag], ?2: dependent rims, ?3: profile, ?4: validity, ?5: entities})
    tag         506(bytes of {?0: language, 1: identity, ?2: entities, ?3: linked tags, 4: triples})
    triples     {?0: [+ reference triple], ...}
    triple      [{?0: class, ?1: instance, ?2: group}, [+ {?0: mkey, 1: values, ?2: authorized by}]]
    class       {?0: class id, ?1: vendor, ?2: model, ?3: layer, ?4: index}
    validity    {?0: not before, 1: not after}, each 1(seconds)

Reference triples alone are read. Whatever else may be a condition (dependent manifests, linked tags, other triples, an
instance, a group, an authority) is refused, not left out: reference values without it would accept more.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

import cbor2
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from proxy_attestation.codes import Code
from proxy_attestation.errors import AppraisalError
from proxy_attestation.formats import cbor
from proxy_attestation.formats.bounds import TIME_MAX
from proxy_attestation.reference.corim_cbor import (
    TIME,
    URI,
    UUID,
    as_bytes,
    as_fields,
    as_items,
    as_map,
    as_tagged,
    load,
    malformed,
    unsupported,
)

TRIPLES_MAX: Final = 64
PublicKey: TypeAlias = "ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey"
_SIGNED, _UNSIGNED, _COMID, _OID, _BYTES = 18, 501, 506, 111, 560
_CONTENT_TYPES: Final = ("application/rim+cbor", "application/corim-unsigned+cbor")
"""The draft's, and what it was called before."""
_CURVES: Final[Mapping[int, tuple[str, int, hashes.HashAlgorithm]]] = {
    -7: ("secp256r1", 32, hashes.SHA256()),
    -35: ("secp384r1", 48, hashes.SHA384()),
}
_EDDSA: Final = -8
_MERE: Final = frozenset({4, 33, 34})
"""Headers that say which key signed. Who is asked to believe a key names it."""


@dataclass(frozen=True, slots=True)
class Measurement:
    """One measurement map.

    Attributes:
        key: mkey, or None.
        values: by the code points of measurement-values-map; tags as `cbor2.CBORTag`.
    """

    key: int | str | None
    values: Mapping[Any, object]


@dataclass(frozen=True, slots=True)
class Triple:
    """One reference triple.

    Attributes:
        class_id: as `oid:1.2.3`, `uuid:...` or `bytes:...`; empty where there is none.
        environment: the whole class, readable.
        measurements: all of which must agree.
    """

    class_id: str
    environment: str
    measurements: tuple[Measurement, ...]


@dataclass(frozen=True, slots=True)
class Corim:
    """One manifest.

    Attributes:
        name: its id, readable.
        profile: `uri` or `oid:...`; None where it has none.
        not_before: aware UTC, or None.
        not_after: likewise.
        triples: of every tag.
        signed: whether a key that was given signed it.
    """

    name: str
    profile: str | None
    not_before: datetime | None
    not_after: datetime | None
    triples: tuple[Triple, ...]
    signed: bool


def decode_corim(data: bytes, keys: Sequence[PublicKey], now: datetime, *, unsigned: bool = False) -> Corim:
    """Read a manifest.

    Args:
        data: the file.
        keys: of which one must have signed it: P-256, P-384 or Ed25519.
        now: aware UTC.
        unsigned: whether one that nobody signed will do. A signature that is there must be good in any case.

    Raises:
        FormatError: `reference.malformed`; `reference.unsupported`, for conditions that are not read here.
        AppraisalError: `reference.signature`, `reference.expired`.
    """
    value = load(data)
    ends: list[tuple[datetime | None, datetime | None]] = []
    signed = isinstance(value, cbor2.CBORTag) and value.tag == _SIGNED
    if signed:
        assert isinstance(value, cbor2.CBORTag)  # noqa: S101 - for the type checker
        value, validity = _verified(value.value, keys)
        ends.append(validity)
    elif not unsigned:
        raise AppraisalError(Code.REFERENCE_SIGNATURE, "nobody signed this manifest")
    body = as_fields(as_tagged(value, _UNSIGNED, "a CoRIM"), {0, 1}, {3, 4, 5}, refused={2: "dependent manifests"})
    ends.append(_validity(body[4]) if 4 in body else (None, None))
    start = max((begin for begin, _ in ends if begin is not None), default=None)
    end = min((last for _, last in ends if last is not None), default=None)
    if (start is not None and now < start) or (end is not None and now >= end):
        raise AppraisalError(Code.REFERENCE_EXPIRED, f"valid from {start} to {end}")
    triples = tuple(triple for tag in as_items(body[1], 1) for triple in _tag(tag))
    if not 0 < len(triples) <= TRIPLES_MAX:
        raise unsupported(f"{len(triples)} reference triples, 1 to {TRIPLES_MAX} are read")
    return Corim(_readable(body[0]), _profile(body.get(3)), start, end, triples, signed)


def _verified(parts: object, keys: Sequence[PublicKey]) -> tuple[object, tuple[datetime | None, datetime | None]]:
    """Verify a COSE_Sign1 (RFC 9052 section 4.4); return its payload decoded, and when the signature holds."""
    protected, unprotected, payload, signature = as_items(parts, 4, 4)
    if not all(isinstance(part, bytes) for part in (protected, payload, signature)):
        raise malformed("a COSE_Sign1 without its payload, or of other types")
    headers = as_map(load(protected))
    if not headers.keys() <= {1, 3, 8, 15} | _MERE or not as_map(unprotected).keys() <= _MERE:
        raise unsupported(f"headers {sorted(map(str, headers.keys() | as_map(unprotected).keys()))}")
    if headers.get(3, _CONTENT_TYPES[0]) not in _CONTENT_TYPES:
        raise unsupported(f"the content type {_readable(headers[3])}")
    algorithm = headers.get(1)
    if type(algorithm) is not int or (algorithm != _EDDSA and algorithm not in _CURVES):
        raise unsupported(f"signature algorithm {_readable(algorithm)}; ES256, ES384 and EdDSA are read")
    message = cbor.encode(["Signature1", protected, b"", payload])
    if not any(_signs(key, algorithm, signature, message) for key in keys):
        raise AppraisalError(Code.REFERENCE_SIGNATURE, "none of the keys that were given signed this manifest")
    ends: list[tuple[datetime | None, datetime | None]] = []
    if 8 in headers:
        meta = as_fields(load(as_bytes(headers[8])), {0}, {1})
        ends.append(_validity(meta[1]) if 1 in meta else (None, None))
    if 15 in headers:
        claims = as_fields(headers[15], set(), {1, 2, 4, 5, 6})
        ends.append((_time(claims.get(5)), _time(claims.get(4))))
    starts = [start for start, _ in ends if start is not None]
    lasts = [end for _, end in ends if end is not None]
    return load(payload), (max(starts, default=None), min(lasts, default=None))


def _signs(key: PublicKey, algorithm: int, signature: bytes, message: bytes) -> bool:
    try:
        if isinstance(key, ed25519.Ed25519PublicKey):
            if algorithm != _EDDSA:
                return False
            key.verify(signature, message)
            return True
        if algorithm == _EDDSA:
            return False
        curve, size, hashed = _CURVES[algorithm]
        if key.curve.name != curve or len(signature) != 2 * size:
            return False
        r, s = int.from_bytes(signature[:size]), int.from_bytes(signature[size:])
        key.verify(encode_dss_signature(r, s), message, ec.ECDSA(hashed))
    except (InvalidSignature, ValueError):
        return False
    return True


def _tag(value: object) -> Iterator[Triple]:
    if not isinstance(value, cbor2.CBORTag) or value.tag != _COMID:
        raise unsupported("a tag that is no CoMID")
    comid = as_fields(load(as_bytes(value.value)), {1, 4}, {0, 2}, refused={3: "linked tags"})
    triples = as_fields(comid[4], set(), {0}, refused=_OTHER_TRIPLES)
    for item in as_items(triples.get(0), 1):
        environment, measurements = as_items(item, 2, 2)
        # The draft's own examples have one measurement without the list around it.
        found = measurements if isinstance(measurements, list) else [measurements]
        yield Triple(*_environment(environment), tuple(_measurement(each) for each in as_items(found, 1)))


_OTHER_TRIPLES: Final = {
    1: "endorsed values",
    2: "identity keys",
    3: "attestation keys",
    4: "dependencies",
    5: "memberships",
    6: "CoSWID triples",
    8: "conditional endorsement series",
    10: "conditional endorsements",
}


def _environment(value: object) -> tuple[str, str]:
    environment = as_fields(value, {0}, set(), refused={1: "an instance", 2: "a group"})
    kind = as_fields(environment[0], set(), {0, 1, 2, 3, 4})
    if not kind:
        raise malformed("an empty class")
    names = ("class", "vendor", "model", "layer", "index")
    said = [f"{names[key]} {_readable(kind[key])}" for key in sorted(kind)]
    return _readable(kind[0]) if 0 in kind else "", ", ".join(said)


def _measurement(value: object) -> Measurement:
    fields = as_fields(value, {1}, {0}, refused={2: "who must have authorized it"})
    key, values = fields.get(0), as_map(fields[1])
    if key is not None and type(key) is not int and not isinstance(key, str):
        raise unsupported("an mkey that is neither a number nor text")
    if not values:
        raise malformed("a measurement without values")
    return Measurement(key, values)


def _validity(value: object) -> tuple[datetime | None, datetime | None]:
    fields = as_fields(value, {1}, {0})
    times = [None if index not in fields else _time(as_tagged(fields[index], TIME, "a time")) for index in (0, 1)]
    return times[0], times[1]


def _time(value: object) -> datetime | None:
    if value is None:
        return None
    if type(value) is not int or not 0 <= value <= TIME_MAX:
        raise malformed("a time that is no number of seconds before the year 10000")
    return datetime.fromtimestamp(value, UTC)


def _profile(value: object) -> str | None:
    return None if value is None else _readable(value).removeprefix("uri:")


def _readable(value: object) -> str:
    """Return an identifier on one line."""
    if isinstance(value, cbor2.CBORTag):
        content = value.value
        if value.tag == _OID and isinstance(content, bytes):
            return f"oid:{_dotted(content)}"
        word = {UUID: "uuid", _BYTES: "bytes", URI: "uri"}.get(value.tag)
        if word is not None and isinstance(content, bytes | str):
            return f"{word}:{content.hex() if isinstance(content, bytes) else _line(content)}"
        raise unsupported(f"an identifier in tag {value.tag}")
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, str):
        return _line(value)
    if type(value) is int:
        return str(value)
    raise malformed("an identifier of another type")


def _line(text: str) -> str:
    if not text.isprintable() or len(text) > 256:
        raise malformed("text that is not printable, or longer than 256 characters")
    return text


def _dotted(content: bytes) -> str:
    """Return an object identifier, from the content octets of its BER encoding (RFC 9090)."""
    arcs, value = [], 0
    if not content or len(content) > 64 or content[-1] & 0x80:
        raise malformed("an object identifier that is cut")
    for octet in content:
        value = value << 7 | octet & 0x7F
        if not octet & 0x80:
            arcs.append(value)
            value = 0
    first = min(arcs[0] // 40, 2)
    return ".".join(map(str, (first, arcs[0] - 40 * first, *arcs[1:])))
