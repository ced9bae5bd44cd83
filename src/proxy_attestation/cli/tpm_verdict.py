"""One off-line verdict on TPM evidence: a quote with its pieces beside it, or the certificate of an EK or AK.

A quote alone says nothing about whose it is. Off line an attestation key is believed because the run names its public
key with --roots, because its certificate leads to a CA that --roots names, or, on Azure, because the hardware below the
vTPM vouches for it. That hardware is judged as if it had been given alone: by the vendor's collateral beside it, and by
the default policy.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Final

from cryptography import x509

from proxy_attestation.appraisal.azure import HardwareLayer, Verify, hardware_layer
from proxy_attestation.appraisal.claims import Claims, claims_to_json
from proxy_attestation.appraisal.dcap import appraise
from proxy_attestation.appraisal.endorsements import DcapEndorsements
from proxy_attestation.appraisal.kinds import snp_result_claims, tpm_result_claims
from proxy_attestation.appraisal.roots import VENDOR_ROOTS, Roots, same_for_all
from proxy_attestation.appraisal.snp import appraise_snp
from proxy_attestation.appraisal.tpm import TpmEndorsements, appraise_tpm
from proxy_attestation.appraisal.tpm_chain import Purpose, TpmRoots, read_tpm_certificate, verify_tpm_chain
from proxy_attestation.appraisal.tpm_claims import tpm_to_json
from proxy_attestation.cli.acceptance import Acceptance, judge_claims
from proxy_attestation.cli.demands import check_demands
from proxy_attestation.cli.evidence_file import from_text, read_input
from proxy_attestation.cli.verdict import Verdict, refused
from proxy_attestation.codes import Code
from proxy_attestation.endorsements.assemble import assemble
from proxy_attestation.endorsements.choose import choose_set, platform_of
from proxy_attestation.endorsements.detect import Bundle, Kind, Piece, detect
from proxy_attestation.endorsements.detect_snp import SnpPiece, detect_snp, snp_endorsements
from proxy_attestation.endorsements.detect_tpm import TpmKind, TpmPiece, assemble_tpm, detect_tpm
from proxy_attestation.errors import AppraisalError, FormatError, Mismatch, RefusedError, UsageError
from proxy_attestation.formats import pem
from proxy_attestation.formats.bounds import ENDORSEMENT_FILES_MAX, MESSAGE_MAX
from proxy_attestation.formats.dcap_quote import decode_quote
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
    raw = _attest(data)
    return looks_like_tpm(_unwrapped(raw)[0]) or (acceptance.tee == TPM and raw[:1] == _DER_SEQUENCE)


def _unwrapped(raw: bytes) -> tuple[bytes, tuple[bytes, ...]]:
    """Return what a record of ours for a TPM holds, and its certificates; any other bytes as they are."""
    try:
        record = decode_evidence(raw) if raw[:1] == _CBOR_ARRAY_OF_3 else None
    except FormatError:
        return raw, ()  # whoever reads it as something else says what is wrong with it
    return (record.evidence, record.platform_certificates) if record and record.tee is Tee.TPM else (raw, ())


def _attest(data: bytes) -> bytes:
    """Return what raw, hex or base64 data hold; of a TPM2B_ATTEST what stands behind its size."""
    raw = from_text(data)
    return raw[2:] if int.from_bytes(raw[:2]) == len(raw) - 2 and looks_like_tpm(raw[2:]) else raw


def judge_tpm(
    data: bytes, beside: Sequence[Path], roots: Sequence[Path], now: datetime, acceptance: Acceptance
) -> Verdict:
    """Appraise TPM evidence and decide. Never raises for what the evidence or its endorsements are.

    Args:
        data: the quote (TPMS_ATTEST or TPM2B_ATTEST), our record, or the certificate of an EK or AK.
        beside: files or directories with the other pieces, and with the collateral of the hardware below a vTPM.
        roots: files with the AK's public key, or with certificates of CAs; these replace the pinned roots of the
            hardware's vendors too.
        now: aware, UTC.
        acceptance: what is acceptable.
    """
    try:
        given = _beside(beside)
        anchors, pins = _anchors(roots)
        hardware: list[Claims] = []
        decided: Claims | None = None
        raw, certificates = (b"", ()) if pem.is_pem(data) else _unwrapped(_attest(data))
        if certificates:
            given.tpm.append(TpmPiece(TpmKind.CERTIFICATES, certificates=certificates))
        if looks_like_tpm(raw):
            vendors = same_for_all(pins.pins) if pins.pins else VENDOR_ROOTS
            known = TpmEndorsements(ak_anchors=anchors, hardware=_hardware(given, vendors, now, hardware))
            claims, decided = _quote(raw, given.tpm, known, pins, now)
        else:
            if acceptance.policy is not None:
                raise UsageError("--policy judges evidence, and a certificate of a TPM alone is none")
            claims = _certificate(data, given.tpm, pins, now)
    except (AppraisalError, FormatError, RefusedError) as error:
        return refused(error, acceptance)
    mismatches = judge_claims(decided, acceptance) + check_demands(claims, acceptance.demands)
    if hardware:
        claims["hardware"] = claims_to_json(hardware[-1])
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


def _hardware(given: "_Beside", roots: Roots, now: datetime, found: list[Claims]) -> Verify:
    """Return the walk over the layer below a vTPM, which notes the claims that it makes."""

    def verify(kind: str, evidence: bytes) -> HardwareLayer:
        if kind != "SNP":
            fmspc, issuer = platform_of(decode_quote(evidence), (), given.intel)
            endorsements = choose_set(given.intel, Tee.TDX, fmspc, issuer, now)
            found.append(appraise(evidence, endorsements, roots, None, now))
            return hardware_layer(found[-1])
        report = decode_snp_report(evidence)
        known = snp_endorsements(given.amd, report)
        found.append(snp_result_claims(appraise_snp(report, known, roots.amd, None, now, crl_required=False)))
        return hardware_layer(found[-1])

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


@dataclass(frozen=True, slots=True)
class _Beside:
    """What came beside the evidence.

    Attributes:
        tpm: the TPM's own pieces.
        amd: AMD's certificates and lists.
        intel: sets of Intel's collateral.
    """

    tpm: list[TpmPiece]
    amd: list[SnpPiece]
    intel: tuple[DcapEndorsements, ...]


def _beside(paths: Sequence[Path]) -> _Beside:
    files = [file for path in paths for file in (sorted(path.iterdir()) if path.is_dir() else [path])]
    if len(files) > ENDORSEMENT_FILES_MAX:
        raise FormatError(Code.ENDORSEMENTS_MALFORMED, f"{len(files)} files")
    pieces: list[TpmPiece] = []
    amd: list[SnpPiece] = []
    pools: dict[Path, list[Piece]] = {}
    for file in files:
        data = _read(file)
        if (of_amd := detect_snp(data, str(file))) is not None:
            amd += of_amd
        elif of_intel := _of_intel(data, str(file)):
            # The files of a directory are one set, a bundle is one by itself, and so are all files named one by one.
            pool = file if isinstance(of_intel, Bundle) else Path() if file in paths else file.parent
            pools.setdefault(pool, []).extend(of_intel.pieces if isinstance(of_intel, Bundle) else of_intel)
        elif (piece := detect_tpm(data)) is not None:
            pieces.append(piece)
        else:
            raise FormatError(Code.ENDORSEMENTS_MALFORMED, f"{file}: no piece of TPM evidence, and no collateral")
    return _Beside(pieces, amd, assemble([*pools.values()], ()))


def _of_intel(data: bytes, source: str) -> Bundle | tuple[Piece, ...] | None:
    """Return what a file holds of Intel's collateral. A root by itself may be anybody's, and is a TPM's here."""
    try:
        found = detect(data, source)
    except FormatError:
        return None
    pieces = found.pieces if isinstance(found, Bundle) else found
    return None if all(piece.kind is Kind.ROOT for piece in pieces) else found


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
