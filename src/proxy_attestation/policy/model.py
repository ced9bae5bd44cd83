"""The policy as data: what `load.py` makes of the file, what `decide.py` decides by, what `digest.py` digests."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from proxy_attestation.errors import Mismatch
from proxy_attestation.formats.pins import EK_ROOT, Pins
from proxy_attestation.formats.request import ApplicationKind, KeyOrigin, Names
from proxy_attestation.formats.tee import Tee
from proxy_attestation.policy.deny import Deny
from proxy_attestation.policy.events import EventRule


class OwnerKind(StrEnum):
    """Which instance may hold an entry's names (`ownership.py`)."""

    SHARED = "shared"
    CHIP_IDS = "chip_ids"
    TENANT_KEY = "tenant_key"
    ENROLMENT = "enrolment"
    FIRST_USE = "first_use"


@dataclass(frozen=True, slots=True)
class Owner:
    """Who may hold an entry's names, several at a time only where it is shared.

    Attributes:
        kind: what has to be shown.
        chips: of `chip_ids`: the machines, as `Claims.instance_id` names them, 32 bytes each, sorted.
        key: of `tenant_key`: the DER of its SubjectPublicKeyInfo, Ed25519 or P-256.
        place: of `tenant_key`: the claim that holds the key's digest (`ownership.launch_data`).
    """

    kind: OwnerKind
    chips: tuple[bytes, ...] = ()
    key: bytes = b""
    place: str = ""


@dataclass(frozen=True, slots=True)
class Hardware:
    """What lies below a vTPM whose attestation key it vouches for.

    Attributes:
        tee: `snp` or `tdx`.
        pins: what it must have measured: the paravisor.
        tcb: accepted TCB status words.
        advisories: advisory ids that may stand at the matched level.
    """

    tee: Tee
    pins: Pins
    tcb: tuple[str, ...]
    advisories: tuple[str, ...]


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
        events: rules for registers whose values are not pinned.
        hardware: of a TPM entry whose AKs it vouches for instead of CAs.
        not_after: seconds since the epoch: the end of its reference values, which no certificate outlives.
    """

    name: str
    tee: Tee
    pins: Pins
    tcb: tuple[str, ...]
    advisories: tuple[str, ...]
    application: tuple[bytes, ...]
    key_origins: tuple[KeyOrigin, ...]
    names: Names
    owner: Owner
    max_lifetime: int
    allow_debug: bool
    events: tuple[EventRule, ...] = ()
    hardware: Hardware | None = None
    not_after: int | None = None


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
        deny: what is refused whatever an entry says.
    """

    version: int
    trust_domain: str
    min_lifetime: int
    max_lifetime: int
    workloads: Mapping[str, Workload]
    dangers: tuple[str, ...]
    deny: Deny = field(default_factory=Deny)

    @property
    def tpm_roots(self) -> frozenset[bytes]:
        """The CAs of TPMs that entries name, SHA-256 of their SubjectPublicKeyInfo."""
        of_tpm = [entry.pins for entry in self.workloads.values() if entry.tee is Tee.TPM]
        values = [pins.get(EK_ROOT, ()) for pins in of_tpm]
        return frozenset(pin for pins in values if isinstance(pins, tuple) for pin in pins if isinstance(pin, bytes))


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
