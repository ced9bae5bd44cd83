"""What a simulated platform attests, written as a policy or an expectation file pins it."""

from dataclasses import fields
from typing import Final

from proxy_attestation_simulator.machines import LINE, registers
from proxy_attestation_simulator.measure import Measurement
from proxy_attestation_simulator.platform import sgx_body, td_body

_LISTED: Final = (
    "mr_enclave", "mr_signer", "mr_td", "rtmr0", "rtmr1", "rtmr2", "rtmr3", "mr_config_id", "measurement", "pcr0",
    "pcr1", "pcr2",
)  # fmt: skip
_MASKED: Final = ("td_attributes", "xfam")
_SNP_LINES: Final = (
    "vmpl = 0", 'policy = "0000030000000000"', 'policy_mask = "ffffffffffffffff"', f'product = ["{LINE}"]',
    "min_tcb_bootloader = 4", "min_tcb_tee = 0", "min_tcb_snp = 24", "min_tcb_microcode = 219",
)  # fmt: skip
_UNTOLD: Final = ("report_data", "tee_tcb_svn", "tee_tcb_svn_2", "cpu_svn", "mr_seam", "mr_service_td")


def claims_of(tee: str, measurement: Measurement, mr_signer: bytes | None) -> dict[str, str | int]:
    """Return what a good quote claims of a measured program, by the claims' names: hex and numbers.

    Args:
        tee: one of `machines.TEES`.
        measurement: of the program.
        mr_signer: the vendor's, or None to leave it out.
    """
    if tee == "nitro":
        return {f"pcr{number}": value.hex() for number, value in registers(measurement).items()}
    if tee == "snp":
        return {"measurement": measurement.mr_td.hex()}
    body = sgx_body((), mr_signer or b"") if tee == "sgx" else td_body(b"")
    claims: dict[str, str | int] = {}
    for field in fields(body):
        value = getattr(body, field.name)
        if field.name not in _UNTOLD and value != b"":
            claims[field.name] = value.hex() if isinstance(value, bytes) else value
    if tee == "sgx":
        return claims | {"mr_enclave": measurement.mr_enclave.hex()}
    return claims | {"mr_td": measurement.mr_td.hex()}


def policy_lines(tee: str, claims: dict[str, str | int]) -> str:
    """Return lines of TOML that pin these claims, for a `[[workload]]` or an expectation file."""
    lines = [f'tee = "{tee}"', *(_SNP_LINES if tee == "snp" else ())]
    for name in _LISTED:
        if name in claims:
            lines.append(f'{name} = ["{claims[name]}"]')
    for name in _MASKED:
        if name in claims:
            value = str(claims[name])
            lines += [f'{name} = "{value}"', f'{name}_mask = "{"f" * len(value)}"']
    return "".join(line + "\n" for line in lines)
