"""The cause and the fix of every code of the TPM walk, and of measured-boot logs."""

from typing import Final

from proxy_attestation.codes import Code, Explanation

_LOG: Final = (
    "The {tee} event log breaks its format: a length, a count, an algorithm or a register is wrong.",
    "Send the {tee} log as the firmware gave it (binary_bios_measurements, or the CCEL table's area), unchanged.",
)
_REPLAY: Final = (
    "The {tee} event log does not lead to the register values that were signed.",
    "Send the log of the same boot as the {tee} quote, read after the quote was made; nothing may be left out.",
)

_UNKNOWN: Final = (
    "A register that the entry pins holds a {tee} event of a type that is not known, so it cannot be judged.",
    "Find out what extends the register of the {tee}, and name the event's type in an event rule after review.",
)

_TPM: Final[dict[Code, tuple[str, str]]] = {
    Code.TPM_MALFORMED: (
        "A structure of the TPM evidence breaks its format: a length, a count or a reserved bit is wrong.",
        "Send the TPM's structures as it returned them, big-endian, with nothing behind them.",
    ),
    Code.TPM_ATTEST_TYPE: (
        "The TPM evidence is not a quote (or its certification not a certify structure) that a TPM generated.",
        "Make it with TPM2_Quote and TPM2_Certify; other attestation structures are not accepted in their place.",
    ),
    Code.TPM_ALGORITHM: (
        "The TPM evidence uses an algorithm, key size or curve that is not supported.",
        "Use RSA of 2048 to 4096 bits or P-256, P-384, P-521, with SHA-256, SHA-384 or SHA-512.",
    ),
    Code.TPM_ENDORSEMENTS_MISSING: (
        "The TPM quote came without its signature or without its attestation key.",
        "Give both beside the quote: the TPMT_SIGNATURE, and the AK's TPMT_PUBLIC or public key.",
    ),
    Code.TPM_NOT_RESTRICTED: (
        "The attestation key is not restricted, so it would sign a quote that no TPM made.",
        "Create the AK with the attribute `restricted`; a general signing key can be no AK.",
    ),
    Code.TPM_AK_ATTRIBUTES: (
        "The attestation key may exist outside its TPM, cannot sign, or decrypts.",
        "Create the AK with fixedTPM, fixedParent, sensitiveDataOrigin and sign, and without decrypt.",
    ),
    Code.TPM_SIGNATURE: (
        "The attestation key given did not sign the TPM quote: it was changed, or another key signed it.",
        "Send the quote unchanged, with its own signature and the AK that made it.",
    ),
    Code.TPM_PCR_VALUES: (
        "The PCR values that came with the TPM quote are not those that it selects.",
        "Send one value for each selected PCR, bank by bank in the quote's order, then ascending.",
    ),
    Code.TPM_PCR_DIGEST: (
        "The PCR values that came with the TPM quote do not have the digest that it signs.",
        "Read the values between two extends: read them, quote, read again, and repeat if they differ.",
    ),
    Code.TPM_CERTIFY_SIGNATURE: (
        "The attestation key did not sign the certification of the subject's key.",
        "Certify the key with the same AK that signs the quote.",
    ),
    Code.TPM_CERTIFY_BINDING: (
        "The certification of the subject's key has other qualifying data, or is of another boot, than the quote.",
        "Make both for the same challenge, with the same qualifying data, without a restart in between.",
    ),
    Code.TPM_CERTIFY_NAME: (
        "The certification is about another key than the public area that came with it.",
        "Send the public area of the key that was certified.",
    ),
    Code.TPM_KEY_ATTRIBUTES: (
        "The certified key may exist outside its TPM, or cannot sign.",
        "Create it with fixedTPM, fixedParent, sensitiveDataOrigin and sign.",
    ),
    Code.TPM_KEY_MISMATCH: (
        "The certified key is not the one that the certification request asks for.",
        "Sign the request with the key that the TPM holds and the AK certified.",
    ),
    Code.TPM_AK_UNTRUSTED: (
        "Nothing vouches for the attestation key: no activated credential, certificate, hardware layer or named key.",
        "Ask for a challenge with the EK certificate and the AK; off line, name the AK with `--roots`.",
    ),
    Code.TPM_AK_NAME: (
        "The attestation key is not the one that the challenge's credential was made for.",
        "Quote with the AK whose public area was sent when the challenge was asked for.",
    ),
    Code.TPM_HASH: (
        "The TPM quote is signed over a SHA-1 digest.",
        "Make an AK, or a quote, with SHA-256 or better; old SHA-1 quotes can be read off line under a named AK only.",
    ),
    Code.TPM_CERTIFICATE_ENCODING: (
        "A certificate of the TPM is not DER, or has a field or key that cannot be read.",
        "Read the certificate from its NV index again; if the vendor encoded it so, get a new one from the vendor.",
    ),
    Code.TPM_CHAIN: (
        "The certificate chain of the TPM's key is broken: signature, name, constraints, or a missing issuer.",
        "Send the vendor's intermediate certificates with the EK's, or give them to the proxy with the roots.",
    ),
    Code.TPM_ROOT: (
        "The certificate chain of the TPM's key ends in a root that is not pinned.",
        "Compare the root with the TPM vendor's publication, and pin its SPKI SHA-256 (policy `ek_roots`).",
    ),
    Code.TPM_EXPIRED: (
        "A certificate of the TPM's key, or of its issuers, is not valid at this time.",
        "Get a new certificate from the vendor, and check the clock, or `--at`.",
    ),
    Code.TPM_EK_CERTIFICATE: (
        "The certificate is not one of an endorsement key, or not of the EK that the credential was made for.",
        "Send the EK certificate that the challenge was asked for with (key usage for encryption, EKU 2.23.133.8.1).",
    ),
    Code.TPM_AK_CERTIFICATE: (
        "The certificate is not one of an attestation key, or not of the AK that signed the quote.",
        "Send the AK's own certificate (key usage digitalSignature, EKU 2.23.133.8.3).",
    ),
    Code.TPM_CREDENTIAL: (
        "No credential can be made for this endorsement key.",
        "Use an EK of a standard template: RSA of 2048, 3072 or 4096 bits, P-256 or P-384.",
    ),
    Code.TPM_HCL_MALFORMED: (
        "The HCL report of the Azure VM, or its runtime data, breaks its format.",
        "Read it again from NV index 0x01400001, and send all of it.",
    ),
    Code.TPM_HCL_REPORT_DATA: (
        "The hardware's report data are not the hash of the runtime data of the HCL report.",
        "Send the hardware evidence and the HCL report of the same boot of this VM.",
    ),
    Code.TPM_HCL_KEY: (
        "The runtime data of the HCL report name another attestation key than the one that signed the quote.",
        "Quote with the vTPM's own AK, handle 0x81000003.",
    ),
    Code.TPM_HCL_LAYER: (
        "The hardware layer below the Azure vTPM is absent, of another kind, or not the paravisor's.",
        "Send the TD quote or the SNP report's certificates too; a vTPM counts only with the hardware below it.",
    ),
    Code.TPM_SOFTWARE_KEY: (
        "The attestation key did not certify the subject's key, so it may be a key in software.",
        "Create the key in the TPM and certify it, or allow software keys (`[danger]`) where you accept the risk.",
    ),
}

TPM: Final[dict[Code, Explanation]] = {
    **{code: Explanation(*lines) for code, lines in _TPM.items()},
    **{
        code: Explanation(*(line.format(tee=tee) for line in lines))
        for tee, pairs in {
            "TPM": {Code.TPM_EVENT_LOG_MALFORMED: _LOG, Code.TPM_EVENT_LOG: _REPLAY, Code.TPM_EVENT_UNKNOWN: _UNKNOWN},
            "TDX": {Code.TDX_EVENT_LOG_MALFORMED: _LOG, Code.TDX_EVENT_LOG: _REPLAY, Code.TDX_EVENT_UNKNOWN: _UNKNOWN},
        }.items()
        for code, lines in pairs.items()
    },
}
