"""The cause and the fix of every code of an appraisal walk.

SGX and TDX quotes are judged by one walk, so most lines differ in the TEE's name and nothing else: they are written
once, and `{tee}` stands for that name.
"""

from typing import Final

from proxy_attestation.codes import Code, Explanation

# The part of the code after the dot: (cause, fix).
_DCAP: Final[dict[str, tuple[str, str]]] = {
    "malformed": (
        "The {tee} quote breaks its format: a length, an offset or a reserved field is wrong.",
        "Send the {tee} quote exactly as the platform returned it; `inspect` shows how far it can be read.",
    ),
    "version": (
        "The {tee} quote has a version or body type that is not supported.",
        "Make a quote of version 3, 4 or 5 whose body is of a type that its version defines for {tee}.",
    ),
    "key_type": (
        "The {tee} quote is signed by a kind of attestation key other than ECDSA P-256.",
        "Set up the {tee} platform's quoting enclave for ECDSA P-256 attestation keys.",
    ),
    "qe_vendor": (
        "The quoting enclave that made the {tee} quote is not Intel's.",
        "Use Intel's quoting enclave on the {tee} platform; no other vendor's is accepted.",
    ),
    "certification_data": (
        "The {tee} quote's certification data is of an unknown type, or is not a PEM chain where it should be one.",
        "Make the {tee} quote with certification data type 5: the PCK certificate chain of its platform, in PEM.",
    ),
    "chain": (
        "A certificate chain of the {tee} evidence or its collateral is broken: signature, order, name or constraints.",
        "Fetch the {tee} platform's chains again from Intel's PCS or your PCCS, and compare them with `inspect`.",
    ),
    "root": (
        "The {tee} evidence or its collateral ends in a root that is not a pinned Intel root.",
        "Use evidence of real {tee} hardware; simulated evidence needs an authority made with `init --simulated`.",
    ),
    "pck": (
        "The PCK certificate of the {tee} platform lacks Intel's SGX extension, or the extension is malformed.",
        "Provision the {tee} platform again, so that it gets a new PCK certificate from Intel.",
    ),
    "expired": (
        "A certificate that the {tee} evidence rests on is not valid at this time.",
        "Fetch new certificates for the {tee} platform, and check the clock, or `--at`.",
    ),
    "revoked": (
        "Intel has revoked a certificate that the {tee} evidence rests on.",
        "Do not trust this {tee} platform. Update its firmware and provision it again to get a new PCK certificate.",
    ),
    "crl": (
        "A certificate revocation list for the {tee} evidence is malformed, wrongly signed or of another issuer.",
        "Fetch Intel's root CRL and the PCK CRL of the right CA (platform or processor) for the {tee} evidence again.",
    ),
    "crl_expired": (
        "A certificate revocation list for the {tee} evidence is out of date, or not valid yet.",
        "Refresh both CRLs that judge {tee} evidence, and check the clock, or `--at`.",
    ),
    "qe_report_signature": (
        "The quoting enclave's report inside the {tee} quote is not signed by the platform's PCK key.",
        "Make a new {tee} quote; if it is refused again, provision the platform again.",
    ),
    "qe_report_data": (
        "The quoting enclave's report does not commit to the attestation key of the {tee} quote.",
        "Make a new {tee} quote, and see that nothing between platform and verifier rewrites it.",
    ),
    "signature": (
        "The {tee} quote's own signature does not verify: it was changed, or signed by another key.",
        "Send the {tee} quote unchanged; if it is, make a new one.",
    ),
    "endorsements_missing": (
        "Collateral to judge the {tee} evidence by is absent: TCB info, QE identity, CRLs or their chains.",
        "Give Intel's collateral for the FMSPC of this {tee} platform (`--endorsements`, or the proxy's directory).",
    ),
    "endorsements_malformed": (
        "A piece of the collateral for the {tee} evidence breaks its format.",
        "Fetch the {tee} collateral again from Intel's PCS or your PCCS, and keep its bytes as they were sent.",
    ),
    "endorsements_floor": (
        "The collateral for the {tee} evidence is older than collateral that was used before.",
        "Refresh the {tee} collateral; its evaluation number, issue date and CRL numbers may never go back.",
    ),
    "tcb_info_signature": (
        "The TCB info for the {tee} evidence is not signed by Intel's TCB signing key.",
        "Fetch the {tee} TCB info again; its signature covers the exact bytes, so do not reformat the JSON.",
    ),
    "tcb_info_expired": (
        "The TCB info for the {tee} evidence is past its next update, or issued after this time.",
        "Refresh the {tee} TCB info, and check the clock, or `--at`.",
    ),
    "tcb_info_mismatch": (
        "The TCB info is not for this {tee} platform: its id, FMSPC, PCE id or version differs.",
        "Fetch the {tee} TCB info for the FMSPC that `inspect` shows for the evidence.",
    ),
    "tcb_not_supported": (
        "No level of the TCB info matches the {tee} platform: its security versions are below every level.",
        "Update the firmware and microcode of the {tee} platform, then provision it again.",
    ),
    "tcb_revoked": (
        "Intel has revoked the TCB level of this {tee} platform.",
        "Do not trust this {tee} platform until its firmware is updated and it has a new PCK certificate.",
    ),
    "qe_identity": (
        "The quoting enclave of the {tee} quote is not the one that Intel's QE identity describes.",
        "Install Intel's current quoting enclave on the {tee} platform, and give the identity of that kind of enclave.",
    ),
    "qe_identity_signature": (
        "The QE identity for the {tee} evidence is not signed by Intel's TCB signing key.",
        "Fetch the {tee} QE identity again; its signature covers the exact bytes, so do not reformat the JSON.",
    ),
    "qe_identity_expired": (
        "The QE identity for the {tee} evidence is past its next update, or issued after this time.",
        "Refresh the {tee} QE identity, and check the clock, or `--at`.",
    ),
    "qe_tcb_not_supported": (
        "No level of the QE identity matches the quoting enclave of the {tee} quote: it is too old.",
        "Update the DCAP packages of the {tee} platform, which bring the quoting enclave.",
    ),
    "qe_tcb_revoked": (
        "Intel has revoked the version of the quoting enclave that made the {tee} quote.",
        "Update the quoting enclave of the {tee} platform at once; no policy can allow this one.",
    ),
    "debug": (
        "The evidence comes from a TEE ({tee}) in debug mode: its memory can be read and changed from outside.",
        "Build and start the {tee} workload without debug; `--allow-debug` is for tests only.",
    ),
    "tcb_status": (
        "The TCB status of the {tee} platform is not one of those allowed.",
        "Update the {tee} platform, or allow its status where you accept the risk (policy `tcb`, or `--allow-tcb`).",
    ),
}

_TDX_ONLY: Final[dict[Code, tuple[str, str]]] = {
    Code.TDX_MODULE_IDENTITY: (
        "The TDX module that runs the TD is not one that the TCB info describes: signer, attributes or version.",
        "Install a TDX module released by Intel; `inspect` shows its version in the first bytes of tee_tcb_svn.",
    ),
    Code.TDX_MODULE_TCB_NOT_SUPPORTED: (
        "No level of the TCB info matches the TDX module's security version.",
        "Update the TDX module of the host.",
    ),
    Code.TDX_MODULE_TCB_REVOKED: (
        "Intel has revoked the version of the TDX module that runs the TD.",
        "Update the TDX module of the host at once; no policy can allow this one.",
    ),
    Code.TDX_ATTRIBUTES: (
        "The TD's attributes have a reserved bit set, or its SEAM attributes are not zero.",
        "Start the TD with attributes that Intel defines; a production TD has no bit of the TUD byte set.",
    ),
    Code.TDX_XFAM: (
        "The TD's extended features mask (XFAM) breaks Intel's fixed bits.",
        "Start the TD with a CPU model that the TDX module supports.",
    ),
    Code.TDX_SERVICE_TD: (
        "A service TD is bound to the TD, and nothing pins its measurement.",
        "Pin it where you trust that service TD (policy `mr_service_td`, or `--expect`); else start the TD without it.",
    ),
}


def _dcap(tee: str) -> dict[Code, Explanation]:
    prefix = tee.lower()
    return {
        Code(f"{prefix}.{suffix}"): Explanation(cause.format(tee=tee), fix.format(tee=tee))
        for suffix, (cause, fix) in _DCAP.items()
    }


APPRAISAL: Final[dict[Code, Explanation]] = {
    **_dcap("SGX"),
    **_dcap("TDX"),
    **{code: Explanation(cause, fix) for code, (cause, fix) in _TDX_ONLY.items()},
}
