"""Launch measurements: the package's result against a computation of our own from AMD's text, over made firmware.

The virtual processor's page (VMSA) is the package's: what QEMU puts into it is written down nowhere but in QEMU.
"""

import hashlib
import struct
import uuid
from dataclasses import replace
from pathlib import Path

import pytest
from reference_files import FIRMWARE_SECTIONS, HASHES_GPA, RESET_EIP, Cli, accepted, firmware

from proxy_attestation.codes import Code
from proxy_attestation.errors import ProxyAttestationError
from proxy_attestation.reference import snp

sevsnpmeasure = pytest.importorskip("sevsnpmeasure", reason="the extra `measure` is not installed")

FILL = {
    "vmpl": "0",
    "policy": '"0000030000000000"',
    "policy_mask": '"ffffffffffffffff"',
    "product": '["Genoa"]',
    "min_tcb_bootloader": "10",
    "min_tcb_tee": "0",
    "min_tcb_snp": "25",
    "min_tcb_microcode": "84",
}
NORMAL, VMSA, ZERO, SECRETS, CPUID = 1, 2, 3, 5, 6
"""PAGE_TYPE, SEV-SNP firmware ABI, table 65."""


@pytest.fixture
def launch(tmp_path: Path) -> snp.Launch:
    (tmp_path / "OVMF.fd").write_bytes(firmware())
    (tmp_path / "vmlinuz").write_bytes(b"kernel")
    (tmp_path / "initrd").write_bytes(b"initrd")
    return snp.Launch(tmp_path / "OVMF.fd", 2, "EPYC-v4")


def measurement(launch: snp.Launch) -> bytes:
    value = snp.measure_snp(launch).pins["measurement"]
    assert isinstance(value, tuple)
    assert isinstance(value[0], bytes)
    return value[0]


def expected(launch: snp.Launch, hashes: bytes | None) -> bytes:
    """SEV-SNP firmware ABI, 8.17.2: LD = SHA-384(PAGE_INFO), page by page."""
    digest = bytes(48)

    def page(kind: int, address: int, content: bytes | None) -> None:
        nonlocal digest
        inner = bytes(48) if content is None else hashlib.sha384(content).digest()
        info = digest + inner + struct.pack("<HBBBBBBQ", 0x70, kind, 0, 0, 0, 0, 0, address)
        digest = hashlib.sha384(info).digest()

    flash = firmware()
    for at in range(0, len(flash), 4096):
        page(NORMAL, 2**32 - len(flash) + at, flash[at : at + 4096])
    for address, size, kind in FIRMWARE_SECTIONS:
        for at in range(address, address + size, 4096):
            if kind == 0x10 and hashes is not None:
                page(NORMAL, at, hashes)
            else:
                page({1: ZERO, 2: SECRETS, 3: CPUID, 0x10: ZERO}[kind], at, None)
    from sevsnpmeasure.sev_mode import SevMode  # noqa: PLC0415 - an extra
    from sevsnpmeasure.vcpu_types import CPU_SIGS  # noqa: PLC0415 - an extra
    from sevsnpmeasure.vmm_types import VMMType  # noqa: PLC0415 - likewise
    from sevsnpmeasure.vmsa import VMSA as Pages  # noqa: PLC0415, N811

    pages = Pages(SevMode.SEV_SNP, RESET_EIP, CPU_SIGS[launch.vcpu_type], launch.guest_features, VMMType.QEMU)
    for content in pages.pages(launch.vcpus):
        page(VMSA, 0xFFFFFFFFF000, content)
    return digest


def test_the_measurement_is_that_of_the_firmwares_pages(launch: snp.Launch) -> None:
    assert measurement(launch) == expected(launch, None)


def test_kernel_initrd_and_command_line_go_in_by_their_hashes(launch: snp.Launch) -> None:
    """QEMU, target/i386/sev.c, sev_add_kernel_loader_hashes: a table of GUIDs in the page that the firmware names."""
    directory = launch.firmware.parent
    direct = replace(launch, kernel=directory / "vmlinuz", initrd=directory / "initrd", append="console=ttyS0")
    entries = b""
    for guid, content in (
        ("97d02dd8-bd20-4c94-aa78-e7714d36ab2a", b"console=ttyS0\0"),
        ("44baf731-3a2f-4bd7-9af1-41e29169781d", b"initrd"),
        ("4de79437-abd2-427f-b835-d5b172d2045b", b"kernel"),
    ):
        entries += uuid.UUID(guid).bytes_le + struct.pack("<H", 50) + hashlib.sha256(content).digest()
    table = uuid.UUID("9438d606-4f22-4cc9-b479-a793d411fd21").bytes_le + struct.pack("<H", len(entries) + 18) + entries
    page = bytearray(4096)
    page[HASHES_GPA % 4096 : HASHES_GPA % 4096 + len(table)] = table
    assert measurement(direct) == expected(direct, bytes(page))


def test_everything_that_is_given_counts(launch: snp.Launch) -> None:
    directory = launch.firmware.parent
    direct = replace(launch, kernel=directory / "vmlinuz")
    changes = [
        launch,
        replace(launch, vcpus=3),
        replace(launch, vcpu_type="EPYC-Genoa"),
        replace(launch, guest_features=0x21),
        replace(launch, hypervisor="ec2"),
        replace(launch, hypervisor="gce"),
        direct,
        replace(direct, append="quiet"),
        replace(direct, initrd=directory / "initrd"),
    ]
    assert len({measurement(change) for change in changes}) == len(changes)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(4096),
        firmware(without="reset"),
        firmware(without="metadata"),
        firmware(sections=((0, 0x1000, 9),)),
        firmware(sections=()),
        firmware(sections=((0, 0x7FFFF000, 1),)),
        firmware(sections=((0, 0x1000, 1),) * 65),
        firmware(size=0x10001),
        firmware().replace(b"ASEV", b"XSEV"),
    ],
    ids=["empty", "zero", "reset", "metadata", "type", "none", "large", "many", "size", "magic"],
)
def test_firmware_that_tells_nothing_is_refused(launch: snp.Launch, data: bytes) -> None:
    launch.firmware.write_bytes(data)
    with pytest.raises(ProxyAttestationError) as caught:
        snp.measure_snp(launch)
    assert caught.value.code is Code.REFERENCE_MALFORMED


def test_a_kernel_that_the_firmware_does_not_measure_is_refused(launch: snp.Launch) -> None:
    launch.firmware.write_bytes(firmware(sections=FIRMWARE_SECTIONS[:-1]))
    with pytest.raises(ProxyAttestationError) as caught:
        snp.measure_snp(replace(launch, kernel=launch.firmware.parent / "vmlinuz"))
    assert caught.value.code is Code.REFERENCE_MALFORMED


def test_an_unknown_processor_and_files_that_are_too_large_are_refused(
    launch: snp.Launch, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ProxyAttestationError) as caught:
        snp.measure_snp(replace(launch, vcpu_type="i486"))
    assert caught.value.code is Code.REFERENCE_MALFORMED
    monkeypatch.setattr(snp, "FIRMWARE_MAX", 0xFFFF)
    with pytest.raises(ProxyAttestationError) as caught:
        snp.measure_snp(launch)
    assert caught.value.code is Code.REFERENCE_MALFORMED


def test_without_the_package_it_says_so(launch: snp.Launch, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "sevsnpmeasure", None)
    with pytest.raises(ProxyAttestationError) as caught:
        snp.measure_snp(launch)
    assert caught.value.code is Code.REFERENCE_LIBRARY


def test_the_entry_is_accepted_once_it_is_filled_in(cli: Cli, launch: snp.Launch) -> None:
    ran = cli("index", "--measure", "snp", launch.firmware, "--vcpus", 2, "--vcpu-type", "EPYC-v4", "--toml")
    assert ran.status == 0
    assert accepted(ran.out, FILL).pins["measurement"] == (expected(launch, None),)


def test_the_command_wants_what_is_measured(cli: Cli, launch: snp.Launch) -> None:
    kernel = launch.firmware.parent / "vmlinuz"
    full = ("index", "--measure", "snp", launch.firmware, "--vcpus", 1, "--vcpu-type", "EPYC-v4")
    assert cli(*full, "--kernel", kernel, "--append", "x").status == 0
    assert cli("index", "--measure", "snp", launch.firmware, "--vcpus", 1).status == 2
    assert cli("index", "--measure", "snp", launch.firmware, "--vcpu-type", "EPYC-v4").status == 2
    assert cli(*full, "--append", "quiet").status == 2
    assert cli(*full, "--initrd", kernel).status == 2
    assert cli(*full, "--guest-features", "many").status == 2
    assert cli(*full, "--guest-features", str(2**64)).status == 2
