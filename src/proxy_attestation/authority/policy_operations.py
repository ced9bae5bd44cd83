"""Another policy, put in force while the authority runs: from where `policy apply` staged it, or edited in place."""

from typing import Annotated, Final, NamedTuple

from proxy_attestation import log
from proxy_attestation.authority.authority import Authority
from proxy_attestation.authority.issue import Issuer
from proxy_attestation.authority.messages import Count, Digest
from proxy_attestation.authority.operation import Operation
from proxy_attestation.authority.policy_directory import PolicyDirectory
from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError
from proxy_attestation.formats.arrays import Size
from proxy_attestation.formats.bounds import POLICY_SIGNERS_MAX


class Staged(NamedTuple):
    """What `PolicyDirectory.stage` named."""

    name: Annotated[str, Size(1, 64)]


class Applied(NamedTuple):
    """What is in force after it.

    Attributes:
        changed: whether it was not before.
        version: of the policy.
        digest: 32 bytes, of the policy in force.
        signers: the names of those who signed it.
    """

    changed: bool
    version: Count
    digest: Digest
    signers: Annotated[tuple[Annotated[str, Size(1, 64)], ...], Size(0, POLICY_SIGNERS_MAX)]


def reload_policy(authority: Authority) -> bool:
    """Put the policy in force that stands in the authority's directory now; tell whether it is another.

    Raises:
        ConfigurationError: `policy.malformed`, `policy.unsigned`, `policy.signature` or `policy.stale`.
        UnavailableError: `authority.unavailable`. The policy that was in force is, after any error.
    """
    policies = _directory(authority)
    found = policies.read()
    if not authority.check_policy(found):
        return False
    policies.keep(found)
    return authority.reload_policy(found)


def _apply(issuer: Issuer, staged: Staged) -> Applied:
    """Put a staged policy in place and in force, or leave both as they are."""
    authority = issuer.authority
    policies = _directory(authority)
    found = policies.staged(staged.name)
    changed, before = authority.check_policy(found), authority.policy.version
    if changed:
        policies.keep(found)
        policies.install(found.policy.version)
        try:
            authority.reload_policy(found)
        except BaseException:
            policies.install(before)
            raise
    signers, digest = authority.settings.check_signatures(found), authority.policy_digest
    event = "policy in force" if changed else "policy unchanged"
    log.info(event, version=found.policy.version, digest=digest.hex(), signers=list(signers))
    return Applied(changed, found.policy.version, digest, signers)


def _directory(authority: Authority) -> PolicyDirectory:
    if authority.policies is None:
        raise ConfigurationError(Code.AUTHORITY_STATE, "an authority in memory has no files of a policy")
    return authority.policies


APPLY_POLICY: Final = Operation[Staged, Applied]("policy apply", Staged, Applied, _apply)
