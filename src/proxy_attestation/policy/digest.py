"""The digest of a policy in force: of everything that a decision rests on, and nothing else.

SHA-256 over deterministic CBOR of one map::

    {"format": "proxy-attestation/policy/v1",
     "policy": every field of `Policy` by its name, entries and pins likewise, indexes inlined as the digests they gave,
     "roots": every field of `Roots`,
     "floors": {"<tee> <FMSPC in hex>": every field of `Floor`, ...},
     "verifier_version": text}

Lists stand for sets and are sorted by their elements' encodings, so the order in which a file lists things does not
count; comments and spelling do not either. Every field of the dataclasses goes in by itself: one that is added later is
in the digest without anybody having to remember it.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from typing import Final

from proxy_attestation.appraisal.endorsements import Floor
from proxy_attestation.appraisal.roots import Roots
from proxy_attestation.errors import InternalError
from proxy_attestation.formats import cbor
from proxy_attestation.formats.tee import Tee
from proxy_attestation.policy.model import Policy

FORMAT: Final = "proxy-attestation/policy/v1"


def policy_digest(
    policy: Policy, roots: Roots, floors: Mapping[tuple[Tee, bytes], Floor], verifier_version: str
) -> bytes:
    """Return the digest of a resolved policy, 32 bytes.

    Args:
        policy: with its indexes inlined.
        roots: the anchors that evidence may chain to.
        floors: by (tee, FMSPC of 6 bytes).
        verifier_version: the version of this package.
    """
    content = {
        "format": FORMAT,
        "policy": policy,
        "roots": roots,
        "floors": {f"{tee} {fmspc.hex()}": floor for (tee, fmspc), floor in floors.items()},
        "verifier_version": verifier_version,
    }
    return hashlib.sha256(cbor.encode(_plain(content))).digest()


def _plain(value: object) -> object:
    """Return a value as what CBOR has: maps by field name, and sorted lists for tuples and sets."""
    if isinstance(value, Enum):
        return value.value
    if value is None or isinstance(value, bool | int | str | bytes):
        return value
    if is_dataclass(value):
        return {field.name: _plain(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {_plain(key): _plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list | frozenset):
        return sorted((_plain(item) for item in value), key=cbor.encode)
    raise InternalError(f"a policy holds a {type(value).__name__}")
