"""The claims that a leaf carries: an EAR (draft-ietf-rats-ear-03) as an unprotected CBOR claims set (RFC 9781).

The bytes are fixed by `proto/ear.cddl`: extension id-pe-cmw holds ``OCTET STRING`` around a CMW record of media type
`MEDIA_TYPE`, whose value is tag 601 around one deterministic map. The certificate's signature protects it. A leaf
carries it exactly once, never critical, in at most 2 KiB; it holds no chip id and no raw evidence.
"""

import json
from dataclasses import dataclass
from datetime import date, timedelta
from functools import lru_cache
from typing import Annotated, Any, Final

import cbor2
from cryptography.hazmat import asn1

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError
from proxy_attestation.formats import cbor, cmw
from proxy_attestation.formats.bounds import CLAIMS_MAX, TIME_MAX
from proxy_attestation.formats.request import KeyOrigin
from proxy_attestation.formats.tee import Tee
from proxy_attestation.formats.values import (
    Item,
    Record,
    as_bool,
    as_bytes,
    as_hex,
    as_list,
    as_map,
    as_member,
    as_text,
    as_tuple,
    as_uint,
)

PROFILE: Final = "tag:ietf.org,2026:rats/ear#03"
MEDIA_TYPE: Final = f'application/eat-ucs+cbor; eat_profile="{PROFILE}"'
UCCS_TAG: Final = 601
_TAG: Final = b"\xd9" + UCCS_TAG.to_bytes(2, "big")
DEVELOPER: Final = "Proxy Attestation"

AFFIRMING: Final = 2
WARNING: Final = 32
CONTRAINDICATED: Final = 96
"""The tier of a TEE that can be debugged, where a policy says under `[danger]` that it takes such."""

# Claims of EAT (RFC 9711) and EAR around the one submodule. Those inside it stand beside the fields of `LeafClaims`.
_EXP, _IAT, _NONCE, _EAT_PROFILE, _SUBMODS, _VERIFIER = 4, 6, 10, 265, 266, 1004
_TOP: Final = frozenset({_EXP, _IAT, _NONCE, _EAT_PROFILE, _SUBMODS, _VERIFIER})
_DIGEST: Final = (32,)
_U16: Final = (0xFFFF,)
_MEASUREMENT_MAX: Final = 128
"""A cloud provider's name is longer than any digest (`snp_report.CSP_ID_MAX`)."""
_POLICY_ID: Final = "sha256:"
_KEY: Final = "akpub"


def _tier(value: object, code: Code) -> int:
    status = as_uint(value, code, 127)
    if status not in (AFFIRMING, WARNING, CONTRAINDICATED):
        raise FormatError(code, f"tier {status} in a certificate")
    return status


def _vector(value: object, code: Code) -> tuple[tuple[int, int], ...]:
    vector = as_map(value, code, frozenset(), frozenset(range(8)))
    return tuple((key, as_uint(item, code, 127)) for key, item in vector.items())


def _policy_digest(value: object, code: Code) -> bytes:
    (text,) = as_tuple(value, code, 1, 1, as_text, 71)
    digest = as_hex(text.removeprefix(_POLICY_ID), code, 32)
    if text != _policy_id(digest):
        raise FormatError(code, "not a policy digest")
    return digest


def _policy_id(digest: bytes) -> str:
    return _POLICY_ID + digest.hex()


def _key(value: object, code: Code) -> bytes:
    if not isinstance(value, dict) or value.keys() != {_KEY}:
        raise FormatError(code, "one attested key was expected")
    return as_bytes(value[_KEY], code, 1, 256)


def _measurements(value: object, code: Code) -> tuple[tuple[str, bytes], ...]:
    if not isinstance(value, dict) or not 0 < len(value) <= 32:
        raise FormatError(code, "1 to 32 measurements were expected")
    return tuple(
        sorted((as_text(name, code, 32), as_bytes(item, code, 1, _MEASUREMENT_MAX)) for name, item in value.items())
    )


def _by_length(measurements: tuple[tuple[str, bytes], ...]) -> dict[str, bytes]:
    return dict(sorted(measurements, key=lambda item: (len(item[0]), item[0])))


def _tcb(value: object, code: Code) -> tuple[str, int, int, tuple[str, ...]]:
    status, date, number, advisories = as_list(value, code, 4, 4)
    return (
        as_text(status, code, 64),
        as_uint(date, code, TIME_MAX),
        as_uint(number, code, 0xFFFFFFFF),
        as_tuple(advisories, code, 0, 64, as_text, 32),
    )


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
        tcb_status: the vendor's word, or None where the vendor has no such words; then the next three are empty too.
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
    status: Annotated[int, Item(1000, _tier)]
    vector: Annotated[tuple[tuple[int, int], ...], Item(1001, _vector, write=dict)]
    policy_digest: Annotated[bytes, Item(1003, _policy_digest, write=lambda digest: [_policy_id(digest)])]
    spki: Annotated[bytes, Item(-70002, _key, write=lambda spki: {_KEY: spki})]
    anchor: Annotated[bytes, Item(-70010, as_bytes, _DIGEST)]
    key_origin: Annotated[KeyOrigin, Item(-70011, as_member, (KeyOrigin,))]
    measurements: Annotated[tuple[tuple[str, bytes], ...], Item(-70012, _measurements, write=_by_length)]
    signer: Annotated[bytes | None, Item(-70013, as_bytes, _DIGEST, absent=None)]
    product_id: Annotated[int | None, Item(-70014, as_uint, _U16, absent=None)]
    svn: Annotated[int | None, Item(-70015, as_uint, _U16, absent=None)]
    debug: Annotated[bool, Item(-70016, as_bool)]
    tcb_status: str | None
    tcb_date: int | None
    tcb_evaluation_number: int | None
    advisories: tuple[str, ...]
    application_sha256: Annotated[bytes | None, Item(-70018, as_bytes, _DIGEST, absent=None)]
    owner: Annotated[str, Item(-70019, as_text, (16,))]
    evidence_sha256: Annotated[bytes, Item(-70020, as_bytes, _DIGEST)]
    ledger_origin: Annotated[str, Item(-70021, as_text, (255,))]
    simulated: Annotated[bool, Item(-70022, as_bool)]

    @property
    def tcb(self) -> tuple[str, int | None, int | None, tuple[str, ...]] | None:
        """The four TCB fields, which are one list in the claims set."""
        if self.tcb_status is None:
            return None
        return self.tcb_status, self.tcb_date, self.tcb_evaluation_number, self.advisories


_SUBMODULE: Final = Record(LeafClaims, tcb=Item(-70017, _tcb, absent=None))
_KEYS: Final = [(name, item.key) for name, item in _SUBMODULE.items]
_KEY_ORIGINS: Final = {int(origin): origin.name.lower() for origin in KeyOrigin}
_JSON: Final = json.JSONEncoder(check_circular=False)
_EPOCH: Final = date(1970, 1, 1)


def encode_claims_set(claims: LeafClaims) -> bytes:
    """Encode the claims set (tag 601 and its map): what a ledger entry digests."""
    top: dict[int, object] = {
        _EXP: claims.expires_at,
        _IAT: claims.issued_at,
        _NONCE: claims.nonce,
        _EAT_PROFILE: PROFILE,
        _SUBMODS: {str(claims.tee): _SUBMODULE.write(claims)},
        _VERIFIER: {0: DEVELOPER, 1: claims.build},
    }
    return _TAG + cbor.encode_ordered(top)


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
    if not data.startswith(_TAG):
        raise FormatError(code, "not an unprotected claims set")
    top = as_map(cbor.decode(data[len(_TAG) :], code, CLAIMS_MAX), code, _TOP)
    submodules = top[_SUBMODS]
    if top[_EAT_PROFILE] != PROFILE or not isinstance(submodules, dict) or len(submodules) != 1:
        raise FormatError(code, "another profile, or not exactly one submodule")
    ((name, submodule),) = submodules.items()
    verifier = as_map(top[_VERIFIER], code, frozenset({0, 1}))
    as_text(verifier[0], code, 64)
    fields = _SUBMODULE.read(submodule, code)
    status, date, number, advisories = fields.pop("tcb") or (None, None, None, ())
    if fields["status"] == CONTRAINDICATED and not fields["debug"]:
        raise FormatError(code, "contraindicated, and not because of debug")
    return LeafClaims(
        issued_at=as_uint(top[_IAT], code, TIME_MAX),
        expires_at=as_uint(top[_EXP], code, TIME_MAX),
        nonce=as_bytes(top[_NONCE], code, 32),
        build=as_text(verifier[1], code, 64),
        tee=as_member(name, code, Tee),
        tcb_status=status,
        tcb_date=date,
        tcb_evaluation_number=number,
        advisories=advisories,
        **fields,
    )


def claims_set_to_json(data: bytes) -> str:
    """Return a claims set of our own making for people: one JSON object under the names of `LeafClaims`.

    Bytes are in hex, times in RFC 3339, absent claims left out. Nothing is checked: what somebody else made goes
    through `decode_claims_set` first.
    """
    top = cbor2.loads(data.removeprefix(_TAG))
    ((tee, submodule),) = top[_SUBMODS].items()
    told = [(name, submodule[key]) for name, key in _KEYS if key in submodule]
    described: dict[str, Any] = {name: value.hex() if type(value) is bytes else value for name, value in told}
    tcb = described.pop("tcb", None)
    described["policy_digest"] = described["policy_digest"][0].removeprefix(_POLICY_ID)
    described["spki"] = described["spki"][_KEY].hex()
    described["key_origin"] = _KEY_ORIGINS[described["key_origin"]]
    described["measurements"] = {name: value.hex() for name, value in described["measurements"].items()}
    return _JSON.encode(
        {
            "issued_at": _readable_time(top[_IAT]),
            "expires_at": _readable_time(top[_EXP]),
            "nonce": top[_NONCE].hex(),
            "build": top[_VERIFIER][1],
            "tee": tee,
            **described,
            **({} if tcb is None else _readable_tcb(*tcb)),
        }
    )


def _readable_tcb(status: str, date: int, number: int, advisories: list[str]) -> dict[str, object]:
    return {
        "tcb_status": status,
        "tcb_date": _readable_time(date),
        "tcb_evaluation_number": number,
        "advisories": advisories,
    }


def _readable_time(seconds: int) -> str:
    days, second = divmod(seconds, 86400)
    return f"{_readable_day(days)}T{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}Z"


@lru_cache(maxsize=64)
def _readable_day(days: int) -> str:
    return (_EPOCH + timedelta(days=days)).isoformat()
