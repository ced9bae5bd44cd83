"""Two workloads of one kind on one machine, told apart by their measurement alone."""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from proxy_attestation_simulator.harness import default_policy
from proxy_attestation_simulator.intel import Vendor
from proxy_attestation_simulator.platform import Platform

NOW = datetime(2026, 11, 24, 12, 0, 0, tzinfo=UTC)
MR_OTHER = b"\xb0" * 32


@dataclass
class Measured:
    """A platform that runs an enclave of another measurement than its vendor's default."""

    platform: Platform
    mr_enclave: bytes

    @property
    def tee(self) -> str:
        return self.platform.tee

    def quote(self, report_data: bytes, **options: Any) -> bytes:
        return self.platform.quote(report_data, **({"mr_enclave": self.mr_enclave} | options))


def policy_of(vendor: Vendor, version: int = 1) -> str:
    """Return the default policy with an entry `other-app` for another measurement."""
    return default_policy(vendor, version=version) + (
        f'\n[[workload]]\nname = "other-app"\ntee = "sgx"\nmr_enclave = ["{MR_OTHER.hex()}"]\n'
        'dns = ["other.example.org"]\nowner = { shared = true }\n'
    )
