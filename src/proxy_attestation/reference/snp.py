"""The launch measurement of an SEV-SNP guest, computed by the package `sev-snp-measure` (extra `measure`).

The measurement (SEV-SNP firmware ABI, section 8.17) covers every page that the hypervisor puts into the guest before it
runs: the firmware, the hashes of kernel, initrd and command line where the firmware takes them, and the state of each
virtual processor. So it is a function of all that is given here, and of the hypervisor's ways (QEMU, EC2, Google).
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError, UnavailableError
from proxy_attestation.formats.tee import Tee
from proxy_attestation.reference.measured import Measured

FIRMWARE_MAX: Final = 64 * 1024 * 1024
BOOT_FILE_MAX: Final = 2 * 1024**3
SECTIONS_MAX: Final = 64
SECTION_PAGES_MAX: Final = 16 * 1024
"""4 KiB pages that the firmware's metadata may name together, 64 MiB. OVMF names some 20."""
VCPUS_MAX: Final = 4096
HYPERVISORS: Final = ("qemu", "ec2", "gce")
_PAGE: Final = 4096


@dataclass(frozen=True, slots=True)
class Launch:
    """What the hypervisor starts the guest with.

    Attributes:
        firmware: OVMF, at most 64 MiB.
        vcpus: 1 to 4096.
        vcpu_type: QEMU's name, such as `EPYC-v4`.
        kernel: for direct boot, or None.
        initrd: likewise.
        append: the kernel's command line.
        guest_features: SEV_FEATURES of the VMSA; 1 is SNP alone.
        hypervisor: of `HYPERVISORS`.
    """

    firmware: Path
    vcpus: int
    vcpu_type: str
    kernel: Path | None = None
    initrd: Path | None = None
    append: str = ""
    guest_features: int = 1
    hypervisor: str = "qemu"


def vcpu_types() -> tuple[str, ...]:
    """Return the names of virtual processors that the package knows.

    Raises:
        UnavailableError: `reference.library`.
    """
    return tuple(_library()[1].CPU_SIGS)


def measure_snp(launch: Launch) -> Measured:
    """Compute the launch measurement.

    Raises:
        UnavailableError: `reference.library`, where the package is not installed.
        FormatError: `reference.malformed`, for firmware without the metadata that SEV-SNP needs, an unknown processor,
            files that are too large.
    """
    if launch.vcpu_type not in vcpu_types():
        raise FormatError(Code.REFERENCE_MALFORMED, f"no virtual processor is called {launch.vcpu_type!r}")
    for path, limit in (
        (launch.firmware, FIRMWARE_MAX),
        (launch.kernel, BOOT_FILE_MAX),
        (launch.initrd, BOOT_FILE_MAX),
    ):
        if path is not None and path.stat().st_size > limit:
            raise FormatError(Code.REFERENCE_MALFORMED, f"{path}: larger than {limit} bytes")
    measurement = _compute(launch)
    if len(measurement) != 48:
        raise FormatError(Code.REFERENCE_MALFORMED, f"a measurement of {len(measurement)} bytes")
    files = {"kernel": launch.kernel, "initrd": launch.initrd}
    details = {
        "vcpus": f"{launch.vcpus} of type {launch.vcpu_type}",
        "guest features": f"{launch.guest_features:#x}",
        "hypervisor": launch.hypervisor,
        **{name: f"{path.name} (SHA-256 {_digest(path)})" for name, path in files.items() if path is not None},
    }
    notes = ["another count or type of virtual processors, and other guest features, give another measurement"]
    if launch.kernel is None:
        notes.append("no kernel is measured: the firmware alone must decide what it starts")
    else:
        details["command line"] = launch.append
    return Measured(
        Tee.SNP,
        f"firmware {launch.firmware.name} (SHA-256 {_digest(launch.firmware)})",
        {"measurement": (measurement,)},
        tuple(notes),
        (),
        details,
    )


def _compute(launch: Launch) -> bytes:
    guest, types, ovmf, modes, hypervisors = _library()
    hypervisor = "QEMU" if launch.hypervisor == "qemu" else launch.hypervisor
    try:
        firmware = ovmf.OVMF(str(launch.firmware))
        sections = firmware.metadata_items()
        pages = sum(section.size // _PAGE for section in sections)
        if not sections or len(sections) > SECTIONS_MAX or pages > SECTION_PAGES_MAX or firmware.size() % _PAGE:
            raise ValueError(f"{len(sections)} SEV sections of {pages} pages")  # noqa: TRY301 - as the package does
        return bytes(
            guest.calc_launch_digest(
                modes.SevMode.SEV_SNP,
                launch.vcpus,
                types.CPU_SIGS[launch.vcpu_type],
                str(launch.firmware),
                None if launch.kernel is None else str(launch.kernel),
                None if launch.initrd is None else str(launch.initrd),
                launch.append,
                launch.guest_features,
                vmm_type=hypervisors.VMMType[hypervisor],
            )
        )
    except OSError:
        raise
    except Exception as error:
        # The package lets out whatever a malformed file provokes in it.
        raise FormatError(Code.REFERENCE_MALFORMED, f"{type(error).__name__}: {error}") from error


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _library() -> tuple[Any, Any, Any, Any, Any]:
    try:
        from sevsnpmeasure import guest, ovmf, sev_mode, vcpu_types, vmm_types  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise UnavailableError(Code.REFERENCE_LIBRARY, "pip install 'proxy-attestation[measure]'") from error
    return guest, vcpu_types, ovmf, sev_mode, vmm_types
