"""The cause and the fix of the codes about the life of CAs and certificates (docs/life.md)."""

from typing import Final

from proxy_attestation.codes import Code, Explanation

# (cause, fix)
_LIFE: Final[dict[Code, tuple[str, str]]] = {
    Code.AUTHORITY_SUCCESSION: (
        "A chain has room for one further root: one is prepared or lives on already, or none is prepared to activate.",
        "See `proxy-attestation ca list STATE`; make a successor when the root before the one that signs has expired.",
    ),
    Code.REVOCATION_UNKNOWN: (
        "No certificate that is still valid has this serial number, index, key or workload.",
        "Take it from the ledger or from `verify`; what has expired needs no revocation.",
    ),
    Code.REVOCATION_CA: (
        "This key is that of the issuing CA that signs now, or of a root.",
        "Rotate first with `ca rotate STATE --now`; for a root see docs/life.md, compromise of the root.",
    ),
    Code.REVOCATION_FULL: (
        "The deny list has no room: more is revoked at a time than it may hold.",
        "Rotate with `ca rotate STATE --now` and revoke the issuing CA before it; lines leave as certificates expire.",
    ),
    Code.CERTIFICATE_REVOKED: (
        "The certificate, its key or its issuing CA was revoked.",
        "Do not use this key any more; the workload attests with a new key, unless its entry of the policy was denied.",
    ),
    Code.CERTIFICATE_DENY_LIST: (
        "The deny list is malformed, or not signed by an issuing CA under the pinned root.",
        "Fetch /denied of the proxy itself; what stands between changes or replaces it.",
    ),
    Code.CERTIFICATE_DENY_LIST_OLDER: (
        "The deny list is older than one that this client has seen, or signed by an issuing CA that was replaced.",
        "Fetch /denied of the proxy itself; whoever serves this one keeps revocations back.",
    ),
    Code.CERTIFICATE_DENY_LIST_STALE: (
        "No deny list is at hand that is young enough for `deny_list_max_age`.",
        "See that the client reaches /denied of the proxy, or that the file is renewed, and that the clocks agree.",
    ),
}

LIFE: Final[dict[Code, Explanation]] = {code: Explanation(*lines) for code, lines in _LIFE.items()}
