"""Appraisal of AMD SEV-SNP reports. "Is it genuine?" Pure functions; the clock is a parameter.

The walk; each step is tagged in the code, here or in the module named. ABI is AMD's 56860, KDS its 57230;
docs/evidence.md says which structure each check is from. Codes lack their `snp.` prefix here.

Without endorsements:

  1  parse; version, algorithm, signing key, reserved bytes  malformed, version, signature_algorithm, signing_key,
     (formats.snp_report; ABI)                                 certificate_table
  2  reserved bits; a privilege level that a guest has; a    policy, platform_info, vmpl, product
     processor line that is known (ABI)
  3  the VCEK or VLEK that KEY_INFO names, and AMD's         endorsements_missing, chain, vek
     extensions in it (snp_certificate; KDS)
  4  it is for this line, this TCB, this chip (KDS)          product, tcb_mismatch, chip_id
  5  it signed the report (ABI)                        signature
  6  TCB versions agree with one another (ABI 2.2)           tcb

With endorsements (snp_chain):

  7  VCEK <- ASK or VLEK <- ASVK, <- pinned ARK, all valid   endorsements_missing, root, chain, expired
  8  the ARK's revocation lists, where given or required     crl, crl_missing, crl_expired, revoked
  9  they are not older than the floor                       endorsements_floor

What the caller MUST still do: compare `bound` with its own binder; judge debug, the migration agent, the privilege
level, SMT and the other bits of the guest policy, platform information, the TCB minimum, and the measurement.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from cryptography.hazmat.primitives.asymmetric import ec

from proxy_attestation.appraisal.endorsements import SnpEndorsements
from proxy_attestation.appraisal.instance import machine_id
from proxy_attestation.appraisal.refusal import EvidenceRefusedError
from proxy_attestation.appraisal.snp_certificate import (
    AmdCertificate,
    read_amd_certificate,
    refuse,
    report_signed_by,
)
from proxy_attestation.appraisal.snp_chain import ArkPins, SnpFloor, check_revocation, verify_vek_chain
from proxy_attestation.appraisal.snp_claims import SnpClaims, snp_claims
from proxy_attestation.codes import Code
from proxy_attestation.errors import AppraisalError, ProxyAttestationError
from proxy_attestation.formats.bounds import SNP_CERTIFICATES_MAX
from proxy_attestation.formats.snp_certificates import VekExtensions, decode_vek_extensions
from proxy_attestation.formats.snp_report import TCB_LAYOUT, VCEK, VLEK, Product, SnpReport, decode_snp_report
from proxy_attestation.formats.tee import Tee

_POLICY_ONE: Final = 1 << 17
_POLICY_DEFINED: Final = (1 << 26) - 1
_PLATFORM_INFO_DEFINED: Final = 0b1011_1111
"""SMT, TSME, ECC, RAPL, ciphertext hiding, alias check; TIO."""
_VMPL_MAX: Final = 3
_VEK_NAMES: Final = {VCEK: "SEV-VCEK", VLEK: "SEV-VLEK"}
_LINES: Final = {
    **{str(product): product for product in Product},
    # KDS serves these from Genoa's root.
    "Bergamo": Product.GENOA,
    "Siena": Product.GENOA,
}


class SnpRefusedError(EvidenceRefusedError):
    """A refusal of a report whose signature fits its VCEK or VLEK, so that what it says of itself may be shown."""

    body: SnpClaims


@dataclass(frozen=True, slots=True)
class SnpResult:
    """The outcome of an appraisal.

    Attributes:
        body: what the report says, with the processor line and, for a VLEK, the cloud provider.
        bound: REPORT_DATA, 64 bytes: the values that a binder must equal.
        instance_id: identifies the chip (hashed; 32 bytes), or None where it is masked. Never leaves the proxy.
        anchor: SHA-256 of the ARK's SubjectPublicKeyInfo, 32 bytes.
        evidence_sha256: 32 bytes, over the evidence as received.
        valid_until: the earliest end of the certificates and lists that this rests on, UTC.
        floor: what the lists would raise the ARK's floor to; None where there was none.
    """

    body: SnpClaims
    bound: tuple[bytes, ...]
    instance_id: bytes | None
    anchor: bytes
    evidence_sha256: bytes
    valid_until: datetime
    floor: SnpFloor | None


def appraise_snp(
    evidence: bytes | SnpReport,
    endorsements: SnpEndorsements,
    roots: ArkPins,
    floor: SnpFloor | None,
    now: datetime,
    *,
    platform_certificates: Sequence[bytes] = (),
    crl_required: bool,
) -> SnpResult:
    """Appraise one report, everything from scratch.

    Args:
        evidence: the report or the extended report, raw, or what `decode_snp_report` made of it.
        endorsements: what the proxy has.
        roots: the anchors.
        floor: the oldest list of the ARK that may be used, or None where nothing is known yet.
        now: aware, UTC.
        platform_certificates: DER, from the peer. A list in its certificate table counts for nothing.
        crl_required: whether a list must be there; one that is there is checked in any case.

    Raises:
        FormatError, AppraisalError: with a code of the walk above. From step 6 on an `AppraisalError` is an
            `SnpRefusedError`, which holds the report.
    """
    # 1
    report = evidence if isinstance(evidence, SnpReport) else decode_snp_report(evidence)
    # 2
    body = snp_claims(report)
    _check_report(body)
    # 3, 4
    pool = _read_pool(*report.certificates.certificates, *platform_certificates, *endorsements.certificates)
    vek, extensions, product = _find_vek(body, pool)
    body = replace(body, product=product, csp_id=extensions.csp_id)
    # 5
    if not isinstance(vek.key, ec.EllipticCurvePublicKey):
        refuse(Code.SNP_CHAIN, f"the key of {vek.common_name!r} is not P-384")
    if not report_signed_by(vek.key, report.signature, report.signed):
        refuse(Code.SNP_SIGNATURE, f"the {report.signing_key} did not sign the report")
    try:
        # 6
        _check_tcb(body, product)
        # 7
        issuer, ark = verify_vek_chain(vek, report.signing_key, product, pool=pool, pins=roots, now=now)
        # 8
        crl = check_revocation(issuer, ark, endorsements.crls, now, required=crl_required)
        # 9
        own = None if crl is None else SnpFloor(crl.number, int(crl.this_update.timestamp()))
        lowest = floor or SnpFloor()
        if own is not None and (own.crl_number < lowest.crl_number or own.this_update < lowest.this_update):
            refuse(Code.SNP_ENDORSEMENTS_FLOOR, f"{own} lies below {floor}")
    except AppraisalError as error:
        raise SnpRefusedError(error.code, error.detail, body) from error
    ends = [certificate.not_after for certificate in (vek, issuer, ark)]
    return SnpResult(
        body=body,
        bound=report.bound,
        instance_id=machine_id(Tee.SNP, body.chip_id),
        anchor=ark.spki_sha256,
        evidence_sha256=hashlib.sha256(report.data).digest(),
        valid_until=min(ends if crl is None else [*ends, crl.next_update]),
        floor=own,
    )


def line_of(report: SnpReport, platform_certificates: Sequence[bytes]) -> Product:
    """Return the processor line that a report says it is of; in version 2, that of the VCEK or VLEK beside it.

    Raises:
        FormatError, AppraisalError: as steps 2 to 4 of the walk, which this leaves to be taken again.
    """
    body = snp_claims(report)
    _check_report(body)
    if body.product is not None:
        return body.product
    return _find_vek(body, _read_pool(*report.certificates.certificates, *platform_certificates))[2]


def appraise_vek(
    endorsements: SnpEndorsements, roots: ArkPins, now: datetime, *, crl_required: bool
) -> tuple[VekExtensions, bytes]:
    """Appraise the first VCEK or VLEK by itself, without any report: steps 3, 7 and 8 of the walk.

    Returns:
        What AMD certified, and SHA-256 of the ARK's SubjectPublicKeyInfo (32 bytes).

    Raises:
        FormatError, AppraisalError: with a code of those steps, or `snp.product`.
    """
    pool = _read_pool(*endorsements.certificates)
    veks = ((vek, kind) for kind, name in _VEK_NAMES.items() for vek in pool if vek.common_name.endswith(name))
    vek, kind = next(veks, (None, ""))
    if vek is None:
        refuse(Code.SNP_ENDORSEMENTS_MISSING, "absent: a VCEK or a VLEK")
    extensions = decode_vek_extensions(vek.extensions)
    product = _check_extensions(kind, extensions)
    issuer, ark = verify_vek_chain(vek, kind, product, pool=pool, pins=roots, now=now)
    check_revocation(issuer, ark, endorsements.crls, now, required=crl_required)
    return extensions, ark.spki_sha256


def _check_report(body: SnpClaims) -> None:
    """Step 2."""
    if body.policy_bits & ~_POLICY_DEFINED or not body.policy_bits & _POLICY_ONE:
        refuse(Code.SNP_POLICY, f"guest policy {body.policy_bits:#x}")
    if int.from_bytes(body.platform_info, "little") & ~_PLATFORM_INFO_DEFINED:
        refuse(Code.SNP_PLATFORM_INFO, f"platform information {body.platform_info.hex()}")
    if body.vmpl > _VMPL_MAX:
        refuse(Code.SNP_VMPL, f"VMPL {body.vmpl:#x}")
    if body.cpuid_fam_mod_step is not None and body.product is None:
        refuse(Code.SNP_PRODUCT, f"CPUID family, model and stepping {body.cpuid_fam_mod_step.hex()}")


def _read_pool(*ders: bytes) -> list[AmdCertificate]:
    if len(ders) > SNP_CERTIFICATES_MAX:
        refuse(Code.SNP_CHAIN, f"{len(ders)} certificates, at most {SNP_CERTIFICATES_MAX} allowed")
    return [read_amd_certificate(der) for der in dict.fromkeys(ders)]


def _find_vek(body: SnpClaims, pool: Sequence[AmdCertificate]) -> tuple[AmdCertificate, VekExtensions, Product]:
    """Steps 3 and 4: the first certificate that is for this report; where none is, what is wrong with the first."""
    refusal: ProxyAttestationError | None = None
    for certificate in pool:
        if certificate.common_name.endswith(_VEK_NAMES[body.signing_key]):
            try:
                extensions = decode_vek_extensions(certificate.extensions)
                return certificate, extensions, _check_vek(body, extensions)
            except ProxyAttestationError as error:
                refusal = refusal or error
    raise refusal or AppraisalError(Code.SNP_ENDORSEMENTS_MISSING, f"absent: the {body.signing_key}")


def _check_extensions(kind: str, vek: VekExtensions) -> Product:
    """Return the processor line of a VCEK or VLEK that has everything which such a certificate of that line has."""
    if (vek.hw_id is None) is (kind == VCEK) or (vek.csp_id is None) is (kind == VLEK):
        refuse(Code.SNP_VEK, f"a {kind} with or without a chip id or a cloud provider")
    product = _LINES.get(vek.product_name.split("-")[0])
    if product is None:
        refuse(Code.SNP_PRODUCT, f"a certificate for {vek.product_name!r}")
    layout = TCB_LAYOUT[product]
    missing = {spl for spl in layout if not spl.startswith("spl")} - vek.spls.keys()
    if missing or any(spl for name, spl in vek.spls.items() if name not in layout):
        refuse(Code.SNP_VEK, f"security patch levels {sorted(vek.spls)} for {product}")
    return product


def _check_vek(body: SnpClaims, vek: VekExtensions) -> Product:
    """Step 4."""
    product = _check_extensions(body.signing_key, vek)
    if body.product not in (None, product):
        refuse(Code.SNP_PRODUCT, f"a certificate for {vek.product_name!r}, a report of {body.product}")
    layout = TCB_LAYOUT[product]
    if bytes(vek.spls.get(name, 0) for name in layout) != body.reported_tcb:
        refuse(Code.SNP_TCB_MISMATCH, f"a certificate for {dict(vek.spls)}, reported {body.reported_tcb.hex()}")
    # A masked chip id is zero: then the signature alone ties the certificate to the report.
    if vek.hw_id is not None and any(body.chip_id):
        short = product is Product.TURIN and len(vek.hw_id) < len(body.chip_id)
        if vek.hw_id.ljust(len(body.chip_id) if short else 0, b"\0") != body.chip_id:
            refuse(Code.SNP_CHIP_ID, "a certificate of another chip")
    return product


def _check_tcb(body: SnpClaims, product: Product) -> None:
    """Step 6."""
    reserved = [index for index, name in enumerate(TCB_LAYOUT[product]) if name.startswith("spl")]
    versions = (body.reported_tcb, body.current_tcb, body.committed_tcb, body.launch_tcb)
    if any(version[index] for version in versions for index in reserved):
        refuse(Code.SNP_TCB, "a reserved byte of a TCB version is not zero")
    if any(committed > current for committed, current in zip(body.committed_tcb, body.current_tcb, strict=True)):
        refuse(Code.SNP_TCB, f"committed {body.committed_tcb.hex()} above current {body.current_tcb.hex()}")
