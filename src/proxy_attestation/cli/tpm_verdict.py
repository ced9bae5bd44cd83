"""One off-line verdict on TPM evidence: a quote with its pieces beside it, or the certificate of an EK or AK.

A quote alone says nothing about whose it is. Off line an attestation key is believed because the run names its public
key with --roots, because its certificate leads to a CA that --roots names, or, on Azure, because the hardware below the
vTPM vouches for it.
"""

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509

from proxy_attestation.appraisal.azure import HardwareLayer, tdx_layer
from proxy_attestation.appraisal.claims import Claims
from proxy_attestation.appraisal.dcap import appraise
from proxy_attestation.appraisal.kinds import tpm_result_claims
from proxy_attestation.appraisal.roots import VENDOR_ROOTS
from proxy_attestation.appraisal.snp import appraise_snp
from proxy_attestation.appraisal.tpm import TpmEndorsements, appraise_tpm
from proxy_attestation.appraisal.tpm_chain import Purpose, TpmRoots, read_tpm_certificate, verify_tpm_chain
from proxy_attestation.appraisal.tpm_claims import tpm_to_json
from proxy_attestation.cli.demands import check_demands
from proxy_attestation.cli.evidence_file import from_text, read_input
from proxy_attestation.cli.verdict import Acceptance, Verdict, check_policy, refused
from proxy_attestation.codes import Code
from proxy_attestation.endorsements.choose import choose_set
from proxy_attestation.endorsements.detect_snp import SnpPiece, detect_snp, snp_endorsements
from proxy_attestation.endorsements.detect_tpm import TpmKind, TpmPiece, assemble_tpm, detect_tpm
from proxy_attestation.errors import AppraisalError, FormatError, Mismatch, RefusedError, UsageError
from proxy_attestation.formats import pem
from proxy_attestation.formats.bounds import ENDORSEMENT_FILES_MAX, MESSAGE_MAX
from proxy_attestation.formats.evidence import decode_evidence
from proxy_attestation.formats.snp_report import decode_snp_report
from proxy_attestation.formats.tee import Tee
from proxy_attestation.formats.tpm import spki_of
from proxy_attestation.formats.tpm_evidence import decode_tpm, looks_like_tpm

TPM: Final = "tpm"
_DER_SEQUENCE: Final = b"\x30"
_CBOR_ARRAY_OF_3: Final = b"\x83"


def is_tpm(data: bytes, acceptance: Acceptance) -> bool:
    """Tell whether bytes are TPM evidence: a quote or our record, or certificates where --tee says tpm."""
    if pem.is_pem(data):
        return acceptance.tee == TPM
    raw = from_text(data)
    return looks_like_tpm(_unwrapped(raw)[0]) or (acceptance.tee == TPM and raw[:1] == _DER_SEQUENCE)


def _unwrapped(raw: bytes) -> tuple[bytes, tuple[bytes, ...]]:
    """Return what a record of ours for a TPM holds, and its certificates; any other bytes as they are."""
    try:
        record = decode_evidence(raw) if raw[:1] == _CBOR_ARRAY_OF_3 else None
    except FormatError:
        return raw, ()  # whoever reads it as something else says what is wrong with it
    return (record.evidence, record.platform_certificates) if record and record.tee is Tee.TPM else (raw, ())


def judge_tpm(
    data: bytes, beside: Sequence[Path], roots: Sequence[Path], now: datetime, acceptance: Acceptance
) -> Verdict:
    """Appraise TPM evidence and decide. Never raises for what the evidence or its endorsements are.

    Args:
        data: the quote (TPMS_ATTEST), our record, or the certificate of an EK or AK.
        beside: files or directories with the other pieces.
        roots: files with the AK's public key, or with certificates of CAs.
        now: aware, UTC.
        acceptance: what is acceptable.
    """
    try:
        pieces, amd = _pieces(beside)
        anchors, pins = _anchors(roots)
        raw, certificates = (b"", ()) if pem.is_pem(data) else _unwrapped(from_text(data))
        if certificates:
            pieces.append(TpmPiece(TpmKind.CERTIFICATES, certificates=certificates))
        if looks_like_tpm(raw):
            known = TpmEndorsements(ak_anchors=anchors, hardware=_hardware(amd, now))
            claims, decided = _quote(raw, pieces, known, pins, now)
        else:
            if acceptance.policy is not None:
                raise UsageError("--policy judges evidence, and a certificate of a TPM alone is none")
            claims, decided = _certificate(data, pieces, pins, now), None
    except (AppraisalError, FormatError, RefusedError) as error:
        return refused(error, acceptance)
    mismatches = check_policy(decided, acceptance) + list(check_demands(claims, acceptance.demands))
    if acceptance.tee not in (None, TPM):
        mismatches.insert(0, Mismatch(Code.POLICY_TEE, "tee", str(acceptance.tee), TPM))
    code = mismatches[0].code if mismatches else None
    workload = acceptance.workload.name if acceptance.workload else None
    return Verdict(code, "", tuple(mismatches), claims, None, workload, 3 if code else 0)


def _quote(
    raw: bytes, pieces: Sequence[TpmPiece], known: TpmEndorsements, roots: TpmRoots, now: datetime
) -> tuple[dict[str, object], Claims]:
    evidence, given = assemble_tpm(decode_tpm(raw), [piece for piece in pieces if piece.kind is not TpmKind.AK_KEY])
    endorsements = replace(given, ak_anchors=known.ak_anchors, hardware=known.hardware)
    result = appraise_tpm(evidence, endorsements, roots, now)
    said = {
        "tee": TPM,
        **tpm_to_json(result.body),
        "anchor_spki_sha256": result.anchor.hex(),
        "evidence_sha256": result.evidence_sha256.hex(),
    }
    return said, tpm_result_claims(result)


def _hardware(amd: Sequence[SnpPiece], now: datetime) -> Callable[[str, bytes], HardwareLayer]:
    def verify(kind: str, evidence: bytes) -> HardwareLayer:
        if kind != "SNP":
            endorsements = choose_set((), Tee.TDX, None, None, now)
            claims: Claims = appraise(evidence, endorsements, VENDOR_ROOTS, None, now)
            return tdx_layer(claims)
        report = decode_snp_report(evidence)
        known = snp_endorsements(amd, report)
        result = appraise_snp(report, known, VENDOR_ROOTS.amd, None, now, crl_required=False)
        return HardwareLayer(
            "SNP", result.bound[0], result.body.vmpl, result.anchor, result.instance_id, result.valid_until, result
        )

    return verify


def _certificate(data: bytes, pieces: Sequence[TpmPiece], roots: TpmRoots, now: datetime) -> dict[str, object]:
    found = detect_tpm(data)
    if found is None or found.kind is not TpmKind.CERTIFICATES:
        raise FormatError(Code.EVIDENCE_UNKNOWN, "neither a TPM quote nor a certificate")
    issuers = [der for piece in pieces for der in piece.certificates]
    chain = verify_tpm_chain((*found.certificates, *issuers), Purpose.EK, roots, now)
    return {
        "tee": TPM,
        "spki_sha256": hashlib.sha256(spki_of(chain.key)).hexdigest(),
        "quirks": list(chain.quirks),
        "anchor_spki_sha256": chain.anchor.hex(),
    }


def _pieces(paths: Sequence[Path]) -> tuple[list[TpmPiece], list[SnpPiece]]:
    files = [file for path in paths for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
    if len(files) > ENDORSEMENT_FILES_MAX:
        raise FormatError(Code.ENDORSEMENTS_MALFORMED, f"{len(files)} files")
    pieces: list[TpmPiece] = []
    amd: list[SnpPiece] = []
    for file in files:
        data = _read(file)
        of_amd = detect_snp(data, str(file))
        piece = None if of_amd is not None else detect_tpm(data)
        if piece is None and of_amd is None:
            raise FormatError(Code.ENDORSEMENTS_MALFORMED, f"{file}: no piece of TPM evidence")
        amd += of_amd or ()
        pieces += [] if piece is None else [piece]
    return pieces, amd


def _anchors(paths: Sequence[Path]) -> tuple[tuple[bytes, ...], TpmRoots]:
    keys: list[bytes] = []
    cas: list[bytes] = []
    for path in paths:
        piece = detect_tpm(_read(path))
        if piece is None or piece.kind not in (TpmKind.AK_KEY, TpmKind.AK_PUBLIC, TpmKind.CERTIFICATES):
            raise FormatError(Code.CONFIGURATION_MALFORMED, f"{path}: neither a public key nor certificates")
        keys += [piece.data] if piece.kind is TpmKind.AK_KEY else []
        cas += piece.certificates
    pins = frozenset(hashlib.sha256(_spki(der)).digest() for der in cas)
    return tuple(keys), TpmRoots(pins, tuple(cas))


def _spki(der: bytes) -> bytes:
    certificate, _ = read_tpm_certificate(der)
    try:
        key = certificate.public_key()
        return spki_of(key)  # type: ignore[arg-type] # of a kind that it does not know it raises what is caught here
    except (ValueError, TypeError, AttributeError, x509.UnsupportedGeneralNameType) as error:
        raise FormatError(Code.CONFIGURATION_MALFORMED, "a certificate whose key cannot be read") from error


def _read(path: Path) -> bytes:
    data = read_input(str(path), MESSAGE_MAX)
    if len(data) > MESSAGE_MAX:
        raise FormatError(Code.ENDORSEMENTS_MALFORMED, f"{path}: larger than {MESSAGE_MAX} bytes")
    return data
