"""Every live certificate judged again, and what follows from it for its renewal."""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from proxy_attestation.appraisal.kinds import Appraiser
from proxy_attestation.authority import state as layout
from proxy_attestation.authority.settings import Settings
from proxy_attestation.codes import Code
from proxy_attestation.formats.certificate_id import certificate_id
from proxy_attestation.policy.model import Policy
from proxy_attestation.reappraisal.current import CollateralReader, read_settings, require_in_force, roots_of
from proxy_attestation.reappraisal.judge import Judge, Judged, Outcome
from proxy_attestation.reappraisal.ledger_view import InForce, LedgerView

CODES_MAX: Final = 16
"""Codes that are said of one certificate."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found of one live certificate.

    Attributes:
        index: of its ledger entry.
        serial: its number, in hex as certificates are shown.
        certificate_id: its name in questions about renewal; empty where its issuer is unknown.
        workload: the entry that it was asked for; empty where no evidence is kept.
        names: that were asked for, readable.
        names_sha256: 32 bytes, as in the ledger entry.
        not_after: seconds since the epoch.
        outcome: the verdict.
        codes: why not.
        detail: of the first.
        early: why it is to be renewed now, or empty.
    """

    index: int
    serial: str
    certificate_id: str
    workload: str
    names: tuple[str, ...]
    names_sha256: bytes
    not_after: int
    outcome: Outcome
    codes: tuple[Code, ...]
    detail: str
    early: tuple[Code, ...]


@dataclass(frozen=True, slots=True)
class Survey:
    """What a pass judges by.

    Attributes:
        policy_version: of the policy.
        live: how many certificates are live.
        valid_until: when the first collateral in use expires, or None where there is none.
        problems: what is wrong with collateral that is not used.
        findings: one a certificate, judged as they are taken out.
    """

    policy_version: int
    live: int
    valid_until: datetime | None
    problems: tuple[str, ...]
    findings: Iterator[Finding]


class Surveyor:
    """Judges the live certificates of STATE; keeps what it has read and verified from one pass to the next.

    Raises on construction:
        ConfigurationError: `authority.state`.
    """

    def __init__(self, state: Path) -> None:
        self.settings: Settings = read_settings(state)
        self._collateral = CollateralReader(state / layout.ENDORSEMENTS)

    def survey(self, view: LedgerView, policy: Policy, now: datetime, *, in_force: InForce | None = None) -> Survey:
        """Judge by a policy and the collateral that STATE has now.

        Args:
            view: of the ledger.
            policy: to judge by, whether it is in force or not.
            now: aware, UTC.
            in_force: what the ledger says, where it was asked already.

        Raises:
            ConfigurationError: `policy.malformed`, when the policy is not for this authority; `authority.state`.
            UnavailableError: `authority.unavailable`.
        """
        self.settings.check_policy(policy)
        seconds = int(now.timestamp())
        known = view.in_force(seconds) if in_force is None else in_force
        roots = roots_of(self.settings, policy)
        chosen = self._collateral.read(roots, known, now)
        judge = Judge(Appraiser(roots, chosen.in_use), roots, policy)
        findings = (finding(judge.judge(row, now), known) for row in view.leaves(seconds))
        until = min((one.valid_until for one in chosen.in_use.values()), default=None)
        return Survey(policy.version, view.count(seconds), until, chosen.problems, findings)

    def survey_in_force(self, view: LedgerView, policy: Policy, now: datetime) -> Survey:
        """Do that with a policy that has to be the one in force.

        Raises:
            UnavailableError: `reappraisal.policy`, when it is not; and as `survey` says.
            ConfigurationError: as `survey` says.
        """
        in_force = view.in_force(int(now.timestamp()))
        require_in_force(policy, self.settings, in_force)
        return self.survey(view, policy, now, in_force=in_force)


def finding(judged: Judged, in_force: InForce) -> Finding:
    """Add to a verdict what the ledger says of the certificate's renewal."""
    entry, verdict = judged.entry, judged.verdict
    serial, issuer = int.from_bytes(entry.serial or b"", "big"), entry.issuer_spki_sha256 or b""
    early: list[Code] = []
    if in_force.revoked & {entry.serial, entry.spki_sha256}:
        early.append(Code.CERTIFICATE_REVOKED)
    if issuer in in_force.replaced:
        early.append(Code.REAPPRAISAL_ISSUER)
    if verdict.outcome is Outcome.REFUSED:
        early += verdict.codes
    ca = in_force.issuers.get(issuer)
    return Finding(
        index=judged.index,
        serial=f"{serial:x}",
        certificate_id="" if ca is None else certificate_id(ca.key_id, serial),
        workload=judged.workload,
        names=judged.names,
        names_sha256=entry.names_sha256 or b"",
        not_after=entry.not_after or 0,
        outcome=verdict.outcome,
        codes=verdict.codes[:CODES_MAX],
        detail=verdict.detail,
        early=tuple(early[:CODES_MAX]),
    )


def utc_now() -> datetime:
    """Return the time."""
    return datetime.now(UTC)
