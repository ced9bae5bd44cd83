"""`policy`: what a policy file says, who signed it, what is in force and was, and what would change."""

import click

from proxy_attestation.cli.policies.apply import apply
from proxy_attestation.cli.policies.check import check
from proxy_attestation.cli.policies.diff import diff
from proxy_attestation.cli.policies.log import log
from proxy_attestation.cli.policies.sign import sign
from proxy_attestation.cli.whatif import what_if


@click.group("policy")
def command() -> None:
    """Check, sign, apply and compare policies, and list those that were in force."""


for _command in (check, sign, apply, log, diff, what_if):
    command.add_command(_command)
