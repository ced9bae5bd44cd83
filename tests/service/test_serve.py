"""`serve` as it ships: real processes, a real authority, simulated evidence, other people's clients."""

import json
import socket
import ssl
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from proxy_attestation.formats.ear import decode_extension
from proxy_attestation.formats.request import names_from
from proxy_attestation.formats.tee import Tee
from proxy_attestation.v1 import proxy_attestation_pb2 as pb
from proxy_attestation.v1 import proxy_attestation_pb2_grpc as pb_grpc

pytestmark = pytest.mark.e2e

APP = {"names": names_from(dns=("app.example.org",))}
CMW = x509.ObjectIdentifier("1.3.6.1.5.5.7.1.35")


@pytest.fixture
def proxy(shared_proxy: Any) -> Any:
    return shared_proxy


@pytest.fixture
def call(proxy: Any, caller: Any) -> Any:
    return caller(proxy)


def tbs(answer: pb.GetSignedCertificateResponse) -> bytes:
    return x509.load_der_x509_certificate(answer.chain[0]).tbs_certificate_bytes


def test_what_is_served_is_said(proxy: Any) -> None:
    ready = proxy.ready
    assert (ready["trust_domain"], ready["simulated"], ready["key_origin"]) == ("example.org", True, "file")
    ports = json.loads((proxy.state / "run" / "ports.json").read_text())
    for name in ("grpc", "connect", "admin"):
        assert ready[name] == f"127.0.0.1:{ports[name]}"
    root = x509.load_pem_x509_certificate(proxy.root_pem.read_bytes())
    assert x509.SubjectKeyIdentifier.from_public_key(root.public_key())
    assert len(bytes.fromhex(proxy.root_pin)) == 32


@pytest.mark.parametrize(("tee", "workload"), [(Tee.SGX, "example-app"), (Tee.TDX, "example-vm")])
def test_a_certificate_over_connect(call: Any, tee: Tee, workload: str) -> None:
    one = call.attempt(tee, workload=workload)
    answer = call.sign(one.message())
    leaf = x509.load_der_x509_certificate(answer.chain[0])
    assert leaf.public_key() == one.key.public_key()
    claims = decode_extension(leaf.extensions.get_extension_for_oid(CMW).value.public_bytes())
    readable = json.loads(answer.claims_json)
    assert claims.tee is tee
    assert readable["spki"] == claims.spki.hex()
    assert readable["nonce"] == one.session.nonce.hex()
    life = leaf.not_valid_after_utc.timestamp() - leaf.not_valid_before_utc.timestamp()
    assert answer.renewal.start == int(leaf.not_valid_before_utc.timestamp() + life * 2 // 3)


def test_openssl_accepts_the_chain(call: Any, proxy: Any, tmp_path: Path) -> None:
    answer = call.sign(call.attempt(**APP).message())
    for name, der in zip(("leaf.der", "issuing.der"), answer.chain, strict=True):
        (tmp_path / name).write_bytes(der)
    command = ["openssl", "verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", "app.example.org"]
    files = ["-CAfile", str(proxy.root_pem), "-untrusted", "issuing.der", "leaf.der"]
    verified = subprocess.run([*command, *files], cwd=tmp_path, capture_output=True, check=False, timeout=30)
    assert verified.returncode == 0, verified.stderr


def test_a_certificate_over_grpc(call: Any, proxy: Any) -> None:
    one = call.attempt()
    with grpc.secure_channel(proxy.grpc, grpc.ssl_channel_credentials(proxy.root_pem.read_bytes())) as channel:
        stub: Any = pb_grpc.ProxyAttestationStub  # generated without annotations
        answer = stub(channel).GetSignedCertificate(one.message())
        root = stub(channel).GetRootCertificate(pb.GetRootCertificateRequest(nonce=bytes(32)))
    issuing = x509.load_der_x509_certificate(answer.chain[1])
    x509.load_der_x509_certificate(answer.chain[0]).verify_directly_issued_by(issuing)
    assert list(root.bundle.issuing) == [answer.chain[1]]
    assert root.policy_digest.hex() == json.loads(answer.claims_json)["policy_digest"]


def test_the_root_and_the_health_are_served_in_plain_http(call: Any, proxy: Any) -> None:
    assert call.get("/healthz").status_code == 200
    assert call.get("/readyz").status_code == 200
    served, written = call.get("/root.pem").content, proxy.root_pem.read_bytes()
    assert x509.load_pem_x509_certificate(served) == x509.load_pem_x509_certificate(written)


def test_both_fronts_show_the_proxy_s_own_certificate(proxy: Any) -> None:
    seen = set()
    for address in (proxy.connect, proxy.grpc):
        context = ssl.create_default_context(cafile=str(proxy.root_pem))
        context.set_alpn_protocols(["h2"])
        host, _, port = address.rpartition(":")
        with (
            socket.create_connection((host, int(port)), timeout=30) as raw,
            context.wrap_socket(raw, server_hostname=host) as tls,
        ):
            assert tls.version() == "TLSv1.3"
            seen.add(tls.getpeercert(binary_form=True))
    (der,) = seen
    assert der is not None
    leaf = x509.load_der_x509_certificate(der)
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    uri = names.get_values_for_type(x509.UniformResourceIdentifier)
    assert uri == ["spiffe://example.org/proxy-attestation/server"]
    assert not [extension for extension in leaf.extensions if extension.oid == CMW]


def test_tls_1_2_is_refused_by_the_connect_front(proxy: Any) -> None:
    context = ssl.create_default_context(cafile=str(proxy.root_pem))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    host, _, port = proxy.connect.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=30) as raw, pytest.raises(ssl.SSLError):
        context.wrap_socket(raw, server_hostname=host)


def test_the_same_session_gets_the_same_certificate_and_nothing_else(call: Any) -> None:
    one = call.attempt(**APP)
    message = one.message()
    first = call.sign(message)
    again = call.sign(message)
    assert tbs(again) == tbs(first)
    assert again.ledger_index == first.ledger_index
    other = replace(one, key=ec.generate_private_key(ec.SECP256R1()))
    assert call.refusal(other.message()) == "challenge.spent"


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"names": names_from(dns=("other.example.org",))}, "policy.name"),
        ({"quote_options": {"mr_enclave": bytes(32)}}, "policy.measurement"),
        ({"quote_options": {"fault": "debug"}}, "sgx.debug"),
        ({"quote_options": {"fault": "old-tcb"}}, "sgx.tcb_status"),
        ({"quote_options": {"fault": "tampered=112"}}, "sgx.signature"),
        ({"quote_options": {"fault": "wrong-root"}}, "sgx.root"),
        ({"report_data": lambda data: data[::-1]}, "binder.mismatch"),
        ({"workload": "nobody"}, "policy.workload"),
    ],
)
def test_what_must_be_refused_is(call: Any, changes: dict[str, Any], code: str) -> None:
    one = call.attempt(**changes)
    assert call.refusal(one.message()) == code


def test_a_peer_learns_codes_and_the_log_the_detail(call: Any, proxy: Any) -> None:
    expected = proxy.vendor.platform("sgx").body.mr_enclave.hex()
    answer = call.post("GetSignedCertificate", call.attempt(quote_options={"mr_enclave": b"\x42" * 32}).message())
    assert answer.status_code == 403
    debug = answer.json()["details"][0]["debug"]
    assert debug["metadata"]["mismatches"] == "policy.measurement"
    for secret in (expected, "42" * 32, str(proxy.state), "Traceback"):
        assert secret not in answer.text
    (line,) = [line for line in proxy.log_lines() if line.get("request_id") == debug["metadata"]["request_id"]]
    assert line["mismatches"][0]["expected"] == expected
    assert line["mismatches"][0]["actual"] == "42" * 32


def test_metrics_are_summed_over_the_workers(call: Any, proxy: Any) -> None:
    def counted(name: str) -> float:
        text = httpx.get(f"http://{proxy.admin}/metrics", timeout=30).text
        values = [line.rpartition(" ")[2] for line in text.splitlines() if line.startswith(name)]
        return float(values[0]) if values else 0.0

    name = 'proxy_attestation_certificates_total{tee="sgx",workload="example-app"}'
    before = counted(name)
    for _ in range(6):
        call.sign(call.attempt().message())
    assert counted(name) == before + 6
    assert counted('proxy_attestation_collateral_sets{tee="sgx"}') == 1
