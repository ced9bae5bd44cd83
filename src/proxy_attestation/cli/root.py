"""`root`: fetch a proxy's root and hold it against a pin."""

import base64
import hashlib
import ssl
from datetime import UTC, datetime
from pathlib import Path

import click
from cryptography import x509

from proxy_attestation.cli.output import json_option, print_json
from proxy_attestation.cli.peer_options import chosen_pin
from proxy_attestation.cli.whole_file import write_whole
from proxy_attestation.codes import Code
from proxy_attestation.errors import Mismatch, PeerError, UsageError
from proxy_attestation.relying_party.expectation import Expectation
from proxy_attestation.relying_party.expectation_file import load_expectation
from proxy_attestation.relying_party.path import spki_of
from proxy_attestation.relying_party.proxy import RootInfo, fetch_root


@click.command("root")
@click.argument("url")
@click.option("--pin", metavar="HEX", help="SHA-256 of the root's SPKI, as `init` printed it; or root_pin in --expect.")
@click.option("--out", metavar="FILE", type=click.Path(path_type=Path), help="Write the root there, PEM.")
@click.option(
    "--expect",
    "expect_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="What to expect of the proxy itself: trust_domain, root_pin, simulated, policy_digest.",
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
    server_name: str | None,
    update: bool,
    as_json: bool,
) -> None:
    """Fetch the root of the proxy at URL (its Connect front, https://HOST:PORT) and check it.

    The root must have the pinned key, and the proxy must answer under it by its reserved name. Prints the root as PEM,
    or writes it to a file. Where another root follows it, by its own signature, the pin of that is shown.
    """
    expectation = None if expect_file is None else load_expectation(expect_file)
    wanted = chosen_pin(pin, expectation)
    if wanted is None:
        raise UsageError("a pin is needed: --pin, or root_pin in --expect")
    info = fetch_root(url, wanted, server_name=server_name)
    if expectation is not None:
        check_root(info, expectation)
    pem = "".join(map(ssl.DER_cert_to_PEM_cert, (info.root, *(info.successors if update else ()))))
    if out is not None:
        write_whole(out, pem.encode())
    if as_json:
        print_json(_to_json(info, pem))
        return
    if out is None:
        click.echo(pem, nl=False)
    # With the certificate on stdout, what people read goes to stderr.
    for line in _lines(info):
        click.echo(line, err=out is None)


def check_root(info: RootInfo, expectation: Expectation) -> None:
    """Hold what a proxy says of itself against an expectation.

    Raises:
        PeerError: `peer.trust_domain`; `peer.claims_missing`, where a measurement is expected of a proxy that shows no
            evidence; `peer.claims_mismatch`.
    """
    if info.trust_domain != expectation.trust_domain:
        raise PeerError(Code.PEER_TRUST_DOMAIN, f"the proxy is that of {info.trust_domain}")
    if expectation.of_body or expectation.mr_signer:
        # No proxy has evidence of its own yet, and evidence that nothing here could verify would be none.
        raise PeerError(Code.PEER_CLAIMS_MISSING, "a measurement is expected, and this proxy shows no evidence")
    mismatches = []
    if info.simulated != expectation.simulated:
        mismatches.append(
            Mismatch(Code.POLICY_CLAIM, "simulated", str(expectation.simulated).lower(), str(info.simulated).lower())
        )
    if expectation.policy_digests and info.policy_digest not in expectation.policy_digests:
        accepted = " or ".join(digest.hex() for digest in expectation.policy_digests)
        mismatches.append(Mismatch(Code.POLICY_CLAIM, "policy_digest", accepted, info.policy_digest.hex()))
    if mismatches:
        detail = "; ".join(f"{m.field}: expected {m.expected}, found {m.actual}" for m in mismatches)
        raise PeerError(Code.PEER_CLAIMS_MISMATCH, detail, tuple(mismatches))


def _pin(root: bytes) -> str:
    return hashlib.sha256(spki_of(x509.load_der_x509_certificate(root))).hexdigest()


def _names_and_end(info: RootInfo) -> tuple[str, datetime]:
    root = x509.load_der_x509_certificate(info.root)
    return root.subject.rfc4514_string(), root.not_valid_after_utc.astimezone(UTC)


def _lines(info: RootInfo) -> list[str]:
    subject, end = _names_and_end(info)
    lines = [
        f"root          {subject}, until {end:%Y-%m-%dT%H:%M:%SZ}",
        f"pin           {info.pin.hex()}",
        f"trust domain  {info.trust_domain}",
        f"policy        {info.policy_digest.hex()}",
        f"keys          {info.key_origin}",
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
        "simulated": info.simulated,
        "dangers": list(info.dangers),
        "evidence": bool(info.evidence),
        "deployment_statement": bool(info.deployment_statement),
    }
