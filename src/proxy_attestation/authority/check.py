"""The last check of a leaf: the finished to-be-signed bytes are read back and every field is judged once more.

It runs on exactly the bytes that are committed and signed, and nothing changes after it. It shares no code with
`profile.py`, which wrote them, and takes no value from the worker: names and limits come from the decision.

The walk:

1. Form: strict DER, version 3, a positive serial of at most 159 bits, ecdsa-with-SHA256, our issuer, no subject.
2. Key: the one that was asked for, a P-256 or P-384 key in its usual encoding.
3. Time: not before the issuer, or more than 60 s ago; not after any of the limits; 24 h at most in all.
4. Extensions: these, in this order, with this criticality, and no other.
5. Names: exactly the decision's, one URI, DNS names within the root's constraints.
6. Claims: about this key and this nonce, ending no later than the leaf, under this policy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, NoReturn

import cbor2
from cryptography import x509
from cryptography.hazmat import asn1

from proxy_attestation.codes import Code
from proxy_attestation.errors import UnavailableError
from proxy_attestation.formats.bounds import CERTIFICATE_MAX, CLAIMS_MAX
from proxy_attestation.formats.csr import ID_PE_CMW
from proxy_attestation.formats.request import Names

BACKDATE_MAX: Final = 60
LIFETIME_MAX: Final = 24 * 3600

_SERIAL_END: Final = 1 << 159
# id-ecPublicKey with secp256r1 or secp384r1, uncompressed point (RFC 5480): all of the SPKI but the coordinates.
_KEY_FORMS: Final = (
    (91, bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004")),
    (120, bytes.fromhex("3076301006072a8648ce3d020106052b8104002203620004")),
)
_EXTENSIONS: Final = (
    ("2.5.29.19", True, bytes.fromhex("3000")),
    ("2.5.29.15", True, bytes.fromhex("03020780")),
    ("2.5.29.37", False, bytes.fromhex("301406082b0601050507030106082b06010505070302")),
)
_AUTHORITY_KEY_PREFIX: Final = bytes.fromhex("30168014")


@asn1.sequence
class _Algorithm:
    oid: x509.ObjectIdentifier


@asn1.sequence
class _Validity:
    not_before: asn1.UTCTime | asn1.GeneralizedTime
    not_after: asn1.UTCTime | asn1.GeneralizedTime


@asn1.sequence
class _Extension:
    oid: x509.ObjectIdentifier
    critical: Annotated[bool, asn1.Default(False)]
    value: bytes


@asn1.sequence
class _Tbs:
    version: Annotated[int, asn1.Explicit(0)]
    serial: int
    algorithm: _Algorithm
    issuer: asn1.TLV
    validity: _Validity
    subject: asn1.TLV
    spki: asn1.TLV
    extensions: Annotated[list[_Extension], asn1.Explicit(3)]


@dataclass(frozen=True, slots=True)
class ExpectedClaims:
    """What the claims in a leaf must say.

    Attributes:
        tee: the submodule's name.
        nonce: 32 bytes.
        policy_digest: 32 bytes.
        debug: whether the TEE can be debugged.
        application_sha256: or None where no claim may be made.
        simulated: whether the authority takes simulated evidence.
    """

    tee: str
    nonce: bytes
    policy_digest: bytes
    debug: bool
    application_sha256: bytes | None
    simulated: bool


@dataclass(frozen=True, slots=True)
class Expected:
    """What a leaf must be.

    Attributes:
        issuer: DER of the issuing CA's name.
        authority_key_id: the issuing CA's key identifier, 20 bytes.
        issuer_not_before: seconds since the epoch.
        now: seconds since the epoch.
        not_after_limits: seconds since the epoch; the leaf may outlive none of them.
        spki: DER.
        names: exactly these.
        spiffe_id: the one URI.
        permitted_dns: the root's constraints.
        claims: or None where the leaf must not have any.
    """

    issuer: bytes
    authority_key_id: bytes
    issuer_not_before: int
    now: int
    not_after_limits: Sequence[int]
    spki: bytes
    names: Names
    spiffe_id: str
    permitted_dns: Sequence[str]
    claims: ExpectedClaims | None


def check_leaf(tbs: bytes, expected: Expected) -> None:
    """Judge the to-be-signed bytes of a leaf.

    Raises:
        UnavailableError: `authority.profile`: the authority was about to sign what it must not. Never a verdict on the
            peer: policy and profile contradict each other, or there is a bug.
    """
    leaf = _parse(tbs)
    # 1. Form.
    if leaf.version != 2 or not 0 < leaf.serial < _SERIAL_END:
        _refuse("version or serial")
    if leaf.algorithm.oid.dotted_string != "1.2.840.10045.4.3.2":
        _refuse("signature algorithm")
    if asn1.encode_der(leaf.issuer) != expected.issuer or asn1.encode_der(leaf.subject) != b"\x30\x00":
        _refuse("issuer or subject")
    # 2. Key.
    if asn1.encode_der(leaf.spki) != expected.spki or not is_usual_key(expected.spki):
        _refuse("key")
    # 3. Time.
    not_after = _check_time(leaf.validity, expected)
    # 4. Extensions.
    authority_key = ("2.5.29.35", False, _AUTHORITY_KEY_PREFIX + expected.authority_key_id)
    found = [(e.oid.dotted_string, e.critical, e.value) for e in leaf.extensions]
    variable = [("2.5.29.17", True)]
    if expected.claims is not None:
        variable.append((ID_PE_CMW.dotted_string, False))
    fixed = [*_EXTENSIONS, authority_key]
    if found[: len(fixed)] != fixed or [item[:2] for item in found[len(fixed) :]] != variable:
        _refuse("extensions")
    # 5. Names.
    _check_names(found[len(fixed)][2], expected)
    # 6. Claims.
    if expected.claims is not None:
        _check_claims(found[-1][2], expected.claims, expected.spki, not_after)


def is_usual_key(spki: bytes) -> bool:
    """Tell whether bytes have the form of a P-256 or P-384 SubjectPublicKeyInfo, uncompressed, named curve."""
    return any(len(spki) == length and spki.startswith(prefix) for length, prefix in _KEY_FORMS)


def is_permitted_dns(name: str, permitted: Sequence[str]) -> bool:
    """Tell whether a DNS name lies within one of the permitted suffixes (RFC 5280 section 4.2.1.10)."""
    return any(name == suffix or name.endswith(f".{suffix}") for suffix in permitted)


def _parse(tbs: bytes) -> _Tbs:
    if len(tbs) > CERTIFICATE_MAX:
        _refuse(f"{len(tbs)} bytes")
    try:
        return asn1.decode_der(_Tbs, tbs)
    except ValueError as error:
        raise UnavailableError(Code.AUTHORITY_PROFILE, "not a to-be-signed certificate") from error


def _check_time(validity: _Validity, expected: Expected) -> int:
    not_before = int(validity.not_before.as_datetime().timestamp())
    not_after = int(validity.not_after.as_datetime().timestamp())
    if not max(expected.issuer_not_before, expected.now - BACKDATE_MAX) <= not_before <= expected.now:
        _refuse("notBefore")
    if not expected.now < not_after <= min(*expected.not_after_limits, not_before + LIFETIME_MAX):
        _refuse("notAfter")
    return not_after


def _check_names(value: bytes, expected: Expected) -> None:
    dns: list[str] = []
    ip: list[bytes] = []
    uri: list[str] = []
    whole = _elements(value)
    if len(whole) != 1 or whole[0][0] != 0x30:
        _refuse("names of another form")
    for tag, content in _elements(whole[0][1]):
        if tag == 0x87:
            ip.append(content)
        elif tag in (0x82, 0x86):
            # A byte beyond ASCII becomes something that no name has.
            (dns if tag == 0x82 else uri).append(content.decode("ascii", "replace"))
        else:
            _refuse("a name of another kind")
    if Names(tuple(dns), tuple(ip), tuple(uri)) != expected.names or uri != [expected.spiffe_id]:
        _refuse("names")
    if not all(is_permitted_dns(name, expected.permitted_dns) for name in dns):
        _refuse("a DNS name outside the root's constraints")


def _elements(data: bytes) -> list[tuple[int, bytes]]:
    """Cut DER elements of less than 64 KiB, one behind the other, into tags and contents."""
    found = []
    at = 0
    while at < len(data):
        size = data[at + 1] if at + 1 < len(data) else 0xFF
        start = at + 2
        length = size
        if size >= 0x80:
            start += size - 0x80
            length = int.from_bytes(data[at + 2 : start], "big")
            # Only the lengths that take one or two bytes, in their shortest form.
            if length < {0x81: 0x80, 0x82: 0x100}.get(size, 1 << 1024):
                _refuse("names of another form")
        if start + length > len(data):
            _refuse("names of another form")
        found.append((data[at], data[start : start + length]))
        at = start + length
    return found


def _check_claims(value: bytes, expected: ExpectedClaims, spki: bytes, not_after: int) -> None:
    if len(value) > CLAIMS_MAX:
        _refuse(f"claims of {len(value)} bytes")
    try:
        _, claims_set, indicator = cbor2.loads(asn1.decode_der(bytes, value))
        top: Any = cbor2.loads(claims_set).value
        sub: Any = top[266][expected.tee]
        # The keys of proto/ear.cddl, written here again: the encoder's constants must not be compared with themselves.
        found = (
            indicator, len(top[266]), top[4], top[10], sub[-70002]["akpub"], list(sub[1003]), sub[-70016],
            sub.get(-70018), sub[-70022],
        )  # fmt: skip
    except (ValueError, TypeError, LookupError, AttributeError, cbor2.CBORError) as error:
        raise UnavailableError(Code.AUTHORITY_PROFILE, "claims of another form") from error
    policy_ids = [f"sha256:{expected.policy_digest.hex()}"]
    demanded = (
        8, 1, not_after, expected.nonce, spki, policy_ids, expected.debug, expected.application_sha256,
        expected.simulated,
    )  # fmt: skip
    if found != demanded:
        _refuse("claims")


def _refuse(what: str) -> NoReturn:
    raise UnavailableError(Code.AUTHORITY_PROFILE, f"the finished certificate: {what}")
