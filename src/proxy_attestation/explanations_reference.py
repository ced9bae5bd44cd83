"""The cause and the fix of the codes of reference values: measured, signed and imported."""

from typing import Final

from proxy_attestation.codes import Code, Explanation

# (cause, fix)
_LINES: Final[dict[Code, tuple[str, str]]] = {
    Code.REFERENCE_MALFORMED: (
        "The file is not what it is to be measured or imported as, or it is not whole.",
        "Give the released file as its build tool wrote it: a SIGSTRUCT, an EIF, OVMF, an event log or a CoRIM.",
    ),
    Code.REFERENCE_SIGNATURE: (
        "A signature over reference values, or over what they are measured from, is not good.",
        "Get the file again from whoever signed it; edited values must be signed again.",
    ),
    Code.REFERENCE_LIBRARY: (
        "The package that computes this measurement is not installed.",
        "Install the extra: pip install 'proxy-attestation[measure]'.",
    ),
    Code.REFERENCE_FILE: (
        "The policy names a file of reference values that cannot be read, or its signatures beside it cannot.",
        "Put FILE and FILE.note beside or below the policy file, under the names that were signed.",
    ),
    Code.REFERENCE_SIGNERS: (
        "Fewer of the signers that the policy names have signed these reference values than it demands.",
        "Collect more signatures with `proxy-attestation reference sign`, each from a key that the policy names.",
    ),
    Code.REFERENCE_VERSION: (
        "The reference values are of an older version than the policy demands.",
        "Use the newer file; lower `min_version` only where you mean to go back.",
    ),
    Code.REFERENCE_EXPIRED: (
        "The reference values have ended: their `not_after`, or the CoRIM's validity, is past or has not begun.",
        "Get newer values from whoever publishes them, or publish the same with a later end and sign them again.",
    ),
    Code.REFERENCE_VALUES: (
        "The reference values are not values of the entry's TEE, or stand in the entry a second time.",
        "Write keys of one TEE under [values], and leave them out of the entry that takes the file.",
    ),
    Code.REFERENCE_TEE: (
        "The CoRIM does not say in a way that is known here which TEE its values are of, or says another than --tee.",
        "Name the TEE with --tee after looking at the environment's class; docs/reference-values.md lists those known.",
    ),
    Code.REFERENCE_UNSUPPORTED: (
        "The CoRIM holds a condition that no pin can express; leaving it out would accept more than its author did.",
        "Ask its author for reference triples in the subset of docs/reference-values.md, or write the pins by hand.",
    ),
}
REFERENCE: Final = {code: Explanation(*lines) for code, lines in _LINES.items()}
