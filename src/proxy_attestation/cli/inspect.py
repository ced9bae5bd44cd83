"""`inspect`: what is in a file, and what each part of it means."""

import click

from proxy_attestation.cli.evidence_file import read_input
from proxy_attestation.cli.inspecting.detect import read_content
from proxy_attestation.cli.inspecting.tree import tree_lines, tree_to_json
from proxy_attestation.cli.output import json_option, print_json
from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError
from proxy_attestation.formats.bounds import ENDORSEMENT_BUNDLE_MAX


@click.command("inspect")
@click.argument("file")
@json_option
def command(file: str, as_json: bool) -> None:
    """Show what is in FILE, and what each part of it means. `-` reads standard input.

    Nothing is verified: a forged file is shown like a genuine one. For a verdict use `appraise` (evidence) or `verify`
    (a server and its certificate).

    \b
    FILE is told by content, never by name:
      certificates     DER, or PEM with one or more; with the attestation claims that a proxy put into one of its
                       certificates, and the platform data that Intel put into a PCK certificate
      quotes           Intel SGX (version 3) and TDX (versions 4 and 5): raw, hex or base64
      reports          AMD SEV-SNP, with or without the certificate table behind it
      documents        AWS Nitro Enclaves
      TPM quotes       TPMS_ATTEST, or this project's record around one
      requests         PKCS#10 with its evidence, DER or PEM; the request bytes that go with it
      records          this project's evidence and claims records (CMW)
      collateral       TCB info, QE identity, CRLs, a bundle with the field names of Intel's QuoteCollateral

    Byte strings are hex in memory order. Evidence and a PCK certificate name the machine that they come from: think
    before you publish what this prints.

    \b
    JSON: {"kind": TEXT, "verified": false, "content": {...}}, names as in the text

    \b
    Examples:
      proxy-attestation inspect leaf.pem
      proxy-attestation inspect quote.bin --json
      curl ... | proxy-attestation inspect -

    \b
    Exit status:
      0  shown
      2  FILE cannot be read
      3  evidence of a kind that is not read further (its code says why)
      4  FILE is nothing that is known here, or breaks its format
    """
    data = read_input(file, ENDORSEMENT_BUNDLE_MAX)
    if len(data) > ENDORSEMENT_BUNDLE_MAX:
        raise FormatError(Code.INPUT_UNKNOWN, f"larger than {ENDORSEMENT_BUNDLE_MAX} bytes")
    content = read_content(data)
    if as_json:
        print_json({"kind": content.kind, "verified": False, "content": tree_to_json(content.nodes)})
        return
    click.echo(f"{content.kind} (nothing below was verified)")
    for line in tree_lines(content.nodes):
        click.echo(line)
