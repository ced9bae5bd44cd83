"""Policies for people and programs."""

import hashlib
from dataclasses import fields

from proxy_attestation.policy.model import OwnerKind, Policy, Workload
from proxy_attestation.policy.names import spiffe_id
from proxy_attestation.policy.ownership import launch_data
from proxy_attestation.policy.pins import pins_readable


def short(value: str) -> str:
    """Return a value as it is shown: a long one of zeros by its length."""
    return f"all zero ({len(value) // 2} bytes)" if len(value) > 16 and not value.strip("0") else value


def entry_lines(policy: Policy, workload: Workload) -> dict[str, list[str]]:
    """Return all that an entry says, by key: the same entry gives the same lines, another one others."""
    hardware = workload.hardware
    below = (
        {}
        if hardware is None
        else {
            "hardware": [str(hardware.tee)],
            **{f"hardware.{name}": list(values) for name, values in pins_readable(hardware.tee, hardware.pins).items()},
            "hardware.tcb": list(hardware.tcb),
            "hardware.advisories": list(hardware.advisories) or ["none"],
        }
    )
    events = [f"{rule.register} {rule.readable()}{' (optional)' if rule.optional else ''}" for rule in workload.events]
    names = [spiffe_id(policy.trust_domain, workload.name), *workload.names.readable()]
    return {
        "entry": [f"{workload.name} ({workload.tee})"],
        "names": names,
        "owner": _owner_lines(workload),
        **{name: list(values) for name, values in pins_readable(workload.tee, workload.pins).items()},
        "debug": ["ALLOWED" if workload.allow_debug else "refused"],
        "tcb": list(workload.tcb),
        "advisories": list(workload.advisories) or ["none"],
        "application": [digest.hex() for digest in workload.application] or ["no claim"],
        "key_origins": [origin.name.lower() for origin in workload.key_origins],
        "max_lifetime": [f"{workload.max_lifetime} s"],
        **({} if workload.not_after is None else {"not_after": [str(workload.not_after)]}),
        **({"event": events} if events else {}),
        **below,
    }


def deny_lines(policy: Policy) -> dict[str, list[str]]:
    """Return what `[deny]` names, by key; what it does not name is left out."""
    found = {field.name: getattr(policy.deny, field.name) for field in fields(policy.deny)}
    return {
        name: [value.hex() if isinstance(value, bytes) else str(value) for value in values]
        for name, values in found.items()
        if values
    }


def _owner_lines(workload: Workload) -> list[str]:
    owner = workload.owner
    if owner.kind is OwnerKind.CHIP_IDS:
        return [f"{owner.kind}: one of {len(owner.chips)} machines at a time", *(chip.hex() for chip in owner.chips)]
    if owner.kind is OwnerKind.TENANT_KEY:
        value = launch_data(workload.tee, owner.key).hex()
        return [f"{owner.kind} {hashlib.sha256(owner.key).hexdigest()}", f"{owner.place} {value}"]
    return [str(owner.kind)]


def policy_json(policy: Policy, digest: bytes) -> dict[str, object]:
    """Return a policy for programs."""
    return {
        "version": policy.version,
        "trust_domain": policy.trust_domain,
        "min_lifetime": policy.min_lifetime,
        "max_lifetime": policy.max_lifetime,
        "dangers": list(policy.dangers),
        "deny": deny_lines(policy),
        "policy_digest": digest.hex(),
        "workloads": [_workload_to_json(policy, workload) for workload in policy.workloads.values()],
    }


def _workload_to_json(policy: Policy, workload: Workload) -> dict[str, object]:
    return {
        "name": workload.name,
        "tee": str(workload.tee),
        "spiffe_id": spiffe_id(policy.trust_domain, workload.name),
        "names": list(workload.names.readable()),
        "owner": str(workload.owner.kind),
        "pins": {name: list(values) for name, values in pins_readable(workload.tee, workload.pins).items()},
        "allow_debug": workload.allow_debug,
        "tcb": list(workload.tcb),
        "advisories": list(workload.advisories),
        "application": [digest.hex() for digest in workload.application],
        "key_origins": [origin.name.lower() for origin in workload.key_origins],
        "max_lifetime": workload.max_lifetime,
    }
