"""`init`: make an authority."""

from datetime import UTC, datetime
from pathlib import Path

import click

from proxy_attestation.authority.init import Made, init_state
from proxy_attestation.authority.key_stores import FILE
from proxy_attestation.authority.settings import Custodian
from proxy_attestation.cli.output import json_option, print_json
from proxy_attestation.cli.signing import read_custodian, read_public_key, signer
from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError, UsageError
from proxy_attestation.formats.bounds import CERTIFICATE_MAX, CUSTODIANS_MAX
from proxy_attestation.formats.signed_note import Verifier
from proxy_attestation.recovery.custodian import Plan, plan_recovery


@click.command("init")
@click.argument("state", type=click.Path(path_type=Path, file_okay=False))
@click.option("--trust-domain", required=True, metavar="T", help="The SPIFFE trust domain, such as example.org.")
@click.option(
    "--dns",
    required=True,
    multiple=True,
    metavar="SUFFIX",
    help="A suffix under which certificates may carry DNS names; repeatable. The root permits no others.",
)
@click.option(
    "--policy",
    required=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="The policy file; it is copied into STATE with the indexes that it names.",
)
@click.option("--real", is_flag=True, help="Take evidence of the pinned vendors.")
@click.option(
    "--simulated",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    metavar="ROOT.der",
    multiple=True,
    help="Take evidence of a simulated vendor with this root, and of nobody else; may be repeated. For tests and "
    "demonstrations.",
)
@click.option(
    "--keys",
    default=FILE,
    show_default=True,
    metavar="WHERE",
    help="Where the authority's keys are: `file`; a PKCS#11 URI (pkcs11:token=T;object=PREFIX?module-path=/LIB.so&"
    "pin-source=file:/PIN); or files sealed by the TEE this runs in: `gramine`, `snp`, `tpm:0,2,4,7` (PCRs).",
)
@click.option(
    "--signer",
    "signers",
    metavar="NAME=PUBLIC.pem",
    multiple=True,
    help="Somebody who signs this authority's policies, with an Ed25519 public key in PEM; repeatable. The first "
    "policy must be signed already (`policy sign`), its signatures in POLICY.note.",
)
@click.option(
    "--threshold", type=click.IntRange(1), metavar="K", help="How many signers every policy takes (with --signer)."
)
@click.option(
    "--custodian",
    "custodians",
    metavar="NAME=PUBLIC.pem",
    multiple=True,
    help="Somebody who keeps a share of the key that can bring this authority's keys back, with an X25519 public key "
    "in PEM; repeatable.",
)
@click.option(
    "--recovery-threshold",
    type=click.IntRange(2),
    metavar="K",
    help="How many custodians it takes to bring them back (with --custodian).",
)
@json_option
def command(
    state: Path,
    *,
    trust_domain: str,
    dns: tuple[str, ...],
    policy: Path,
    real: bool,
    simulated: tuple[Path, ...],
    keys: str,
    signers: tuple[str, ...],
    threshold: int | None,
    custodians: tuple[str, ...],
    recovery_threshold: int | None,
    as_json: bool,
) -> None:
    """Make an authority in STATE, a directory that is empty or not there.

    \b
    Fixed for the authority's whole life, and visible in its root certificate:
      real or simulated, the trust domain, the DNS suffixes, where the keys are.
    Fixed too: who signs its policies, and how many of them must. Without --signer whoever can edit the disk can change
    the policy, and everybody is told so.

    \b
    For example:
      proxy-attestation init /var/lib/proxy --trust-domain example.org --dns example.org \\
          --policy policy.toml --real
    """
    if real == bool(simulated):
        raise UsageError("say what evidence the authority takes: either --real or --simulated ROOT.der")
    if bool(signers) is (threshold is None):
        raise UsageError("--signer and --threshold go together")
    if bool(custodians) is (recovery_threshold is None):
        raise UsageError("--custodian and --recovery-threshold go together")
    plan = _plan(custodians, recovery_threshold) if recovery_threshold is not None else None
    made = init_state(
        state,
        trust_domain=trust_domain,
        dns=dns,
        policy=policy,
        simulated_roots=[_read(path) for path in simulated],
        now=datetime.now(UTC),
        keys=keys,
        signers=[_signer(text) for text in signers],
        threshold=threshold or 0,
        recovery=None if plan is None else plan.recovery,
        shares=(lambda _: {}) if plan is None else plan.shares,
    )
    if as_json:
        print_json(_to_json(state, made))
    else:
        _print(state, made)


def _plan(texts: tuple[str, ...], threshold: int) -> Plan:
    custodians = []
    for text in texts:
        name, equals, path = text.partition("=")
        if not equals:
            raise UsageError(f"--custodian {text!r}: write NAME=PUBLIC.pem")
        custodians.append(Custodian(name, read_custodian(Path(path))))
    if not threshold <= len(custodians) <= CUSTODIANS_MAX:
        raise UsageError(f"--recovery-threshold {threshold}: 2 to all of at most {CUSTODIANS_MAX} custodians")
    return plan_recovery(custodians, threshold)


def _signer(text: str) -> Verifier:
    name, equals, path = text.partition("=")
    if not equals:
        raise UsageError(f"--signer {text!r}: write NAME=PUBLIC.pem")
    return signer(name, read_public_key(Path(path)))


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(2 * CERTIFICATE_MAX + 1)
    except OSError as error:
        raise ConfigurationError(Code.CONFIGURATION_MALFORMED, f"{path}: {error.strerror}") from error


def _kind(made: Made) -> str:
    return "simulated" if made.settings.simulated else "real"


def _next(state: Path) -> str:
    return f"proxy-attestation serve {state}"


def _to_json(state: Path, made: Made) -> dict[str, object]:
    return {
        "state": str(state),
        "kind": _kind(made),
        "trust_domain": made.settings.trust_domain,
        "dns": list(made.settings.dns),
        "key_origin": made.settings.key_origin,
        "root_pin": made.settings.root_spki_sha256.hex(),
        "root_pem": str(state / "root.pem"),
        "ledger_key": made.ledger_key,
        "policy_version": made.policy.version,
        "signers": list(map(str, made.settings.signers)),
        "threshold": made.settings.threshold,
        "custodians": [] if made.settings.recovery is None else list(map(str, made.settings.recovery.custodians)),
        "recovery_threshold": 0 if made.settings.recovery is None else made.settings.recovery.threshold,
        "dangers": list(made.dangers),
        "next": _next(state),
    }


def _print(state: Path, made: Made) -> None:
    settings = made.settings
    click.echo(f"authority      {_kind(made)}, trust domain {settings.trust_domain}, DNS {', '.join(settings.dns)}")
    click.echo(f"root           {state / 'root.pem'}")
    click.echo(f"root pin       {settings.root_spki_sha256.hex()}")
    click.echo(f"ledger key     {made.ledger_key}")
    click.echo(f"policy         version {made.policy.version}, {len(made.policy.workloads)} workload(s)")
    if settings.simulated:
        click.echo(
            click.style("SIMULATED      it takes simulated evidence: trust its root with nothing real", bold=True)
        )
    if settings.key_origin == FILE:
        click.echo("FILE KEYS      whoever can write to this directory can mint certificates")
    else:
        click.echo(f"keys           {settings.keys}")
    if settings.signers:
        names = ", ".join(signer.name for signer in settings.signers)
        click.echo(f"signers        {settings.threshold} of {names} must have signed every policy")
    if settings.recovery is not None:
        names = ", ".join(custodian.name for custodian in settings.recovery.custodians)
        click.echo(f"custodians     {settings.recovery.threshold} of {names} can bring the keys back")
        click.echo(f"shares         {state / 'recovery'}: give each custodian his, and authority.toml")
    for danger in made.dangers:
        click.echo(click.style(f"DANGER         {danger}", fg="red", bold=True))
    click.echo(f"next           {_next(state)}")
