"""Report bodies as claims, and what no TD can be."""

import struct
from typing import Final

from proxy_attestation.appraisal.claims import DcapBody, SgxClaims, TdxClaims
from proxy_attestation.appraisal.refusal import refuse
from proxy_attestation.formats.dcap_codes import DcapFault
from proxy_attestation.formats.dcap_quote import TD_REPORT_15_LENGTH, Quote
from proxy_attestation.formats.tee import Tee

# TDATTRIBUTES bits that are defined (Intel TDX Module ABI specification; Linux arch/x86/include/asm/shared/tdx.h):
# 0 DEBUG, 16 ICSSD, 27 LASS, 28 SEPT_VE_DISABLE, 29 MIGRATABLE, 30 PKS, 31 KL, 62 TPA, 63 PERFMON. Bits 1 to 7 are
# left out on purpose, those that got a name too (4 HGS_PLUS_PROF, 5 PERF_PROF, 6 PMT_PROF): they belong to the byte
# TUD, whose bits let the host debug or profile the TD, so that it must not be trusted with keys.
_ATTRIBUTES_KNOWN: Final = sum(1 << bit for bit in (0, 16, 27, 28, 29, 30, 31, 62, 63))
_XFAM_FIXED_1: Final = 0x3
"""Bits that are always set: x87 and SSE."""
_XFAM_ALLOWED: Final = 0x0006DBE7
"""Bits that may be set at all."""

# In the order of memory; what is left out is reserved, or the report data at the end.
_SGX: Final = struct.Struct("<16s4s12x16s8s8s32s32x32s32x64sHHH42x16s64x")
_TDX: Final = struct.Struct("<16s48s48s8s8s8s48s48s48s48s48s48s48s48s64x")
_TDX_15: Final = struct.Struct("<16s48s")


def parse_body(quote: Quote) -> DcapBody:
    """Return the quote's report body as claims."""
    if quote.tee is Tee.SGX:
        return _sgx(quote.body)
    return _tdx(quote.body)


def _sgx(body: bytes) -> SgxClaims:
    cpu_svn, misc, ext_prod_id, flags, xfrm, enclave, signer, config_id, prod_id, svn, config_svn, family_id = (
        _SGX.unpack(body)
    )
    return SgxClaims(
        cpu_svn=cpu_svn,
        misc_select=misc,
        attributes_flags=flags,
        xfrm=xfrm,
        mr_enclave=enclave,
        mr_signer=signer,
        isv_prod_id=prod_id,
        isv_svn=svn,
        isv_ext_prod_id=ext_prod_id,
        config_id=config_id,
        config_svn=config_svn,
        isv_family_id=family_id,
    )


def _tdx(body: bytes) -> TdxClaims:
    svn, seam, signer_seam, seam_attributes, attributes, xfam, mr_td, config_id, owner, owner_config, *rtmr = (
        _TDX.unpack_from(body)
    )
    svn_2, service_td = _TDX_15.unpack_from(body, _TDX.size) if len(body) == TD_REPORT_15_LENGTH else (None, None)
    return TdxClaims(
        tee_tcb_svn=svn,
        mr_seam=seam,
        mr_signer_seam=signer_seam,
        seam_attributes=seam_attributes,
        td_attributes=attributes,
        xfam=xfam,
        mr_td=mr_td,
        mr_config_id=config_id,
        mr_owner=owner,
        mr_owner_config=owner_config,
        rtmr0=rtmr[0],
        rtmr1=rtmr[1],
        rtmr2=rtmr[2],
        rtmr3=rtmr[3],
        tee_tcb_svn_2=svn_2,
        mr_service_td=service_td,
    )


def check_body(body: DcapBody) -> None:
    """Refuse a TD whose attributes or features no TDX module that we know can have given it.

    An enclave has nothing of the kind: what it may be is for policies to say.

    Raises:
        AppraisalError: `tdx.attributes`, `tdx.xfam`.
    """
    if isinstance(body, SgxClaims):
        return
    if int.from_bytes(body.td_attributes, "little") & ~_ATTRIBUTES_KNOWN:
        refuse(Tee.TDX, DcapFault.ATTRIBUTES, f"TDATTRIBUTES {body.td_attributes.hex()} has reserved or TUD bits")
    xfam = int.from_bytes(body.xfam, "little")
    if xfam & ~_XFAM_ALLOWED or xfam & _XFAM_FIXED_1 != _XFAM_FIXED_1:
        refuse(Tee.TDX, DcapFault.XFAM, f"XFAM {body.xfam.hex()}")
