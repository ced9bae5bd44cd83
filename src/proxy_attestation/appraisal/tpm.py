"""Appraisal of TPM 2.0 quotes. "Is it genuine?" Pure functions; the clock is a parameter.

The walk; each step is tagged in the code, here or in the module named. Codes lack their `tpm.` prefix here.

Without endorsements:

  1  parse; the quote is TPM-generated and a quote                  malformed, attest_type, algorithm, pcr_values
     (formats.tpm, formats.tpm_evidence)
  2  the AK, where its public area came: restricted and signing,    not_restricted, ak_attributes
     made in this TPM, bound to it, not decrypting
  3  the AK signed the quote (RSASSA, RSAPSS, ECDSA)                signature, algorithm, endorsements_missing
  4  the quote's digest is that of the PCR values, by the           pcr_digest
     signature's hash
  5  the event log leads to the PCR values                          event_log, event_log_malformed, pcr_values
     (appraisal.event_log)
  6  the AK certified the subject's key: signed, with the same      certify_signature, certify_binding, certify_name,
     qualifying data and boot, its name, resident, and the          key_attributes, key_mismatch
     CSR's

With endorsements, the AK is trusted in exactly one way, the first that applies:

  7a the operator named the AK for this run (`ak_anchors`)          ak_untrusted
  7b a credential was activated for this AK in this session:        ak_name; ek_certificate, certificate_encoding,
     its name, beside the EK of a certificate that leads to a         chain, root, expired (tpm_chain)
     pinned root
  7c Azure: both layers (appraisal.azure)                           hcl_*, and the codes of the hardware's walk
  7d the AK's own certificate leads to a pinned root                ak_certificate, certificate_encoding, chain, root,
                                                                     expired (tpm_chain); ak_untrusted without one
  8  SHA-1 signs and names nothing: an old quote may be read       hash
     under 7a only

What the caller MUST still do: compare `bound` with its own binder; judge the PCR values, the pinned registers' unknown
events, the anchor, and whether a key that no AK certified (a software key) will do. Nothing here says *when* a quote
was made but its qualifying data. Under 7a, where the AK's public area did not come, step 2 rests on the operator's
word, and so does that a key named by its public half alone is a TPM's at all. Under 7c and 7d the paravisor and the
CA vouch for the key, and with it for what step 2 reads; under 7b the TPM does, since the name covers the public area.
"""

import hashlib
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from proxy_attestation.appraisal.azure import HardwareLayer, Verify, appraise_hcl, check_hcl
from proxy_attestation.appraisal.instance import machine_id
from proxy_attestation.appraisal.tpm_chain import Purpose, TpmChain, TpmRoots, verify_tpm_chain
from proxy_attestation.appraisal.tpm_claims import TpmClaims
from proxy_attestation.appraisal.tpm_steps import check_ak, check_certified, check_log, check_values, verifies
from proxy_attestation.codes import Code
from proxy_attestation.errors import AppraisalError, FormatError
from proxy_attestation.formats.azure_hcl import HclReport, decode_hcl
from proxy_attestation.formats.tee import Tee
from proxy_attestation.formats.tpm import (
    PublicKey,
    Signature,
    decode_signature,
    spki_of,
)
from proxy_attestation.formats.tpm_codes import GENERATED
from proxy_attestation.formats.tpm_evidence import TpmEvidence

_ANCHORS_MAX: Final = 8


@dataclass(frozen=True, slots=True)
class Activation:
    """What a session's token says of the credential that was made for it (`formats.tpm_credential`).

    Attributes:
        ak_name: the name that the blob was made for, 34 to 66 bytes.
        ek_spki_sha256: of the EK that it was encrypted to, 32 bytes.
    """

    ak_name: bytes
    ek_spki_sha256: bytes


@dataclass(frozen=True, slots=True)
class TpmEndorsements:
    """What a quote is judged by.

    Attributes:
        certificates: DER; the EK's or the AK's first, then its issuers. A peer may send them.
        activation: of this session; None outside of one.
        ak_anchors: SubjectPublicKeyInfo, DER, of AKs that the operator named for this run; at most 8.
        event_log: the log, as the firmware gave it, or None.
        hardware: the walk over the hardware evidence of an Azure VM, or None where it cannot be had.
    """

    certificates: tuple[bytes, ...] = ()
    activation: Activation | None = None
    ak_anchors: tuple[bytes, ...] = ()
    event_log: bytes | None = None
    hardware: Verify | None = None


@dataclass(frozen=True, slots=True)
class TpmResult:
    """The outcome.

    Attributes:
        body: what the TPM said, and what was found out about it.
        bound: what the caller's binder must equal: the quote's qualifying data and, of a certification, its own.
        certified_spki: SubjectPublicKeyInfo, DER, of the key that the AK certified as resident; None where it did not.
        instance_id: 32 bytes: the EK, hashed; the hardware's where there is one; None where neither is known.
        anchor: SHA-256 of a SubjectPublicKeyInfo, 32 bytes: the pinned CA's, the hardware vendor's, or the named AK's.
        evidence_sha256: 32 bytes.
        valid_until: the earliest end of what the trust in the AK rests on, or None for a named AK.
        hardware: the lower layer of an Azure VM, or None.
    """

    body: TpmClaims
    bound: tuple[bytes, ...]
    certified_spki: bytes | None
    instance_id: bytes | None
    anchor: bytes
    evidence_sha256: bytes
    valid_until: datetime | None
    hardware: HardwareLayer | None = None


@dataclass(frozen=True, slots=True)
class _Trust:
    """How the AK came to be trusted; the fields are those of the result and its claims."""

    way: str
    anchor: bytes
    instance_id: bytes | None = None
    valid_until: datetime | None = None
    quirks: tuple[str, ...] = ()
    hardware: HardwareLayer | None = None
    hcl: HclReport | None = None


def appraise_tpm(
    evidence: TpmEvidence,
    endorsements: TpmEndorsements,
    roots: TpmRoots,
    now: datetime,
    *,
    csr_spki: bytes | None = None,
) -> TpmResult:
    """Appraise one quote.

    Args:
        evidence: decoded (step 1).
        endorsements: what it is judged by.
        roots: CAs of EKs and AKs.
        now: aware, UTC.
        csr_spki: DER of the key that a certificate is asked for; a certification must be about it.

    Raises:
        FormatError, AppraisalError: with a code of the walk above.
    """
    quote = evidence.quote
    # 2
    if evidence.ak is not None:
        check_ak(evidence.ak)
    # 3
    ak, signature = _verify_quote(evidence, endorsements.ak_anchors)
    # 4
    pcrs = check_values(quote, evidence.pcr_values, signature.hash)
    # 5
    layers = check_log(endorsements.event_log, pcrs)
    # 6
    digests = {signature.hash} | ({evidence.ak.name_alg} if evidence.ak is not None else set())
    if evidence.certified is not None:
        digests |= {check_certified(evidence.certified, quote, ak, csr_spki), evidence.certified.key.name_alg}
    # 7
    trust = _trust(evidence, ak, endorsements, roots, now)
    # 8
    if "sha1" in digests and trust.way != "anchor":
        raise AppraisalError(Code.TPM_HASH, "signed over a SHA-1 digest, or a key named by one")
    body = TpmClaims(
        magic=GENERATED,
        type=quote.type.to_bytes(2),
        qualified_signer=quote.qualified_signer,
        extra_data=quote.extra_data,
        clock=quote.clock,
        reset_count=quote.reset_count,
        restart_count=quote.restart_count,
        safe=quote.safe,
        firmware_version=quote.firmware_version,
        pcr_selection=quote.pcr_selection,
        pcr_digest=quote.pcr_digest,
        sig_alg=signature.alg,
        sig_hash=signature.hash,
        pcrs=pcrs,
        ak=evidence.ak,
        ak_trust=trust.way,
        key_certified=evidence.certified is not None,
        quirks=trust.quirks,
        layers=layers,
        hcl=trust.hcl,
    )
    return TpmResult(
        body=body,
        bound=evidence.bound,
        certified_spki=None if evidence.certified is None else spki_of(evidence.certified.key.key),
        instance_id=trust.instance_id,
        anchor=trust.anchor,
        evidence_sha256=hashlib.sha256(evidence.data).digest(),
        valid_until=trust.valid_until,
        hardware=trust.hardware,
    )


def _verify_quote(evidence: TpmEvidence, anchors: tuple[bytes, ...]) -> tuple[PublicKey, Signature]:
    if evidence.signature is None:
        raise AppraisalError(Code.TPM_ENDORSEMENTS_MISSING, "absent: the quote's signature")
    keys = [evidence.ak.key] if evidence.ak is not None else [_anchor_key(der) for der in anchors[:_ANCHORS_MAX]]
    if not keys and evidence.hcl_report is not None:
        keys = [decode_hcl(evidence.hcl_report).attestation_key]
    if not keys:
        raise AppraisalError(Code.TPM_ENDORSEMENTS_MISSING, "absent: the attestation key's public area, or the key")
    refusal: FormatError | AppraisalError = AppraisalError(
        Code.TPM_SIGNATURE, "the attestation key did not sign the quote"
    )
    for key in keys:
        try:
            signature = decode_signature(evidence.signature, key)
        except (FormatError, AppraisalError) as error:
            refusal = error  # a bare signature reads differently for another kind of key: the next one may fit
            continue
        if verifies(key, signature, evidence.signed):
            return key, signature
    raise refusal


def _anchor_key(der: bytes) -> PublicKey:
    try:
        key = serialization.load_der_public_key(der)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise AppraisalError(Code.TPM_AK_UNTRUSTED, "an anchor that is no public key") from error
    if not isinstance(key, rsa.RSAPublicKey | ec.EllipticCurvePublicKey):
        raise AppraisalError(Code.TPM_AK_UNTRUSTED, "an anchor that is neither an RSA nor an EC key")
    return key


def _trust(
    evidence: TpmEvidence,
    ak: PublicKey,
    endorsements: TpmEndorsements,
    roots: TpmRoots,
    now: datetime,
) -> _Trust:
    spki, activation, certificates = spki_of(ak), endorsements.activation, endorsements.certificates
    hcl = None if evidence.hcl_report is None else decode_hcl(evidence.hcl_report)
    # 7a
    if endorsements.ak_anchors:
        if spki not in endorsements.ak_anchors:
            raise AppraisalError(Code.TPM_AK_UNTRUSTED, "the attestation key is not one that was named")
        if hcl is not None:
            check_hcl(hcl, ak)
        return _Trust("anchor", hashlib.sha256(spki).digest())
    # 7b
    if activation is not None:
        if evidence.ak is None or evidence.ak.name != activation.ak_name:
            raise AppraisalError(Code.TPM_AK_NAME, "the credential was made for an attestation key of another name")
        chain = verify_tpm_chain(certificates, Purpose.EK, roots, now)
        ek_sha256 = hashlib.sha256(spki_of(chain.key)).digest()
        if ek_sha256 != activation.ek_spki_sha256:
            raise AppraisalError(Code.TPM_EK_CERTIFICATE, "it is for another EK than the credential's")
        return _of_chain("activation", chain, machine_id(Tee.TPM, ek_sha256))
    # 7c
    if hcl is not None:
        if endorsements.hardware is None:
            raise AppraisalError(Code.TPM_HCL_LAYER, "nothing here can appraise the hardware layer")
        layer = appraise_hcl(hcl, evidence.td_quote, ak, endorsements.hardware)
        return _Trust("hardware", layer.anchor, layer.instance_id, layer.valid_until, hardware=layer, hcl=hcl)
    # 7d
    if certificates:
        chain = verify_tpm_chain(certificates, Purpose.AK, roots, now)
        if spki_of(chain.key) != spki:
            raise AppraisalError(Code.TPM_AK_CERTIFICATE, "it is for another key than the one that signed the quote")
        if evidence.ak is None:
            raise AppraisalError(Code.TPM_ENDORSEMENTS_MISSING, "absent: the attestation key's public area")
        return _of_chain("certificate", chain, None)
    raise AppraisalError(
        Code.TPM_AK_UNTRUSTED, "no activation, certificate, hardware layer or named key vouches for it"
    )


def _of_chain(way: str, chain: TpmChain, instance_id: bytes | None) -> _Trust:
    return _Trust(way, chain.anchor, instance_id, chain.valid_until, chain.quirks)
