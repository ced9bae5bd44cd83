"""When to judge again, and one pass of it: read, judge slowly, log what newly falls, write what was found."""

import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Final, NamedTuple

from proxy_attestation import log
from proxy_attestation.authority import state as layout
from proxy_attestation.errors import ProxyAttestationError
from proxy_attestation.policy.model import Policy
from proxy_attestation.reappraisal.current import is_in_force
from proxy_attestation.reappraisal.judge import Outcome
from proxy_attestation.reappraisal.ledger_view import InForce, LedgerView
from proxy_attestation.reappraisal.report import Tally, read_known, write_gauges, write_report
from proxy_attestation.reappraisal.survey import Surveyor
from proxy_attestation.service.collateral import Stamp, stamp
from proxy_attestation.service.early import FILE
from proxy_attestation.service.metrics import REAPPRAISAL_FILE

PASS_SECONDS: Final = 3600
"""How long after the beginning of a pass the next one begins at the latest."""
SHARE: Final = 4
"""One part of this many of a processor is used: after each certificate the process waits thrice as long as it took."""
PAUSE_MAX_SECONDS: Final = 1.0


class _World(NamedTuple):
    """What decides whether to judge again. A certificate that is issued changes none of it."""

    collateral: Stamp
    policy_digest: bytes
    revoked: frozenset[bytes]
    replaced: frozenset[bytes]


class Background:
    """Judges all live certificates whenever something has changed, and every hour.

    Args of `__init__`: STATE; aware UTC; `pause`, which is given seconds to wait between two certificates and raises
    what ends a pass that shall not be finished.
    """

    def __init__(self, state: Path, clock: Callable[[], datetime], pause: Callable[[float], None]) -> None:
        self._state = state
        self._clock = clock
        self._pause = pause
        self._surveyor = Surveyor(state)
        self._report = state / layout.RUN / FILE
        self._gauges = state / layout.RUN / "metrics" / REAPPRAISAL_FILE
        self._known = read_known(self._report)
        self._world: _World | None = None
        self._due = 0.0
        self._policy: Policy | None = None
        self._complained = False

    def turn(self) -> bool:
        """Look whether something has changed or is due, and if so judge all; tell whether a pass was made.

        Raises:
            ProxyAttestationError: when STATE cannot be read now.
            OSError: when what was found cannot be written.
        """
        now = self._clock()
        with LedgerView.open(self._state / layout.LEDGER) as view:
            in_force = view.in_force(int(now.timestamp()))
            world = _World(
                stamp(self._state / layout.ENDORSEMENTS), in_force.policy_digest, in_force.revoked, in_force.replaced
            )
            if world == self._world and now.timestamp() < self._due:
                return False
            policy = self._policy_in_force(in_force)
            if policy is None:
                return False
            self._pass(view, in_force, policy, now)
        self._world = world
        return True

    def _policy_in_force(self, in_force: InForce) -> Policy | None:
        """Return the policy that the ledger names, from its file or as it was read before; None where it is neither."""
        settings = self._surveyor.settings
        if self._policy is not None and is_in_force(self._policy, settings, in_force):
            return self._policy
        problem = "another is in force"
        try:
            policy = layout.read_policy(self._state)
            if is_in_force(policy, settings, in_force):
                self._policy, self._complained = policy, False
                return policy
        except ProxyAttestationError as error:
            problem = str(error)
        if not self._complained:
            self._complained = True
            log.warning("policy.toml not judged by", problem=problem, in_force=in_force.policy_version)
        return None

    def _pass(self, view: LedgerView, in_force: InForce, policy: Policy, now: datetime) -> None:
        began = time.monotonic()
        survey = self._surveyor.survey(view, policy, now, in_force=in_force)
        tally = Tally(int(now.timestamp()), policy.version, survey.problems)
        before = time.monotonic()
        for one in survey.findings:
            if tally.add(one, self._known):
                refused = one.outcome is Outcome.REFUSED
                log.warning(
                    "certificate would be refused" if refused else "certificate to be renewed",
                    index=one.index,
                    entry=one.workload,
                    codes=[str(code) for code in one.early],
                    expires=one.not_after,
                )
            took = time.monotonic() - before
            self._pause(min((SHARE - 1) * took, PAUSE_MAX_SECONDS))
            before = time.monotonic()
        tally.seconds = time.monotonic() - began
        self._known = {name: {key: one[key] for key in ("since", "codes")} for name, one in tally.early.items()}
        until = now.timestamp() + PASS_SECONDS
        self._due = until if survey.valid_until is None else min(until, survey.valid_until.timestamp())
        write_report(self._report, tally)
        write_gauges(self._gauges, tally)
        verdicts = {f"{verdict} {code}".strip(): count for (verdict, code), count in sorted(tally.verdicts.items())}
        log.info("certificates judged again", live=tally.live(), early=len(tally.early) + tally.more, verdicts=verdicts)
