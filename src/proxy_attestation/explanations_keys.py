"""The cause and the fix of every code about where the authority's keys are."""

from typing import Final

from proxy_attestation.codes import Code, Explanation

_KEYS: Final[dict[Code, tuple[str, str]]] = {
    Code.KEYS_SEALED: (
        "A key file does not open here: it was sealed by other code, elsewhere or in another state, or changed.",
        "Start the proxy that sealed it, on its machine; after an upgrade or a loss, bring the keys in from a backup.",
    ),
    Code.KEYS_UNAVAILABLE: (
        "The token or TEE that holds the authority's keys, or what seals them, does not answer.",
        "See the detail: the library, token or device that is named, its PIN file, and whether this is that machine.",
    ),
    Code.KEYS_EXIST: (
        "The token holds a root key of this name already: another authority's.",
        "Choose another `object=` in the PKCS#11 URI; nothing in the token was changed.",
    ),
}

KEYS: Final[dict[Code, Explanation]] = {code: Explanation(cause, fix) for code, (cause, fix) in _KEYS.items()}
