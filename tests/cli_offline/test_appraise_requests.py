"""`appraise` on a certification request: the evidence inside is judged, and nothing is said about the request's key."""

import contextlib
import hashlib
from base64 import encodebytes
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy_attestation.cli.evidence_file import read_evidence
from proxy_attestation.errors import ProxyAttestationError
from proxy_attestation.formats.csr import build_csr, decode_csr
from proxy_attestation.formats.evidence import Evidence, encode_evidence
from proxy_attestation.formats.tee import Tee
from proxy_attestation_simulator.intel import Vendor

AT = "2026-11-24T00:00:00Z"
KEY = ec.derive_private_key(5, ec.SECP256R1())
DATA = bytes(range(64))
SUFFIX = {"tcb_info": "json", "qe_identity": "json", "pck_crl": "der", "root_ca_crl": "der"}


@dataclass
class Bench:
    vendor: Vendor
    folder: Path
    cli: Callable[..., Any]
    write: Callable[[Path, Mapping[str, bytes]], Path]

    def record(self, tee: str = "sgx", fault: str = "", *, beside: bool = False) -> bytes:
        platform = self.vendor.platform(tee)
        certificates = platform.certificates if beside else ()
        return encode_evidence(Evidence(Tee(tee), platform.quote(DATA, fault=fault), certificates))

    def appraise(self, data: bytes, *options: str, tee: str = "sgx") -> Any:
        made = self.vendor.endorsements(tee)
        pieces = {f"{name}.{SUFFIX.get(name, 'pem')}": piece for name, piece in made.items() if piece}
        self.write(self.folder, {"evidence": data, "root.der": self.vendor.root_der})
        given = ["--endorsements", self.write(self.folder / tee, pieces), "--roots", self.folder / "root.der"]
        return self.cli("appraise", self.folder / "evidence", *given, "--at", AT, *options, "--json")


@pytest.fixture
def bench(vendor: Vendor, tmp_path: Path, cli: Any, write: Any) -> Bench:
    return Bench(vendor, tmp_path, cli, write)


def _pem(label: str, der: bytes) -> bytes:
    return f"-----BEGIN {label}-----\n".encode() + encodebytes(der) + f"-----END {label}-----\n".encode()


def _is(ran: Any, status: int, code: str | None) -> dict[str, Any]:
    assert (ran.status, ran.json["code"]) == (status, code), ran.out
    found: dict[str, Any] = ran.json
    return found


@pytest.mark.parametrize("form", ["der", "pem", "new pem", "hex"])
@pytest.mark.parametrize("tee", ["sgx", "tdx"])
def test_the_evidence_is_judged_and_the_key_named_as_unverified(bench: Bench, tee: str, form: str) -> None:
    der = build_csr(KEY, bench.record(tee))
    forms = {
        "der": der,
        "pem": _pem("CERTIFICATE REQUEST", der),
        "new pem": _pem("NEW CERTIFICATE REQUEST", der),
        "hex": der.hex().encode(),
    }
    result = _is(bench.appraise(forms[form], tee=tee), 0, None)
    assert (result["claims"]["tee"], result["claims"]["report_data"]) == (tee, DATA.hex())
    assert result["unverified"] == {"csr_spki_sha256": hashlib.sha256(decode_csr(der).spki).hexdigest()}


def test_certificates_beside_the_evidence_count(bench: Bench) -> None:
    _is(bench.appraise(build_csr(KEY, bench.record(fault="cert-type=7", beside=True))), 0, None)
    _is(bench.appraise(build_csr(KEY, bench.record(fault="cert-type=7"))), 3, "sgx.endorsements_missing")


@pytest.mark.parametrize(
    ("fault", "code", "claims"),
    [
        ("debug", "sgx.debug", True),
        ("tampered", "sgx.signature", False),
        ("no-tcb-level", "sgx.tcb_not_supported", True),
    ],
)
def test_evidence_with_one_fault(bench: Bench, fault: str, code: str, claims: bool) -> None:
    result = _is(bench.appraise(build_csr(KEY, bench.record(fault=fault))), 3, code)
    assert (result["claims"] is not None, "csr_spki_sha256" in result["unverified"]) == (claims, True)


def test_a_request_that_its_key_did_not_sign(bench: Bench) -> None:
    der = bytearray(build_csr(KEY, bench.record()))
    der[-1] ^= 1
    _is(bench.appraise(bytes(der)), 4, "csr.signature")


def test_a_request_without_evidence(bench: Bench) -> None:
    _is(bench.appraise(build_csr(KEY, None)), 4, "evidence.malformed")


def test_a_record_around_evidence_of_another_kind(bench: Bench) -> None:
    quote = bench.vendor.platform("tdx").quote(DATA)
    _is(bench.appraise(build_csr(KEY, encode_evidence(Evidence(Tee.SGX, quote)))), 4, "evidence.malformed")


@settings(max_examples=150, deadline=None)
@given(st.binary(max_size=40), st.integers(0, 5000), st.booleans())
def test_any_bytes_are_evidence_or_our_error(data: bytes, at: int, cut: bool) -> None:
    der = build_csr(KEY, encode_evidence(Evidence(Tee.SGX, b"\3\0" + bytes(600))))
    for candidate in (data, b"\x30" + data, der[: at % len(der)] + data + (b"" if cut else der[at % len(der) :])):
        for form in (candidate, _pem("CERTIFICATE REQUEST", candidate)):
            with contextlib.suppress(ProxyAttestationError):
                assert read_evidence(form)


def test_a_demand_of_what_was_bound(bench: Bench) -> None:
    der = build_csr(KEY, bench.record())
    _is(bench.appraise(der, "--expect", f"report_data={DATA.hex()}"), 0, None)
    _is(bench.appraise(der, "--expect", f"report_data={'00' * 64}"), 3, "policy.claim")
