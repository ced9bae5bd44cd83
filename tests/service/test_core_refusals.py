"""The core refuses: each test makes exactly one thing wrong."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from proxy_attestation.codes import Code
from proxy_attestation.errors import (
    AppraisalError,
    FormatError,
    Mismatch,
    PolicyError,
    ProxyAttestationError,
    RefusedError,
    RequestError,
    UnavailableError,
)
from proxy_attestation.formats import cbor
from proxy_attestation.formats.bounds import EVENT_LOG_MAX, QUOTE_MAX, REQUEST_MAX
from proxy_attestation.formats.csr import build_csr
from proxy_attestation.formats.evidence import Evidence, encode_evidence
from proxy_attestation.formats.request import names_from
from proxy_attestation.formats.tee import Tee
from proxy_attestation.service.core import Core
from proxy_attestation.v1 import proxy_attestation_pb2 as pb

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


@pytest.mark.parametrize("length", [0, 31, 33])
def test_a_root_nonce_of_another_length(core: Core, length: int) -> None:
    with pytest.raises(FormatError) as caught:
        run(core.get_root_certificate(pb.GetRootCertificateRequest(nonce=bytes(length))))
    assert caught.value.code is Code.REQUEST_MALFORMED


@pytest.mark.parametrize("tee", ["", "cca", "SGX", "sgx\0"])
def test_a_challenge_for_an_unknown_tee(core: Core, tee: str) -> None:
    with pytest.raises(RequestError) as caught:
        run(core.get_challenge(pb.GetChallengeRequest(tee=tee)))
    assert caught.value.code is Code.REQUEST_TEE


@pytest.mark.parametrize("field", ["ek_certificate", "ak_public"])
def test_tpm_parameters_for_another_tee(core: Core, field: str) -> None:
    request = pb.GetChallengeRequest(tee="sgx")
    setattr(request, field, b"x")
    with pytest.raises(FormatError) as caught:
        run(core.get_challenge(request))
    assert caught.value.code is Code.REQUEST_MALFORMED


def test_a_challenge_when_the_token_key_is_about_to_retire(core: Core, clock: Any) -> None:
    clock.advance(86_400 - 100)
    with pytest.raises(UnavailableError) as caught:
        run(core.get_challenge(pb.GetChallengeRequest(tee="sgx")))
    assert caught.value.code is Code.AUTHORITY_UNAVAILABLE


def test_nothing_is_answered_while_the_authority_is_away(core: Core, attempt: Prepare) -> None:
    message = attempt().message()
    core.serving = None
    calls: list[Coroutine[Any, Any, Any]] = [
        core.get_root_certificate(pb.GetRootCertificateRequest(nonce=bytes(32))),
        core.get_challenge(pb.GetChallengeRequest(tee="sgx")),
        core.get_signed_certificate(message),
    ]
    for call in calls:
        with pytest.raises(UnavailableError) as caught:
            run(call)
        assert caught.value.code is Code.AUTHORITY_UNAVAILABLE


@pytest.mark.parametrize(
    ("field", "size"),
    [("session_token", 193), ("request", REQUEST_MAX + 1), ("csr", 16 * 1024 + 2 * QUOTE_MAX + 1)],
)
def test_a_field_that_is_too_large(core: Core, attempt: Prepare, field: str, size: int) -> None:
    message = attempt().message()
    setattr(message, field, bytes(size))
    assert refusal(core, message) == (FormatError, Code.REQUEST_TOO_LARGE)


@pytest.mark.parametrize(("field", "value"), [("kind", "k" * 65), ("proof", bytes(4097))])
def test_an_owner_s_proof_that_is_too_large(core: Core, attempt: Prepare, field: str, value: object) -> None:
    message = attempt().message()
    setattr(message.owner_proof, field, value)
    assert refusal(core, message) == (FormatError, Code.REQUEST_TOO_LARGE)


def test_an_event_log_that_is_too_large(core: Core, attempt: Prepare) -> None:
    message = attempt(event_log=bytes(EVENT_LOG_MAX + 1)).message()
    assert refusal(core, message) == (FormatError, Code.EVIDENCE_TOO_LARGE)


def test_evidence_that_is_too_large(core: Core, attempt: Prepare) -> None:
    one = attempt()
    message = one.message()
    message.csr = build_csr(one.key, None)
    message.evidence = encode_evidence(Evidence(Tee.SGX, bytes(QUOTE_MAX + 1)))
    assert refusal(core, message) == (FormatError, Code.EVIDENCE_TOO_LARGE)


@pytest.mark.parametrize("name", ["", "event_log2", "EVENT_LOG"])
def test_a_part_of_an_unknown_name(core: Core, attempt: Prepare, name: str) -> None:
    message = attempt().message()
    message.parts.add(name=name, content=b"x")
    assert refusal(core, message) == (FormatError, Code.EVIDENCE_UNKNOWN)


def test_a_repeated_part(core: Core, attempt: Prepare) -> None:
    message = attempt(event_log=b"log").message()
    message.parts.add(name="event_log", content=b"log")
    assert refusal(core, message) == (FormatError, Code.EVIDENCE_UNKNOWN)


def test_an_empty_part(core: Core, attempt: Prepare) -> None:
    message = attempt(event_log=b"").message()
    assert refusal(core, message) == (FormatError, Code.EVIDENCE_MALFORMED)


def test_a_log_that_the_evidence_does_not_name(core: Core, attempt: Prepare) -> None:
    message = attempt().message()
    message.parts.add(name="event_log", content=b"log")
    assert refusal(core, message) == (FormatError, Code.EVIDENCE_MALFORMED)


def test_a_log_that_the_evidence_names_and_nobody_sent(core: Core, attempt: Prepare) -> None:
    message = attempt(event_log=b"log").message()
    del message.parts[:]
    assert refusal(core, message) == (FormatError, Code.EVIDENCE_MALFORMED)


def test_another_log_than_the_evidence_names(core: Core, attempt: Prepare) -> None:
    message = attempt(event_log=b"log").message()
    message.parts[0].content = b"gol"
    assert refusal(core, message) == (FormatError, Code.EVIDENCE_MALFORMED)


@pytest.mark.parametrize("content", [b"\x80", b"\x81\x40", b"\x81\x01", b"junk", cbor.encode([b"c"] * 9)])
def test_platform_certificates_beside_the_evidence_that_are_none(core: Core, attempt: Prepare, content: bytes) -> None:
    message = attempt(quote_options={"fault": "cert-type=3"}).message()
    message.parts.add(name="platform_certificates", content=content)
    assert refusal(core, message) == (FormatError, Code.EVIDENCE_MALFORMED)


def test_platform_certificates_twice(core: Core, attempt: Prepare) -> None:
    one = attempt()
    message = one.message()
    message.csr = build_csr(one.key, None)
    message.evidence = encode_evidence(Evidence(Tee.SGX, one.quote, tuple(one.platform.certificates)))
    message.parts.add(name="platform_certificates", content=cbor.encode(list(one.platform.certificates)))
    assert refusal(core, message) == (FormatError, Code.EVIDENCE_MALFORMED)


def test_a_token_of_somebody_else(core: Core, attempt: Prepare) -> None:
    message = attempt().message()
    message.session_token = message.session_token[:-1] + bytes([message.session_token[-1] ^ 1])
    assert refusal(core, message) == (RequestError, Code.CHALLENGE_INVALID)


def test_no_token(core: Core, attempt: Prepare) -> None:
    message = attempt().message()
    message.session_token = b""
    assert refusal(core, message) == (RequestError, Code.CHALLENGE_INVALID)


def test_an_expired_challenge(core: Core, attempt: Prepare, clock: Any) -> None:
    message = attempt().message()
    clock.advance(120)
    assert refusal(core, message) == (RequestError, Code.CHALLENGE_EXPIRED)


def test_a_request_that_is_none(core: Core, attempt: Prepare) -> None:
    message = attempt().message()
    message.request = message.request + b"\0"
    assert refusal(core, message) == (FormatError, Code.REQUEST_MALFORMED)


def test_a_request_for_another_tee_than_the_challenge(core: Core, attempt: Prepare) -> None:
    assert refusal(core, attempt(request_tee=Tee.TDX).message()) == (RequestError, Code.REQUEST_TEE)


def test_evidence_of_another_tee_than_the_request(core: Core, attempt: Prepare) -> None:
    assert refusal(core, attempt(tee=Tee.TDX, request_tee=Tee.SGX).message())[1] is Code.REQUEST_TEE
    one = attempt(Tee.SGX)
    message = replace(one, tee=Tee.TDX, request_tee=Tee.SGX).message()
    assert refusal(core, message) == (RequestError, Code.REQUEST_TEE)


def test_a_quote_of_another_tee_than_its_record_says(core: Core, attempt: Prepare, vendor: Any) -> None:
    one = attempt(Tee.SGX)
    message = replace(one, platform=vendor.platform("tdx")).message()
    assert refusal(core, message) == (RequestError, Code.REQUEST_TEE)


def test_a_csr_that_is_none(core: Core, attempt: Prepare) -> None:
    message = attempt().message()
    message.csr = b"\x30\x00"
    assert refusal(core, message) == (FormatError, Code.CSR_MALFORMED)


def test_a_csr_that_asks_for_other_names_than_the_request(core: Core, attempt: Prepare, named_csr: Any) -> None:
    one = attempt()
    message = one.message()
    message.evidence = one.record
    message.csr = named_csr(one.key, ["other.example.org"])
    assert refusal(core, message) == (RequestError, Code.CSR_NAMES)


def test_a_csr_that_asks_for_the_request_s_names(core: Core, authority: Any, attempt: Prepare, named_csr: Any) -> None:
    one = attempt()
    message = one.message()
    message.evidence = one.record
    message.csr = named_csr(one.key, ["app.example.org"])
    sign(core, message)
    assert len(authority.orders) == 1


def test_no_evidence(core: Core, attempt: Prepare) -> None:
    one = attempt()
    message = one.message()
    message.csr = build_csr(one.key, None)
    assert refusal(core, message) == (RequestError, Code.EVIDENCE_MISSING)


def test_evidence_in_the_csr_and_beside_it(core: Core, attempt: Prepare) -> None:
    one = attempt()
    message = one.message()
    message.evidence = one.record
    assert refusal(core, message) == (FormatError, Code.EVIDENCE_MALFORMED)


def test_evidence_that_is_no_quote(core: Core, attempt: Prepare) -> None:
    one = attempt()
    message = one.message()
    message.csr = build_csr(one.key, encode_evidence(Evidence(Tee.SGX, b"quote")))
    assert refusal(core, message) == (FormatError, Code.EVIDENCE_UNKNOWN)


@pytest.mark.parametrize(
    "report_data",
    [
        pytest.param(lambda _: bytes(64), id="zero"),
        pytest.param(lambda data: data[:32] + bytes(32), id="first half only"),
        pytest.param(lambda data: data[:-1] + bytes([data[-1] ^ 1]), id="last bit"),
        pytest.param(lambda data: bytes([data[0] ^ 0x80]) + data[1:], id="first bit"),
        pytest.param(lambda data: data[::-1], id="reversed"),
    ],
)
@pytest.mark.parametrize("tee", list(Tee))
def test_another_binder(core: Core, attempt: Prepare, tee: Tee, report_data: Callable[[bytes], bytes]) -> None:
    assert refusal(core, attempt(tee, report_data=report_data).message()) == (RequestError, Code.BINDER_MISMATCH)


@pytest.mark.parametrize("tee", [Tee.SGX, Tee.SNP, Tee.NITRO])
def test_an_event_log_that_leads_to_no_register(core: Core, attempt: Prepare, tee: Tee) -> None:
    assert refusal(core, attempt(tee, event_log=b"log").message()) == (FormatError, Code.EVIDENCE_UNKNOWN)


def test_evidence_of_another_session(core: Core, attempt: Prepare) -> None:
    first, second = attempt(), attempt()
    message = first.message()
    message.session_token = second.session.session_token
    assert refusal(core, message) == (RequestError, Code.BINDER_MISMATCH)


def test_evidence_for_another_key(core: Core, attempt: Prepare) -> None:
    one = attempt()
    message = one.message()
    message.csr = build_csr(ec.generate_private_key(P256), one.record)
    assert refusal(core, message) == (RequestError, Code.BINDER_MISMATCH)


@pytest.mark.parametrize("change", [{"names": names_from(dns=("other.example.org",))}, {"names": names_from()}])
def test_evidence_for_other_names(core: Core, attempt: Prepare, change: dict[str, Any]) -> None:
    one = attempt()
    message = one.message()
    message.request = replace(one, **change).request
    assert refusal(core, message) == (RequestError, Code.BINDER_MISMATCH)


def test_a_csr_signed_by_another_key(core: Core, attempt: Prepare) -> None:
    assert refusal(core, with_bad_csr_signature(attempt().message())) == (FormatError, Code.CSR_SIGNATURE)


def test_a_quote_that_was_tampered_with(core: Core, attempt: Prepare) -> None:
    kind, code = refusal(core, attempt(quote_options={"fault": "tampered=112"}).message())
    assert issubclass(kind, AppraisalError)
    assert code is Code.SGX_SIGNATURE


def test_what_the_policy_refuses_keeps_every_mismatch(core: Core, authority: Any, attempt: Prepare) -> None:
    mismatches = (Mismatch(Code.POLICY_SVN, "isv_svn", "3", "2"), Mismatch(Code.POLICY_NAME, "dns", "a", "b"))
    authority.error = PolicyError(mismatches)
    with pytest.raises(PolicyError) as caught:
        run(core.get_signed_certificate(attempt().message()))
    assert caught.value.mismatches == mismatches


@settings(deadline=None, max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    field=st.sampled_from(["session_token", "request", "csr"]),
    flips=st.lists(st.tuples(st.integers(0, 1 << 16), st.integers(1, 255)), max_size=3),
    cut=st.integers(0, 1 << 16),
)
def test_any_change_is_refused_with_an_error_of_ours(
    core: Core, attempt: Prepare, field: str, flips: list[tuple[int, int]], cut: int
) -> None:
    message = attempt().message()
    before = getattr(message, field)
    value = bytearray(before)
    for position, bits in flips:
        value[position % len(value)] ^= bits
    del value[cut % (2 * len(value)) :]
    assume(bytes(value) != before)
    setattr(message, field, bytes(value))
    with pytest.raises((RefusedError, FormatError)):
        run(core.get_signed_certificate(message))


@settings(deadline=None, max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(record=st.binary(min_size=1, max_size=200), log=st.binary(max_size=20))
def test_any_evidence_is_refused_with_an_error_of_ours(core: Core, attempt: Prepare, record: bytes, log: bytes) -> None:
    one = attempt()
    message = one.message()
    message.csr = build_csr(one.key, None)
    message.evidence = record
    message.parts.add(name="platform_certificates", content=log)
    with pytest.raises((RefusedError, FormatError)):
        run(core.get_signed_certificate(message))
