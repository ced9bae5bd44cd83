"""The last check of a leaf: every byte of the finished to-be-signed certificate is judged once more.

It runs on exactly the bytes that are committed and signed, and nothing changes after it. It shares no code with
`profile.py`, which wrote them, and takes no value from the worker: names and limits come from the decision.

Only the serial, the two times and the claims may vary. They are cut out, wherever a loose reading finds them; the whole
certificate is encoded again around them from what was decided, and must be equal. So no reader's leniency counts: there
is one right encoding, and any other byte is refused. What was cut out is then judged by itself.

1. Form: all but what varies, which covers version, algorithm, issuer, subject, key, and that the extensions are these,
   in this order, with this criticality, and no other.
2. Serial: positive, at most 159 bits, in its shortest form.
3. Key: a P-256 or P-384 key in its usual encoding.
4. Time: not before the issuer, or more than 60 s ago; not after any of the limits; 24 h at most in all.
5. Names: one URI, DNS names within the root's constraints.
6. Claims: about this key and this nonce, ending no later than the leaf, under this policy.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Any, Final, NoReturn

import cbor2

from proxy_attestation.codes import Code
from proxy_attestation.errors import UnavailableError
from proxy_attestation.formats.bounds import CERTIFICATE_MAX, CLAIMS_MAX
from proxy_attestation.formats.request import Names

BACKDATE_MAX: Final = 60
LIFETIME_MAX: Final = 24 * 3600

_SERIAL_END: Final = 1 << 159
_VERSION_3: Final = bytes.fromhex("a003020102")
_ECDSA_WITH_SHA256: Final = bytes.fromhex("300a06082a8648ce3d040302")
_NO_SUBJECT: Final = bytes.fromhex("3000")
# id-ecPublicKey with secp256r1 or secp384r1, uncompressed point (RFC 5480): all of the SPKI but the coordinates.
_KEY_FORMS: Final = {
    91: bytes.fromhex("3059301306072a8648ce3d020106082a8648ce3d03010703420004"),
    120: bytes.fromhex("3076301006072a8648ce3d020106052b8104002203620004"),
}
# basicConstraints, critical, not a CA; keyUsage, critical, digitalSignature; extKeyUsage, server and client; then
# authorityKeyIdentifier up to its 20 bytes, and the OIDs of subjectAltName, which is critical, and id-pe-cmw.
_FIXED: Final = bytes.fromhex(
    "300c0603551d130101ff04023000300e0603551d0f0101ff040403020780301d0603551d250416301406082b06010505070301"
    "06082b06010505070302301f0603551d23041830168014"
)
_NAMES: Final = bytes.fromhex("0603551d110101ff")
_MEDIA_TYPE: Final = 'application/eat-ucs+cbor; eat_profile="tag:ietf.org,2026:rats/ear#03"'
_UTC_TIME: Final = 13
_OCTETS_HEADER: Final = 4  # of an OCTET STRING of 2 KiB
_CLAIMS: Final = bytes.fromhex("06082b06010505070123")


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
    if len(tbs) > CERTIFICATE_MAX:
        _refuse(f"{len(tbs)} bytes")
    # 1. Form.
    fixed = _fixed_extensions(expected.authority_key_id, expected.names)
    try:
        body, _ = _cut(tbs, 0)
        serial, after = _cut(body, len(_VERSION_3))
        validity, after = _cut(body, after + len(_ECDSA_WITH_SHA256) + len(expected.issuer))
        not_before, second = _cut(validity, 0)
        not_after, _ = _cut(validity, second)
        claims, extension = b"", b""
        if expected.claims is not None:
            wrapped, _ = _cut(body, after + len(_NO_SUBJECT) + len(expected.spki))
            last, _ = _cut(_cut(wrapped, 0)[0], len(fixed))
            claims, _ = _cut(_cut(last, len(_CLAIMS))[0], 0)
            extension = _element(0x30, _CLAIMS, _element(0x04, _element(0x04, claims)))
    except IndexError:
        _refuse("too short")
    if tbs != _element(
        0x30,
        _VERSION_3,
        _element(0x02, serial),
        _ECDSA_WITH_SHA256,
        expected.issuer,
        _element(0x30, _time(not_before), _time(not_after)),
        _NO_SUBJECT,
        expected.spki,
        _element(0xA3, _element(0x30, fixed, extension)),
    ):
        _refuse("not as it was decided")
    # 2. Serial.
    if not 0 < int.from_bytes(serial, "big", signed=True) < _SERIAL_END or (serial[0] == 0 and serial[1] < 0x80):
        _refuse("serial")
    # 3. Key.
    if not is_usual_key(expected.spki):
        _refuse("key")
    # 4. Time.
    begin, end = _seconds(not_before), _seconds(not_after)
    if not max(expected.issuer_not_before, expected.now - BACKDATE_MAX) <= begin <= expected.now:
        _refuse("notBefore")
    if not expected.now < end <= min(*expected.not_after_limits, begin + LIFETIME_MAX):
        _refuse("notAfter")
    # 5. Names.
    if expected.names.uri != (expected.spiffe_id,):
        _refuse("not exactly the one URI")
    if not all(is_permitted_dns(name, expected.permitted_dns) for name in expected.names.dns):
        _refuse("a DNS name outside the root's constraints")
    # 6. Claims.
    if expected.claims is not None:
        _check_claims(claims, expected.claims, expected.spki, end)


def is_usual_key(spki: bytes) -> bool:
    """Tell whether bytes have the form of a P-256 or P-384 SubjectPublicKeyInfo, uncompressed, named curve."""
    return len(spki) in _KEY_FORMS and spki.startswith(_KEY_FORMS[len(spki)])


def is_permitted_dns(name: str, permitted: Sequence[str]) -> bool:
    """Tell whether a DNS name lies within one of the permitted suffixes (RFC 5280 section 4.2.1.10)."""
    return any(name == suffix or name.endswith(f".{suffix}") for suffix in permitted)


def _cut(data: bytes, at: int) -> tuple[bytes, int]:
    """Return the content of the element at a place, however its length is written, and the place behind it.

    Raises:
        IndexError: when nothing is there.
    """
    length, start = data[at + 1], at + 2
    if length >= 0x80:
        start += length - 0x80
        length = int.from_bytes(data[at + 2 : start], "big")
    return data[start : start + length], start + length


def _element(tag: int, *parts: bytes) -> bytes:
    """Return one DER element: of all the ways to write a length, the shortest."""
    content = b"".join(parts)
    size = len(content)
    if size < 0x80:
        return b"%c%c%b" % (tag, size, content)
    head = b"\x81%c" % size if size < 0x100 else b"\x82%b" % size.to_bytes(2, "big")
    return b"%c%b%b" % (tag, head, content)


@lru_cache(maxsize=1024)
def _fixed_extensions(authority_key_id: bytes, names: Names) -> bytes:
    # GeneralName: dNSName [2], iPAddress [7], uniformResourceIdentifier [6]. What ASCII cannot say is no name of ours.
    general = [_element(0x82, name.encode("ascii", "replace")) for name in names.dns]
    general += [_element(0x87, address) for address in names.ip]
    general += [_element(0x86, name.encode("ascii", "replace")) for name in names.uri]
    return _FIXED + authority_key_id + _element(0x30, _NAMES, _element(0x04, _element(0x30, *general)))


def _time(content: bytes) -> bytes:
    # RFC 5280 section 4.1.2.5: UTCTime until 2049, from then on GeneralizedTime.
    return _element(0x17 if len(content) == _UTC_TIME else 0x18, content)


def _seconds(content: bytes) -> int:
    short = len(content) == _UTC_TIME
    digits = b"20" + content[:-1] if short else content[:-1]
    if len(digits) != 14 or not digits.isdigit() or content[-1:] != b"Z" or short != (digits[:4] < b"2050"):
        _refuse("a time of another form")
    try:
        return int(datetime.fromisoformat(f"{digits[:8].decode()}T{digits[8:].decode()}Z").timestamp())
    except ValueError as error:
        raise UnavailableError(Code.AUTHORITY_PROFILE, "the finished certificate: a time that is none") from error


def _check_claims(value: bytes, expected: ExpectedClaims, spki: bytes, not_after: int) -> None:
    if len(value) > CLAIMS_MAX - _OCTETS_HEADER:
        _refuse(f"claims of {len(value)} bytes")
    try:
        media_type, claims_set, indicator = cbor2.loads(value)
        tagged: Any = cbor2.loads(claims_set)
        top, sub = tagged.value, tagged.value[266][expected.tee]
        # What proto/ear.cddl says, written here again: the encoder's constants must not be compared with themselves.
        found = (
            media_type,
            indicator,
            tagged.tag,
            len(top[266]),
            top[4],
            top[10],
            sub[-70002]["akpub"],
            list(sub[1003]),
            sub[-70016],
            sub.get(-70018),
            sub[-70022],
        )
    except (ValueError, TypeError, LookupError, AttributeError, cbor2.CBORError) as error:
        raise UnavailableError(Code.AUTHORITY_PROFILE, "claims of another form") from error
    policy_ids = [f"sha256:{expected.policy_digest.hex()}"]
    demanded = (
        _MEDIA_TYPE,
        8,
        601,
        1,
        not_after,
        expected.nonce,
        spki,
        policy_ids,
        expected.debug,
        expected.application_sha256,
        expected.simulated,
    )
    if found != demanded:
        _refuse("claims")


def _refuse(what: str) -> NoReturn:
    raise UnavailableError(Code.AUTHORITY_PROFILE, f"the finished certificate: {what}")
