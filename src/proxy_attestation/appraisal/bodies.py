"""Report bodies as claims, and what no TD can be."""

from typing import Final

from proxy_attestation.appraisal.claims import DcapBody, SgxClaims, TdxClaims
from proxy_attestation.appraisal.refusal import refuse
from proxy_attestation.formats.dcap_codes import DcapFault
from proxy_attestation.formats.dcap_quote import TD_REPORT_15_LENGTH, Quote
from proxy_attestation.formats.tee import Tee

# TDATTRIBUTES bits that are defined (Intel TDX Module ABI specification; Linux arch/x86/include/asm/shared/tdx.h):
# 0 DEBUG, 27 LASS, 28 SEPT_VE_DISABLE, 29 MIGRATABLE, 30 PKS, 31 KL, 62 TPA, 63 PERFMON. Bits 1 to 7 belong to the
# TUD byte: whatever sets one of them makes the TD untrusted, as DEBUG does, so those that got a name are not here.
_ATTRIBUTES_KNOWN: Final = sum(1 << bit for bit in (0, 27, 28, 29, 30, 31, 62, 63))
_XFAM_FIXED_1: Final = 0x3
"""Bits that are always set: x87 and SSE."""
_XFAM_ALLOWED: Final = 0x0006DBE7
"""Bits that may be set at all."""


def parse_body(quote: Quote) -> DcapBody:
    """Return the quote's report body as claims."""
    if quote.tee is Tee.SGX:
        return _sgx(quote.body)
    return _tdx(quote.body)


def _sgx(body: bytes) -> SgxClaims:
    return SgxClaims(
        cpu_svn=body[0:16],
        misc_select=body[16:20],
        attributes_flags=body[48:56],
        xfrm=body[56:64],
        mr_enclave=body[64:96],
        mr_signer=body[128:160],
        isv_prod_id=int.from_bytes(body[256:258], "little"),
        isv_svn=int.from_bytes(body[258:260], "little"),
        isv_ext_prod_id=body[32:48],
        config_id=body[192:256],
        config_svn=int.from_bytes(body[260:262], "little"),
        isv_family_id=body[304:320],
    )


def _tdx(body: bytes) -> TdxClaims:
    is_15 = len(body) == TD_REPORT_15_LENGTH
    return TdxClaims(
        tee_tcb_svn=body[0:16],
        mr_seam=body[16:64],
        mr_signer_seam=body[64:112],
        seam_attributes=body[112:120],
        td_attributes=body[120:128],
        xfam=body[128:136],
        mr_td=body[136:184],
        mr_config_id=body[184:232],
        mr_owner=body[232:280],
        mr_owner_config=body[280:328],
        rtmr0=body[328:376],
        rtmr1=body[376:424],
        rtmr2=body[424:472],
        rtmr3=body[472:520],
        tee_tcb_svn_2=body[584:600] if is_15 else None,
        mr_service_td=body[600:648] if is_15 else None,
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
