"""TPM evidence as it travels in the `evidence` byte string, a format of ours around structures of the TPM's.

Deterministic CBOR, a map, at most 32 KiB; every byte string is the structure as the TPM gave it, big-endian, without
a TPM2B length in front:

    1  TPMS_ATTEST of the quote                                    at most 512 bytes
    2  TPMT_SIGNATURE over it                                      at most 600 bytes
    3  TPMT_PUBLIC of the attestation key (AK)                     at most 800 bytes
    4  [PCR values], in the order of the quote's selection, then ascending index; 1 to 256 of 20 to 64 bytes
    5  TPMS_ATTEST that certifies the subject's key                optional, together with 6 and 7
    6  TPMT_SIGNATURE over it, by the AK
    7  TPMT_PUBLIC of the subject's key
    8  HCL report of an Azure confidential VM (`azure_hcl`)        optional, at most 8 KiB
    9  TD quote that embeds the HCL report's TDREPORT              optional, at most 16 KiB, only beside 8

The certificates of the TPM (EK or AK first, then its issuers) are the platform certificates of `formats.evidence`; the
event log always travels beside the CSR. A file that holds a TPMS_ATTEST alone is the other form, for which the
remaining parts come as files of their own (`assemble`).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError
from proxy_attestation.formats import cbor
from proxy_attestation.formats.bounds import TPM_EVIDENCE_MAX
from proxy_attestation.formats.tpm import Attest, PcrSelection, Public, decode_attest, decode_public
from proxy_attestation.formats.tpm_codes import GENERATED, HASH_SIZES, ST_CERTIFY, ST_QUOTE
from proxy_attestation.formats.values import Item, Record, as_bytes, as_tuple

_ATTEST: Final = (1, 512)
_SIGNATURE: Final = (1, 600)
_PUBLIC: Final = (1, 800)
_VALUES_MAX: Final = 256
_HCL_MAX: Final = 8 * 1024
_TD_QUOTE_MAX: Final = 16 * 1024


@dataclass(frozen=True, slots=True)
class Parts:
    """The record's byte strings, None where absent; their numbers and bounds stand in the module's description."""

    quote: Annotated[bytes, Item(1, as_bytes, _ATTEST)]
    signature: Annotated[bytes, Item(2, as_bytes, _SIGNATURE)]
    ak: Annotated[bytes, Item(3, as_bytes, _PUBLIC)]
    pcr_values: Annotated[tuple[bytes, ...], Item(4, as_tuple, (1, _VALUES_MAX, as_bytes, 20, 64))]
    certify: Annotated[bytes | None, Item(5, as_bytes, _ATTEST, absent=None)] = None
    certify_signature: Annotated[bytes | None, Item(6, as_bytes, _SIGNATURE, absent=None)] = None
    key: Annotated[bytes | None, Item(7, as_bytes, _PUBLIC, absent=None)] = None
    hcl_report: Annotated[bytes | None, Item(8, as_bytes, (1, _HCL_MAX), absent=None)] = None
    td_quote: Annotated[bytes | None, Item(9, as_bytes, (1, _TD_QUOTE_MAX), absent=None)] = None


_RECORD: Final = Record(Parts)


@dataclass(frozen=True, slots=True)
class Certified:
    """The statement of an AK about another key of its TPM.

    Attributes:
        attest: of type certify.
        signature: as received.
        key: the key's public area.
    """

    attest: Attest
    signature: bytes
    key: Public


@dataclass(frozen=True, slots=True)
class TpmEvidence:
    """A quote with what it takes to judge it.

    Attributes:
        data: what was received, whole: the record, or the TPMS_ATTEST alone.
        quote: the TPMS_ATTEST.
        signature: over it, as received; None where none came.
        ak: the AK's public area; None where only its key is known.
        pcr_values: in the order of the quote's selection; None where they did not come.
        certified: what the AK says of the subject's key, or None.
        hcl_report: of an Azure confidential VM, or None.
        td_quote: beside the HCL report of a TD, or None.
    """

    data: bytes
    quote: Attest
    signature: bytes | None = None
    ak: Public | None = None
    pcr_values: tuple[bytes, ...] | None = None
    certified: Certified | None = None
    hcl_report: bytes | None = None
    td_quote: bytes | None = None

    @property
    def signed(self) -> bytes:
        """What the AK's signature covers."""
        return self.quote.data

    @property
    def bound(self) -> tuple[bytes, ...]:
        """What the binder must equal: the quote's qualifying data and, where it came, the certification's."""
        more = () if self.certified is None else (self.certified.attest.extra_data,)
        return (self.quote.extra_data, *more)


def looks_like_tpm(data: bytes) -> bool:
    """Tell whether bytes are meant as TPM evidence: a TPMS_ATTEST, or the record that begins with one."""
    return data[:4] == GENERATED or (data[:1] in map(bytes, zip(range(0xA4, 0xAA))) and GENERATED in data[3:8])


def encode_tpm(parts: Parts) -> bytes:
    """Encode the record."""
    return cbor.encode_ordered(_RECORD.write(parts))


def decode_tpm(data: bytes) -> TpmEvidence:
    """Decode the record, or a TPMS_ATTEST alone.

    Raises:
        FormatError: `evidence.too_large`, `tpm.malformed`.
        AppraisalError: `tpm.attest_type`, `tpm.algorithm`, `tpm.pcr_values`.
    """
    if len(data) > TPM_EVIDENCE_MAX:
        raise FormatError(Code.EVIDENCE_TOO_LARGE, f"{len(data)} bytes, at most {TPM_EVIDENCE_MAX} allowed")
    if data[:4] == GENERATED:
        return TpmEvidence(data, decode_attest(data, ST_QUOTE))
    code = Code.TPM_MALFORMED
    parts = Parts(**_RECORD.read(cbor.decode(data, code, TPM_EVIDENCE_MAX), code))
    together = (parts.certify, parts.certify_signature, parts.key)
    if (any(together) and not all(together)) or (parts.td_quote and not parts.hcl_report):
        raise FormatError(code, "a part without those that belong to it")
    quote = decode_attest(parts.quote, ST_QUOTE)
    sizes = [HASH_SIZES[bank.alg] for bank in quote.pcr_selection for _ in bank.pcrs]
    if [len(value) for value in parts.pcr_values] != sizes:
        raise FormatError(Code.TPM_PCR_VALUES, f"{len(parts.pcr_values)} PCR values do not fit the quote's selection")
    certified = None
    if parts.certify and parts.certify_signature and parts.key:
        certified = Certified(
            decode_attest(parts.certify, ST_CERTIFY), parts.certify_signature, decode_public(parts.key)
        )
    return TpmEvidence(
        data=data,
        quote=quote,
        signature=parts.signature,
        ak=decode_public(parts.ak),
        pcr_values=parts.pcr_values,
        certified=certified,
        hcl_report=parts.hcl_report,
        td_quote=parts.td_quote,
    )


def select_values(
    selection: tuple[PcrSelection, ...], banks: Mapping[str, Mapping[int, bytes]]
) -> tuple[bytes, ...] | None:
    """Return the values of a selection out of whole banks, by hash and index; None where one is absent."""
    values = [banks.get(bank.alg, {}).get(index) for bank in selection for index in bank.pcrs]
    present = tuple(value for value in values if value is not None)
    return present if len(present) == len(values) else None
