"""What an SEV-SNP report says, as typed claims.

Fields carry the vendor's names in snake_case; byte strings are in memory order, as in the signed report.
"""

from dataclasses import dataclass, fields
from typing import Annotated, Any, ClassVar, Final

from proxy_attestation.formats.arrays import Size, exactly
from proxy_attestation.formats.snp_certificates import VekExtensions
from proxy_attestation.formats.snp_report import (
    CSP_ID_MAX,
    TCB_COMPONENTS,
    Product,
    SnpReport,
    product_of,
    tcb_components,
)
from proxy_attestation.formats.tee import Tee

_U32: Final = Size(0, 0xFFFFFFFF)
_AUTHOR_KEY_EN: Final = 1 << 0
_MASK_CHIP_KEY: Final = 1 << 1
_SMT: Final = 1 << 16
_MIGRATE_MA: Final = 1 << 18
_DEBUG: Final = 1 << 19
_SINGLE_SOCKET: Final = 1 << 20

_CPUID_SINCE: Final = 3
_MITIGATION_VECTORS_SINCE: Final = 5
# Name, offset, length.
_NUMBERS: Final = (("version", 0x000, 4), ("guest_svn", 0x004, 4), ("vmpl", 0x030, 4), ("signature_algo", 0x034, 4))
_BYTES: Final = (
    ("policy", 0x008, 8),
    ("family_id", 0x010, 16),
    ("image_id", 0x020, 16),
    ("current_tcb", 0x038, 8),
    ("platform_info", 0x040, 8),
    ("report_data", 0x050, 64),
    ("measurement", 0x090, 48),
    ("host_data", 0x0C0, 32),
    ("id_key_digest", 0x0E0, 48),
    ("author_key_digest", 0x110, 48),
    ("report_id", 0x140, 32),
    ("report_id_ma", 0x160, 32),
    ("reported_tcb", 0x180, 8),
    ("chip_id", 0x1A0, 64),
    ("committed_tcb", 0x1E0, 8),
    ("current_build_abi", 0x1E8, 3),
    ("committed_build_abi", 0x1EC, 3),
    ("launch_tcb", 0x1F0, 8),
)
_KEY_INFO: Final = slice(0x048, 0x04C)


@dataclass(frozen=True, slots=True)
class SnpClaims:
    """An attestation report (SEV-SNP firmware ABI, ATTESTATION_REPORT), and what its certificate adds.

    Attributes:
        version: 2 to 5.
        guest_svn: u32, from the signed ID block.
        policy: 8 bytes, the guest policy that the guest was launched with.
        family_id: 16 bytes, from the ID block.
        image_id: 16 bytes, from the ID block.
        vmpl: u32; 0 to 3 inside a guest.
        signature_algo: u32; 1 is ECDSA P-384 with SHA-384.
        current_tcb: 8 bytes, the TCB now; and so three more TCB_VERSIONs:
        reported_tcb: the one that the signing key was derived from,
        committed_tcb: the one that firmware can no more be rolled back below,
        launch_tcb: the current one when the guest was launched or imported.
        platform_info: 8 bytes.
        author_key_en: whether `author_key_digest` says something.
        mask_chip_key: False in every report that is signed.
        signing_key: `VCEK` or `VLEK`.
        report_data: 64 bytes, chosen by the guest.
        measurement: 48 bytes, the guest's memory at launch.
        host_data: 32 bytes, chosen by the host at launch.
        id_key_digest: 48 bytes, SHA-384 of the key that signed the ID block.
        author_key_digest: 48 bytes, SHA-384 of the key that signed that key.
        report_id: 32 bytes, of this guest.
        report_id_ma: 32 bytes, of its migration agent; all ones where there is none.
        cpuid_fam_mod_step: 3 bytes, family, model, stepping; None before version 3.
        chip_id: 64 bytes; zero where it is masked. Names a machine.
        current_build_abi: 3 bytes, firmware build, minor and major version now; and so
        committed_build_abi: the committed one.
        launch_mit_vector: 8 bytes, the mitigations in force at launch; None before version 5.
        current_mit_vector: 8 bytes, those in force now; None likewise.
        product: the processor line; None only where appraisal refused before it was known.
        csp_id: the cloud provider that a VLEK was made for; None with a VCEK.
    """

    tee: ClassVar[Tee] = Tee.SNP
    version: Annotated[int, _U32]
    guest_svn: Annotated[int, _U32]
    policy: Annotated[bytes, exactly(8)]
    family_id: Annotated[bytes, exactly(16)]
    image_id: Annotated[bytes, exactly(16)]
    vmpl: Annotated[int, _U32]
    signature_algo: Annotated[int, _U32]
    current_tcb: Annotated[bytes, exactly(8)]
    platform_info: Annotated[bytes, exactly(8)]
    author_key_en: bool
    mask_chip_key: bool
    signing_key: Annotated[str, Size(4, 4)]
    report_data: Annotated[bytes, exactly(64)]
    measurement: Annotated[bytes, exactly(48)]
    host_data: Annotated[bytes, exactly(32)]
    id_key_digest: Annotated[bytes, exactly(48)]
    author_key_digest: Annotated[bytes, exactly(48)]
    report_id: Annotated[bytes, exactly(32)]
    report_id_ma: Annotated[bytes, exactly(32)]
    reported_tcb: Annotated[bytes, exactly(8)]
    cpuid_fam_mod_step: Annotated[bytes | None, exactly(3)]
    chip_id: Annotated[bytes, exactly(64)]
    committed_tcb: Annotated[bytes, exactly(8)]
    current_build_abi: Annotated[bytes, exactly(3)]
    committed_build_abi: Annotated[bytes, exactly(3)]
    launch_tcb: Annotated[bytes, exactly(8)]
    launch_mit_vector: Annotated[bytes | None, exactly(8)]
    current_mit_vector: Annotated[bytes | None, exactly(8)]
    product: Product | None = None
    csp_id: Annotated[str | None, Size(1, CSP_ID_MAX)] = None

    @property
    def policy_bits(self) -> int:
        """The guest policy as the number that AMD's documents write."""
        return int.from_bytes(self.policy, "little")

    @property
    def debug(self) -> bool:
        """POLICY bit 19: the host may read and write the guest's memory."""
        return bool(self.policy_bits & _DEBUG)

    @property
    def migrate_ma(self) -> bool:
        """POLICY bit 18: the guest may be bound to a migration agent."""
        return bool(self.policy_bits & _MIGRATE_MA)

    @property
    def migration_agent(self) -> int:
        """The same as a number, which a policy can pin."""
        return int(self.migrate_ma)

    @property
    def measurements(self) -> dict[str, int]:
        """The TCB's components as the least of reported, committed and launch TCB, by the names `tcb_<component>`."""
        if self.product is None:
            return {}
        versions = [
            tcb_components(self.product, tcb) for tcb in (self.reported_tcb, self.committed_tcb, self.launch_tcb)
        ]
        least = {name: min(version[name] for version in versions) for name in versions[0]}
        return {f"tcb_{TCB_COMPONENTS[name]}": value for name, value in least.items()}


def snp_claims(report: SnpReport) -> SnpClaims:
    """Return a report's fields as claims, and the processor line where the report itself names one."""
    data = report.signed
    key_info = int.from_bytes(data[_KEY_INFO], "little")
    cpuid = data[0x188:0x18B] if report.version >= _CPUID_SINCE else None
    vectors = report.version >= _MITIGATION_VECTORS_SINCE
    values: dict[str, Any] = {name: data[start : start + size] for name, start, size in _BYTES}
    values |= {name: int.from_bytes(data[start : start + size], "little") for name, start, size in _NUMBERS}
    return SnpClaims(
        author_key_en=bool(key_info & _AUTHOR_KEY_EN),
        mask_chip_key=bool(key_info & _MASK_CHIP_KEY),
        signing_key=report.signing_key,
        cpuid_fam_mod_step=cpuid,
        launch_mit_vector=data[0x1F8:0x200] if vectors else None,
        current_mit_vector=data[0x200:0x208] if vectors else None,
        product=None if cpuid is None else product_of(cpuid),
        **values,
    )


def vek_to_json(vek: VekExtensions) -> dict[str, object]:
    """Return what AMD certified by the extensions' own names."""
    named = {"hwID": None if vek.hw_id is None else vek.hw_id.hex(), "cspID": vek.csp_id}
    found = {name: value for name, value in named.items() if value is not None}
    return {"structVersion": vek.struct_version, "productName": vek.product_name, **vek.spls, **found}


def snp_to_json(body: SnpClaims) -> dict[str, object]:
    """Return claims by the vendor's field names: bytes in hex (memory order), the two bit fields as 0x numbers.

    What is None is left out; `reported_tcb_parts` is there where the processor line is known.
    """
    result: dict[str, object] = {}
    for field in fields(body):
        value = getattr(body, field.name)
        if value is not None:
            result[field.name] = value.hex() if isinstance(value, bytes) else value
    policy, info = body.policy_bits, int.from_bytes(body.platform_info, "little")
    result |= {
        "policy": f"{policy:#x}",
        "policy_debug": body.debug,
        "policy_smt": bool(policy & _SMT),
        "policy_migrate_ma": body.migrate_ma,
        "policy_single_socket": bool(policy & _SINGLE_SOCKET),
        "abi": f"{policy >> 8 & 0xFF}.{policy & 0xFF}",
        "platform_info": f"{info:#x}",
        "debug": body.debug,
    }
    if body.product is not None:
        result |= {
            "product": str(body.product),
            "reported_tcb_parts": tcb_components(body.product, body.reported_tcb),
        }
    return result
