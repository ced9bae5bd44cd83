"""Which attester to use: the one that is named, else the one that this machine has, else none and an error."""

from pathlib import Path
from typing import Final

from proxy_attestation.attester.gramine import ATTESTATION_DIRECTORY, DeviceFiles, GramineAttester
from proxy_attestation.attester.model import Attester, unavailable
from proxy_attestation.attester.simulator import SimulatorAttester
from proxy_attestation.errors import UsageError
from proxy_attestation.formats.tee import Tee

GRAMINE: Final = "gramine"
_SIMULATOR: Final = "simulator:"
_DESCRIPTOR_MAX: Final = 1 << 20


def select_attester(spec: str | None, tee: Tee, directory: Path = ATTESTATION_DIRECTORY) -> Attester:
    """Return the attester that `spec` names, or find one.

    Nothing weaker stands in for what is missing: the simulator is used only where it is named, and where nothing is
    found there is no attester.

    Args:
        spec: `gramine`, `simulator:DESCRIPTOR`, or None to look at the machine.
        tee: the kind of TEE that evidence is asked of.
        directory: where Gramine's files are.

    Raises:
        UsageError: for another spec.
        UnavailableError: `attester.unavailable`.
    """
    if spec is not None and spec.startswith(_SIMULATOR):
        return SimulatorAttester(_descriptor(spec.removeprefix(_SIMULATOR)), tee)
    if spec not in (None, GRAMINE):
        raise UsageError(f"unknown attester {spec!r}: use {GRAMINE!r} or '{_SIMULATOR}DESCRIPTOR'")
    if spec is None and not directory.is_dir():
        raise unavailable(f"no TEE was found here: there is no {directory}")
    if tee is not Tee.SGX:
        raise unavailable(f"Gramine makes evidence of kind sgx, not {tee}")
    return GramineAttester(DeviceFiles(directory))


def _descriptor(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or int(text[:8]) > _DESCRIPTOR_MAX or len(text) > 7:
        raise UsageError(f"{text!r} is not a descriptor's number")
    return int(text)
