"""How `serve` is set up: STATE/serve.toml, and the flags, which win."""

import ipaddress
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError, UsageError
from proxy_attestation.service.limits import Bounds

FILE_MAX: Final = 64 * 1024
WORKERS_MAX: Final = 256
IN_FLIGHT_MAX: Final = 65_536
PEER_RATE_MAX: Final = 1_000_000
TLS_NAMES_MAX: Final = 64


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen: an IP address and a port; port 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def unspecified(self) -> bool:
        """Whether it means every address of the machine."""
        return ipaddress.ip_address(self.host).is_unspecified


@dataclass(frozen=True, slots=True)
class ServeConfig:
    """Everything that can be set about `serve`.

    Attributes:
        grpc: where the gRPC front listens.
        connect: where the Connect front listens.
        admin: where metrics and the supervisor's health are served, in plain HTTP.
        workers: processes that face the network.
        tls_names: DNS names and IP addresses of the proxy's own TLS certificate, beside the addresses listened on.
        bounds: of each worker.
    """

    grpc: Address
    connect: Address
    admin: Address
    workers: int
    tls_names: tuple[str, ...]
    bounds: Bounds

    def certificate_names(self) -> tuple[str, ...]:
        """Return all names of the proxy's TLS certificate, sorted.

        Raises:
            UsageError: when there is none, because the fronts listen on every address and nothing was named.
        """
        own = {address.host for address in (self.grpc, self.connect) if not address.unspecified}
        names = tuple(sorted(own | set(self.tls_names)))
        if not names:
            raise UsageError("listening on every address needs the name that clients will use: --tls-name NAME")
        return names


DEFAULTS: Final[Mapping[str, Any]] = {
    "grpc": "127.0.0.1:7443",
    "connect": "127.0.0.1:7444",
    "admin": "127.0.0.1:7445",
    "workers": None,
    "tls_name": (),
    "in_flight": Bounds().in_flight,
    "peer_rate": Bounds().peer_rate,
}
"""Every key of serve.toml, which are the flags' names with an underscore. `workers` None means one a core."""


def load_config(state: Path, flags: Mapping[str, Any]) -> ServeConfig:
    """Merge defaults, STATE/serve.toml (if it is there) and the flags that were given (not None, not empty).

    Raises:
        ConfigurationError: `configuration.malformed`, for a serve.toml that is no TOML or has an unknown key or a
            value out of range.
        UsageError: for a flag out of range.
    """
    path = state / "serve.toml"
    values = {**DEFAULTS, **_read(path)}
    try:
        _build(values)
    except ValueError as error:
        raise ConfigurationError(Code.CONFIGURATION_MALFORMED, f"{path}: {error}") from error
    given = {key: value for key, value in flags.items() if value is not None and value != ()}
    try:
        return _build({**values, **given})
    except ValueError as error:
        raise UsageError(str(error)) from error


def parse_address(text: object) -> Address:
    """Read `ADDRESS:PORT`, with brackets around an IPv6 address.

    Raises:
        ValueError: for anything else, a host name included: a name could resolve to an address nobody meant.
    """
    host, colon, port = str(text).rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    try:
        address = ipaddress.ip_address(bare)
    except ValueError as error:
        raise ValueError(f"{text!r}: an IP address and a port, as in 127.0.0.1:7443 or [::1]:7443") from error
    bracketed = host.startswith("[") and host.endswith("]")
    if not colon or bracketed is (address.version == 4) or not (port.isascii() and port.isdigit()):
        raise ValueError(f"{text!r}: an IP address and a port, as in 127.0.0.1:7443 or [::1]:7443")
    if int(port) > 65_535:
        raise ValueError(f"{text!r}: a port is at most 65535")
    return Address(str(address), int(port))


def _read(path: Path) -> Mapping[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(FILE_MAX + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise ConfigurationError(Code.CONFIGURATION_MALFORMED, f"{path}: {error.strerror}") from error
    try:
        values = tomllib.loads(data.decode("utf-8"))
    except ValueError as error:
        raise ConfigurationError(Code.CONFIGURATION_MALFORMED, f"{path}: {error}") from error
    unknown = sorted(set(values) - set(DEFAULTS))
    if unknown or len(data) > FILE_MAX:
        detail = f"unknown key {unknown[0]!r}; known: {', '.join(DEFAULTS)}" if unknown else f"over {FILE_MAX} bytes"
        raise ConfigurationError(Code.CONFIGURATION_MALFORMED, f"{path}: {detail}")
    return values


def _build(values: Mapping[str, Any]) -> ServeConfig:
    names = values["tls_name"]
    if not isinstance(names, list | tuple) or not all(isinstance(name, str) and name for name in names):
        raise ValueError("tls_name: a list of names")
    if len(names) > TLS_NAMES_MAX:
        raise ValueError(f"tls_name: at most {TLS_NAMES_MAX} names")
    workers = values["workers"]
    in_flight = _number(values, "in_flight", IN_FLIGHT_MAX)
    peer_rate = _number(values, "peer_rate", PEER_RATE_MAX)
    return ServeConfig(
        grpc=parse_address(values["grpc"]),
        connect=parse_address(values["connect"]),
        admin=parse_address(values["admin"]),
        workers=len(os.sched_getaffinity(0)) if workers is None else _number(values, "workers", WORKERS_MAX),
        tls_names=tuple(names),
        bounds=Bounds(
            in_flight=in_flight,
            peer_in_flight=max(1, in_flight // 2),
            peer_rate=peer_rate,
            peer_burst=2 * peer_rate,
        ),
    )


def _number(values: Mapping[str, Any], key: str, maximum: int) -> int:
    value = values[key]
    if type(value) is not int or not 1 <= value <= maximum:
        raise ValueError(f"{key}: a number from 1 to {maximum}")
    return value
