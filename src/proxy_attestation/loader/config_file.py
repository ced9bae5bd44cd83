r"""Reads the loader's file.

For instance::

    proxy = "https://127.0.0.1:7444"
    root_pin = "<64 hex digits>"
    trust_domain = "example.org"
    workload = "example-app"
    tee = "sgx"
    lifetime = "1h"
    control = "run/load.sock"

    [names]
    dns = ["app.example.org"]

    [[listener]]
    address = "127.0.0.1:0"
    protocol = "grpc"

    [application]
    kind = "wasm"
    path = "example.wat"

Strict: an unknown key, an empty list or a value of another type refuses the file. Relative paths are relative to it.
"""

from pathlib import Path
from typing import Final

from proxy_attestation.errors import FormatError
from proxy_attestation.formats.bounds import NAMES_MAX
from proxy_attestation.formats.request import LIFETIME_MAX, Names, is_workload_name, names_from
from proxy_attestation.formats.tee import Tee
from proxy_attestation.loader.applications.frames import BODY_MAX
from proxy_attestation.loader.applications.wasm import WasmLimits
from proxy_attestation.loader.config import (
    AddressConfig,
    ApplicationConfig,
    ChildConfig,
    ListenerConfig,
    LoaderConfig,
    WasmConfig,
)
from proxy_attestation.loader.config_table import Table, parse_toml, read_file
from proxy_attestation.loader.config_tpm import tpm_options
from proxy_attestation.loader.endpoint import parse_address, parse_local
from proxy_attestation.loader.limits import MIB, SessionLimits
from proxy_attestation.loader.ownership import OwnerConfig
from proxy_attestation.loader.proxy_client import ProxyAddress, ProxyEvidence
from proxy_attestation.loader.tls import Protocol
from proxy_attestation.relying_party.expectation import is_trust_domain
from proxy_attestation.relying_party.proxy_expectation import load_proxy_expectation

LISTENERS_MAX: Final = 32
_COMMAND_MAX: Final = 64
_PATHS_MAX: Final = 16
_KINDS: Final = ("wasm", "child", "address")


def load_config(path: Path) -> LoaderConfig:
    """Read the loader's file.

    Raises:
        ConfigurationError: `configuration.malformed`, with line and fix.
    """
    return read_file(path, parse_config)


def parse_config(content: bytes, base: Path) -> LoaderConfig:
    """Read the file's content.

    Args:
        content: TOML in UTF-8, at most `FILE_MAX` bytes.
        base: the directory that relative paths start from.

    Raises:
        ConfigurationError: `configuration.malformed`.
    """
    top = parse_toml(content)
    ports_file = top.optional("ports_file", str, '"run/ports.json"')
    key_directory = top.optional("key_directory", str, '"/run/key"')
    tee = top.parsed("tee", '"sgx"', Tee)
    config = LoaderConfig(
        proxy=ProxyAddress(
            url=top.parsed("proxy", '"https://proxy.example.org:7444"', _url),
            root_pin=_root_pin(top),
            trust_domain=top.parsed("trust_domain", '"example.org"', _trust_domain),
            server_name=top.optional("proxy_name", str, '"proxy.example.org"'),
            evidence=_proxy_evidence(top, base),
        ),
        workload=top.parsed("workload", '"example-app"', _workload),
        tee=tee,
        lifetime=top.duration("lifetime", '"1h"', 60, LIFETIME_MAX, default=24 * 3600),
        names=_names(top.table("names")),
        listeners=tuple(_listener(table) for table in top.tables("listener", LISTENERS_MAX)),
        application=_application(top.table("application"), base),
        control=base / top.get("control", str, '"run/load.sock"'),
        ports_file=base / ports_file if ports_file is not None else None,
        key_directory=base / key_directory if key_directory is not None else None,
        attester=top.optional("attester", str, '"tpm"'),
        tpm=tpm_options(top, tee, base),
        owner=_owner(top.table("owner"), base),
    )
    top.finish()
    if isinstance(config.application, WasmConfig) and any(x.protocol is Protocol.TCP for x in config.listeners):
        raise top.error("listener", "forwards tcp to a Wasm module, which answers messages", "use grpc or http")
    fixed = [listener.endpoint for listener in config.listeners if listener.endpoint.port != 0]
    if len(set(fixed)) != len(fixed):
        raise top.error("listener", "has one address twice", "give each listener its own")
    return config


def _root_pin(top: Table) -> bytes | None:
    if "root_pin" not in top and "proxy_expect" in top:
        return None
    return top.parsed("root_pin", '"<64 hex digits>"', _pin)


def _proxy_evidence(top: Table, base: Path) -> ProxyEvidence | None:
    file = top.optional("proxy_expect", str, '"proxy.toml"')
    endorsements = top.texts("proxy_endorsements", '["endorsements"]', _PATHS_MAX)
    roots = top.texts("proxy_roots", '["root.der"]', _PATHS_MAX)
    if file is None:
        if endorsements or roots:
            raise top.error(None, "has collateral for a proxy of which nothing is expected", "write proxy_expect too")
        return None
    expectation = load_proxy_expectation(base / file)
    if not expectation.attested:
        raise top.error(
            "proxy_expect", "names no measurement of the proxy", "write tee and a measurement, or a root_pin"
        )
    return ProxyEvidence(expectation, tuple(base / name for name in endorsements), tuple(base / name for name in roots))


def _names(table: Table) -> Names:
    dns = table.texts("dns", '["app.example.org"]', NAMES_MAX)
    ip = table.texts("ip", '["192.0.2.1"]', NAMES_MAX)
    table.finish()
    try:
        names = names_from(dns, ip)
    except FormatError as error:
        raise table.error(
            None, f"cannot be asked for: {error.detail}", "write A-labels in lower case, and IPs"
        ) from error
    if len(names.encoded()) > NAMES_MAX:
        raise table.error(None, "has too many names", f"ask for at most {NAMES_MAX}")
    return names


def _owner(table: Table, base: Path) -> OwnerConfig:
    token = table.optional("token_file", str, '"token"')
    grant = table.optional("grant_file", str, '"grant"')
    command = _command(table, "grant_command", base) if "grant_command" in table else ()
    table.finish()
    if sum(map(bool, (token, grant, command))) > 1:
        raise table.error(None, "has several ways to prove one thing", "keep one: the entry has one owner")
    return OwnerConfig(None if token is None else base / token, None if grant is None else base / grant, command)


def _listener(table: Table) -> ListenerConfig:
    listener = ListenerConfig(
        table.parsed("address", '"127.0.0.1:8443"', parse_address),
        table.parsed("protocol", '"grpc"', Protocol),
    )
    table.finish()
    return listener


def _application(table: Table, base: Path) -> ApplicationConfig:
    kind = table.get("kind", str, '"wasm"')
    application: ApplicationConfig
    match kind:
        case "wasm":
            application = _wasm(table, base)
        case "child":
            application = _child(table, base)
        case "address":
            application = AddressConfig(
                table.parsed("connect", '"unix:run/app.sock"', lambda text: parse_local(text, base))
            )
        case _:
            raise table.error("kind", "is unknown", f"use one of {', '.join(_KINDS)}")
    table.finish()
    return application


def _wasm(table: Table, base: Path) -> WasmConfig:
    plain = WasmLimits()
    return WasmConfig(
        base / table.get("path", str, '"example.wat"'),
        WasmLimits(
            fuel=table.number("fuel", str(plain.fuel), 1, (1 << 63) - 1, plain.fuel),
            memory=table.size("memory", '"64MiB"', 64 * 1024, 1 << 32, plain.memory),
            seconds=table.duration("time", '"10s"', 1, 3600, default=int(plain.seconds)),
            output=table.size("output", '"4MiB"', 1024, BODY_MAX, plain.output),
            threads=table.number("threads", str(plain.threads), 1, 256, plain.threads),
        ),
        table.size("message", '"4MiB"', 1024, BODY_MAX - MIB, SessionLimits().message),
    )


def _child(table: Table, base: Path) -> ChildConfig:
    command = _command(table, "command", base)
    endpoint = table.parsed("connect", '"unix:run/app.sock"', lambda text: parse_local(text, base))
    user = table.optional("user", str, '"nobody"')
    return ChildConfig(command, endpoint, user)


def _command(table: Table, key: str, base: Path) -> tuple[str, ...]:
    command = table.get(key, list, '["/usr/bin/server", "--listen", "{connect}"]')
    good = all(isinstance(part, str) and "\0" not in part for part in command)
    if not good or not 0 < len(command) <= _COMMAND_MAX or not command[0]:
        raise table.error(key, f"is not a list of 1 to {_COMMAND_MAX} texts", f'write {key} = ["/usr/bin/server"]')
    if "/" not in command[0]:
        # A search path would be an environment that nobody has written down.
        raise table.error(key, "names its program without a path", f'write {key} = ["/usr/bin/server"]')
    return (str(base / command[0]), *command[1:])


def _url(text: str) -> str:
    if not text.startswith("https://"):
        raise ValueError("it has to begin with https://")
    return text


def _pin(text: str) -> bytes:
    pin = bytes.fromhex(text) if len(text) == 64 else b""
    if len(pin) != 32 or not any(pin):
        raise ValueError("64 hexadecimal digits were expected, as `init` prints them")
    return pin


def _trust_domain(text: str) -> str:
    if not is_trust_domain(text):
        raise ValueError("not a SPIFFE trust domain")
    return text


def _workload(text: str) -> str:
    if not is_workload_name(text):
        raise ValueError("not the name of a policy entry")
    return text
