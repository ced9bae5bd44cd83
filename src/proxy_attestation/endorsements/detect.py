"""What is this file? Intel collateral told apart by content: bytes in, pieces out. No I/O, nothing verified.

Known: the PCS documents (JSON with `tcbInfo` or `enclaveIdentity`), certificates and chains (PEM, also URL-encoded as
PCS response headers carry them, or one DER certificate), CRLs (DER, PEM, or DER as hex or base64 text), and a bundle:
one JSON object with the field names of Intel's `sgx_ql_qve_collateral_t`, whose documents may also be the inner object
with the signature beside it. A file's name decides nothing; it is kept for messages and for `load.py`'s one tie-break.
"""

import binascii
import json
import re
import urllib.parse
import warnings
from base64 import b64decode
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from cryptography import x509
from cryptography.x509.oid import NameOID

from proxy_attestation.codes import Code
from proxy_attestation.endorsements.texts import without_marks, without_remarks
from proxy_attestation.errors import FormatError
from proxy_attestation.formats import pem
from proxy_attestation.formats.bounds import COLLATERAL_DOCUMENT_MAX, ENDORSEMENT_BUNDLE_MAX

CHAIN_MAX: Final = 16
"""Certificates in one file. A PCK chain has three."""
# A TypeError: a name whose string type does not fit its attribute.
_UNREADABLE: Final = (ValueError, TypeError, UserWarning, x509.InvalidVersion)
_HEX: Final = re.compile(r"(?:[0-9A-Fa-f]{2})+")
_SIGNATURE: Final = re.compile(r"[0-9A-Fa-f]{128}")


class Kind(StrEnum):
    """What a piece is. TCB info and QE identity may share a signing chain, so that is one kind."""

    TCB_INFO = "TCB info"
    QE_IDENTITY = "QE identity"
    ROOT_CA_CRL = "root CA CRL"
    PCK_CRL = "PCK CRL"
    TCB_SIGNING = "TCB signing certificate"
    PCK_CA = "PCK CA certificate"
    PCK_LEAF = "PCK certificate"
    ROOT = "root certificate"


@dataclass(frozen=True, slots=True)
class Piece:
    """One piece of collateral.

    Attributes:
        kind: what it is.
        data: a JSON document's exact bytes, or the DER of a certificate or CRL.
        source: where it was found, for messages.
    """

    kind: Kind
    data: bytes
    source: str


@dataclass(frozen=True, slots=True)
class Bundle:
    """The pieces of one JSON object that holds a whole set.

    Attributes:
        pieces: what it holds, in the order of its members.
    """

    pieces: tuple[Piece, ...]


_DOCUMENTS: Final = {"tcb_info": (Kind.TCB_INFO, "tcbInfo"), "qe_identity": (Kind.QE_IDENTITY, "enclaveIdentity")}
_CHAINS: Final = ("tcb_info_issuer_chain", "qe_identity_issuer_chain", "pck_crl_issuer_chain", "pck_certificate_chain")
_CRLS: Final = ("pck_crl", "root_ca_crl")
_SIGNATURES: Final = ("tcb_info_signature", "qe_identity_signature")
_REMARKS: Final = ("version", "major_version", "minor_version", "tee_type")
_FIELDS: Final = frozenset((*_DOCUMENTS, *_CHAINS, *_CRLS, *_SIGNATURES, *_REMARKS))

_SIZE: Final = "_size"
"""Members of Intel's own structure that say how long another one is."""


def detect(data: bytes, source: str) -> Bundle | tuple[Piece, ...]:
    """Tell what a file holds.

    Args:
        data: the whole file.
        source: its name, for messages.

    Returns:
        A bundle, or the one or more pieces of another file: a chain is one piece for each certificate.

    Raises:
        FormatError: `endorsements.malformed`, for content that is none of the above, or too large.
    """
    if len(data) > ENDORSEMENT_BUNDLE_MAX:
        raise _malformed(source, f"{len(data)} bytes, at most {ENDORSEMENT_BUNDLE_MAX} allowed")
    data = without_marks(data)
    if data.lstrip()[:1] == b"{":
        try:
            return _json(data, source)
        except UnicodeEncodeError as error:  # half of a surrogate pair, which JSON can escape and UTF-8 cannot hold
            raise _malformed(source, "text that is no Unicode") from error
    return _binary_or_pem(data, source)


def _json(data: bytes, source: str) -> Bundle | tuple[Piece, ...]:
    value = {name: item for name, item in _object(data, source).items() if not name.endswith(_SIZE)}
    for kind, member in _DOCUMENTS.values():
        if member in value:
            return (_document(kind, data, source),)
    if not set(value) & (_FIELDS - set(_REMARKS)):
        raise _malformed(source, "JSON, but neither a PCS document nor a bundle of collateral")
    unknown = sorted(set(value) - _FIELDS)
    if unknown:
        raise _malformed(source, f"a bundle with the unknown field {unknown[0][:64]!r}")
    pieces: list[Piece] = []
    for name, item in value.items():
        where = f"{source}: {name}"
        if name in _REMARKS or item is None:
            continue
        item = _spelled(item)  # noqa: PLW2901 - in whichever way it was written
        if not isinstance(item, str) or not item.removesuffix("\0"):
            raise _malformed(where, "text was expected")
        item = item.removesuffix("\0")  # noqa: PLW2901 - Intel's structure counts the final NUL of its strings
        if name in _DOCUMENTS:
            kind, member = _DOCUMENTS[name]
            document = _whole_document(item, _spelled(value.get(f"{name}_signature")), member, where)
            pieces.append(_document(kind, document, where))
        elif name not in _SIGNATURES:
            pieces.extend(_binary_or_pem(item.encode(), where))
        elif value.get(name.removesuffix("_signature")) is None:
            raise _malformed(where, "a signature without its document")
    return Bundle(tuple(pieces))


def _spelled(item: object) -> object:
    """Return bytes that are written as a list of numbers, as Rust's serde does by default, in hex."""
    if isinstance(item, list) and all(type(number) is int and 0 <= number <= 0xFF for number in item):
        return bytes(item).hex()
    return item


def _object(data: bytes, source: str) -> dict[str, object]:
    try:
        value = json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise _malformed(source, "not JSON in UTF-8") from error
    if not isinstance(value, dict):
        raise _malformed(source, "a JSON object was expected")
    return value


def _document(kind: Kind, data: bytes, source: str) -> Piece:
    if len(data) > COLLATERAL_DOCUMENT_MAX:
        raise _malformed(source, f"{len(data)} bytes, at most {COLLATERAL_DOCUMENT_MAX} allowed")
    return Piece(kind, data, source)


def _whole_document(text: str, signature: object, member: str, source: str) -> bytes:
    """Return the signed document: the text itself, or the inner object and its signature put together as PCS does."""
    value = _object(text.encode(), source)
    if member in value:
        if signature is not None and signature != value.get("signature"):
            raise _malformed(source, "the signature beside the document is not the one in it")
        return text.encode()
    if not isinstance(signature, str) or not _SIGNATURE.fullmatch(signature):
        raise _malformed(source, "the inner object alone; its signature of 128 hex digits was expected beside it")
    # The text stands in the document byte for byte: the signature covers it.
    return f'{{"{member}":{text},"signature":"{signature}"}}'.encode()


def _binary_or_pem(data: bytes, source: str) -> tuple[Piece, ...]:
    if len(data) > COLLATERAL_DOCUMENT_MAX:
        raise _malformed(source, f"{len(data)} bytes, at most {COLLATERAL_DOCUMENT_MAX} allowed")
    if b"-----BEGIN%20" in data:
        data = urllib.parse.unquote_to_bytes(data)
    data = without_remarks(data)
    if pem.is_pem(data):
        return _pem(data, source)
    return (_der(from_text(data), source),)


def _pem(data: bytes, source: str) -> tuple[Piece, ...]:
    label = pem.CRL if b"-----BEGIN X509 CRL-----" in data else pem.CERTIFICATE
    try:
        blocks = pem.decode_pem(
            data, label, Code.ENDORSEMENTS_MALFORMED, count=CHAIN_MAX, limit=COLLATERAL_DOCUMENT_MAX
        )
    except FormatError as error:
        raise _malformed(source, error.detail) from error
    return tuple(_der(block, source) for block in blocks)


def from_text(data: bytes) -> bytes:
    """Return the DER that hex or base64 text spells, or the bytes themselves where they are no text."""
    if data[:1] == b"\x30" and data[1:2] >= b"\x80":
        return data
    try:
        text = "".join(data.decode("ascii").split())
        return bytes.fromhex(text) if _HEX.fullmatch(text) else b64decode(text, validate=True)
    except (UnicodeDecodeError, binascii.Error, ValueError):
        return data


def _der(data: bytes, source: str) -> Piece:
    certificate = load_certificate(data)
    if certificate is not None:
        return Piece(_certificate_kind(certificate, source), data, source)
    try:
        with _strict_names():
            issuer = common_name(x509.load_der_x509_crl(data).issuer)
    except _UNREADABLE as error:
        raise _malformed(source, "neither a PCS document, a bundle, a certificate nor a CRL") from error
    if "PCK" in issuer:
        return Piece(Kind.PCK_CRL, data, source)
    if "Root CA" in issuer:
        return Piece(Kind.ROOT_CA_CRL, data, source)
    raise _malformed(source, f"a CRL of {issuer[:64]!r}, which is neither a root CA nor a PCK CA")


def load_certificate(data: bytes) -> x509.Certificate | None:
    """Read a DER certificate with both its names, or return None where the bytes are none."""
    try:
        with _strict_names():
            certificate = x509.load_der_x509_certificate(data)
            # The names are parsed when they are first read: do it here, where a failure has its place.
            _ = certificate.subject, certificate.issuer, certificate.not_valid_after_utc
    except _UNREADABLE:
        return None
    return certificate


@contextmanager
def _strict_names() -> Iterator[None]:
    """Make an error of the warning that `cryptography` gives for a name that is longer than X.520 allows."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        yield


def _certificate_kind(certificate: x509.Certificate, source: str) -> Kind:
    name = common_name(certificate.subject)
    if "TCB Signing" in name:
        return Kind.TCB_SIGNING
    if "PCK Certificate" in name:
        return Kind.PCK_LEAF
    if "PCK" in name and name.endswith("CA"):
        return Kind.PCK_CA
    if "Root CA" in name:
        return Kind.ROOT
    raise _malformed(source, f"a certificate of {name[:64]!r}, which has no place in Intel's collateral")


def common_name(name: x509.Name) -> str:
    """Return the first common name of a distinguished name, or an empty string where it has none as text."""
    for attribute in name.get_attributes_for_oid(NameOID.COMMON_NAME):
        if isinstance(attribute.value, str):
            return attribute.value
    return ""


def _malformed(source: str, detail: str) -> FormatError:
    return FormatError(Code.ENDORSEMENTS_MALFORMED, f"{source}: {detail}")
