"""Steps of the walk that `appraisal.dcap` numbers: the signatures in a quote, and its platform against collateral."""

import hashlib

from cryptography.hazmat.primitives.asymmetric import ec

from proxy_attestation.appraisal.claims import Claims, DcapBody, TcbClaims
from proxy_attestation.appraisal.dcap_collateral import DcapCollateral
from proxy_attestation.appraisal.pck_chain import PckChain
from proxy_attestation.appraisal.refusal import refuse
from proxy_attestation.appraisal.x509_chain import raw_public_key, verifies_raw
from proxy_attestation.formats.dcap_codes import DcapFault
from proxy_attestation.formats.dcap_quote import Quote


def verify_qe_report(quote: Quote, pck: ec.EllipticCurvePublicKey | None) -> ec.EllipticCurvePublicKey:
    """Steps 4 and 5: return the attestation key that the platform's quoting enclave vouches for.

    Args:
        quote: the quote.
        pck: the platform's key; None skips step 4, and the key returned is then worth nothing by itself.

    Raises:
        AppraisalError: `<tee>.qe_report_signature`, `<tee>.qe_report_data`, `<tee>.signature` for a key that is no
            point of the curve.
    """
    # 4
    if pck is not None and not verifies_raw(pck, quote.qe_report_signature, quote.qe_report):
        refuse(quote.tee, DcapFault.QE_REPORT_SIGNATURE, "the PCK did not sign the quoting enclave's report")
    # 5
    digest = hashlib.sha256(quote.attestation_key + quote.qe_authentication_data).digest()
    if quote.qe_report[320:384] != digest + bytes(32):
        refuse(quote.tee, DcapFault.QE_REPORT_DATA, "the quoting enclave's report is about another attestation key")
    key = raw_public_key(quote.attestation_key)
    if key is None:
        refuse(quote.tee, DcapFault.SIGNATURE, "the attestation key is no point of P-256")
    return key


def verify_quote_signature(quote: Quote, key: ec.EllipticCurvePublicKey) -> None:
    """Step 6.

    Raises:
        AppraisalError: `<tee>.signature`.
    """
    if not verifies_raw(key, quote.signature, quote.signed):
        refuse(quote.tee, DcapFault.SIGNATURE, "the attestation key did not sign header and body")


def check_platform(chain: PckChain, collateral: DcapCollateral) -> None:
    """Step 9: the platform's certificates against collateral that was verified by itself.

    Raises:
        AppraisalError: `<tee>.root`, `<tee>.crl`, `<tee>.revoked`, `<tee>.tcb_info_mismatch`.
    """
    tee, info = collateral.tee, collateral.tcb_info
    ca, root = chain.ca, chain.root
    if ca is None or root is None or root.spki_sha256 != collateral.root.spki_sha256:
        refuse(tee, DcapFault.ROOT, "the platform and the collateral have different roots")
    if ca.subject != collateral.pck_ca.subject or ca.spki_sha256 != collateral.pck_ca.spki_sha256:
        refuse(tee, DcapFault.CRL, f"the PCK CRL is {collateral.pck_ca.common_name!r}'s, not {ca.common_name!r}'s")
    if ca.serial in collateral.root_crl.revoked or chain.leaf.serial in collateral.pck_crl.revoked:
        refuse(tee, DcapFault.REVOKED, "the PCK certificate or its CA is revoked")
    if chain.extension.fmspc != info.fmspc or chain.extension.pce_id != info.pce_id:
        refuse(tee, DcapFault.TCB_INFO_MISMATCH, f"TCB info for FMSPC {info.fmspc.hex()}, PCEID {info.pce_id.hex()}")


def make_claims(quote: Quote, body: DcapBody, chain: PckChain, collateral: DcapCollateral, tcb: TcbClaims) -> Claims:
    """Put together what the steps established."""
    return Claims(
        tee=quote.tee,
        body=body,
        bound=quote.bound,
        debug=body.debug,
        tcb=tcb,
        instance_id=chain.instance_id,
        anchor=collateral.root.spki_sha256,
        evidence_sha256=hashlib.sha256(quote.data).digest(),
        valid_until=min(chain.valid_until, collateral.valid_until),
    )
