"""What is this file? Told by content, then handed to the module that makes a tree of it."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from cryptography import x509

from proxy_attestation.cli.evidence_file import from_text
from proxy_attestation.cli.inspecting.certificates import certificate_tree, claims_tree, crl_tree
from proxy_attestation.cli.inspecting.collateral import piece_tree
from proxy_attestation.cli.inspecting.kinds import nitro_tree, record_tree, snp_tree, tpm_tree
from proxy_attestation.cli.inspecting.quotes import quote_tree
from proxy_attestation.cli.inspecting.requests import csr_tree, request_tree
from proxy_attestation.cli.inspecting.tree import Node
from proxy_attestation.codes import Code
from proxy_attestation.endorsements import detect as collateral
from proxy_attestation.errors import FormatError
from proxy_attestation.formats import cmw, ear, pem
from proxy_attestation.formats.bounds import CERTIFICATE_MAX, COLLATERAL_DOCUMENT_MAX, MESSAGE_MAX
from proxy_attestation.formats.csr import decode_csr
from proxy_attestation.formats.dcap_quote import decode_quote
from proxy_attestation.formats.nitro import decode_nitro, looks_like_nitro
from proxy_attestation.formats.request import decode_request
from proxy_attestation.formats.snp_report import decode_snp_report, looks_like_snp_report
from proxy_attestation.formats.tpm_evidence import decode_tpm, looks_like_tpm

_CBOR_ARRAY_OF_3: Final = b"\x83"
_CBOR_MAP_OF_5: Final = b"\xa5"
_DER_SEQUENCE: Final = b"\x30"
_CSR_LABELS: Final = (b"-----BEGIN CERTIFICATE REQUEST-----", b"-----BEGIN NEW CERTIFICATE REQUEST-----")
_CHAIN_MAX: Final = 16


@dataclass(frozen=True, slots=True)
class Content:
    """What a file holds.

    Attributes:
        kind: for people and in JSON.
        nodes: the tree.
    """

    kind: str
    nodes: tuple[Node, ...]


def read_content(data: bytes) -> Content:
    """Tell what a file is and make a tree of it.

    Raises:
        FormatError: `input.unknown` for content that is nothing known, and the codes of the format that it is of.
        AppraisalError: for evidence of a kind that is not read, as its decoder says.
    """
    with warnings.catch_warnings():
        # Names longer than X.520 allows: `cryptography` reads them and warns.
        warnings.simplefilter("ignore", UserWarning)
        return _content(data)


def _content(data: bytes) -> Content:
    if data.lstrip()[:1] == b"{":
        return _json(data)
    if pem.is_pem(data):
        return _pem(data)
    raw = from_text(data)
    first = raw[:1]
    if first == _DER_SEQUENCE:
        return _der(raw)
    if looks_like_tpm(raw):
        return Content("TPM quote", tpm_tree(decode_tpm(raw)))
    if looks_like_nitro(raw):
        return Content("nitro document", nitro_tree(decode_nitro(raw)))
    if first == _CBOR_ARRAY_OF_3:
        return _record(raw)
    if first == _CBOR_MAP_OF_5:
        return Content("request", request_tree(decode_request(raw), raw))
    if looks_like_snp_report(raw):
        return Content("snp report", snp_tree(decode_snp_report(raw)))
    try:
        quote = decode_quote(raw)
    except FormatError as error:
        if error.code is Code.EVIDENCE_UNKNOWN:
            raise _unknown() from error
        raise
    return Content(f"{quote.tee} quote", quote_tree(quote))


def _json(data: bytes) -> Content:
    held = collateral.detect(data, "JSON")
    if isinstance(held, collateral.Bundle):
        pieces = [(Node("kind", str(piece.kind)), *piece_tree(piece)) for piece in held.pieces]
        return Content("bundle of collateral", (Node("pieces", pieces),))
    return Content(str(held[0].kind), piece_tree(held[0]))


def _pem(data: bytes) -> Content:
    if data.lstrip().startswith(_CSR_LABELS):
        return Content("certification request", csr_tree(decode_csr(data)))
    if b"-----BEGIN X509 CRL-----" in data:
        (der,) = pem.decode_pem(data, pem.CRL, Code.INPUT_UNKNOWN, count=1, limit=COLLATERAL_DOCUMENT_MAX)
        return _crl(der)
    chain = pem.decode_pem(data, pem.CERTIFICATE, Code.INPUT_UNKNOWN, count=_CHAIN_MAX, limit=CERTIFICATE_MAX)
    if len(chain) == 1:
        return Content("certificate", certificate_tree(chain[0]))
    return Content("certificate chain", (Node("certificates", [certificate_tree(der) for der in chain]),))


def _der(data: bytes) -> Content:
    readers: tuple[tuple[Callable[[bytes], Content], Code], ...] = (
        (lambda der: Content("certificate", certificate_tree(der)), Code.INPUT_UNKNOWN),
        (_crl, Code.INPUT_UNKNOWN),
        (lambda der: Content("certification request", csr_tree(decode_csr(der))), Code.CSR_MALFORMED),
    )
    for reader, not_this in readers:
        try:
            return reader(data)
        except FormatError as error:
            if error.code is not not_this:
                raise
    raise _unknown()


def _crl(der: bytes) -> Content:
    try:
        crl = x509.load_der_x509_crl(der)
    except (ValueError, x509.InvalidVersion) as error:
        raise _unknown() from error
    return Content("certificate revocation list", crl_tree(crl))


def _record(data: bytes) -> Content:
    record = cmw.decode_cmw(data, Code.INPUT_UNKNOWN, MESSAGE_MAX)
    if record.media_type == ear.MEDIA_TYPE:
        return Content("attestation claims", claims_tree(ear.decode_claims_set(record.value)))
    return Content("evidence record", record_tree(data))


def _unknown() -> FormatError:
    return FormatError(Code.INPUT_UNKNOWN, "no certificate, request, quote, record or collateral that is known here")
