"""The proxy's role and a workload's are never one: no entry may accept what the deployment statement says of the proxy.

Two sets of reference values are disjoint where some field that both list has no value in common. What cannot be told
apart that way counts as the same: an entry that pins a signer, or leaves a register to event rules, needs a further
value that the proxy does not have, or a statement that names the proxy's signer.
"""

from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError
from proxy_attestation.formats.deployment import Deployment
from proxy_attestation.policy.model import Policy, Workload


def check_roles(policy: Policy, statement: Deployment) -> None:
    """Check that no entry could accept the proxy's evidence, had that the label of a workload's.

    Raises:
        ConfigurationError: `policy.proxy_measurement`.
    """
    for workload in policy.workloads.values():
        if not _disjoint(workload, statement):
            detail = f"[[workload]] {workload.name!r} could accept the proxy as its deployment statement describes it"
            raise ConfigurationError(Code.POLICY_PROXY_MEASUREMENT, detail)


def _disjoint(workload: Workload, statement: Deployment) -> bool:
    accepted = statement.accepted(workload.tee)
    pins = ((pin, accepted[name]) for name, pin in workload.pins.items() if name in accepted)
    return not accepted or any(isinstance(pin, tuple) and set(pin).isdisjoint(values) for pin, values in pins)
