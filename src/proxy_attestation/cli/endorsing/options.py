"""What the `endorsements` commands share: where the cache is, what to trust, where to ask, and for what."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final, TypedDict, TypeVar

import click

from proxy_attestation.appraisal.roots import VENDOR_ROOTS, Roots
from proxy_attestation.authority.settings import SETTINGS_MAX, decode_settings
from proxy_attestation.authority.state import ENDORSEMENTS, SETTINGS
from proxy_attestation.cli.endorsing.config import (
    ATTEMPTS_MAX,
    NOTHING,
    TEES,
    TIMEOUT_MAX,
    EndorsementsConfig,
    load_config,
    parse_fmspc,
    state_config,
)
from proxy_attestation.cli.endorsing.names import CONFIG
from proxy_attestation.cli.evidence_file import read_input
from proxy_attestation.endorsements.amd_checks import AMD_PINS, AmdPins
from proxy_attestation.endorsements.cache import Cache
from proxy_attestation.endorsements.http import Getter, HttpLimits, base_url, tls_context
from proxy_attestation.endorsements.kds import KDS_BASE, PRODUCTS, AmdTarget, parse_vcek
from proxy_attestation.endorsements.load import load_roots
from proxy_attestation.endorsements.pcs import CAS, PCS_BASE, ROOT_CRL_URL, UPDATES, IntelService, IntelTarget
from proxy_attestation.endorsements.refresh import Sources, Target
from proxy_attestation.errors import ProxyAttestationError, UsageError
from proxy_attestation.formats.tee import Tee

FILE: Final = click.Path(exists=True, dir_okay=False, path_type=Path)
PLACE: Final = click.Path(file_okay=False, path_type=Path)
_F = TypeVar("_F", bound=Callable[..., Any])


class SourceOptions(TypedDict):
    """The options of `source_options`, as click gives them."""

    config_file: Path | None
    pcs: str | None
    pccs: str | None
    kds: str | None
    root_crl: str | None
    ca_file: Path | None
    proxy: str | None
    timeout: float | None
    attempts: int | None


class TargetOptions(TypedDict):
    """The options of `target_options`, as click gives them."""

    tees: tuple[str, ...]
    fmspcs: tuple[str, ...]
    ca: str | None
    update: str | None
    evaluation_number: int | None
    products: tuple[str, ...]
    vlek: bool
    vceks: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """Where the cache is, and what it may hold.

    Attributes:
        cache: STATE/endorsements, or the directory itself.
        roots: Intel's anchors.
        pins: AMD's anchors.
        config: what --config names; else STATE/endorsements.toml, or the table of STATE/serve.toml, or nothing.
    """

    cache: Cache
    roots: Roots
    pins: AmdPins
    config: EndorsementsConfig


NO_OPTIONS: Final = SourceOptions(
    config_file=None,
    pcs=None,
    pccs=None,
    kds=None,
    root_crl=None,
    ca_file=None,
    proxy=None,
    timeout=None,
    attempts=None,
)


def roots_option(function: _F) -> _F:
    """Add --roots."""
    return click.option(
        "--roots",
        metavar="FILE",
        multiple=True,
        type=FILE,
        help="Root certificates to trust instead of the pinned vendor roots; may be repeated. Not with a STATE.",
    )(function)


def source_options(function: _F) -> _F:
    """Add the options that say where to ask."""
    for option in reversed(
        (
            click.option(
                "--config", "config_file", metavar="FILE", type=FILE, help="Default: STATE/endorsements.toml."
            ),
            click.option("--pcs", metavar="URL", help=f"Intel's PCS.  [default: {PCS_BASE}]"),
            click.option("--pccs", metavar="URL", help="A PCCS, instead of PCS."),
            click.option("--kds", metavar="URL", help=f"AMD's KDS.  [default: {KDS_BASE}]"),
            click.option(
                "--root-crl", metavar="URL", help=f"Intel's root CRL; a PCCS has it.  [default: {ROOT_CRL_URL}]"
            ),
            click.option(
                "--ca-file", metavar="FILE", type=FILE, help="Certificates (PEM) to trust for TLS, beside the system's."
            ),
            click.option("--proxy", metavar="URL", help="A forward proxy. The environment's is not used."),
            click.option(
                "--timeout",
                type=click.FloatRange(0.1, TIMEOUT_MAX),
                metavar="SECONDS",
                help="For one try.  [default: 60]",
            ),
            click.option(
                "--attempts", type=click.IntRange(1, ATTEMPTS_MAX), metavar="N", help="Tries of one call.  [default: 5]"
            ),
        )
    ):
        function = option(function)
    return function


def target_options(function: _F) -> _F:
    """Add the options that say what to ask for."""
    for option in reversed(
        (
            click.option("--tee", "tees", multiple=True, type=click.Choice(TEES), help="May be repeated."),
            click.option("--fmspc", "fmspcs", multiple=True, metavar="HEX", help="Intel platform family, 12 digits."),
            click.option("--ca", type=click.Choice(CAS), help="Who issues its PCK certificates.  [default: platform]"),
            click.option("--update", type=click.Choice(UPDATES), help="Which TCB release.  [default: standard]"),
            click.option(
                "--evaluation-number", type=click.IntRange(0, 2**32 - 1), metavar="N", help="Or this very one."
            ),
            click.option("--product", "products", multiple=True, type=click.Choice(PRODUCTS), help="AMD product line."),
            click.option("--vlek", is_flag=True, help="The VLEK chain and CRL too."),
            click.option(
                "--vcek",
                "vceks",
                multiple=True,
                metavar="HWID:bl=N,tee=N,snp=N,ucode=N",
                help="A chip's VCEK too; for Turin with fmc=N. Evidence usually brings its own.",
            ),
        )
    ):
        function = option(function)
    return function


def place_of(path: Path, roots: tuple[Path, ...], config_file: Path | None = None) -> Place:
    """Return the place that a command line names: an authority's STATE, or any directory.

    Raises:
        UsageError: for --roots with a STATE, whose anchors are fixed.
        ConfigurationError: for a malformed configuration, root or authority.toml.
    """
    settings_file = path / SETTINGS
    if not settings_file.exists():
        config = NOTHING if config_file is None else load_config(config_file)
        return Place(Cache(path), *anchors(roots), config)
    if roots:
        raise UsageError("--roots does not go with a STATE: its anchors are those that `init` was given")
    settings = decode_settings(read_input(str(settings_file), SETTINGS_MAX))
    pins = dict.fromkeys(PRODUCTS, settings.anchors) if settings.simulated else AMD_PINS
    config = state_config(path) if config_file is None else load_config(config_file)
    return Place(Cache(path / ENDORSEMENTS), settings.roots, pins, config)


def anchors(roots: tuple[Path, ...]) -> tuple[Roots, AmdPins]:
    """Return the pinned anchors, or those of the files that were given, which then count for every vendor.

    Raises:
        ConfigurationError: `configuration.malformed`.
    """
    if not roots:
        return VENDOR_ROOTS, AMD_PINS
    given = load_roots(roots)
    return given, dict.fromkeys(PRODUCTS, given.intel)


def getter_of(config: EndorsementsConfig, options: SourceOptions) -> Getter:
    """Make the getter; options win over the file.

    Raises:
        UsageError: for a proxy that is no URL.
        ConfigurationError: for a --ca-file without certificates.
    """
    limits = HttpLimits()
    timeout = options["timeout"] if options["timeout"] is not None else config.timeout
    if timeout is not None:
        limits = replace(limits, total=timeout)
    attempts = options["attempts"] if options["attempts"] is not None else config.attempts
    if attempts is not None:
        limits = replace(limits, attempts=attempts)
    ca_file = options["ca_file"] if options["ca_file"] is not None else config.ca_file
    proxy = options["proxy"] or config.sources.get("proxy")
    return Getter(limits, context=tls_context(ca_file), proxy=None if proxy is None else base_url(proxy))


def sources_of(getter: Getter, place: Place, options: SourceOptions) -> Sources:
    """Return the sources; options win over the file.

    Raises:
        UsageError: for both --pcs and --pccs, or what is no URL.
    """
    if options["pcs"] and options["pccs"]:
        raise UsageError("--pcs and --pccs: name one of them")
    given = {name: str(value) for name in ("pcs", "pccs", "kds", "root_crl") if (value := options.get(name))}
    named = {name: value for name, value in place.config.sources.items() if name != "proxy"}
    if given.keys() & {"pcs", "pccs"}:
        named.pop("pcs", None)
        named.pop("pccs", None)
    urls = {name: base_url(url) for name, url in {**named, **given}.items()}
    intel = IntelService(getter, urls.get("pcs", PCS_BASE), urls.get("root_crl", ROOT_CRL_URL))
    if "pccs" in urls:
        intel = IntelService.pccs(getter, urls["pccs"])
        intel = replace(intel, root_crl=urls.get("root_crl", intel.root_crl))
    return Sources(getter, intel, place.roots, place.pins, urls.get("kds", KDS_BASE))


def targets_of(config: EndorsementsConfig, options: TargetOptions | None) -> tuple[Target, ...]:
    """Return what to fetch: what the options name or, without any, what the file does.

    Raises:
        UsageError: for options that do not go together, or nothing at all.
    """
    if options is None or not any(options.values()):
        if not config.targets:
            raise UsageError(f"nothing to fetch: --tee with --fmspc or --product, or [[platform]] in {CONFIG}")
        return config.targets
    intel = [tee for tee in dict.fromkeys(options["tees"]) if tee != "snp"]
    snp = "snp" in options["tees"]
    if bool(intel) != bool(options["fmspcs"]) or snp != bool(options["products"]):
        raise UsageError("--tee sgx and tdx need --fmspc, --tee snp needs --product, and the other way round")
    if not intel and (options["ca"] or options["update"] or options["evaluation_number"] is not None):
        raise UsageError("--ca, --update and --evaluation-number are about --tee sgx and tdx")
    if options["update"] and options["evaluation_number"] is not None:
        raise UsageError("--update and --evaluation-number: name one of them")
    if (options["vlek"] or options["vceks"]) and len(set(options["products"])) != 1:
        raise UsageError("--vlek and --vcek need one --product")
    number = options["evaluation_number"]
    release = number if number is not None else options["update"] or "standard"
    targets: list[Target] = []
    try:
        for fmspc in dict.fromkeys(options["fmspcs"]):
            value = parse_fmspc(fmspc)
            targets += [IntelTarget(Tee(tee), value, options["ca"] or "platform", release) for tee in intel]
        for product in dict.fromkeys(options["products"]):
            vceks = tuple(parse_vcek(text, product) for text in options["vceks"])
            targets.append(AmdTarget(product, options["vlek"], vceks))
    except ValueError as error:
        raise UsageError(str(error)) from error
    return tuple(targets)


def worst(errors: list[ProxyAttestationError]) -> int:
    """Return the exit status for several errors: a refusal counts most, since somebody may be cheating."""
    statuses = {error.exit_status for error in errors}
    return 3 if 3 in statuses else max(statuses, default=0)
