"""Which attester to use: the one that is named, else the one this machine has for the TEE asked for, else an error."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proxy_attestation.attester.configfs_tsm import PROVIDERS, REPORT_DIRECTORY, ConfigfsFiles, ConfigfsTsmAttester
from proxy_attestation.attester.gramine import ATTESTATION_DIRECTORY, DeviceFiles, GramineAttester
from proxy_attestation.attester.model import Attester, unavailable
from proxy_attestation.attester.nsm import DEVICE, NsmAttester, NsmDevice
from proxy_attestation.attester.simulator import SimulatorAttester
from proxy_attestation.attester.tpm_attester import TpmAttester, TpmOptions
from proxy_attestation.errors import UsageError
from proxy_attestation.formats.tee import Tee

GRAMINE: Final = "gramine"
CONFIGFS_TSM: Final = "configfs-tsm"
NSM: Final = "nsm"
TPM: Final = "tpm"
TPM_DEVICE: Final = Path("/dev/tpmrm0")
_SIMULATOR: Final = "simulator:"
_TCTI: Final = "tpm:"
_DESCRIPTOR_MAX: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class Machine:
    """Where a machine shows its TEEs.

    Attributes:
        gramine: Gramine's directory of pseudo-files.
        configfs_tsm: the kernel's directory of report requests.
        nsm: the Nitro Secure Module's device.
        tpm: the kernel's resource manager of the TPM.
    """

    gramine: Path = ATTESTATION_DIRECTORY
    configfs_tsm: Path = REPORT_DIRECTORY
    nsm: Path = DEVICE
    tpm: Path = TPM_DEVICE


@dataclass(frozen=True, slots=True)
class _Kind:
    path: Path
    tees: tuple[str, ...]
    make: Callable[[Path, Tee], Attester]


def select_attester(
    spec: str | None, tee: Tee, machine: Machine | None = None, tpm: TpmOptions | None = None
) -> Attester:
    """Return the attester that `spec` names, or the one that this machine has for evidence of kind `tee`.

    Nothing weaker stands in for what is missing: the kind of evidence is always asked for by name, so that a TPM beside
    another TEE is neither taken for it nor in its way; the simulator is used only where it is named; what is named and
    not there is an error.

    Args:
        spec: `gramine`, `configfs-tsm`, `nsm`, `tpm`, `tpm:TCTI`, `simulator:DESCRIPTOR`, or None to look at the
            machine.
        tee: the kind of TEE that evidence is asked of.
        machine: where to look; this one by default.
        tpm: what of a TPM's machine is attested, and how.

    Raises:
        UsageError: for another spec.
        UnavailableError: `attester.unavailable`.
    """
    tpm = TpmOptions() if tpm is None else tpm
    if spec is not None and spec.startswith(_SIMULATOR):
        return SimulatorAttester(_descriptor(spec.removeprefix(_SIMULATOR)), tee)
    if spec is not None and spec.startswith(_TCTI):
        _require(TPM, (Tee.TPM,), tee)
        return TpmAttester(tpm, spec.removeprefix(_TCTI))
    kinds = _kinds(Machine() if machine is None else machine, tpm)
    if spec is not None and spec not in kinds:
        raise UsageError(
            f"unknown attester {spec!r}: use {', '.join(kinds)}, '{_TCTI}TCTI' or '{_SIMULATOR}DESCRIPTOR'"
        )
    name = spec if spec is not None else next((name for name, kind in kinds.items() if tee in kind.tees), None)
    if name is None:
        raise unavailable(f"nothing makes evidence of kind {tee} here")
    kind = kinds[name]
    _require(name, kind.tees, tee)
    if not kind.path.exists():
        raise unavailable(f"{name} makes evidence of kind {tee}, and is not here: there is no {kind.path}")
    return kind.make(kind.path, tee)


def _require(name: str, tees: tuple[str, ...], tee: Tee) -> None:
    if tee not in tees:
        raise unavailable(f"{name} makes evidence of kind {' or '.join(tees)}, not {tee}")


def _kinds(machine: Machine, tpm: TpmOptions) -> dict[str, _Kind]:
    return {
        GRAMINE: _Kind(machine.gramine, ("sgx",), lambda path, _: GramineAttester(DeviceFiles(path))),
        CONFIGFS_TSM: _Kind(
            machine.configfs_tsm, tuple(PROVIDERS), lambda path, tee: ConfigfsTsmAttester(ConfigfsFiles(path), tee)
        ),
        NSM: _Kind(machine.nsm, ("nitro",), lambda path, tee: NsmAttester(NsmDevice(path), tee)),
        TPM: _Kind(machine.tpm, ("tpm",), lambda path, _: TpmAttester(tpm, f"device:{path}")),
    }


def _descriptor(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text[:8]) > _DESCRIPTOR_MAX or len(text) > 7:
        raise UsageError(f"{text!r} is not a descriptor's number")
    return int(text)
