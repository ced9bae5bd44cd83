"""What the signers of a policy sign: a signed note over the bytes of its files, so that it outlives the software.

::

    proxy-attestation/policy/v1
    <trust domain>
    <version, decimal>
    file <SHA-256, 64 hex digits> policy.toml
    file <SHA-256, 64 hex digits> <name>         of each further file that the policy names, sorted by name

The policy's own file is called policy.toml here whatever it was called where it was signed, as it is in an authority's
directory.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Final

from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError, FormatError, RefusedError
from proxy_attestation.formats.signed_note import Verifier, parse_note, verify_note

POLICY_FILE: Final = "policy.toml"
NOTE_SUFFIX: Final = ".note"
_FIRST: Final = "proxy-attestation/policy/v1"


def policy_text(trust_domain: str, version: int, files: Mapping[str, bytes]) -> str:
    """Return the text that is signed.

    Args:
        trust_domain: of the policy.
        version: of the policy.
        files: by name, the policy's own as `policy.toml`; names have no control characters.
    """
    names = sorted(files, key=lambda name: (name != POLICY_FILE, name))
    lines = [f"file {hashlib.sha256(files[name]).hexdigest()} {name}" for name in names]
    return "\n".join([_FIRST, trust_domain, str(version), *lines, ""])


def policy_signers(note: bytes | None, text: str, signers: Sequence[Verifier], threshold: int) -> tuple[str, ...]:
    """Return the names of those who signed a policy, in the order of `signers`.

    Args:
        note: the signed note, as it was found; None where there is none.
        text: what must have been signed.
        signers: who may sign; no two of them have the same key.
        threshold: how many of them must have.

    Raises:
        ConfigurationError: `policy.unsigned`, without a note; `policy.signature`, for one that cannot be read, that is
            over another text, that a signer has not signed though it says so, or that too few have signed.
    """
    if note is None:
        raise ConfigurationError(Code.POLICY_UNSIGNED, f"no {POLICY_FILE}{NOTE_SUFFIX} beside the policy")
    try:
        found = parse_note(note)
        if found.text != text:
            detail = "the note was signed over another policy, version or file, or another trust domain"
            raise ConfigurationError(Code.POLICY_SIGNATURE, detail)
        good = verify_note(found, signers)
    except (FormatError, RefusedError) as error:
        raise ConfigurationError(Code.POLICY_SIGNATURE, error.detail) from error
    if len(good) < threshold:
        raise ConfigurationError(Code.POLICY_SIGNATURE, f"{len(good)} of {threshold} signatures that it takes")
    return tuple(verifier.name for verifier in good)
