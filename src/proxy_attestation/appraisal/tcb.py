"""How up to date the platform, its quoting enclave and its TDX module are, by Intel's verified collateral.

Source: the algorithm of Intel's quote verification library (QVL 4.1.2.4.11, .15 and .17). SVNs of the platform come
from the PCK certificate's components, never from the quote.
"""

from typing import Final

from proxy_attestation.appraisal.claims import DcapBody, SgxClaims, TcbClaims, TdxClaims
from proxy_attestation.appraisal.dcap_collateral import DcapCollateral
from proxy_attestation.appraisal.refusal import refuse
from proxy_attestation.formats.dcap_codes import DcapFault
from proxy_attestation.formats.dcap_collateral import (
    PlatformLevel,
    QeIdentity,
    SvnLevel,
    TcbInfo,
    TcbStatus,
    TdxModule,
)
from proxy_attestation.formats.pck import PckExtension
from proxy_attestation.formats.tee import Tee

_S: Final = TcbStatus
_OUTDATED: Final = {
    _S.UP_TO_DATE: _S.OUT_OF_DATE,
    _S.SW_HARDENING_NEEDED: _S.OUT_OF_DATE,
    _S.CONFIGURATION_NEEDED: _S.OUT_OF_DATE_CONFIGURATION_NEEDED,
    _S.CONFIGURATION_AND_SW_HARDENING_NEEDED: _S.OUT_OF_DATE_CONFIGURATION_NEEDED,
}
"""What an outdated module or quoting enclave makes of the platform's status; other statuses stay."""
_NEEDS_CONFIGURATION: Final = frozenset(
    {_S.CONFIGURATION_NEEDED, _S.CONFIGURATION_AND_SW_HARDENING_NEEDED, _S.OUT_OF_DATE_CONFIGURATION_NEEDED}
)
_OUT_OF_DATE: Final = frozenset({_S.OUT_OF_DATE, _S.OUT_OF_DATE_CONFIGURATION_NEEDED})


def judge_tcb(collateral: DcapCollateral, pck: PckExtension, qe_report: bytes, body: DcapBody) -> TcbClaims:
    """Judge a platform. Steps 10 to 12 of `appraisal.dcap`.

    Args:
        collateral: the verified set for this platform.
        pck: what Intel certified about the platform.
        qe_report: 384 bytes, verified.
        body: the report body.

    Raises:
        AppraisalError: `tdx.module_identity`, `tdx.module_tcb_not_supported`, `tdx.module_tcb_revoked`,
            `<tee>.qe_identity`, `<tee>.qe_tcb_not_supported`, `<tee>.qe_tcb_revoked`, `<tee>.tcb_not_supported`,
            `<tee>.tcb_revoked`.
    """
    info, tee = collateral.tcb_info, collateral.tee
    # 10
    module = None if isinstance(body, SgxClaims) else match_module(info, body)
    # 11
    qe = match_qe(collateral.qe_identity, qe_report, tee)
    # 12
    newest, platform = match_levels(info, pck, None if isinstance(body, SgxClaims) else body.tee_tcb_svn)
    if platform is None or newest is None:
        refuse(tee, DcapFault.TCB_NOT_SUPPORTED, "no TCB level is as low as this platform's")
    if platform.status is _S.REVOKED:
        refuse(tee, DcapFault.TCB_REVOKED, f"the TCB level of {platform.date:%Y-%m-%d} is revoked")
    status = platform.status if module is None else converge(platform.status, module)
    if isinstance(body, TdxClaims) and module is not None:
        status = _relaunch(info, body, sgx=newest.status, status=status, module=module, qe=qe)
    status = converge(status, qe)
    matched = (platform, qe) if module is None else (platform, module, qe)
    return TcbClaims(
        status=str(status),
        date=platform.date,
        advisories=tuple(sorted({advisory for level in matched for advisory in level.advisories})),
        evaluation_number=info.evaluation_number,
        fmspc=info.fmspc,
        pce_id=info.pce_id,
    )


def converge(platform: TcbStatus, part: SvnLevel) -> TcbStatus:
    """Return the platform's status once a part of it, its TDX module or quoting enclave, is taken into account."""
    return _OUTDATED.get(platform, platform) if part.status is _S.OUT_OF_DATE else platform


def match_levels(
    info: TcbInfo, pck: PckExtension, tee_tcb_svn: bytes | None
) -> tuple[PlatformLevel | None, PlatformLevel | None]:
    """Return the highest level that the platform's SGX SVNs reach, and the highest that its TDX SVNs reach too.

    For SGX (no `tee_tcb_svn`) both are the same.
    """
    newest: PlatformLevel | None = None
    for level in info.levels:
        if pck.pce_svn < level.pce_svn or any(a < b for a, b in zip(pck.components, level.sgx, strict=True)):
            continue
        newest = newest or level
        if tee_tcb_svn is None:
            return level, level
        # A module with an identity of its own (major version above 0) is judged by that, not by SVNs 0 and 1.
        start = 2 if tee_tcb_svn[1] > 0 else 0
        if all(a >= b for a, b in zip(tee_tcb_svn[start:], level.tdx[start:], strict=True)):
            return newest, level
    return newest, None


def match_qe(identity: QeIdentity, report: bytes, tee: Tee) -> SvnLevel:
    """Return the level of a quoting enclave, after checking that it is the one that Intel names.

    Raises:
        AppraisalError: `<tee>.qe_identity`, `<tee>.qe_tcb_not_supported`, `<tee>.qe_tcb_revoked`.
    """
    for name, actual, expected, mask in (
        ("MISCSELECT", report[16:20], identity.misc_select, identity.misc_select_mask),
        ("ATTRIBUTES", report[48:64], identity.attributes, identity.attributes_mask),
        ("MRSIGNER", report[128:160], identity.mr_signer, b"\xff" * 32),
        ("ISVPRODID", report[256:258], identity.isv_prod_id.to_bytes(2, "little"), b"\xff" * 2),
    ):
        if not _matches(actual, expected, mask):
            refuse(tee, DcapFault.QE_IDENTITY, f"the quoting enclave's {name} is {actual.hex()}")
    level = _match_svn(identity.levels, int.from_bytes(report[258:260], "little"))
    if level is None:
        refuse(tee, DcapFault.QE_TCB_NOT_SUPPORTED, "no level is as low as the quoting enclave's ISVSVN")
    if level.status is _S.REVOKED:
        refuse(tee, DcapFault.QE_TCB_REVOKED, f"the quoting enclave's level {level.isv_svn} is revoked")
    return level


def match_module(info: TcbInfo, body: TdxClaims) -> SvnLevel | None:
    """Return the level of the TDX module, after checking that it is one that Intel names.

    None for a module of major version 0, which has no levels of its own.

    Raises:
        AppraisalError: `tdx.module_identity`, `tdx.module_tcb_not_supported`, `tdx.module_tcb_revoked`.
    """
    version = body.tee_tcb_svn[1]
    module = _module(info, version)
    if body.mr_signer_seam != module.mr_signer:
        refuse(Tee.TDX, DcapFault.MODULE_IDENTITY, f"MRSIGNERSEAM is {body.mr_signer_seam.hex()}")
    if any(body.seam_attributes) or not _matches(body.seam_attributes, module.attributes, module.attributes_mask):
        refuse(Tee.TDX, DcapFault.MODULE_IDENTITY, f"SEAMATTRIBUTES is {body.seam_attributes.hex()}")
    if version == 0:
        return None
    level = _match_svn(module.levels, body.tee_tcb_svn[0])
    if level is None:
        refuse(Tee.TDX, DcapFault.MODULE_TCB_NOT_SUPPORTED, "no level is as low as the TDX module's SVN")
    if level.status is _S.REVOKED:
        refuse(Tee.TDX, DcapFault.MODULE_TCB_REVOKED, f"the TDX module's level {level.isv_svn} is revoked")
    return level


def _module(info: TcbInfo, version: int) -> TdxModule:
    module = info.module if version == 0 else info.module_identities.get(version)
    if module is None:
        refuse(Tee.TDX, DcapFault.MODULE_IDENTITY, f"no identity TDX_{version:02X}")
    return module


def _match_svn(levels: tuple[SvnLevel, ...], svn: int) -> SvnLevel | None:
    return next((level for level in levels if svn >= level.isv_svn), None)


def _matches(actual: bytes, expected: bytes, mask: bytes) -> bool:
    return bytes(a & m for a, m in zip(actual, mask, strict=True)) == expected


def _relaunch(
    info: TcbInfo, body: TdxClaims, *, sgx: TcbStatus, status: TcbStatus, module: SvnLevel, qe: SvnLevel
) -> TcbStatus:
    """Tell "out of date" from "a newer TDX module is loaded, and the TD only has to be launched again".

    The TD itself still runs on what the old module gave it: a policy has to name the status to accept it.
    """
    if (
        body.tee_tcb_svn_2 is None
        or qe.status is _S.OUT_OF_DATE
        or sgx in _OUT_OF_DATE | {_S.REVOKED}
        or status not in _OUT_OF_DATE
        or module.status is not _S.OUT_OF_DATE
    ):
        return status
    loaded, newest = body.tee_tcb_svn_2, info.levels[0].tdx
    needed = newest[0] if loaded[1] == 0 else _module(info, loaded[1]).levels[0].isv_svn
    if loaded[0] < needed or loaded[2] < newest[2]:
        return status
    if sgx in _NEEDS_CONFIGURATION or status in _NEEDS_CONFIGURATION:
        return _S.TD_RELAUNCH_ADVISED_CONFIGURATION_NEEDED
    return _S.TD_RELAUNCH_ADVISED
