"""A proxy in this process that has issued for a platform of the newest level and for one above it."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest
from issuing import Issuing, issuing
from workload import Workload

from proxy_attestation.authority.state import read_policy
from proxy_attestation.policy.model import Policy
from proxy_attestation.reappraisal.ledger_view import LedgerView
from proxy_attestation.reappraisal.survey import Finding, Survey, Surveyor
from proxy_attestation_simulator.recipes import NEWEST, components

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)


@dataclass
class Ground:
    """A proxy and the three certificates that it issued."""

    proxy: Issuing
    old: int
    new: int
    guest: int

    def survey(self, policy: Policy | None = None, *, in_force: bool = False) -> tuple[Survey, list[Finding]]:
        """Judge all that is live, as somebody who opens STATE from outside."""
        state, surveyor = self.proxy.state, Surveyor(self.proxy.state)
        chosen = policy or read_policy(state)
        with LedgerView.open(state / "ledger.sqlite") as view:
            judge = surveyor.survey_in_force if in_force else surveyor.survey
            survey = judge(view, chosen, self.proxy.now)
            return survey, list(survey.findings)

    def verdicts(self, policy: Policy | None = None) -> dict[int, tuple[str, tuple[str, ...]]]:
        """Return outcome and codes by index."""
        return {one.index: (str(one.outcome), tuple(map(str, one.codes))) for one in self.survey(policy)[1]}


@pytest.fixture
def proxy(tmp_path: Path) -> Iterator[Issuing]:
    with issuing(tmp_path, NOW) as made:
        yield made


@pytest.fixture
def ground(proxy: Issuing) -> Ground:
    old = proxy.issue()
    new = proxy.issue(Workload(proxy.vendor.platform("sgx", svns=components(NEWEST + 1), seed=1)))
    guest = proxy.issue(Workload(proxy.vendor.platform("tdx")))
    return Ground(proxy, old.ledger_index, new.ledger_index, guest.ledger_index)
