"""The cause and the fix of every code about keys that move to another proxy, by hand-over or recovery."""

from typing import Final

from proxy_attestation.codes import Code, Explanation

_RECOVERY: Final[dict[Code, tuple[str, str]]] = {
    Code.KEYS_TRANSFER_MALFORMED: (
        "Not a request for keys, an answer to one, or a share, or one that was cut or changed.",
        "Copy the file again as it was written, byte for byte.",
    ),
    Code.KEYS_TRANSFER_SEALED: (
        "It was sealed to another key, for another request or authority, or it was changed.",
        "Answer the request of the process that waits now; use the share, key and authority.toml that belong together.",
    ),
    Code.KEYS_TRANSFER_OTHER: (
        "The keys that came belong to another authority.toml than the one here.",
        "Copy authority.toml and the ledger of the authority whose keys these are.",
    ),
    Code.KEYS_NO_SIGNERS: (
        "The authority was made without signers, so nobody can say which code may have its keys.",
        "Make an authority with `init --signer`; the keys of this one stay where they are.",
    ),
    Code.KEYS_ASKED_PURPOSE: (
        "The request is for a hand-over where custodians are asked, or the reverse.",
        "Use `keys receive` for a hand-over and `recover receive` for custodians.",
    ),
    Code.KEYS_ASKED_OTHER: (
        "The request is about another authority's root.",
        "Make the request with the authority.toml of the authority that is asked.",
    ),
    Code.KEYS_ASKED_NONCE: (
        "The request does not carry the nonce that this authority gave out last, or that one has expired.",
        "Run `keys challenge` again, and make a new request with what it prints.",
    ),
    Code.KEYS_BINDER: (
        "The evidence was made for another request: it is bound to another key, root, nonce or purpose.",
        "Make a new request in the proxy that shall have the keys; a request cannot be changed.",
    ),
    Code.KEYS_DEBUG: (
        "The asking proxy runs in a TEE that its host can debug, and so read.",
        "Start it without debug.",
    ),
    Code.KEYS_TCB: (
        "The asking proxy's platform is not in a state that is accepted.",
        "Update its firmware and microcode, or let the custodians accept this state by name.",
    ),
    Code.KEYS_TOKEN: (
        "The keys are in a PKCS#11 token, which does not give them away.",
        "Move or back up the token itself, by its maker's means.",
    ),
    Code.RECOVERY_NONE: (
        "The authority was made without custodians, so there are no shares and no keys in escrow.",
        "Make authorities with `init --custodian`; this one's keys cannot be recovered.",
    ),
    Code.RECOVERY_CUSTODIAN: (
        "The key is no custodian's of this authority.",
        "Use the private half of the key that was named at `init --custodian`.",
    ),
    Code.RECOVERY_SHARES: (
        "The shares are too few, twice the same, of different authorities, or none.",
        "Collect approvals of as many different custodians as authority.toml demands.",
    ),
}

RECOVERY: Final[dict[Code, Explanation]] = {code: Explanation(cause, fix) for code, (cause, fix) in _RECOVERY.items()}
