"""`reappraise`: every live certificate judged again, by the policy in force and the collateral of now."""

from pathlib import Path

import click

from proxy_attestation.authority import state as layout
from proxy_attestation.cli.operator import state_argument
from proxy_attestation.cli.output import json_option
from proxy_attestation.cli.reappraising import gather, report_json, report_lines, status
from proxy_attestation.reappraisal.ledger_view import LedgerView
from proxy_attestation.reappraisal.survey import Surveyor, utc_now


@click.command("reappraise")
@state_argument
@json_option
def command(state: Path, *, as_json: bool) -> int:
    """Judge every live certificate of STATE again, whether `serve` runs on it or not.

    The evidence that each was issued for is appraised with the collateral that STATE/endorsements holds now, and
    decided by the policy in force. Nothing is revoked: a certificate that would fall goes on until it expires, and its
    renewal is refused. The ledger is only read.

    \b
    Exit status: 0 all would be issued again; 3 some would be refused; 5 some could not be judged, as collateral or
    evidence is missing, and none of the others fell.

    \b
    Example:
      proxy-attestation reappraise STATE --json
    """
    surveyor, policy, now = Surveyor(state), layout.read_policy(state), utc_now()
    with LedgerView.open(state / layout.LEDGER) as view:
        survey = surveyor.survey_in_force(view, policy, now)
        found = gather(survey, quiet=as_json)
    if as_json:
        report_json(survey, found, now, found)
    else:
        report_lines(survey, found, found)
    return status(found)
