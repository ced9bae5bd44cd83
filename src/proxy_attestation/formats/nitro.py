"""AWS Nitro Enclaves attestation documents: COSE_Sign1 (RFC 9052) around a CBOR map.

Source: AWS, "Nitro Enclaves NSM API", docs/attestation_process.md, sections 2.2 and 3. What is read here is not yet
believed: `appraisal.nitro` checks the certificates and the signature.

    document    [protected, unprotected, payload, signature], perhaps in tag 18
    protected   A1 01 38 22, which is {1: -35}: ES384
    unprotected {}
    payload     byte string of 1 to 16384 bytes: a map, whose length may be indefinite
    signature   r and s of P-384, 96 bytes, big-endian

The signature covers ``["Signature1", protected, h'', payload]``, payload and protected being the bytes as received. An
optional field that is null is absent: the Nitro Secure Module writes all nine keys.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Final

import cbor2

from proxy_attestation.codes import Code
from proxy_attestation.errors import AppraisalError, FormatError
from proxy_attestation.formats import cbor
from proxy_attestation.formats.values import Item, Record, as_bytes, as_list, as_text, as_tuple, as_uint

PAYLOAD_MAX: Final = 16 * 1024
DOCUMENT_MAX: Final = PAYLOAD_MAX + 256
CERTIFICATE_MAX: Final = 1024
CABUNDLE_MAX: Final = 8
"""Certificates above the signing one, root first. Real documents have four."""
PCRS_MAX: Final = 32
DIGEST: Final = "SHA384"

_CODE: Final = Code.NITRO_MALFORMED
_ES384: Final = bytes.fromhex("a1013822")
_COSE_SIGN1: Final = 18
_SIGNATURE_BYTES: Final = 96
_PCR_BYTES: Final = (32, 48, 64)
_UINT64_MAX: Final = 2**64 - 1


def _digest(value: object, code: Code) -> str:
    if value != DIGEST:
        raise FormatError(code, f"{DIGEST} was expected")
    return DIGEST


def _pcrs(value: object, code: Code) -> tuple[tuple[int, bytes], ...]:
    if not isinstance(value, Mapping) or not 1 <= len(value) <= PCRS_MAX:
        raise FormatError(code, f"a map of 1 to {PCRS_MAX} registers was expected")
    registers = [(as_uint(index, code, PCRS_MAX - 1), as_bytes(pcr, code, 1, 64)) for index, pcr in value.items()]
    if any(len(pcr) not in _PCR_BYTES for _, pcr in registers):
        raise FormatError(code, f"a register of another length than {_PCR_BYTES}")
    return tuple(sorted(registers))


def _optional(value: object, code: Code, minimum: int, maximum: int) -> bytes | None:
    return None if value is None else as_bytes(value, code, minimum, maximum)


@dataclass(frozen=True, slots=True)
class NitroDocument:
    """One document.

    Attributes:
        data: the document as received.
        signed: the Sig_structure, what the signature covers.
        signature: r and s, 96 bytes, big-endian.
        module_id: names the parent instance and the enclave, `i-…-enc…`.
        digest: `SHA384`, how the registers were extended.
        timestamp_ms: when the document was made, milliseconds since the epoch.
        pcrs: (index 0 to 31, value of 32, 48 or 64 bytes; 48 in practice), ascending.
        certificate: DER of the signing certificate, 1 to 1024 bytes.
        cabundle: DER of its issuers, root first, 1 to 8 of 1 to 1024 bytes.
        public_key: 1 to 1024 bytes of the enclave's choice, or None; and so the next two.
        user_data: 0 to 512 bytes.
        nonce: 0 to 512 bytes.
    """

    data: bytes
    signed: bytes
    signature: bytes
    module_id: Annotated[str, Item("module_id", as_text, (256,))]
    digest: Annotated[str, Item("digest", _digest)]
    timestamp_ms: Annotated[int, Item("timestamp", as_uint, (_UINT64_MAX, 1))]
    pcrs: Annotated[tuple[tuple[int, bytes], ...], Item("pcrs", _pcrs)]
    certificate: Annotated[bytes, Item("certificate", as_bytes, (1, CERTIFICATE_MAX))]
    cabundle: Annotated[tuple[bytes, ...], Item("cabundle", as_tuple, (1, CABUNDLE_MAX, as_bytes, 1, CERTIFICATE_MAX))]
    public_key: Annotated[bytes | None, Item("public_key", _optional, (1, 1024), absent=None)]
    user_data: Annotated[bytes | None, Item("user_data", _optional, (0, 512), absent=None)]
    nonce: Annotated[bytes | None, Item("nonce", _optional, (0, 512), absent=None)]

    @property
    def bound(self) -> tuple[bytes, bytes, bytes]:
        """What a binder must equal: nonce, public key, user data; each empty where it is absent."""
        return self.nonce or b"", self.public_key or b"", self.user_data or b""


_PAYLOAD: Final = Record(NitroDocument)


def looks_like_nitro(data: bytes) -> bool:
    """Tell whether the bytes are meant as an attestation document: an array, perhaps tagged, that holds its field."""
    return data[:1] in (b"\x84", b"\x9f", b"\xd2") and b"module_id" in data and b"cabundle" in data


def decode_nitro(data: bytes) -> NitroDocument:
    """Decode a document.

    Raises:
        FormatError: `evidence.too_large`, `nitro.malformed`.
        AppraisalError: `nitro.algorithm`.
    """
    if len(data) > DOCUMENT_MAX:
        raise FormatError(Code.EVIDENCE_TOO_LARGE, f"{len(data)} bytes, at most {DOCUMENT_MAX} allowed")
    value: object = cbor.decode_foreign(data, _CODE, DOCUMENT_MAX)
    if isinstance(value, cbor2.CBORTag) and value.tag == _COSE_SIGN1:
        value = value.value
    protected, unprotected, payload, signature = as_list(value, _CODE, 4, 4)
    as_bytes(protected, _CODE, 0, DOCUMENT_MAX)
    as_bytes(payload, _CODE, 1, PAYLOAD_MAX)
    as_bytes(signature, _CODE, _SIGNATURE_BYTES)
    if protected != _ES384 or unprotected != {}:
        raise AppraisalError(Code.NITRO_ALGORITHM, "headers other than {1: -35} protected, and none unprotected")
    fields = _PAYLOAD.read(cbor.decode_foreign(payload, _CODE, PAYLOAD_MAX), _CODE)
    return NitroDocument(data, cbor.encode(["Signature1", protected, b"", payload]), signature, **fields)
