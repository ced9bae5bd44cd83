"""The policy as data: what `load.py` makes of the file, what `decide.py` decides by, what `digest.py` digests."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from proxy_attestation.errors import Mismatch
from proxy_attestation.formats.request import ApplicationKind, KeyOrigin, Names
from proxy_attestation.formats.tee import Tee


class OwnerKind(StrEnum):
    """Who may hold an entry's names. Kinds beyond these are refused when the policy is read."""

    SHARED = "shared"


@dataclass(frozen=True, slots=True)
class MaskedBytes:
    """A value that counts only where the mask has bits.

    Attributes:
        value: already masked.
        mask: as long as the value, never all zero.
    """

    value: bytes
    mask: bytes

    def matches(self, actual: bytes) -> bool:
        """Tell whether `actual` has the same length and the same bits under the mask."""
        if len(actual) != len(self.mask):
            return False
        return int.from_bytes(actual) & int.from_bytes(self.mask) == int.from_bytes(self.value)


@dataclass(frozen=True, slots=True)
class SgxPins:
    """What an SGX enclave must be. At least `mr_enclave`, or `mr_signer` with product id, SVN and both masks.

    Attributes:
        mr_enclave: accepted values, 32 bytes each; empty where the signer form is used.
        mr_signer: accepted values, 32 bytes each; may be empty beside mr_enclave.
        isv_prod_id: accepted value, or None where mr_enclave pins it.
        min_isv_svn: or None where mr_enclave pins it.
        attributes: FLAGS and XFRM, 16 bytes, under a mask; None where mr_enclave pins the enclave.
        misc_select: 4 bytes under a mask; None likewise.
        config_id: 64 bytes, exactly (all zero where the entry does not name it), and so the other KSS fields.
        config_svn: exactly.
        isv_ext_prod_id: 16 bytes, exactly.
        isv_family_id: 16 bytes, exactly.
    """

    mr_enclave: tuple[bytes, ...]
    mr_signer: tuple[bytes, ...]
    isv_prod_id: int | None
    min_isv_svn: int | None
    attributes: MaskedBytes | None
    misc_select: MaskedBytes | None
    config_id: bytes
    config_svn: int
    isv_ext_prod_id: bytes
    isv_family_id: bytes


@dataclass(frozen=True, slots=True)
class TdxPins:
    """What a TD must be.

    Attributes:
        mr_td: accepted values, 48 bytes each.
        rtmr: for each pinned register (0 to 3) its accepted values; 0, 1 and 2 are always there.
        mr_config_id: accepted values, 48 bytes each.
        td_attributes: 8 bytes under a mask.
        xfam: 8 bytes under a mask.
        mr_owner: 48 bytes, exactly, or None where it does not matter; and so mr_owner_config.
        mr_service_td: accepted values, 48 bytes each; empty demands none or all zero.
    """

    mr_td: tuple[bytes, ...]
    rtmr: Mapping[int, tuple[bytes, ...]]
    mr_config_id: tuple[bytes, ...]
    td_attributes: MaskedBytes
    xfam: MaskedBytes
    mr_owner: bytes | None
    mr_owner_config: bytes | None
    mr_service_td: tuple[bytes, ...]


Pins: TypeAlias = SgxPins | TdxPins


@dataclass(frozen=True, slots=True)
class Workload:
    """One `[[workload]]` entry, resolved.

    Attributes:
        name: 1 to 63 of [a-z0-9._-]; the last segment of its SPIFFE ID.
        tee: the kind of evidence it takes.
        pins: what the TEE must have measured.
        tcb: accepted TCB status words.
        advisories: advisory ids that may stand at the matched level.
        application: accepted application digests, 32 bytes each; empty demands no claim.
        key_origins: accepted origins of the leaf's key.
        names: the names that may be asked for, beside the SPIFFE ID that every leaf of the entry has.
        owner: who may hold them.
        max_lifetime: seconds.
        allow_debug: from `[danger]`.
    """

    name: str
    tee: Tee
    pins: Pins
    tcb: tuple[str, ...]
    advisories: tuple[str, ...]
    application: tuple[bytes, ...]
    key_origins: tuple[KeyOrigin, ...]
    names: Names
    owner: OwnerKind
    max_lifetime: int
    allow_debug: bool


@dataclass(frozen=True, slots=True)
class Policy:
    """A whole policy, indexes inlined.

    Attributes:
        version: positive, only ever rises.
        trust_domain: the SPIFFE trust domain.
        min_lifetime: seconds; a leaf that would be shorter is answered as unavailable.
        max_lifetime: seconds, at most 24 h.
        workloads: by name.
        dangers: the names of every switch of `[danger]` that is on, with what it applies to, readable.
    """

    version: int
    trust_domain: str
    min_lifetime: int
    max_lifetime: int
    workloads: Mapping[str, Workload]
    dangers: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Decision:
    """What the policy says of one request.

    Attributes:
        mismatches: everything that is wrong; empty means accepted.
        workload: the entry, or None where the request names none.
        names: what the certificate will carry: from the policy only, always with the one SPIFFE ID. Empty if refused.
        lifetime: seconds, the least of request, entry and policy. 0 if refused.
        application_kind: as claimed.
        application_sha256: the digest the leaf will carry, or None.
    """

    mismatches: tuple[Mismatch, ...]
    workload: Workload | None
    names: Names
    lifetime: int
    application_kind: ApplicationKind
    application_sha256: bytes | None

    @property
    def accepted(self) -> bool:
        """Whether nothing is wrong."""
        return not self.mismatches and self.workload is not None
