"""Azure confidential VMs: a vTPM whose attestation key the hardware's own report vouches for. Both layers, or refusal.

  1  the hardware evidence is genuine: the SNP report in the HCL report, or the TD quote beside it, by its own walk
                                                           the codes of that walk; tpm.hcl_layer without a TD quote
  2  it is of the kind that the HCL report says; SNP: at VMPL 0, where the paravisor runs and the guest does not
                                                           tpm.hcl_layer
  3  its report data are those of the HCL report, which are the hash of the runtime data, zeros behind it
                                                           tpm.hcl_report_data
  4  the runtime data name the AK that signed the quote    tpm.hcl_key

The hardware report is made at boot: freshness comes from the quote alone. MEASUREMENT or MRTD is Microsoft's paravisor;
what the VM booted is in the PCRs. What the caller MUST still do: judge both, and the hardware layer's debug and TCB.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TypeAlias

from proxy_attestation.appraisal.claims import Claims
from proxy_attestation.codes import Code
from proxy_attestation.errors import AppraisalError
from proxy_attestation.formats.azure_hcl import HclReport
from proxy_attestation.formats.tee import Tee
from proxy_attestation.formats.tpm import PublicKey, spki_of


@dataclass(frozen=True, slots=True)
class HardwareLayer:
    """What the walk over the hardware evidence established.

    Attributes:
        report_type: `SNP` or `TDX`.
        report_data: 64 bytes.
        vmpl: of an SNP report; None for TDX.
        anchor: SHA-256 of the vendor root's SubjectPublicKeyInfo, 32 bytes.
        instance_id: 32 bytes, or None.
        valid_until: the earliest end of the collateral that it rests on, or None where there is none.
        claims: the walk's own result, for policies.
    """

    report_type: str
    report_data: bytes
    vmpl: int | None
    anchor: bytes
    instance_id: bytes | None
    valid_until: datetime | None
    claims: Claims | None


Verify: TypeAlias = Callable[[str, bytes], HardwareLayer]
"""Appraises hardware evidence: called with `SNP` and the report (1184 bytes), or with `TDX` and the TD quote."""


def hardware_layer(claims: Claims) -> HardwareLayer:
    """Return the layer that a verified SNP report or TD quote makes.

    Raises:
        AppraisalError: `tpm.hcl_layer`, for claims of another TEE.
    """
    kinds = {Tee.SNP: "SNP", Tee.TDX: "TDX"}
    if claims.tee not in kinds:
        raise AppraisalError(Code.TPM_HCL_LAYER, f"{claims.tee} evidence below a vTPM")
    return HardwareLayer(
        report_type=kinds[claims.tee],
        report_data=claims.bound[0],
        vmpl=getattr(claims.body, "vmpl", None),
        anchor=claims.anchor,
        instance_id=claims.instance_id,
        valid_until=claims.valid_until,
        claims=claims,
    )


def check_hcl(report: HclReport, ak: PublicKey) -> None:
    """Steps 3 and 4, as far as the HCL report goes: its own report data, its own keys.

    Raises:
        AppraisalError: `tpm.hcl_report_data`, `tpm.hcl_key`.
    """
    # 3
    if report.report_data != report.runtime_data_hash.ljust(64, b"\0"):
        raise AppraisalError(Code.TPM_HCL_REPORT_DATA, "the report data are not the hash of the runtime data")
    # 4
    if spki_of(report.attestation_key) != spki_of(ak):
        raise AppraisalError(Code.TPM_HCL_KEY, "HCLAkPub is another key than the one that signed the quote")


def appraise_hcl(report: HclReport, td_quote: bytes | None, ak: PublicKey, verify: Verify) -> HardwareLayer:
    """Appraise both layers.

    Args:
        report: decoded.
        td_quote: beside a report of type TDX.
        ak: the key that signed the TPM quote.
        verify: the walk over hardware evidence.

    Raises:
        FormatError, AppraisalError: as the module's description says.
    """
    # 1
    evidence = report.hardware_report if report.report_type == "SNP" else td_quote
    if evidence is None:
        raise AppraisalError(Code.TPM_HCL_LAYER, "a TDREPORT alone proves nothing: the TD quote is absent")
    layer = verify(report.report_type, evidence)
    # 2
    if layer.report_type != report.report_type or layer.vmpl != (0 if layer.report_type == "SNP" else None):
        raise AppraisalError(Code.TPM_HCL_LAYER, f"a layer of type {layer.report_type}, VMPL {layer.vmpl}")
    # 3
    if layer.report_data != report.report_data:
        raise AppraisalError(Code.TPM_HCL_REPORT_DATA, "the hardware evidence has other report data")
    # 3, 4
    check_hcl(report, ak)
    return layer
