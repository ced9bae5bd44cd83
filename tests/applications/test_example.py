"""The example application, as it is shipped."""

import hashlib
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Final

import h11
import pytest

from proxy_attestation.codes import Code
from proxy_attestation.formats.index import parse_index
from proxy_attestation.loader.applications.frames import Setup
from proxy_attestation.loader.applications.model import CallResult, Outcome
from proxy_attestation.loader.applications.wasm import WasmLimits
from proxy_attestation.loader.http_messages import read_answer, write_request
from proxy_attestation.loader.wasm_engine import Engine

FOLDER: Final = Path(__file__).parents[2] / "examples" / "example_application"
METHOD: Final = "/proxy_attestation.example.v1.ExampleApplication/GetExampleMessage"
MESSAGE: Final = "Hello from attested code!"


@pytest.fixture(scope="module")
def engine() -> Engine:
    limits = WasmLimits()
    module = (FOLDER / "example.wat").read_bytes()
    return Engine(Setup(module, limits.fuel, limits.memory, limits.output, 1))


@pytest.fixture(scope="module")
def messages() -> ModuleType:
    """The generated code, imported from where it lies."""
    spec = importlib.util.spec_from_file_location("example_pb2", FOLDER / "example_pb2.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def call(engine: Engine, arguments: tuple[str, ...], message: bytes = b"") -> CallResult:
    return engine.call(arguments, message, 20.0)[0]


def test_the_index_file_is_current() -> None:
    lines = parse_index((FOLDER / "reproducibility_index").read_text(), Code.CONFIGURATION_MALFORMED)
    assert [line.path for line in lines] == ["example.wat"]
    assert lines[0].sha256 == hashlib.sha256((FOLDER / "example.wat").read_bytes()).digest()


@pytest.mark.parametrize("request_bytes", [b"", b"unknown fields are ignored", bytes(100_000)])
def test_the_message_over_grpc(engine: Engine, messages: ModuleType, request_bytes: bytes) -> None:
    result = call(engine, ("grpc", METHOD), request_bytes)
    assert (result.outcome, result.exit_code) == (Outcome.EXITED, 0)
    reply = messages.GetExampleMessageResponse.FromString(result.output)
    assert reply.message == MESSAGE
    assert reply.SerializeToString() == result.output


def test_the_generated_service_names_the_method(messages: ModuleType) -> None:
    service = messages.DESCRIPTOR.services_by_name["ExampleApplication"]
    assert f"/{service.full_name}/{service.methods[0].name}" == METHOD


@pytest.mark.parametrize("method", [METHOD + "x", METHOD[:-1], "/a.B/C", ""])
def test_other_methods_are_unimplemented(engine: Engine, method: str) -> None:
    assert call(engine, ("grpc", method)) == CallResult(Outcome.EXITED, 12)


@pytest.mark.parametrize(("method", "body"), [("GET", MESSAGE.encode()), ("HEAD", b"")])
def test_the_message_over_http(engine: Engine, method: str, body: bytes) -> None:
    request = h11.Request(method=method, target="/", headers=[("Host", "app.example.org")])
    answer = read_answer(method.encode(), call(engine, ("http",), write_request(request, b"")))
    assert answer.status == 200
    assert answer.body == body
    assert dict(answer.headers)[b"content-length"] == str(len(MESSAGE)).encode()


def test_other_http_methods_are_refused(engine: Engine) -> None:
    request = h11.Request(method="POST", target="/", headers=[("Host", "app.example.org")])
    answer = read_answer(b"POST", call(engine, ("http",), write_request(request, b"body")))
    assert answer.status == 405
    assert dict(answer.headers)[b"allow"] == b"GET, HEAD"


@pytest.mark.parametrize(
    "arguments", [(), ("http2",), ("grpc",), ("grpc", METHOD, "more"), ("http",), ("a",) * 20, ("x" * 5000,)]
)
def test_calls_that_make_no_sense_are_internal_errors(engine: Engine, arguments: tuple[str, ...]) -> None:
    assert call(engine, arguments) == CallResult(Outcome.EXITED, 13)
