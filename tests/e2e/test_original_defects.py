"""What the first sketch of this system allowed, each shown to be impossible here."""

import dataclasses
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from workload import Client, Workload, new_key, request_for

from proxy_attestation.codes import Code
from proxy_attestation.errors import PeerError, ProxyAttestationError
from proxy_attestation.formats.csr import ID_PE_CMW, build_csr, decode_csr, spki_of
from proxy_attestation.formats.ear import decode_extension
from proxy_attestation.formats.evidence import Evidence, encode_evidence
from proxy_attestation.formats.request import ApplicationKind, KeyOrigin, RuntimeClaims, names_from
from proxy_attestation.formats.tee import Tee
from proxy_attestation.relying_party.check import check_chain
from proxy_attestation.relying_party.context import AttestedContext
from proxy_attestation.relying_party.expectation_file import parse_expectation
from proxy_attestation.v1 import proxy_attestation_pb2 as pb
from proxy_attestation_simulator.harness import RunningProxy, running_proxy
from proxy_attestation_simulator.intel import Vendor

pytestmark = pytest.mark.e2e


def no_file(name: str) -> bytes:
    raise OSError(name)


def refused(client: Client, message: pb.GetSignedCertificateRequest) -> ProxyAttestationError:
    with pytest.raises(ProxyAttestationError) as caught:
        client.sign(message)
    return caught.value


def issued(client: Client, workload: Workload, **changes: Any) -> x509.Certificate:
    answer = client.sign(workload.message(client.challenge(), request_for(**changes), new_key()))
    return x509.load_der_x509_certificate(answer.chain[0])


def test_a_csr_that_its_key_did_not_sign_is_refused(client: Client, workload: Workload) -> None:
    key, request = new_key(), request_for()
    message = workload.message(client.challenge(), request, key)
    # The key and with it the binder stay; the signature's last byte changes.
    message.csr = message.csr[:-1] + bytes([message.csr[-1] ^ 1])
    assert refused(client, message).code is Code.CSR_SIGNATURE


def foreign_csr(key: ec.EllipticCurvePrivateKey, *extensions: x509.ExtensionType) -> bytes:
    """Return the CSR of another program: with a subject, and perhaps extensions; its evidence goes beside it."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(
        x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "admin.example.org")])
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def beside(client: Client, workload: Workload, *extensions: x509.ExtensionType) -> pb.GetSignedCertificateRequest:
    key = new_key()
    message = workload.message(client.challenge(), request_for(), key)
    message.evidence = decode_csr(message.csr).cmw or b""
    message.csr = foreign_csr(key, *extensions)
    return message


def test_the_subject_of_a_csr_is_never_copied(client: Client, workload: Workload) -> None:
    leaf = x509.load_der_x509_certificate(client.sign(beside(client, workload)).chain[0])
    assert leaf.subject == x509.Name([])
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["app.example.org"]
    assert names.get_values_for_type(x509.UniformResourceIdentifier) == ["spiffe://example.org/example-app"]


def test_names_in_a_csr_must_be_those_of_the_request(client: Client, workload: Workload) -> None:
    other = x509.SubjectAlternativeName([x509.DNSName("admin.example.org")])
    assert refused(client, beside(client, workload, other)).code is Code.CSR_NAMES


def test_extensions_in_a_csr_are_refused(client: Client, workload: Workload) -> None:
    authority = x509.BasicConstraints(ca=True, path_length=None)
    assert refused(client, beside(client, workload, authority)).code is Code.CSR_EXTENSIONS


def test_nobody_gets_a_certificate_without_evidence(client: Client, workload: Workload) -> None:
    key = new_key()
    message = workload.message(client.challenge(), request_for(), key)
    message.csr = build_csr(key, None)
    assert refused(client, message).code is Code.EVIDENCE_MISSING


def test_nobody_gets_a_certificate_for_evidence_of_another_vendor(client: Client) -> None:
    stranger = Workload(Vendor.create(datetime.now(UTC)).platform("sgx"))
    message = stranger.message(client.challenge(), request_for(), new_key())
    assert refused(client, message).code is Code.SGX_ROOT


def test_a_constant_quote_is_refused(client: Client, workload: Workload) -> None:
    first = workload.message(client.challenge(), request_for(), new_key())
    client.sign(first)
    second = workload.message(client.challenge(), request_for(), key := new_key())
    second.csr = build_csr(key, decode_csr(first.csr).cmw)
    assert refused(client, second).code is Code.BINDER_MISMATCH


def test_a_leaf_outlives_neither_its_issuer_nor_a_day(client: Client, workload: Workload) -> None:
    answer = client.sign(workload.message(client.challenge(), request_for(lifetime=7 * 24 * 3600), new_key()))
    leaf, issuing = (x509.load_der_x509_certificate(der) for der in answer.chain)
    root = x509.load_der_x509_certificate(client.root)
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc <= timedelta(hours=24)
    assert root.not_valid_before_utc <= issuing.not_valid_before_utc <= leaf.not_valid_before_utc
    assert leaf.not_valid_after_utc <= issuing.not_valid_after_utc <= root.not_valid_after_utc


def test_a_leaf_does_not_outlive_its_collateral(tmp_path: Path) -> None:
    vendor = Vendor.create(datetime.now(UTC))
    end = datetime.now(UTC).replace(microsecond=0) + timedelta(hours=2)
    with running_proxy(tmp_path, vendor=vendor, tees=()) as proxy:
        proxy.write_endorsements("sgx", next_update=end)
        proxy.restart()
        client = Client.connect(proxy.connect, proxy.root_pin)
        leaf = issued(client, Workload(vendor.platform("sgx")), lifetime=24 * 3600)
        client.close()
    assert leaf.not_valid_after_utc == end


def test_the_root_survives_a_restart(tmp_path: Path) -> None:
    with running_proxy(tmp_path) as proxy:
        workload, pin = Workload(proxy.vendor.platform("sgx")), proxy.root_pin
        before = Client.connect(proxy.connect, pin)
        old = issued(before, workload)
        before.close()
        proxy.restart()
        after = Client.connect(proxy.connect, pin)
        new = issued(after, workload)
        after.close()
    assert (after.root, proxy.root_pin) == (before.root, pin)
    assert old.issuer == new.issuer


@pytest.mark.parametrize(
    ("name", "changed"),
    [
        ("another CA", {"ca_id": b"\x01" * 32}),
        ("another session", {"session_id": b"\x01" * 16}),
        ("another nonce", {"nonce": b"\x01" * 32}),
        ("another key", {"spki": spki_of(new_key().public_key())}),
        ("other names", {"request": request_for(names=names_from(("other.example.org",)))}),
        ("another entry", {"request": request_for(workload="other")}),
        ("another tee", {"request": request_for(Tee.TDX)}),
        ("another lifetime", {"request": request_for(lifetime=60)}),
        ("an empty nonce", {"nonce": b""}),
        ("a long nonce", {"nonce": b"\x01" * 33}),
    ],
)
def test_evidence_for_anything_else_is_refused(
    client: Client, workload: Workload, name: str, changed: dict[str, bytes]
) -> None:
    message = workload.message(client.challenge(), request_for(), new_key(), binder=changed)
    assert refused(client, message).code is Code.BINDER_MISMATCH, name


def test_a_report_without_a_binder_is_refused(client: Client, workload: Workload) -> None:
    key = new_key()
    message = workload.message(client.challenge(), request_for(), key)
    message.csr = build_csr(key, encode_evidence(Evidence(Tee.SGX, workload.platform.quote(bytes(64)))))
    assert refused(client, message).code is Code.BINDER_MISMATCH


def test_a_client_cannot_forget_the_claims(client: Client) -> None:
    with pytest.raises(TypeError):
        AttestedContext(roots=[client.root])  # type: ignore[call-arg] # the very mistake
    weak = 'trust_domain = "example.org"\nsimulated = true\n'
    with pytest.raises(ProxyAttestationError) as caught:
        parse_expectation(weak, no_file)
    assert caught.value.code is Code.CONFIGURATION_MALFORMED


def test_there_is_exactly_one_leaf(client: Client, workload: Workload) -> None:
    answer = client.sign(workload.message(client.challenge(), request_for(), new_key()))
    expectation = parse_expectation(
        'trust_domain = "example.org"\nworkload = "example-app"\nsimulated = true\n', no_file
    )
    chain, now = list(answer.chain), datetime.now(UTC)
    assert len(chain) == 2
    assert check_chain(chain, [client.root], expectation, now, server_name="app.example.org")
    for several in ([], chain[1:], [chain[0], *chain], [chain[0]]):
        with pytest.raises(PeerError) as caught:
            check_chain(several, [client.root], expectation, now, server_name="app.example.org")
        assert caught.value.code is Code.PEER_CHAIN


def test_claims_are_typed_and_come_from_the_evidence(client: Client, workload: Workload) -> None:
    key = new_key()
    answer = client.sign(workload.message(client.challenge(), request_for(), key))
    leaf = x509.load_der_x509_certificate(answer.chain[0])
    (extension,) = [item for item in leaf.extensions if item.oid == ID_PE_CMW]
    assert not extension.critical
    assert isinstance(extension.value, x509.UnrecognizedExtension)
    claims = decode_extension(extension.value.value)
    body = workload.platform.body
    assert dict(claims.measurements)["mr_enclave"] == getattr(body, "mr_enclave", None)
    assert (claims.tee, claims.debug, claims.tcb_status) == (Tee.SGX, False, "UpToDate")
    assert claims.spki == spki_of(key.public_key())
    assert claims.application_sha256 is None


def test_a_runtime_claim_that_no_policy_asked_for_is_refused(client: Client, workload: Workload) -> None:
    runtime = RuntimeClaims(ApplicationKind.WASM, b"\x01" * 32, KeyOrigin.TEE)
    message = workload.message(client.challenge(), request_for(runtime=runtime), new_key())
    assert refused(client, message).code is Code.POLICY_APPLICATION


def test_errors_tell_no_internals(proxy: RunningProxy, client: Client, workload: Workload) -> None:
    wrong = dataclasses.replace(workload, fault="mr_enclave=" + "ab" * 32)
    message = wrong.message(client.challenge(), request_for(), new_key())
    done = client.http.post(
        "/proxy_attestation.v1.ProxyAttestation/GetSignedCertificate",
        content=message.SerializeToString(),
        headers={"content-type": "application/proto"},
    )
    text = done.text
    assert Code.POLICY_MEASUREMENT in text
    expected = getattr(workload.platform.body, "mr_enclave", b"").hex()
    for secret in (expected, "ab" * 32, str(proxy.state), "Traceback", ".py", "site-packages", "sqlite"):
        assert secret not in text, secret
    # The operator finds the detail under the request's id.
    request_id = done.json()["details"][0]["debug"]["metadata"]["request_id"]
    (line,) = [entry for entry in proxy.log_lines() if entry.get("request_id") == request_id]
    assert expected in str(line)
