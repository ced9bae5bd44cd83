"""The cause and the fix of the codes of Nitro documents and of certificates with evidence inside."""

from typing import Final

from proxy_attestation.codes import Code, Explanation

# (cause, fix)
_LINES: Final[dict[Code, tuple[str, str]]] = {
    Code.NITRO_MALFORMED: (
        "The Nitro attestation document is not a COSE_Sign1 with a payload of the fields and sizes that AWS defines.",
        "Send the document exactly as /dev/nsm returned it, without a wrapper and without bytes after its end.",
    ),
    Code.NITRO_ALGORITHM: (
        "The Nitro attestation document's headers say something other than ECDSA P-384 with SHA-384, and nothing else.",
        "Send the document exactly as /dev/nsm returned it; no Nitro Secure Module signs in another way.",
    ),
    Code.NITRO_CHAIN: (
        "The certificate chain of the Nitro document is broken: signature, order, name, key usage or constraints.",
        "Ask the Nitro Secure Module for a new document; compare its chain with `inspect`.",
    ),
    Code.NITRO_ROOT: (
        "The Nitro attestation document's chain begins with a root that is not the pinned AWS Nitro Enclaves root.",
        "Use a document of a real enclave; simulated documents need an authority made with `init --simulated`.",
    ),
    Code.NITRO_EXPIRED: (
        "A certificate in the Nitro attestation document is not valid at this time; the signing one lives three hours.",
        "Ask the Nitro Secure Module for a new document, and check the clock, or `--at`.",
    ),
    Code.NITRO_SIGNATURE: (
        "The Nitro attestation document was changed, or another key than its certificate's signed it.",
        "Send the document exactly as /dev/nsm returned it, and do not encode it again.",
    ),
    Code.NITRO_TIMESTAMP: (
        "The Nitro attestation document says that it was made outside the life of its signing certificate, or not now.",
        "Ask the Nitro Secure Module for a new document after the challenge, and compare the clocks.",
    ),
    Code.NITRO_DEBUG: (
        "The Nitro enclave runs in debug mode: PCR0, PCR1 and PCR2 are zero, so its code is not known.",
        "Start the enclave without `--debug-mode`.",
    ),
    Code.RA_TLS_MALFORMED: (
        "The certificate, or the place in it that holds evidence, cannot be read.",
        "Send the certificate in DER or PEM exactly as the server presents it.",
    ),
    Code.RA_TLS_NO_EVIDENCE: (
        "The certificate holds no evidence in any of the places that docs/evidence-ra-tls.md lists.",
        "Send the certificate that the attested server itself made, not one that a CA issued for it.",
    ),
    Code.RA_TLS_UNKNOWN: (
        "The certificate holds evidence of a kind that this version does not verify.",
        "Make the certificate with an SGX or TDX quote (tag 60000); docs/evidence-ra-tls.md lists what is read.",
    ),
    Code.RA_TLS_CLAIMS: (
        "The claims beside the quote in the certificate do not name the certificate's own public key.",
        "Let pubkey-hash be SHA-256, SHA-384 or SHA-512 over the certificate's SubjectPublicKeyInfo in DER.",
    ),
    Code.RA_TLS_BINDING: (
        "The evidence in the certificate was not made for the certificate's public key.",
        "Put the digest that docs/evidence-ra-tls.md gives for this form into the evidence, and the rest zero.",
    ),
}

NITRO: Final[dict[Code, Explanation]] = {code: Explanation(cause, fix) for code, (cause, fix) in _LINES.items()}
