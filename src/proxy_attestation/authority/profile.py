"""The certificates of an authority, byte for byte (design: docs/protocol.md, "Certificates"; RFC 5280).

This builds finished to-be-signed bytes, because the ledger holds their digest before there is a signature. Nothing is
copied from a CSR but the key. Signatures are ecdsa-with-SHA256 by P-256 keys; `assemble` only puts them beside the
bytes. `check.py` reads the bytes of a leaf back before they are committed.

=================  ==========================  ==============================  =====================================
field              root                        issuing CA                      leaf (and the proxy's own TLS leaf)
=================  ==========================  ==============================  =====================================
subject            O, CN                       O, CN                           empty
basicConstraints   critical, CA, pathLen 2     critical, CA, pathLen 0         critical, not a CA
keyUsage           critical, keyCertSign and   critical, keyCertSign and       critical, digitalSignature
                   cRLSign                     cRLSign
extKeyUsage        -                           -                               serverAuth, clientAuth
SKI                yes                         yes                             -
AKI                -                           yes                             yes
nameConstraints    critical, permitted DNS     -                               -
subjectAltName     -                           -                               critical: DNS, IP, one URI
id-pe-cmw          -                           -                               the claims (not in the proxy's own)
=================  ==========================  ==============================  =====================================

Extensions stand in the order of this table.
"""

import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from proxy_attestation.formats.csr import ID_PE_CMW
from proxy_attestation.formats.request import Names

ROOT_LIFETIME: Final = 3 * 365 * 24 * 3600
ISSUING_LIFETIME: Final = 90 * 24 * 3600
ISSUING_ROTATION: Final = 60 * 24 * 3600
"""Seconds after which a new issuing CA takes over."""
LEAF_LIFETIME_MAX: Final = 24 * 3600
BACKDATE: Final = 60
"""Seconds by which notBefore lies before now, for clients whose clocks are behind."""
ROOT_PATH_LENGTH: Final = 2
"""One more than root and issuing CA need: an old root can sign its successor, which signs an issuing CA."""
SERIAL_BYTES: Final = 20

_UTC_TIME_END: Final = int(datetime(2050, 1, 1, tzinfo=UTC).timestamp())


def tlv(tag: int, *parts: bytes) -> bytes:
    """Encode one DER element with a one-byte tag."""
    content = b"".join(parts)
    length = len(content)
    if length < 0x80:
        return bytes((tag, length)) + content
    size = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(size))) + size + content


def _oid(dotted: str) -> bytes:
    first, second, *rest = (int(arc) for arc in dotted.split("."))
    content = bytearray((40 * first + second,))
    for arc in rest:
        groups = [(arc >> shift) & 0x7F for shift in range(0, max(arc.bit_length(), 1), 7)]
        content += bytes(group | 0x80 for group in groups[:0:-1]) + bytes(groups[:1])
    return tlv(0x06, bytes(content))


def _header(oid: x509.ObjectIdentifier, *, critical: bool) -> bytes:
    return _oid(oid.dotted_string) + (b"\x01\x01\xff" if critical else b"")


def _standard(extension: x509.ExtensionType, *, critical: bool) -> bytes:
    return tlv(0x30, _header(extension.oid, critical=critical), tlv(0x04, extension.public_bytes()))


def _key_usage(*, certificates: bool) -> bytes:
    usage = x509.KeyUsage(
        digital_signature=not certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certificates,
        crl_sign=certificates,
        encipher_only=False,
        decipher_only=False,
    )
    return _standard(usage, critical=True)


_VERSION_3: Final = tlv(0xA0, b"\x02\x01\x02")
ECDSA_WITH_SHA256: Final = tlv(0x30, _oid("1.2.840.10045.4.3.2"))
EMPTY_NAME: Final = b"\x30\x00"
# What stands before the value in an Extension: the OID and, where critical, TRUE.
_NAMES_HEADER: Final = _header(x509.SubjectAlternativeName.oid, critical=True)
_CLAIMS_HEADER: Final = _header(ID_PE_CMW, critical=False)
_CA_USAGE: Final = _key_usage(certificates=True)
_LEAF_FIXED: Final = (
    _standard(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    + _key_usage(certificates=False)
    + _standard(
        x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
        critical=False,
    )
)


@dataclass(frozen=True, slots=True)
class CaProfile:
    """A CA certificate to be: a root, an issuing CA, or a root signed by its predecessor.

    Attributes:
        serial: 20 bytes, big-endian, the top bit clear.
        issuer: DER of the issuer's name.
        subject: DER of its own name.
        not_before: seconds since the epoch.
        not_after: seconds since the epoch.
        spki: DER of its key.
        path_length: how many CAs may follow.
        authority_key_id: the issuer's key identifier, or None in a self-signed root.
        permitted_dns: suffixes for a critical name constraint; empty for none.
    """

    serial: bytes
    issuer: bytes
    subject: bytes
    not_before: int
    not_after: int
    spki: bytes
    path_length: int
    authority_key_id: bytes | None
    permitted_dns: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LeafProfile:
    """A leaf to be.

    Attributes:
        serial: 20 bytes, big-endian, the top bit clear.
        issuer: DER of the issuing CA's name.
        authority_key_id: the issuing CA's key identifier, 20 bytes.
        not_before: seconds since the epoch.
        not_after: seconds since the epoch.
        spki: DER of its key.
        names: all of them.
        claims_extension: the value of id-pe-cmw, or None for the proxy's own leaf.
    """

    serial: bytes
    issuer: bytes
    authority_key_id: bytes
    not_before: int
    not_after: int
    spki: bytes
    names: Names
    claims_extension: bytes | None


def ca_name(trust_domain: str, role: str, organization: str) -> bytes:
    """Return the DER of ``O=<organization>, CN=<trust domain> Proxy Attestation <role>``, both UTF8String."""
    attributes = [
        x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization),
        x509.NameAttribute(NameOID.COMMON_NAME, f"{trust_domain} Proxy Attestation {role}"),
    ]
    return x509.Name(attributes).public_bytes()


def key_identifier(spki: bytes) -> bytes:
    """Return the 20 bytes that name a P-256 key in SKI and AKI: RFC 7093 section 2, method 1 (SHA-256, truncated)."""
    # The content of the BIT STRING without its count of unused bits: the uncompressed point, the last 65 bytes.
    return hashlib.sha256(spki[-65:]).digest()[:20]


def new_serial(random: bytes) -> bytes:
    """Return 20 bytes of serial number with 159 random bits, from 20 random bytes."""
    return bytes((random[0] & 0x7F,)) + random[1:SERIAL_BYTES]


def ca_tbs(profile: CaProfile) -> bytes:
    """Return the to-be-signed bytes of a CA certificate."""
    constraints = x509.BasicConstraints(ca=True, path_length=profile.path_length)
    extensions = [
        _standard(constraints, critical=True),
        _CA_USAGE,
        _standard(x509.SubjectKeyIdentifier(key_identifier(profile.spki)), critical=False),
    ]
    if profile.authority_key_id is not None:
        extensions.append(authority_key(profile.authority_key_id))
    if profile.permitted_dns:
        permitted = [x509.DNSName(suffix) for suffix in profile.permitted_dns]
        extensions.append(_standard(x509.NameConstraints(permitted, None), critical=True))
    return _tbs(profile, profile.subject, b"".join(extensions))


def leaf_tbs(profile: LeafProfile) -> bytes:
    """Return the to-be-signed bytes of a leaf."""
    extensions = _LEAF_FIXED + authority_key(profile.authority_key_id) + _alternative_names(profile.names)
    if profile.claims_extension is not None:
        extensions += tlv(0x30, _CLAIMS_HEADER, tlv(0x04, profile.claims_extension))
    return _tbs(profile, EMPTY_NAME, extensions)


def assemble(tbs: bytes, signature: bytes) -> bytes:
    """Return the DER of a certificate.

    Args:
        tbs: the to-be-signed bytes, which go in unchanged.
        signature: DER of the ECDSA signature over them.
    """
    return tlv(0x30, tbs, ECDSA_WITH_SHA256, tlv(0x03, b"\x00", signature))


@lru_cache(maxsize=64)
def authority_key(key_id: bytes) -> bytes:
    """Return the DER of the AKI extension."""
    return _standard(x509.AuthorityKeyIdentifier(key_id, None, None), critical=False)


@lru_cache(maxsize=1024)
def _alternative_names(names: Names) -> bytes:
    # GeneralName (RFC 5280 section 4.2.1.6): dNSName [2], iPAddress [7], uniformResourceIdentifier [6].
    general = [tlv(0x82, name.encode("ascii")) for name in names.dns]
    general += [tlv(0x87, address) for address in names.ip]
    general += [tlv(0x86, uri.encode("ascii")) for uri in names.uri]
    # Critical because the subject is empty (same section).
    return tlv(0x30, _NAMES_HEADER, tlv(0x04, tlv(0x30, *general)))


def _tbs(profile: CaProfile | LeafProfile, subject: bytes, extensions: bytes) -> bytes:
    return tlv(
        0x30,
        _VERSION_3,
        _integer(profile.serial),
        ECDSA_WITH_SHA256,
        profile.issuer,
        tlv(0x30, _time(profile.not_before), _time(profile.not_after)),
        subject,
        profile.spki,
        tlv(0xA3, tlv(0x30, extensions)),
    )


def _integer(value: bytes) -> bytes:
    # DER wants the shortest form; a byte of zeros stays where the next one has its top bit set.
    stripped = value.lstrip(b"\x00") or b"\x00"
    return tlv(0x02, b"\x00" + stripped if stripped[0] & 0x80 else stripped)


@lru_cache(maxsize=1024)
def _time(seconds: int) -> bytes:
    moment = datetime.fromtimestamp(seconds, UTC)
    if seconds < _UTC_TIME_END:
        return tlv(0x17, moment.strftime("%y%m%d%H%M%SZ").encode("ascii"))
    return tlv(0x18, moment.strftime("%Y%m%d%H%M%SZ").encode("ascii"))
