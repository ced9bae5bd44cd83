"""How `serve` is set up: STATE/serve.toml, and the flags, which win."""

import ipaddress
import os
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from proxy_attestation.authority.tree import WITNESSES_MAX, read_witnesses
from proxy_attestation.codes import Code
from proxy_attestation.errors import ConfigurationError, UsageError
from proxy_attestation.service.limits import Bounds

FILE_MAX: Final = 64 * 1024
WORKERS_MAX: Final = 256
IN_FLIGHT_MAX: Final = 65_536
PEER_RATE_MAX: Final = 1_000_000
TLS_NAMES_MAX: Final = 64
TEXT_MAX: Final = 256


class Address(NamedTuple):
    """Where to listen: an IP address and a port; port 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class WitnessAt(NamedTuple):
    """A witness of the ledger: its key, as a C2SP vkey of type 04, and the URL of its submissions."""

    vkey: str
    url: str


class ServeConfig(NamedTuple):
    """Everything that can be set about `serve`; the fields are the keys of serve.toml.

    Attributes:
        grpc: where the gRPC front listens.
        connect: where the Connect front listens.
        admin: where metrics and the supervisor's health are served, in plain HTTP.
        workers: processes that face the network.
        tls_name: DNS names and IP addresses of the proxy's own TLS certificate, beside the addresses listened on.
        in_flight: calls at once, a worker.
        peer_rate: calls a second that one peer may make, a worker.
        endorsements: whether there is a table of this name; what is in it the process that refreshes them reads.
        witness: who is asked to cosign the ledger's checkpoints.
        witness_quorum: how many must have, before a certificate is answered; must be said where there is a witness.
        attester: what quotes the proxy itself; empty: nothing does.
        attester_tee: the kind of evidence that it makes, where the attester alone does not say it; else empty.
    """

    grpc: Address
    connect: Address
    admin: Address
    workers: int
    tls_name: tuple[str, ...]
    in_flight: int
    peer_rate: int
    endorsements: bool = False
    witness: tuple[WitnessAt, ...] = ()
    witness_quorum: int | None = None
    attester: str = ""
    attester_tee: str = ""

    @property
    def bounds(self) -> Bounds:
        """The bounds of each worker."""
        return Bounds(self.in_flight, max(1, self.in_flight // 2), self.peer_rate, 2 * self.peer_rate)

    def certificate_names(self) -> tuple[str, ...]:
        """Return all names of the proxy's TLS certificate, sorted.

        Raises:
            UsageError: when there is none, because the fronts listen on every address and nothing was named.
        """
        hosts = {address.host for address in (self.grpc, self.connect)}
        own = {host for host in hosts if not ipaddress.ip_address(host).is_unspecified}
        names = tuple(sorted(own | set(self.tls_name)))
        if not names:
            raise UsageError("listening on every address needs the name that clients will use: --tls-name NAME")
        return names


class WorkerOptions(NamedTuple):
    """What a worker is told when it is started, as one JSON array on its command line.

    Attributes:
        state: the authority's directory.
        grpc: ADDRESS:PORT, and so `connect`.
        connect: likewise.
        key: path of the TLS key, PEM.
        chain: path of its certificates, PEM.
        slot: of its metrics.
        bounds: of this worker.
    """

    state: str
    grpc: str
    connect: str
    key: str
    chain: str
    slot: int
    bounds: Bounds


def load_config(state: Path, flags: Mapping[str, Any]) -> ServeConfig:
    """Merge defaults, STATE/serve.toml (if it is there) and the flags that were given (not None, not empty).

    Raises:
        ConfigurationError: `configuration.malformed`, for a serve.toml that is no TOML or has an unknown key or a
            value out of range, and for more cosignatures demanded than there are witnesses.
        UsageError: for a flag out of range.
    """
    path = state / "serve.toml"
    try:
        values = _checked({**DEFAULTS, **_read(path)})
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigurationError(Code.CONFIGURATION_MALFORMED, f"{path}: {error}") from error
    try:
        given = _checked({key: value for key, value in flags.items() if value is not None and value != ()})
    except ValueError as error:
        raise UsageError(str(error)) from error
    config = ServeConfig(**{**values, **given})
    if config.witness and config.witness_quorum is None:
        detail = f"{path}: [[witness]] needs witness_quorum: how many must cosign before a certificate is answered"
        raise ConfigurationError(Code.CONFIGURATION_MALFORMED, detail)
    read_witnesses([witness.vkey for witness in config.witness], config.witness_quorum or 0)
    return config


def parse_address(text: object) -> Address:
    """Read `ADDRESS:PORT`, with brackets around an IPv6 address.

    Raises:
        ValueError: for anything else, a host name included: a name could resolve to an address nobody meant.
    """
    host, _, port = str(text).rpartition(":")
    bracketed = host.startswith("[") and host.endswith("]")
    try:
        address = ipaddress.ip_address(host[1:-1] if bracketed else host)
    except ValueError:
        address = None
    if address is None or bracketed is (address.version == 4) or not (port.isascii() and port.isdigit()):
        raise ValueError(f"{text!r}: an IP address and a port, as in 127.0.0.1:7443 or [::1]:7443")
    if int(port) > 65_535:
        raise ValueError(f"{text!r}: a port is at most 65535")
    return Address(str(address), int(port))


def _number(maximum: int) -> Callable[[Any], int]:
    def read(value: Any) -> int:
        if type(value) is not int or not 1 <= value <= maximum:
            raise ValueError(f"a number from 1 to {maximum}")
        return value

    return read


def _table(value: Any) -> bool:
    if not isinstance(value, dict):
        raise ValueError("a table")  # noqa: TRY004 - a value of the file, like any other
    return bool(value)


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > TEXT_MAX:
        raise ValueError(f"a text of at most {TEXT_MAX} characters")
    return value


def _witnesses(value: Any) -> tuple[WitnessAt, ...]:
    tables: Any = value if isinstance(value, list | tuple) else [None]
    if not all(isinstance(table, dict) and set(table) == {"vkey", "url"} for table in tables):
        raise ValueError("tables [[witness]] with vkey and url")
    return tuple(WitnessAt(_text(table["vkey"]), _text(table["url"])) for table in tables)


def _quorum(value: Any) -> int | None:
    if value is not None and (type(value) is not int or not 0 <= value <= WITNESSES_MAX):
        raise ValueError(f"a number from 0 to {WITNESSES_MAX}")
    return value


def _names(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) and name for name in value):
        raise ValueError("a list of names")
    if len(value) > TLS_NAMES_MAX:
        raise ValueError(f"at most {TLS_NAMES_MAX} names")
    return tuple(value)


_KEYS: Final[Mapping[str, tuple[Any, Callable[[Any], Any]]]] = {
    "grpc": ("127.0.0.1:7443", parse_address),
    "connect": ("127.0.0.1:7444", parse_address),
    "admin": ("127.0.0.1:7445", parse_address),
    "workers": (min(len(os.sched_getaffinity(0)), WORKERS_MAX), _number(WORKERS_MAX)),
    "tls_name": ((), _names),
    "in_flight": (Bounds().in_flight, _number(IN_FLIGHT_MAX)),
    "peer_rate": (Bounds().peer_rate, _number(PEER_RATE_MAX)),
    "endorsements": ({}, _table),
    "witness": ((), _witnesses),
    "witness_quorum": (None, _quorum),
    "attester": ("", _text),
    "attester_tee": ("", _text),
}
DEFAULTS: Final = {key: default for key, (default, _) in _KEYS.items()}
"""Every key of serve.toml, which are the flags' names with an underscore, but for `endorsements` and the witnesses."""


def _checked(values: Mapping[str, Any]) -> dict[str, Any]:
    checked = {}
    for key, value in values.items():
        if key not in _KEYS:
            raise ValueError(f"unknown key {key!r}; known: {', '.join(_KEYS)}")
        try:
            checked[key] = _KEYS[key][1](value)
        except ValueError as error:
            raise ValueError(f"{key}: {error}") from error
    return checked


def _read(path: Path) -> Mapping[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(FILE_MAX + 1)
    except FileNotFoundError:
        return {}
    if len(data) > FILE_MAX:
        raise ValueError(f"over {FILE_MAX} bytes")
    return tomllib.loads(data.decode("utf-8"))
