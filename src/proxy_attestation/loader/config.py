"""How `load` is set up, as data; `config_file.py` reads it.

None of it is part of the measured code: it may ask for anything, and the proxy's policy decides what is granted.
"""

from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from proxy_attestation.attester.tpm_attester import TpmOptions
from proxy_attestation.formats.request import Names
from proxy_attestation.formats.tee import Tee
from proxy_attestation.loader.applications.wasm import WasmLimits
from proxy_attestation.loader.endpoint import Endpoint
from proxy_attestation.loader.ownership import OwnerConfig
from proxy_attestation.loader.proxy_client import ProxyAddress
from proxy_attestation.loader.tls import Protocol


@dataclass(frozen=True, slots=True)
class ListenerConfig:
    """One listening address.

    Attributes:
        endpoint: an IP address and a port, 0 for any.
        protocol: what is spoken inside TLS.
    """

    endpoint: Endpoint
    protocol: Protocol


@dataclass(frozen=True, slots=True)
class WasmConfig:
    """A Wasm module.

    Attributes:
        path: of the .wat or .wasm file.
        limits: of one call.
        message: bytes of one request or reply body.
    """

    path: Path
    limits: WasmLimits
    message: int


@dataclass(frozen=True, slots=True)
class ChildConfig:
    """A child process.

    Attributes:
        command: program (absolute path) and arguments.
        endpoint: where it listens.
        user: name or number of the user to run it as, or None for the loader's own.
    """

    command: tuple[str, ...]
    endpoint: Endpoint
    user: str | None


@dataclass(frozen=True, slots=True)
class AddressConfig:
    """An application that somebody else runs on this machine.

    Attributes:
        endpoint: where it listens.
    """

    endpoint: Endpoint


ApplicationConfig: TypeAlias = WasmConfig | ChildConfig | AddressConfig


@dataclass(frozen=True, slots=True)
class LoaderConfig:
    """Everything.

    Attributes:
        proxy: where the proxy is, and what it must be.
        workload: the policy's entry.
        tee: the kind of evidence.
        lifetime: of each certificate, seconds.
        names: to be in the certificate, beside the SPIFFE ID.
        listeners: at least one.
        application: what stands behind them.
        control: path of the control socket.
        ports_file: where to write the chosen addresses, or None.
        key_directory: a directory in memory for systems without memfd_create, or None.
        attester: which one to use, or None for what this machine has.
        tpm: what of a TPM's machine is attested, and how.
        owner: where proofs come from that this instance may hold the names.
    """

    proxy: ProxyAddress
    workload: str
    tee: Tee
    lifetime: int
    names: Names
    listeners: tuple[ListenerConfig, ...]
    application: ApplicationConfig
    control: Path
    ports_file: Path | None
    key_directory: Path | None
    attester: str | None = None
    tpm: TpmOptions = field(default_factory=TpmOptions)
    owner: OwnerConfig = field(default_factory=OwnerConfig)
