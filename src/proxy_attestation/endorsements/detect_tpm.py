"""What is this file? The pieces of TPM evidence told apart by content, and put together. No I/O, nothing verified.

Known: a public key (PEM or DER), a TPMT_PUBLIC or TPM2B_PUBLIC, a TPMT_SIGNATURE or the bare value of one, PCR values
(JSON by bank and index, the file that `tpm2_quote -o` writes, or what `tpm2_pcrread` prints), an event log,
certificates (PEM, or one DER), and an HCL report with a TD quote beside it. Binary ones may be in hex or base64.
"""

import json
import re
import struct
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from proxy_attestation.appraisal.tpm import TpmEndorsements
from proxy_attestation.codes import Code
from proxy_attestation.endorsements.detect import from_text
from proxy_attestation.endorsements.texts import without_remarks
from proxy_attestation.errors import AppraisalError, FormatError
from proxy_attestation.formats import pem
from proxy_attestation.formats.azure_hcl import looks_like_hcl
from proxy_attestation.formats.binary import Reader
from proxy_attestation.formats.bounds import CERTIFICATE_MAX, EVENT_LOG_MAX, PLATFORM_CERTIFICATES_MAX
from proxy_attestation.formats.dcap_quote import decode_quote
from proxy_attestation.formats.event_log import decode_event_log
from proxy_attestation.formats.tee import Tee
from proxy_attestation.formats.tpm import decode_public, spki_of
from proxy_attestation.formats.tpm_codes import HASH_NAMES, HASH_SIZES, SIGNATURE_NAMES
from proxy_attestation.formats.tpm_evidence import TpmEvidence, select_values
from proxy_attestation.formats.values import as_hex

_CODE: Final = Code.ENDORSEMENTS_MALFORMED
_PUBLIC_KEYS: Final = (b"PUBLIC KEY", b"RSA PUBLIC KEY")
_PRINTED: Final = re.compile(rb"\s*(?:(sha(?:1|256|384|512))\s*:|(\d{1,2})\s*:\s*0x([0-9A-Fa-f]{40,128}))\s*", re.ASCII)
_RSA_SIGNATURES: Final = (256, 384, 512)
_SIGNATURE_MAX: Final = 600
_TOOLS_SELECTION: Final = struct.Struct("<I128s")
_TOOLS_DIGESTS: Final = struct.Struct("<I528s")
_TOOLS_LISTS_MAX: Final = 16
_PCRS: Final = range(32)


class TpmKind(StrEnum):
    """What a piece is."""

    AK_KEY = "public key"
    AK_PUBLIC = "public area"
    SIGNATURE = "signature"
    PCR_VALUES = "PCR values"
    EVENT_LOG = "event log"
    CERTIFICATES = "certificates"
    HCL_REPORT = "HCL report"
    TD_QUOTE = "TD quote"


@dataclass(frozen=True, slots=True)
class TpmPiece:
    """One piece.

    Attributes:
        kind: what it is.
        data: its bytes: SubjectPublicKeyInfo (DER), TPMT_PUBLIC, or as received; empty for values and certificates.
        banks: PCR values by hash and index.
        certificates: DER, in the file's order.
    """

    kind: TpmKind
    data: bytes = b""
    banks: Mapping[str, Mapping[int, bytes]] | None = None
    certificates: tuple[bytes, ...] = ()


def detect_tpm(data: bytes) -> TpmPiece | None:
    """Tell what a file's bytes are a piece of; None where they are nothing of a TPM's.

    Raises:
        FormatError: `endorsements.malformed`, for PEM or JSON that is meant as a piece and is none.
    """
    if len(data) > EVENT_LOG_MAX:
        return None
    data = without_remarks(data)
    if pem.is_pem(data):
        return _pem(data)
    if data.lstrip()[:1] == b"{":
        return _json_values(data)
    if printed := _printed_values(data):
        return TpmPiece(TpmKind.PCR_VALUES, banks=printed)
    data = data if looks_like_hcl(data) else from_text(data)
    if looks_like_hcl(data):
        return TpmPiece(TpmKind.HCL_REPORT, data)
    if data[:1] == b"\x30":
        return _der(data)
    return _binary(data)


def _pem(data: bytes) -> TpmPiece | None:
    for label in _PUBLIC_KEYS:
        if b"-----BEGIN %b-----" % label in data:
            (der,) = pem.decode_pem(data, label, _CODE, count=1, limit=CERTIFICATE_MAX)
            return _der(der)
    if b"-----BEGIN CERTIFICATE-----" not in data:
        return None
    count = PLATFORM_CERTIFICATES_MAX
    found = pem.decode_pem(data, pem.CERTIFICATE, _CODE, count=count, limit=CERTIFICATE_MAX)
    return TpmPiece(TpmKind.CERTIFICATES, certificates=found)


def _der(data: bytes) -> TpmPiece | None:
    with suppress(ValueError, TypeError, UnsupportedAlgorithm):
        key = serialization.load_der_public_key(data)
        if isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
            return TpmPiece(TpmKind.AK_KEY, spki_of(key))
        return None
    with suppress(ValueError, TypeError, UserWarning, x509.InvalidVersion):
        x509.load_der_x509_certificate(data)
        return TpmPiece(TpmKind.CERTIFICATES, certificates=(data,))
    return TpmPiece(TpmKind.SIGNATURE, data) if len(data) <= _SIGNATURE_MAX else None


def _printed_values(data: bytes) -> dict[str, dict[int, bytes]] | None:
    """Read what `tpm2_pcrread` prints: `sha256:`, below it lines such as `0 : 0xAB...`; None for anything else."""
    banks: dict[str, dict[int, bytes]] = {}
    bank, size = "", 0
    for line in data.splitlines():
        found = _PRINTED.fullmatch(line)
        if found is None and line.strip():
            return None
        if found is not None and found[1]:
            bank = found[1].decode()
            size = HASH_SIZES[bank]
            banks[bank] = {}
        elif found is not None:
            value = bytes.fromhex(found[3].decode()) if len(found[3]) == 2 * size else b""
            if not value or int(found[2]) not in _PCRS:
                return None
            banks[bank][int(found[2])] = value
    return banks if any(banks.values()) else None


def _json_values(data: bytes) -> TpmPiece | None:
    try:
        value: Any = json.loads(data.decode())
    except (ValueError, RecursionError) as error:
        raise FormatError(_CODE, "not JSON in UTF-8") from error
    if not isinstance(value, dict) or not value or not {name.lower() for name in value} <= HASH_SIZES.keys():
        return None
    banks: dict[str, dict[int, bytes]] = {}
    for name, values in value.items():
        bank = name.lower()
        if not isinstance(values, dict) or not values.keys() <= {str(index) for index in _PCRS}:
            raise FormatError(_CODE, f"PCR values of bank {bank} that are not by index")
        texts = {index: item.removeprefix("0x") if isinstance(item, str) else item for index, item in values.items()}
        banks[bank] = {int(index): as_hex(item, _CODE, HASH_SIZES[bank]) for index, item in texts.items()}
    return TpmPiece(TpmKind.PCR_VALUES, banks=banks)


def _binary(data: bytes) -> TpmPiece | None:
    public = data[2:] if int.from_bytes(data[:2]) == len(data) - 2 else data
    with suppress(FormatError, AppraisalError):
        return TpmPiece(TpmKind.AK_PUBLIC, decode_public(public).data)
    with suppress(FormatError):
        return TpmPiece(TpmKind.PCR_VALUES, banks=_tools_values(data))
    if len(data) in _RSA_SIGNATURES or (int.from_bytes(data[:2]) in SIGNATURE_NAMES and len(data) <= _SIGNATURE_MAX):
        return TpmPiece(TpmKind.SIGNATURE, data)
    with suppress(FormatError, AppraisalError):
        return TpmPiece(TpmKind.TD_QUOTE, data) if decode_quote(data).tee is Tee.TDX else None
    with suppress(FormatError):
        if decode_event_log(data).events:
            return TpmPiece(TpmKind.EVENT_LOG, data)
    return None


def _tools_values(data: bytes) -> dict[str, dict[int, bytes]]:
    """Read what `tpm2_quote -o` writes: the image of a TPML_PCR_SELECTION, u32 count, TPML_DIGESTs; little-endian."""
    reader = Reader(data, _CODE, "little")
    count, selections = _TOOLS_SELECTION.unpack(reader.take(_TOOLS_SELECTION.size))
    lists = reader.uint(4)
    if count > _TOOLS_LISTS_MAX or lists > _TOOLS_LISTS_MAX:
        raise reader.fail(f"{count} banks, {lists} lists")
    values: list[bytes] = []
    for _ in range(lists):
        number, digests = _TOOLS_DIGESTS.unpack(reader.take(_TOOLS_DIGESTS.size))
        inner = Reader(digests, _CODE, "little")
        values += [inner.take(66) for _ in range(number)]
    reader.end()
    banks: dict[str, dict[int, bytes]] = {}
    rest = iter(values)
    for at in range(0, 8 * count, 8):
        name = HASH_NAMES.get(int.from_bytes(selections[at : at + 2], "little"))
        bits = int.from_bytes(selections[at + 3 : at + 3 + min(selections[at + 2], 4)], "little")
        chosen = [next(rest, b"") for index in _PCRS if bits >> index & 1]
        if name is None or any(int.from_bytes(item[:2], "little") != HASH_SIZES[name] for item in chosen):
            raise reader.fail("values that do not fit their selection")
        indexes = [index for index in _PCRS if bits >> index & 1]
        banks[name] = {index: item[2 : 2 + HASH_SIZES[name]] for index, item in zip(indexes, chosen, strict=True)}
    if not any(banks.values()):
        raise reader.fail("no values")
    return banks


def assemble_tpm(evidence: TpmEvidence, pieces: Iterable[TpmPiece]) -> tuple[TpmEvidence, TpmEndorsements]:
    """Put pieces beside a TPMS_ATTEST that came alone, and the others into endorsements.

    A public key is an anchor only where it stands among the run's roots: the caller passes those on as `ak_anchors`.

    Raises:
        FormatError: `endorsements.malformed`, for two pieces of a kind; `tpm.malformed`.
        AppraisalError: `tpm.pcr_values`, where the values do not have what the quote selects; `tpm.algorithm`.
    """
    by_kind: dict[TpmKind, TpmPiece] = {}
    for piece in pieces:
        if by_kind.setdefault(piece.kind, piece) is not piece:
            raise FormatError(_CODE, f"two files with {piece.kind}")

    def data(kind: TpmKind) -> bytes | None:
        return by_kind[kind].data if kind in by_kind else None

    public, banks = data(TpmKind.AK_PUBLIC), by_kind.get(TpmKind.PCR_VALUES)
    values = evidence.pcr_values
    if values is None and banks is not None and banks.banks is not None:
        values = select_values(evidence.quote.pcr_selection, banks.banks)
        if values is None:
            raise AppraisalError(Code.TPM_PCR_VALUES, "a value that the quote selects is absent")
    whole = replace(
        evidence,
        signature=evidence.signature or data(TpmKind.SIGNATURE),
        ak=evidence.ak or (decode_public(public) if public else None),
        pcr_values=values,
        hcl_report=evidence.hcl_report or data(TpmKind.HCL_REPORT),
        td_quote=evidence.td_quote or data(TpmKind.TD_QUOTE),
    )
    certificates = by_kind[TpmKind.CERTIFICATES].certificates if TpmKind.CERTIFICATES in by_kind else ()
    return whole, TpmEndorsements(certificates=certificates, event_log=data(TpmKind.EVENT_LOG))
