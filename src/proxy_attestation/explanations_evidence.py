"""The cause and the fix of the codes of the proxy's own evidence and of the deployment statement."""

from typing import Final

from proxy_attestation.codes import Code, Explanation

# (cause, fix)
_LINES: Final[dict[Code, tuple[str, str]]] = {
    Code.PROXY_NO_EVIDENCE: (
        "A measurement of the proxy is expected, and the answer has no evidence: it has none, or lost it on the way.",
        "Run `serve` with --attester inside the TEE; if it does, something between you and the proxy changes answers.",
    ),
    Code.PROXY_NO_STATEMENT: (
        "A measurement of the proxy is expected, and the answer has no deployment statement of its signers.",
        "Sign one and install it: `deployment statement`, `deployment sign`, `deployment install`.",
    ),
    Code.PROXY_EVIDENCE_BUSY: (
        "More evidence of the proxy itself is asked for than its budget of quotes allows.",
        "Come back after the time that the answer names, or ask without evidence and with a pin.",
    ),
    Code.PROXY_EVIDENCE_MALFORMED: (
        "The proxy's evidence is not the record that docs/proxy-evidence.md describes.",
        "Compare the versions of client and proxy; if they fit, something between them changes answers.",
    ),
    Code.PROXY_EVIDENCE_KIND: (
        "What the answer has as the proxy's evidence is a record of another kind, such as a workload's evidence.",
        "Do not trust this proxy: evidence that was made for a certificate says nothing about a proxy.",
    ),
    Code.PROXY_NONCE_PATH: (
        "The proxy's evidence has no possible place for the caller's nonce in the batch that it answers.",
        "Ask again; if it stays so, something between you and the proxy changes answers.",
    ),
    Code.PROXY_BINDER: (
        "The proxy's evidence is not bound to this nonce, root, issuing CA, policy, ledger key and origin of keys.",
        "Do not trust this root: the evidence was made for another answer, by another proxy, or for a certificate.",
    ),
    Code.PROXY_MEASUREMENT: (
        "The proxy's evidence is genuine, and of other code, in another state or on another platform than expected.",
        "Compare the mismatches with the release that should run; change the expectation only if that one is meant.",
    ),
    Code.PROXY_KEY_ORIGIN: (
        "The proxy's keys are kept in another place than the expectation accepts.",
        'Keep them in the TEE (`key_origin = "tee"` at `init`), or name the origin that you accept in `key_origin`.',
    ),
    Code.PROXY_STATEMENT_MALFORMED: (
        "The deployment statement is not the text that docs/proxy-evidence.md describes.",
        "Make it with `deployment statement`; add signatures with `deployment sign` and change nothing by hand.",
    ),
    Code.PROXY_STATEMENT_SIGNATURES: (
        "Fewer of the named signers than the threshold have signed the deployment statement.",
        "Have more signers sign it with `deployment sign`, or name the signers who did and check who they are.",
    ),
    Code.PROXY_STATEMENT_OTHER: (
        "The deployment statement is about another proxy: its trust domain, root or ledger key is not this one's.",
        "Do not trust this root: it may be a copy of the proxy that made keys of its own. Ask the signers.",
    ),
    Code.PROXY_STATEMENT_MEASUREMENT: (
        "The deployment statement does not name the measurement that the proxy's evidence shows.",
        "Have the signers sign a statement with the new measurement, if it is a release that they know.",
    ),
    Code.POLICY_PROXY_MEASUREMENT: (
        "An entry of the policy could accept the proxy itself: its pins and the deployment statement are not disjoint.",
        "Pin a measurement in the entry that the proxy does not have, or name in the statement what tells them apart.",
    ),
}

EVIDENCE: Final = {code: Explanation(cause, fix) for code, (cause, fix) in _LINES.items()}
