"""Steps of the walk that `appraisal.tpm` numbers: the AK, its signatures, the PCR values, and the subject's key."""

import hashlib
from collections.abc import Mapping
from typing import Final

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, padding

from proxy_attestation.appraisal.event_log import replay
from proxy_attestation.appraisal.layers import Layer
from proxy_attestation.codes import Code
from proxy_attestation.errors import AppraisalError
from proxy_attestation.formats.event_log import decode_event_log
from proxy_attestation.formats.tpm import (
    Attest,
    Public,
    PublicKey,
    Signature,
    decode_signature,
    missing_attributes,
    spki_of,
)
from proxy_attestation.formats.tpm_codes import HASHES, RESIDENT, ObjectAttribute
from proxy_attestation.formats.tpm_evidence import Certified

_STRONGEST: Final = ("sha512", "sha384", "sha256", "sha1")
_AK: Final = RESIDENT | ObjectAttribute.SIGN_ENCRYPT


def check_ak(ak: Public) -> None:
    """Step 2: the key can sign nothing that its TPM did not make. For the challenge too, before a blob is made.

    Raises:
        AppraisalError: `tpm.not_restricted`, `tpm.ak_attributes`.
    """
    if not ak.has(ObjectAttribute.RESTRICTED):
        raise AppraisalError(Code.TPM_NOT_RESTRICTED, "an unrestricted key signs any bytes, forged quotes too")
    if not ak.has(_AK) or ak.has(ObjectAttribute.DECRYPT):
        missing = ", ".join(missing_attributes(ak, _AK)) or "nothing; but it decrypts"
        raise AppraisalError(Code.TPM_AK_ATTRIBUTES, f"the AK lacks {missing}")


def verifies(key: PublicKey, signature: Signature, data: bytes) -> bool:
    """Tell whether a TPM's signature is good; a scheme of the other kind of key is not."""
    algorithm = HASHES[signature.hash]
    try:
        if isinstance(key, ec.EllipticCurvePublicKey):
            if signature.alg != "ECDSA":
                return False
            key.verify(signature.value, data, ec.ECDSA(algorithm))
        elif signature.alg == "RSASSA":
            key.verify(signature.value, data, padding.PKCS1v15(), algorithm)
        elif signature.alg == "RSAPSS":
            # The salt is as long as the hash, or as fits: TPMs differ (part 1, annex B.7).
            pss = padding.PSS(padding.MGF1(algorithm), padding.PSS.AUTO)
            key.verify(signature.value, data, pss, algorithm)
        else:
            return False
    except (InvalidSignature, ValueError, UnsupportedAlgorithm):
        return False
    return True


def check_values(quote: Attest, values: tuple[bytes, ...] | None, name: str) -> Mapping[str, Mapping[int, bytes]]:
    """Step 4: return the PCR values by bank and index; none where none came.

    Raises:
        AppraisalError: `tpm.pcr_digest`.
    """
    if values is not None and hashlib.new(name, b"".join(values)).digest() != quote.pcr_digest:
        raise AppraisalError(Code.TPM_PCR_DIGEST, "the PCR values have another digest than the quote")
    rest = iter(values or ())
    # The record's values fit the selection, and so do those that `select_values` takes out of whole banks.
    return {bank.alg: dict(zip(bank.pcrs, rest, strict=False)) for bank in quote.pcr_selection} if values else {}


def check_log(event_log: bytes | None, pcrs: Mapping[str, Mapping[int, bytes]]) -> tuple[Layer, ...]:
    """Step 5: replay the log into the strongest bank that both have.

    Raises:
        FormatError: `evidence.too_large`, `tpm.event_log_malformed`.
        AppraisalError: `tpm.event_log`, `tpm.pcr_values`.
    """
    if event_log is None:
        return ()
    log = decode_event_log(event_log)
    banks = [name for name in _STRONGEST if name in pcrs]
    if not banks:
        raise AppraisalError(Code.TPM_PCR_VALUES, "an event log without PCR values to lead to")
    bank = next((name for name in banks if name in log.algorithms), banks[0])
    return replay(log, bank, pcrs[bank])


def check_certified(certified: Certified, quote: Attest, ak: PublicKey, csr_spki: bytes | None) -> str:
    """Step 6: return the hash that the certification is signed over.

    Raises:
        FormatError: `tpm.malformed`.
        AppraisalError: `tpm.certify_signature`, `tpm.certify_binding`, `tpm.certify_name`, `tpm.key_attributes`,
            `tpm.key_mismatch`.
    """
    attest, key = certified.attest, certified.key
    signature = decode_signature(certified.signature, ak)
    if not verifies(ak, signature, attest.data):
        raise AppraisalError(Code.TPM_CERTIFY_SIGNATURE, "the attestation key did not sign the certification")
    boot, other = (quote.reset_count, quote.restart_count), (attest.reset_count, attest.restart_count)
    if attest.extra_data != quote.extra_data or boot != other:
        raise AppraisalError(Code.TPM_CERTIFY_BINDING, "quote and certification have other qualifying data or boots")
    if attest.name != key.name:
        raise AppraisalError(Code.TPM_CERTIFY_NAME, "the certification is about a key of another name")
    if not key.has(_AK):
        missing = ", ".join(missing_attributes(key, _AK))
        raise AppraisalError(Code.TPM_KEY_ATTRIBUTES, f"the certified key lacks {missing}")
    if csr_spki is not None and spki_of(key.key) != csr_spki:
        raise AppraisalError(Code.TPM_KEY_MISMATCH, "the certified key is not the CSR's")
    return signature.hash
