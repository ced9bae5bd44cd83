"""`policy what-if`: which live certificates would fall under another policy."""

from pathlib import Path

import click

from proxy_attestation.authority import state as layout
from proxy_attestation.cli.operator import state_argument
from proxy_attestation.cli.output import json_option
from proxy_attestation.cli.reappraising import gather, report_json, report_lines, status
from proxy_attestation.policy.load import load_policy
from proxy_attestation.reappraisal.judge import Outcome
from proxy_attestation.reappraisal.ledger_view import LedgerView
from proxy_attestation.reappraisal.survey import Surveyor, utc_now


@click.command("what-if")
@state_argument
@click.argument("new_policy", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@json_option
def what_if(state: Path, new_policy: Path, *, as_json: bool) -> int:
    """List the live certificates of STATE whose renewal NEW_POLICY would refuse. Nothing is changed.

    The evidence that each certificate was issued for is appraised with the collateral that STATE/endorsements holds
    now, and decided by NEW_POLICY. Certificates that could not be judged are listed too; who was refused lately is not
    known, so it does not say who would come in.

    \b
    Exit status: 0 nobody would fall; 3 some would; 5 some could not be judged, and none of the others would fall.

    \b
    Example:
      proxy-attestation policy what-if STATE new/policy.toml
    """
    surveyor, policy, now = Surveyor(state), load_policy(new_policy), utc_now()
    with LedgerView.open(state / layout.LEDGER) as view:
        survey = surveyor.survey(view, policy, now)
        found = gather(survey, quiet=as_json)
    rows = [one for one in found if one.outcome is not Outcome.ACCEPTED]
    if as_json:
        report_json(survey, found, now, rows)
    else:
        report_lines(survey, found, rows)
    return status(found)
