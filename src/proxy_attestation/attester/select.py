"""Which attester to use: the one that is named, else the only one that this machine has, else none and an error."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proxy_attestation.attester.configfs_tsm import PROVIDERS, REPORT_DIRECTORY, ConfigfsFiles, ConfigfsTsmAttester
from proxy_attestation.attester.gramine import ATTESTATION_DIRECTORY, DeviceFiles, GramineAttester
from proxy_attestation.attester.model import Attester, unavailable
from proxy_attestation.attester.nsm import DEVICE, NsmAttester, NsmDevice
from proxy_attestation.attester.simulator import SimulatorAttester
from proxy_attestation.errors import UsageError
from proxy_attestation.formats.tee import Tee

GRAMINE: Final = "gramine"
CONFIGFS_TSM: Final = "configfs-tsm"
NSM: Final = "nsm"
_SIMULATOR: Final = "simulator:"
_DESCRIPTOR_MAX: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Machine:
    """Where a machine shows its TEE.

    Attributes:
        gramine: Gramine's directory of pseudo-files.
        configfs_tsm: the kernel's directory of report requests.
        nsm: the Nitro Secure Module's device.
    """

    gramine: Path = ATTESTATION_DIRECTORY
    configfs_tsm: Path = REPORT_DIRECTORY
    nsm: Path = DEVICE


@dataclass(frozen=True, slots=True)
class _Kind:
    path: Path
    tees: tuple[str, ...]
    make: Callable[[Path, Tee], Attester]


def select_attester(spec: str | None, tee: Tee, machine: Machine | None = None) -> Attester:
    """Return the attester that `spec` names, or find the only one there is.

    Nothing weaker stands in for what is missing: the simulator is used only where it is named; what is named and not
    there is an error; so are several that are there, of which somebody has to choose.

    Args:
        spec: `gramine`, `configfs-tsm`, `nsm`, `simulator:DESCRIPTOR`, or None to look at the machine.
        tee: the kind of TEE that evidence is asked of.
        machine: where to look; this one by default.

    Raises:
        UsageError: for another spec.
        UnavailableError: `attester.unavailable`.
    """
    if spec is not None and spec.startswith(_SIMULATOR):
        return SimulatorAttester(_descriptor(spec.removeprefix(_SIMULATOR)), tee)
    kinds = _kinds(Machine() if machine is None else machine)
    if spec is not None and spec not in kinds:
        raise UsageError(f"unknown attester {spec!r}: use {', '.join(kinds)} or '{_SIMULATOR}DESCRIPTOR'")
    present = [name for name, kind in kinds.items() if kind.path.exists()]
    if spec is None and len(present) > 1:
        raise unavailable(f"several are here: {', '.join(present)}; choose one with --attester")
    name = spec if spec is not None else next(iter(present), None)
    if name is None:
        raise unavailable(f"no TEE was found here: none of {', '.join(str(kind.path) for kind in kinds.values())}")
    kind = kinds[name]
    if name not in present:
        raise unavailable(f"{name} was chosen and is not here: there is no {kind.path}")
    if tee not in kind.tees:
        raise unavailable(f"{name} makes evidence of kind {' or '.join(kind.tees)}, not {tee}")
    return kind.make(kind.path, tee)


def _kinds(machine: Machine) -> dict[str, _Kind]:
    return {
        GRAMINE: _Kind(machine.gramine, ("sgx",), lambda path, _: GramineAttester(DeviceFiles(path))),
        CONFIGFS_TSM: _Kind(
            machine.configfs_tsm, tuple(PROVIDERS), lambda path, tee: ConfigfsTsmAttester(ConfigfsFiles(path), tee)
        ),
        NSM: _Kind(machine.nsm, ("nitro",), lambda path, tee: NsmAttester(NsmDevice(path), tee)),
    }


def _descriptor(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text[:8]) > _DESCRIPTOR_MAX or len(text) > 7:
        raise UsageError(f"{text!r} is not a descriptor's number")
    return int(text)
