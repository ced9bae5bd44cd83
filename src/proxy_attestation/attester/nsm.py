"""Evidence from the Nitro Secure Module: attestation documents out of `/dev/nsm`.

The rules (aws-nitro-enclaves-nsm-api, src/driver; Linux drivers/misc/nsm.c): one ioctl, `_IOWR(0x0A, 0, 32 bytes)`, on
two (address, length) pairs: the request, CBOR of at most 0x1000 bytes, and the room for the response, at most 0x3000,
whose length comes back as what was written. ``{"Attestation": {"user_data", "nonce", "public_key"}}`` is answered with
``{"Attestation": {"document": bytes}}``, or ``{"Error": name}``. The document carries what was asked for, which is
looked at before it is passed on.
"""

import ctypes
import fcntl
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Final, Protocol

from proxy_attestation.attester.model import InMemory, require_report_data, unavailable
from proxy_attestation.codes import Code
from proxy_attestation.errors import FormatError, InternalError, ProxyAttestationError
from proxy_attestation.formats import cbor
from proxy_attestation.formats.binder import Binding
from proxy_attestation.formats.evidence import Evidence
from proxy_attestation.formats.nitro import decode_nitro
from proxy_attestation.formats.tee import Tee

DEVICE: Final = Path("/dev/nsm")
NSM_REQUEST: Final = 0xC0200A00
REQUEST_MAX: Final = 0x1000
RESPONSE_MAX: Final = 0x3000
_MESSAGE: Final = struct.Struct("=QQQQ")
_SLOT_MAX: Final = {"nonce": 512, "public_key": 1024}


class NsmPort(Protocol):
    """The module; what a test replaces."""

    def exchange(self, request: bytes) -> bytes:
        """Send one request, return its response.

        Raises:
            OSError: as the system reports it.
        """


class NsmDevice:
    """The module as the kernel shows it."""

    def __init__(self, path: Path = DEVICE, ioctl: Callable[[int, int, bytearray, bool], int] = fcntl.ioctl) -> None:
        self._path = path
        self._ioctl = ioctl

    def exchange(self, request: bytes) -> bytes:
        """Send one request of at most `REQUEST_MAX` bytes; the device is open only for it."""
        if len(request) > REQUEST_MAX:
            raise InternalError(f"a request of {len(request)} bytes")
        sent = ctypes.create_string_buffer(request, len(request))
        room = ctypes.create_string_buffer(RESPONSE_MAX)
        message = bytearray(_MESSAGE.pack(ctypes.addressof(sent), len(request), ctypes.addressof(room), RESPONSE_MAX))
        descriptor = os.open(self._path, os.O_RDWR | os.O_CLOEXEC)
        try:
            self._ioctl(descriptor, NSM_REQUEST, message, True)
        finally:
            os.close(descriptor)
        *_, length = _MESSAGE.unpack(message)
        if length > RESPONSE_MAX:
            raise OSError(f"a response of {length} bytes")
        return room.raw[:length]


class NsmAttester(InMemory):
    """An AWS Nitro enclave."""

    def __init__(self, port: NsmPort, tee: Tee) -> None:
        """Take the module.

        Args:
            port: the module.
            tee: the kind of TEE that evidence is asked of.

        Raises:
            UnavailableError: `attester.unavailable`, where that is not Nitro.
        """
        if tee is not Tee.NITRO:
            raise unavailable(f"the Nitro Secure Module makes no evidence of kind {tee}")
        self.tee: Final = tee
        self._port = port

    def attest(self, binding: Binding) -> Evidence:
        """Ask for a document that carries nonce, public key and, as user data, the report data.

        Raises:
            UnavailableError: `attester.unavailable`.
            InternalError: for a value that has no place in a document; the caller makes them, so it is a bug of ours.
        """
        report_data = require_report_data(binding)
        slots = {"user_data": report_data, "nonce": binding.nonce, "public_key": binding.spki}
        if any(not 0 < len(slots[name]) <= limit for name, limit in _SLOT_MAX.items()):
            raise InternalError("a nonce or a key of a length that no document has")
        try:
            document = _document(self._port.exchange(cbor.encode({"Attestation": slots})))
            bound = decode_nitro(document).bound
        except OSError as error:
            raise unavailable(f"the Nitro Secure Module does not answer: {error}") from error
        except ProxyAttestationError as error:
            raise unavailable(f"the Nitro Secure Module answers with no document: {error}") from error
        if bound != binding.slots(Tee.NITRO):
            raise unavailable("the document carries other values than were asked for")
        return Evidence(self.tee, document)


def _document(response: bytes) -> bytes:
    code = Code.ATTESTER_UNAVAILABLE
    value = cbor.decode_foreign(response, code, RESPONSE_MAX)
    if isinstance(value, dict) and isinstance(error := value.get("Error"), str):
        raise FormatError(code, f"error {error[:64]!r}")
    answer = value.get("Attestation") if isinstance(value, dict) else None
    return cbor.as_bytes(answer.get("document") if isinstance(answer, dict) else None, code, 1, RESPONSE_MAX)
