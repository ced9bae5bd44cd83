"""The cause and the fix of every code of issuing into the transparency log."""

from typing import Final

from proxy_attestation.codes import Code, Explanation

LOG: Final[dict[Code, Explanation]] = {
    Code.LEDGER_NO_PROOF: Explanation(
        "The ledger has no entry of this index under a published checkpoint.",
        "Ask for an index below the size in /checkpoint; one that was issued just now is published within seconds.",
    ),
    Code.LEDGER_INCONSISTENT: Explanation(
        "What is stored of the ledger does not fit its last signed checkpoint, so nothing is issued any more.",
        "Keep a copy of STATE, find out who changed it, restore the newest good copy (docs/ledger-operations.md).",
    ),
    Code.LEDGER_WITNESS: Explanation(
        "The certificate stands in the ledger, but too few witnesses have cosigned its checkpoint in time.",
        "Repeat the same call: it gives the certificate once they have; the operator looks at the witnesses.",
    ),
    Code.LEDGER_COSIGNATURE: Explanation(
        "A cosigned checkpoint is not one of this ledger's, or too few of its witnesses have signed it.",
        "Compare the keys in `[[witness]]` with those of the witnesses, and the checkpoint with this ledger's.",
    ),
    Code.PEER_LEDGER_PROOF: Explanation(
        "The proof that the certificate stands in the proxy's ledger is missing, or does not verify.",
        "Compare the ledger's key with the operator's; a proof that does not verify must be reported.",
    ),
}
