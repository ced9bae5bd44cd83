"""The cause and the fix of every code of re-appraisal: judging again the evidence of certificates that were issued."""

from typing import Final

from proxy_attestation.codes import Code, Explanation

_REAPPRAISAL: Final[dict[Code, tuple[str, str]]] = {
    Code.REAPPRAISAL_NO_EVIDENCE: (
        "The evidence of this certificate is not kept any more, so it cannot be judged again.",
        "The store of evidence was full: see docs/limits.md. The certificate's next renewal is judged as any other.",
    ),
    Code.REAPPRAISAL_UNREADABLE: (
        "What is kept of this certificate's evidence cannot be read, or is not what its ledger entry names.",
        "Somebody or something changed STATE/ledger.sqlite. Keep a copy of it, and find out who wrote to it.",
    ),
    Code.REAPPRAISAL_POLICY: (
        "STATE/policy.toml is not the policy in force, so certificates cannot be judged by the one that is.",
        "Put it in force (SIGHUP to `serve`), or ask for its effect first with `policy what-if`.",
    ),
    Code.REAPPRAISAL_ISSUER: (
        "The issuing CA of this certificate signs no more, though its time has not come.",
        "Renew the certificate: the new one is issued by the CA that is active now.",
    ),
}

REAPPRAISAL: Final[dict[Code, Explanation]] = {code: Explanation(*lines) for code, lines in _REAPPRAISAL.items()}
