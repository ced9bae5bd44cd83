"""The cause and the fix of the codes of a policy's history and of `[deny]`."""

from typing import Final

from proxy_attestation.codes import Code, Explanation

# (cause, fix)
_LINES: Final[dict[Code, tuple[str, str]]] = {
    Code.POLICY_STALE: (
        "The policy is an older one than was in force before, or the worker decided under another than the authority.",
        "Repeat the call; in a policy file that was changed, raise `version` above every one that was in force.",
    ),
    Code.POLICY_UNSIGNED: (
        "This authority takes signed policies only, and the policy has no signatures beside it.",
        "Have the signers run `policy sign` on the file, and put its `.note` beside it; docs/policy-history.md.",
    ),
    Code.POLICY_SIGNATURE: (
        "The signatures beside the policy are not enough of this authority's signers' over exactly these files.",
        "Undo the edit, or have the signers run `policy sign` on the files as they are; docs/policy-history.md.",
    ),
    Code.DENY_PRODUCT: (
        "The policy's [deny] names this processor line.",
        "Run on another one; nothing in an entry overrides [deny].",
    ),
    Code.DENY_FMSPC: (
        "The policy's [deny] names this family of platforms (FMSPC).",
        "Run on another platform; nothing in an entry overrides [deny].",
    ),
    Code.DENY_CHIP_ID: (
        "The policy's [deny] names this machine, or machines of this kind and the evidence does not say which it is.",
        "Run on another machine, and where its id is masked have it shown; docs/policy.md lists what names a machine.",
    ),
    Code.DENY_MEASUREMENT: (
        "The policy's [deny] names a measurement of this TEE.",
        "Run a build that is not denied; nothing in an entry overrides [deny].",
    ),
    Code.DENY_ADVISORY: (
        "The policy's [deny] names an advisory that stands against this platform.",
        "Update firmware, microcode and platform software until the advisory no longer applies.",
    ),
    Code.DENY_SERIAL: (
        "The policy's [deny] names the certificate that is to be renewed.",
        "Start anew with a new key; the denied certificate proves nothing any more.",
    ),
    Code.DENY_SPKI: (
        "The policy's [deny] names this key.",
        "Make a new key; each renewal of the loader does.",
    ),
}

POLICY: Final[dict[Code, Explanation]] = {code: Explanation(cause, fix) for code, (cause, fix) in _LINES.items()}
