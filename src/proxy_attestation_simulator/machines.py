"""Simulated machines of every kind, as the command line starts them: from a vendor's directory and a measured program.

SEV-SNP machines are Milan, with a VCEK. What is measured stands in MRENCLAVE, MRTD, MEASUREMENT or PCR0; the
certificates of an SEV-SNP machine travel in the table behind its report.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from proxy_attestation_simulator.amd import TABLE_GUIDS, AmdVendor, certificate_table
from proxy_attestation_simulator.aws import Aws
from proxy_attestation_simulator.errors import SimulatorError
from proxy_attestation_simulator.files import write
from proxy_attestation_simulator.measure import Measurement
from proxy_attestation_simulator.quoting import Quote

LINE: Final = "Milan"
TEES: Final = ("sgx", "tdx", "snp", "nitro")
_AWS: Final = "aws.json"


def measured(tee: str, measurement: Measurement) -> tuple[str, bytes]:
    """Return the name of the claim that holds what was measured, and its value."""
    if tee == "sgx":
        return "mr_enclave", measurement.mr_enclave
    return {"tdx": "mr_td", "snp": "measurement", "nitro": "pcr0"}[tee], measurement.mr_td


def save_others(directory: Path, now: datetime) -> Mapping[str, Path]:
    """Make the vendors of SEV-SNP machines and Nitro enclaves beside Intel's; return the roots by vendor.

    The endorsements that a proxy keeps for SEV-SNP go below `endorsements/snp`.
    """
    amd, aws = AmdVendor.create(now), Aws.create(now)
    amd.save(directory, (LINE,))
    made = amd.platform(LINE).evidence(bytes(64), now=now)
    for name, der in zip(("ask", "ark"), made.certificates[1:], strict=True):
        write(directory / "endorsements" / "snp" / f"{name}.der", der)
    write(directory / "endorsements" / "snp" / "crl.der", made.crls[0])
    state = {"created_at": aws.created_at.isoformat(), "secret": aws.secret.hex()}
    write(directory / _AWS, (json.dumps(state) + "\n").encode(), mode=0o600)
    write(directory / "aws-root.der", aws.root_der)
    return {"amd": directory / f"amd-ark-{LINE.lower()}.der", "aws": directory / "aws-root.der"}


def load_aws(directory: Path) -> Aws:
    """Return the vendor that `save_others` wrote.

    Raises:
        SimulatorError: there is none.
    """
    try:
        state = json.loads((directory / _AWS).read_text())
        return Aws(bytes.fromhex(state["secret"]), datetime.fromisoformat(state["created_at"]))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise SimulatorError(f"{directory} holds no simulated vendor of Nitro enclaves: {error}") from error


def registers(measurement: Measurement) -> dict[int, bytes]:
    """Return what a Nitro enclave measures: PCR0 the program, PCR1 and PCR2 what is always the same."""
    fixed = {number: hashlib.sha384(f"simulated pcr{number}".encode()).digest() for number in (1, 2)}
    return {0: measurement.mr_td, **fixed}


def quoting(tee: str, directory: Path, measurement: Measurement, seed: str, faults: Iterable[str]) -> Quote:
    """Return what makes evidence on a machine of SEV-SNP or Nitro, issued when it is asked for."""
    if tee == "snp":
        guest = AmdVendor.load(directory).platform(LINE, seed=seed)

        def report(report_data: bytes, _nonce: bytes, _key: bytes) -> bytes:
            made = guest.evidence(
                report_data, now=datetime.now(UTC), measurement=measurement.mr_td, fault=tuple(faults)
            )
            names = (TABLE_GUIDS["VCEK"], TABLE_GUIDS["issuer"], TABLE_GUIDS["ark"])
            return made.report + certificate_table(dict(zip(names, made.certificates, strict=True)))

        return report
    enclave = load_aws(directory).enclave(seed=seed, pcrs=registers(measurement))

    def document(report_data: bytes, nonce: bytes, key: bytes) -> bytes:
        now = datetime.now(UTC)
        return enclave.document(
            nonce=nonce or None, public_key=key or None, user_data=report_data, now=now, fault=tuple(faults)
        )

    return document
