"""The claims that a leaf carries: an EAR (draft-ietf-rats-ear-03) as an unprotected CBOR claims set (RFC 9781).

The bytes are fixed by `proto/ear.cddl`: extension id-pe-cmw holds ``OCTET STRING`` around a CMW record of media type
`MEDIA_TYPE`, whose value is tag 601 around one deterministic map. The certificate's signature protects it. A leaf
carries it exactly once, never critical, in at most 2 KiB; it holds no chip id and no raw evidence.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import cbor2
from cryptography.hazmat import asn1

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError
from proxy_attestation.formats import cbor, cmw
from proxy_attestation.formats.bounds import CLAIMS_MAX
from proxy_attestation.formats.request import KeyOrigin
from proxy_attestation.formats.tee import Tee

PROFILE: Final = "tag:ietf.org,2026:rats/ear#03"
MEDIA_TYPE: Final = f'application/eat-ucs+cbor; eat_profile="{PROFILE}"'
UCCS_TAG: Final = 601
DEVELOPER: Final = "Proxy Attestation"

# EAT and EAR claim keys (RFC 9711, draft-ietf-rats-ear-03).
_EXP, _IAT, _NONCE, _EAT_PROFILE, _SUBMODS, _STATUS, _VECTOR, _POLICY_IDS, _VERIFIER = (
    4, 6, 10, 265, 266, 1000, 1001, 1003, 1004,
)  # fmt: skip
_KEY_ATTESTATION: Final = -70002
# Keys of our own, below -65536 as EAR asks of private claims.
_ANCHOR, _KEY_ORIGIN, _MEASUREMENTS, _SIGNER, _PRODUCT_ID, _SVN, _DEBUG, _TCB, _APPLICATION, _OWNER = (
    -70010, -70011, -70012, -70013, -70014, -70015, -70016, -70017, -70018, -70019,
)  # fmt: skip
_EVIDENCE, _LEDGER, _SIMULATED = -70020, -70021, -70022

_DESCRIBED_AS_THEY_ARE: Final = {
    _STATUS: "status",
    _ANCHOR: "anchor",
    _SIGNER: "signer",
    _PRODUCT_ID: "product_id",
    _SVN: "svn",
    _DEBUG: "debug",
    _APPLICATION: "application_sha256",
    _OWNER: "owner",
    _EVIDENCE: "evidence_sha256",
    _LEDGER: "ledger_origin",
    _SIMULATED: "simulated",
}

AFFIRMING: Final = 2
WARNING: Final = 32
CONTRAINDICATED: Final = 96
"""The tier of a TEE that can be debugged, where a policy says under `[danger]` that it takes such."""
_TIME_MAX: Final = 1 << 40


@dataclass(frozen=True, slots=True)
class LeafClaims:
    """What the proxy vouches for in one leaf.

    Attributes:
        issued_at: seconds since the epoch.
        expires_at: seconds since the epoch; the leaf's notAfter.
        nonce: 32 bytes, the nonce that the evidence was bound to.
        build: the proxy's version.
        tee: the kind of TEE.
        status: the AR4SI tier of the appraisal: 2 affirming, 32 warning, 96 contraindicated (only with `debug`).
        vector: AR4SI trustworthiness claims (key 0 to 7, value), sorted by key.
        policy_digest: 32 bytes.
        spki: DER of the key that was attested: the leaf's own.
        anchor: SHA-256 of the SPKI of the vendor root that the evidence chains to, 32 bytes.
        key_origin: where the leaf's key was made.
        measurements: (vendor field name, value), sorted by name.
        signer: MRSIGNER, or None where the TEE has none.
        product_id: ISVPRODID, or None.
        svn: ISVSVN, or None.
        debug: whether the TEE can be debugged.
        tcb_status: the vendor's word.
        tcb_date: seconds since the epoch.
        tcb_evaluation_number: of the TCB info that was used.
        advisories: of the matched level, sorted.
        application_sha256: 32 bytes, or None where no claim is made.
        owner: the kind of owner of the names: `shared` and others.
        evidence_sha256: of the evidence as received, 32 bytes.
        ledger_origin: the ledger in which the leaf stands.
        simulated: whether the proxy takes simulated evidence.
    """

    issued_at: int
    expires_at: int
    nonce: bytes
    build: str
    tee: Tee
    status: int
    vector: tuple[tuple[int, int], ...]
    policy_digest: bytes
    spki: bytes
    anchor: bytes
    key_origin: KeyOrigin
    measurements: tuple[tuple[str, bytes], ...]
    signer: bytes | None
    product_id: int | None
    svn: int | None
    debug: bool
    tcb_status: str
    tcb_date: int
    tcb_evaluation_number: int
    advisories: tuple[str, ...]
    application_sha256: bytes | None
    owner: str
    evidence_sha256: bytes
    ledger_origin: str
    simulated: bool


def encode_claims_set(claims: LeafClaims) -> bytes:
    """Encode the claims set (tag 601 and its map): what a ledger entry digests."""
    # Keys in the order of their encodings: positive ones rising, negative ones falling, text by length first.
    measurements = sorted(claims.measurements, key=lambda item: (len(item[0]), item[0]))
    submod: dict[int, object] = {
        _STATUS: claims.status,
        _VECTOR: dict(sorted(claims.vector)),
        _POLICY_IDS: [f"sha256:{claims.policy_digest.hex()}"],
        _KEY_ATTESTATION: {"akpub": claims.spki},
        _ANCHOR: claims.anchor,
        _KEY_ORIGIN: int(claims.key_origin),
        _MEASUREMENTS: dict(measurements),
    }
    optional = ((_SIGNER, claims.signer), (_PRODUCT_ID, claims.product_id), (_SVN, claims.svn))
    submod.update((key, value) for key, value in optional if value is not None)
    submod[_DEBUG] = claims.debug
    submod[_TCB] = [claims.tcb_status, claims.tcb_date, claims.tcb_evaluation_number, list(claims.advisories)]
    if claims.application_sha256 is not None:
        submod[_APPLICATION] = claims.application_sha256
    submod[_OWNER] = claims.owner
    submod[_EVIDENCE] = claims.evidence_sha256
    submod[_LEDGER] = claims.ledger_origin
    submod[_SIMULATED] = claims.simulated
    top = {
        _EXP: claims.expires_at,
        _IAT: claims.issued_at,
        _NONCE: claims.nonce,
        _EAT_PROFILE: PROFILE,
        _SUBMODS: {str(claims.tee): submod},
        _VERIFIER: {0: DEVELOPER, 1: claims.build},
    }
    return cbor.encode_ordered(cbor2.CBORTag(UCCS_TAG, top))


def encode_extension(claims_set: bytes) -> bytes:
    """Wrap a claims set as the value of extension id-pe-cmw: DER OCTET STRING around the CMW record."""
    record = cmw.CmwRecord(MEDIA_TYPE, claims_set, cmw.ATTESTATION_RESULTS)
    return asn1.encode_der(cmw.encode_cmw(record))


def decode_extension(value: bytes) -> LeafClaims:
    """Decode the value of extension id-pe-cmw.

    Raises:
        FormatError: `peer.claims_malformed`, for another type or profile, or anything that the CDDL does not allow.
    """
    code = Code.PEER_CLAIMS_MALFORMED
    if len(value) > CLAIMS_MAX:
        raise FormatError(code, f"{len(value)} bytes, at most {CLAIMS_MAX} allowed")
    try:
        record = cmw.decode_cmw(asn1.decode_der(bytes, value), code, CLAIMS_MAX)
    except ValueError as error:
        raise FormatError(code, "not an OCTET STRING") from error
    if record.media_type != MEDIA_TYPE or record.indicator != cmw.ATTESTATION_RESULTS:
        raise FormatError(code, f"media type {record.media_type!r}, indicator {record.indicator}")
    return decode_claims_set(record.value)


def decode_claims_set(data: bytes) -> LeafClaims:
    """Decode a claims set.

    Raises:
        FormatError: `peer.claims_malformed`.
    """
    code = Code.PEER_CLAIMS_MALFORMED
    tagged = cbor.decode(data, code, CLAIMS_MAX)
    if not isinstance(tagged, cbor2.CBORTag) or tagged.tag != UCCS_TAG:
        raise FormatError(code, "not an unprotected claims set")
    top = cbor.as_map(tagged.value, code, frozenset({_EXP, _IAT, _NONCE, _EAT_PROFILE, _SUBMODS, _VERIFIER}))
    if top[_EAT_PROFILE] != PROFILE:
        raise FormatError(code, "another profile")
    submods = top[_SUBMODS]
    if not isinstance(submods, dict) or len(submods) != 1:
        raise FormatError(code, "exactly one submodule was expected")
    name, submod = next(iter(submods.items()))
    try:
        tee = Tee(cbor.as_text(name, code, 16))
    except ValueError as error:
        raise FormatError(code, "unknown tee") from error
    verifier = cbor.as_map(top[_VERIFIER], code, frozenset({0, 1}))
    cbor.as_text(verifier[0], code, 64)
    return _decode_submod(
        tee,
        submod,
        issued_at=cbor.as_uint(top[_IAT], code, _TIME_MAX),
        expires_at=cbor.as_uint(top[_EXP], code, _TIME_MAX),
        nonce=cbor.as_bytes(top[_NONCE], code, 32),
        build=cbor.as_text(verifier[1], code, 64),
    )


def describe_claims_set(data: bytes) -> dict[str, object]:
    """Return a claims set of our own making for people, as JSON values under the names of `LeafClaims`.

    Bytes are in hex, times in RFC 3339, absent claims left out. Nothing is checked: what somebody else made goes
    through `decode_claims_set` first.
    """
    top = cbor2.loads(data).value
    ((tee, submod),) = top[_SUBMODS].items()
    status, date, number, advisories = submod[_TCB]
    described: dict[str, object] = {
        "issued_at": _readable_time(top[_IAT]),
        "expires_at": _readable_time(top[_EXP]),
        "nonce": top[_NONCE].hex(),
        "build": top[_VERIFIER][1],
        "tee": tee,
        "vector": {str(key): value for key, value in submod[_VECTOR].items()},
        "policy_digest": submod[_POLICY_IDS][0].removeprefix("sha256:"),
        "spki": submod[_KEY_ATTESTATION]["akpub"].hex(),
        "key_origin": KeyOrigin(submod[_KEY_ORIGIN]).name.lower(),
        "measurements": {name: value.hex() for name, value in submod[_MEASUREMENTS].items()},
        "tcb_status": status,
        "tcb_date": _readable_time(date),
        "tcb_evaluation_number": number,
        "advisories": list(advisories),
    }
    for key, name in _DESCRIBED_AS_THEY_ARE.items():
        if key in submod:
            value = submod[key]
            described[name] = value.hex() if isinstance(value, bytes) else value
    return described


def _readable_time(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _decode_submod(
    tee: Tee, submod: object, *, issued_at: int, expires_at: int, nonce: bytes, build: str
) -> LeafClaims:
    code = Code.PEER_CLAIMS_MALFORMED
    required = frozenset(
        {_STATUS, _VECTOR, _POLICY_IDS, _KEY_ATTESTATION, _ANCHOR, _KEY_ORIGIN, _MEASUREMENTS, _DEBUG, _TCB, _OWNER,
         _EVIDENCE, _LEDGER, _SIMULATED}
    )  # fmt: skip
    m = cbor.as_map(submod, code, required, frozenset({_SIGNER, _PRODUCT_ID, _SVN, _APPLICATION}))
    tcb = cbor.as_list(m[_TCB], code, 4)
    policies = cbor.as_list(m[_POLICY_IDS], code, 1)
    key = m[_KEY_ATTESTATION]
    if len(tcb) != 4 or len(policies) != 1 or not isinstance(key, dict) or set(key) != {"akpub"}:
        raise FormatError(code, "TCB, policy or attested key")
    origin = cbor.as_uint(m[_KEY_ORIGIN], code, max(KeyOrigin))
    flags = m[_DEBUG], m[_SIMULATED]
    if not isinstance(flags[0], bool) or not isinstance(flags[1], bool):
        raise FormatError(code, "booleans were expected")
    if m[_STATUS] == CONTRAINDICATED and not flags[0]:
        raise FormatError(code, "contraindicated, and not because of debug")
    return LeafClaims(
        issued_at=issued_at,
        expires_at=expires_at,
        nonce=nonce,
        build=build,
        tee=tee,
        status=_tier(m[_STATUS]),
        vector=_vector(m[_VECTOR]),
        policy_digest=_policy_digest(policies[0]),
        spki=cbor.as_bytes(key["akpub"], code, 1, 256),
        anchor=cbor.as_bytes(m[_ANCHOR], code, 32),
        key_origin=KeyOrigin(origin),
        measurements=_measurements(m[_MEASUREMENTS]),
        signer=cbor.as_bytes(m[_SIGNER], code, 32) if _SIGNER in m else None,
        product_id=cbor.as_uint(m[_PRODUCT_ID], code, 0xFFFF) if _PRODUCT_ID in m else None,
        svn=cbor.as_uint(m[_SVN], code, 0xFFFF) if _SVN in m else None,
        debug=flags[0],
        tcb_status=cbor.as_text(tcb[0], code, 64),
        tcb_date=cbor.as_uint(tcb[1], code, _TIME_MAX),
        tcb_evaluation_number=cbor.as_uint(tcb[2], code, 0xFFFFFFFF),
        advisories=tuple(cbor.as_text(item, code, 32) for item in cbor.as_list(tcb[3], code, 64)),
        application_sha256=cbor.as_bytes(m[_APPLICATION], code, 32) if _APPLICATION in m else None,
        owner=cbor.as_text(m[_OWNER], code, 16),
        evidence_sha256=cbor.as_bytes(m[_EVIDENCE], code, 32),
        ledger_origin=cbor.as_text(m[_LEDGER], code, 255),
        simulated=flags[1],
    )


def _tier(value: object) -> int:
    status = cbor.as_uint(value, Code.PEER_CLAIMS_MALFORMED, 127)
    if status not in (AFFIRMING, WARNING, CONTRAINDICATED):
        raise FormatError(Code.PEER_CLAIMS_MALFORMED, f"status {status} in a certificate")
    return status


def _vector(value: object) -> tuple[tuple[int, int], ...]:
    code = Code.PEER_CLAIMS_MALFORMED
    vector = cbor.as_map(value, code, frozenset(), frozenset(range(8)))
    return tuple((key, cbor.as_uint(item, code, 127)) for key, item in vector.items())


def _policy_digest(value: object) -> bytes:
    text = cbor.as_text(value, Code.PEER_CLAIMS_MALFORMED, 71)
    try:
        digest = bytes.fromhex(text.removeprefix("sha256:"))
    except ValueError:
        digest = b""
    if text != f"sha256:{digest.hex()}" or len(digest) != 32:
        raise FormatError(Code.PEER_CLAIMS_MALFORMED, "not a policy digest")
    return digest


def _measurements(value: object) -> tuple[tuple[str, bytes], ...]:
    code = Code.PEER_CLAIMS_MALFORMED
    if not isinstance(value, dict) or not 0 < len(value) <= 32:
        raise FormatError(code, "1 to 32 measurements were expected")
    return tuple(
        sorted((cbor.as_text(name, code, 32), cbor.as_bytes(item, code, 1, 64)) for name, item in value.items())
    )
