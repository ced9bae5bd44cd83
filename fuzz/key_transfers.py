"""Harnesses for requests for keys and bundles of keys."""

from typing import Final

from target import Target

from proxy_attestation.formats.key_transfer import (
    KeyBundle,
    KeyRequest,
    Purpose,
    TransferredKey,
    decode_key_bundle,
    decode_key_request,
    encode_key_bundle,
    encode_key_request,
    seal_to,
)
from proxy_attestation.formats.tee import Tee

_DER: Final = b"\x30\x00"
_REQUEST: Final = KeyRequest(Purpose.RECOVERY, b"r" * 32, b"k" * 32, b"n" * 32, Tee.SGX, b"evidence", (_DER,), b"log")
_BUNDLE: Final = KeyBundle(bytes(32), (TransferredKey("log", _DER), TransferredKey("root-g2", _DER)))


def _request(data: bytes) -> None:
    """Whatever is read as a request is written as the same bytes, and can be bound and sealed to, or is refused."""
    request = decode_key_request(data)
    assert encode_key_request(request) == data
    assert len(request.binding.report_data) == 64
    seal_to(request.public_key, b"content", b"info")


def _bundle(data: bytes) -> None:
    assert encode_key_bundle(decode_key_bundle(data)) == data


KEY_TRANSFERS: Final[dict[str, Target]] = {
    "key-request": Target(_request, 4096, lambda: [encode_key_request(_REQUEST)]),
    "key-bundle": Target(_bundle, 4096, lambda: [encode_key_bundle(_BUNDLE)]),
}
