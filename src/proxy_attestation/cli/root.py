"""`root`: fetch a proxy's root and hold it against a pin."""

import base64
import hashlib
import ssl
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import click
from cryptography import x509

from proxy_attestation.appraisal.claims import claim_of
from proxy_attestation.appraisal.roots import VENDOR_ROOTS
from proxy_attestation.cli.output import json_option, print_json
from proxy_attestation.cli.peer_options import chosen_pin
from proxy_attestation.cli.whole_file import write_whole
from proxy_attestation.endorsements.load import load_material, load_roots
from proxy_attestation.errors import UsageError
from proxy_attestation.relying_party.context import utc_now
from proxy_attestation.relying_party.path import spki_of
from proxy_attestation.relying_party.proxy import fetch_attested_root, fetch_root
from proxy_attestation.relying_party.proxy_evidence import CheckedProxy, Vendors, check_root, checker
from proxy_attestation.relying_party.proxy_expectation import load_proxy_expectation
from proxy_attestation.relying_party.root_info import RootInfo


@click.command("root")
@click.argument("url")
@click.option("--pin", metavar="HEX", help="SHA-256 of the root's SPKI, as `init` printed it; or root_pin in --expect.")
@click.option("--out", metavar="FILE", type=click.Path(path_type=Path), help="Write the root there, PEM.")
@click.option(
    "--expect",
    "expect_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="What to expect of the proxy itself: trust_domain, root_pin, simulated, policy_digest; or tee, a measurement "
    "and signers, and then evidence is demanded instead of a pin.",
)
@click.option(
    "--endorsements",
    metavar="FILE|DIR",
    multiple=True,
    type=click.Path(exists=True, path_type=Path),
    help="Vendor collateral for the proxy's evidence, as `appraise` takes it; may be repeated.",
)
@click.option(
    "--roots",
    metavar="FILE",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Roots of vendors to trust instead of the pinned ones, as `appraise` takes them; may be repeated.",
)
@click.option("--server-name", metavar="NAME", help="The name that the proxy must have; default: the URL's host.")
@click.option("--update", is_flag=True, help="Trust the root that follows the pinned one too: print or write both.")
@json_option
def command(
    *,
    url: str,
    pin: str | None,
    out: Path | None,
    expect_file: Path | None,
    endorsements: tuple[Path, ...],
    roots: tuple[Path, ...],
    server_name: str | None,
    update: bool,
    as_json: bool,
) -> None:
    """Fetch the root of the proxy at URL (its Connect front, https://HOST:PORT) and check it.

    The root must have the pinned key, and the proxy must answer under it by its reserved name. Prints the root as PEM,
    or writes it to a file. Where another root follows it, by its own signature, the pin of that is shown.

    \b
    Where --expect names a measurement, the proxy must prove by evidence that it is that code with that root, and its
    signers must have said so in a deployment statement; a pin is then not needed. See docs/proxy-evidence.md.

    \b
    Examples:
      proxy-attestation root https://proxy.example.org:7444 --pin HEX --out root.pem
      proxy-attestation root https://proxy.example.org:7444 --expect proxy.toml --endorsements sets/ --out root.pem
    """
    expectation = None if expect_file is None else load_proxy_expectation(expect_file)
    wanted = chosen_pin(pin, None if expectation is None else expectation.code)
    checked = None
    if expectation is not None and expectation.attested:
        if wanted is not None:
            expectation = replace(expectation, code=replace(expectation.code, root_pin=wanted))
        vendors = Vendors(load_roots(roots) if roots else VENDOR_ROOTS, load_material(endorsements))
        info, checked = fetch_attested_root(url, checker(expectation, vendors, utc_now), server_name=server_name)
    elif wanted is None:
        raise UsageError("a pin is needed: --pin, or root_pin or a measurement in --expect")
    else:
        if endorsements or roots:
            raise UsageError("--endorsements and --roots are for evidence: name a measurement in --expect")
        info = fetch_root(url, wanted, server_name=server_name)
        if expectation is not None:
            check_root(info, expectation.code)
    pem = "".join(map(ssl.DER_cert_to_PEM_cert, (info.root, *(info.successors if update else ()))))
    if out is not None:
        write_whole(out, pem.encode())
    if as_json:
        print_json(_to_json(info, pem) | ({} if checked is None else _checked_json(checked)))
        return
    if out is None:
        click.echo(pem, nl=False)
    # With the certificate on stdout, what people read goes to stderr.
    for line in (*_lines(info), *(() if checked is None else _checked_lines(checked))):
        click.echo(line, err=out is None)


def _pin(root: bytes) -> str:
    return hashlib.sha256(spki_of(x509.load_der_x509_certificate(root))).hexdigest()


def _names_and_end(info: RootInfo) -> tuple[str, datetime]:
    root = x509.load_der_x509_certificate(info.root)
    return root.subject.rfc4514_string(), root.not_valid_after_utc.astimezone(UTC)


def _ledger_key(info: RootInfo) -> str:
    """Return the log's vkey; what no vkey of ours can be is shown escaped."""
    return info.ledger_key[:512].decode("ascii", "backslashreplace")


def _lines(info: RootInfo) -> list[str]:
    subject, end = _names_and_end(info)
    lines = [
        f"root          {subject}, until {end:%Y-%m-%dT%H:%M:%SZ}",
        f"pin           {info.pin.hex()}",
        f"trust domain  {info.trust_domain}",
        f"policy        {info.policy_digest.hex()}",
        f"keys          {info.key_origin}",
        f"ledger key    {_ledger_key(info)}",
    ]
    if info.simulated:
        lines.append("SIMULATED     this proxy takes simulated evidence: never trust its root with anything real")
    lines += [f"successor     {_pin(der)}  (--update; then root_pin in expectations)" for der in info.successors]
    lines += [f"danger        {danger}" for danger in info.dangers]
    return lines


def _to_json(info: RootInfo, pem: str) -> dict[str, object]:
    subject, end = _names_and_end(info)
    return {
        "root_pem": pem,
        "pin": info.pin.hex(),
        "subject": subject,
        "not_after": f"{end:%Y-%m-%dT%H:%M:%SZ}",
        "trust_domain": info.trust_domain,
        "sequence": info.sequence,
        "successors": [_pin(der) for der in info.successors],
        "issuing": [base64.b64encode(der).decode() for der in info.issuing],
        "policy_digest": info.policy_digest.hex(),
        "key_origin": info.key_origin,
        "ledger_key": _ledger_key(info),
        "simulated": info.simulated,
        "dangers": list(info.dangers),
        "evidence": bool(info.evidence),
        "deployment_statement": bool(info.deployment_statement),
    }


def _checked_lines(checked: CheckedProxy) -> list[str]:
    claims, statement = checked.claims, checked.statement
    code = [f"{field} {claim.hex()}" for field, claim in _code(checked)]
    return [
        f"evidence      {claims.tee}, genuine and fresh, bound to this root, issuing CA, policy and ledger key",
        *(f"measured      {line}" for line in code),
        f"platform      {'-' if claims.tcb is None else claims.tcb.status}, no debug",
        f"statement     signed; names this root, ledger key and measurement, {len(statement.pins)} in all",
    ]


def _code(checked: CheckedProxy) -> list[tuple[str, bytes]]:
    found = ((field, claim_of(checked.claims.body, field)) for field in checked.statement.accepted(checked.claims.tee))
    return [(field, value) for field, value in found if isinstance(value, bytes)]


def _checked_json(checked: CheckedProxy) -> dict[str, object]:
    return {
        "attested": True,
        "tee": str(checked.claims.tee),
        "measured": {field: value.hex() for field, value in _code(checked)},
        "tcb_status": None if checked.claims.tcb is None else checked.claims.tcb.status,
        "statement_pins": len(checked.statement.pins),
    }
