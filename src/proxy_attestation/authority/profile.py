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

Extensions stand in the order of this table. A root certified by another root is like a root, but with pathLen 1 and
the other's AKI: one issuing CA follows it, and the name constraints hold on each way.
"""

import hashlib
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.hazmat import asn1
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from proxy_attestation.formats.csr import ID_PE_CMW
from proxy_attestation.formats.request import Names

ROOT_LIFETIME: Final = 3 * 365 * 24 * 3600
ISSUING_LIFETIME: Final = 90 * 24 * 3600
ISSUING_ROTATION: Final = 60 * 24 * 3600
"""Seconds after which a new issuing CA takes over."""
ISSUING_OVERLAP: Final = 7 * 24 * 3600
"""Seconds for which the new one is in the bundle before that."""
LEAF_LIFETIME_MAX: Final = 24 * 3600
BACKDATE: Final = 60
"""Seconds by which notBefore lies before now, for clients whose clocks are behind."""
ROOT_OVERLAP: Final = 30 * 24 * 3600
"""Seconds for which a new root is in the bundle before it signs."""
ROOT_PATH_LENGTH: Final = 2
"""One more than root and issuing CA need: an old root can sign its successor, which signs an issuing CA."""
CROSS_PATH_LENGTH: Final = 1
"""Of a root certified by another root."""
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


def _header(oid: x509.ObjectIdentifier, *, critical: bool) -> bytes:
    """Return what stands before the value in an Extension: the OID and, where critical, TRUE."""
    return asn1.encode_der(oid) + (b"\x01\x01\xff" if critical else b"")


def _standard(extension: x509.ExtensionType, *, critical: bool) -> bytes:
    return tlv(0x30, _header(extension.oid, critical=critical), tlv(0x04, extension.public_bytes()))


def _key_usage(*set_: str) -> bytes:
    bits = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return _standard(x509.KeyUsage(**{bit: bit in set_ for bit in bits}), critical=True)


_VERSION_3: Final = tlv(0xA0, b"\x02\x01\x02")
ECDSA_WITH_SHA256: Final = tlv(0x30, asn1.encode_der(x509.ObjectIdentifier("1.2.840.10045.4.3.2")))
EMPTY_NAME: Final = b"\x30\x00"
_NAMES_HEADER: Final = _header(x509.SubjectAlternativeName.oid, critical=True)
_CLAIMS_HEADER: Final = _header(ID_PE_CMW, critical=False)
_CA_USAGE: Final = _key_usage("key_cert_sign", "crl_sign")
_PURPOSES: Final = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
_LEAF_FIXED: Final = (
    _standard(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    + _key_usage("digital_signature")
    + _standard(_PURPOSES, critical=False)
)


def ca_name(trust_domain: str, role: str, organization: str | None) -> bytes:
    """Return the DER of ``O=<organization>, CN=<trust domain> Proxy Attestation <role>``, both UTF8String; O if any."""
    attributes = [x509.NameAttribute(NameOID.COMMON_NAME, f"{trust_domain} Proxy Attestation {role}")]
    if organization is not None:
        attributes.insert(0, x509.NameAttribute(NameOID.ORGANIZATION_NAME, organization))
    return x509.Name(attributes).public_bytes()


def key_identifier(spki: bytes) -> bytes:
    """Return the 20 bytes that name a P-256 key in SKI and AKI: RFC 7093 section 2, method 1 (SHA-256, truncated)."""
    # The content of the BIT STRING without its count of unused bits: the uncompressed point, the last 65 bytes.
    return hashlib.sha256(spki[-65:]).digest()[:20]


def new_serial(random: bytes) -> bytes:
    """Return 20 bytes of serial number with 159 random bits, from 20 random bytes."""
    return bytes((random[0] & 0x7F,)) + random[1:SERIAL_BYTES]


def ca_tbs(
    *,
    serial: bytes,
    issuer: bytes,
    subject: bytes,
    validity: tuple[int, int],
    spki: bytes,
    path_length: int,
    authority_key_id: bytes | None,
    permitted_dns: tuple[str, ...],
) -> bytes:
    """Return the to-be-signed bytes of a root, an issuing CA, or a root signed by its predecessor.

    Args:
        serial: 20 bytes, big-endian, the top bit clear.
        issuer: DER of the issuer's name.
        subject: DER of its own name.
        validity: notBefore and notAfter, seconds since the epoch.
        spki: DER of its key.
        path_length: how many CAs may follow.
        authority_key_id: the issuer's key identifier, or None in a self-signed root.
        permitted_dns: suffixes for a critical name constraint; empty for none.
    """
    extensions = _standard(x509.BasicConstraints(ca=True, path_length=path_length), critical=True) + _CA_USAGE
    extensions += _standard(x509.SubjectKeyIdentifier(key_identifier(spki)), critical=False)
    if authority_key_id is not None:
        extensions += authority_key(authority_key_id)
    if permitted_dns:
        permitted = [x509.DNSName(suffix) for suffix in permitted_dns]
        extensions += _standard(x509.NameConstraints(permitted, None), critical=True)
    return _tbs(serial, issuer, validity, subject=subject, spki=spki, extensions=extensions)


def leaf_tbs(
    *,
    serial: bytes,
    issuer: bytes,
    authority_key_id: bytes,
    validity: tuple[int, int],
    spki: bytes,
    names: Names,
    extension: bytes | None,
) -> bytes:
    """Return the to-be-signed bytes of a leaf.

    Args:
        serial: 20 bytes, big-endian, the top bit clear.
        issuer: DER of the issuing CA's name.
        authority_key_id: the issuing CA's key identifier, 20 bytes.
        validity: notBefore and notAfter, seconds since the epoch.
        spki: DER of its key.
        names: all of them.
        extension: the value of id-pe-cmw, or None for the proxy's own leaf.
    """
    extensions = _leaf_fixed(authority_key_id, names)
    if extension is not None:
        extensions += tlv(0x30, _CLAIMS_HEADER, tlv(0x04, extension))
    return _tbs(serial, issuer, validity, subject=EMPTY_NAME, spki=spki, extensions=extensions)


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
def _leaf_fixed(authority_key_id: bytes, names: Names) -> bytes:
    """Return the extensions that all leaves of one CA with the same names have in common."""
    # GeneralName (RFC 5280 section 4.2.1.6): dNSName [2], iPAddress [7], uniformResourceIdentifier [6].
    general = [tlv(0x82, name.encode("ascii")) for name in names.dns]
    general += [tlv(0x87, address) for address in names.ip]
    general += [tlv(0x86, uri.encode("ascii")) for uri in names.uri]
    # Critical because the subject is empty (same section).
    return _LEAF_FIXED + authority_key(authority_key_id) + tlv(0x30, _NAMES_HEADER, tlv(0x04, tlv(0x30, *general)))


def _tbs(
    serial: bytes, issuer: bytes, validity: tuple[int, int], *, subject: bytes, spki: bytes, extensions: bytes
) -> bytes:
    return tlv(
        0x30,
        _VERSION_3,
        asn1.encode_der(int.from_bytes(serial, "big")),
        ECDSA_WITH_SHA256,
        issuer,
        tlv(0x30, *map(_time, validity)),
        subject,
        spki,
        tlv(0xA3, tlv(0x30, extensions)),
    )


@lru_cache(maxsize=1024)
def _time(seconds: int) -> bytes:
    moment, short = datetime.fromtimestamp(seconds, UTC), seconds < _UTC_TIME_END
    return tlv(0x17 if short else 0x18, moment.strftime("%y%m%d%H%M%SZ" if short else "%Y%m%d%H%M%SZ").encode("ascii"))
