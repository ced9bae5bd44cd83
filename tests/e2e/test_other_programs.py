"""openssl, curl and Python's own ssl take the chain, trusting the root alone."""

import hashlib
import re
import socket
import ssl
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from workload import Client, Workload, new_key, request_for

from proxy_attestation_simulator.harness import RunningProxy

pytestmark = pytest.mark.e2e


def run(*command: str, stdin: str = "") -> str:
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def files(tmp_path: Path, proxy: RunningProxy, client: Client, workload: Workload) -> dict[str, str]:
    answer = client.sign(workload.message(client.challenge(), request_for(), new_key()))
    paths = {"root": str(proxy.root_pem)}
    for name, der in zip(("leaf", "issuing"), answer.chain, strict=True):
        path = tmp_path / f"{name}.pem"
        path.write_bytes(x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM))
        paths[name] = str(path)
    return paths


@pytest.mark.parametrize("purpose", ["sslserver", "sslclient"])
def test_openssl_verifies_the_chain(files: dict[str, str], purpose: str) -> None:
    text = run(
        "openssl", "verify", "-x509_strict", "-purpose", purpose, "-verify_hostname", "app.example.org",
        "-CAfile", files["root"], "-untrusted", files["issuing"], files["leaf"],
    )  # fmt: skip
    assert text.strip().endswith("OK")


def test_openssl_reads_the_leaf(files: dict[str, str]) -> None:
    text = run("openssl", "x509", "-in", files["leaf"], "-noout", "-text")
    assert re.search(
        r"Subject Alternative Name: critical\s+DNS:app.example.org, URI:spiffe://example.org/example-app", text
    )
    assert re.search(r"Key Usage: critical\s+Digital Signature\n", text)
    assert re.search(r"Extended Key Usage: \s+TLS Web Server Authentication, TLS Web Client Authentication", text)
    assert "1.3.6.1.5.5.7.1.35" in text
    assert re.search(r"Subject: *\n", text)


def test_openssl_reads_the_root(files: dict[str, str]) -> None:
    text = run("openssl", "x509", "-in", files["root"], "-noout", "-text")
    assert "CN = example.org Proxy Attestation Root G1" in text
    assert "O = SIMULATED" in text
    assert re.search(r"Basic Constraints: critical\s+CA:TRUE, pathlen:2", text)
    assert re.search(r"Name Constraints: critical\s+Permitted:\s+DNS:example.org", text)


def test_openssl_speaks_to_the_proxy(proxy: RunningProxy) -> None:
    text = run(
        "openssl", "s_client", "-connect", proxy.connect, "-CAfile", str(proxy.root_pem), "-verify_return_error",
        "-verify_ip", "127.0.0.1", "-tls1_3",
    )  # fmt: skip
    assert "Verify return code: 0 (ok)" in text


def test_tls_1_2_is_refused_on_the_connect_front(proxy: RunningProxy) -> None:
    command = ["openssl", "s_client", "-connect", proxy.connect, "-CAfile", str(proxy.root_pem), "-tls1_2"]
    done = subprocess.run(command, input="", capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode != 0


def test_python_ssl_speaks_to_the_proxy(proxy: RunningProxy) -> None:
    context = ssl.create_default_context(cafile=str(proxy.root_pem))
    host, port = proxy.connect.rsplit(":", 1)
    with socket.create_connection((host, int(port)), 20) as raw, context.wrap_socket(raw, server_hostname=host) as tls:
        assert tls.version() == "TLSv1.3"


def test_curl_fetches_the_root(proxy: RunningProxy) -> None:
    text = run("curl", "-sS", "--fail", "--cacert", str(proxy.root_pem), f"https://{proxy.connect}/root.pem")
    root = x509.load_pem_x509_certificate(text.encode())
    spki = root.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert hashlib.sha256(spki).hexdigest() == proxy.root_pin


def test_curl_asks_for_a_challenge_in_json(proxy: RunningProxy) -> None:
    text = run(
        "curl", "-sS", "--fail", "--cacert", str(proxy.root_pem), "-H", "content-type: application/json",
        "-d", '{"tee": "tdx"}', f"https://{proxy.connect}/proxy_attestation.v1.ProxyAttestation/GetChallenge",
    )  # fmt: skip
    assert '"sessionToken"' in text
