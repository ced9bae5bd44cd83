"""The simulated vendor of SEV-SNP machines: its keys, its files, its faults."""

import re
import warnings
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.utils import CryptographyDeprecationWarning

from proxy_attestation.codes import Code
from proxy_attestation_simulator import amd_faults
from proxy_attestation_simulator.amd import AmdVendor
from proxy_attestation_simulator.amd_faults import SNP_FAULTS
from proxy_attestation_simulator.amd_keys import fixed_key
from proxy_attestation_simulator.amd_recipes import LINES
from proxy_attestation_simulator.errors import SimulatorError

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def vendor() -> AmdVendor:
    return AmdVendor.fixed(NOW)


@pytest.mark.parametrize("owner", ["", "stranger "])
@pytest.mark.parametrize("line", list(LINES))
@pytest.mark.parametrize("role", ["ark", "ask", "asvk"])
def test_fixed_keys_are_keys(owner: str, line: str, role: str) -> None:
    key = fixed_key(f"{owner}{line} {role}")
    assert key.key_size == 4096
    numbers = key.private_numbers()
    # Fermat's test, with another base than the table was made with.
    assert all(pow(5, prime - 1, prime) == 1 for prime in (numbers.p, numbers.q))
    assert numbers.public_numbers.n == numbers.p * numbers.q


def test_the_same_vendor_makes_the_same_evidence(vendor: AmdVendor) -> None:
    again = AmdVendor.fixed(NOW)
    for line in LINES:
        first, second = (v.platform(line).evidence(bytes(64)).report for v in (vendor, again))
        assert first == second
        assert vendor.ark_pin(line) == again.ark_pin(line)
    assert vendor.platform().evidence(bytes(64)).report != vendor.platform(seed=1).evidence(bytes(64)).report


def test_certificates_are_as_amds(vendor: AmdVendor) -> None:
    vek, ask, ark = (read(der) for der in vendor.platform("Milan").evidence(bytes(64)).certificates)
    assert isinstance(vek.public_key(), ec.EllipticCurvePublicKey)
    assert isinstance(ask.public_key(), rsa.RSAPublicKey)
    assert ask.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length == 0
    assert ark.extensions.get_extension_for_class(x509.KeyUsage).value.crl_sign
    assert {certificate.signature_algorithm_oid.dotted_string for certificate in (vek, ask, ark)} == {
        "1.2.840.113549.1.1.10"
    }


def read(der: bytes) -> x509.Certificate:
    with warnings.catch_warnings():
        # Of the serial number, which is 0 as in AMD's.
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        return x509.load_der_x509_certificate(der)


def test_save_and_load(tmp_path: Path) -> None:
    keys = {f"{line} {role}": fixed_key(f"{line} {role}") for line in LINES for role in ("ark", "ask", "asvk")}
    made = AmdVendor(bytes(range(32, 64)), NOW, keys)
    made.save(tmp_path)
    assert (tmp_path / "amd.json").stat().st_mode & 0o777 == 0o600
    loaded = AmdVendor.load(tmp_path)
    assert loaded.platform("Turin").evidence(bytes(64)).report == made.platform("Turin").evidence(bytes(64)).report
    assert [loaded.ark_pin(line) for line in LINES] == [made.ark_pin(line) for line in LINES]
    assert (tmp_path / "amd-ark-milan.der").read_bytes() == made.authority("Milan", "ark")


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"keys": {"a": "00"}}', '{"keys": []}'])
def test_no_vendor(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "amd.json").write_text(content)
    with pytest.raises(SimulatorError):
        AmdVendor.load(tmp_path)


def test_a_vendor_of_its_own_makes_its_keys_when_they_are_needed() -> None:
    vendor = AmdVendor.create(NOW)
    assert vendor.key("Milan ark").key_size == 4096
    assert vendor.key("Milan ark") is vendor.key("Milan ark")


def test_what_cannot_be_made(vendor: AmdVendor) -> None:
    with pytest.raises(SimulatorError):
        AmdVendor.fixed(datetime(2026, 11, 24))  # noqa: DTZ001 - the point
    with pytest.raises(SimulatorError):
        vendor.platform("Venice")
    with pytest.raises(SimulatorError):
        vendor.platform("Milan", "VMRK")
    platform = vendor.platform()
    wrong: tuple[dict[str, Any], ...] = (
        {"version": 6},
        {"fault": "none-such"},
        {"fault": "measurement=ab"},
        {"fault": "flip=672"},
    )
    for arguments in wrong:
        with pytest.raises(SimulatorError):
            platform.evidence(bytes(64), **arguments)
    with pytest.raises(SimulatorError):
        platform.evidence(bytes(63))


def test_lists_follow_the_clock(vendor: AmdVendor) -> None:
    later = NOW + timedelta(days=40)
    crl = x509.load_der_x509_crl(vendor.platform().evidence(bytes(64), now=later).crls[0])
    assert crl.last_update_utc < later < (crl.next_update_utc or NOW)


def test_the_table_is_the_registry() -> None:
    rows = {}
    for line in (amd_faults.__doc__ or "").splitlines():
        match = re.match(r"    ([a-z-]+)(?:\[?=\S*)? +([a-z_.]+)(?: \(.*\))?$", line)
        if match and match[1] != "fault":
            rows[match[1]] = match[2]
    assert rows == {name: fault.code for name, fault in SNP_FAULTS.items()}


def test_every_code_can_be_provoked_by_one_fault() -> None:
    claimed = {code for fault in SNP_FAULTS.values() for code in fault.codes()}
    assert {code for code in Code if code.startswith("snp.")} - claimed == set()
    assert claimed - {*Code} == {"accepted"}
