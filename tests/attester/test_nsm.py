"""The attester of the Nitro Secure Module against a stand-in of the module and of its ioctl. Not run on AWS."""

import ctypes
import errno
import struct
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import cbor2
import pytest
from bindings import binding_of

from proxy_attestation.attester.nsm import NSM_REQUEST, REQUEST_MAX, RESPONSE_MAX, NsmAttester, NsmDevice
from proxy_attestation.codes import Code
from proxy_attestation.errors import InternalError, UnavailableError
from proxy_attestation.formats.nitro import decode_nitro
from proxy_attestation.formats.request import KeyOrigin
from proxy_attestation.formats.tee import Tee
from proxy_attestation_simulator.aws import Aws

NITRO: Final = Tee.NITRO
DATA: Final = bytes(range(64))
NONCE: Final = bytes(range(32))
ENCLAVE: Final = Aws.create(datetime(2026, 11, 24, 12, tzinfo=UTC), secret=bytes(32)).enclave()


class Module:
    """The module: CBOR in, CBOR out, with the errors that it has."""

    def __init__(self) -> None:
        self.answer: bytes | None = None
        self.requests: list[bytes] = []

    def exchange(self, request: bytes) -> bytes:
        self.requests.append(request)
        if self.answer is not None:
            return self.answer
        if len(request) > REQUEST_MAX:
            return cbor2.dumps({"Error": "InputTooLarge"})
        value = cbor2.loads(request)
        if not isinstance(value, dict) or list(value) != ["Attestation"]:
            return cbor2.dumps({"Error": "InvalidOperation"})
        slots = value["Attestation"]
        if sorted(slots) != ["nonce", "public_key", "user_data"]:
            return cbor2.dumps({"Error": "InvalidArgument"})
        return cbor2.dumps({"Attestation": {"document": ENCLAVE.document(**slots)}})


class Driver:
    """The kernel's side of the ioctl: reads and writes the caller's memory by the addresses in the message."""

    def __init__(self, module: Module) -> None:
        self.module = module
        self.errno = 0
        self.length: int | None = None

    def __call__(self, descriptor: int, number: int, message: bytearray, mutate: bool) -> int:
        assert descriptor >= 0
        assert mutate
        if number != NSM_REQUEST:
            raise OSError(errno.ENOTTY, "no such ioctl")
        if self.errno:
            raise OSError(self.errno, "refused")
        address, length, room, capacity = struct.unpack("=QQQQ", message)
        response = self.module.exchange(ctypes.string_at(address, length))
        if len(response) > capacity:
            raise OSError(errno.EMSGSIZE, "no room")
        ctypes.memmove(room, response, len(response))
        message[24:32] = struct.pack("=Q", len(response) if self.length is None else self.length)
        return 0


@pytest.fixture
def device(tmp_path: Path) -> Path:
    path = tmp_path / "nsm"
    path.touch()
    return path


def test_a_document_carries_the_three_slots() -> None:
    attester = NsmAttester(Module(), NITRO)
    evidence = attester.attest(binding_of(DATA, NONCE, b"k" * 91))
    assert (attester.key_origin, evidence.tee, evidence.platform_certificates) == (KeyOrigin.TEE, "nitro", ())
    assert decode_nitro(evidence.evidence).bound == (NONCE, b"k" * 91, DATA)


@pytest.mark.parametrize("tee", list(Tee))
def test_the_module_is_asked_for_nothing_else(tee: Tee) -> None:
    if tee == NITRO:
        return
    with pytest.raises(UnavailableError) as refused:
        NsmAttester(Module(), tee)
    assert refused.value.code is Code.ATTESTER_UNAVAILABLE


@pytest.mark.parametrize(
    ("data", "slots"),
    [
        (DATA[:63], {}),
        (DATA + b"\0", {}),
        (DATA, {"nonce": b""}),
        (DATA, {"nonce": bytes(513)}),
        (DATA, {"spki": b""}),
        (DATA, {"spki": bytes(1025)}),
    ],
)
def test_values_without_a_place_are_a_bug_and_nothing_is_asked(data: bytes, slots: dict[str, bytes]) -> None:
    module = Module()
    with pytest.raises(InternalError):
        NsmAttester(module, NITRO).attest(binding_of(data, **slots))
    assert module.requests == []


def test_the_largest_values_fit_the_request() -> None:
    module = Module()
    NsmAttester(module, NITRO).attest(binding_of(DATA, bytes(512), bytes(1024)))
    assert len(module.requests[0]) <= REQUEST_MAX


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"\xff",
        cbor2.dumps({"Error": "InternalError"}),
        cbor2.dumps({"Error": "BufferTooSmall"}),
        cbor2.dumps({"Error": 7}),
        cbor2.dumps("InvalidOperation"),
        cbor2.dumps({"Attestation": None}),
        cbor2.dumps({"Attestation": {}}),
        cbor2.dumps({"Attestation": {"document": "text"}}),
        cbor2.dumps({"Attestation": {"document": b""}}),
        cbor2.dumps({"Attestation": {"document": b"no document"}}),
        cbor2.dumps({"GetRandom": {"random": b"\1"}}),
        cbor2.dumps({"Attestation": {"document": ENCLAVE.document(user_data=DATA, nonce=NONCE)}}) + b"\0",
        cbor2.dumps({"Attestation": {"document": ENCLAVE.document(user_data=DATA, nonce=DATA)}}),
        cbor2.dumps({"Attestation": {"document": ENCLAVE.document(user_data=bytes(64), nonce=NONCE)}}),
        cbor2.dumps({"Attestation": {"document": ENCLAVE.document(user_data=DATA)}}),
        cbor2.dumps({"Attestation": {"document": ENCLAVE.document(user_data=DATA, nonce=NONCE, public_key=b"k")}}),
    ],
)
def test_answers_that_are_no_document_over_these_values(answer: bytes) -> None:
    module = Module()
    module.answer = answer
    with pytest.raises(UnavailableError) as refused:
        NsmAttester(module, NITRO).attest(binding_of(DATA, NONCE))
    assert refused.value.code is Code.ATTESTER_UNAVAILABLE


def test_the_device_passes_request_and_response_through_memory(device: Path) -> None:
    evidence = NsmAttester(NsmDevice(device, Driver(Module())), NITRO).attest(binding_of(DATA, NONCE))
    assert decode_nitro(evidence.evidence).bound == (NONCE, b"k" * 91, DATA)


def test_only_what_was_written_is_read(device: Path) -> None:
    module = Module()
    module.answer = b"\xf6"
    assert NsmDevice(device, Driver(module)).exchange(b"\x01\x00\x02") == b"\xf6"
    assert module.requests == [b"\x01\x00\x02"]


@pytest.mark.parametrize("number", [errno.EMSGSIZE, errno.EIO, errno.ENOTTY])
def test_an_error_of_the_driver_is_unavailable(device: Path, number: int) -> None:
    driver = Driver(Module())
    driver.errno = number
    with pytest.raises(UnavailableError) as refused:
        NsmAttester(NsmDevice(device, driver), NITRO).attest(binding_of(DATA))
    assert refused.value.code is Code.ATTESTER_UNAVAILABLE


def test_a_length_beyond_the_room_is_not_believed(device: Path) -> None:
    driver = Driver(Module())
    driver.length = RESPONSE_MAX + 1
    with pytest.raises(UnavailableError):
        NsmAttester(NsmDevice(device, driver), NITRO).attest(binding_of(DATA))


def test_a_request_beyond_the_bound_is_a_bug(device: Path) -> None:
    module = Module()
    with pytest.raises(InternalError):
        NsmDevice(device, Driver(module)).exchange(bytes(REQUEST_MAX + 1))
    assert module.requests == []


def test_without_the_device_there_is_no_evidence(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError) as refused:
        NsmAttester(NsmDevice(tmp_path / "absent", Driver(Module())), NITRO).attest(binding_of(DATA))
    assert refused.value.code is Code.ATTESTER_UNAVAILABLE


def test_a_file_that_is_no_module_is_unavailable(device: Path) -> None:
    """The real ioctl, on a file that has none."""
    with pytest.raises(UnavailableError):
        NsmAttester(NsmDevice(device), NITRO).attest(binding_of(DATA))
