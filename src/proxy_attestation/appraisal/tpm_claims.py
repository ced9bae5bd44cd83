"""What the appraisal of a TPM found out: typed claims, each covered by a signature that was checked."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from proxy_attestation.appraisal.layers import Layer
from proxy_attestation.formats.azure_hcl import HclReport
from proxy_attestation.formats.tpm import PcrSelection, Public
from proxy_attestation.formats.tpm_codes import ObjectAttribute

_STRONGEST: Final = ("sha512", "sha384", "sha256", "sha1")


@dataclass(frozen=True, slots=True)
class TpmClaims:
    """A quote (TPMS_ATTEST) and what came with it.

    Attributes:
        magic: 4 bytes, FF544347.
        type: 2 bytes, 8018.
        qualified_signer: 0 to 66 bytes.
        extra_data: 0 to 66 bytes.
        clock: milliseconds, u64.
        reset_count: u32.
        restart_count: u32.
        safe: 0 or 1.
        firmware_version: 8 bytes.
        pcr_selection: the banks, in the quote's order.
        pcr_digest: as long as the signing hash.
        sig_alg: `RSASSA`, `RSAPSS` or `ECDSA`.
        sig_hash: such as `sha256`.
        pcrs: the values that the digest was recomputed from, by bank and index; empty where none came.
        ak: the attestation key's public area, or None where only its key is known.
        ak_trust: why the AK is believed: `activation`, `certificate`, `hardware` or `anchor`.
        key_certified: whether the AK certified a resident key; `TpmResult.certified_spki` says which.
        quirks: named deviations of the EK's or AK's certificate.
        layers: the registers that the event log leads to, of the strongest bank; empty where no log came.
        hcl: the report of Azure's paravisor, where a hardware layer vouches for it.
    """

    magic: bytes
    type: bytes
    qualified_signer: bytes
    extra_data: bytes
    clock: int
    reset_count: int
    restart_count: int
    safe: int
    firmware_version: bytes
    pcr_selection: tuple[PcrSelection, ...]
    pcr_digest: bytes
    sig_alg: str
    sig_hash: str
    pcrs: Mapping[str, Mapping[int, bytes]]
    ak: Public | None
    ak_trust: str
    key_certified: bool
    quirks: tuple[str, ...]
    layers: tuple[Layer, ...]
    hcl: HclReport | None

    @property
    def debug(self) -> bool:
        """A TPM has no debug mode."""
        return False

    @property
    def pcr_bank(self) -> str | None:
        """The strongest bank whose values are known."""
        return next((name for name in _STRONGEST if self.pcrs.get(name)), None)


def tpm_to_json(claims: TpmClaims) -> dict[str, object]:
    """Return claims by the names of the specification: bytes in hex, numbers as they are.

    PCR values of the strongest bank are `pcr0` to `pcr31`, beside `pcr_bank`.
    """
    bank = claims.pcr_bank
    result: dict[str, object] = {
        "magic": claims.magic.hex(),
        "type": claims.type.hex(),
        "qualified_signer": claims.qualified_signer.hex(),
        "extra_data": claims.extra_data.hex(),
        "clock": claims.clock,
        "reset_count": claims.reset_count,
        "restart_count": claims.restart_count,
        "safe": claims.safe,
        "firmware_version": claims.firmware_version.hex(),
        "pcr_selection": [{"alg": item.alg, "pcrs": list(item.pcrs)} for item in claims.pcr_selection],
        "pcr_digest": claims.pcr_digest.hex(),
        "sig_alg": claims.sig_alg,
        "sig_hash": claims.sig_hash,
        "ak_trust": claims.ak_trust,
        "key_certified": claims.key_certified,
        "quirks": list(claims.quirks),
        "debug": claims.debug,
    }
    if bank is not None:
        result["pcr_bank"] = bank
        result |= {f"pcr{index}": value.hex() for index, value in sorted(claims.pcrs[bank].items())}
    if claims.ak is not None:
        result["ak"] = ak_to_json(claims.ak)
    if claims.hcl is not None:
        result["hcl"] = hcl_to_json(claims.hcl)
    return result


def ak_to_json(ak: Public) -> dict[str, object]:
    """Return what a public area says of its key."""
    return {
        "type": ak.kind,
        "name_alg": ak.name_alg,
        "object_attributes": f"{ak.attributes:08x}",
        "restricted": ak.has(ObjectAttribute.RESTRICTED),
        "sign": ak.has(ObjectAttribute.SIGN_ENCRYPT),
        "decrypt": ak.has(ObjectAttribute.DECRYPT),
        "fixed_tpm": ak.has(ObjectAttribute.FIXED_TPM),
        "name": ak.name.hex(),
    }


def hcl_to_json(report: HclReport) -> dict[str, object]:
    """Return what Azure's paravisor says; the hash is that of the runtime data, which the hardware's report holds."""
    result: dict[str, object] = {
        "header_version": report.header_version,
        "report_type": report.report_type,
        "hash_type": report.hash_type,
        "runtime_data_hash": report.runtime_data_hash.hex(),
        "report_data": report.report_data.hex(),
        "runtime_keys": list(report.keys),
        "vm_configuration": dict(report.vm_configuration),
    }
    if report.user_data is not None:
        result["user_data"] = report.user_data
    return result
