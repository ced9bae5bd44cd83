"""The cause and the fix of the codes of signed notes and of the ledger as a transparency log."""

from typing import Final

from proxy_attestation.codes import Code, Explanation

# (cause, fix)
_LINES: Final[dict[Code, tuple[str, str]]] = {
    Code.NOTE_MALFORMED: (
        "The signed note, or the key that is to verify one, is not written as C2SP signed-note says.",
        "Give the file byte for byte as its signer made it; editors change line ends and final newlines.",
    ),
    Code.NOTE_SIGNATURE: (
        "The note is not signed by the key that must sign it, or it was changed after it was signed.",
        "Fetch it again from its source, and compare the key with the one that you were told over another channel.",
    ),
    Code.LEDGER_MALFORMED: (
        "A file of the ledger, a proof or a witness policy is not written as its C2SP format says.",
        "Fetch it again byte for byte; docs/ledger.md says what each file looks like.",
    ),
    Code.LEDGER_CHECKPOINT: (
        "The checkpoint is signed, but it is not of the log that was asked for.",
        "Compare the log's key and origin with those that `init` printed.",
    ),
    Code.LEDGER_PROOF: (
        "The proof does not lead from the entry, or from the older tree, to the root in the checkpoint.",
        "Fetch proof and checkpoint again; if they still disagree, keep both and tell everyone who relies on this log.",
    ),
    Code.LEDGER_WITNESSES: (
        "Too few of the witnesses that the policy names have co-signed the checkpoint.",
        "Wait until the witnesses answer the log again; do not lower the quorum to get past this.",
    ),
    Code.LEDGER_ROOT: (
        "The entries and tiles of the ledger do not make the root that its checkpoint is signed over.",
        "Keep the files: somebody changed them, or the log signed what it does not show. Ask other mirrors.",
    ),
    Code.LEDGER_FORK: (
        "The log has signed two histories that cannot both be true.",
        "Stop trusting what this log vouches for; both checkpoints are proof of it, so keep and publish them.",
    ),
    Code.LEDGER_ROLLBACK: (
        "The log shows a smaller tree than it has shown before: entries that it vouched for are gone.",
        "Find out whether the authority was restored from a backup; certificates issued since are not in this ledger.",
    ),
    Code.LEDGER_STALE: (
        "The newest checkpoint is older than it may be.",
        "Check that the log and its witnesses run, that both clocks are right, and that no old copy is served.",
    ),
    Code.LEDGER_UNEXPECTED: (
        "The ledger has an entry with a measurement, policy or key that is not among the expected ones.",
        "Find out who let it be issued; once it is known to be right, add it to what is expected.",
    ),
    Code.LEDGER_UNREACHABLE: (
        "The ledger's files, or a witness, could not be read: no answer, an error, or one that is too large.",
        "Check the location, the network and the root that its certificate is verified with; then repeat the call.",
    ),
    Code.LEDGER_WITNESS_REFUSED: (
        "A witness refuses to co-sign the log's checkpoint.",
        "Compare the key that the witness has of this log, and the tree that it has seen, with the log's own.",
    ),
}

LEDGER: Final[dict[Code, Explanation]] = {code: Explanation(cause, fix) for code, (cause, fix) in _LINES.items()}
