"""Both fronts over real sockets, with other people's clients: grpcio, httpx, curl, connectrpc, openssl."""

import asyncio
import importlib.util
import json
import shutil
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import ModuleType
from typing import Any

import grpc
import httpx
import pytest
from connectrpc.compat import google_protobuf_binary_codec, google_protobuf_json_codec
from connectrpc.errors import ConnectError
from google.protobuf import json_format
from google.rpc import error_details_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from grpc_status import rpc_status
from pyqwest import SyncClient, SyncHTTPTransport

from proxy_attestation.codes import Code
from proxy_attestation.errors import InternalError, RequestError, UnavailableError
from proxy_attestation.formats.bounds import MESSAGE_MAX
from proxy_attestation.service import grpc_front
from proxy_attestation.v1 import proxy_attestation_pb2 as pb
from proxy_attestation.v1 import proxy_attestation_pb2_grpc as pb_grpc

SERVICE = "proxy_attestation.v1.ProxyAttestation"
PROTO = Path(__file__).resolve().parents[2] / "proto"
Prepare = Callable[..., Any]


def channel(servers: Any) -> grpc.Channel:
    credentials = grpc.ssl_channel_credentials(servers.certificate.read_bytes())
    return grpc.secure_channel(servers.grpc, credentials)


def stub(open_channel: grpc.Channel) -> Any:
    make: Any = pb_grpc.ProxyAttestationStub  # generated without annotations
    return make(open_channel)


def grpc_info(error: Any) -> Any:
    """Return the ErrorInfo of a failed call."""
    status = rpc_status.from_call(error)
    assert status is not None
    assert status.message == error.details()
    info = error_details_pb2.ErrorInfo()
    assert status.details[0].Unpack(info)
    return info


def client(servers: Any, **options: Any) -> httpx.Client:
    context = ssl.create_default_context(cafile=str(servers.certificate))
    return httpx.Client(base_url=servers.connect, verify=context, http2=True, **options)


def grpc_error(servers: Any, message: Any, method: str = "GetSignedCertificate") -> tuple[grpc.StatusCode, Any]:
    """Return the status and the ErrorInfo of a call that fails."""
    with channel(servers) as open_channel, pytest.raises(grpc.RpcError) as caught:
        getattr(stub(open_channel), method)(message)
    return caught.value.code(), grpc_info(caught.value)


def connect_error(servers: Any, message: Any, method: str = "GetSignedCertificate") -> tuple[int, str, Any]:
    """Return HTTP status, Connect code and the readable ErrorInfo of a call that fails."""
    with client(servers) as http:
        answer = http.post(
            f"/{SERVICE}/{method}", content=message.SerializeToString(), headers={"content-type": "application/proto"}
        )
    body = answer.json()
    return answer.status_code, body["code"], body["details"][0]["debug"]


def test_one_issuance_over_grpc(servers: Any, attempt: Prepare, authority: Any) -> None:
    with channel(servers) as open_channel:
        answer = stub(open_channel).GetSignedCertificate(attempt().message())
    assert answer.ledger_index == 41
    assert len(authority.orders) == 1


@pytest.mark.parametrize("http2", [True, False])
def test_one_issuance_over_connect(servers: Any, attempt: Prepare, authority: Any, http2: bool) -> None:
    context = ssl.create_default_context(cafile=str(servers.certificate))
    with httpx.Client(base_url=servers.connect, verify=context, http2=http2) as http:
        answer = http.post(
            f"/{SERVICE}/GetSignedCertificate",
            content=attempt().message().SerializeToString(),
            headers={"content-type": "application/proto"},
        )
    assert answer.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
    assert pb.GetSignedCertificateResponse.FromString(answer.content).ledger_index == 41
    assert len(authority.orders) == 1


def test_one_issuance_in_json(servers: Any, attempt: Prepare) -> None:
    with client(servers) as http:
        answer = http.post(f"/{SERVICE}/GetSignedCertificate", json=json_format.MessageToDict(attempt().message()))
    assert answer.status_code == 200
    assert json.loads(answer.json()["claimsJson"])["tee"] == "sgx"


ERRORS = [
    (RequestError(Code.CHALLENGE_SPENT, "4242"), grpc.StatusCode.FAILED_PRECONDITION, 400, "failed_precondition"),
    (RequestError(Code.POLICY_NAME, "4242"), grpc.StatusCode.PERMISSION_DENIED, 403, "permission_denied"),
    (UnavailableError(Code.AUTHORITY_LIFETIME, "4242"), grpc.StatusCode.UNAVAILABLE, 503, "unavailable"),
    (InternalError("4242"), grpc.StatusCode.INTERNAL, 500, "internal"),
    (ValueError("4242"), grpc.StatusCode.INTERNAL, 500, "internal"),
]


@pytest.mark.parametrize(("error", "expected"), [(error, expected) for error, *expected in ERRORS])
def test_an_error_is_the_same_on_both_fronts(
    servers: Any, authority: Any, attempt: Prepare, error: Exception, expected: list[object]
) -> None:
    authority.error = error
    message = attempt().message()
    code, info = grpc_error(servers, message)
    status, word, debug = connect_error(servers, message)
    assert [code, status, word] == expected
    assert info.reason == debug["reason"] == getattr(error, "code", Code.INTERNAL)
    assert info.domain == debug["domain"] == "proxy-attestation"
    told, also_told = dict(info.metadata), debug["metadata"]
    assert told.pop("request_id") != also_told.pop("request_id")
    assert told == also_told
    assert "4242" not in json.dumps(debug)
    assert "4242" not in str(info)


def test_what_is_too_large_or_malformed_is_the_same_on_both_fronts(servers: Any) -> None:
    message = pb.GetSignedCertificateRequest(request=bytes(MESSAGE_MAX))
    code, info = grpc_error(servers, message)
    status, word, debug = connect_error(servers, message)
    assert (code, info.reason) == (grpc.StatusCode.INVALID_ARGUMENT, "request.too_large")
    assert (status, word, debug["reason"]) == (400, "invalid_argument", "request.too_large")


def test_a_grpc_message_that_is_no_protobuf(servers: Any) -> None:
    with channel(servers) as open_channel, pytest.raises(grpc.RpcError) as caught:
        open_channel.unary_unary(f"/{SERVICE}/GetChallenge", request_serializer=bytes)(b"\xff\xff")
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert grpc_info(caught.value).reason == "request.malformed"


def test_a_grpc_message_far_over_the_bound_is_refused_unread(servers: Any) -> None:
    message = pb.GetSignedCertificateRequest(request=bytes(2 * MESSAGE_MAX))
    with channel(servers) as open_channel, pytest.raises(grpc.RpcError) as caught:
        stub(open_channel).GetSignedCertificate(message)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.usefixtures("files")
def test_an_entry_that_the_ledger_has_not(servers: Any) -> None:
    code, info = grpc_error(servers, pb.GetLedgerProofRequest(), "GetLedgerProof")
    status, word, debug = connect_error(servers, pb.GetLedgerProofRequest(), "GetLedgerProof")
    assert (code, info.reason) == (grpc.StatusCode.NOT_FOUND, "ledger.no_proof")
    assert (status, word, debug["reason"]) == (404, "not_found", "ledger.no_proof")


def test_grpc_health(servers: Any) -> None:
    with channel(servers) as open_channel:
        stub = health_pb2_grpc.HealthStub(open_channel)
        for service in ("", SERVICE):
            answer = stub.Check(health_pb2.HealthCheckRequest(service=service))
            assert answer.status == health_pb2.HealthCheckResponse.SERVING


def test_a_grpc_call_of_no_message_or_two_is_malformed(servers: Any) -> None:
    message = pb.GetChallengeRequest(tee="sgx").SerializeToString()
    for messages in ([], [message, message]):
        with channel(servers) as open_channel, pytest.raises(grpc.RpcError) as caught:
            open_channel.stream_unary(f"/{SERVICE}/GetChallenge", request_serializer=bytes)(iter(messages))
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert grpc_info(caught.value).reason == "request.malformed"


def test_a_grpc_message_that_never_comes_is_not_waited_for(servers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc_front, "READ_SECONDS", 0.05)
    never = threading.Event()

    def messages() -> Iterator[bytes]:
        never.wait(30)
        yield b""

    with channel(servers) as open_channel, pytest.raises(grpc.RpcError) as caught:
        open_channel.stream_unary(f"/{SERVICE}/GetChallenge", request_serializer=bytes)(messages())
    never.set()
    assert grpc_info(caught.value).reason == "request.malformed"


def test_health_is_not_watched_by_strangers(servers: Any) -> None:
    with channel(servers) as open_channel, pytest.raises(grpc.RpcError) as caught:
        next(health_pb2_grpc.HealthStub(open_channel).Watch(health_pb2.HealthCheckRequest(service="")))
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_reflection_ends_after_a_while(servers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(grpc_front, "READ_SECONDS", 0.05)
    never = threading.Event()

    def requests() -> Iterator[Any]:
        never.wait(30)
        yield reflection_pb2.ServerReflectionRequest(list_services="")

    with channel(servers) as open_channel, pytest.raises(grpc.RpcError) as caught:
        list(reflection_pb2_grpc.ServerReflectionStub(open_channel).ServerReflectionInfo(requests()))
    never.set()
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED


def test_grpc_reflection(servers: Any) -> None:
    with channel(servers) as open_channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(open_channel)
        request = reflection_pb2.ServerReflectionRequest(list_services="")
        (answer,) = stub.ServerReflectionInfo(iter([request]))
    assert SERVICE in {service.name for service in answer.list_services_response.service}


def test_many_calls_at_once_on_one_connection(servers: Any) -> None:
    async def ask() -> list[int]:
        context = ssl.create_default_context(cafile=str(servers.certificate))
        async with httpx.AsyncClient(base_url=servers.connect, verify=context, http2=True) as http:
            posts = (http.post(f"/{SERVICE}/GetChallenge", json={"tee": "sgx"}) for _ in range(50))
            return [answer.status_code for answer in await asyncio.gather(*posts)]

    assert asyncio.run(ask()) == [200] * 50


def test_a_call_in_flight_is_finished_while_the_servers_stop(
    servers: Any, authority: Any, attempt: Prepare, tmp_path: Path
) -> None:
    """The servers are stopped while the authority still thinks; every caller gets the certificate.

    HTTP/2 is curl's part: httpx fails on the PING by which a server learns that its GOAWAY has arrived.
    """
    message = attempt().message()
    body = tmp_path / "body"
    body.write_bytes(message.SerializeToString())
    thinking, go_on = threading.Semaphore(0), threading.Event()

    async def wait() -> None:
        thinking.release()
        await asyncio.to_thread(go_on.wait)

    authority.before_issue = wait
    url, content_type = f"/{SERVICE}/GetSignedCertificate", "application/proto"

    def over_grpc() -> Any:
        with channel(servers) as open_channel:
            return stub(open_channel).GetSignedCertificate(message)

    def over_http1() -> Any:
        context = ssl.create_default_context(cafile=str(servers.certificate))
        with httpx.Client(base_url=servers.connect, verify=context, timeout=30) as http:
            answer = http.post(url, content=message.SerializeToString(), headers={"content-type": content_type})
            return pb.GetSignedCertificateResponse.FromString(answer.content)

    def over_http2() -> Any:
        command = ["curl", "-sS", "--http2", "--cacert", str(servers.certificate), "--data-binary", f"@{body}"]
        command += ["-H", f"content-type: {content_type}", servers.connect + url]
        answer = subprocess.run(command, capture_output=True, check=True, timeout=60)
        return pb.GetSignedCertificateResponse.FromString(answer.stdout)

    callers = [over_grpc, over_http1, *([over_http2] if shutil.which("curl") else [])]
    with ThreadPoolExecutor() as threads:
        answers = [threads.submit(caller) for caller in callers]
        for _ in callers:
            assert thinking.acquire(timeout=30)
        servers.stop()
        go_on.set()
        assert [answer.result(timeout=30).ledger_index for answer in answers] == [41] * len(callers)


# TLS.


@pytest.mark.parametrize("front", ["grpc", "connect"])
def test_openssl_accepts_the_chain(servers: Any, front: str) -> None:
    address = servers.grpc if front == "grpc" else servers.connect.removeprefix("https://")
    command = ["openssl", "s_client", "-connect", address, "-CAfile", str(servers.certificate), "-alpn", "h2"]
    output = subprocess.run(
        [*command, "-verify_return_error"], input=b"", capture_output=True, check=True, timeout=30
    ).stdout
    assert b"Verify return code: 0 (ok)" in output
    assert b"TLSv1.3" in output
    assert b"ALPN protocol: h2" in output


def test_tls_1_2_is_refused_by_the_connect_front(servers: Any) -> None:
    context = ssl.create_default_context(cafile=str(servers.certificate))
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(httpx.ConnectError), httpx.Client(verify=context) as http:
        http.get(servers.connect + "/healthz")


# Other people's clients.


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_curl(servers: Any) -> None:
    command = ["curl", "-sS", "--cacert", str(servers.certificate), "-H", "content-type: application/json"]
    url = f"{servers.connect}/{SERVICE}/GetChallenge"
    good = subprocess.run([*command, "-d", '{"tee":"sgx"}', url], capture_output=True, check=True, timeout=30)
    assert len(json.loads(good.stdout)["sessionId"]) == 24
    bad = subprocess.run([*command, "-d", '{"tee":"cca"}', url], capture_output=True, check=True, timeout=30)
    assert json.loads(bad.stdout)["details"][0]["debug"]["reason"] == "request.tee"


@pytest.fixture(scope="session")
def connect_module(tmp_path_factory: pytest.TempPathFactory) -> ModuleType:
    """Return the client that `protoc-gen-connectrpc` makes of our proto."""
    out = tmp_path_factory.mktemp("connect")
    arguments = [f"-I{PROTO}", f"--connectrpc_out={out}", "--connectrpc_opt=protobuf=google"]
    protoc = [
        sys.executable,
        "-m",
        "grpc_tools.protoc",
        *arguments,
        f"{PROTO}/proxy_attestation/v1/proxy_attestation.proto",
    ]
    path = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    subprocess.run(protoc, check=True, timeout=60, env=path)
    (generated,) = out.rglob("*_connect.py")
    spec = importlib.util.spec_from_file_location("proxy_attestation.v1.proxy_attestation_connect", generated)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.usefixtures("files")
@pytest.mark.parametrize("json_codec", [True, False])
def test_connectrpc(servers: Any, attempt: Prepare, connect_module: ModuleType, json_codec: bool) -> None:
    transport = SyncHTTPTransport(tls_ca_cert=servers.certificate.read_bytes())
    http = SyncClient(transport)
    codec = google_protobuf_json_codec() if json_codec else google_protobuf_binary_codec()
    rpc = connect_module.ProxyAttestationClientSync(
        servers.connect, http_client=http, codec=codec, send_compression=None
    )
    assert rpc.get_root_certificate(pb.GetRootCertificateRequest(nonce=bytes(32))).trust_domain == "example.org"
    assert rpc.get_signed_certificate(attempt().message()).ledger_index == 41
    with pytest.raises(ConnectError) as caught:
        rpc.get_root_certificate(pb.GetRootCertificateRequest(nonce=b""))
    assert caught.value.code.value == "invalid_argument"
    assert caught.value.message.startswith("request.malformed: ")
    (detail,) = caught.value.details
    assert detail.type_name == "google.rpc.ErrorInfo"
    assert error_details_pb2.ErrorInfo.FromString(detail.message_bytes).reason == "request.malformed"
    with pytest.raises(ConnectError) as caught:
        rpc.get_ledger_proof(pb.GetLedgerProofRequest())
    assert caught.value.code.value == "not_found"
