"""Evidence inside X.509 certificates, and what it must say for being about the certificate's key.

The places that are read, in the order in which they are returned:

    where                                          evidence                 bound by
    0.6.9.42.840.113741.1337.6   Gramine           quote                    SHA-256(SPKI)
    1.2.840.113741.1337.6        Intel RA-TLS      quote                    SHA-256(SPKI)
    2.23.133.5.4.9               CCC, DICE         60000([quote, claims])   SHA-256(claims), and claims name the SPKI
    1.2.840.113741.1.13.1        Intel SGX SDK     quote                    SHA-256(SPKI)
    1.3.6.1.5.5.7.1.35           id-pe-cmw         our evidence record      SHA-256(SPKI); Nitro: as below
    subjectAltName, a DNS name   Nitro             document in hex          public_key or user_data = SPKI

SPKI is the DER of the certificate's whole SubjectPublicKeyInfo. A digest stands in the first 32 bytes of the report
data, and the other 32 are zero. Claims are a CBOR map with `pubkey-hash`, a byte string that holds ``[1, SHA-256]``,
``[7, SHA-384]`` or ``[8, SHA-512]`` over the SPKI; other keys in it are left alone. Gramine's object identifier is
what stands on the wire: its constant has a DER header in it.

Sources: the CCC's interoperable RA-TLS; RFC 9999 (CMW); Intel, Gramine and Evervault as their certificates show.
Other bindings occur and are refused: Intel's SDK hashed the key's PEM text before it had claims, and hashes claims with
SHA-384 in TDs; dstack hashes a label in front of the SPKI; MarbleRun hashes the whole certificate.

Some of these certificates are such that `cryptography` does not load them, so they are taken apart here as far as
needed. Their signature is not verified: it says no more than that the key's holder made them, and that is what a TLS
handshake shows.
"""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Final

import cbor2
from cryptography import x509
from cryptography.hazmat import asn1

from proxy_attestation.codes import Code
from proxy_attestation.errors import AppraisalError, FormatError
from proxy_attestation.formats import cbor
from proxy_attestation.formats.bounds import QUOTE_MAX
from proxy_attestation.formats.csr import ID_PE_CMW
from proxy_attestation.formats.evidence import decode_evidence
from proxy_attestation.formats.nitro import DOCUMENT_MAX
from proxy_attestation.formats.pem import CERTIFICATE, decode_pem, is_pem
from proxy_attestation.formats.values import as_bytes, as_list

CERTIFICATE_MAX: Final = 2 * QUOTE_MAX + 32 * 1024
EXTENSIONS_MAX: Final = 64
_CLAIMS_MAX: Final = 4096
_TEE_QUOTE: Final = 60000
"""CBOR tag of an SGX or TDX quote; 60001 (a TEE report) and 60002 (an old SGX report) are good on one machine only."""
_SGX_QUOTE_3: Final = b"\x03\x00\x02\x00"
_NITRO_HEX: Final = (b"8444a1013822a0", b"d28444a1013822")
_DNS_NAME: Final = b"\x82"
_NAMES_MAX: Final = 2 * DOCUMENT_MAX + 4096
_HASHES: Final = {1: hashlib.sha256, 7: hashlib.sha384, 8: hashlib.sha512}
_SUBJECT_ALT_NAME: Final = x509.ObjectIdentifier("2.5.29.17")
_SEQUENCE: Final = b"\x30"


class Place(StrEnum):
    """Where in a certificate evidence stands."""

    GRAMINE = "gramine"
    INTEL = "intel-ra-tls"
    CCC = "ccc"
    SGX_SDK = "sgx-sdk"
    CMW = "cmw"
    NITRO = "nitro-name"


class Binding(StrEnum):
    """What evidence commits to, for being about the certificate's key."""

    SPKI = "sha256(SPKI)"
    CLAIMS = "sha256(claims)"
    KEY = "the SPKI itself"


@asn1.sequence
class _Extension:
    oid: x509.ObjectIdentifier
    critical: bool | None  # FALSE is written in some, which DER forbids; nothing here depends on it
    value: bytes


@asn1.sequence
class _Tbs:
    version: Annotated[int, asn1.Explicit(0)]
    serial: asn1.TLV
    algorithm: asn1.TLV
    issuer: asn1.TLV
    validity: asn1.TLV
    subject: asn1.TLV
    spki: asn1.TLV
    extensions: Annotated[list[_Extension], asn1.Explicit(3)]


@asn1.sequence
class _Certificate:
    tbs: _Tbs
    algorithm: asn1.TLV
    signature: asn1.BitString


@asn1.sequence
class _DiceCmw:
    cmw: bytes


@asn1.sequence
class _Outer:
    inner: asn1.TLV


@asn1.sequence
class _GeneralNames:
    names: list[asn1.TLV]  # a SEQUENCE OF can be read as a field only: `_Outer` puts a SEQUENCE around it


@dataclass(frozen=True, slots=True)
class EmbeddedEvidence:
    """One piece of evidence out of a certificate.

    Attributes:
        place: where it stood.
        kind: `quote` (SGX or TDX, the quote says which), `nitro`, or another TEE's name from our own record.
        evidence: the vendor's own encoding.
        spki: the DER of the certificate's SubjectPublicKeyInfo.
        claims: the bytes of the CCC form's claims as received, or None.
        platform_certificates: DER, from our own record.
    """

    place: Place
    kind: str
    evidence: bytes
    spki: bytes
    claims: bytes | None = None
    platform_certificates: tuple[bytes, ...] = ()

    @property
    def binding(self) -> Binding:
        """The rule of its form."""
        if self.kind == "nitro":
            return Binding.KEY
        return Binding.SPKI if self.claims is None else Binding.CLAIMS

    @property
    def report_data(self) -> bytes:
        """The 64 bytes of report data that bind it to the certificate's key; of no meaning for Nitro."""
        return hashlib.sha256(self.spki if self.claims is None else self.claims).digest() + bytes(32)


def decode_ra_tls(data: bytes) -> tuple[EmbeddedEvidence, ...]:
    """Take all evidence out of a certificate; at least one piece.

    Args:
        data: DER or PEM of one certificate.

    Raises:
        FormatError: `ra_tls.malformed`, `ra_tls.no_evidence`, `ra_tls.unknown`; for our own record also `evidence.*`.
        AppraisalError: `ra_tls.claims`, where the claims beside a quote are about another key.
    """
    tbs, spki = _decode(data)
    extensions = {extension.oid: bytes(extension.value) for extension in tbs.extensions}
    if tbs.version != 2 or not len(extensions) == len(tbs.extensions) <= EXTENSIONS_MAX:
        raise FormatError(Code.RA_TLS_MALFORMED, "another version than 3, an extension twice, or too many")
    found: list[EmbeddedEvidence] = []
    for oid, read in _READERS.items():
        if oid in extensions:
            found.extend(read(extensions[oid], spki))
    # Intel's SDK puts one quote in two places; what binds it is said in the other one.
    quotes = {piece.evidence for piece in found if piece.place is Place.CCC}
    found = [piece for piece in found if piece.place is not Place.SGX_SDK or piece.evidence not in quotes]
    if not found:
        raise FormatError(Code.RA_TLS_NO_EVIDENCE, "no extension with evidence that we know")
    return tuple(found)


def require_bound(piece: EmbeddedEvidence, bound: tuple[bytes, ...]) -> None:
    """Check that evidence is about the certificate's key.

    Args:
        piece: out of a certificate.
        bound: what the evidence commits to, as its decoder says: (report data, 64 bytes), or for Nitro (nonce, public
            key, user data).

    Raises:
        AppraisalError: `ra_tls.binding`.
    """
    good = piece.spki in bound[1:] if piece.binding is Binding.KEY else bound == (piece.report_data,)
    if not good:
        raise AppraisalError(Code.RA_TLS_BINDING, f"the evidence at {piece.place} is not about the certificate's key")


def _decode(data: bytes) -> tuple[_Tbs, bytes]:
    if is_pem(data):
        (data,) = decode_pem(data, CERTIFICATE, Code.RA_TLS_MALFORMED, count=1, limit=CERTIFICATE_MAX)
    if len(data) > CERTIFICATE_MAX:
        raise FormatError(Code.RA_TLS_MALFORMED, f"a certificate of {len(data)} bytes")
    try:
        tbs = asn1.decode_der(_Certificate, data).tbs
        return tbs, asn1.encode_der(tbs.spki)
    except ValueError as error:
        raise FormatError(Code.RA_TLS_MALFORMED, "not an X.509 certificate") from error


def _raw(place: Place) -> Callable[[bytes, bytes], Iterator[EmbeddedEvidence]]:
    def read(value: bytes, spki: bytes) -> Iterator[EmbeddedEvidence]:
        # In a PCK certificate the SDK's identifier has quite another meaning; that one begins as DER does.
        if place is not Place.SGX_SDK or value.startswith(_SGX_QUOTE_3):
            yield EmbeddedEvidence(place, "quote", as_bytes(value, Code.RA_TLS_MALFORMED, 1, QUOTE_MAX), spki)

    return read


def _ccc(value: bytes, spki: bytes) -> Iterator[EmbeddedEvidence]:
    code = Code.RA_TLS_MALFORMED
    if value.startswith(_SEQUENCE):
        try:
            value = bytes(asn1.decode_der(_DiceCmw, value).cmw)
        except ValueError as error:
            raise FormatError(code, "no ConceptualMessageWrapper") from error
    item = cbor.decode_foreign(value, code, QUOTE_MAX + _CLAIMS_MAX + 16)
    if not isinstance(item, cbor2.CBORTag) or item.tag != _TEE_QUOTE:
        raise FormatError(Code.RA_TLS_UNKNOWN, f"evidence without CBOR tag {_TEE_QUOTE}")
    quote, claims = as_list(item.value, code, 2, 2)
    as_bytes(claims, code, 1, _CLAIMS_MAX)
    held = cbor.decode_foreign(claims, code, _CLAIMS_MAX)
    key_hash = as_bytes(held.get("pubkey-hash") if isinstance(held, dict) else None, code, 1, 128)
    algorithm, digest = as_list(cbor.decode_foreign(key_hash, code, 128), code, 2, 2)
    make = _HASHES.get(algorithm) if type(algorithm) is int else None
    if make is None or digest != make(spki).digest():
        raise AppraisalError(Code.RA_TLS_CLAIMS, "pubkey-hash is not a hash of the certificate's key")
    yield EmbeddedEvidence(Place.CCC, "quote", as_bytes(quote, code, 1, QUOTE_MAX), spki, claims)


def _cmw(value: bytes, spki: bytes) -> Iterator[EmbeddedEvidence]:
    # CMW ::= CHOICE { json UTF8String, cbor OCTET STRING }
    try:
        record = asn1.decode_der(bytes, value)
    except ValueError as error:
        raise FormatError(Code.RA_TLS_UNKNOWN, "the CBOR form of a CMW was expected") from error
    evidence = decode_evidence(bytes(record))
    kind = "quote" if evidence.tee in ("sgx", "tdx") else str(evidence.tee)
    yield EmbeddedEvidence(
        Place.CMW, kind, evidence.evidence, spki, platform_certificates=evidence.platform_certificates
    )


def _names(value: bytes, spki: bytes) -> Iterator[EmbeddedEvidence]:
    if len(value) > _NAMES_MAX:
        raise FormatError(Code.RA_TLS_MALFORMED, f"a subjectAltName of {len(value)} bytes")
    try:
        wrapped = asn1.encode_der(_Outer(inner=asn1.decode_der(asn1.TLV, value)))
        names = asn1.decode_der(_GeneralNames, wrapped).names
        found = [bytes(name.data) for name in names if name.tag_bytes == _DNS_NAME]
        held = [name for name in found if name.startswith(_NITRO_HEX)]
        documents = [bytes.fromhex(name.split(b".", 1)[0].decode("ascii")) for name in held]
    except ValueError as error:
        raise FormatError(Code.RA_TLS_MALFORMED, "subjectAltName, or a Nitro document in it that is no hex") from error
    return (EmbeddedEvidence(Place.NITRO, "nitro", document, spki) for document in documents)


_READERS: Final[dict[x509.ObjectIdentifier, Callable[[bytes, bytes], Iterator[EmbeddedEvidence]]]] = {
    x509.ObjectIdentifier("0.6.9.42.840.113741.1337.6"): _raw(Place.GRAMINE),
    x509.ObjectIdentifier("1.2.840.113741.1337.6"): _raw(Place.INTEL),
    x509.ObjectIdentifier("2.23.133.5.4.9"): _ccc,
    x509.ObjectIdentifier("1.2.840.113741.1.13.1"): _raw(Place.SGX_SDK),
    ID_PE_CMW: _cmw,
    _SUBJECT_ALT_NAME: _names,
}
