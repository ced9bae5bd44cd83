"""The core: what it answers, in which order it refuses, and what counts as a failed try."""

import asyncio
import json
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from proxy_attestation.codes import Code
from proxy_attestation.errors import (
    ProxyAttestationError,
    RequestError,
    UnavailableError,
)
from proxy_attestation.formats import cbor
from proxy_attestation.formats.bounds import REQUEST_MAX
from proxy_attestation.formats.csr import build_csr, spki_of
from proxy_attestation.formats.tee import DCAP, WITH_COLLATERAL, Tee
from proxy_attestation.service.core import Core
from proxy_attestation.service.errors_wire import to_wire
from proxy_attestation.v1 import proxy_attestation_pb2 as pb
from proxy_attestation_simulator.tpm_structures import LogEvent, LogRecipe

Prepare = Callable[..., Any]
P256, P384 = ec.SECP256R1(), ec.SECP384R1()


def run(call: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(call)


def sign(core: Core, message: pb.GetSignedCertificateRequest) -> pb.GetSignedCertificateResponse:
    answer = run(core.get_signed_certificate(message))
    assert isinstance(answer, pb.GetSignedCertificateResponse)
    return answer


def refusal(core: Core, message: pb.GetSignedCertificateRequest) -> tuple[type[ProxyAttestationError], Code]:
    with pytest.raises(ProxyAttestationError) as caught:
        run(core.get_signed_certificate(message))
    return type(caught.value), caught.value.code


def with_bad_csr_signature(message: pb.GetSignedCertificateRequest) -> pb.GetSignedCertificateRequest:
    """Flip a bit of s in the CSR's signature."""
    message.csr = message.csr[:-1] + bytes([message.csr[-1] ^ 1])
    return message


# What is answered.


def test_the_root_bundle_is_what_the_authority_said(core: Core, info: Any) -> None:
    answer = run(core.get_root_certificate(pb.GetRootCertificateRequest(nonce=bytes(32))))
    assert list(answer.bundle.roots) == list(info.roots)
    assert list(answer.bundle.issuing) == list(info.issuing)
    assert answer.bundle.sequence == 1
    assert (answer.policy_digest, answer.key_origin, answer.trust_domain) == (b"\x0d" * 32, "file", "example.org")
    assert answer.simulated
    assert list(answer.dangers) == ["first_use"]
    assert (answer.evidence, answer.deployment_statement, answer.ledger_key) == (b"", b"", b"")


def test_evidence_comes_with_what_was_in_force_when_it_was_quoted(core: Core, info: Any) -> None:
    nonce = b"\x0e" * 32
    answer = run(core.get_root_certificate(pb.GetRootCertificateRequest(nonce=nonce, evidence=True)))
    assert answer.evidence == b"evidence over " + nonce
    assert list(answer.bundle.roots) == list(info.roots)


def test_a_proxy_that_has_no_evidence_now_is_unavailable(core: Core, authority: Any) -> None:
    authority.error = UnavailableError(Code.PROXY_EVIDENCE_BUSY)
    with pytest.raises(UnavailableError) as caught:
        run(core.get_root_certificate(pb.GetRootCertificateRequest(nonce=bytes(32), evidence=True)))
    assert caught.value.code is Code.PROXY_EVIDENCE_BUSY
    wire = to_wire(caught.value, "id")
    assert (wire.status.http, wire.retry_after) == (503, 1)
    run(core.get_root_certificate(pb.GetRootCertificateRequest(nonce=bytes(32))))


def test_a_challenge_is_fresh_each_time_and_lives_two_minutes(core: Core, clock: Any, info: Any) -> None:
    first, second = (run(core.get_challenge(pb.GetChallengeRequest(tee="sgx"))) for _ in range(2))
    assert (len(first.session_id), len(first.nonce), first.ca_id) == (16, 32, info.ca_id)
    assert first.expires_at == int(clock.now.timestamp()) + 120
    assert first.session_id != second.session_id
    assert first.nonce != second.nonce
    assert first.nonce not in first.session_token


@pytest.mark.parametrize("tee", list(Tee))
def test_genuine_evidence_gets_a_certificate(core: Core, authority: Any, attempt: Prepare, tee: Tee) -> None:
    one = attempt(tee)
    message = one.message()
    answer = sign(core, message)
    (order,) = authority.orders
    assert order.token == one.session.session_token
    assert order.request == one.request
    assert order.spki == spki_of(one.key.public_key())
    assert order.claims.tee is tee
    assert order.claims.bound == one.binding.slots(tee) * (2 if tee is Tee.TPM else 1)
    assert order.policy_digest == b"\x0d" * 32
    assert (order.collateral_floor is None) is (tee not in WITH_COLLATERAL)
    if tee in DCAP:
        assert order.collateral_floor.evaluation_number == 17
    assert list(answer.chain) == [b"leaf", authority.info.issuing[0]]
    assert answer.ledger_index == 41
    claims = json.loads(answer.claims_json)
    assert claims["tee"] == str(tee)
    assert claims["measurements"] == {"mr_enclave": "07" * 32}
    assert claims["key_origin"] == "tee"
    assert claims["issued_at"] == "2026-11-24T12:00:00Z"
    assert "signer" not in claims


def test_renewal_is_due_from_two_thirds_to_five_sixths_of_the_life(core: Core, attempt: Prepare, clock: Any) -> None:
    answer = sign(core, attempt().message())
    start = int(clock.now.timestamp())
    assert (answer.renewal.start, answer.renewal.end) == (start + 2400, start + 3000)


def test_the_same_session_may_be_repeated(core: Core, authority: Any, attempt: Prepare) -> None:
    message = attempt().message()
    assert sign(core, message) == sign(core, message)
    first, second = authority.orders
    assert first == second


def test_a_p384_key_is_accepted(core: Core, authority: Any, attempt: Prepare) -> None:
    sign(core, attempt(key=ec.generate_private_key(P384)).message())
    assert len(authority.orders) == 1


def test_evidence_may_stand_beside_the_csr(core: Core, authority: Any, attempt: Prepare) -> None:
    one = attempt()
    message = one.message()
    message.csr = build_csr(one.key, None)
    message.evidence = one.record
    sign(core, message)
    assert authority.orders[0].claims.bound[0] == one.binder


def test_platform_certificates_may_stand_beside_the_evidence(core: Core, authority: Any, attempt: Prepare) -> None:
    one = attempt(quote_options={"fault": "cert-type=3"})
    message = one.message()
    certificates = list(one.platform.certificates[:2])
    message.parts.add(name="platform_certificates", content=cbor.encode(certificates))
    sign(core, message)
    assert len(authority.orders) == 1


def test_an_event_log_is_replayed_into_the_registers(core: Core, authority: Any, attempt: Prepare) -> None:
    log = LogRecipe((LogEvent(3, 0x80000003, b"a path", b"the kernel"), LogEvent(4, 0x0D, b"measured")), ("sha384",))
    registers = log.registers("sha384")
    options = {f"rtmr{index}": registers[index + 1] for index in (2, 3)}
    sign(core, attempt(Tee.TDX, event_log=log.encode(), quote_options=options).message())
    found = {layer.name(Tee.TDX): layer.measured for layer in authority.orders[0].claims.layers}
    assert found == {"rtmr2": (), "rtmr3": (("EV_IPL", b"measured"),)}


def test_long_data_of_an_event_stays_in_the_worker(core: Core, authority: Any, attempt: Prepare) -> None:
    log = LogRecipe((LogEvent(4, 0x0D, bytes(1024)), LogEvent(4, 0x0D, bytes(1025))), ("sha384",))
    options = {"rtmr3": log.registers("sha384")[4]}
    sign(core, attempt(Tee.TDX, event_log=log.encode(), quote_options=options).message())
    (layer,) = authority.orders[0].claims.layers
    assert [event.data for event in layer.events] == [bytes(1024), None]


@pytest.mark.parametrize("version", [3, 4, 5])
def test_an_enclaves_quote_of_each_version_is_accepted(
    version: int, core: Core, authority: Any, attempt: Prepare
) -> None:
    sign(core, attempt(quote_options={"version": version}).message())
    assert authority.orders[0].claims.tee is Tee.SGX


def test_the_owner_s_proof_goes_to_the_authority(core: Core, authority: Any, attempt: Prepare) -> None:
    message = attempt().message()
    message.owner_proof.kind, message.owner_proof.proof = "enrolment", b"proof"
    sign(core, message)
    assert (authority.orders[0].owner_kind, authority.orders[0].owner_proof) == ("enrolment", b"proof")


def test_without_a_ledger_to_read_proofs_are_unavailable(core: Core) -> None:
    with pytest.raises(UnavailableError) as caught:
        run(core.get_ledger_proof(pb.GetLedgerProofRequest(index=0)))
    assert caught.value.code is Code.AUTHORITY_UNAVAILABLE


# The order of work: of two faults, the cheaper one is told.


def test_sizes_come_before_the_token(core: Core, attempt: Prepare) -> None:
    message = attempt().message()
    message.session_token = b""
    message.request = bytes(REQUEST_MAX + 1)
    assert refusal(core, message)[1] is Code.REQUEST_TOO_LARGE


def test_the_token_comes_before_the_request(core: Core, attempt: Prepare) -> None:
    message = attempt().message()
    message.session_token = b""
    message.request = b""
    assert refusal(core, message)[1] is Code.CHALLENGE_INVALID


def test_the_csr_s_form_comes_before_the_binder(core: Core, attempt: Prepare) -> None:
    message = attempt(report_data=lambda _: bytes(64)).message()
    message.csr = message.csr + b"\0"
    assert refusal(core, message)[1] is Code.CSR_MALFORMED


def test_the_binder_comes_before_the_csr_s_signature(core: Core, attempt: Prepare) -> None:
    message = with_bad_csr_signature(attempt(report_data=lambda _: bytes(64)).message())
    assert refusal(core, message)[1] is Code.BINDER_MISMATCH


def test_the_csr_s_signature_comes_before_the_evidence(core: Core, attempt: Prepare) -> None:
    message = with_bad_csr_signature(attempt(quote_options={"fault": "tampered=112"}).message())
    assert refusal(core, message)[1] is Code.CSR_SIGNATURE


def test_the_evidence_comes_before_the_authority(core: Core, authority: Any, attempt: Prepare) -> None:
    authority.error = RequestError(Code.CHALLENGE_SPENT)
    message = attempt(quote_options={"fault": "tampered=112"}).message()
    assert refusal(core, message)[1] is Code.SGX_SIGNATURE
    assert authority.orders == []


# Failed tries.


def test_three_failed_tries_use_a_session_up(core: Core, attempt: Prepare) -> None:
    one = attempt()
    good = one.message()
    bad = one.message()
    bad.csr = build_csr(ec.generate_private_key(P256), one.record)
    for _ in range(3):
        assert refusal(core, bad)[1] is Code.BINDER_MISMATCH
    assert refusal(core, good) == (RequestError, Code.CHALLENGE_EXHAUSTED)
    sign(core, attempt().message())


def test_two_failed_tries_do_not(core: Core, attempt: Prepare) -> None:
    one = attempt()
    bad = one.message()
    bad.request = b""
    for _ in range(2):
        assert refusal(core, bad)[1] is Code.REQUEST_MALFORMED
    sign(core, one.message())


def test_what_is_unavailable_is_no_try(core: Core, authority: Any, attempt: Prepare) -> None:
    message = attempt().message()
    authority.error = UnavailableError(Code.AUTHORITY_UNAVAILABLE)
    for _ in range(5):
        assert refusal(core, message) == (UnavailableError, Code.AUTHORITY_UNAVAILABLE)
    authority.error = None
    sign(core, message)
