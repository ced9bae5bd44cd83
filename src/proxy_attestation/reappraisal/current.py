"""What is in force in STATE: settings, the policy, and the collateral as workers choose it."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path

from proxy_attestation import __version__
from proxy_attestation.appraisal.kinds import Collateral, Endorsements
from proxy_attestation.appraisal.roots import Roots
from proxy_attestation.authority import state as layout
from proxy_attestation.authority.floors import check_raise
from proxy_attestation.authority.private_files import read_private
from proxy_attestation.authority.settings import SETTINGS_MAX, Settings, decode_settings
from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError, UnavailableError
from proxy_attestation.policy.digest import policy_digest
from proxy_attestation.policy.model import Policy
from proxy_attestation.reappraisal.ledger_view import InForce
from proxy_attestation.service.collateral import Key, Loaded, choose, load_sets, verify_sets


@dataclass(frozen=True, slots=True)
class Chosen:
    """The collateral to judge by.

    Attributes:
        in_use: by TEE and platform.
        problems: what is wrong with the sets that are not used, readable.
    """

    in_use: Mapping[Key, Collateral]
    problems: tuple[str, ...]


class CollateralReader:
    """Reads and verifies STATE/endorsements as a worker does, and remembers what it has verified."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._roots: Roots | None = None
        self._verified: dict[Endorsements, Collateral] = {}

    def read(self, roots: Roots, in_force: InForce, now: datetime) -> Chosen:
        """Choose for each platform the newest set that is valid at `now` and not below its floor.

        Workers have the floor raised to a set before they use it; here one that could not be raised to is left out.
        """
        if roots != self._roots:
            self._verified, self._roots = {}, roots
        loaded: Loaded = load_sets(self._directory)
        self._verified, broken = verify_sets(loaded, self._verified, roots, now)
        problems = [str(problem) for problem in broken.values()]
        in_use: dict[Key, Collateral] = {}
        for key, one in choose(self._verified.values(), in_force.floors, now).items():
            try:
                check_raise(in_force.floors, *key, one.floor, int(now.timestamp()))
            except UnavailableError as error:
                problems.append(f"{key[0]} {key[1].hex()}: {error}")
            else:
                in_use[key] = one
        return Chosen(in_use, tuple(problems))


def read_settings(state: Path) -> Settings:
    """Read what the authority of STATE is.

    Raises:
        ConfigurationError: `authority.state`.
    """
    try:
        return decode_settings(read_private(state / layout.SETTINGS, SETTINGS_MAX))
    except OSError as error:
        raise ConfigurationError(Code.AUTHORITY_STATE, f"{error.filename}: {error.strerror}") from error


def roots_of(settings: Settings, policy: Policy) -> Roots:
    """Return what evidence may chain to under a policy."""
    return replace(settings.roots, tpm=policy.tpm_roots)


def is_in_force(policy: Policy, settings: Settings, in_force: InForce) -> bool:
    """Tell whether a policy, read from its file, is the one that the ledger names."""
    return policy_digest(policy, settings.roots, in_force.floors, __version__) == in_force.policy_digest


def require_in_force(policy: Policy, settings: Settings, in_force: InForce) -> None:
    """Check that.

    Raises:
        UnavailableError: `reappraisal.policy`.
    """
    if not is_in_force(policy, settings, in_force):
        detail = f"version {policy.version} was read, version {in_force.policy_version} is in force"
        raise UnavailableError(Code.REAPPRAISAL_POLICY, detail)
