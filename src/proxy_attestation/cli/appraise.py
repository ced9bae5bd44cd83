"""`appraise`: a verdict on evidence, off line."""

from datetime import UTC, datetime
from pathlib import Path

import click

from proxy_attestation.appraisal.roots import VENDOR_ROOTS
from proxy_attestation.cli.acceptance import Acceptance, find_workload
from proxy_attestation.cli.demands import parse_demands
from proxy_attestation.cli.evidence_file import parse_time, read_input
from proxy_attestation.cli.output import json_option, print_json
from proxy_attestation.cli.tpm_verdict import TPM, is_tpm, judge_tpm
from proxy_attestation.cli.verdict import Verdict, judge, print_verdict, refuse_input, verdict_to_json
from proxy_attestation.endorsements.load import load_material, load_roots
from proxy_attestation.errors import ConfigurationError, FormatError, UsageError
from proxy_attestation.formats.bounds import MESSAGE_MAX
from proxy_attestation.formats.pins import TCB_STATUS, UP_TO_DATE
from proxy_attestation.formats.tee import Tee
from proxy_attestation.policy.load import load_policy


@click.command("appraise")
@click.argument("evidence", metavar="EVIDENCE")
@click.option("--tee", type=click.Choice([*map(str, Tee), TPM]), help="The only kind of TEE to accept.")
@click.option(
    "--endorsements",
    metavar="FILE|DIR",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="Vendor collateral; may be repeated.",
)
@click.option(
    "--roots",
    metavar="FILE",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Root certificates to trust instead of the pinned vendor roots; may be repeated.",
)
@click.option("--at", metavar="RFC3339", help="The time to judge at. Default: now.")
@click.option(
    "--allow-tcb",
    metavar="STATUS",
    multiple=True,
    type=click.Choice(TCB_STATUS[Tee.TDX]),
    help=f"A TCB status to accept beside UpToDate; may be repeated. One of {', '.join(TCB_STATUS[Tee.TDX])}.",
)
@click.option("--allow-debug", is_flag=True, help="Accept a TEE in debug mode. For tests only.")
@click.option(
    "--expect",
    metavar="CLAIM=VALUE",
    multiple=True,
    help="Demand a value. May be repeated; a claim that is given twice may be either.",
)
@click.option(
    "--min",
    "least",
    metavar="CLAIM=VALUE",
    multiple=True,
    help="Demand a minimum of a number, a date, or a row of version numbers in hex.",
)
@click.option(
    "--policy",
    "policy_file",
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Decide by an entry of this policy instead of the default policy.",
)
@click.option("--workload", metavar="NAME", help="The entry of --policy; needed where it has several.")
@json_option
def command(
    *,
    evidence: str,
    tee: str | None,
    endorsements: tuple[Path, ...],
    roots: tuple[Path, ...],
    at: str | None,
    allow_tcb: tuple[str, ...],
    allow_debug: bool,
    expect: tuple[str, ...],
    least: tuple[str, ...],
    policy_file: Path | None,
    workload: str | None,
    as_json: bool,
) -> int:
    """Give a verdict on EVIDENCE, off line.

    EVIDENCE is an Intel SGX quote (version 3, 4 or 5), an Intel TDX quote (version 4 or 5), an AMD SEV-SNP report (with
    or without its certificate table), an AWS Nitro document, this project's evidence record around one of these, an
    RA-TLS certificate with one inside, which must then be about the certificate's key, or a certification request as
    this project's loader makes it; raw, in hex or in base64, a certificate or request in DER or PEM; `-` reads standard
    input. Nothing is fetched from anywhere: what the verdict rests on is given with --endorsements, and the vendor's
    roots are pinned in this program.

    A request must be signed by its own key. That its evidence is about that key cannot be told off line, since the
    binder takes the challenge too: `unverified` names the key (`csr_spki_sha256`), and the verdict is on the evidence.

    A TPM quote (TPMS_ATTEST with its pieces among --endorsements, or this project's record) is evidence too, and with
    `--tee tpm` the certificate of an EK or AK. No root of a TPM is pinned: --roots names the AK's key or the CAs. Below
    an Azure vTPM lies SEV-SNP or TDX: its collateral stands among --endorsements too, its claims are in `hardware`, and
    the same policy is for both; certificates in --roots then replace the pinned roots of its vendor as well.

    The default is a production policy: no debug, TCB status UpToDate, no service TD, no migration agent. --allow-tcb,
    --allow-debug, `--expect mr_service_td=HEX` and `--expect migration_agent=1` loosen it, --expect and --min tighten
    it. With --policy an entry of that policy decides instead; names, application and key origin are then not judged,
    since evidence alone does not have them.

    --endorsements takes Intel's own files, told apart by content: TCB info and QE identity (the JSON documents, byte
    for byte), issuer chains (PEM), CRLs (DER, PEM, hex or base64), a PCK chain for a quote without one, or a bundle:
    one JSON object with the field names of Intel's QuoteCollateral. The files of a directory are one set, a
    directory of directories several; files named one by one are one set. Of several sets the one for the platform
    (TEE and FMSPC) is used that is valid at --at and has the highest evaluation number. AMD's are certificates
    (VCEK, VLEK, ASK, ASVK, ARK), certificate tables and revocation lists, in any order. A Nitro document needs none.

    Claims have the vendor's field names in snake_case; byte strings are hex in memory order. On a refusal, `claims`
    holds what a checked signature covers all the same, and `unverified` what nothing vouches for.

    \b
    JSON: {"verdict": "accepted" | "refused", "code": CODE | null, "mismatches": [{"code", "field", "expected",
           "actual"}], "claims": {...} | null, "unverified": {...} | null}; "workload" too with --policy

    \b
    Examples:
      proxy-attestation appraise quote.bin --endorsements collateral/
      proxy-attestation appraise quote.bin --endorsements bundle.json --at 2026-11-24T00:00:00Z --json
      proxy-attestation appraise - --endorsements sets/ --allow-tcb SWHardeningNeeded < quote.hex
      proxy-attestation appraise quote.bin --endorsements sets/ --expect mr_enclave=HEX --min isv_svn=3
      proxy-attestation appraise quote.bin --endorsements sets/ --policy policy.toml --workload example-app
      proxy-attestation appraise quote.bin --endorsements vendor/ --roots vendor/root.der

    \b
    Exit status:
      0   accepted
      3   refused; `explain CODE` says more
      2   usage: an unknown option, claim, status or time, or a file that cannot be read
      4   malformed evidence, endorsements, roots or policy
      5   endorsements that cannot be read
      70  a bug
    """
    if policy_file is None and workload is not None:
        raise UsageError("--workload names an entry of --policy")
    if policy_file is not None and (allow_tcb or allow_debug):
        raise UsageError(
            "--policy decides about debug and TCB status: --allow-debug and --allow-tcb are for use without"
        )
    policy = load_policy(policy_file) if policy_file is not None else None
    acceptance = Acceptance(
        tee=tee,
        statuses=tuple(dict.fromkeys((UP_TO_DATE, *allow_tcb))),
        allow_debug=allow_debug,
        demands=parse_demands(expect, least),
        policy=policy,
        workload=find_workload(policy, workload) if policy is not None else None,
    )
    now = parse_time(at) if at is not None else datetime.now(UTC)
    data = read_input(evidence, MESSAGE_MAX)
    if is_tpm(data, acceptance):
        return _print(judge_tpm(data, endorsements, roots, now, acceptance), as_json=as_json)
    try:
        anchors = load_roots(roots) if roots else VENDOR_ROOTS
        material = load_material(endorsements)
    except (FormatError, ConfigurationError) as error:
        return _print(refuse_input(error, data, acceptance), as_json=as_json)
    return _print(judge(data, material, anchors, now, acceptance), as_json=as_json)


def _print(verdict: Verdict, *, as_json: bool) -> int:
    if as_json:
        print_json(verdict_to_json(verdict))
    else:
        print_verdict(verdict)
    return verdict.exit_status
