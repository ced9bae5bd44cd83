"""The cause and the fix of every code, in one line each; what `explain` prints and all that a peer is told.

The lines of the appraisal walks are in `explanations_appraisal.py`.
"""

from typing import Final

from proxy_attestation.codes import Code, Explanation
from proxy_attestation.explanations_appraisal import APPRAISAL
from proxy_attestation.explanations_ekep import EKEP
from proxy_attestation.explanations_evidence import EVIDENCE
from proxy_attestation.explanations_keys import KEYS
from proxy_attestation.explanations_ledger import LEDGER
from proxy_attestation.explanations_life import LIFE
from proxy_attestation.explanations_log import LOG
from proxy_attestation.explanations_nitro import NITRO
from proxy_attestation.explanations_owner import OWNER
from proxy_attestation.explanations_policy import POLICY
from proxy_attestation.explanations_reappraisal import REAPPRAISAL
from proxy_attestation.explanations_recovery import RECOVERY
from proxy_attestation.explanations_reference import REFERENCE
from proxy_attestation.explanations_snp import SNP
from proxy_attestation.explanations_tpm import TPM

# (cause, fix)
_OTHER: Final[dict[Code, tuple[str, str]]] = {
    Code.REQUEST_TOO_LARGE: (
        "The request, its CSR or the whole message is larger than the proxy accepts.",
        "Send fewer names and no extra data; docs/limits.md lists every bound.",
    ),
    Code.REQUEST_MALFORMED: (
        "The request is not deterministic CBOR with exactly its five fields and well-formed names.",
        "Encode it as proto/request.cddl says; names are lower-case A-labels, sorted, without wildcards.",
    ),
    Code.REQUEST_TEE: (
        "The request, the challenge and the evidence do not name the same kind of TEE.",
        "Ask for a challenge of the TEE that the evidence comes from, and name that TEE in the request.",
    ),
    Code.CSR_MALFORMED: (
        "The certification request is not PKCS#10 in the accepted form.",
        "Send DER or PEM of version 0 with an ECDSA signature and no attribute beyond evidence and names.",
    ),
    Code.CSR_SIGNATURE: (
        "The certification request is not signed by the key that it asks a certificate for.",
        "Sign the request with the private key of its own public key, after its last change.",
    ),
    Code.CSR_KEY: (
        "The certification request holds a kind of key, or an encoding of one, that is not accepted.",
        "Make a P-256 or P-384 key and encode it as a named curve with an uncompressed point.",
    ),
    Code.CSR_NAMES: (
        "The names in the certification request differ from those in the request.",
        "Leave subjectAltName out of the certification request, or make it equal to the request's names.",
    ),
    Code.CSR_EXTENSIONS: (
        "The certification request asks for an extension or carries an attribute that is not accepted.",
        "Ask for subjectAltName only; every other extension of the certificate comes from the policy.",
    ),
    Code.EVIDENCE_MISSING: (
        "No evidence came with the request, or an evidence part that it names is absent.",
        "Put the evidence into the certification request's id-aa-attestation attribute, or beside it.",
    ),
    Code.EVIDENCE_MALFORMED: (
        "The evidence cannot be read: it is neither a known vendor encoding nor a well-formed wrapper around one.",
        "Send the vendor's bytes raw, in hex or in base64, or wrap them in the evidence record of this project.",
    ),
    Code.EVIDENCE_TOO_LARGE: (
        "The evidence, its event log or its certificates exceed their size limit.",
        "Send the evidence alone; docs/limits.md lists the limit of each part.",
    ),
    Code.EVIDENCE_UNKNOWN: (
        "The evidence is of a kind that this version does not verify.",
        "Use one of the supported TEEs, and the media type that names it.",
    ),
    Code.BINDER_MISMATCH: (
        "The evidence was not made for this key, this request and this challenge of this proxy.",
        "Put SHA-512 of the binder over this challenge into the report data, and make fresh evidence each time.",
    ),
    Code.CHALLENGE_INVALID: (
        "The session token was not made by this proxy, or it was changed.",
        "Ask for a new challenge, and return its token byte for byte.",
    ),
    Code.CHALLENGE_EXPIRED: (
        "The challenge is older than its lifetime of at most two minutes.",
        "Ask for a new challenge and make the evidence at once.",
    ),
    Code.CHALLENGE_SPENT: (
        "A certificate has been issued for this challenge, to another key or another request.",
        "Ask for a new challenge; only the very same key and request may repeat an answered one.",
    ),
    Code.CHALLENGE_EXHAUSTED: (
        "This challenge has failed too many times.",
        "Mend what the earlier answers named, then ask for a new challenge.",
    ),
    Code.CHALLENGE_CA: (
        "The challenge pins an issuing CA that this proxy no longer issues from, or never had.",
        "Ask the proxy that will issue the certificate for a new challenge.",
    ),
    Code.POLICY_WORKLOAD: (
        "The policy has no entry of the requested workload name.",
        "Name an entry of the proxy's policy in the request, or have the operator add one.",
    ),
    Code.POLICY_TEE: (
        "The evidence is of another kind of TEE than was demanded.",
        "Run the workload in the TEE that its entry names, or add an entry for this TEE.",
    ),
    Code.POLICY_MEASUREMENT: (
        "The measured code is not the code that was demanded.",
        "Deploy the build whose measurement is listed, or list the new measurement after reviewing it.",
    ),
    Code.POLICY_SIGNER: (
        "The code was signed by another signer than was demanded.",
        "Sign the code with the listed signer's key, or list the new signer.",
    ),
    Code.POLICY_PRODUCT: (
        "The signer's product id, or the family or extended product id, is not the one demanded.",
        "Set the product id in the build's manifest to the one that the entry lists.",
    ),
    Code.POLICY_SVN: (
        "A security version number is below the minimum that was demanded.",
        "Deploy a newer version of the code, or of the platform's firmware.",
    ),
    Code.POLICY_ATTRIBUTES: (
        "The TEE's attributes or features differ from those demanded, under the given masks.",
        "Start the workload with the attributes that the entry lists, or widen the entry's mask after review.",
    ),
    Code.POLICY_CONFIG: (
        "The configuration id, owner or configuration version of the TEE is not the one demanded.",
        "Start the workload with the listed configuration; a value that no entry names must be zero.",
    ),
    Code.POLICY_EVENT: (
        "What was measured into a register is not what the policy entry's event rules name, or no event log came.",
        "Send the event log beside the evidence; compare its events with the rules, and add a rule after review.",
    ),
    Code.POLICY_ADVISORY: (
        "A security advisory applies to the platform that the policy entry does not list.",
        "Update the platform, or list the advisory in the entry after reading what it means.",
    ),
    Code.POLICY_APPLICATION: (
        "The application behind the loader is not one that the entry lists, or cannot be vouched for.",
        "Run a listed application as a Wasm module, or add its digest to the entry's index.",
    ),
    Code.POLICY_KEY_ORIGIN: (
        "The private key was not made where the entry demands.",
        "Make the key inside the TEE, or list this key origin in the entry.",
    ),
    Code.POLICY_NAME: (
        "A requested name is not granted by the policy entry.",
        "Ask only for names that the entry lists, or have the operator add the name to it.",
    ),
    Code.POLICY_CLAIM: (
        "A claim differs from the value that was expected of it.",
        "Compare the printed claims with what you expect; a claim that is expected twice may be either.",
    ),
    Code.POLICY_MALFORMED: (
        "The policy file, or an index that it names, cannot be used as it is written.",
        "Mend the line that the message names, then run `policy check` on the file.",
    ),
    Code.AUTHORITY_UNAVAILABLE: (
        "The authority process does not answer.",
        "Repeat the call in a moment; if it lasts, read the supervisor's log.",
    ),
    Code.AUTHORITY_LIFETIME: (
        "The certificate would live for less than the policy's minimum.",
        "Refresh the collateral, rotate the issuing CA, or ask for a longer lifetime.",
    ),
    Code.AUTHORITY_CLOCK: (
        "The machine's clock lies before a signed time that the proxy has already seen.",
        "Set the clock of the proxy's machine; nothing is issued until it is right.",
    ),
    Code.AUTHORITY_STATE: (
        "The authority's state directory is incomplete, damaged or of another authority.",
        "Restore the directory from a backup as a whole; never mix the files of two authorities.",
    ),
    Code.AUTHORITY_PROFILE: (
        "A certificate or ledger entry that was about to be signed breaks its own profile.",
        "Nothing was signed. Report this with the log of the request: it is a bug or a broken configuration.",
    ),
    Code.AUTHORITY_CALLER: (
        "A process asked the authority for something that only another one may ask for.",
        "Look for who holds the authority's socket: workers of this project never ask for it.",
    ),
    Code.ENDORSEMENTS_UNAVAILABLE: (
        "The endorsements cannot be read, or the proxy holds none that it can use now.",
        "Check the endorsement files and their permissions, and refresh what has expired.",
    ),
    Code.ENDORSEMENTS_MALFORMED: (
        "A file given as endorsement is not one, is too large, or belongs to too many others.",
        "Give Intel's documents, chains, CRLs or a bundle of them; `inspect` shows what a file is.",
    ),
    Code.ENDORSEMENTS_SOURCE: (
        "A configured source of endorsements answered something that no such service answers.",
        "Check the source's URL, its TLS certificate (`--ca-file`) and what stands between; the old endorsements stay.",
    ),
    Code.ENDORSEMENTS_UNKNOWN: (
        "The source of endorsements knows no such platform, product or evaluation number.",
        "Check the FMSPC, CA, product or chip id, and register the platform with the vendor or your PCCS.",
    ),
    Code.ENDORSEMENTS_STALE: (
        "The endorsements that came are expired, not valid yet, or older than those already held.",
        "Check the clock, and refresh the cache (PCCS) or bundle that they came from; the old endorsements stay.",
    ),
    Code.ENDORSEMENTS_REJECTED: (
        "The endorsements that came are not signed under the pinned root, or are not those that were asked for.",
        "Trust nothing from this source until it is known why; the old endorsements stay.",
    ),
    Code.LIMITS_EXHAUSTED: (
        "Too many requests came from this source, or in all.",
        "Wait and repeat with growing pauses, or raise the limit in serve.toml.",
    ),
    Code.PROXY_UNREACHABLE: (
        "The proxy could not be reached, or closed the connection without an answer.",
        "Check the address, the network and that `serve` runs; the call may be repeated.",
    ),
    Code.PROXY_PROTOCOL: (
        "The proxy's answer does not follow the protocol.",
        "Check that the address is a proxy of this project and of a version that speaks v1.",
    ),
    Code.PEER_CHAIN: (
        "The peer's certificate chain does not lead to the pinned root, or breaks the profile of such chains.",
        "Check that the peer serves the chain that this proxy issued, and that the root is the right proxy's.",
    ),
    Code.PEER_EXPIRED: (
        "The peer's certificate, or its issuer's, is not valid at this time.",
        "Check both clocks, and that the peer's loader still renews.",
    ),
    Code.PEER_NAME: (
        "The peer's certificate is not for the name that was connected to.",
        "Connect by a name that the peer's policy entry grants, or expect the right name.",
    ),
    Code.PEER_ROOT_PIN: (
        "The root's key is not the pinned one, or no pin was given.",
        "Compare the pin with what `init` printed, over a channel that you trust.",
    ),
    Code.PEER_CLAIMS_MISSING: (
        "The peer's certificate carries no attestation claims.",
        "Connect to a server that holds a certificate issued for attested code, not to the proxy itself.",
    ),
    Code.PEER_CLAIMS_MALFORMED: (
        "The peer's certificate carries claims that break their format, have an unknown profile or stand there twice.",
        "Update this program if the proxy is newer; otherwise report the certificate.",
    ),
    Code.PEER_CLAIMS_KEY: (
        "The attested key in the claims is not the key of the certificate.",
        "Do not use this peer: its certificate vouches for another key. Report it to the proxy's operator.",
    ),
    Code.PEER_CLAIMS_MISMATCH: (
        "The peer's attested claims differ from the expectation file.",
        "Compare each mismatch; update the expectation only after reviewing the peer's new code.",
    ),
    Code.PEER_TRUST_DOMAIN: (
        "The peer's SPIFFE ID is not in the expected trust domain, or not the expected one.",
        "Check the expectation's trust domain, and which proxy issued the certificate.",
    ),
    Code.PEER_UNREACHABLE: (
        "The peer could not be reached, or it ended the connection during the handshake.",
        "Check the peer's address, that it listens, and that it speaks TLS 1.3.",
    ),
    Code.ATTESTER_UNAVAILABLE: (
        "No attester answers on this machine, or it failed to give evidence.",
        "Run inside a supported TEE with its quoting service up, or name the attester explicitly.",
    ),
    Code.APPLICATION_FAILED: (
        "The application behind the loader ended with an error or gave no valid reply.",
        "Read the application's own output in the loader's log, and run it alone with the same input.",
    ),
    Code.APPLICATION_LIMIT: (
        "The application used up its fuel, time or memory, or its reply is too large.",
        "Raise the application's limits in the loader's file, or make it do less for one request.",
    ),
    Code.LOADER_UNREACHABLE: (
        "No loader answers on the control socket.",
        "Check that `load` runs, that `control` in its file names this socket, and that it is your user's.",
    ),
    Code.CONFIGURATION_MALFORMED: (
        "A configuration file cannot be used as it is written.",
        "Mend the file and line that the message names; unknown keys are errors.",
    ),
    Code.INPUT_UNKNOWN: (
        "The file is in none of the formats that this command knows.",
        "Give the file as it came from its source: raw, PEM, hex or base64, without anything around it.",
    ),
    Code.USAGE: (
        "The command line cannot be obeyed.",
        "Read the command's `--help`, which lists its arguments with examples.",
    ),
    Code.INTERNAL: (
        "Something went wrong inside this program: a bug.",
        "Report it with the traceback in the local log; repeating the call is harmless.",
    ),
}

EXPLANATIONS: Final[dict[Code, Explanation]] = {
    **{code: Explanation(cause, fix) for code, (cause, fix) in _OTHER.items()},
    **APPRAISAL,
    **LIFE,
    **EKEP,
    **KEYS,
    **LOG,
    **LEDGER,
    **NITRO,
    **POLICY,
    **REFERENCE,
    **REAPPRAISAL,
    **RECOVERY,
    **OWNER,
    **SNP,
    **TPM,
    **EVIDENCE,
}
