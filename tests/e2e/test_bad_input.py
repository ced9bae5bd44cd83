"""Bad input over the wire: one stable code each, and the proxy goes on."""

import json
from collections.abc import Callable

import httpx
import pytest
from workload import SERVICE, Client, Workload, new_key, request_for

from proxy_attestation.codes import Code
from proxy_attestation.errors import ProxyAttestationError
from proxy_attestation.formats import cbor
from proxy_attestation.formats.bounds import MESSAGE_MAX
from proxy_attestation.formats.csr import build_csr, decode_csr
from proxy_attestation.formats.evidence import Evidence, encode_evidence
from proxy_attestation.formats.tee import Tee
from proxy_attestation.v1 import proxy_attestation_pb2 as pb

pytestmark = pytest.mark.e2e

Spoil = Callable[[pb.GetSignedCertificateRequest], None]


def field(name: str, change: Callable[[bytes], bytes]) -> Spoil:
    def spoil(message: pb.GetSignedCertificateRequest) -> None:
        setattr(message, name, change(getattr(message, name)))

    return spoil


def part(name: str, content: bytes) -> Spoil:
    return lambda message: message.parts.append(pb.NamedPart(name=name, content=content))


def evidence(change: Callable[[bytes], bytes]) -> Spoil:
    """Replace the CSR by one with other evidence, so that everything else stays right."""

    def spoil(message: pb.GetSignedCertificateRequest) -> None:
        record = decode_csr(message.csr).cmw or b""
        message.csr = build_csr(new_key(), change(record))

    return spoil


UNKNOWN_KEY = cbor.encode({1: "example-app", 2: "sgx", 3: [], 4: 60, 5: {1: 0, 3: 1}, 6: 1})


@pytest.mark.parametrize(
    ("name", "spoil", "code"),
    [
        ("empty token", field("session_token", lambda _: b""), Code.CHALLENGE_INVALID),
        ("truncated token", field("session_token", lambda data: data[:-1]), Code.CHALLENGE_INVALID),
        ("changed token", field("session_token", lambda data: data[:40] + b"\xff" + data[41:]), Code.CHALLENGE_INVALID),
        ("oversized token", field("session_token", lambda data: data * 9), Code.REQUEST_TOO_LARGE),
        ("empty request", field("request", lambda _: b""), Code.REQUEST_MALFORMED),
        ("truncated request", field("request", lambda data: data[:-1]), Code.REQUEST_MALFORMED),
        ("request with a byte more", field("request", lambda data: data + b"\0"), Code.REQUEST_MALFORMED),
        ("request with an unknown field", field("request", lambda _: UNKNOWN_KEY), Code.REQUEST_MALFORMED),
        ("request as JSON", field("request", lambda _: b'{"workload": "example-app"}'), Code.REQUEST_MALFORMED),
        ("oversized request", field("request", lambda data: data * 200), Code.REQUEST_TOO_LARGE),
        ("empty CSR", field("csr", lambda _: b""), Code.CSR_MALFORMED),
        ("truncated CSR", field("csr", lambda data: data[:-1]), Code.CSR_MALFORMED),
        ("CSR with a byte more", field("csr", lambda data: data + b"\0"), Code.CSR_MALFORMED),
        ("oversized CSR", field("csr", lambda data: data * 40), Code.REQUEST_TOO_LARGE),
        ("evidence in both places", field("evidence", lambda _: b"\x80"), Code.EVIDENCE_MALFORMED),
        ("truncated evidence", evidence(lambda data: data[:-1]), Code.EVIDENCE_MALFORMED),
        (
            "evidence of no quote",
            evidence(lambda _: encode_evidence(Evidence(Tee.SGX, b"nothing"))),
            Code.EVIDENCE_UNKNOWN,
        ),
        ("unknown part", part("quote", b"x"), Code.EVIDENCE_UNKNOWN),
        ("a log that no evidence names", part("event_log", b"x"), Code.EVIDENCE_MALFORMED),
        ("oversized log", part("event_log", b"x" * (256 * 1024 + 1)), Code.EVIDENCE_TOO_LARGE),
    ],
)
def test_each_has_its_code(client: Client, workload: Workload, name: str, spoil: Spoil, code: Code) -> None:
    message = workload.message(client.challenge(), request_for(), new_key())
    spoil(message)
    with pytest.raises(ProxyAttestationError) as caught:
        client.sign(message)
    assert caught.value.code is code, name


def test_what_is_no_message_is_refused(client: Client) -> None:
    with pytest.raises(ProxyAttestationError) as caught:
        client.call("GetSignedCertificate", b"\xff\xff\xff", pb.GetSignedCertificateResponse)
    assert caught.value.code is Code.REQUEST_MALFORMED


def test_a_message_over_its_bound_is_refused(client: Client) -> None:
    with pytest.raises(ProxyAttestationError) as caught:
        client.call("GetSignedCertificate", b"\x0a" * (MESSAGE_MAX + 1), pb.GetSignedCertificateResponse)
    assert caught.value.code is Code.REQUEST_TOO_LARGE


@pytest.mark.parametrize("tee", ["", "sev", "SGX", "x" * 10_000])
def test_a_challenge_for_no_known_tee_is_refused(client: Client, tee: str) -> None:
    with pytest.raises(ProxyAttestationError) as caught:
        client.call("GetChallenge", pb.GetChallengeRequest(tee=tee), pb.GetChallengeResponse)
    assert caught.value.code is Code.REQUEST_TEE


@pytest.mark.parametrize("size", [0, 31, 33])
def test_a_nonce_of_another_length_is_refused(client: Client, size: int) -> None:
    with pytest.raises(ProxyAttestationError) as caught:
        client.call(
            "GetRootCertificate", pb.GetRootCertificateRequest(nonce=b"n" * size), pb.GetRootCertificateResponse
        )
    assert caught.value.code is Code.REQUEST_MALFORMED


def post(client: Client, body: bytes, content_type: str) -> httpx.Response:
    return client.http.post(SERVICE + "GetChallenge", content=body, headers={"content-type": content_type})


def test_json_is_understood_and_unknown_fields_are_ignored(client: Client) -> None:
    done = post(client, json.dumps({"tee": "sgx", "future": 1}).encode(), "application/json")
    assert done.status_code == 200
    assert set(done.json()) >= {"sessionId", "sessionToken", "nonce", "caId", "expiresAt"}


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"tee": 1}', b"\xff", b"{" * 100_000])
def test_bad_json_is_refused(client: Client, body: bytes) -> None:
    done = post(client, body, "application/json")
    assert done.status_code == 400
    assert done.json()["details"][0]["debug"]["reason"] in (Code.REQUEST_MALFORMED, Code.REQUEST_TEE)


def test_another_content_type_is_refused(client: Client) -> None:
    assert post(client, b"tee=sgx", "application/x-www-form-urlencoded").status_code == 415


def test_an_unknown_method_is_not_found(client: Client) -> None:
    done = client.http.post(SERVICE + "GetEverything", content=b"", headers={"content-type": "application/proto"})
    assert done.status_code == 404


def test_the_proxy_still_issues(client: Client, workload: Workload) -> None:
    assert client.sign(workload.message(client.challenge(), request_for(), new_key())).chain
