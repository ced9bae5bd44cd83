"""What an appraisal off line accepts: the default policy, or an entry of a policy file."""

from dataclasses import dataclass

from proxy_attestation.appraisal.claims import Claims, HardwareClaims
from proxy_attestation.cli.demands import Demands
from proxy_attestation.codes import Code
from proxy_attestation.errors import Mismatch, UsageError
from proxy_attestation.formats.request import ApplicationKind, KeyOrigin, Names, Request, RuntimeClaims
from proxy_attestation.formats.tee import debug_code, tcb_status_code
from proxy_attestation.policy.decide import decide
from proxy_attestation.policy.model import Policy, Workload


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What is acceptable.

    Attributes:
        tee: the only kind of TEE, or None for any.
        statuses: accepted TCB status words.
        allow_debug: whether debug is accepted.
        demands: of single claims.
        policy: decides instead of `statuses` and `allow_debug`, or None.
        workload: the policy's entry; None without policy.
    """

    tee: str | None
    statuses: tuple[str, ...]
    allow_debug: bool
    demands: Demands
    policy: Policy | None
    workload: Workload | None

    @property
    def debug_allowed(self) -> bool:
        """Whether debug is accepted, by whoever decides."""
        return self.allow_debug if self.workload is None else self.workload.allow_debug


def find_workload(policy: Policy, name: str | None) -> Workload:
    """Return the entry of this name, or the only one.

    Raises:
        UsageError: when there is none, or several and no name.
    """
    known = ", ".join(policy.workloads)
    if name is None and len(policy.workloads) == 1:
        return next(iter(policy.workloads.values()))
    if name is None:
        raise UsageError(f"the policy has several entries; choose with --workload: {known}")
    if name not in policy.workloads:
        raise UsageError(f"the policy has no entry {name!r}; it has: {known}")
    return policy.workloads[name]


def judge_claims(claims: Claims | None, acceptance: Acceptance) -> list[Mismatch]:
    """Return every mismatch with the entry of --policy or, without, with the default policy; none without claims."""
    if claims is None:
        return []
    if acceptance.policy is None or acceptance.workload is None:
        return _default_policy(claims.rooted, acceptance)
    return list(decide(claims, _request(claims, acceptance.workload), acceptance.policy).mismatches)


def _default_policy(claims: Claims | HardwareClaims, acceptance: Acceptance) -> list[Mismatch]:
    """Return what is wrong with claims where no policy file decides: debug, TCB status, what else can reach inside."""
    found: list[Mismatch] = []
    if claims.debug and not acceptance.allow_debug:
        found.append(Mismatch(debug_code(claims.tee), "debug", "false", "true"))
    if claims.tcb is not None and claims.tcb.status not in acceptance.statuses:
        wanted = " or ".join(acceptance.statuses)
        found.append(Mismatch(tcb_status_code(claims.tee), "tcb_status", wanted, claims.tcb.status))
    if getattr(claims.body, "migration_agent", 0) and not acceptance.demands.pins("migration_agent"):
        found.append(Mismatch(Code.SNP_MIGRATION_AGENT, "migration_agent", "none, or expected", "one is allowed"))
    service_td = getattr(claims.body, "mr_service_td", None)
    if service_td is not None and any(service_td) and not acceptance.demands.pins("mr_service_td"):
        found.append(Mismatch(Code.TDX_SERVICE_TD, "mr_service_td", "zero, or pinned", service_td.hex()))
    return found


def _request(claims: Claims, workload: Workload) -> Request:
    """Return a request that asks for nothing: off line there are no names, no application and no key to judge."""
    digest = workload.application[0] if workload.application else None
    kind = ApplicationKind.NONE if digest is None else ApplicationKind.WASM
    origin = workload.key_origins[0] if workload.key_origins else KeyOrigin.SOFTWARE
    return Request(workload.name, claims.tee, Names(), workload.max_lifetime, RuntimeClaims(kind, digest, origin))
