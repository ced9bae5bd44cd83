"""`index --measure`: what a released file will be measured as, as pins of a policy."""

import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click

from proxy_attestation.cli.output import print_json
from proxy_attestation.errors import UsageError
from proxy_attestation.formats.bounds import EVENT_LOG_MAX
from proxy_attestation.formats.tee import Tee
from proxy_attestation.policy.events import registers_of
from proxy_attestation.reference import snp
from proxy_attestation.reference.eif import measure_eif
from proxy_attestation.reference.logs import BANKS, measure_log
from proxy_attestation.reference.measured import Measured, to_entry, to_json, to_lines, to_values
from proxy_attestation.reference.sigstruct import SIZE, measure_sigstruct

_F = TypeVar("_F", bound=Callable[..., Any])
_FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)
VERSION_MAX: Final = 0xFFFFFFFF


def form_options(function: _F) -> _F:
    """Add the options that say how reference values are printed."""
    for decorate in (
        click.option("--toml", is_flag=True, help="Print a [[workload]] entry to fill in, instead of text."),
        click.option(
            "--values", "product", metavar="PRODUCT", help="Print a file for `reference sign`, of this product."
        ),
        click.option(
            "--version", type=click.IntRange(1, VERSION_MAX), default=1, show_default=True, help="Of --values."
        ),
    ):
        function = decorate(function)
    return function


def measure_options(function: _F) -> _F:
    """Add the options that only `--measure` has."""
    for decorate in (
        click.option(
            "--measure",
            "kind",
            type=click.Choice([str(tee) for tee in Tee]),
            help="Instead of an index: the measurement of the one PATH, see below.",
        ),
        click.option(
            "--bank", type=click.Choice(BANKS), default="sha256", show_default=True, help="tpm: the PCR bank."
        ),
        click.option(
            "--events", multiple=True, metavar="REGISTER", help="tpm, tdx: event rules for it, no value; repeatable."
        ),
        click.option("--kernel", type=_FILE, help="snp: started directly by the hypervisor."),
        click.option("--initrd", type=_FILE, help="snp: with --kernel."),
        click.option("--append", default="", help="snp: the kernel's command line."),
        click.option("--vcpus", type=click.IntRange(1, snp.VCPUS_MAX), help="snp: how many virtual processors."),
        click.option("--vcpu-type", metavar="NAME", help="snp: QEMU's name of them, such as EPYC-v4."),
        click.option("--guest-features", metavar="HEX", default="0x1", show_default=True, help="snp: SEV_FEATURES."),
        click.option(
            "--hypervisor", type=click.Choice(snp.HYPERVISORS), default="qemu", show_default=True, help="snp."
        ),
    ):
        function = decorate(function)
    return form_options(function)


_OPTIONS_OF: Final[dict[str, tuple[Tee, ...]]] = {
    "bank": (Tee.TPM,),
    "events": (Tee.TPM, Tee.TDX),
    **dict.fromkeys(("kernel", "initrd", "append", "vcpus", "vcpu_type", "guest_features", "hypervisor"), (Tee.SNP,)),
}
"""Whose measurement each option belongs to. One that would be left aside is refused."""


def refuse_others(kind: Tee | None) -> None:
    """Refuse options that the command line has and that mean nothing for this measurement.

    Raises:
        UsageError: naming them.
    """
    context = click.get_current_context()
    given = [name for name in (*_OPTIONS_OF, "toml", "product", "version") if _given(context, name)]
    others = [name for name in given if kind not in _OPTIONS_OF.get(name, (*Tee,))]
    if others:
        raise UsageError(f"{', '.join(others)}: means nothing {f'for {kind}' if kind else 'without --measure'}")


def _given(context: click.Context, name: str) -> bool:
    return context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE


def measure(kind: Tee, path: Path, options: dict[str, Any]) -> Measured:
    """Measure one file.

    Args:
        kind: the TEE.
        path: the file.
        options: those of `measure_options`, by name.

    Raises:
        UsageError: for a file that cannot be read, or options that are missing.
        ProxyAttestationError: as the measurement's own function does.
    """
    refuse_others(kind)
    unknown = sorted(set(options["events"]) - registers_of(kind))
    if unknown or (options["events"] and options["product"] is not None):
        raise UsageError(f"--events: {', '.join(unknown) or 'a file of --values has no event rules'}")
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise UsageError(f"{str(path)!r}: not a file")
        if kind is Tee.SNP:
            return _snp(path, options)
        with path.open("rb") as file:
            if kind is Tee.NITRO:
                return measure_eif(file, path.name)
            if kind is Tee.SGX:
                return measure_sigstruct(file.read(SIZE + 1), path.name)
            return measure_log(
                file.read(EVENT_LOG_MAX + 1), kind, options["bank"], frozenset(options["events"]), path.name
            )
    except OSError as error:
        raise UsageError(f"{error.filename or path}: {error.strerror}") from error


def show(measured: Measured, options: dict[str, Any], *, as_json: bool) -> int:
    """Print reference values in the form that `form_options` ask for, and return the exit status."""
    toml, product = options["toml"], options["product"]
    if as_json + toml + (product is not None) > 1:
        raise UsageError("--json, --toml and --values are three forms: choose one")
    if as_json:
        print_json(to_json(measured))
    elif toml:
        click.echo(to_entry(measured), nl=False)
    elif product is not None:
        click.echo(to_values(measured, product, options["version"]), nl=False)
    else:
        for line in to_lines(measured):
            click.echo(line)
    return 0


def _snp(path: Path, options: dict[str, Any]) -> Measured:
    if options["vcpus"] is None or options["vcpu_type"] is None:
        raise UsageError("--measure snp takes --vcpus and --vcpu-type: both are measured")
    if options["kernel"] is None and (options["initrd"] is not None or options["append"]):
        raise UsageError("--initrd and --append take --kernel")
    try:
        features = int(options["guest_features"], 0)
    except ValueError as error:
        raise UsageError("--guest-features is a number such as 0x1") from error
    if not 0 <= features < 2**64:
        raise UsageError("--guest-features has 64 bits")
    return snp.measure_snp(
        snp.Launch(
            firmware=path,
            vcpus=options["vcpus"],
            vcpu_type=options["vcpu_type"],
            kernel=options["kernel"],
            initrd=options["initrd"],
            append=options["append"],
            guest_features=features,
            hypervisor=options["hypervisor"],
        )
    )
