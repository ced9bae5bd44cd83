r"""Reads `endorsements.toml`: where vendors' collateral comes from, and for which platforms.

For instance::

    pccs = "https://pccs.example.org:8081"      # or pcs; kds; root_crl; proxy
    ca_file = "pccs.pem"
    timeout = "60s"
    attempts = 5

    [[platform]]
    tee = "sgx"
    fmspc = "00906ED50000"
    ca = "processor"
    update = "early"

    [[platform]]
    tee = "snp"
    product = "Milan"
    vlek = true

Strict: an unknown key, or a value of another type, refuses the file. Relative paths are relative to it. The same may
stand in STATE/serve.toml, in a table `[endorsements]` with `[[endorsements.platform]]`; not in both.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from proxy_attestation.cli.endorsing.names import CONFIG, SERVE_CONFIG, TABLE
from proxy_attestation.codes import Code
from proxy_attestation.endorsements.kds import PRODUCTS, VCEKS_MAX, AmdTarget, parse_vcek
from proxy_attestation.endorsements.pcs import CAS, UPDATES, IntelTarget
from proxy_attestation.endorsements.refresh import Target
from proxy_attestation.errors import ConfigurationError
from proxy_attestation.formats.tee import Tee
from proxy_attestation.loader.config_table import Table, parse_toml, read_file

PLATFORMS_MAX: Final = 100
ATTEMPTS_MAX: Final = 20
TIMEOUT_MAX: Final = 3600
TEES: Final = ("sgx", "tdx", "snp")
_EVALUATION_NUMBER_MAX: Final = 0xFFFFFFFF


@dataclass(frozen=True, slots=True)
class EndorsementsConfig:
    """The file. What it does not say is None.

    Attributes:
        sources: of `pcs`, `pccs`, `kds`, `root_crl` and `proxy` those that it names.
        ca_file: certificates (PEM) that a source's TLS may chain to.
        timeout: seconds for one try.
        attempts: tries of one call.
        targets: the platforms.
    """

    sources: dict[str, str]
    ca_file: Path | None
    timeout: int | None
    attempts: int | None
    targets: tuple[Target, ...]


NOTHING: Final = EndorsementsConfig({}, None, None, None, ())
SOURCES: Final = ("pcs", "pccs", "kds", "root_crl", "proxy")


def load_config(path: Path) -> EndorsementsConfig:
    """Read the file.

    Raises:
        ConfigurationError: `configuration.malformed`, with line and fix.
    """
    return read_file(path, parse_config)


def parse_config(content: bytes, base: Path) -> EndorsementsConfig:
    """Read the file's content.

    Args:
        content: TOML in UTF-8, at most `FILE_MAX` bytes.
        base: the directory that relative paths start from.

    Raises:
        ConfigurationError: `configuration.malformed`.
    """
    return _config(parse_toml(content), base)


def state_config(state: Path) -> EndorsementsConfig:
    """Read what STATE says: endorsements.toml, or the table of serve.toml; nothing where there is neither.

    Raises:
        ConfigurationError: `configuration.malformed`; both are there.
    """
    own, shared = state / CONFIG, state / SERVE_CONFIG
    table = read_file(shared, _serve_table) if shared.exists() else NOTHING
    if not own.exists():
        return table
    if table != NOTHING:
        raise ConfigurationError(
            Code.CONFIGURATION_MALFORMED, f"{own}: there is a table [{TABLE}] in {SERVE_CONFIG} too; remove one of them"
        )
    return load_config(own)


def _serve_table(content: bytes, base: Path) -> EndorsementsConfig:
    top = parse_toml(content)
    return _config(top.table(TABLE), base) if TABLE in top else NOTHING


def _config(top: Table, base: Path) -> EndorsementsConfig:
    named = {key: top.optional(key, str, f'"https://{key}.example.org"') for key in SOURCES}
    ca_file = top.optional("ca_file", str, '"pccs.pem"')
    timeout = top.duration("timeout", '"60s"', 1, TIMEOUT_MAX, default=0)
    attempts = top.optional("attempts", int, "5")
    if attempts is not None and not 1 <= attempts <= ATTEMPTS_MAX:
        raise top.error("attempts", f"is not 1 to {ATTEMPTS_MAX}", "write attempts = 5")
    platforms = top.tables("platform", PLATFORMS_MAX) if "platform" in top else ()
    config = EndorsementsConfig(
        sources={key: value for key, value in named.items() if value is not None},
        ca_file=base / ca_file if ca_file is not None else None,
        timeout=timeout or None,
        attempts=attempts,
        targets=tuple(_target(table) for table in platforms),
    )
    top.finish()
    if {"pcs", "pccs"} <= config.sources.keys():
        raise top.error("pccs", "stands beside pcs", "name one of them")
    names = [target.name for target in config.targets]
    if len(set(names)) != len(names):
        raise top.error(None, "has one platform twice", "write each TEE and FMSPC, or product, once")
    return config


def _target(table: Table) -> Target:
    tee = _choice(table, "tee", TEES, None)
    target: Target
    if tee == "snp":
        product = _choice(table, "product", PRODUCTS, None)
        vlek = table.optional("vlek", bool, "true")
        texts = table.texts("vcek", '["HWID:bl=3,tee=0,snp=22,ucode=209"]', VCEKS_MAX)
        try:
            vceks = tuple(parse_vcek(text, product) for text in texts)
        except ValueError as error:
            raise table.error("vcek", f"cannot be used: {error}", "write HWID:bl=3,tee=0,snp=22,ucode=209") from error
        target = AmdTarget(product, vlek is True, vceks)
    else:
        fmspc = table.parsed("fmspc", '"00906ED50000"', parse_fmspc)
        ca = _choice(table, "ca", CAS, "platform")
        update = _choice(table, "update", UPDATES, "standard")
        number = table.optional("evaluation_number", int, "17")
        if number is not None and not 0 <= number <= _EVALUATION_NUMBER_MAX:
            raise table.error("evaluation_number", "is out of range", "write evaluation_number = 17")
        target = IntelTarget(Tee(tee), fmspc, ca, update if number is None else number)
    table.finish()
    return target


def parse_fmspc(text: str) -> bytes:
    """Read an FMSPC.

    Raises:
        ValueError: for anything but 12 hex digits.
    """
    value = bytes.fromhex(text)
    if len(value) != 6 or len(text) != 12:
        raise ValueError("12 hex digits were expected")
    return value


def _choice(table: Table, key: str, choices: tuple[str, ...], default: str | None) -> str:
    value: Any = table.get(key, str, f'"{choices[0]}"', default)
    if value not in choices:
        raise table.error(key, f"is none of {', '.join(choices)}", f'write {key} = "{choices[0]}"')
    return str(value)
